"""A correction after the final report goes out as one, and the old version is kept but never sent over it."""

from __future__ import annotations

import pytest

from fixtures.department import Department, Patient, accepted, eventually, fields, next_numbers

pytestmark = pytest.mark.xdist_group("department")


def test_a_correction_follows_the_final_report(department: Department) -> None:
    patient = Patient(next_numbers(1)[0])
    department.register(patient)
    placed = department.place(patient)
    department.perform(placed)
    assert accepted(department.dictate(placed, "F", "Left lung clear."))
    eventually(lambda: len(department.ehr.reports(placed.accession)) == 1, "the final result")
    assert accepted(department.dictate(placed, "C", "Right lung clear."))
    results = eventually(
        lambda: (found := department.ehr.reports(placed.accession)) and len(found) == 2 and found, "the correction"
    )
    assert [fields(result, "OBR")[0][25] for result in results] == ["F", "C"]
    assert b"Right lung clear." in results[1]
    assert b"Left lung clear." not in results[1]
    (report,) = department.search("DiagnosticReport", identifier=placed.accession)
    assert report["status"] in ("corrected", "amended")


def test_a_preliminary_after_the_final_is_refused(department: Department) -> None:
    patient = Patient(next_numbers(1)[0])
    department.register(patient)
    placed = department.place(patient)
    department.perform(placed)
    assert accepted(department.dictate(placed, "F", "Final."))
    answer = department.dictate(placed, "P", "Late preliminary.")
    assert fields(answer, "MSA")[0][1] == "AE"
    assert fields(answer, "ERR")[0][2].startswith("OBR^1^25")
    (report,) = department.search("DiagnosticReport", identifier=placed.accession)
    assert report["status"] == "final"


def test_a_report_without_its_reader_is_refused(department: Department) -> None:
    patient = Patient(next_numbers(1)[0])
    department.register(patient)
    placed = department.place(patient)
    answer = department.dictate(placed, "F", "By nobody.", reader="")
    assert fields(answer, "MSA")[0][1] == "AE"
    assert fields(answer, "ERR")[0][2].startswith("OBR^1^32")
