"""The data types of FHIR R4 that several resources are made of; what is empty is left out, as FHIR wants it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import orjson

from hilum.core.order import Code, Order, Physician
from hilum.core.study import Study
from hilum.fhir import systems
from hilum.storage.fhir_criteria import Number
from hilum.storage.fhir_records import PatientReference

Resource = dict[str, Any]

# HL7 table 0203
IDENTIFIER_TYPES = {"PLAC": "Placer Identifier", "FILL": "Filler Identifier", "ACSN": "Accession ID"}
SUBSETTED = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "SUBSETTED",
    "display": "subsetted",
}


def bare(element: Resource) -> Resource:
    """Return an element without what is empty."""
    return {name: value for name, value in element.items() if value not in (None, "", [], {})}


def instant(moment: datetime) -> str:
    """Return a moment as an `instant` in UTC."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def finished(resource: Resource, revision: int, updated_at: datetime) -> Resource:
    """Return the resource without empty elements and with its `meta`.

    The version is the row's revision and a digest of the content, since a resource also shows rows beside its own (a
    merged patient's name, a study that has just arrived): another content is never another one's version.
    """
    tags = resource.pop("meta", {})
    content = bare(resource)
    digest = hashlib.sha256(orjson.dumps([tags, content], option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]
    meta = {"versionId": f"{revision}-{digest}", "lastUpdated": instant(updated_at), **tags}
    kind, row_id = content.pop("resourceType"), content.pop("id")
    return {"resourceType": kind, "id": row_id, "meta": meta, **content}


def typed_identifier(value: str, type_code: str, system: str | None, use: str = "") -> Resource:
    """Return an identifier with its type of HL7 table 0203; empty for an empty value."""
    if not value:
        return {}
    coding = bare({"system": systems.IDENTIFIER_TYPE, "code": type_code, "display": IDENTIFIER_TYPES.get(type_code)})
    return bare({"use": use, "type": {"coding": [coding]}, "system": system, "value": value})


def order_identifiers(order: Order) -> dict[str, Resource]:
    """Return the numbers of an order, by their type."""
    return {
        "PLAC": typed_identifier(
            order.placer_order_number, "PLAC", systems.system_of(order.placer_authority, Number.PLACER)
        ),
        "FILL": typed_identifier(
            order.filler_order_number, "FILL", systems.system_of(order.filler_authority, Number.FILLER)
        ),
        "ACSN": typed_identifier(order.accession_number, "ACSN", systems.ACCESSION_NUMBER),
    }


def uid_identifier(uid: str) -> Resource:
    """Return a DICOM UID as an identifier (FHIR R4 ImagingStudy 10.7.4)."""
    return {"system": systems.DICOM_UID, "value": f"urn:oid:{uid}"}


def concept(code: Code) -> Resource:
    """Return a code as a CodeableConcept."""
    coding = bare({"system": systems.code_system_of(code.scheme), "code": code.value, "display": code.meaning})
    return bare({"coding": [coding] if code.value else [], "text": code.meaning or code.value})


def modality(code: str) -> Resource:
    """Return a modality as a Coding."""
    return {"system": systems.DCM, "code": code}


def patient_reference(subject: PatientReference) -> Resource:
    """Return the reference to a surviving patient."""
    return bare({"reference": f"Patient/{subject.id}", "type": "Patient", "display": subject.display})


def physician_reference(physician: Physician) -> Resource:
    """Return a logical reference: physicians are known by the number that messages give, not as resources here."""
    if not physician.identifier:
        return bare({"display": physician.display})
    system = systems.practitioner_system(physician.authority)
    identifier = bare({"system": system, "value": physician.identifier})
    return bare({"type": "Practitioner", "identifier": identifier, "display": physician.display})


def reference(kind: str, row_id: str) -> Resource:
    """Return the reference to a resource of this server."""
    return {"reference": f"{kind}/{row_id}", "type": kind}


def launch_url(base_url: str, study: Study) -> str:
    """Return the absolute link that opens a study's images (IHE Invoke Image Display)."""
    query = urlencode({"requestType": "STUDY", "studyUID": study.study_instance_uid})
    return f"{base_url}/viewer/launch?{query}"
