"""C-FIND on images matches and answers the truth of patient and order, and finds nothing withheld (PS3.4 C.4.1)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from dicom_door import SETTINGS, Department, department, find, found_by_findscu, order
from pydicom.dataset import Dataset
from pynetdicom import AE

from fixtures.dicom_files import CT_IMAGE_STORAGE, ct_image
from fixtures.stores import HL7_PEER
from hilum.core.patient import PatientIdentifier, PersonName
from hilum.storage import tables
from hilum.workflow.registration import (
    DemographicsSaid,
    MergePatients,
    RegisterPatient,
    merge_patients,
    register_patient,
)
from hilum.workflow.source import Source

STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2.1"
PATIENT_ROOT = "1.2.840.10008.5.1.4.1.2.1.1"
ADT = Source("HL7 ADT^A08", "EPIC|GENHOSP")
STUDY_KEYS = """
StudyInstanceUID StudyDate StudyTime AccessionNumber PatientName PatientID IssuerOfPatientID PatientBirthDate PatientSex
StudyID StudyDescription ReferringPhysicianName ModalitiesInStudy NumberOfStudyRelatedSeries
NumberOfStudyRelatedInstances InstanceAvailability
""".split()


def store(opened: Department, *images: Dataset) -> None:
    requestor = AE(ae_title="CT01")
    requestor.add_requested_context(CT_IMAGE_STORAGE)
    association = requestor.associate("127.0.0.1", opened.port, ae_title="HILUM")
    assert [association.send_c_store(image).Status for image in images] == [0] * len(images)
    association.release()


def study(uid: str, *, series: int = 1, images: int = 1, **attributes: Any) -> list[Dataset]:
    return [
        ct_image(
            StudyInstanceUID=uid,
            SeriesInstanceUID=f"{uid}.{s}",
            SOPInstanceUID=f"{uid}.{s}.{i}",
            SeriesNumber=s,
            InstanceNumber=i,
            **attributes,
        )
        for s in range(1, series + 1)
        for i in range(1, images + 1)
    ]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Department]:
    """A verified study of an order, an unverified one, and an MR of somebody unknown."""
    with department(tmp_path_factory.mktemp("archive")) as opened:
        placed = order(opened.store, "1", patient="P1", family="Müller", given="Jürgen")
        # The images name the patient as the scanner did: misspelt, and with a number of the scanner's.
        store(
            opened,
            *study(
                placed.study_instance_uid, series=2, images=3, PatientID="P1", PatientName="MUELLER^J",
                PatientBirthDate="19800102", AccessionNumber=placed.accession_number, StudyDate="20260102",
                StudyTime="101500",
            ),
        )  # fmt: skip
        store(
            opened,
            *study("1.2.30", PatientID="X7", PatientName="Roe^Richard", PatientSex="M", AccessionNumber="OTHER7",
                   StudyDate="20250630", StudyTime="235900.120", StudyDescription="CT Schädel", Modality="CT"),
            *study("1.2.31", PatientID="X8", PatientName="Yamada^Tarou=山田^太郎", StudyDate="20240101",
                   StudyTime="0800", StudyDescription="MR Knie", Modality="MR", ReferringPhysicianName="Kildare^James"),
        )  # fmt: skip
        yield opened


def keys(level: str = "STUDY", **values: Any) -> Dataset:
    asked = Dataset()
    asked.SpecificCharacterSet = "ISO_IR 192"
    asked.QueryRetrieveLevel = level
    for keyword in STUDY_KEYS:
        setattr(asked, keyword, None)
    for keyword, value in values.items():
        setattr(asked, keyword, value)
    return asked


def names(archive: Department, **values: Any) -> set[str]:
    matches, final, _ = find(archive.port, STUDY_ROOT, keys(**values))
    assert final.Status == 0, final
    return {str(match.PatientName).partition("^")[0] for match in matches}


EVERYONE = {"Müller", "Roe", "Yamada"}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, EVERYONE),
        ({"PatientName": "mull*"}, {"Müller"}),
        ({"PatientName": "MÜLLER^J?RGEN"}, {"Müller"}),
        # What the scanner wrote is not what is true.
        ({"PatientName": "MUELLER*"}, set()),
        ({"PatientName": "山田*"}, set()),
        ({"PatientName": "*山田*"}, {"Yamada"}),
        ({"PatientID": "P1"}, {"Müller"}),
        ({"PatientID": "X*"}, {"Roe", "Yamada"}),
        ({"PatientBirthDate": "19800102"}, EVERYONE),
        ({"PatientSex": "M"}, {"Roe"}),
        ({"StudyDate": "20250630"}, {"Roe"}),
        ({"StudyDate": "20250101-20261231"}, {"Roe", "Müller"}),
        ({"StudyDate": "-20241231"}, {"Yamada"}),
        ({"StudyDate": "20260102-"}, {"Müller"}),
        ({"StudyTime": "1000-1100"}, {"Müller"}),
        ({"StudyTime": "2359"}, {"Roe"}),
        ({"StudyTime": "-0800"}, {"Yamada"}),
        ({"AccessionNumber": "OTHER7"}, {"Roe"}),
        ({"AccessionNumber": "other7"}, set()),
        ({"StudyDescription": "*schadel"}, {"Roe"}),
        ({"StudyDescription": "MR KNIE"}, {"Yamada"}),
        ({"ReferringPhysicianName": "kild*"}, {"Yamada"}),
        ({"ModalitiesInStudy": "MR"}, {"Yamada"}),
        ({"StudyInstanceUID": ["1.2.30", "1.2.31", "9.9.9"]}, {"Roe", "Yamada"}),
        ({"StudyInstanceUID": "9.9.9"}, set()),
    ],
)  # fmt: skip
def test_keys_of_the_study_level_match(archive: Department, values: dict[str, Any], expected: set[str]) -> None:
    assert names(archive, **values) == expected


def test_the_answer_is_the_truth_of_patient_and_order_with_counts(archive: Department) -> None:
    (match,), _, pending = find(archive.port, STUDY_ROOT, keys(PatientID="P1"))
    (placed,) = archive.rows(tables.imaging_order)
    assert pending == [0xFF00]
    assert str(match.PatientName) == "Müller^Jürgen"
    assert (match.PatientID, match.IssuerOfPatientID) == ("P1", "GENHOSP")
    assert (match.PatientBirthDate, match.AccessionNumber) == ("19800102", placed.accession_number)
    assert (match.NumberOfStudyRelatedSeries, match.NumberOfStudyRelatedInstances) == (2, 6)
    assert match.ModalitiesInStudy == "CT"
    assert match.StudyInstanceUID == placed.study_instance_uid
    assert (match.QueryRetrieveLevel, match.RetrieveAETitle) == ("STUDY", "HILUM")
    assert match.InstanceAvailability == "ONLINE"


def test_series_and_images_are_found_below_their_study(archive: Department) -> None:
    (placed,) = archive.rows(tables.imaging_order)
    asked = keys("SERIES", StudyInstanceUID=placed.study_instance_uid)
    asked.SeriesInstanceUID = asked.Modality = asked.SeriesNumber = asked.NumberOfSeriesRelatedInstances = None
    series, _, _ = find(archive.port, STUDY_ROOT, asked)
    assert [(each.SeriesNumber, each.Modality, each.NumberOfSeriesRelatedInstances) for each in series] == [
        (1, "CT", 3), (2, "CT", 3)
    ]  # fmt: skip
    assert {str(each.PatientName) for each in series} == {"Müller^Jürgen"}
    asked = keys("IMAGE", StudyInstanceUID=placed.study_instance_uid)
    asked.SeriesInstanceUID = series[1].SeriesInstanceUID
    asked.SOPInstanceUID = asked.SOPClassUID = asked.InstanceNumber = asked.Rows = asked.NumberOfFrames = None
    images, _, _ = find(archive.port, STUDY_ROOT, asked)
    assert [(each.InstanceNumber, each.Rows, each.SOPClassUID) for each in images] == [
        (number, 8, CT_IMAGE_STORAGE) for number in (1, 2, 3)
    ]
    assert {str(each.PatientName) for each in images} == {"Müller^Jürgen"}
    assert images[0].NumberOfStudyRelatedInstances == 6
    asked.InstanceNumber = 2
    assert len(find(archive.port, STUDY_ROOT, asked)[0]) == 1


def test_patients_are_found_once_each_in_patient_root(archive: Department) -> None:
    asked = Dataset()
    asked.QueryRetrieveLevel = "PATIENT"
    asked.PatientName = asked.PatientID = asked.PatientBirthDate = None
    patients, final, _ = find(archive.port, PATIENT_ROOT, asked)
    assert final.Status == 0
    assert sorted(each.PatientID for each in patients) == ["P1", "X7", "X8"]
    by_patient = keys(PatientID="P1")
    assert len(find(archive.port, PATIENT_ROOT, by_patient)[0]) == 1


@pytest.mark.parametrize(
    ("level", "values", "offending"),
    [
        (None, {}, 0x00080052),
        ("FRAME", {}, 0x00080052),
        ("PATIENT", {}, 0x00080052),
        ("SERIES", {}, 0x0020000D),
        ("IMAGE", {"StudyInstanceUID": "1.2.30"}, 0x0020000E),
        ("STUDY", {"StudyDate": "2026-01-02"}, 0x00080020),
        ("STUDY", {"StudyTime": "25"}, 0x00080030),
    ],
)
def test_what_does_not_fit_the_model_is_refused_by_name(
    archive: Department, level: str | None, values: dict[str, Any], offending: int
) -> None:
    asked = keys(level or "STUDY", **values)
    if level is None:
        del asked.QueryRetrieveLevel
    matches, final, _ = find(archive.port, STUDY_ROOT, asked)
    assert matches == []
    assert (final.Status, final.OffendingElement) == (0xA900, offending)


def test_an_identifier_that_cannot_be_read_is_refused(archive: Department) -> None:
    from dicom_wire import STUDY_FIND, BarePeer, find_request, request_for

    with BarePeer(archive.door.server) as peer:
        peer.associate(request_for((1, STUDY_FIND, ("1.2.840.10008.1.2.1",))))
        peer.send(1, find_request(), b"\x08\x00\x52\x00CS\xff\x7f")
        answer, _ = peer.answer()
        assert answer.status == 0xA900
        assert answer.error_comment
        peer.send(1, find_request(2), b"\x08\x00\x52\x00CS\x06\x00STUDY ")
        assert peer.answer()[0].status == 0xFF00


def test_dcmtk_and_an_unknown_key_are_understood(archive: Department, tmp_path: Path) -> None:
    answers = found_by_findscu(
        archive.port, tmp_path, "-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientName=ROE*",
        "-k", "StudyInstanceUID", "-k", "PatientReligiousPreference",
    )  # fmt: skip
    assert [answer.StudyInstanceUID for answer in answers] == ["1.2.30"]
    asked = keys(PatientID="X7")
    asked.PatientReligiousPreference = None
    assert find(archive.port, STUDY_ROOT, asked)[2] == [0xFF01]


def test_who_asks_is_audited(archive: Department) -> None:
    find(archive.port, STUDY_ROOT, keys(), ae="VIEWER7")
    rows = archive.rows(tables.audit_event, tables.audit_event.c.actor == "VIEWER7")
    assert [(row.action, row.door, row.outcome) for row in rows] == [("read-images", "dimse", "allowed")]


# What must not be found ----------------------------------------------------------------------------------------------


def test_a_corrected_name_and_a_merge_are_answered_at_once(tmp_path: Path) -> None:
    with department(tmp_path) as opened:
        placed = order(opened.store, "1", patient="OLD", family="Doe", given="Jane")
        store(opened, *study(placed.study_instance_uid, PatientID="OLD", AccessionNumber=placed.accession_number))
        assert names(opened, PatientName="Doe*") == {"Doe"}
        said = DemographicsSaid(PersonName("Smith", "Jane"), date(1980, 1, 2), sex="F")
        opened.store.run(
            register_patient, RegisterPatient((PatientIdentifier("OLD", "GENHOSP"),), said, None, ADT), HL7_PEER
        )
        assert names(opened, PatientName="Doe*") == set()
        assert names(opened, PatientName="Smith*") == {"Smith"}
        opened.store.run(
            register_patient, RegisterPatient((PatientIdentifier("NEW", "GENHOSP"),), said, None, ADT), HL7_PEER
        )
        merge = MergePatients(
            (PatientIdentifier("NEW", "GENHOSP"),),
            (PatientIdentifier("OLD", "GENHOSP"),),
            DemographicsSaid(),
            None,
            ADT,
        )
        opened.store.run(merge_patients, merge, HL7_PEER)
        for identifier in ("OLD", "NEW"):
            (match,), _, _ = find(opened.port, STUDY_ROOT, keys(PatientID=identifier))
            assert match.PatientID == "NEW"


def test_images_of_another_patient_are_not_found_by_the_accession_they_name(tmp_path: Path) -> None:
    with department(tmp_path) as opened:
        placed = order(opened.store, "1", patient="P1")
        order(opened.store, "2", patient="P2", family="Roe", given="Richard", born=date(1950, 5, 5))
        store(
            opened,
            *study("1.2.9", PatientID="P2", PatientName="Roe^Richard", AccessionNumber=placed.accession_number),
        )
        (row,) = opened.rows(tables.study)
        assert row.match_state == "conflict"
        assert names(opened, AccessionNumber=placed.accession_number) == set()
        (match,), _, _ = find(opened.port, STUDY_ROOT, keys(StudyInstanceUID="1.2.9"))
        assert match.AccessionNumber == ""


def test_of_two_patients_under_one_study_uid_the_verified_one_is_answered(tmp_path: Path) -> None:
    with department(tmp_path) as opened:
        placed = order(opened.store, "1", patient="P1")
        uid = placed.study_instance_uid
        store(opened, *study(uid, PatientID="P2", PatientName="Roe^Richard", PatientBirthDate="19500505"))
        ours = study(uid, PatientID="P1", AccessionNumber=placed.accession_number)
        for image in ours:
            image.SOPInstanceUID += ".7"
            image.SeriesInstanceUID += ".7"
        store(opened, *ours)
        assert len(opened.rows(tables.study)) == 2
        (match,), _, _ = find(opened.port, STUDY_ROOT, keys(StudyInstanceUID=uid))
        assert str(match.PatientName) == "Doe^Jane"


def test_withheld_series_and_studies_are_not_found(tmp_path: Path) -> None:
    def withhold(uow: Any, series_ids: list[str], actor: Any) -> None:
        uow.studies.withhold_series(series_ids, True)

    with department(tmp_path) as opened:
        store(opened, *study("1.2.5", series=2, images=2))
        first, second = opened.rows(tables.series)
        opened.store.run(withhold, [first.id], HL7_PEER)
        (match,), _, _ = find(opened.port, STUDY_ROOT, keys())
        assert (match.NumberOfStudyRelatedSeries, match.NumberOfStudyRelatedInstances) == (1, 2)
        opened.store.run(withhold, [second.id], HL7_PEER)
        assert find(opened.port, STUDY_ROOT, keys())[0] == []


def test_a_peer_gets_its_character_set(tmp_path: Path) -> None:
    setting = "[[dicom.peer]]\nae_title = 'CT01'\ncharset = 'ISO_IR 100'\n"
    with department(tmp_path, SETTINGS + setting) as opened:
        store(opened, *study("1.2.5", PatientName="Müller^Jürgen"))
        (match,), _, _ = find(opened.port, STUDY_ROOT, keys())
        assert (match.SpecificCharacterSet, str(match.PatientName)) == ("ISO_IR 100", "Müller^Jürgen")


def test_more_studies_than_a_page_are_answered_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hilum.dicom.dimse.query.PAGE", 7)
    with department(tmp_path) as opened:
        store(opened, *(image for number in range(30) for image in study(f"1.2.{number + 100}")))
        matches, final, _ = find(opened.port, STUDY_ROOT, keys())
        assert final.Status == 0
        assert len(matches) == len({match.StudyInstanceUID for match in matches}) == 30


def test_a_query_that_matches_too_much_says_so(tmp_path: Path) -> None:
    with department(tmp_path, SETTINGS.replace("[facility]", "max_matches = 3\n[facility]")) as opened:
        store(opened, *(image for number in range(5) for image in study(f"1.2.{number + 100}")))
        matches, final, _ = find(opened.port, STUDY_ROOT, keys())
        assert len(matches) == 3
        assert final.Status == 0xA700
