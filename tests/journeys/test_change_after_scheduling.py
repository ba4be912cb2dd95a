"""XO after scheduling: the worklist shows the change, and an exam that is done cannot be changed."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from fixtures.department import Department, Patient, accepted, fields, next_numbers

pytestmark = pytest.mark.xdist_group("department")


def test_a_changed_order_shows_on_the_worklist(department: Department) -> None:
    patient = Patient(next_numbers(1)[0])
    department.register(patient)
    placed = department.place(patient)
    tomorrow = datetime.now() + timedelta(days=1)
    answer = department.control(placed, "XO", procedure="CTABD^CT Abdomen^L", at=tomorrow)
    assert accepted(answer)
    assert fields(answer, "ORC")[0][1] == "XR"
    item = department.worklist_item(placed.accession)
    assert item is not None
    assert item.RequestedProcedureDescription == "CT Abdomen"
    assert item.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartDate == tomorrow.strftime("%Y%m%d")
    assert item.StudyInstanceUID == placed.study_uid


def test_a_done_exam_cannot_be_changed(department: Department) -> None:
    patient = Patient(next_numbers(1)[0])
    department.register(patient)
    placed = department.place(patient)
    department.perform(placed)
    answer = department.control(placed, "XO", procedure="CTABD^CT Abdomen^L")
    assert fields(answer, "MSA")[0][1] == "AE"
    assert fields(answer, "ORC")[0][1] == "UX"


def test_a_discontinued_order_leaves_the_worklist(department: Department) -> None:
    patient = Patient(next_numbers(1)[0])
    department.register(patient)
    placed = department.place(patient)
    answer = department.control(placed, "DC")
    assert accepted(answer)
    assert fields(answer, "ORC")[0][1] == "DR"
    assert department.worklist_item(placed.accession) is None
