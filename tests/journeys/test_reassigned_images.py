"""Merge, unmerge, a study moved to another patient and back: within a second the same at every door, bytes included."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import time
from html import unescape
from pathlib import Path

import pydicom
import pytest
import requests
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from fixtures.department import Department, Patient, Placed, accepted, fields, next_numbers
from fixtures.dicom_files import part10_bytes

pytestmark = pytest.mark.xdist_group("department")
WHY = "The technologist remembers the patient."


@pytest.fixture(scope="module", autouse=True)
def staff(department: Department) -> None:
    for name, role in (("reader", "radiologist"), ("mover", "technologist"), ("chief", "admin")):
        department.add_user(name, role)


def path_of(image: Dataset) -> str:
    return (
        f"/dicom-web/studies/{image.StudyInstanceUID}/series/{image.SeriesInstanceUID}/instances/{image.SOPInstanceUID}"
    )


def file_of(department: Department, image: Dataset, who: str = "service", **query: str) -> bytes:
    headers = {"Authorization": f"Bearer {department.token(who)}", "Accept": "application/dicom"}
    answer = requests.get(department.http + path_of(image), headers=headers, params=query, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.content


def got(department: Department, image: Dataset, folder: Path) -> Dataset:
    """The image as C-GET brings it."""
    folder.mkdir()
    keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={image.StudyInstanceUID}"]
    call = ["/usr/bin/getscu", "-S", "-aet", "CT01", "-aec", "HILUM", "-od", str(folder)]
    subprocess.run([*call, "127.0.0.1", str(department.dicom_port), *keys], check=True, capture_output=True, timeout=60)
    (file,) = folder.iterdir()
    read = pydicom.dcmread(file)
    shutil.rmtree(folder)
    return read


def everywhere(department: Department, image: Dataset, folder: Path) -> dict[str, tuple[str, str]]:
    """Whose the image is, and for which accession number, at each door."""
    uid = image.StudyInstanceUID

    def of(data_set: Dataset) -> tuple[str, str]:
        return str(data_set.PatientID), str(data_set.AccessionNumber)

    def of_json(attributes: dict[str, dict[str, list[str]]]) -> tuple[str, str]:
        return attributes["00100020"]["Value"][0], attributes["00080050"].get("Value", [""])[0]

    (dimse,) = department.find_studies(StudyInstanceUID=uid, AccessionNumber="", PatientID="")
    (listed,) = department.qido(StudyInstanceUID=uid)
    (metadata,) = department.get(path_of(image) + "/metadata").json()
    (fhir,) = department.search("ImagingStudy", identifier=f"urn:oid:{uid}")
    person = department.get(f"/fhir/{fhir['subject']['reference']}").json()
    numbers = {each["type"]["coding"][0]["code"]: each["value"] for each in fhir["identifier"] if "type" in each}
    page = department.get("/viewer/launch", "reader", requestType="STUDY", studyUID=uid).text
    shown = re.search(r'<dt>ID</dt><dd class="num">(\w+).*?<dt>Accession</dt><dd class="num">(\w+)', page, re.S)
    assert shown is not None
    return {
        "C-FIND": of(dimse),
        "QIDO": of_json(listed),
        "WADO metadata": of_json(metadata),
        "WADO bytes": of(pydicom.dcmread(io.BytesIO(file_of(department, image)))),
        "C-GET": of(got(department, image, folder / "got")),
        "FHIR": (person["identifier"][0]["value"], numbers.get("ACSN", "")),
        "page": (shown[1], "" if shown[2] == "none" else shown[2]),
    }


def is_shown(department: Department, image: Dataset, folder: Path, patient: Patient, accession: str) -> None:
    """Every door says so when asked within a second of the change; what goes image by image may take a part of it."""
    time.sleep(0.3)
    found = everywhere(department, image, folder)
    assert set(found.values()) == {(patient.number, accession)}, found


def errors_of(content: bytes, folder: Path) -> set[str]:
    path = folder / "checked.dcm"
    path.write_bytes(content)
    said = subprocess.run(["/usr/bin/dciodvfy", str(path)], capture_output=True, text=True, check=False)
    return {line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")}


def exam(department: Department) -> tuple[Patient, Placed, Dataset]:
    patient = Patient(next_numbers(1)[0], "Ahmed", "Zoë")
    department.register(patient)
    placed = department.place(patient)
    image = department.image(placed, series=generate_uid())
    department.store(image)
    return patient, placed, image


def unlink(department: Department, one: Patient, other: Patient) -> bytes:
    return department.send(f"{department.header('ADT^A37')}\rEVN|A37|20260101\r{one.pid}\r{other.pid}\r")


def seconds_until(department: Department, image: Dataset, number: str) -> float:
    began = time.monotonic()
    while department.qido(StudyInstanceUID=image.StudyInstanceUID)[0]["00100020"]["Value"] != [number]:
        assert time.monotonic() - began < 1.0
    return time.monotonic() - began


def test_a_merge_and_its_undoing_reach_every_door_and_the_bytes(department: Department, tmp_path: Path) -> None:
    patient, placed, image = exam(department)
    survivor = Patient(next_numbers(1)[0], "García", "Łucja")
    department.register(survivor)
    received = file_of(department, image)
    is_shown(department, image, tmp_path, patient, placed.accession)
    assert accepted(department.merge(survivor, patient))
    assert seconds_until(department, image, survivor.number) < 1.0
    is_shown(department, image, tmp_path, survivor, placed.accession)
    merged = file_of(department, image)
    assert pydicom.dcmread(io.BytesIO(merged)).PatientName == "García^Łucja"
    assert errors_of(merged, tmp_path) <= errors_of(received, tmp_path)
    assert file_of(department, image, "admin", original="true") == received
    refused = department.get(path_of(image), "radiologist", None, original="true")
    assert refused.status_code == 403

    assert accepted(unlink(department, survivor, patient))
    assert seconds_until(department, image, patient.number) < 1.0
    is_shown(department, image, tmp_path, patient, placed.accession)
    assert file_of(department, image) == received, "byte for byte as before"
    assert fields(unlink(department, survivor, patient), "MSA")[0][1] == "AE"


class Person:
    """Somebody at the pages."""

    def __init__(self, department: Department, name: str) -> None:
        self._root = department.http
        self._headers = {"Authorization": f"Bearer {department.token(name)}"}

    def get(self, path: str, **query: str) -> requests.Response:
        return requests.get(self._root + path, params=query, headers=self._headers, timeout=30)

    def post(self, path: str, **form: str) -> requests.Response:
        return requests.post(self._root + path, data=form, headers=self._headers, timeout=30)


def value_of(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found is not None, name
    return unescape(found[1])


def test_a_person_moves_a_study_to_whom_it_belongs_and_takes_it_back(department: Department, tmp_path: Path) -> None:
    patient, placed, image = exam(department)
    other = Patient(next_numbers(1)[0], "Right", "Rosa")
    department.register(other)
    right = department.place(other)
    received = file_of(department, image)
    mover = Person(department, "mover")
    first = mover.get(f"/studies/{image.StudyInstanceUID}/reassign")
    assert first.status_code == 200 and f"{patient.number}" in first.text
    here = first.url.removeprefix(department.http)
    found = mover.get(here, text=right.accession).text
    target = re.search(r'name="target" value="(order:\w+)"', found)
    assert target is not None
    confirm = mover.get(here + "/confirm", target=target[1]).text
    assert patient.number in confirm and other.number in confirm and "differs from the images" in confirm
    form = {"target": target[1], "seen": value_of(confirm, "seen"), "series": "", "reason": WHY}

    assert mover.post(here, **form).status_code == 400, "both patients are to be compared"
    assert Person(department, "scheduler").post(here, **form, compared="yes").status_code == 403
    is_shown(department, image, tmp_path, patient, placed.accession)
    moved = mover.post(here, **form, compared="yes")
    assert moved.status_code == 200, moved.text
    assert seconds_until(department, image, other.number) < 1.0
    is_shown(department, image, tmp_path, other, right.accession)
    content = file_of(department, image)
    read = pydicom.dcmread(io.BytesIO(content))
    assert read.StudyInstanceUID == image.StudyInstanceUID
    (original,) = read.OriginalAttributesSequence
    assert original.ReasonForTheAttributeModification == "CORRECT"
    before = original.ModifiedAttributesSequence[0]
    assert (before.PatientID, before.AccessionNumber) == (patient.number, placed.accession)
    assert errors_of(content, tmp_path) <= errors_of(received, tmp_path)
    assert mover.post(here, **form, compared="yes").status_code == 409, "it is not as it was seen any more"

    undo = value_of(mover.get(here).text, "reassignment")
    assert mover.post(here + "/undo", reassignment=undo, reason="It was right before.").status_code == 200
    is_shown(department, image, tmp_path, patient, placed.accession)
    assert file_of(department, image) == received == file_of(department, image, "admin", original="true")
    stored = part10_bytes(image)
    assert received.endswith(stored[stored.index(b"\x08\x00\x05\x00") :] if b"\x08\x00\x05\x00" in stored else b"")


def test_a_part_is_split_off_and_a_signed_report_holds_images_back(department: Department, tmp_path: Path) -> None:
    patient, placed, image = exam(department)
    stray = department.image(placed, 2, series=generate_uid())
    department.store(stray)
    other = Patient(next_numbers(1)[0], "Right", "Rosa")
    department.register(other)
    reader = Person(department, "reader")
    here = reader.get(f"/studies/{image.StudyInstanceUID}/reassign").url.removeprefix(department.http)
    target = re.search(r'value="(patient:\w+)"', reader.get(here, text=other.number).text)
    assert target is not None
    confirm = reader.get(here + "/confirm", target=target[1], series=stray.SeriesInstanceUID).text
    form = {name: value_of(confirm, name).strip() for name in ("target", "seen", "series")}
    assert form["series"] == stray.SeriesInstanceUID
    assert reader.post(here, **form, reason=WHY, compared="yes").status_code == 200
    (split,) = department.qido(PatientID=other.number)
    stray.StudyInstanceUID = split["0020000D"]["Value"][0]
    assert stray.StudyInstanceUID != image.StudyInstanceUID
    is_shown(department, stray, tmp_path, other, "")
    is_shown(department, image, tmp_path, patient, placed.accession)
    before = pydicom.dcmread(io.BytesIO(file_of(department, stray))).OriginalAttributesSequence[0]
    assert before.ModifiedAttributesSequence[0].StudyInstanceUID == image.StudyInstanceUID

    assert accepted(department.dictate(placed, "F", "Clear."))
    confirm = reader.get(here + "/confirm", target=target[1]).text
    assert "A signed report rests on these images" in confirm
    form = {name: value_of(confirm, name) for name in ("target", "seen", "series")}
    assert reader.post(here, **form, reason=WHY, compared="yes").status_code == 409


def test_an_administrator_undoes_a_merge_on_the_page(department: Department) -> None:
    patient, _, _ = exam(department)
    survivor = Patient(next_numbers(1)[0], "Same", "Sara")
    department.register(survivor)
    assert accepted(department.merge(survivor, patient))
    (found,) = department.search("Patient", identifier=survivor.number)
    chief, path = Person(department, "chief"), f"/patients/{found['id']}"
    record = value_of(chief.get(path + "/records").text, "record")
    assert Person(department, "reader").post(path + "/unmerge", record=record, reason=WHY).status_code == 403
    done = chief.post(path + "/unmerge", record=record, reason=WHY)
    assert done.status_code == 200 and "A merge was undone" in done.text
    (alone,) = department.search("Patient", identifier=patient.number)
    assert alone["id"] == record and alone["active"]
