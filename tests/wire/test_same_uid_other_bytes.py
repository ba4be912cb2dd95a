"""The same SOP Instance UID with other bytes: kept beside, put on the list, never shown as the image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from dicom_door import Department, department, find
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE

from fixtures.dicom_files import CT_IMAGE_STORAGE, ct_image, dataset_bytes
from hilum.archive.retrieve import read_instance
from hilum.core.scope import EVERYTHING
from hilum.storage import tables
from hilum.storage.retrieval import find_instances, find_study

STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2.1"


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Department]:
    with department(tmp_path) as opened:
        yield opened


def store(archive: Department, *images: Dataset, syntax: str = ExplicitVRLittleEndian) -> list[int]:
    requestor = AE(ae_title="CT01")
    requestor.add_requested_context(CT_IMAGE_STORAGE, syntax)
    association = requestor.associate("127.0.0.1", archive.port, ae_title="HILUM")
    statuses = [association.send_c_store(image).Status for image in images]
    association.release()
    return statuses


def test_other_bytes_are_kept_beside_and_listed(archive: Department) -> None:
    first = ct_image(SOPInstanceUID="1.2.3.4", StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.1")
    second = ct_image(
        SOPInstanceUID="1.2.3.4", StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.1", WindowCenter="40"
    )
    assert store(archive, first, second, second) == [0, 0, 0]
    rows = {row.digest: row for row in archive.rows(tables.instance)}
    assert len(rows) == 2
    kept = [rows[hashlib.sha256(dataset_bytes(image)).hexdigest()] for image in (first, second)]
    assert [row.beside for row in kept] == [False, True]
    for row, image in zip(kept, (first, second), strict=True):
        assert read_instance(archive.blobs, row).endswith(dataset_bytes(image))
    listed = archive.rows(tables.exception_item, tables.exception_item.c.kind == "instance-with-other-bytes")
    assert [(row.note, row.resolved_at) for row in listed] == [("1.2.3.4", None)]


def test_the_first_is_what_is_shown_and_counted(archive: Department) -> None:
    first = ct_image(SOPInstanceUID="1.2.3.4", StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.1")
    second = ct_image(
        SOPInstanceUID="1.2.3.4", StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.9", WindowCenter="40"
    )
    store(archive, first, second)
    with archive.store.read() as db:
        study = find_study(db, "1.2.3", EVERYTHING)
        assert study is not None
        (shown,) = find_instances(db, study.id)
    assert shown.digest == hashlib.sha256(dataset_bytes(first)).hexdigest()
    keys = Dataset()
    keys.QueryRetrieveLevel = "STUDY"
    keys.StudyInstanceUID = "1.2.3"
    keys.NumberOfStudyRelatedSeries = None
    keys.NumberOfStudyRelatedInstances = None
    (match,), _, _ = find(archive.port, STUDY_ROOT, keys)
    assert (match.NumberOfStudyRelatedSeries, match.NumberOfStudyRelatedInstances) == (1, 1)


def test_another_transfer_syntax_counts_as_other_bytes(archive: Department) -> None:
    image = ct_image(SOPInstanceUID="1.2.3.4")
    assert store(archive, image) == [0]
    implicit = ct_image(**{element.keyword: element.value for element in image if element.keyword})
    implicit.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    assert store(archive, implicit, syntax=ImplicitVRLittleEndian) == [0]
    rows = archive.rows(tables.instance)
    assert sorted((row.beside, row.transfer_syntax_uid) for row in rows) == [
        (False, ExplicitVRLittleEndian),
        (True, ImplicitVRLittleEndian),
    ]


def test_one_uid_under_another_patient_is_kept_beside_too(archive: Department) -> None:
    ours = ct_image(SOPInstanceUID="1.2.3.4", StudyInstanceUID="1.2.3", PatientID="P1")
    theirs = ct_image(SOPInstanceUID="1.2.3.4", StudyInstanceUID="1.2.3", PatientID="P2", PatientName="Roe^Richard")
    assert store(archive, ours, theirs) == [0, 0]
    assert sorted(row.patient_identifier for row in archive.rows(tables.study)) == ["P1", "P2"]
    with archive.store.read() as db:
        study = find_study(db, "1.2.3", EVERYTHING)
        assert study is not None
        (shown,) = find_instances(db, study.id)
    assert shown.digest == hashlib.sha256(dataset_bytes(ours)).hexdigest()
