"""From a step of an order to an answer of the modality worklist: the return keys of IHE RAD TF-2 table 4.5-3.

Type 1 and 2 keys are always there, empty where Hilum knows nothing. Identifiers are never cut; descriptions are cut to
the length of their value representation.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from hilum.core.order import Code, Priority
from hilum.core.patient import Patient, PatientIdentifier
from hilum.dicom.callers import Caller
from hilum.storage.worklist import WorklistEntry

LONG_STRING, SHORT_STRING, LONG_TEXT = 64, 16, 10240
# (0040,1003), PS3.3 C.4.11
REQUESTED_PROCEDURE_PRIORITY = {Priority.STAT: "STAT", Priority.URGENT: "HIGH", Priority.ROUTINE: "ROUTINE"}
# Known to RAD-5 and to nobody here yet.
_EMPTY = (
    "MedicalAlerts", "Allergies", "PatientWeight", "PatientSize", "PregnancyStatus", "PatientState", "SpecialNeeds",
    "ConfidentialityConstraintOnPatientDataDescription", "PatientTransportArrangements", "CurrentPatientLocation",
    "PatientComments", "EthnicGroup", "RequestedProcedureComments", "RequestingService", "ReferencedStudySequence",
    "ReferencedPatientSequence", "NamesOfIntendedRecipientsOfResults", "ImagingServiceRequestComments",
)  # fmt: skip
_EMPTY_OF_STEP = ("PreMedication", "RequestedContrastAgent", "CommentsOnTheScheduledProcedureStep")


def worklist_values(
    entry: WorklistEntry, caller: Caller, now: datetime, station: str, institution: str
) -> dict[str, Any]:
    """Return all that can be asked of an entry; `station` and `now` stand in for a step that has no station or time."""
    order = entry.order
    return {
        **dict.fromkeys(_EMPTY, ""),
        **patient_values(entry.patient, caller.issuer),
        "AccessionNumber": order.accession_number,
        "IssuerOfAccessionNumberSequence": _issuer(order.filler_authority),
        "ReferringPhysicianName": order.ordering_physician.dicom,
        "RequestingPhysician": order.ordering_physician.dicom,
        "InstitutionName": institution[:LONG_STRING],
        "AdmissionID": order.visit_number,
        "AdditionalPatientHistory": order.clinical_information[:LONG_TEXT],
        "StudyInstanceUID": order.study_instance_uid,
        "RequestedProcedureID": order.requested_procedure_id,
        "RequestedProcedureDescription": _meaning(order.procedure),
        "RequestedProcedureCodeSequence": code_items(order.procedure),
        "RequestedProcedurePriority": REQUESTED_PROCEDURE_PRIORITY[order.priority],
        "ReasonForTheRequestedProcedure": order.reason[:LONG_STRING],
        "PlacerOrderNumberImagingServiceRequest": order.placer_order_number,
        "FillerOrderNumberImagingServiceRequest": order.filler_order_number,
        "OrderPlacerIdentifierSequence": _issuer(order.placer_authority),
        "OrderFillerIdentifierSequence": _issuer(order.filler_authority),
        "ScheduledProcedureStepSequence": [_step_values(entry, caller, now, station)],
    }


def _step_values(entry: WorklistEntry, caller: Caller, now: datetime, station: str) -> dict[str, Any]:
    step = entry.step
    start = caller.local(step.start_at or now)
    return {
        **dict.fromkeys(_EMPTY_OF_STEP, ""),
        "Modality": step.modality,
        "ScheduledStationAETitle": step.station_ae_title or station,
        "ScheduledStationName": step.station_name,
        "ScheduledProcedureStepStartDate": start.strftime("%Y%m%d"),
        "ScheduledProcedureStepStartTime": start.strftime("%H%M%S"),
        "ScheduledProcedureStepEndDate": "",
        "ScheduledProcedureStepEndTime": "",
        "ScheduledPerformingPhysicianName": step.performing_physician.dicom,
        "ScheduledProcedureStepDescription": (step.description or _meaning(entry.order.procedure))[:LONG_STRING],
        "ScheduledProtocolCodeSequence": [item for code in step.protocol for item in code_items(code)],
        "ScheduledProcedureStepID": step.step_id,
        "ScheduledProcedureStepLocation": step.location[:SHORT_STRING],
        "ScheduledProcedureStepStatus": step.status.value,
    }


def patient_values(patient: Patient, issuer: str) -> dict[str, Any]:
    """Return patient identification and demographics as registered."""
    shown = identifier_for(patient, issuer)
    others = [each for each in patient.identifiers if each is not shown]
    demographics = patient.demographics
    return {
        "PatientName": demographics.name.dicom,
        "PatientID": shown.value,
        "IssuerOfPatientID": shown.authority,
        "PatientBirthDate": demographics.birth_date.strftime("%Y%m%d") if demographics.birth_date else "",
        "PatientSex": demographics.sex,
        "OtherPatientIDsSequence": [
            {"PatientID": each.value, "IssuerOfPatientID": each.authority, "TypeOfPatientID": "TEXT"} for each in others
        ],
    }


def identifier_for(patient: Patient, issuer: str) -> PatientIdentifier:
    """Return the identifier by which a peer knows the patient: one of its own issuer, else the primary one."""
    own = [each for each in patient.identifiers if issuer and each.authority == issuer and each.type_code == "MR"]
    return own[0] if own else patient.primary_identifier


def code_items(code: Code) -> list[dict[str, Any]]:
    """Return a code sequence of one item, or none without a code value; a local scheme stands in for none."""
    if not code.value:
        return []
    value = "LongCodeValue" if len(code.value) > SHORT_STRING else "CodeValue"
    scheme = code.scheme[:SHORT_STRING] or "L"
    return [{value: code.value, "CodingSchemeDesignator": scheme, "CodeMeaning": _meaning(code)}]


def _meaning(code: Code) -> str:
    return (code.meaning or code.value)[:LONG_STRING]


def _issuer(authority: str) -> list[dict[str, Any]]:
    return [{"LocalNamespaceEntityID": authority}] if authority else []
