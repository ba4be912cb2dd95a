"""Patient: a registered person; one that was merged away points to the survivor (`replaced-by`)."""

from __future__ import annotations

from hilum.core.patient import PatientIdentifier, PersonName
from hilum.fhir import systems
from hilum.fhir.elements import Resource, bare, finished
from hilum.storage.fhir_criteria import Number
from hilum.storage.fhir_records import PatientRecord

# PS3.3 C.2.3 (0010,0040) → http://hl7.org/fhir/R4/valueset-administrative-gender.html
GENDER = {"M": "male", "F": "female", "O": "other", "": "unknown"}


def patient_from_record(record: PatientRecord) -> Resource:
    """Build the resource of a patient."""
    patient, demographics = record.patient, record.patient.demographics
    active = patient.id == record.survivor_id
    resource = {
        "resourceType": "Patient",
        "id": patient.id,
        "identifier": [
            *(_identifier(identifier, "usual" if active else "old") for identifier in patient.identifiers),
            *(_identifier(identifier, "old") for identifier in record.old_identifiers),
        ],
        "active": active,
        "name": [name] if (name := _name(demographics.name)) else [],
        "gender": GENDER.get(demographics.sex, "unknown"),
        "birthDate": demographics.birth_date.isoformat() if demographics.birth_date else None,
        "link": _links(record, active),
    }
    return finished(resource, patient.revision, record.updated_at)


def _links(record: PatientRecord, active: bool) -> list[Resource]:
    if not active:
        return [{"other": {"reference": f"Patient/{record.survivor_id}"}, "type": "replaced-by"}]
    return [{"other": {"reference": f"Patient/{merged}"}, "type": "replaces"} for merged in record.replaces]


def _identifier(identifier: PatientIdentifier, use: str) -> Resource:
    type_code = identifier.type_code
    coding = {"system": systems.IDENTIFIER_TYPE, "code": type_code}
    return bare(
        {
            "use": use,
            "type": {"coding": [coding]} if type_code else {},
            "system": systems.system_of(identifier.authority, Number.PATIENT),
            "value": identifier.value,
            "assigner": bare({"display": identifier.authority}),
        }
    )


def _name(name: PersonName) -> Resource:
    if not name.display:
        return {}
    return bare(
        {
            "use": "official",
            "text": name.display,
            "family": name.family,
            "given": [part for part in (name.given, name.middle) if part],
            "prefix": [name.prefix] if name.prefix else [],
            "suffix": [name.suffix] if name.suffix else [],
        }
    )
