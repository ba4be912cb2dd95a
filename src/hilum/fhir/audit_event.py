"""AuditEvent: a row of the audit trail, shaped as IHE Basic Audit Log Patterns (BALP) want it.

A row claims the profile that it meets, and none otherwise. What Hilum does not keep, it does not make up: the text of a
query stays out of the trail, as it may hold names of patients, so that searches carry no `query` and claim nothing.
Source: http://hl7.org/fhir/R4/auditevent.html, https://profiles.ihe.net/ITI/BALP/
"""

from __future__ import annotations

from hilum.core.actor import Door, Role
from hilum.fhir import systems
from hilum.fhir.elements import Resource, bare, finished, instant
from hilum.security.audit_codes import (
    DESTINATION_ROLE,
    INSTANCES_ACCESSED,
    INSTANCES_TRANSFERRED,
    PROCEDURE_RECORD,
    SOURCE_ROLE,
    DicomCode,
    Interaction,
    Outcome,
    crude_of,
    event_of,
    interaction_of,
    meaning_of,
    outcome_of,
)
from hilum.storage.audit_records import AuditRecord

REST = {
    "system": "http://terminology.hl7.org/CodeSystem/audit-event-type",
    "code": "rest",
    "display": "Restful Operation",
}
INTERACTION = "http://hl7.org/fhir/restful-interaction"
PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
PURPOSE = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
OBJECT_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
SOURCE_TYPE = "http://terminology.hl7.org/CodeSystem/security-source-type"
ACTION = "urn:hilum:audit-action"
ROLE = "urn:hilum:role"
ACCOUNT = "urn:hilum:account"
MESSAGE = "urn:hilum:message"

# Doors over HTTP, whose acts are RESTful interactions.
RESTFUL_DOORS = frozenset({Door.FHIR, Door.DICOMWEB, Door.CDS, Door.PAGE})
# Roles that no person has: their name is that of a program.
PROGRAMS = frozenset({Role.SERVICE, Role.AI_AGENT})

# The outcome codes of FHIR are those of RFC 3881 (http://terminology.hl7.org/CodeSystem/audit-event-outcome).
OUTCOMES: dict[str, tuple[str, ...]] = {
    Outcome.SUCCESS: ("success",),
    Outcome.MINOR_FAILURE: ("minor",),
    Outcome.SERIOUS_FAILURE: ("serious",),
}
_PROFILE = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
# What BALP calls a success; with a patient `Patient` goes before it. Other rows claim no profile.
PROFILES: dict[Interaction, str] = {"read": "Read", "create": "Create", "update": "Update"}
# What a person is to what was done (v3-ParticipationType): who reads receives, who changes is the author.
READER = {"system": PARTICIPATION, "code": "IRCP", "display": "information recipient"}
AUTHOR = {"system": PARTICIPATION, "code": "AUT", "display": "author (originator)"}
# BALP slices entities by their type, and wants one system object: the data that it was about. The rest is other.
PERSON, SYSTEM_OBJECT, OTHER = ("1", "Person"), ("2", "System Object"), ("4", "Other")
IMAGING = (INSTANCES_ACCESSED, INSTANCES_TRANSFERRED)
PATIENT_ROLE, REPORT_ROLE, RESOURCE_ROLE, QUERY_ROLE = (
    ("1", "Patient"),
    ("3", "Report"),
    ("4", "Domain Resource"),
    ("24", "Query"),
)


def audit_event_from_record(record: AuditRecord, base_url: str, site: str) -> Resource:
    """Build the resource of a row of the trail; `site` names the facility."""
    somebody = record.about_somebody
    interaction = interaction_of(record.action, about_somebody=somebody)
    restful = record.door in RESTFUL_DOORS and bool(interaction)
    outcome = outcome_of(record.outcome, record.reason)
    server = {"identifier": {"value": base_url}, "display": "Hilum"}
    profile = _profile(record, interaction) if restful and outcome is Outcome.SUCCESS else ""
    resource = {
        "resourceType": "AuditEvent",
        "id": record.id,
        "meta": {"profile": [profile]} if profile else {},
        "type": REST if restful else _dicom(event_of(record.action, about_somebody=somebody)),
        "subtype": _subtypes(record, interaction if restful else ""),
        "action": crude_of(record.action, about_somebody=somebody),
        "recorded": instant(record.at),
        "outcome": outcome.value,
        "outcomeDesc": record.reason,
        "agent": _agents(record, interaction, base_url, server),
        "source": {
            "site": site,
            "observer": server,
            "type": [{"system": SOURCE_TYPE, "code": "4", "display": "Application Server"}],
        },
        "entity": _entities(record, interaction),
    }
    return finished(resource, 1, record.at)


def _profile(record: AuditRecord, interaction: Interaction) -> str:
    """Name the profile that a success meets: it needs the data that it was about, and where the client is."""
    name = PROFILES.get(interaction)
    if not name or not record.about_somebody or not record.address:
        return ""
    return f"{_PROFILE}{'Patient' if record.patient_id else ''}{name}"


def _subtypes(record: AuditRecord, interaction: str) -> list[Resource]:
    found = [{"system": INTERACTION, "code": interaction, "display": interaction}] if interaction else []
    type_code = meaning_of(record.action).type_code
    if type_code is not None:
        found.append(_dicom(type_code))
    return [*found, {"system": ACTION, "code": record.action, "display": meaning_of(record.action).words}]


def _agents(record: AuditRecord, interaction: str, base_url: str, server: Resource) -> list[Resource]:
    """Name the person, the program that asked, and Hilum, by where the data went (BALP)."""
    reads = interaction == "read"
    person = record.role not in PROGRAMS
    name = {"identifier": {"system": ACCOUNT, "value": record.actor}, "display": record.actor}
    role = [{"coding": [{"system": ROLE, "code": record.role}]}]
    purpose = [{"coding": [{"system": PURPOSE, "code": record.purpose}]}] if record.purpose else []
    user = bare(
        {
            "type": {"coding": [READER if reads or interaction == "search-type" else AUTHOR]},
            "role": role,
            "who": name,
            "name": record.actor,
            "requestor": True,
            "purposeOfUse": purpose,
        }
    )
    client = bare(
        {
            "type": {"coding": [_dicom(DESTINATION_ROLE if reads else SOURCE_ROLE)]},
            "role": [] if person else role,
            "who": {"display": f"client of the {record.door} door"} if person else name,
            "name": "" if person else record.actor,
            "network": {"address": record.address, "type": "2"} if record.address else {},
            "purposeOfUse": [] if person else purpose,
        }
    )
    itself = {
        "type": {"coding": [_dicom(SOURCE_ROLE if reads else DESTINATION_ROLE)]},
        "who": server,
        "requestor": False,
        "network": {"address": base_url, "type": "5"},
    }
    return [*([user] if person else []), {**client, "requestor": not person}, itself]


def _entities(record: AuditRecord, interaction: str) -> list[Resource]:
    found = []
    if record.patient_id:
        found.append(_entity(PERSON, PATIENT_ROLE, f"Patient/{record.survivor_id or record.patient_id}"))
    data = [f"ServiceRequest/{record.order_id}"] if record.order_id else []
    data += [f"ImagingStudy/{record.study_id}"] if record.study_id else []
    if meaning_of(record.action).event in IMAGING:
        data.reverse()
    role = REPORT_ROLE if meaning_of(record.action).event == PROCEDURE_RECORD else RESOURCE_ROLE
    if not data and record.patient_id:
        # What was done to the patient's own data is done to the patient's resource.
        data, role = [f"Patient/{record.survivor_id or record.patient_id}"], RESOURCE_ROLE
    found += [_entity(OTHER if number else SYSTEM_OBJECT, role, reference) for number, reference in enumerate(data)]
    if record.message_id:
        message = {"identifier": {"system": MESSAGE, "value": record.message_id}}
        found.append({**_entity(OTHER if data else SYSTEM_OBJECT, RESOURCE_ROLE), "what": message})
    if not found and interaction == "search-type":
        found.append({**_entity(SYSTEM_OBJECT, QUERY_ROLE), "description": "The text of searches is not kept."})
    return found


def _entity(kind: tuple[str, str], role: tuple[str, str], reference: str = "") -> Resource:
    return bare(
        {
            "what": {"reference": reference} if reference else {},
            "type": {"system": ENTITY_TYPE, "code": kind[0], "display": kind[1]},
            "role": {"system": OBJECT_ROLE, "code": role[0], "display": role[1]},
        }
    )


def _dicom(code: DicomCode) -> Resource:
    return {"system": systems.DCM, "code": code.value, "display": code.meaning}
