"""The scanner and its technologist: worklist, performed procedure step and images over DIMSE.

Run as a process of its own (`python -m hilum.demo.modality`, see `play`). Everything it writes into an image comes from
the worklist item it chose: no number is typed by hand, except where the play has the technologist do so.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any

from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ModalityPerformedProcedureStep,
    ModalityWorklistInformationFind,
)

from hilum.demo.headers import Exam, ct_series, radiograph, request_attributes
from hilum.demo.phantoms import chest_ct, chest_radiograph
from hilum.demo.play import PATIENCE, POLL, Refused, perform

SUCCESS = 0x0000
PENDING = (0xFF00, 0xFF01)


class Modality:
    """One console. `begin`, then `worklist`, `choose`, `start`, `acquire`, `store`, `finish`."""

    def begin(self, dicom: dict[str, Any], ae_title: str) -> dict[str, Any]:
        """Remember the archive's address and this console's AE title."""
        self.dicom, self.ae_title = dicom, ae_title
        return {}

    def worklist(self, patient_id: str, modality: str) -> list[dict[str, Any]]:
        """Ask for this patient's steps on this modality (PS3.4 K.6.1); keeps the items for `choose`."""
        with self._association(ModalityWorklistInformationFind) as archive:
            self.items = []
            query = _worklist_query(patient_id, modality)
            for status, item in archive.send_c_find(query, ModalityWorklistInformationFind):
                if status.get("Status") in PENDING and item is not None:
                    self.items.append(item)
                elif status.get("Status") != SUCCESS:
                    raise Refused(f"the worklist query failed with status {status.get('Status', 'none')}")
        return [_summary(item) for item in self.items]

    def choose(self, accession: str, at: str, patient_id: str = "") -> dict[str, Any]:
        """Take the step of this accession for an exam at this time; `patient_id` is what a tired technologist types."""
        found = [item for item in self.items if item.AccessionNumber == accession]
        if len(found) != 1:
            raise Refused(f"{len(found)} worklist items where there is one")
        item = found[0]
        if patient_id:
            item = deepcopy(item)
            item.PatientID = patient_id
        started = datetime.fromisoformat(at)
        self.exam = Exam(item, f"P{started:%d%H%M%S}{generate_uid(prefix=None)[-4:]}", started, self.ae_title)
        self.mpps_uid = generate_uid(prefix=None)
        self.images: list[FileDataset] = []
        return _summary(item)

    def start(self) -> dict[str, Any]:
        """MPPS N-CREATE, IN PROGRESS (PS3.4 F.7.2.1)."""
        with self._association(ModalityPerformedProcedureStep) as archive:
            content = _performed_step(self.exam)
            status, _ = archive.send_n_create(content, ModalityPerformedProcedureStep, self.mpps_uid)
            _expect(status, "N-CREATE")
        return {"mpps": str(self.mpps_uid)}

    def acquire(self, seed: int, nodule_mm: float, noise_seed: int) -> dict[str, Any]:
        """Scan the phantom of this seed; the images wait for `store`."""
        if self.exam.step.Modality == "CT":
            self.images = list(ct_series(self.exam, chest_ct(seed, nodule_mm, noise_seed), "Chest with contrast 5.0"))
        else:
            self.images = [radiograph(self.exam, chest_radiograph(seed, nodule_mm, noise_seed), "Chest PA")]
        return {
            "images": len(self.images),
            "series": str(self.images[0].SeriesInstanceUID),
            "pixels": {str(i.SOPInstanceUID): hashlib.sha256(i.PixelData).hexdigest() for i in self.images},
        }

    def store(self) -> dict[str, Any]:
        """C-STORE every image; each must be answered with success."""
        with self._association(self.images[0].SOPClassUID) as archive:
            for image in self.images:
                _expect(archive.send_c_store(image), "C-STORE")
        return {"stored": len(self.images)}

    def finish(self) -> dict[str, Any]:
        """MPPS N-SET, COMPLETED, with what was performed (PS3.4 F.7.2.2)."""
        with self._association(ModalityPerformedProcedureStep) as archive:
            content = _completed_step(self.exam, self.images)
            status, _ = archive.send_n_set(content, ModalityPerformedProcedureStep, self.mpps_uid)
            _expect(status, "N-SET")
        return {}

    @contextmanager
    def _association(self, sop_class: str) -> Iterator[Association]:
        """One association for one service; asked for again while nobody listens, as after a restart."""
        node = AE(ae_title=self.ae_title)
        node.acse_timeout = node.dimse_timeout = node.network_timeout = PATIENCE
        node.connection_timeout = 3
        node.add_requested_context(sop_class, ExplicitVRLittleEndian)
        limit = time.monotonic() + PATIENCE
        while True:
            link = node.associate(self.dicom["host"], self.dicom["port"], ae_title=self.dicom["ae_title"])
            if link.is_established or link.is_rejected or time.monotonic() > limit:
                break
            time.sleep(POLL)
        if not link.is_established:
            raise Refused("the association was rejected" if link.is_rejected else "no association: nobody answers")
        try:
            if not link.accepted_contexts:
                raise Refused(f"the archive does not take {sop_class.name}")  # type: ignore[attr-defined]
            yield link
        finally:
            link.release()


def _worklist_query(patient_id: str, modality: str) -> Dataset:
    query = Dataset()
    query.SpecificCharacterSet = "ISO_IR 192"
    query.PatientID = patient_id
    for keyword in (
        "PatientName", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "AdmissionID", "AccessionNumber",
        "ReferringPhysicianName", "RequestingPhysician", "StudyInstanceUID", "RequestedProcedureID",
        "RequestedProcedureDescription", "RequestedProcedurePriority", "ReasonForTheRequestedProcedure",
        "PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest",
    ):  # fmt: skip
        setattr(query, keyword, "")
    query.RequestedProcedureCodeSequence = Sequence([_code_keys()])
    step = Dataset()
    step.Modality = modality
    for keyword in (
        "ScheduledStationAETitle", "ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime",
        "ScheduledPerformingPhysicianName", "ScheduledProcedureStepDescription", "ScheduledProcedureStepID",
    ):  # fmt: skip
        setattr(step, keyword, "")
    step.ScheduledProtocolCodeSequence = Sequence([_code_keys()])
    query.ScheduledProcedureStepSequence = Sequence([step])
    return query


def _code_keys() -> Dataset:
    code = Dataset()
    code.CodeValue = code.CodingSchemeDesignator = code.CodeMeaning = ""
    return code


def _performed_step(exam: Exam) -> Dataset:
    """The N-CREATE attributes of PS3.4 table F.7.2-1."""
    item, content = exam.item, Dataset()
    content.SpecificCharacterSet = "ISO_IR 192"
    scheduled = request_attributes(exam)
    scheduled.PlacerOrderNumberImagingServiceRequest = item.get("PlacerOrderNumberImagingServiceRequest", "")
    scheduled.FillerOrderNumberImagingServiceRequest = item.get("FillerOrderNumberImagingServiceRequest", "")
    scheduled.ReferencedStudySequence = Sequence()
    content.ScheduledStepAttributesSequence = Sequence([scheduled])
    for keyword in ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"):
        setattr(content, keyword, item.get(keyword, ""))
    content.ReferencedPatientSequence = Sequence()
    content.PerformedProcedureStepID = exam.performed_step_id
    content.PerformedStationAETitle = exam.station
    content.PerformedStationName = exam.station
    content.PerformedLocation = "Room 2"
    content.PerformedProcedureStepStartDate = exam.started.strftime("%Y%m%d")
    content.PerformedProcedureStepStartTime = exam.started.strftime("%H%M%S")
    content.PerformedProcedureStepStatus = "IN PROGRESS"
    content.PerformedProcedureStepDescription = exam.step.get("ScheduledProcedureStepDescription", "")
    content.PerformedProcedureTypeDescription = ""
    content.ProcedureCodeSequence = item.get("RequestedProcedureCodeSequence", Sequence())
    content.PerformedProcedureStepEndDate = content.PerformedProcedureStepEndTime = ""
    content.Modality = exam.step.Modality
    content.StudyID = item.RequestedProcedureID
    content.PerformedProtocolCodeSequence = Sequence()
    content.PerformedSeriesSequence = Sequence()
    return content


def _completed_step(exam: Exam, images: list[FileDataset]) -> Dataset:
    """The N-SET that ends the step: when, and each series with its images."""
    ended = exam.started + timedelta(minutes=4)
    content, series = Dataset(), Dataset()
    content.PerformedProcedureStepStatus = "COMPLETED"
    content.PerformedProcedureStepEndDate, content.PerformedProcedureStepEndTime = f"{ended:%Y%m%d}", f"{ended:%H%M%S}"
    first = images[0]
    series.PerformingPhysicianName, series.OperatorsName = "", first.OperatorsName
    series.ProtocolName = first.ProtocolName
    series.SeriesInstanceUID = first.SeriesInstanceUID
    series.SeriesDescription = first.SeriesDescription
    series.RetrieveAETitle = ""
    series.ReferencedImageSequence = Sequence([_reference(image) for image in images])
    series.ReferencedNonImageCompositeSOPInstanceSequence = Sequence()
    content.PerformedSeriesSequence = Sequence([series])
    return content


def _reference(image: Dataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return reference


def _summary(item: Dataset) -> dict[str, Any]:
    """What the console shows of an item, and the play checks."""
    name = str(item.PatientName).split("^")
    return {
        "patient": item.PatientID,
        "family": name[0],
        "given": name[1] if len(name) > 1 else "",
        "born": item.get("PatientBirthDate", ""),
        "sex": item.get("PatientSex", ""),
        "accession": item.get("AccessionNumber", ""),
        "study": str(item.get("StudyInstanceUID", "")),
        "procedure": item.get("RequestedProcedureID", ""),
        "step": item.ScheduledProcedureStepSequence[0].get("ScheduledProcedureStepID", ""),
        "modality": item.ScheduledProcedureStepSequence[0].get("Modality", ""),
    }


def _expect(status: Dataset, service: str) -> None:
    """Success, or Refused with the status and its comment."""
    code = status.get("Status")
    if code != SUCCESS:
        shown = "nothing" if code is None else f"{code:04X}H"
        raise Refused(f"{service} was answered with {shown} {status.get('ErrorComment', '')}".strip())


if __name__ == "__main__":
    console = Modality()
    perform(
        {
            "begin": console.begin,
            "worklist": console.worklist,
            "choose": console.choose,
            "start": console.start,
            "acquire": console.acquire,
            "store": console.store,
            "finish": console.finish,
        }
    )
