"""Key Object Selection documents written: a rejection note for instances that a person puts out of use.

Source: PS3.3 A.35.4; PS3.16 TID 2010 and CID 7011; IHE RAD TF-2 RAD-66.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, ExplicitVRLittleEndian

from hilum.archive.rejection_note import KEY_OBJECT_DESCRIPTION, KEY_OBJECT_SELECTION
from hilum.core.identifiers import new_uid
from hilum.workflow.rejection import MEANINGS, RejectionCode

_WAVEFORMS = "1.2.840.10008.5.1.4.1.1.9."


@dataclass(frozen=True, slots=True)
class NamedInstance:
    """An instance that a document names."""

    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    is_image: bool


@dataclass(frozen=True, slots=True)
class NamedStudy:
    """The study of a document, as its images name it."""

    study_instance_uid: str
    patient_identifier: str
    patient_authority: str
    patient_name: str
    patient_birth_date: str
    patient_sex: str
    accession_number: str
    study_identifier: str
    study_date: str
    study_time: str
    referring_physician: str


def rejection_note(
    study: NamedStudy, instances: Sequence[NamedInstance], code: RejectionCode, reason: str, at: datetime
) -> bytes:
    """Return a rejection note as a Part 10 file; `at` is in the facility's time."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = UID(KEY_OBJECT_SELECTION)
    meta.MediaStorageSOPInstanceUID = UID(new_uid())
    note = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    note.SpecificCharacterSet = "ISO_IR 192"
    _identify(note, study)
    note.SOPClassUID, note.SOPInstanceUID = KEY_OBJECT_SELECTION, meta.MediaStorageSOPInstanceUID
    note.Modality, note.SeriesInstanceUID = "KO", new_uid()
    note.SeriesNumber, note.InstanceNumber = 1, 1
    note.ReferencedPerformedProcedureStepSequence = Items()
    note.Manufacturer = "Hilum"
    note.ContentDate, note.ContentTime = f"{at:%Y%m%d}", f"{at:%H%M%S}"
    note.CurrentRequestedProcedureEvidenceSequence = Items([_evidence(study, instances)])
    note.ValueType = "CONTAINER"
    note.ConceptNameCodeSequence = Items([_code(code.value, MEANINGS[code])])
    note.ContinuityOfContent = "SEPARATE"
    template = Dataset()
    template.MappingResource, template.TemplateIdentifier = "DCMR", "2010"
    note.ContentTemplateSequence = Items([template])
    said = [_description(reason)] if reason else []
    note.ContentSequence = Items([*said, *map(_content, instances)])
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, note, enforce_file_format=True)
    return buffer.getvalue()


def _identify(note: Dataset, study: NamedStudy) -> None:
    note.PatientID, note.PatientName = study.patient_identifier, study.patient_name
    if study.patient_authority:
        note.IssuerOfPatientID = study.patient_authority
    note.PatientBirthDate, note.PatientSex = study.patient_birth_date, study.patient_sex
    note.StudyInstanceUID, note.StudyID = study.study_instance_uid, study.study_identifier
    note.StudyDate, note.StudyTime = study.study_date, study.study_time
    note.AccessionNumber, note.ReferringPhysicianName = study.accession_number, study.referring_physician


def _evidence(study: NamedStudy, instances: Sequence[NamedInstance]) -> Dataset:
    item = Dataset()
    item.ReferencedSeriesSequence = Items()
    ordered = sorted(instances, key=lambda each: each.series_instance_uid)
    for series_instance_uid, members in groupby(ordered, key=lambda each: each.series_instance_uid):
        series = Dataset()
        series.ReferencedSOPSequence = Items(map(_reference, members))
        series.SeriesInstanceUID = series_instance_uid
        item.ReferencedSeriesSequence.append(series)
    item.StudyInstanceUID = study.study_instance_uid
    return item


def _reference(instance: NamedInstance) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = instance.sop_class_uid
    item.ReferencedSOPInstanceUID = instance.sop_instance_uid
    return item


def _content(instance: NamedInstance) -> Dataset:
    """One named instance, by the value type that its kind takes (PS3.16 TID 2010)."""
    item = Dataset()
    item.ReferencedSOPSequence = Items([_reference(instance)])
    item.RelationshipType = "CONTAINS"
    is_waveform = instance.sop_class_uid.startswith(_WAVEFORMS)
    item.ValueType = "IMAGE" if instance.is_image else "WAVEFORM" if is_waveform else "COMPOSITE"
    return item


def _description(reason: str) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "TEXT"
    item.ConceptNameCodeSequence = Items([_code(KEY_OBJECT_DESCRIPTION, "Key Object Description")])
    item.TextValue = reason
    return item


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item
