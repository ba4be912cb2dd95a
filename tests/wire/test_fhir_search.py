"""FHIR searches find what was asked for and nothing else, page by page, and refuse what they do not understand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fhirclient import client as fhirclient_client
from fhirclient.models.diagnosticreport import DiagnosticReport

from fixtures.fhir_server import CT_CHEST, WILSON, Clinic, open_clinic
from fixtures.stores import open_store
from hilum.core.identifiers import new_uid
from hilum.core.order import Code, Priority
from hilum.core.report import ReportStatus
from hilum.storage.store import Store


@pytest.fixture
def clinic(store: Store, tmp_path: Path) -> Iterator[Clinic]:
    with open_clinic(store, tmp_path / "home") as opened:
        yield opened


@pytest.fixture
def sqlite_clinic(sqlite_store: Store, tmp_path: Path) -> Iterator[Clinic]:
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


def test_patients_are_found_by_name_without_case_and_accents(clinic: Clinic) -> None:
    muller = clinic.register("1", "Müller", "Zoë", date(1970, 5, 6)).id
    mullerin = clinic.register("2", "Mullerin", "Anna", date(1980, 1, 2)).id
    other = clinic.register("3", "Schmidt", "Muriel", date(1980, 1, 3)).id

    assert clinic.ids("Patient", family="MULLER", _sort="family") == [muller, mullerin]
    assert clinic.ids("Patient", **{"family:exact": "Müller"}) == [muller]
    assert clinic.ids("Patient", name="zoe") == [muller]
    assert clinic.ids("Patient", **{"name:contains": "llerin"}) == [mullerin]
    assert set(clinic.ids("Patient", name="mu")) == {muller, mullerin, other}
    assert clinic.ids("Patient", family="mu", given="zo") == [muller]
    assert clinic.ids("Patient", family="%") == []
    assert clinic.ids("Patient", birthdate="1980-01-02") == [mullerin]
    assert set(clinic.ids("Patient", birthdate="1980-01")) == {mullerin, other}
    assert clinic.ids("Patient", birthdate=["ge1970", "lt1980"]) == [muller]
    assert set(clinic.ids("Patient", birthdate="ne1980-01-02")) == {muller, other}
    assert len(clinic.ids("Patient", gender="female")) == 3
    assert clinic.ids("Patient", gender="male") == []
    assert clinic.ids("Patient", _id=f"{muller},{other}", _sort="_id") == [muller, other]


def test_identifiers_are_found_with_and_without_their_system(clinic: Clinic) -> None:
    person = clinic.register("M|1")
    order = clinic.place("M|1")
    uid = clinic.image("M|1", order)
    clinic.sign(order)
    (study_id,) = clinic.ids("ImagingStudy")

    escaped = r"M\|1"
    assert clinic.ids("Patient", identifier=escaped) == [person.id]
    assert clinic.ids("Patient", identifier=f"urn:hilum:authority:GENHOSP|{escaped}") == [person.id]
    assert clinic.ids("Patient", identifier=f"urn:hilum:authority:OTHER|{escaped}") == []
    assert clinic.ids("Patient", identifier=f"|{escaped}") == []
    assert clinic.ids("Patient", identifier="urn:hilum:authority:GENHOSP|") == [person.id]
    placer = order.placer_order_number
    for identifier in (
        placer,
        f"urn:hilum:placer-order-number:EPIC|{placer}",
        order.accession_number,
        f"urn:hilum:accession-number|{order.accession_number}",
        f"urn:oid:{uid}",
        f"urn:dicom:uid|urn:oid:{uid}",
        f"nonsense,{placer}",
    ):
        assert clinic.ids("ServiceRequest", identifier=identifier) == [order.id], identifier
    for identifier in (
        f"urn:hilum:placer-order-number:CERNER|{placer}",
        f"urn:hilum:filler-order-number:EPIC|{placer}",
    ):
        assert clinic.ids("ServiceRequest", identifier=identifier) == [], identifier
    for identifier in (uid, f"urn:dicom:uid|urn:oid:{uid}", order.accession_number):
        assert clinic.ids("ImagingStudy", identifier=identifier) == [study_id], identifier
    assert len(clinic.ids("DiagnosticReport", identifier=order.accession_number)) == 1
    assert clinic.ids("DiagnosticReport", identifier=placer) == []
    assert len(clinic.ids("DiagnosticReport", **{"based-on.identifier": placer})) == 1
    for name in ("patient.identifier", "subject:Patient.identifier"):
        assert clinic.ids("ImagingStudy", **{name: escaped}) == [study_id]
        assert clinic.ids("ImagingStudy", **{name: "other"}) == []


def test_orders_studies_and_reports_are_found_by_what_they_say(clinic: Clinic) -> None:
    clinic.register("1")
    chest = clinic.place("1", priority=Priority.STAT, scheduled_at=datetime(2026, 3, 1, 9, tzinfo=UTC))
    head = clinic.place("1", procedure=Code("CTHEAD", "99HIS", "CT Head"))
    clinic.image("1", chest, day="20260301")
    series = new_uid()
    clinic.image("1", head, day="20260302", series=series)
    clinic.sign(chest)
    clinic.sign(head, ReportStatus.PRELIMINARY)
    of = {study["basedOn"][0]["reference"].split("/")[1]: study["id"] for study in clinic.found("ImagingStudy")}

    assert clinic.ids("ServiceRequest", code="CTHEAD") == [head.id]
    assert clinic.ids("ServiceRequest", code="http://loinc.org|CTCHEST") == [chest.id]
    assert clinic.ids("ServiceRequest", code="urn:hilum:coding-scheme:99HIS|CTHEAD") == [head.id]
    assert clinic.ids("ServiceRequest", code="http://snomed.info/sct|CTHEAD") == []
    assert clinic.ids("ServiceRequest", priority="stat") == [chest.id]
    assert len(clinic.ids("ServiceRequest", status="active,completed")) == 2
    assert clinic.ids("ServiceRequest", status="revoked") == []
    assert len(clinic.ids("ServiceRequest", category="http://snomed.info/sct|363679005")) == 2
    assert clinic.ids("ServiceRequest", category="laboratory") == []
    assert clinic.ids("ServiceRequest", occurrence="2026-03-01T10:00:00+01:00") == [chest.id]
    assert clinic.ids("ServiceRequest", occurrence="2026-03-01T10:00") == [chest.id], "the facility's own time"
    assert clinic.ids("ServiceRequest", occurrence="lt2026-03-01T10:00:00+01:00") == []
    assert clinic.ids("ServiceRequest", authored="lt2020") == []
    assert len(clinic.ids("ServiceRequest", authored="gt2020", _lastUpdated="gt2020")) == 2

    assert clinic.ids("ImagingStudy", started="2026-03-01") == [of[chest.id]]
    assert clinic.ids("ImagingStudy", started="ge2026-03-02T10:15:00+01:00") == [of[head.id]]
    assert clinic.ids("ImagingStudy", started="gt2026-03-02T10:15:00+01:00") == []
    assert clinic.ids("ImagingStudy", modality="CT", _sort="started") == [of[chest.id], of[head.id]]
    assert clinic.ids("ImagingStudy", modality="C") == []
    assert clinic.ids("ImagingStudy", series=f"urn:oid:{series}") == [of[head.id]]
    assert clinic.ids("ImagingStudy", basedon=head.id, status="available") == [of[head.id]]

    finals = clinic.found("DiagnosticReport", status="final")
    assert [each["basedOn"][0]["reference"] for each in finals] == [f"ServiceRequest/{chest.id}"]
    assert len(clinic.ids("DiagnosticReport", category="RAD", _sort="-date")) == 2
    assert clinic.found("DiagnosticReport", date="2026-03-02")[0]["status"] == "preliminary"
    assert clinic.ids("DiagnosticReport", category="LAB") == []


def test_two_patients_of_one_name_are_never_mixed(clinic: Clinic) -> None:
    for number in ("1", "2"):
        clinic.register(number)
        order = clinic.place(number)
        clinic.image(number, order)
        clinic.sign(order)
    people = clinic.ids("Patient", family="Doe")
    assert len(people) == 2
    for kind in ("ServiceRequest", "ImagingStudy", "DiagnosticReport"):
        of = [clinic.ids(kind, patient=f"Patient/{person}") for person in people]
        assert [len(each) for each in of] == [1, 1]
        assert of[0] != of[1]


def walk(clinic: Clinic, path: str, **parameters: Any) -> list[list[str]]:
    pages, bundle = [], clinic.get(path, **parameters)
    while True:
        pages.append([entry["resource"]["id"] for entry in bundle.get("entry", [])])
        following = [link["url"] for link in bundle["link"] if link["relation"] == "next"]
        if not following:
            return pages
        bundle = clinic.ask("GET", following[0].removeprefix(clinic.root)).json()


@pytest.mark.parametrize("sort", [None, "_id", "-_id", "-_lastUpdated", "family", "-family"])
def test_pages_follow_each_other_without_gap_or_repetition(sqlite_clinic: Clinic, sort: str | None) -> None:
    made = [sqlite_clinic.register(str(n), family=f"Doe{n % 3}").id for n in range(11)]
    pages = walk(sqlite_clinic, "Patient", _count=4, **({"_sort": sort} if sort else {}))
    assert [len(page) for page in pages] == [4, 4, 3]
    assert sorted(row for page in pages for row in page) == sorted(made)


def test_pages_of_moments_and_of_dates_follow_each_other(clinic: Clinic) -> None:
    clinic.register("1")
    for day in range(1, 6):
        order = clinic.place("1")
        clinic.image("1", order, day=f"2026030{day}")
        clinic.sign(order)
    for kind, sort in (("ServiceRequest", "-authored"), ("DiagnosticReport", "-issued"), ("DiagnosticReport", "date"),
                       ("ImagingStudy", "-started"), ("ImagingStudy", "_lastUpdated")):  # fmt: skip
        pages = walk(clinic, kind, _count=2, _sort=sort)
        assert [len(page) for page in pages] == [2, 2, 1], (kind, sort)
        assert len({row for page in pages for row in page}) == 5
    started = [study["started"][:10] for study in clinic.found("ImagingStudy", _sort="-started")]
    assert started == sorted(started, reverse=True)


def test_a_page_counts_what_it_holds_and_more_when_asked(sqlite_clinic: Clinic) -> None:
    for number in range(5):
        sqlite_clinic.register(str(number))
    assert sqlite_clinic.get("Patient")["total"] == 5
    assert "total" not in sqlite_clinic.get("Patient", _count=2)
    assert sqlite_clinic.get("Patient", _count=2, _total="accurate")["total"] == 5
    for counted in (sqlite_clinic.get("Patient", _summary="count"), sqlite_clinic.get("Patient", _count=0)):
        assert counted["total"] == 5
        assert "entry" not in counted


def test_what_belongs_together_comes_along(clinic: Clinic) -> None:
    person = clinic.register("1")
    order = clinic.place("1")
    clinic.image("1", order)
    clinic.sign(order)

    def along(path: str, **parameters: Any) -> list[str]:
        entries = clinic.get(path, **parameters)["entry"]
        return sorted(e["resource"]["resourceType"] for e in entries if e["search"]["mode"] == "include")

    both = ["DiagnosticReport:based-on", "DiagnosticReport:patient"]
    assert along("DiagnosticReport", _include=both) == ["Patient", "ServiceRequest"]
    assert along("ImagingStudy", _include=["ImagingStudy:basedon:ServiceRequest", "ImagingStudy:endpoint"]) == [
        "Endpoint", "Endpoint", "ServiceRequest",
    ]  # fmt: skip
    everything = ["ImagingStudy:basedon", "DiagnosticReport:based-on"]
    assert along("ServiceRequest", _revinclude=everything) == ["DiagnosticReport", "ImagingStudy"]
    assert along("Patient", _id=person.id, _revinclude=["ServiceRequest:subject"]) == ["ServiceRequest"]
    clinic.get("Patient", answered=400, _revinclude="Patient:link")
    clinic.get("ImagingStudy", answered=400, _include="*")


def test_a_physician_finds_and_counts_only_patients_of_their_own(clinic: Clinic) -> None:
    mine, theirs = clinic.register("1"), clinic.register("2")
    clinic.place("1")
    other = clinic.place("2", ordering_physician=WILSON)
    clinic.image("2", other)
    report = clinic.sign(other)

    assert clinic.ids("Patient", "house") == [mine.id]
    assert clinic.get("Patient", "house", _summary="count")["total"] == 1
    assert clinic.get("Patient", "house", identifier="2")["total"] == 0
    assert clinic.get("Patient", "house", _count=1, _total="accurate")["total"] == 1
    for kind, row_id in (("Patient", theirs.id), ("ServiceRequest", other.id), ("DiagnosticReport", report.id)):
        assert clinic.get(f"{kind}/{row_id}", "wilson")["id"] == row_id
        refused = clinic.get(f"{kind}/{row_id}", "house", 404)
        assert refused == clinic.get(f"{kind}/01ZZZZZZZZZZZZZZZZZZZZZZZZ", "house", 404), "both look alike"
    assert clinic.ids("ImagingStudy", "house") == []
    assert len(clinic.ids("ImagingStudy", "wilson")) == 1


def test_what_comes_along_is_only_what_the_asker_may_see(clinic: Clinic) -> None:
    clinic.register("1")
    order = clinic.place("1")
    clinic.sign(order)
    bundle = clinic.get("ServiceRequest", "technologist", _revinclude="DiagnosticReport:based-on")
    assert [entry["resource"]["resourceType"] for entry in bundle["entry"]] == ["ServiceRequest"]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("nonsense=1", "nonsense"),
        ("family:sounds=x", "family:sounds"),
        ("identifier:missing=true", "identifier:missing"),
        ("general-practitioner.identifier=1", "general-practitioner.identifier"),
        ("family=", "family"),
        ("family=a,,b", "family"),
        ("identifier=|", "identifier"),
        ("birthdate=yesterday", "birthdate"),
        ("birthdate=2026-02-30", "birthdate"),
        ("birthdate=ap2026", "birthdate"),
        ("_count=-1", "_count"),
        ("_count=many", "_count"),
        ("_sort=shoesize", "_sort"),
        ("_page=rubbish", "_page"),
        ("_page=WzFd", "_page"),
        ("_page=WyJBIiwgIjIwMjYiLCB0cnVlXQ", "_page"),
        ("_summary=text", "_summary"),
        ("_total=roughly", "_total"),
        ("_count=1&_count=2", "_count"),
        ("active=maybe", "active"),
        ("_id=a/b/Patient/..%2F", "_id"),
        ("family=a%00b", "family"),
    ],
)
def test_what_is_not_understood_is_refused_by_its_name(empty_clinic: Clinic, query: str, named: str) -> None:
    outcome = empty_clinic.get(f"Patient?{query}", answered=400)
    assert outcome["resourceType"] == "OperationOutcome"
    assert outcome["issue"][0]["expression"] == [named]


def test_an_unknown_parameter_is_left_out_when_the_asker_is_lenient(sqlite_clinic: Clinic) -> None:
    sqlite_clinic.register("1")
    answer = sqlite_clinic.ask("GET", "/fhir/Patient?shoesize=42", headers={"Prefer": "handling=lenient"}).json()
    assert [entry["search"]["mode"] for entry in answer["entry"]] == ["match", "outcome"]
    assert answer["entry"][1]["resource"]["issue"][0]["severity"] == "warning"
    assert "shoesize" not in answer["link"][0]["url"]


def test_a_search_is_bounded(sqlite_clinic: Clinic) -> None:
    sqlite_clinic.get("Patient?" + "&".join(["family=a"] * 41), answered=413)
    sqlite_clinic.get("Patient?family=" + ",".join(["a"] * 51), answered=413)
    sqlite_clinic.get("Patient?family=" + "a" * 1001, answered=413)
    sqlite_clinic.register("1")
    assert sqlite_clinic.get("Patient?_count=1000000")["total"] == 1


def test_a_search_by_form_is_the_same_search(sqlite_clinic: Clinic) -> None:
    person = sqlite_clinic.register("1", "Müller")
    sqlite_clinic.register("2", "Schmidt")
    answer = sqlite_clinic.ask("POST", "/fhir/Patient/_search", data={"family": "Müller"}).json()
    assert [entry["resource"]["id"] for entry in answer["entry"]] == [person.id]
    sqlite_clinic.ask("POST", "/fhir/Patient/_search", status=415, json={"family": "Müller"})
    sqlite_clinic.ask("POST", "/fhir/Patient/_search", status=413, data={"family": "a" * 70_000})


def queries_of(clinic: Clinic, path: str, **parameters: Any) -> int:
    clinic.get(path, **parameters)  # audited once; what is counted is the reading
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().upper().startswith("SELECT"):
            seen.append(statement)

    sa.event.listen(clinic.store.engine, "before_cursor_execute", note)
    try:
        assert clinic.get(path, **parameters)["entry"]
    finally:
        sa.event.remove(clinic.store.engine, "before_cursor_execute", note)
    return len(seen)


@pytest.mark.parametrize("kind", ["Patient", "ServiceRequest", "ImagingStudy", "DiagnosticReport"])
def test_twenty_resources_take_as_many_queries_as_one(sqlite_clinic: Clinic, kind: str) -> None:
    for number in range(20):
        sqlite_clinic.register(str(number))
        order = sqlite_clinic.place(str(number))
        sqlite_clinic.image(str(number), order)
        sqlite_clinic.sign(order)
    one = queries_of(sqlite_clinic, kind, _count=1)
    twenty = queries_of(sqlite_clinic, kind, _count=20)
    assert twenty == one <= 7


def test_the_hot_searches_use_an_index(store: Store, tmp_path: Path) -> None:
    """The plan of a search by number, by order and by patient reads no table from end to end."""
    if store.engine.dialect.name != "sqlite":
        return  # PostgreSQL chooses by the size of tables, and these are empty
    plans: list[str] = []
    with open_clinic(store, tmp_path / "home") as clinic:
        clinic.register("1")
        order = clinic.place("1")
        clinic.image("1", order)
        clinic.sign(order)
        statements: list[tuple[str, Any]] = []

        def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            if "AS row_id" in statement:
                statements.append((statement, parameters))

        sa.event.listen(store.engine, "before_cursor_execute", note)
        clinic.found("Patient", identifier="1")
        clinic.found("ServiceRequest", identifier="urn:hilum:placer-order-number:EPIC|PL1")
        clinic.found("ImagingStudy", basedon=order.id)
        clinic.found("ImagingStudy", identifier=order.accession_number)
        clinic.found("ImagingStudy", patient=order.patient_id)
        clinic.found("DiagnosticReport", identifier=order.accession_number)
        clinic.found("DiagnosticReport", based_on=order.id)
        clinic.found("DiagnosticReport", **{"patient.identifier": "1"})
        sa.event.remove(store.engine, "before_cursor_execute", note)
        with store.engine.connect() as connection:
            for statement, parameters in statements:
                rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
                plans += [row[-1] for row in rows]
    assert len(statements) == 8
    assert [step for step in plans if step.startswith("SCAN ") and "INDEX" not in step] == []


def test_an_outside_client_reads_and_searches(sqlite_clinic: Clinic) -> None:
    sqlite_clinic.register("1")
    order = sqlite_clinic.place("1")
    sqlite_clinic.sign(order)
    asked = fhirclient_client.FHIRClient(settings={"app_id": "test", "api_base": f"{sqlite_clinic.root}/fhir"})
    asked.server.session.headers["X-Asker"] = "service"
    found = DiagnosticReport.where({"based-on": order.id}).perform_resources(asked.server)
    assert [report.status for report in found] == ["final"]
    read = DiagnosticReport.read(found[0].id, asked.server)
    assert read.code.text == CT_CHEST.meaning
