"""From the attribute list of an MPPS N-CREATE or N-SET to what the chain knows as an exam (PS3.4 table F.7.2-1).

What is required is a table; what a modality sends besides is kept as DICOM JSON.
"""

from __future__ import annotations

from datetime import datetime

from hilum.archive.metadata import checked_uid
from hilum.core.errors import InvalidInput
from hilum.core.order import Code, PerformedStatus
from hilum.dicom.callers import Caller
from hilum.dicom.identifier import Keys
from hilum.dicom.matching import date_of, time_of
from hilum.workflow.acquisition import ExamReport, ScheduledReference
from hilum.workflow.source import Source

# Type 1 of N-CREATE for the SCU, PS3.4 table F.7.2-1.
REQUIRED_AT_CREATION = (
    "Modality", "PerformedStationAETitle", "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime",
    "PerformedProcedureStepID", "PerformedProcedureStepStatus", "ScheduledStepAttributesSequence",
)  # fmt: skip
_START = ("PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime")
_END = ("PerformedProcedureStepEndDate", "PerformedProcedureStepEndTime")
MAXIMUM_REFERENCES = 200


def missing_at_creation(keys: Keys) -> tuple[str, bool] | None:
    """Return the first required attribute that is not given, and whether it is there but empty."""
    for keyword in REQUIRED_AT_CREATION:
        if keyword not in keys.keywords:
            return keyword, False
        if not (keys.items(keyword) if keyword.endswith("Sequence") else keys.texts(keyword)):
            return keyword, True
    for item in keys.items("ScheduledStepAttributesSequence"):
        if not item.text("StudyInstanceUID"):
            return "StudyInstanceUID", "StudyInstanceUID" in item.keywords
    return None


def exam_report(keys: Keys, sop_instance_uid: str, caller: Caller, source: Source) -> ExamReport:
    """Return what an attribute list says. Raises InvalidInput with the keyword of a value that can't be."""
    offset = keys.text("TimezoneOffsetFromUTC")
    series = keys.items("PerformedSeriesSequence")
    uids = [uid for item in series if (uid := item.text("SeriesInstanceUID"))]
    return ExamReport(
        sop_instance_uid=sop_instance_uid,
        status=_status(keys.text("PerformedProcedureStepStatus")),
        source=source,
        references=tuple(map(_reference, keys.items("ScheduledStepAttributesSequence")[:MAXIMUM_REFERENCES])),
        patient_identifier=keys.text("PatientID"),
        station_ae_title=keys.text("PerformedStationAETitle"),
        modality=keys.text("Modality"),
        started_at=_moment(keys, _START, caller, offset),
        ended_at=_moment(keys, _END, caller, offset),
        discontinuation=_code(keys),
        series_instance_uids=tuple(dict.fromkeys(checked_uid(uid, "SeriesInstanceUID") for uid in uids)),
        attributes=keys.attributes,
    )


def _status(text: str) -> PerformedStatus:
    """The status; an N-SET that names none leaves the step in progress."""
    try:
        return PerformedStatus(text or PerformedStatus.IN_PROGRESS)
    except ValueError:
        raise InvalidInput(
            "The status is none of IN PROGRESS, COMPLETED, DISCONTINUED.", field="PerformedProcedureStepStatus"
        ) from None


def _reference(item: Keys) -> ScheduledReference:
    return ScheduledReference(
        study_instance_uid=checked_uid(item.text("StudyInstanceUID"), "StudyInstanceUID"),
        accession_number=item.text("AccessionNumber"),
        step_id=item.text("ScheduledProcedureStepID"),
        requested_procedure_id=item.text("RequestedProcedureID"),
    )


def _moment(keys: Keys, names: tuple[str, str], caller: Caller, offset: str) -> datetime | None:
    day, hours = keys.text(names[0]), keys.text(names[1])
    if not day:
        return None
    return caller.utc(datetime.combine(date_of(day, names[0]), time_of(hours or "00", names[1])), offset)


def _code(keys: Keys) -> Code | None:
    for item in keys.items("PerformedProcedureStepDiscontinuationReasonCodeSequence"):
        return Code(item.text("CodeValue"), item.text("CodingSchemeDesignator"), item.text("CodeMeaning"))
    return None
