"""Every way in, and the action that the policy is asked for there: HTTP routes, DIMSE services, HL7 messages.

The doors ask for these actions themselves. This table says which, so that a test can walk through all of them with
every role; it fails when a door has an entry that is not listed here. docs/security-policy.md is made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from hilum.security.policy import Action

A = Action


class Unguarded(StrEnum):
    """Entries without an action of the policy."""

    OPEN = "open"  # answers without a login: health, discovery, and where people and programs prove who they are
    OWN = "own"  # whoever is signed in, about themselves or about nobody
    NOTHING = "nothing"  # refused whoever asks: nothing is there


Entry = Action | Unguarded

# FHIR resource types, each with the action that reading and searching it takes.
FHIR: Mapping[str, Action] = {
    "Patient": A.READ_PATIENT,
    "ServiceRequest": A.READ_ORDER,
    "ImagingStudy": A.READ_IMAGES,
    "DiagnosticReport": A.READ_REPORT,
    "AuditEvent": A.READ_AUDIT,
    "Endpoint": A.ECHO,
}

_STUDY = "/dicom-web/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"
_FRAMES = _INSTANCE + "/frames/{frames}"

# Where images are read: all by GET.
_IMAGES = (
    "/dicom-web/studies",
    "/dicom-web/series",
    "/dicom-web/instances",
    "/dicom-web/wado",
    _STUDY + "/series",
    _STUDY + "/instances",
    _SERIES + "/instances",
    *(level + kind for kind in ("", "/metadata", "/rendered", "/thumbnail") for level in (_STUDY, _SERIES, _INSTANCE)),
    _FRAMES,
    _FRAMES + "/rendered",
    _FRAMES + "/thumbnail",
    _INSTANCE + "/bulkdata/{place:path}",
)

# Route and method; a method that a route does not list is answered 405, whoever asks.
HTTP: Mapping[str, Mapping[str, Entry | Mapping[str, Action]]] = {
    "/health/live": {"GET": Unguarded.OPEN},
    "/health/ready": {"GET": Unguarded.OPEN},
    "/metrics": {"GET": A.READ_METRICS},
    "/openapi.json": {"GET": Unguarded.OWN},
    "/auth/login": {"GET": Unguarded.OPEN, "POST": Unguarded.OPEN},
    "/auth/logout": {"POST": Unguarded.OWN},
    "/auth/password": {"GET": Unguarded.OWN, "POST": Unguarded.OWN},
    "/auth/sessions": {"GET": Unguarded.OWN, "POST": Unguarded.OWN},
    "/auth/oidc/{provider}": {"GET": Unguarded.OPEN},
    "/auth/oidc/{provider}/callback": {"GET": Unguarded.OPEN},
    "/auth/oidc/{provider}/end": {"GET": Unguarded.OPEN},
    # A program proves by itself who it is.
    "/auth/token": {"POST": Unguarded.OPEN},
    "/auth/introspect": {"POST": Unguarded.OPEN},
    "/auth/revoke": {"POST": Unguarded.OPEN},
    "/static/{digest}/{path:path}": {"GET": Unguarded.OPEN},
    # DICOMweb
    "/dicom-web": {"GET": A.ECHO, "OPTIONS": A.ECHO},
    "/dicom-web/": {"GET": A.ECHO, "OPTIONS": A.ECHO},
    **{path: {"GET": A.READ_IMAGES} for path in _IMAGES},
    "/dicom-web/studies": {"GET": A.READ_IMAGES, "POST": A.STORE_IMAGES},
    _STUDY: {"GET": A.READ_IMAGES, "POST": A.STORE_IMAGES, "DELETE": A.DELETE_IMAGES},
    _SERIES: {"GET": A.READ_IMAGES, "DELETE": A.DELETE_IMAGES},
    _INSTANCE: {"GET": A.READ_IMAGES, "DELETE": A.DELETE_IMAGES},
    # FHIR
    "/fhir/metadata": {"GET": Unguarded.OPEN},
    "/fhir/{type}": {"GET": FHIR},
    "/fhir/{type}/{id}": {"GET": FHIR},
    "/fhir/{type}/_search": {"POST": FHIR},
    "/fhir": {"GET": Unguarded.NOTHING},
    "/fhir/{rest:path}": {"GET": Unguarded.NOTHING},
    # CDS Hooks
    "/cds-services": {"GET": Unguarded.OPEN},
    "/cds-services/{id}": {"POST": A.CHECK_PRIORS},
    "/cds-services/{id}/feedback": {"POST": A.CHECK_PRIORS},
    # Pages. The worklist is a reader's with READ_WORKLIST and a physician's own with READ_ORDER.
    "/": {"GET": A.READ_ORDER},
    "/worklist/rows": {"GET": A.READ_ORDER},
    **{
        f"{subject}{part}": {"GET": A.READ_ORDER}
        for subject in ("/orders/{order_id}", "/studies/{study_instance_uid}")
        for part in ("", "/chain", "/report")
    },
    "/viewer/launch": {"GET": A.READ_ORDER},
    "/viewer": {"GET": A.READ_IMAGES},
    "/viewer/app-config.js": {"GET": A.READ_IMAGES},
    "/viewer/{path:path}": {"GET": A.READ_IMAGES},
    "/orders/{order_id}/report/start": {"POST": A.DRAFT_REPORT},
    "/reports/{report_id}/edit": {"GET": A.DRAFT_REPORT},
    "/reports/{report_id}/draft": {"POST": A.DRAFT_REPORT},
    "/reports/{report_id}/discard": {"POST": A.DRAFT_REPORT},
    "/reports/{report_id}/sign": {"POST": A.SIGN_REPORT},
    "/reports/{report_id}/retract": {"POST": A.SIGN_REPORT},
    "/exceptions": {"GET": A.READ_EXCEPTIONS},
    "/exceptions/{item_id}/candidates": {"GET": A.RESOLVE_EXCEPTION},
    "/exceptions/{item_id}/link": {"POST": A.RESOLVE_EXCEPTION},
    "/exceptions/{item_id}/dismiss": {"POST": A.RESOLVE_EXCEPTION},
    "/exceptions/{item_id}/replay": {"POST": A.OPERATE_QUEUE},
    "/exceptions/{item_id}/release": {"POST": A.RESOLVE_EXCEPTION},
    "/exceptions/{item_id}/reject": {"POST": A.REJECT_IMAGES},
    "/exceptions/{item_id}/keep": {"POST": A.REJECT_IMAGES},
    "/orders/{order_id}/reject": {"POST": A.REJECT_IMAGES},
    "/studies/{study_instance_uid}/reject": {"POST": A.REJECT_IMAGES},
    "/studies/{study_instance_uid}/reassign": {"GET": A.REASSIGN_STUDY},
    "/reassign/{study_id}": {"GET": A.REASSIGN_STUDY, "POST": A.REASSIGN_STUDY},
    "/reassign/{study_id}/confirm": {"GET": A.REASSIGN_STUDY},
    "/reassign/{study_id}/undo": {"POST": A.REASSIGN_STUDY},
    "/patients/{patient_id}/records": {"GET": A.READ_PATIENT},
    "/patients/{patient_id}/unmerge": {"POST": A.MERGE_PATIENTS},
    "/access/break-glass": {"GET": A.BREAK_GLASS, "POST": A.BREAK_GLASS},
    "/access/reviews": {"GET": A.READ_ACCESS_REVIEWS},
    "/access/reviews/{grant_id}": {"POST": A.REVIEW_ACCESS},
    "/audit": {"GET": A.READ_AUDIT, "POST": A.READ_AUDIT},
    "/audit/patient/{patient_id}": {"GET": A.READ_AUDIT},
    "/audit/patient/{patient_id}/report.csv": {"GET": A.READ_AUDIT},
}

# Service and command (PS3.7). Storing verifies nothing else: what is stored is matched by its content.
DIMSE: Mapping[tuple[str, str], Action] = {
    ("echo", "C_ECHO_RQ"): A.ECHO,
    ("worklist", "C_FIND_RQ"): A.READ_WORKLIST,
    ("mpps", "N_CREATE_RQ"): A.PERFORM_EXAM,
    ("mpps", "N_SET_RQ"): A.PERFORM_EXAM,
    ("storage", "C_STORE_RQ"): A.STORE_IMAGES,
    ("query", "C_FIND_RQ"): A.READ_IMAGES,
    ("get", "C_GET_RQ"): A.READ_IMAGES,
    ("move", "C_MOVE_RQ"): A.READ_IMAGES,
    ("commitment", "N_ACTION_RQ"): A.STORE_IMAGES,
    ("commitment", "N_EVENT_REPORT_RQ"): A.STORE_IMAGES,
}

# What a sender needs besides RECEIVE_MESSAGE, by message and, of orders, by order control (tables 0076, 0003, 0119).
HL7: Mapping[str, Action] = {
    **dict.fromkeys(
        ("ADT^A01", "ADT^A02", "ADT^A03", "ADT^A04", "ADT^A05", "ADT^A06", "ADT^A07", "ADT^A08"), A.REGISTER_PATIENT
    ),
    **dict.fromkeys(("ADT^A11", "ADT^A12", "ADT^A13", "ADT^A28", "ADT^A31"), A.REGISTER_PATIENT),
    **dict.fromkeys(("ADT^A09", "ADT^A10", "ADT^A35", "ADT^A41", "ADT^A44", "ADT^A45"), A.REGISTER_PATIENT),
    **dict.fromkeys(("ADT^A18", "ADT^A34", "ADT^A36", "ADT^A37", "ADT^A40", "ADT^A46", "ADT^A47"), A.MERGE_PATIENTS),
    **dict.fromkeys(("QBP^Q22", "QBP^Q23"), A.READ_PATIENT),
    **{
        f"{kind} {control}": action
        for kind in ("ORM^O01", "OMG^O19", "OMI^O23")
        for control, action in (
            ("NW", A.PLACE_ORDER),
            ("XO", A.CHANGE_ORDER),
            ("CA", A.CANCEL_ORDER),
            ("DC", A.CANCEL_ORDER),
        )
    },
    "ORU^R01": A.RELAY_REPORT,
    **{f"MDM^T{number:02}": A.RELAY_REPORT for number in range(1, 12)},
    **{f"SIU^S{number}": A.CHANGE_ORDER for number in (*range(12, 25), 26)},
}


def http_action(path: str, method: str, fhir_type: str = "") -> Entry | None:
    """Return what a route takes by a method; None where it is not listed."""
    entry = HTTP.get(path, {}).get(method)
    return entry.get(fhir_type) if isinstance(entry, Mapping) else entry
