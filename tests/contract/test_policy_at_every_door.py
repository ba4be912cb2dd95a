"""One policy at every door: nothing answers a stranger, and each allowed case has its denied twin."""

from __future__ import annotations

import re
import subprocess

import pytest
import requests

from fixtures.department import DICTATION, Department, Patient, Placed, accepted, fields, next_numbers
from hilum.core.actor import Role
from hilum.security.entries import HTTP, Unguarded
from hilum.security.policy import GRANTS, PERSONAL, Action

pytestmark = pytest.mark.xdist_group("department")

# What answers without a token or a login (docs/security-policy.md).
OPEN = {path for path, methods in HTTP.items() if Unguarded.OPEN in methods.values()}
READING = [
    ("/dicom-web/studies", Action.READ_IMAGES),
    ("/fhir/Patient", Action.READ_PATIENT),
    ("/fhir/ServiceRequest", Action.READ_ORDER),
    ("/fhir/ImagingStudy", Action.READ_IMAGES),
    ("/fhir/DiagnosticReport", Action.READ_REPORT),
    ("/metrics", Action.READ_METRICS),
    ("/exceptions", Action.READ_EXCEPTIONS),
]


def routes(department: Department) -> set[str]:
    """Every path template the server answers, asked of the composition itself."""
    from hilum.app import Application

    application = Application(department.home)
    try:
        composed = application.http()
        while not hasattr(composed, "routes"):  # the gate, and the wait for the index, stand before them
            composed = composed._app
        return {route.path for route in composed.routes}
    finally:
        application.close()


def concrete(template: str) -> str:
    return re.sub(r"\{[^}]+\}", "1.2.3", template)


def test_no_route_answers_a_stranger(department: Department) -> None:
    found = routes(department)
    assert len(found) > 40, "the routes were not found"
    answered = []
    for template in sorted(found - OPEN):
        for method in ("GET", "POST"):
            answer = requests.request(method, department.http + concrete(template), timeout=30, allow_redirects=False)
            if answer.status_code != 401:
                answered.append((method, template, answer.status_code))
    assert answered == []


@pytest.mark.parametrize("role", list(Role))
def test_each_role_reads_what_it_may_and_nothing_else(department: Department, role: Role) -> None:
    for path, action in READING:
        status = department.get(path, role.value, status=None).status_code
        if action in GRANTS[role] and action not in PERSONAL:
            assert status in (200, 204), (role, path, status)
        else:
            assert status == 403, (role, path, status)


def test_forged_tokens_are_refused(department: Department) -> None:
    real = department.token("radiologist")
    head, payload, signature = real.split(".")
    for forged in (f"{head}.{payload}.{signature[:-4]}AAAA", f"{head}.{payload}.", "x", real + "x"):
        answer = requests.get(
            f"{department.http}/fhir/Patient", headers={"Authorization": f"Bearer {forged}"}, timeout=10
        )
        assert answer.status_code == 401


def test_a_service_may_not_sign_and_its_dictation_names_a_person(department: Department) -> None:
    patient = Patient(next_numbers(1)[0])
    department.register(patient)
    placed = department.place(patient)
    assert not accepted(department.dictate(placed, "F", "By nobody.", reader=""))
    assert accepted(department.dictate(placed, "F", "By a person."))
    answer = requests.post(
        f"{department.http}/orders/x/report/start", timeout=30,
        headers={"Authorization": f"Bearer {department.token('service')}"}, data={"kind": "report"},
    )  # fmt: skip
    assert answer.status_code in (403, 404)


def test_a_referring_physician_sees_own_patients_only(department: Department) -> None:
    numbers = next_numbers(2)
    mine, other = Patient(numbers[0], "Mine"), Patient(numbers[1], "Other")
    for patient in (mine, other):
        department.register(patient)
    placed = [department.place(mine), department.place(other)]
    for each in placed:
        department.perform(each, images=1)
    identifier = f"DOC{numbers[0]}"
    department.add_user(f"doc-{numbers[0]}", "referring-physician", f"{identifier}^GENHOSP")
    who = f"doc-{numbers[0]}"
    assert department.qido(PatientID=mine.number, who=who) == []
    order = department.order_message(mine, f"PX{mine.number}").replace("D77^House", f"{identifier}^House")
    assert accepted(department.send(order))
    assert [s["0020000D"]["Value"][0] for s in department.qido(who=who)] == [placed[0].study_uid]
    assert department.qido(PatientID=other.number, who=who) == []
    assert {r["subject"]["reference"] for r in department.search("ServiceRequest", who)} == {
        department.search("ServiceRequest", identifier=placed[0].placer)[0]["subject"]["reference"]
    }
    (hidden,) = department.search("ServiceRequest", identifier=placed[1].placer)
    department.get(f"/fhir/ServiceRequest/{hidden['id']}", who, status=404)
    department.get(f"/dicom-web/studies/{placed[1].study_uid}/metadata", who, status=404)
    department.get(f"/dicom-web/studies/{placed[0].study_uid}/metadata", who)


def test_an_unknown_hl7_sender_changes_nothing(department: Department) -> None:
    patient = Patient(next_numbers(1)[0])
    answer = department.send(
        f"{department.header('ADT^A04', 'STRANGE|PLACE')}\rEVN|A04|20260101\r{patient.pid}\rPV1|1|O\r"
    )
    assert fields(answer, "MSA")[0][1] == "AR"
    assert department.search("Patient", identifier=patient.number) == []
    assert DICTATION != "STRANGE|PLACE"


def test_an_unknown_ae_may_not_store_find_or_echo(department: Department) -> None:
    for command in (
        ["/usr/bin/echoscu", "-aet", "STRANGER"],
        ["/usr/bin/findscu", "-W", "-aet", "STRANGER", "-k", "0010,0010"],
    ):
        done = subprocess.run(
            [*command, "-aec", "HILUM", "127.0.0.1", str(department.dicom_port)],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        assert "Calling AE Title Not Recognized" in done.stdout + done.stderr
    stray = Placed(Patient(next_numbers(1)[0]), "", "")
    department.store(department.image(stray), calling="STRANGER", code=1)
    assert department.qido(PatientID=stray.patient.number) == []
