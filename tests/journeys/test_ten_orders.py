"""Ten interleaved orders, two patients of one name among them: nothing is ever tied to the wrong one, at any door."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydicom.uid import generate_uid

from fixtures.department import Department, Patient, Placed, accepted, eventually, fields, next_numbers

pytestmark = pytest.mark.xdist_group("department")


def test_ten_interleaved_orders_are_never_crossed(department: Department) -> None:
    numbers = next_numbers(6)
    patients = [
        Patient(numbers[0], "Smith", "Mary", "19700101"),
        Patient(numbers[1], "Smith", "Mary", "19700101"),
        *(Patient(number, f"Name{number}", "Kim") for number in numbers[2:]),
    ]
    for patient in patients:
        department.register(patient)
    chance = random.Random(numbers[0])
    owners = [patients[0], patients[0], patients[1], patients[1], *patients[2:], *patients[2:4]]
    chance.shuffle(owners)
    orders = [department.place(owner) for owner in owners]
    chance.shuffle(orders)

    begun = [(placed, department.start_exam(department.worklist_item(placed.accession))[1]) for placed in orders]
    series = {placed.placer: generate_uid() for placed in orders}
    images = [department.image(p, n, series=series[p.placer]) for p in orders for n in (1, 2)]
    chance.shuffle(images)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda part: department.store(*part), [images[start::4] for start in range(4)]))
    chance.shuffle(begun)
    for placed, uid in begun:
        assert department.end_exam(uid, series=(series[placed.placer],)) == 0
    chance.shuffle(orders)
    for placed in orders:
        assert accepted(department.dictate(placed, "F", f"Finding of {placed.placer}."))

    for placed in orders:
        check_order(department, placed, series[placed.placer])


def check_order(department: Department, placed: Placed, series: str) -> None:
    (result,) = eventually(lambda: department.ehr.reports(placed.accession), f"result of {placed.placer}")
    assert f"Finding of {placed.placer}." in result.decode()
    assert placed.patient.number in fields(result, "PID")[0][3]
    assert fields(result, "OBR")[0][2].split("^")[0] == placed.placer

    (study,) = department.qido(AccessionNumber=placed.accession)
    assert study["00100020"]["Value"] == [placed.patient.number]
    (found,) = department.qido(f"/studies/{placed.study_uid}/series")
    assert found["0020000E"]["Value"] == [series]
    (dimse,) = department.find_studies(AccessionNumber=placed.accession)
    assert (dimse.PatientID, dimse.StudyInstanceUID) == (placed.patient.number, placed.study_uid)

    (request,) = department.search("ServiceRequest", identifier=placed.placer)
    (imaging,) = department.search("ImagingStudy", basedon=f"ServiceRequest/{request['id']}")
    (report,) = department.search("DiagnosticReport", **{"based-on": f"ServiceRequest/{request['id']}"})
    (person,) = department.search("Patient", identifier=placed.patient.number)
    assert {each["subject"]["reference"] for each in (request, imaging, report)} == {f"Patient/{person['id']}"}
    assert [each["uid"] for each in imaging["series"]] == [series]
