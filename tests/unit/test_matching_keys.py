"""Matching by PS3.4 C.2.2.2 and the encoding of answers, without a socket."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilum.core.errors import InvalidInput
from hilum.dicom.encode import encode
from hilum.dicom.identifier import Keys, asked_of, lacks
from hilum.dicom.matching import Span, date_of, matches, moments, span_of, time_of

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"


def keys(**values: Any) -> Keys:
    """Keys given by keyword, a sequence as a list of such."""
    dataset = pydicom.Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, [dataset_of(each) for each in value] if isinstance(value, list) else value)
    return Keys(dataset.to_json_dict())


def dataset_of(values: dict[str, Any]) -> pydicom.Dataset:
    dataset = pydicom.Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("Doe^J*", "DOE^JANE", True),
        ("Doe", "Doe^Jane", True),
        ("Doe^^A", "Doe^Jane^A", True),
        ("Doe^^B", "Doe^Jane^A", False),
        ("Do", "Doe^Jane", False),
        ("山田*", "Yamada^Tarou=山田^太郎", True),
        ("[a-z]*", "Doe", False),
    ],
)
def test_a_name_matches_by_component_and_wildcard(pattern: str, value: str, expected: bool) -> None:
    assert matches(keys(PatientName=pattern), {"PatientName": value}) is expected


def test_identifiers_are_matched_letter_by_letter_and_descriptions_are_not() -> None:
    assert not matches(keys(AccessionNumber="a1"), {"AccessionNumber": "A1"})
    assert matches(keys(AccessionNumber="A?"), {"AccessionNumber": "A1"})
    assert matches(keys(StudyDescription="ct schadel"), {"StudyDescription": "CT Schädel"})


def test_a_sequence_matches_when_one_item_has_all_that_is_asked() -> None:
    asked = keys(RequestedProcedureCodeSequence=[{"CodeValue": "A", "CodingSchemeDesignator": "L"}])
    held = [{"CodeValue": "A", "CodingSchemeDesignator": "X"}, {"CodeValue": "B", "CodingSchemeDesignator": "L"}]
    assert not matches(asked, {"RequestedProcedureCodeSequence": held})
    assert matches(
        asked, {"RequestedProcedureCodeSequence": [*held, {"CodeValue": "A", "CodingSchemeDesignator": "L"}]}
    )
    assert matches(keys(RequestedProcedureCodeSequence=[]), {"RequestedProcedureCodeSequence": []})
    with pytest.raises(InvalidInput):
        matches(keys(RequestedProcedureCodeSequence=[{"CodeValue": "A"}, {}]), {"RequestedProcedureCodeSequence": held})


def test_an_unknown_key_matches_everything() -> None:
    assert matches(keys(PatientReligiousPreference="x"), {"PatientName": "Doe"})


def test_a_hostile_pattern_takes_no_time() -> None:
    began = time.process_time()
    assert not matches(keys(StudyDescription="*a" * 12 + "b"), {"StudyDescription": "a" * 10_000})
    assert matches(keys(StudyDescription="a" + "*" * 60), {"StudyDescription": "a" * 64})
    assert time.process_time() - began < 2
    for hostile in ("*a" * 30, "a" * 2000):
        with pytest.raises(InvalidInput):
            matches(Keys({"00081030": {"vr": "LO", "Value": [hostile]}}), {"StudyDescription": "a"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20260101", Span("20260101", "20260101")),
        ("20260101-", Span("20260101", None)),
        ("-20260101", Span(None, "20260101")),
        ("20260101 - 20260201", Span("20260101", "20260201")),
    ],
)
def test_a_range_has_two_ends_of_which_either_may_be_open(text: str, expected: Span) -> None:
    assert span_of(text) == expected


def test_a_time_that_leaves_out_its_end_covers_all_of_it() -> None:
    assert time_of("10", "StudyTime").isoformat() == "10:00:00"
    assert time_of("10", "StudyTime", latest=True).isoformat() == "10:59:59.999999"
    assert time_of("101500.5", "StudyTime", latest=True).isoformat() == "10:15:00.599999"
    assert time_of("235960", "StudyTime").isoformat() == "23:59:59"


@pytest.mark.parametrize("text", ["", "2026", "20261301", "2026-01-01", "abcdefgh", "20260101" * 9])
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        date_of(text, "StudyDate")
    assert refused.value.field == "StudyDate"


def test_date_and_time_together_are_one_span() -> None:
    first, last = moments(Span("20260705", "20260707"), Span("1000", "1800"), "StudyDate", "StudyTime")
    assert first == datetime(2026, 7, 5, 10)
    assert last == datetime(2026, 7, 7, 18, 0, 59, 999999)


def test_only_what_was_asked_for_is_answered_and_what_is_lacking_is_told() -> None:
    values = {
        "PatientID": "1",
        "PatientName": "Doe",
        "RequestedProcedureCodeSequence": [{"CodeValue": "A", "CodeMeaning": "m"}],
    }
    asked = keys(PatientID="", RequestedProcedureCodeSequence=[{"CodeValue": ""}])
    assert asked_of(asked, values) == {"PatientID": "1", "RequestedProcedureCodeSequence": [{"CodeValue": "A"}]}
    assert not lacks(asked, values)
    assert lacks(keys(PatientWeight=None), values)


TEXT = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S"), exclude_characters="\\=^"), max_size=30)


@given(name=TEXT, description=TEXT, explicit=st.booleans(), count=st.integers(0, 3), number=st.integers(0, 999_999))
def test_pydicom_reads_what_is_encoded(name: str, description: str, explicit: bool, count: int, number: int) -> None:
    values = {
        "SpecificCharacterSet": "ISO_IR 192",
        "PatientName": name,
        "StudyDescription": description,
        "StudyInstanceUID": "1.2.3",
        "NumberOfStudyRelatedInstances": number,
        "RequestedProcedureCodeSequence": [{"CodeValue": "A", "CodeMeaning": description}] * count,
        "ModalitiesInStudy": ["CT", "MR"],
        "PregnancyStatus": 4,
    }
    raw = encode(values, EXPLICIT if explicit else IMPLICIT, "ISO_IR 192")
    read = _read(raw, explicit)
    assert str(read.PatientName) == name
    assert read.StudyDescription == description
    assert read.NumberOfStudyRelatedInstances == number
    assert [item.CodeMeaning for item in read.RequestedProcedureCodeSequence] == [description] * count
    assert list(read.ModalitiesInStudy) == ["CT", "MR"]
    assert (read.StudyInstanceUID, read.PregnancyStatus) == ("1.2.3", 4)
    assert len(raw) % 2 == 0


def _read(raw: bytes, explicit: bool) -> pydicom.Dataset:
    return pydicom.filereader.read_dataset(pydicom.filebase.DicomBytesIO(raw), not explicit, True)


def test_what_would_break_an_element_is_taken_out_of_a_value() -> None:
    raw = encode({"PatientName": "Doe\\Roe\x1b$B\n"}, EXPLICIT, "ISO_IR 192")
    assert str(_read(raw, True).PatientName) == "Doe/Roe $B"
