"""Start and end the exam of a worklist entry, as a scanner would: `python examples/mpps.py ACCESSION [HOST PORT]`."""

from __future__ import annotations

import sys
from datetime import datetime

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import ModalityPerformedProcedureStep, ModalityWorklistInformationFind


def worklist_entry(association, accession: str) -> Dataset:  # type: ignore[no-untyped-def]
    """Ask the worklist for one accession number."""
    query = Dataset()
    query.AccessionNumber = accession
    for keyword in (
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyInstanceUID",
        "RequestedProcedureID",
    ):
        setattr(query, keyword, "")
    step = Dataset()
    step.Modality = step.ScheduledProcedureStepID = step.ScheduledProcedureStepDescription = ""
    query.ScheduledProcedureStepSequence = [step]
    found = [item for _, item in association.send_c_find(query, ModalityWorklistInformationFind) if item is not None]
    if not found:
        sys.exit(f"no worklist entry of accession {accession}")
    return found[0]


def performed_step(entry: Dataset) -> Dataset:
    """The attributes of N-CREATE (PS3.4 table F.7.2-1)."""
    step, now = entry.ScheduledProcedureStepSequence[0], datetime.now()
    reference = Dataset()
    reference.StudyInstanceUID, reference.AccessionNumber = entry.StudyInstanceUID, entry.AccessionNumber
    reference.RequestedProcedureID, reference.RequestedProcedureDescription = entry.RequestedProcedureID, ""
    reference.ScheduledProcedureStepID = step.ScheduledProcedureStepID
    reference.ScheduledProcedureStepDescription = step.ScheduledProcedureStepDescription
    reference.ReferencedStudySequence, reference.ScheduledProtocolCodeSequence = [], []
    exam = Dataset()
    exam.ScheduledStepAttributesSequence = [reference]
    exam.PatientName, exam.PatientID = entry.PatientName, entry.PatientID
    exam.PatientBirthDate, exam.PatientSex = entry.PatientBirthDate, entry.PatientSex
    exam.ReferencedPatientSequence = []
    exam.PerformedProcedureStepID, exam.PerformedStationAETitle = "PPS1", "CT01"
    exam.PerformedStationName = exam.PerformedLocation = ""
    exam.PerformedProcedureStepStartDate = now.strftime("%Y%m%d")
    exam.PerformedProcedureStepStartTime = now.strftime("%H%M%S")
    exam.PerformedProcedureStepStatus = "IN PROGRESS"
    exam.PerformedProcedureStepDescription = exam.PerformedProcedureTypeDescription = ""
    exam.PerformedProcedureStepEndDate = exam.PerformedProcedureStepEndTime = ""
    exam.Modality, exam.StudyID = step.Modality, ""
    exam.ProcedureCodeSequence, exam.PerformedProtocolCodeSequence, exam.PerformedSeriesSequence = [], [], []
    return exam


def main(accession: str, host: str = "127.0.0.1", port: str = "11112") -> None:
    """N-CREATE, wait for Enter (the images go here), N-SET COMPLETED."""
    scanner = AE("CT01")
    scanner.add_requested_context(ModalityWorklistInformationFind)
    scanner.add_requested_context(ModalityPerformedProcedureStep)
    association = scanner.associate(host, int(port), ae_title="HILUM")
    if not association.is_established:
        sys.exit("no association")
    uid = generate_uid()
    entry = worklist_entry(association, accession)
    status, _ = association.send_n_create(performed_step(entry), ModalityPerformedProcedureStep, uid)
    print(f"started: status {status.Status:04X}h, Study Instance UID {entry.StudyInstanceUID}")
    if sys.stdin.isatty():
        input("send the images now, then press Enter ")
    end, now = Dataset(), datetime.now()
    end.PerformedProcedureStepStatus = "COMPLETED"
    end.PerformedProcedureStepEndDate, end.PerformedProcedureStepEndTime = (
        now.strftime("%Y%m%d"),
        now.strftime("%H%M%S"),
    )
    series = Dataset()
    series.PerformingPhysicianName = series.OperatorsName = series.SeriesDescription = series.RetrieveAETitle = ""
    series.ProtocolName, series.SeriesInstanceUID = "Chest", generate_uid()
    series.ReferencedImageSequence, series.ReferencedNonImageCompositeSOPInstanceSequence = [], []
    end.PerformedSeriesSequence = [series]
    status, _ = association.send_n_set(end, ModalityPerformedProcedureStep, uid)
    print(f"completed: status {status.Status:04X}h")
    association.release()


if __name__ == "__main__":
    main(*sys.argv[1:])
