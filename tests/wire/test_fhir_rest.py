"""FHIR over HTTP: negotiation, versions, refusals and audit, each with its denied twin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import sqlalchemy as sa
from fhirclient.models.capabilitystatement import CapabilityStatement

from fixtures.fhir_server import Clinic, open_clinic
from fixtures.stores import open_store
from hilum.core import errors
from hilum.core.errors import HilumError
from hilum.fhir import errors as fhir_errors
from hilum.fhir.search_parameters import SEARCHABLE
from hilum.storage import tables
from hilum.storage.fhir_criteria import CONDITIONS
from hilum.storage.store import Store

# Who may read what programs may not.
READERS = {"AuditEvent": "auditor"}
NOWHERE = "01ZZZZZZZZZZZZZZZZZZZZZZZZ"


@pytest.fixture
def clinic(sqlite_store: Store, tmp_path: Path) -> Iterator[Clinic]:
    with open_clinic(sqlite_store, tmp_path / "home") as opened:
        yield opened


@pytest.fixture(scope="module")
def empty_clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    """A clinic that tests of refusals share, since they change nothing."""
    folder = tmp_path_factory.mktemp("empty")
    store = open_store("sqlite", folder)
    with open_clinic(store, folder / "home") as opened:
        yield opened
    store.close()


def audited(clinic: Clinic, outcome: str) -> list[tuple[str, str | None]]:
    row = tables.audit_event.c
    with clinic.store.read() as db:
        query = sa.select(row.action, row.patient_id).where(row.door == "fhir", row.outcome == outcome)
        return [(found.action, found.patient_id) for found in db.execute(query.order_by(row.sequence))]


def test_metadata_is_open_and_says_what_is_there(empty_clinic: Clinic) -> None:
    answer = requests.get(f"{empty_clinic.root}/fhir/metadata", timeout=30)
    assert answer.status_code == 200
    statement = answer.json()
    CapabilityStatement(statement)
    assert statement["fhirVersion"] == "4.0.1"
    for resource in statement["rest"][0]["resource"]:
        for parameter in resource.get("searchParam", []):
            value = {"date": "2026", "reference": "A", "token": "true", "string": "a"}[parameter["type"]]
            empty_clinic.get(
                f"{resource['type']}?{parameter['name']}={value}", READERS.get(resource["type"], "service")
            )
        for include in resource.get("searchInclude", []):
            empty_clinic.get(f"{resource['type']}?_include={include}")
        for include in resource.get("searchRevInclude", []):
            empty_clinic.get(f"{resource['type']}?_revinclude={include}")


def test_every_parameter_has_its_condition_and_every_condition_its_parameter() -> None:
    for searchable in SEARCHABLE.values():
        named = {parameter.condition for parameter in searchable.parameters}
        assert named == set(CONDITIONS[searchable.kind])


def test_nobody_reads_without_being_known(empty_clinic: Clinic) -> None:
    for path in ("Patient", f"Patient/{NOWHERE}", "Endpoint"):
        answer = requests.get(f"{empty_clinic.root}/fhir/{path}", timeout=30)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.json()["issue"][0]["code"] == "login"


@pytest.mark.parametrize("kind", [kind for kind in SEARCHABLE if kind not in READERS])
def test_a_role_without_the_right_is_refused_and_that_is_audited(clinic: Clinic, kind: str) -> None:
    person = clinic.register("1")
    for path in (kind, f"{kind}/{NOWHERE}", f"{kind}/{person.id}", f"{kind}?identifier=1"):
        outcome = clinic.get(path, "auditor", 403)
        assert outcome["issue"][0]["code"] == "forbidden"
        assert person.id not in str(outcome)
    assert len(audited(clinic, "refused")) == 4
    clinic.get("ImagingStudy", "scheduler", 403)
    clinic.get("DiagnosticReport", "technologist", 403)


def test_what_is_read_is_audited_once_and_before_it_leaves(clinic: Clinic) -> None:
    first, second = clinic.register("1"), clinic.register("2")
    for _ in range(2):
        clinic.get(f"Patient/{first.id}")
    assert audited(clinic, "allowed") == [("read-patient", first.id)]
    clinic.get("Patient")
    subjects = [patient_id for _, patient_id in audited(clinic, "allowed")]
    assert sorted(filter(None, subjects)) == sorted([first.id, second.id])
    clinic.get(f"Patient/{first.id}", "house", 404)
    assert audited(clinic, "refused") == [("read-patient", first.id)]


def test_a_known_version_is_not_sent_again(clinic: Clinic) -> None:
    clinic.register("1")
    order = clinic.place("1")
    path = f"/fhir/ServiceRequest/{order.id}"
    answer = clinic.ask("GET", path)
    etag = answer.headers["etag"]
    assert etag == f'W/"{answer.json()["meta"]["versionId"]}"'
    assert answer.headers["last-modified"].endswith("GMT")
    again = clinic.ask("GET", path, status=304, headers={"If-None-Match": etag})
    assert again.content == b""
    assert again.headers["etag"] == etag
    clinic.ask("GET", path, status=200, headers={"If-None-Match": 'W/"0-000000000000"'})
    clinic.image("1", order)  # the exam has begun: another version
    changed = clinic.ask("GET", path, status=200, headers={"If-None-Match": etag})
    assert changed.headers["etag"] != etag


def test_only_json_is_written(empty_clinic: Clinic) -> None:
    for accept in ("application/fhir+json", "application/json", "*/*", "text/html, application/fhir+json;q=0.9"):
        empty_clinic.ask("GET", "/fhir/Patient", headers={"Accept": accept})
    for wanted in ("json", "application/json", "application/fhir%2Bjson", "application/fhir+json"):
        empty_clinic.ask("GET", f"/fhir/Patient?_format={wanted}", headers={"Accept": "application/fhir+xml"})
    refused = empty_clinic.ask("GET", "/fhir/Patient", status=406, headers={"Accept": "application/fhir+xml"})
    assert refused.json()["resourceType"] == "OperationOutcome"
    empty_clinic.get("Patient?_format=xml", answered=406)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/fhir/Patient", "GET, HEAD"),
        ("PUT", f"/fhir/Patient/{NOWHERE}", "GET, HEAD"),
        ("DELETE", f"/fhir/Patient/{NOWHERE}", "GET, HEAD"),
        ("PATCH", f"/fhir/ServiceRequest/{NOWHERE}", "GET, HEAD"),
        ("GET", "/fhir/Patient/_search", "POST"),
        ("POST", "/fhir/metadata", "GET, HEAD"),
    ],
)
def test_other_methods_are_refused_with_what_is_offered(
    empty_clinic: Clinic, method: str, path: str, allow: str
) -> None:
    answer = empty_clinic.ask(method, path, status=405)
    assert answer.headers["allow"] == allow
    assert answer.json()["resourceType"] == "OperationOutcome"


@pytest.mark.parametrize(
    "path",
    ["Patient/nobody", "Patient/%00", "Patient/" + "x" * 65, "Medication", "Medication/1", "Patient/1/_history", ""],
)
def test_what_is_not_there_is_said_by_an_outcome(empty_clinic: Clinic, path: str) -> None:
    assert empty_clinic.get(path, answered=404)["issue"][0]["code"] == "not-found"


def test_head_answers_without_a_body(clinic: Clinic) -> None:
    person = clinic.register("1")
    answer = clinic.ask("HEAD", f"/fhir/Patient/{person.id}")
    assert answer.content == b""
    assert answer.headers["etag"]


def test_endpoints_are_found_and_read(empty_clinic: Clinic) -> None:
    bundle = empty_clinic.get("Endpoint", **{"connection-type": "dicom-wado-rs"})
    assert [entry["resource"]["id"] for entry in bundle["entry"]] == ["dicom-web"]
    assert empty_clinic.get("Endpoint/image-display")["address"] == f"{empty_clinic.root}/viewer/launch"
    assert empty_clinic.get("Endpoint")["entry"][0]["resource"]["address"] == f"{empty_clinic.root}/dicom-web"
    empty_clinic.get("Endpoint/other", answered=404)
    empty_clinic.get("Endpoint?name=x", answered=400)


def test_a_forged_host_reaches_no_link(empty_clinic: Clinic) -> None:
    answer = empty_clinic.ask("GET", "/fhir/Endpoint", headers={"Host": "evil.example"})
    assert "evil.example" not in answer.text


def test_a_defect_is_an_outcome_without_its_cause(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("Doe, Jane")

    monkeypatch.setattr("hilum.fhir.reading.find_page", broken)
    outcome = clinic.get("Patient", answered=500)
    assert outcome["issue"][0]["code"] == "exception"
    assert "Doe" not in str(outcome)


def all_errors(kind: type[HilumError] = HilumError) -> set[type[HilumError]]:
    return {kind}.union(*(all_errors(each) for each in kind.__subclasses__()))


def test_the_table_covers_every_refusal() -> None:
    ours = {error for error in all_errors() if error.__module__ in (errors.__name__, fhir_errors.__name__)}
    assert {error.code for error in ours} == set(fhir_errors.STATUS)
