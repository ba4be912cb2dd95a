"""An order cancelled before the exam leaves the worklist at once; one that has begun cannot be cancelled."""

from __future__ import annotations

import pytest

from fixtures.department import Department, Patient, accepted, eventually, fields, next_numbers

pytestmark = pytest.mark.xdist_group("department")


def test_a_cancelled_order_leaves_the_worklist(department: Department) -> None:
    patient = Patient(next_numbers(1)[0])
    department.register(patient)
    placed = department.place(patient)
    answer = department.control(placed, "CA")
    assert accepted(answer)
    assert fields(answer, "ORC")[0][1] == "CR"
    assert department.worklist_item(placed.accession) is None
    eventually(lambda: department.ehr.statuses(placed.placer) == ["SC", "CA"], "status SC, CA")
    (request,) = department.search("ServiceRequest", identifier=placed.placer)
    assert request["status"] == "revoked"


def test_an_exam_that_is_done_cannot_be_cancelled(department: Department) -> None:
    patient = Patient(next_numbers(1)[0])
    department.register(patient)
    placed = department.place(patient)
    department.perform(placed)
    answer = department.control(placed, "CA")
    assert fields(answer, "MSA")[0][1] == "AE"
    assert fields(answer, "ORC")[0][1] == "UC"
    assert fields(answer, "ERR")[0][2].startswith("ORC^1")
    (request,) = department.search("ServiceRequest", identifier=placed.placer)
    assert request["status"] in ("active", "completed")


def test_a_cancellation_of_an_unknown_order_says_so(department: Department) -> None:
    patient = Patient(next_numbers(1)[0])
    department.register(patient)
    answer = department.send(department.order_message(patient, "NOSUCHORDER", control="CA"))
    assert fields(answer, "MSA")[0][1] == "AE"
    assert fields(answer, "ERR")[0][3].startswith("204")


def test_images_of_a_cancelled_order_are_kept_and_listed(department: Department) -> None:
    patient = Patient(next_numbers(1)[0])
    department.register(patient)
    placed = department.place(patient)
    assert accepted(department.control(placed, "CA"))
    department.store(department.image(placed))
    (study,) = department.qido(StudyInstanceUID=placed.study_uid)
    assert study["00201208"]["Value"] == [1]
    (request,) = department.search("ServiceRequest", identifier=placed.placer)
    assert request["status"] == "revoked"
