"""Images that come before their order are readable at once and tied to it when it comes."""

from __future__ import annotations

import pytest
from pydicom.uid import generate_uid

from fixtures.department import Department, Patient, Placed, accepted, fields, next_numbers

pytestmark = pytest.mark.xdist_group("department")


def omi(department: Department, patient: Patient, placed: Placed) -> bytes:
    return department.send(
        f"{department.header('OMI^O23^OMI_O23')}\r{patient.pid}\rPV1|1|O\r"
        f"ORC|NW|{placed.placer}^EPIC|F{placed.placer}^RIS\rTQ1|1||||||20261124080000||R\r"
        f"OBR|1|{placed.placer}^EPIC|F{placed.placer}^RIS|CTCHEST^CT Chest^L\r"
        f"IPC|{placed.accession}|{placed.accession}|{placed.study_uid}|S1|CT|CTCHEST^CT Chest^L\r"
    )


def test_images_wait_for_their_order(department: Department) -> None:
    patient = Patient(next_numbers(1)[0])
    department.register(patient)
    placed = Placed(patient, f"PL{patient.number}", f"X{patient.number}", generate_uid())
    department.store(department.image(placed))
    (study,) = department.qido(StudyInstanceUID=placed.study_uid)
    assert study["00201208"]["Value"] == [1], "readable before the order is here"
    assert accepted(omi(department, patient, placed))
    (request,) = department.search("ServiceRequest", identifier=placed.placer)
    (imaging,) = department.search("ImagingStudy", basedon=f"ServiceRequest/{request['id']}")
    assert f"urn:oid:{placed.study_uid}" in str(imaging["identifier"])
    links = department.trace(placed.accession)
    assert links[7]["at"] is not None
    assert links[6]["at"] is not None, "images alone prove the exam"


def test_images_of_another_patient_are_not_tied_to_a_later_order(department: Department) -> None:
    numbers = next_numbers(2)
    patient, other = Patient(numbers[0], "Right", "Rita"), Patient(numbers[1], "Wrong", "Wanda", "19551231")
    department.register(patient)
    department.register(other)
    placed = Placed(patient, f"PL{patient.number}", f"X{patient.number}", generate_uid())
    department.store(department.image(placed, patient=other))
    assert accepted(omi(department, patient, placed))
    (request,) = department.search("ServiceRequest", identifier=placed.placer)
    assert department.search("ImagingStudy", basedon=f"ServiceRequest/{request['id']}") == []
    assert department.qido(AccessionNumber=placed.accession) == []
    (study,) = department.qido(StudyInstanceUID=placed.study_uid)
    assert study["00100020"]["Value"] == [other.number]


def test_an_order_whose_images_came_first_is_answered_with_its_numbers(department: Department) -> None:
    patient = Patient(next_numbers(1)[0])
    placed = Placed(patient, f"PL{patient.number}", f"X{patient.number}", generate_uid())
    department.store(department.image(placed))
    answer = omi(department, patient, placed)
    assert fields(answer, "ORC")[0][1] == "OK"
