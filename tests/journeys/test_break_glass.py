"""A physician without a relation to a patient: nothing to see, the glass broken with a reason, a review by auditors.

Played by real sign-ins in a browser's way (cookies and forms), and looked at from every door at each step.
"""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from fixtures.department import (
    AUTHORITY,
    Department,
    Patient,
    Placed,
    accepted,
    eventually,
    new_department,
    next_numbers,
)

pytestmark = pytest.mark.xdist_group("department")

PASSWORD = "correct horse staple 9"
WHY = "Found unconscious, no relatives reachable."


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Department]:
    """A department whose auditors are told by a file of notices."""
    home = tmp_path_factory.mktemp("glass")
    running = new_department(home)
    notices = home / "notices"
    notices.mkdir()
    with (home / "hilum.toml").open("a") as settings:
        settings.write(
            f'[[destination]]\nname = "auditors"\nkind = "file"\naddress = "file://{notices}"\n'
            '[[route]]\non = "GlassBroken"\nto = ["auditors"]\n'
        )
    running.start()
    for name, role in (("wilson", "referring-physician"), ("argus", "auditor"), ("clerk", "scheduler")):
        running.add_user(name, role, f"{name.upper()}^{AUTHORITY}", PASSWORD)
    yield running
    running.stop()
    running.ehr.close()


class Browser:
    """Someone signed in: keeps cookies, fills in forms."""

    def __init__(self, department: Department, name: str) -> None:
        self.root = department.http
        self.session = requests.Session()
        login = self.session.get(f"{self.root}/auth/login", timeout=30, headers={"Accept": "text/html"})
        token = _token(login.text)
        answer = self.session.post(
            f"{self.root}/auth/login", timeout=30, allow_redirects=False,
            data={"csrf_token": token, "user_name": name, "password": PASSWORD, "next": "/"},
        )  # fmt: skip
        assert answer.status_code == 303, answer.text[:300]

    def get(self, path: str, status: int = 200) -> str:
        answer = self.session.get(self.root + path, timeout=30, headers={"Accept": "text/html"})
        assert answer.status_code == status, (path, answer.status_code, answer.text[:300])
        return answer.text

    def post(self, path: str, form_at: str, **fields: str) -> requests.Response:
        token = _token(self.get(form_at))
        return self.session.post(
            self.root + path, timeout=30, allow_redirects=False, data={"csrf_token": token, **fields}
        )


def _token(page: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found, page[:500]
    return html.unescape(found[1])


@pytest.fixture(scope="module")
def exam(hospital: Department) -> Placed:
    """Somebody else's patient with images and a signed report."""
    patient = Patient(next_numbers(1)[0], "Secret")
    hospital.register(patient)
    placed = hospital.place(patient)
    hospital.perform(placed, images=1)
    assert accepted(hospital.dictate(placed, "F", "Nothing acute."))
    return placed


def seen(hospital: Department, exam: Placed, who: str) -> dict[str, int]:
    """What each door over HTTP shows of the exam to somebody."""
    everyone = hospital.get("/fhir/ServiceRequest", who, _summary="count").json()["total"]
    (order,) = hospital.search("ServiceRequest", identifier=exam.placer)
    return {
        "qido": len(hospital.qido(who=who, StudyInstanceUID=exam.study_uid)),
        "orders": len(hospital.search("ServiceRequest", who, identifier=exam.placer)),
        "reports": len(hospital.search("DiagnosticReport", who, identifier=exam.accession)),
        "patients": len(hospital.search("Patient", who, identifier=exam.patient.number)),
        "total": everyone,
        "read": int(hospital.get(f"/fhir/ServiceRequest/{order['id']}", who, status=None).status_code == 200),
        "metadata": int(
            hospital.get(f"/dicom-web/studies/{exam.study_uid}/metadata", who, status=None).status_code == 200
        ),
    }


def test_the_glass_is_broken_with_a_reason_and_reviewed(hospital: Department, exam: Placed) -> None:
    nothing = dict.fromkeys(seen(hospital, exam, "wilson"), 0)
    assert seen(hospital, exam, "wilson") == nothing
    wilson = Browser(hospital, "wilson")
    (order,) = hospital.search("ServiceRequest", identifier=exam.placer)
    wilson.get(f"/orders/{order['id']}", status=404)
    assert "Secret" not in wilson.get("/?status=all")

    refused = wilson.post("/access/break-glass", "/access/break-glass", identifier=exam.patient.number, reason="why")
    assert refused.status_code == 400 and "Say why" in refused.text
    assert seen(hospital, exam, "wilson") == nothing

    answer = wilson.post("/access/break-glass", "/access/break-glass", identifier=exam.patient.number, reason=WHY)
    assert answer.status_code == 303
    assert seen(hospital, exam, "wilson") == dict.fromkeys(nothing, 1)
    page = wilson.get(f"/orders/{order['id']}")
    assert "Emergency access" in page and "You broke the glass for this patient" in page
    assert exam.patient.number in wilson.get("/access/break-glass")

    # Others see no more than before, and no banner where the glass is whole.
    Browser(hospital, "clerk").get("/access/break-glass", status=403)
    assert "You broke the glass" not in Browser(hospital, "clerk").get(f"/orders/{order['id']}")

    argus = Browser(hospital, "argus")
    reviews = argus.get("/access/reviews")
    assert "wilson" in reviews and html.escape(WHY) in reviews and exam.patient.number in reviews
    assert "Secret" not in reviews
    path = re.search(r'action="(/access/reviews/[^"]+)"', reviews)
    assert path
    assert argus.post(path[1], "/access/reviews", finding="On duty in the emergency room.").status_code == 303
    assert "wilson" not in _main(argus.get("/access/reviews"))
    assert "On duty in the emergency room." in argus.get("/access/reviews?all=1")
    wilson.get("/access/reviews", status=403)


def _main(page: str) -> str:
    return page.partition("<main")[2]


def test_auditors_are_told_by_a_route(hospital: Department, exam: Placed) -> None:
    Browser(hospital, "wilson").post(
        "/access/break-glass", "/access/break-glass", identifier=exam.patient.number, reason=WHY
    )
    folder = hospital.home / "notices"
    files = eventually(lambda: [f for f in folder.rglob("*") if f.is_file()], "the auditors were told")
    notice = json.loads(files[0].read_bytes())
    assert notice["event"] == "GlassBroken" and notice["patient"]["reference"].startswith("Patient/")
    assert exam.patient.number not in files[0].read_text() and "Secret" not in files[0].read_text()


def test_the_answer_tells_not_whether_a_number_is_anybodys(hospital: Department, exam: Placed) -> None:
    wilson = Browser(hospital, "wilson")
    answers = [
        wilson.post("/access/break-glass", "/access/break-glass", identifier=number, reason=WHY)
        for number in (exam.patient.number, "0000-NOBODY")
    ]

    def shown(answer: requests.Response) -> tuple[Any, ...]:
        told = {k: v for k, v in answer.headers.items() if k.lower() not in ("date", "x-correlation-id")}
        return answer.status_code, answer.content, told

    assert shown(answers[0]) == shown(answers[1])
    assert "The number was no patient" in Browser(hospital, "argus").get("/access/reviews")


def test_a_token_of_a_role_breaks_no_glass(hospital: Department, exam: Placed) -> None:
    for role in ("referring-physician", "radiologist", "service"):
        answer = requests.post(
            f"{hospital.http}/access/break-glass", timeout=30, data={"identifier": exam.patient.number, "reason": WHY},
            headers={"Authorization": f"Bearer {hospital.token(role)}"},
        )  # fmt: skip
        assert answer.status_code == 403


def test_a_label_hides_a_patient_at_every_door_until_a_grant(hospital: Department) -> None:
    mine, other = (Patient(number, "Veiled") for number in next_numbers(2))
    for patient in (mine, other):
        hospital.register(patient)
    doctor = f"LAB{mine.number}"
    hospital.add_user(doctor.lower(), "referring-physician", f"{doctor}^{AUTHORITY}", PASSWORD)
    placer = f"L{mine.number}"
    message = hospital.order_message(mine, placer).replace("D77^House", f"{doctor}^House")
    assert accepted(hospital.send(message))
    (order,) = hospital.search("ServiceRequest", identifier=placer)
    accession = next(i["value"] for i in order["identifier"] if i["value"] != placer)
    item = hospital.worklist_item(accession)
    placed = Placed(mine, placer, accession, str(item.StudyInstanceUID))
    hospital.perform(placed, images=1)
    assert accepted(hospital.dictate(placed, "F", "Nothing acute."))
    everything = seen(hospital, placed, doctor.lower())
    assert everything == dict.fromkeys(everything, 1)
    hospital.cli("patient", "label", f"{other.number}^{AUTHORITY}", "sensitive")
    assert accepted(hospital.merge(mine, other))
    assert seen(hospital, placed, doctor.lower()) == dict.fromkeys(everything, 0)
    # The scanner and the EHR go on: an exam that is on nobody's worklist is a hazard.
    assert len(hospital.find_studies(StudyInstanceUID=placed.study_uid)) == 1
    hospital.cli("access", "grant", doctor.lower(), "--patient", mine.number, "--reason", "orders for this patient")
    assert seen(hospital, placed, doctor.lower()) == everything
    grant = next(line.split("\t")[0] for line in hospital.cli("access", "list").splitlines() if doctor.lower() in line)
    hospital.cli("access", "revoke", grant)
    assert seen(hospital, placed, doctor.lower()) == dict.fromkeys(everything, 0)


def test_messages_label_a_patient_and_end_a_visit(hospital: Department) -> None:
    patient = Patient(next_numbers(1)[0], "Visited")
    doctor = f"VIS{patient.number}"
    hospital.add_user(doctor.lower(), "referring-physician", f"{doctor}^{AUTHORITY}", PASSWORD)

    def adt(event: str, moment: str, visit: str) -> None:
        head = hospital.header(f"ADT^{event}")
        assert accepted(hospital.send(f"{head}\rEVN|{event}|{moment}\r{patient.pid}\r{visit}\r"))

    def found(who: str) -> int:
        return len(hospital.search("Patient", who, identifier=patient.number))

    attending = f"{doctor}^House^Gregory^^^^^^{AUTHORITY}"
    adt("A01", "20260301120000", f"PV1|1|I|||||{attending}||||||||||||V{patient.number}")
    assert found(doctor.lower()) == 1 and found("wilson") == 0
    adt("A03", "20260302120000", f"PV1|1|I|||||{attending}||||||||||||V{patient.number}")
    assert found(doctor.lower()) == 0
    assert found("clerk") == 1
    adt("A08", "20260303120000", "PV1|1|O||||||||||||||EMP")
    assert found("clerk") == 0 and found("service") == 1


def test_an_account_limited_to_a_facility_sees_its_patients_only(hospital: Department) -> None:
    inside, outside = (Patient(number, "Placed") for number in next_numbers(2))
    for patient, authority in ((inside, "NORTHCLINIC"), (outside, AUTHORITY)):
        pid = patient.pid.replace(f"^^^{AUTHORITY}^MR", f"^^^{authority}^MR")
        answer = hospital.send(f"{hospital.header('ADT^A04')}\rEVN|A04|20260301120000\r{pid}\rPV1|1|O\r")
        assert accepted(answer)
    hospital.add_user("north", "radiologist", "", PASSWORD)
    hospital.cli("access", "limit", "north", "--facility", "NORTHCLINIC")
    eventually(lambda: not hospital.search("Patient", "north", identifier=outside.number), "the limit holds")
    assert len(hospital.search("Patient", "north", identifier=inside.number)) == 1
    assert hospital.get("/fhir/Patient", "north", _summary="count").json()["total"] == 1


def test_the_command_line_says_what_it_refuses(hospital: Department) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hilum.cli", "--home", str(hospital.home), "patient", "label", "no-such", "vip"],
        capture_output=True, text=True, env=hospital.environment, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1 and "No patient has this number" in done.stderr and "no-such" not in done.stderr
