"""The scan after the whole run finds a patient's number in a log, and nothing where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures import subjects
from fixtures.department import Patient


def test_a_number_in_a_log_is_found_and_a_part_of_another_word_is_not(tmp_path: Path) -> None:
    log = tmp_path / "test_x0" / "home" / "run" / "log" / "dicom.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text('{"event": "stored", "study": "N123456789"}\n')
    (log.parent / "http.jsonl").write_text('{"event": "N1234567890 is another"}\n')
    assert list(subjects.told(tmp_path, {b"N123456789"})) == [str(log)]
    assert list(subjects.told(tmp_path, {b"N999999999"})) == []


def test_patients_of_a_department_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = tmp_path / "notes"
    monkeypatch.setenv(subjects.NOTES, str(notes))
    Patient("N000000007")
    Patient("T7")
    assert notes.read_text().split() == ["N000000007"]
