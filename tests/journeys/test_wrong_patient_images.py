"""Images of the wrong patient under an order's numbers never become that order's images, and a person is told."""

from __future__ import annotations

import pytest

from fixtures.department import Department, Patient, eventually, next_numbers

pytestmark = pytest.mark.xdist_group("department")


def test_images_of_another_patient_do_not_enter_the_orders_study(department: Department) -> None:
    numbers = next_numbers(2)
    patient, other = Patient(numbers[0], "Right", "Rita"), Patient(numbers[1], "Wrong", "Wanda", "19551231")
    department.register(patient)
    department.register(other)
    placed = department.place(patient)
    right = department.image(placed)
    department.store(right, department.image(placed, 2, patient=other))

    (study,) = department.qido(AccessionNumber=placed.accession)
    assert study["00100020"]["Value"] == [patient.number]
    assert study["00201208"]["Value"] == [1]
    instances = department.qido(f"/studies/{placed.study_uid}/instances")
    assert [each["00080018"]["Value"][0] for each in instances] == [right.SOPInstanceUID]
    (request,) = department.search("ServiceRequest", identifier=placed.placer)
    (imaging,) = department.search("ImagingStudy", basedon=f"ServiceRequest/{request['id']}")
    assert imaging["numberOfInstances"] == 1
    # Listing them under the other patient would open the right patient's images: both have one Study Instance UID.
    assert department.qido(PatientID=other.number) == []

    department.add_user(f"tech-{patient.number}", "technologist")
    page = eventually(lambda: department.get("/exceptions", f"tech-{patient.number}"), "the exceptions page")
    assert other.number in page.text


def test_a_report_under_another_patient_is_refused(department: Department) -> None:
    numbers = next_numbers(2)
    patient, other = Patient(numbers[0], "Right", "Rita"), Patient(numbers[1], "Wrong", "Wanda", "19551231")
    department.register(patient)
    department.register(other)
    placed = department.place(patient)
    department.perform(placed)
    answer = department.dictate(placed, "F", "Signed on the wrong patient.", patient=other)
    assert b"MSA|AE" in answer
    assert b"PID" in answer
    assert department.search("DiagnosticReport", identifier=placed.accession) == []
