"""Images that are rejected are gone within a second at every door alike, and an administrator brings them back."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import pytest
import requests
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import CTImageStorage, StudyRootQueryRetrieveInformationModelGet

from fixtures.department import Department, Patient, Placed, eventually, next_numbers
from fixtures.dicom_files import part10_bytes
from fixtures.rejection_notes import note_for

pytestmark = pytest.mark.xdist_group("department")


def exam(department: Department, images: int = 2) -> tuple[Placed, list[Dataset]]:
    patient = Patient(next_numbers(1)[0])
    department.register(patient)
    placed = department.place(patient)
    series = generate_uid()
    made = [department.image(placed, number, series=series) for number in range(1, images + 1)]
    department.store(*made)
    return placed, made


def retrieved(department: Department, placed: Placed) -> int:
    """How many images C-GET brings."""
    taken: list[str] = []

    def keep(event: evt.Event) -> int:
        taken.append(event.request.AffectedSOPInstanceUID)
        return 0

    ae = AE("CT01")
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
    ae.add_requested_context(CTImageStorage)
    role = build_role(CTImageStorage, scp_role=True)
    association = ae.associate(
        "127.0.0.1", department.dicom_port, ae_title="HILUM", ext_neg=[role], evt_handlers=[(evt.EVT_C_STORE, keep)]
    )
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", placed.study_uid
    list(association.send_c_get(query, StudyRootQueryRetrieveInformationModelGet))
    association.release()
    return len(taken)


def counts(department: Department, placed: Placed) -> dict[str, int]:
    """How many images of a study each door shows."""
    [request] = department.search("ServiceRequest", identifier=placed.placer)
    studies = department.search("ImagingStudy", basedon=f"ServiceRequest/{request['id']}")
    study = f"/dicom-web/studies/{placed.study_uid}"
    found = department.find_studies(StudyInstanceUID=placed.study_uid)
    metadata = department.get(f"{study}/metadata", status=None)
    whole = department.get(study, status=None)
    listed = department.qido(StudyInstanceUID=placed.study_uid)
    return {
        "C-FIND": sum(int(item.NumberOfStudyRelatedInstances) for item in found),
        "C-GET": retrieved(department, placed),
        "QIDO studies": sum(each["00201208"]["Value"][0] for each in listed),
        "QIDO instances": len(department.qido("/instances", StudyInstanceUID=placed.study_uid)),
        "WADO metadata": len(metadata.json()) if metadata.status_code == 200 else 0,
        "WADO study": whole.content.count(b"DICM") if whole.status_code == 200 else 0,
        "FHIR": sum(each["numberOfInstances"] for each in studies),
    }


def shows(department: Department, placed: Placed, images: int) -> None:
    found = counts(department, placed)
    assert set(found.values()) == {images}, found


def within_a_second(change: Callable[[], object], seen: Callable[[], bool]) -> None:
    change()
    began = time.monotonic()
    while not seen():
        assert time.monotonic() - began < 1.0
        time.sleep(0.02)


def stow(department: Department, who: str, content: bytes) -> requests.Response:
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--b--\r\n"
    headers = {
        "Content-Type": 'multipart/related; type="application/dicom"; boundary=b',
        "Authorization": f"Bearer {department.token(who)}",
    }
    return requests.post(f"{department.http}/dicom-web/studies", data=body, headers=headers, timeout=30)


def stored(department: Department, image: Dataset) -> int:
    """The status of a C-STORE."""
    ae = AE("CT01")
    ae.add_requested_context(CTImageStorage, "1.2.840.10008.1.2.1")
    association = ae.associate("127.0.0.1", department.dicom_port, ae_title="HILUM")
    status = int(association.send_c_store(image).Status)
    association.release()
    return status


def wado(department: Department, image: Dataset) -> int:
    path = f"/dicom-web/studies/{image.StudyInstanceUID}/series/{image.SeriesInstanceUID}"
    return department.get(f"{path}/instances/{image.SOPInstanceUID}", status=None).status_code


def test_a_note_by_c_store_hides_images_at_every_door_and_a_stranger_s_note_does_not(department: Department) -> None:
    placed, (one, two) = exam(department)
    shows(department, placed, 2)
    department.store(note_for(one, code="113038"), calling="CT01")
    assert wado(department, one) == 200, "CT01 may not reject: its note waits for a person"
    note = note_for(one, reason="left is right")
    within_a_second(lambda: department.store(note, calling="QC01"), lambda: wado(department, one) == 404)
    assert [wado(department, two), wado(department, note)] == [200, 404]
    # The stranger's note is an ordinary object still.
    found = counts(department, placed)
    assert (found.pop("C-GET"), set(found.values())) == (1, {2}), found
    assert stored(department, one) == 0xA771
    department.cli("rejected", "revoke", note.SOPInstanceUID, "--reason", "it was left after all")
    assert [wado(department, one), wado(department, two)] == [200, 200]


def test_a_person_rejects_on_the_page_and_an_administrator_takes_it_back(department: Department) -> None:
    placed, images = exam(department)
    department.add_user("techie", "technologist")
    department.add_user("desk", "scheduler")
    [request] = department.search("ServiceRequest", identifier=placed.placer)
    path = f"{department.http}/studies/{placed.study_uid}/reject"
    form = {"code": "113037", "reason": "wrong patient on the table", "series": ""}

    def posted(who: str) -> int:
        token = {"Authorization": f"Bearer {department.token(who)}"}
        return requests.post(path, data=form, headers=token, allow_redirects=False, timeout=30).status_code

    assert posted("desk") == 403
    shows(department, placed, 2)
    within_a_second(lambda: posted("techie"), lambda: wado(department, images[0]) == 404)
    shows(department, placed, 0)
    assert request["id"]
    [line] = [row for row in department.cli("rejected", "list").splitlines() if placed.study_uid in row]
    note_uid = line.split()[0]
    department.cli("rejected", "revoke", note_uid, "--reason", "it was the right one")
    assert {wado(department, image) for image in images} == {200}


def test_stow_of_a_note_follows_the_role_of_who_sends_it(department: Department) -> None:
    _, (one, _) = exam(department)
    assert stow(department, "service", part10_bytes(note_for(one))).status_code == 200
    assert wado(department, one) == 200
    assert stow(department, "technologist", part10_bytes(note_for(one))).status_code == 200
    assert wado(department, one) == 404
    answer = stow(department, "technologist", part10_bytes(one))
    assert answer.status_code == 409
    assert answer.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xA771]


def test_a_written_note_passes_the_validator(department: Department) -> None:
    placed, images = exam(department)
    department.add_user("physicist", "radiologist")
    form = {"code": "113001", "reason": "Bewegungsunschärfe", "series": images[0].SeriesInstanceUID}
    token = {"Authorization": f"Bearer {department.token('physicist')}"}
    path = f"{department.http}/studies/{placed.study_uid}/reject"
    answer = requests.post(path, data=form, headers=token, allow_redirects=False, timeout=30)
    assert answer.status_code == 303
    [line] = [row for row in department.cli("rejected", "list").splitlines() if placed.study_uid in row]
    out = department.home / "note.dcm"
    department.cli("rejected", "export", line.split()[0], "--out", str(out))
    checked = subprocess.run(["/usr/bin/dciodvfy", "-new", str(out)], capture_output=True, text=True, check=False)
    assert "Error" not in checked.stdout + checked.stderr
    eventually(lambda: out.stat().st_size > 0, "exported")


def test_the_operator_deletes_in_two_steps_and_a_hold_forbids_it(department: Department) -> None:
    placed, images = exam(department)
    marked = department.cli("deletion", "mark", placed.study_uid, "--reason", "a phantom")
    assert {wado(department, image) for image in images} == {404}
    assert marked.split()[0] in department.cli("deletion", "list")
    department.cli("deletion", "undo", marked.split()[0], "--reason", "it was no phantom")
    shows(department, placed, 2)
    department.cli("hold", "set", "--study", placed.study_uid, "--reason", "court order")
    department.cli("deletion", "mark", placed.study_uid, "--reason", "a phantom", code=1)
    assert {wado(department, image) for image in images} == {200}
    assert department.cli("retention", "list") == ""
    department.cli("quarantine", "list")
