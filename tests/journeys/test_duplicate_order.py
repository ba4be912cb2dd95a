"""The same order again makes no second one, under the same control ID or a new one."""

from __future__ import annotations

import pytest

from fixtures.department import Department, Patient, accepted, fields, next_numbers

pytestmark = pytest.mark.xdist_group("department")


def test_the_same_message_gets_the_same_answer_byte_for_byte(department: Department) -> None:
    patient = Patient(next_numbers(1)[0])
    department.register(patient)
    message = department.order_message(patient, f"PL{patient.number}")
    first, second = department.send(message), department.send(message)
    assert first == second
    assert accepted(first)
    assert len(department.search("ServiceRequest", identifier=f"PL{patient.number}")) == 1


def test_the_same_order_under_a_new_control_id_is_answered_with_the_standing_numbers(department: Department) -> None:
    patient = Patient(next_numbers(1)[0])
    department.register(patient)
    first = department.send(department.order_message(patient, f"PL{patient.number}"))
    second = department.send(department.order_message(patient, f"PL{patient.number}"))
    assert accepted(first)
    assert accepted(second)
    assert fields(first, "ORC")[0][3] == fields(second, "ORC")[0][3]
    assert len(department.search("ServiceRequest", identifier=f"PL{patient.number}")) == 1


def test_another_order_under_the_same_placer_number_is_refused(department: Department) -> None:
    numbers = next_numbers(2)
    patient, other = Patient(numbers[0]), Patient(numbers[1], "Other", "Otto")
    for person in (patient, other):
        department.register(person)
    placer = f"PL{patient.number}"
    assert accepted(department.send(department.order_message(patient, placer)))
    answer = department.send(department.order_message(other, placer))
    assert fields(answer, "MSA")[0][1] == "AE"
    assert fields(answer, "ERR")[0][3].startswith("205")
    (request,) = department.search("ServiceRequest", identifier=placer)
    (person,) = department.search("Patient", identifier=patient.number)
    assert request["subject"]["reference"] == f"Patient/{person['id']}"
