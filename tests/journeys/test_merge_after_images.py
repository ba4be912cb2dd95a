"""A40 after images: one person at every door, and the images as received underneath."""

from __future__ import annotations

import pytest

from fixtures.department import Department, Patient, accepted, eventually, fields, next_numbers

pytestmark = pytest.mark.xdist_group("department")


def test_a_merge_reaches_every_door(department: Department) -> None:
    numbers = next_numbers(2)
    gone, survivor = Patient(numbers[0], "Temp", "Unknown"), Patient(numbers[1], "Garcia", "Luz")
    department.register(gone)
    department.register(survivor)
    placed = department.place(gone)
    later = department.place(gone)
    department.perform(placed)
    assert accepted(department.merge(survivor, gone))

    (study,) = department.qido(AccessionNumber=placed.accession)
    assert study["00100020"]["Value"] == [survivor.number]
    assert study["00100010"]["Value"][0]["Alphabetic"] == "Garcia^Luz"
    assert [s["0020000D"]["Value"][0] for s in department.qido(PatientID=survivor.number)] == [placed.study_uid]
    (dimse,) = department.find_studies(AccessionNumber=placed.accession)
    assert dimse.PatientID == survivor.number
    item = department.worklist_item(later.accession)
    assert item is not None
    assert (item.PatientID, str(item.PatientName)) == (survivor.number, "Garcia^Luz")

    assert accepted(department.dictate(placed, "F", "Merged report."))
    (result,) = eventually(lambda: department.ehr.reports(placed.accession), "the result")
    assert survivor.number in fields(result, "PID")[0][3].split("~")[0]
    (person,) = department.search("Patient", identifier=survivor.number)
    (report,) = department.search("DiagnosticReport", identifier=placed.accession)
    assert report["subject"]["reference"] == f"Patient/{person['id']}"


def test_a_merge_into_itself_is_refused(department: Department) -> None:
    patient = Patient(next_numbers(1)[0])
    department.register(patient)
    answer = department.merge(patient, patient)
    assert fields(answer, "MSA")[0][1] == "AE"
    assert fields(answer, "ERR")[0][2].startswith("MRG^1^1")


def test_a_repeated_merge_is_accepted_and_changes_nothing(department: Department) -> None:
    numbers = next_numbers(2)
    gone, survivor = Patient(numbers[0], "Twice", "A"), Patient(numbers[1], "Twice", "B")
    department.register(gone)
    department.register(survivor)
    assert accepted(department.merge(survivor, gone))
    assert accepted(department.merge(survivor, gone))
    people = department.search("Patient", identifier=survivor.number)
    assert len(people) == 1


def test_images_that_still_name_the_old_number_find_the_survivors_order(department: Department) -> None:
    numbers = next_numbers(2)
    gone, survivor = Patient(numbers[0], "Old", "Olga"), Patient(numbers[1], "Old", "Olga")
    department.register(gone)
    department.register(survivor)
    placed = department.place(survivor)
    assert accepted(department.merge(survivor, gone))
    department.store(department.image(placed, patient=gone))
    (study,) = department.qido(AccessionNumber=placed.accession)
    assert study["00100020"]["Value"] == [survivor.number]
