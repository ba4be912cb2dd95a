"""What each HTTP operation takes and gives, as the doors' own tables say it; `openapi` puts it into its form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hilum.dicom.web.query import LARGEST_LIMIT, MATCHABLE
from hilum.dicom.web.wado_uri import KNOWN as WADO_URI
from hilum.fhir.cds_hooks import SERVICES
from hilum.fhir.search import MAX_COUNT
from hilum.fhir.search_parameters import SEARCHABLE

Schema = dict[str, Any]
Parameter = tuple[str, Schema, str]

TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": 64}
_UID: Schema = {"type": "string", "pattern": "^[0-9.]{1,64}$", "examples": ["1.2.840.10008.1.1"]}
PATH_SCHEMAS: dict[str, Schema] = {
    "study": _UID,
    "series": _UID,
    "instance": _UID,
    "study_instance_uid": _UID,
    "frames": {"type": "string", "pattern": "^[1-9][0-9]{0,4}(,[1-9][0-9]{0,4}){0,9}$"},
    "place": {"type": "string", "pattern": "^(pixeldata|[0-9]{1,9}/[0-9]{1,9})$"},
    "id": {"type": "string", "pattern": "^[A-Za-z0-9.-]{1,64}$"},
    "digest": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
}


@dataclass(frozen=True, slots=True)
class Door:
    """A group of paths and the media types of its answers."""

    name: str
    prefix: str
    types: tuple[str, ...]
    refusals: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Body:
    """What a request carries."""

    media_type: str
    schema: Schema


_PROBLEM = "application/problem+json"
_FORM = "application/x-www-form-urlencoded"
_DICOM_JSON, _MULTIPART = "application/dicom+json", 'multipart/related; type="application/dicom"'
_PAGE = Door("pages", "/", ("text/html",), (_PROBLEM, "text/html"))
DOORS = (
    Door("dicomweb", "/dicom-web", (_DICOM_JSON, "application/json", "multipart/related"), (_PROBLEM,)),
    Door("fhir", "/fhir", ("application/fhir+json",), ("application/fhir+json",)),
    Door("cds-hooks", "/cds-services", ("application/json",), (_PROBLEM,)),
    Door("sign-in", "/auth", ("text/html",), (_PROBLEM, "text/html")),
    Door("health", "/health", ("text/plain",), ("text/plain", _PROBLEM)),
    Door("metrics", "/metrics", ("text/plain",), (_PROBLEM,)),
    Door("description", "/openapi.json", ("application/vnd.oai.openapi+json",), (_PROBLEM,)),
)
_INSTANCE = "/dicom-web/studies/{study}/series/{series}/instances/{instance}"
# Where the answer is of other types than the door's.
TYPES: dict[str, tuple[str, ...]] = {
    "/static/{digest}/{path}": ("text/css", "text/javascript", "image/svg+xml", "text/plain"),
    "/auth/token": ("application/json",),
    "/auth/introspect": ("application/json",),
    "/audit/patient/{patient_id}/report.csv": ("text/csv",),
    "/dicom-web": ("application/json", "application/vnd.sun.wadl+xml"),
    "/dicom-web/": ("application/json", "application/vnd.sun.wadl+xml"),
    _INSTANCE + "/bulkdata/{place}": ("multipart/related", "application/octet-stream"),
    _INSTANCE + "/frames/{frames}": ("multipart/related",),
}
_PRESENTED = ("image/svg+xml", "text/html", "application/pdf", "text/xml", "video/mp4", "video/mpeg", "video/mp2t",
              "model/stl", "model/obj", "model/mtl")  # fmt: skip
_LEVELS = ("/dicom-web/studies/{study}", "/dicom-web/studies/{study}/series/{series}", _INSTANCE)
for _level in _LEVELS:
    TYPES[_level] = ("multipart/related", "application/dicom", _DICOM_JSON)
TYPES["/dicom-web/wado"] = ("image/jpeg", "image/png", "application/dicom", *_PRESENTED)
for _level in (*_LEVELS, _INSTANCE + "/frames/{frames}"):
    TYPES[_level + "/rendered"] = ("image/jpeg", "image/png", *_PRESENTED)
    TYPES[_level + "/thumbnail"] = ("image/jpeg", "image/png")

_CODES: Schema = {"type": "array", "items": {"type": "object"}}
SCHEMAS: dict[str, Schema] = {
    # https://cds-hooks.hl7.org/2.0/#http-request_1
    "HookRequest": {
        "type": "object",
        "required": ["hook", "hookInstance", "context"],
        "properties": {
            "hook": {"enum": sorted({hook for hook, _, _ in SERVICES.values()})},
            "hookInstance": {"type": "string", "minLength": 1},
            "fhirServer": {"type": "string", "description": "Taken, and never fetched from."},
            "context": {
                "type": "object",
                "required": ["patientId"],
                "properties": {
                    "patientId": {"type": "string", "minLength": 1},
                    "selections": {"type": "array", "items": {"type": "string"}},
                    "draftOrders": {"type": "object", "properties": {"entry": _CODES}},
                },
            },
            "prefetch": {"type": "object", "properties": {"patient": {"type": "object"}}},
        },
    },
    "Feedback": {
        "type": "object",
        "required": ["feedback"],
        "properties": {
            "feedback": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["card", "outcome"],
                    "properties": {"card": TEXT, "outcome": {"enum": ["accepted", "overridden"]}},
                },
            }
        },
    },
}
_ANY: Schema = {"type": "string"}
_LONG: Schema = {"type": "string", "maxLength": 1000}
_WORD: Schema = {"type": "string", "maxLength": 64}
_NUMBER: Schema = {"type": "string", "pattern": "^[0-9]{1,9}$"}
# Fields of the pages' forms, by the path's last part; each carries `csrf_token` too.
FORMS: dict[str, tuple[str, ...]] = {
    "login": ("user_name", "password", "next"),
    "logout": (),
    "sessions": ("user", "session"),
    "token": ("grant_type", "client_id", "client_assertion_type", "client_assertion", "scope"),
    "introspect": ("token", "token_type_hint"),
    "revoke": ("token", "token_type_hint"),
    "audit": ("identifier", "authority"),
    "password": ("current_password", "new_password", "repeated_password"),
    "start": ("kind",),
    "draft": ("revision", "section.findings", "section.impression", "section.addendum", "reason"),
    "sign": ("revision", "state", "trust", "section.findings", "section.impression", "section.addendum", "reason"),
    "discard": ("revision",),
    "retract": ("reason",),
    "link": ("order_id", "reason"),
    "dismiss": ("reason",),
    "replay": ("kind",),
    "reject": ("series", "code", "reason"),
    "keep": ("reason",),
    "release": ("reason",),
    "break-glass": ("identifier", "authority", "reason", "hours"),
    "{grant_id}": ("finding",),
}
# What the pages read of their address.
PAGE_QUERY: dict[str, tuple[str, ...]] = {
    "/": ("text", "modality", "status", "cursor", "patient"),
    "/worklist/rows": ("text", "modality", "status", "cursor", "patient", "seen"),
    "/exceptions": ("kind", "item", "cursor"),
    "/exceptions/{item_id}/candidates": ("text",),
    "/dicom-web/wado": tuple(sorted(WADO_URI)),
    "/viewer/launch": ("requestType", "studyUID", "accessionNumber", "patientID"),
    "/orders/{order_id}": ("beside", "done"),
    "/studies/{study_instance_uid}": ("beside", "done"),
    "/auth/login": ("next", "ended"),
    "/auth/oidc/{provider}": ("next", "again"),
    "/auth/oidc/{provider}/callback": ("state", "code", "iss", "error"),
    "/access/reviews": ("all", "before"),
    "/audit/patient/{patient_id}": ("before",),
}
for _root in ("/orders/{order_id}", "/studies/{study_instance_uid}"):
    PAGE_QUERY[_root + "/chain"] = PAGE_QUERY[_root + "/report"] = ("seen",)
_FHIR_CONTROLS: tuple[Parameter, ...] = (
    ("_count", _NUMBER, f"Results a page, at most {MAX_COUNT}."),
    ("_sort", _WORD, "A key, `-` before it for the other way."),
    ("_total", {"enum": ["none", "estimate", "accurate"]}, ""),
    ("_summary", {"enum": ["false", "count"]}, ""),
    ("_include", _WORD, ""),
    ("_revinclude", _WORD, ""),
    ("_page", _LONG, "The place in a list, as the link to the next page says it."),
)
_QIDO_CONTROLS: tuple[Parameter, ...] = (
    ("limit", _NUMBER, f"Results a page, at most {LARGEST_LIMIT}."),
    ("offset", _NUMBER, ""),
    ("fuzzymatching", {"enum": ["true", "false"]}, ""),
    ("includefield", _LONG, "Keywords or tags, by comma, or `all`."),
)
_RENDERING: tuple[Parameter, ...] = (
    ("window", {"type": "string", "examples": ["40,400,linear"]}, "Center, width and function (PS3.18 8.3.5.1.4)."),
    (
        "viewport",
        {"type": "string", "examples": ["256,256"]},
        "The box that the image is fitted into, then its region.",
    ),
    ("quality", {"type": "string", "examples": ["90"]}, "1 to 100, of a JPEG."),
)


def door_of(template: str) -> Door:
    """Return the group that a path belongs to; pages are what no other names."""
    return next((d for d in DOORS if template == d.prefix or template.startswith(d.prefix + "/")), _PAGE)


def query_of(template: str, method: str, kind: str) -> Iterator[Parameter]:
    """Give the parameters of an operation's address: name, schema, meaning."""
    if method != "get":
        return
    if template == "/fhir/{type}":
        yield from _searching(kind)
    elif template.endswith(("/rendered", "/thumbnail")):
        yield from _RENDERING
    elif template.startswith("/dicom-web/") and (level := _level_of(template)):
        yield from ((keyword, _LONG, "") for keyword in sorted(MATCHABLE[level]))
        yield from _QIDO_CONTROLS
    else:
        yield from ((name, _WORD, "") for name in PAGE_QUERY.get(template, ()))


def body_of(template: str, method: str, kind: str) -> Body | None:
    """Return what an operation's request carries; None for nothing."""
    if method != "post":
        return None
    if template == "/fhir/{type}/_search":
        return Body(_FORM, {"type": "object", "properties": {name: schema for name, schema, _ in _searching(kind)}})
    if template == "/cds-services/{id}":
        return Body("application/json", {"$ref": "#/components/schemas/HookRequest"})
    if template == "/cds-services/{id}/feedback":
        return Body("application/json", {"$ref": "#/components/schemas/Feedback"})
    if template.startswith("/dicom-web/studies"):
        return Body(_MULTIPART, {"type": "string", "contentMediaType": "application/dicom"})
    fields = FORMS.get(template.rpartition("/")[2], ())
    return Body(_FORM, {"type": "object", "properties": dict.fromkeys(("csrf_token", *fields), _ANY)})


def _searching(kind: str) -> Iterator[Parameter]:
    searchable = SEARCHABLE.get(kind)
    if searchable is None:
        yield from ((name, _WORD, "") for name in ("_id", "connection-type", "status"))
    else:
        yield from ((each.name, _LONG, each.says) for each in searchable.parameters)
    yield from _FHIR_CONTROLS


def _level_of(template: str) -> str:
    """The level that a QIDO path lists; empty where it is no list."""
    return {"studies": "study", "series": "series", "instances": "instance"}.get(template.rpartition("/")[2], "")
