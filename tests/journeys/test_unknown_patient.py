"""An order for a person nobody knows registers them; images of nobody known are readable and on the list."""

from __future__ import annotations

import pytest
from pydicom.uid import generate_uid

from fixtures.department import Department, Patient, Placed, accepted, next_numbers

pytestmark = pytest.mark.xdist_group("department")


def test_an_order_registers_its_unknown_patient(department: Department) -> None:
    patient = Patient(next_numbers(1)[0], "Unseen", "Una")
    placed = department.place(patient)
    (person,) = department.search("Patient", identifier=patient.number)
    assert person["name"][0]["family"] == "Unseen"
    assert department.trace(placed.accession)[1]["at"] is not None


def test_images_of_an_unknown_patient_are_readable_and_listed(department: Department) -> None:
    stray = Placed(Patient(next_numbers(1)[0], "Stray", "Sam"), "", "", generate_uid())
    department.store(department.image(stray))
    (study,) = department.qido(PatientID=stray.patient.number)
    assert study["0020000D"]["Value"] == [stray.study_uid]
    assert department.search("ImagingStudy", identifier=f"urn:oid:{stray.study_uid}") == []
    department.add_user(f"tech-{stray.patient.number}", "technologist")
    page = department.get("/exceptions", f"tech-{stray.patient.number}")
    assert stray.patient.number in page.text


def test_an_order_under_anothers_number_is_refused(department: Department) -> None:
    (number,) = next_numbers(1)
    department.register(Patient(number, "First", "Fay", "19600101"))
    answer = department.send(department.order_message(Patient(number, "Second", "Sue", "19991231"), f"PL{number}"))
    assert not accepted(answer)
    assert department.search("ServiceRequest", identifier=f"PL{number}") == []
