"""Who opened my record: the auditor's page and CSV and the operator's command, also after a merge, and who may not."""

from __future__ import annotations

import csv
import io

import requests

from fixtures.department import AUTHORITY, Department, Patient, next_numbers


def lines(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def find(department: Department, number: str, who: str, authority: str = AUTHORITY) -> requests.Response:
    return requests.post(
        f"{department.http}/audit",
        data={"identifier": number, "authority": authority},
        headers={"Authorization": f"Bearer {department.token(who)}"},
        allow_redirects=False,
        timeout=30,
    )


def test_a_patient_hears_who_opened_the_record_under_every_number(department: Department) -> None:
    kept, gone, other = (Patient(number) for number in next_numbers(3))
    for patient in (kept, gone, other):
        department.register(patient)
    name = f"=dr-{gone.number}"
    department.add_user(name, "radiologist")
    (before,) = department.search("Patient", name, identifier=gone.number)
    placed = department.place(kept)
    department.search("ServiceRequest", name, identifier=placed.accession)
    department.get(f"/fhir/Patient/{before['id']}", "ai-agent")
    department.merge(kept, gone)

    answer = find(department, gone.number, "auditor")
    assert answer.status_code == 303
    place = answer.headers["location"]
    assert gone.number not in place
    assert kept.number not in place
    page = department.get(place, "auditor").text
    for shown in (
        kept.number,
        gone.number,
        "opened the patient",
        "placed an order",
        "merged patient records",
        "ai-agent",
    ):
        assert shown in page
    assert other.number not in page
    assert "Doe" not in page, "the report needs no name"

    answer = department.get(f"{place}/report.csv", "auditor")
    assert answer.headers["content-type"].startswith("text/csv")
    found = lines(answer.text)
    assert {line["identity"] for line in found} >= {f"{kept.number}^{AUTHORITY}", f"{gone.number}^{AUTHORITY}"}
    opened = [line for line in found if line["what"] == "opened the patient's data"]
    # A name that a spreadsheet would run as a formula is text.
    assert {line["who"] for line in opened} == {f"'{name}", "service:ai-agent"}
    assert [line["time"] for line in found] == sorted((line["time"] for line in found), reverse=True)
    # The page was read before the CSV, and the CSV is of the same trail.
    assert [line["who"] for line in found if line["what"] == "read the audit trail"] == ["service:auditor"] * 2

    printed = lines(department.cli("audit", "report", "--patient", f"{kept.number}^{AUTHORITY}"))
    assert {line["row"] for line in found} <= {line["row"] for line in printed}
    assert printed[0]["who"].startswith("cli:")
    assert printed[0]["what"] == "read the audit trail"


def test_only_those_who_may_read_the_trail_get_the_report(department: Department) -> None:
    patient = Patient(next_numbers(1)[0])
    department.register(patient)
    place = find(department, patient.number, "admin").headers["location"]
    for who in ("radiologist", "technologist", "scheduler", "referring-physician", "service", "ai-agent"):
        assert find(department, patient.number, who).status_code == 403
        for path in ("/audit", place, f"{place}/report.csv"):
            department.get(path, who, status=403)
    assert requests.get(department.http + place, timeout=30, allow_redirects=False).status_code == 401
    for who in ("auditor", "admin"):
        department.get("/audit", who)
        department.get(place, who)


def test_nobody_s_number_is_said_to_be_nobody_s(department: Department) -> None:
    assert find(department, "NOBODY-HAS-THIS", "auditor").status_code == 404
    assert find(department, "", "auditor").status_code == 404
    assert find(department, "N" * 65, "auditor").status_code == 404
    department.get("/audit/patient/01ZZZZZZZZZZZZZZZZZZZZZZZZ", "auditor", status=404)
    department.get("/audit/patient/01ZZZZZZZZZZZZZZZZZZZZZZZZ/report.csv", "auditor", status=404)
    department.cli("audit", "report", "--patient", "NOBODY-HAS-THIS", code=1)


def test_long_reports_are_read_page_by_page(department: Department) -> None:
    patient = Patient(next_numbers(1)[0])
    for _ in range(120):
        department.register(patient, "A08")
    place = find(department, patient.number, "auditor").headers["location"]
    first = department.get(place, "auditor").text
    cursor = first.partition("before=")[2].partition('"')[0]
    second = department.get(place, "auditor", before=cursor).text
    assert first.count("registered or updated the patient") + second.count("registered or updated the patient") == 120
    assert "before=" not in second
