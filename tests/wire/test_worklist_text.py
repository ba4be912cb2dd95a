"""Names in every script reach the modality in the character set it wants, and are found however they are typed."""

from __future__ import annotations

from pathlib import Path

import pytest
from dicom_door import SETTINGS, department, find, found_by_findscu, order
from pydicom.dataset import Dataset

from hilum.dicom.character_sets import can_encode, encode_text

WORKLIST = "1.2.840.10008.5.1.4.31"
JAPANESE = "ISO 2022 IR 6\\ISO 2022 IR 87"


def asking(name: str = "", charset: str | None = None) -> Dataset:
    keys = Dataset()
    if charset is not None:
        keys.SpecificCharacterSet = charset.split("\\")
    keys.PatientName = name
    keys.RequestedProcedureDescription = ""
    keys.ScheduledProcedureStepSequence = [Dataset()]
    keys.ScheduledProcedureStepSequence[0].Modality = ""
    return keys


def peer(charset: str) -> str:
    return SETTINGS + f"[[dicom.peer]]\nae_title = 'CT01'\ncharset = '{charset}'\n"


@pytest.mark.parametrize("family", ["Müller", "山田", "Ковалёв", "Ωμέγα", "Łoś"])
def test_without_a_setting_names_come_in_utf_8(tmp_path: Path, family: str) -> None:
    with department(tmp_path) as opened:
        order(opened.store, "1", family=family, given="A")
        (match,), _, _ = find(opened.port, WORKLIST, asking())
        assert match.SpecificCharacterSet == "ISO_IR 192"
        assert str(match.PatientName) == f"{family}^A"


def test_the_character_set_of_the_request_is_used_where_it_can_hold_the_answer(tmp_path: Path) -> None:
    with department(tmp_path) as opened:
        order(opened.store, "1", patient="P1", family="Müller", given="Jürgen")
        order(opened.store, "2", patient="P2", family="Łoś", given="Anna")
        matches, _, _ = find(opened.port, WORKLIST, asking("", "ISO_IR 100"))
        sets = {str(match.PatientName): match.SpecificCharacterSet for match in matches}
        assert sets == {"Müller^Jürgen": "ISO_IR 100", "Łoś^Anna": "ISO_IR 192"}


@pytest.mark.parametrize(
    ("charset", "family"),
    [("ISO_IR 100", "Müller"), ("ISO_IR 101", "Łoś"), ("ISO_IR 144", "Ковалёв"), (JAPANESE, "山田"), ("GB18030", "王")],
)
def test_a_peer_gets_the_character_set_of_its_setting(tmp_path: Path, charset: str, family: str) -> None:
    with department(tmp_path, peer(charset)) as opened:
        order(opened.store, "1", family=family, given="A")
        (match,), _, _ = find(opened.port, WORKLIST, asking())
        assert "\\".join(match.data_element("SpecificCharacterSet").value if "\\" in charset else [charset]) == charset
        assert str(match.PatientName) == f"{family}^A"


def test_a_letter_that_the_peers_set_lacks_loses_its_accent_or_becomes_a_question_mark(tmp_path: Path) -> None:
    with department(tmp_path, peer("ISO_IR 6")) as opened:
        order(opened.store, "1", patient="P1", family="Müller", given="Zoë")
        order(opened.store, "2", patient="P2", family="山田", given="T")
        matches, _, _ = find(opened.port, WORKLIST, asking())
        assert sorted(str(match.PatientName) for match in matches) == ["??^T", "Muller^Zoe"]


@pytest.mark.parametrize(
    ("name", "charset"),
    [("MÜLLER*", "ISO_IR 100"), ("müller*", "ISO_IR 192"), ("muller*", None), ("M?ller^*", "ISO_IR 192")],
)
def test_a_name_is_found_in_whichever_set_it_is_asked_for(tmp_path: Path, name: str, charset: str | None) -> None:
    with department(tmp_path) as opened:
        order(opened.store, "1", family="Müller", given="Jürgen")
        order(opened.store, "2", patient="P2", family="Meyer", given="J")
        matches, _, _ = find(opened.port, WORKLIST, asking(name, charset))
        assert [str(match.PatientName) for match in matches] == ["Müller^Jürgen"]


def test_a_japanese_name_is_found_in_iso_2022(tmp_path: Path) -> None:
    with department(tmp_path) as opened:
        order(opened.store, "1", family="山田", given="太郎")
        order(opened.store, "2", patient="P2", family="田中", given="太郎")
        matches, _, _ = find(opened.port, WORKLIST, asking("山田*", JAPANESE))
        assert [str(match.PatientName) for match in matches] == ["山田^太郎"]


def test_dcmtk_reads_what_it_gets(tmp_path: Path) -> None:
    with department(tmp_path, peer("ISO_IR 100")) as opened:
        order(opened.store, "1", family="Müller", given="Jürgen")
        (answer,) = found_by_findscu(opened.port, tmp_path / "out", "-W", "-k", "PatientName=MULL*")
        assert str(answer.PatientName) == "Müller^Jürgen"
        assert answer.SpecificCharacterSet == "ISO_IR 100"


@pytest.mark.parametrize(
    ("text", "charset", "raw"),
    [
        ("Doe^Jane", "ISO_IR 192", b"Doe^Jane"),
        ("Müller", "ISO_IR 100", b"M\xfcller"),
        ("Müller", "", b"Muller"),
        ("Yamada^Tarou=山田^太郎", JAPANESE, b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
    ],
)
def test_text_is_encoded_by_the_rules_of_its_set(text: str, charset: str, raw: bytes) -> None:
    assert encode_text(text, charset) == raw


def test_an_unknown_set_can_encode_nothing_and_falls_back_to_utf_8() -> None:
    assert not can_encode("abc", "ISO_IR 9999")
    assert encode_text("Müller", "ISO_IR 9999") == "Müller".encode()
