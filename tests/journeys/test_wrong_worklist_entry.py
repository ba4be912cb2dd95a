"""Discontinued as wrong worklist entry: the order is still to be done, and its images are kept from sight."""

from __future__ import annotations

import pytest
from pydicom.uid import generate_uid

from fixtures.department import Department, Patient, eventually, next_numbers

pytestmark = pytest.mark.xdist_group("department")


def test_a_wrong_worklist_entry_never_completes_the_order(department: Department) -> None:
    patient = Patient(next_numbers(1)[0])
    department.register(patient)
    placed = department.place(patient)
    item = department.worklist_item(placed.accession)
    status, uid = department.start_exam(item)
    assert status == 0
    assert department.worklist_item(placed.accession) is None
    series = generate_uid()
    department.store(department.image(placed, series=series))
    assert department.end_exam(uid, "DISCONTINUED", (series,), ("110514", "DCM")) == 0

    assert department.worklist_item(placed.accession) is not None, "the step is to be performed still"
    assert department.qido(StudyInstanceUID=placed.study_uid) == []
    assert department.qido(AccessionNumber=placed.accession) == []
    (request,) = department.search("ServiceRequest", identifier=placed.placer)
    assert request["status"] == "active"
    assert department.search("ImagingStudy", basedon=f"ServiceRequest/{request['id']}") == []
    eventually(lambda: department.ehr.statuses(placed.placer) == ["SC", "IP", "SC"], "back to scheduled")

    department.perform(placed)
    (study,) = department.qido(AccessionNumber=placed.accession)
    assert study["00201208"]["Value"] == [2], "only the images of the real exam are shown"
    eventually(lambda: department.ehr.statuses(placed.placer)[-2:] == ["IP", "CM"], "in the end completed")


def test_an_exam_that_ended_takes_no_more_changes(department: Department) -> None:
    patient = Patient(next_numbers(1)[0])
    department.register(patient)
    placed = department.place(patient)
    _, uid = department.start_exam(department.worklist_item(placed.accession))
    assert department.end_exam(uid) == 0
    assert department.end_exam(uid) == 0x0110
    assert department.end_exam(generate_uid()) == 0x0112
