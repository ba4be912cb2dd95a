"""CDS Hooks: a draft order gets cards that name its priors and open them, and the check is tied to the order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import sqlalchemy as sa

from fixtures.fhir_server import CT_CHEST, Clinic, open_clinic
from fixtures.stores import open_store
from hilum.core.order import Code, OrderStatus
from hilum.core.report import ReportStatus
from hilum.fhir.cds_cards import relative_age
from hilum.storage import tables
from hilum.storage.store import Store

SIGN, SELECT, VIEW = "prior-imaging-order-sign", "prior-imaging-order-select", "prior-imaging-patient-view"
LONG_AGO = (datetime.now(UTC) - timedelta(days=100)).date()


@pytest.fixture
def both_clinics(store: Store, tmp_path: Path) -> Iterator[Clinic]:
    """A clinic on each database in turn, for what queries of its own."""
    with open_clinic(store, tmp_path / "home") as opened:
        yield opened


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


def draft(code: str = "CTCHEST", display: str = "CT Chest", **elements: Any) -> dict[str, Any]:
    coding = {"system": "http://loinc.org", "code": code, "display": display}
    request = {"resourceType": "ServiceRequest", "id": "d1", "status": "draft", "intent": "order"}
    return {**request, "code": {"coding": [coding]}, **elements}


def request_of(hook: str, patient_id: str, *drafts: dict[str, Any], **elements: Any) -> dict[str, Any]:
    context: dict[str, Any] = {"userId": "Practitioner/1", "patientId": patient_id}
    if hook != "patient-view":
        entries = [{"resource": each} for each in drafts]
        context["draftOrders"] = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    return {"hook": hook, "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea", "context": context, **elements}


def cards_of(clinic: Clinic, service: str, body: Any, who: str = "service", status: int = 200) -> list[dict[str, Any]]:
    answer = clinic.ask("POST", f"/cds-services/{service}", who, status, json=body)
    cards: list[dict[str, Any]] = answer.json().get("cards", [])
    for card in cards:
        assert len(card["summary"]) <= 140
        assert card["source"]["label"] == "Hilum"
        assert card["indicator"] in ("info", "warning")
        assert re.fullmatch(r"[0-9a-f-]{36}", card["uuid"])
    return cards


def performed(clinic: Clinic, number: str, *, impression: str = "Nodule of 6 mm.", **details: Any) -> tuple[Any, str]:
    """An exam of long ago, whose order is not a month old: a prior, and so a possible duplicate by its procedure."""
    order = clinic.place(number, **details)
    uid = clinic.image(number, order, day=LONG_AGO.strftime("%Y%m%d"))
    clinic.sign(order, impression=impression)
    return order, uid


def test_discovery_is_open_and_names_three_services(empty_clinic: Clinic) -> None:
    answer = requests.get(f"{empty_clinic.root}/cds-services", timeout=30)
    assert answer.headers["content-type"] == "application/json"
    hooks = {service["id"]: service["hook"] for service in answer.json()["services"]}
    assert hooks == {SELECT: "order-select", SIGN: "order-sign", VIEW: "patient-view"}
    assert answer.json()["services"][0]["prefetch"] == {"patient": "Patient/{{context.patientId}}"}


def test_a_prior_is_named_with_its_age_and_opened_by_the_card(both_clinics: Clinic) -> None:
    person = both_clinics.register("M1")
    order, uid = performed(both_clinics, "M1", procedure=Code("CTCHESTC", "LN", "CT Chest with contrast"))
    (card,) = cards_of(both_clinics, SIGN, request_of("order-sign", person.id, draft()))
    assert card["summary"] == "CT Chest with contrast 3 months ago"
    assert card["indicator"] == "info"
    assert LONG_AGO.isoformat() in card["detail"]
    assert order.accession_number in card["detail"]
    assert "Nodule of 6 mm." in card["detail"]
    assert card["links"] == [
        {
            "label": "Open the images",
            "url": f"{both_clinics.root}/viewer/launch?requestType=STUDY&studyUID={uid}",
            "type": "absolute",
        }
    ]


def test_the_same_procedure_again_is_a_warning_that_still_opens_the_prior(clinic: Clinic) -> None:
    person = clinic.register("M1")
    _, uid = performed(clinic, "M1")
    waiting = clinic.place("M1")
    cards = cards_of(clinic, SIGN, request_of("order-sign", person.id, draft()))
    assert [card["indicator"] for card in cards] == ["warning", "warning"]
    assert all(card["summary"].startswith("Possible duplicate: CT Chest ordered today") for card in cards)
    with_images = next(card for card in cards if card.get("links"))
    assert uid in with_images["links"][0]["url"]
    assert LONG_AGO.isoformat() in with_images["detail"]
    without = next(card for card in cards if not card.get("links"))
    assert waiting.accession_number in without["detail"]


def test_no_prior_and_an_unknown_patient_have_no_cards(clinic: Clinic) -> None:
    person = clinic.register("M1")
    assert cards_of(clinic, SIGN, request_of("order-sign", person.id, draft())) == []
    assert cards_of(clinic, SIGN, request_of("order-sign", "unknown", draft())) == []
    assert cards_of(clinic, VIEW, request_of("patient-view", "unknown")) == []


def test_a_prior_of_another_region_or_of_a_patient_of_the_same_name_is_not_named(clinic: Clinic) -> None:
    person = clinic.register("M1")
    clinic.register("M2")
    performed(clinic, "M1", procedure=Code("CTHEAD", "LN", "CT Head"))
    performed(clinic, "M2")
    assert cards_of(clinic, SIGN, request_of("order-sign", person.id, draft())) == []


def test_the_ehrs_own_patient_is_known_by_its_identifiers(both_clinics: Clinic) -> None:
    both_clinics.register("M1")
    performed(both_clinics, "M1")
    foreign = {"system": "https://ehr.example/mrn", "value": "M1"}
    ours = {"system": "urn:hilum:authority:GENHOSP", "value": "M1"}
    same = {"resourceType": "Patient", "birthDate": "1980-01-02", "name": [{"family": "DOE"}]}

    def asked(patient: dict[str, Any], **elements: Any) -> int:
        body = request_of("order-sign", "ehr-77", draft(**elements), prefetch={"patient": patient})
        return len(cards_of(both_clinics, SIGN, body))

    assert asked({"identifier": [ours]}) == 1
    assert asked({"identifier": [{"value": "M1"}]}) == 1, "the facility's own authority stands in"
    assert asked({**same, "identifier": [foreign]}) == 1, "the only one of this number, name and birth date"
    assert asked({**same, "birthDate": "1981-01-02", "identifier": [foreign]}) == 0
    assert asked({"identifier": [foreign]}) == 0, "a number of an unknown authority alone proves nobody"
    assert asked({}, subject={"identifier": ours}) == 1


def test_a_request_that_names_two_patients_is_refused(clinic: Clinic) -> None:
    person = clinic.register("M1")
    clinic.register("M2")
    prefetch = {"patient": {"identifier": [{"system": "urn:hilum:authority:GENHOSP", "value": "M2"}]}}
    cards_of(clinic, SIGN, request_of("order-sign", person.id, draft(), prefetch=prefetch), status=400)


def test_only_selected_orders_are_looked_at_when_one_is_chosen(clinic: Clinic) -> None:
    person = clinic.register("M1")
    performed(clinic, "M1", procedure=Code("CTHEAD", "LN", "CT Head"))
    body = request_of("order-select", person.id, draft("CTHEAD2", "CT Head"), draft(id="d2"))
    body["context"]["selections"] = ["ServiceRequest/d2"]
    assert cards_of(clinic, SELECT, body) == []
    body["context"]["selections"] = ["ServiceRequest/d1", "ServiceRequest/d2"]
    assert [card["summary"] for card in cards_of(clinic, SELECT, body)] == ["CT Head 3 months ago"]


def test_orders_of_other_kinds_are_left_alone(clinic: Clinic) -> None:
    person = clinic.register("M1")
    performed(clinic, "M1")
    laboratory = [{"coding": [{"system": "http://snomed.info/sct", "code": "108252007"}]}]
    imaging = [{"coding": [{"system": "http://snomed.info/sct", "code": "363679005"}]}]
    medication = {"resourceType": "MedicationRequest", "id": "m1"}
    assert cards_of(clinic, SIGN, request_of("order-sign", person.id, draft(category=laboratory), medication)) == []
    assert len(cards_of(clinic, SIGN, request_of("order-sign", person.id, draft(category=imaging)))) == 1


def test_a_chart_shows_the_latest_exams_and_says_how_many_more(clinic: Clinic) -> None:
    person = clinic.register("M1")
    for number in range(7):
        clinic.image("M1", clinic.place("M1", procedure=Code(f"X{number}", "LN", f"CT Head {number}")))
    cards = cards_of(clinic, VIEW, request_of("patient-view", person.id))
    assert len(cards) == 6
    assert cards[-1]["summary"] == "2 more earlier exams"
    assert checks(clinic) == [], "looking at a chart is no check of an order"


def checks(clinic: Clinic) -> list[Any]:
    with clinic.store.read() as db:
        return list(db.execute(sa.select(tables.prior_check).order_by(tables.prior_check.c.id)))


def test_the_check_is_tied_to_the_order_that_follows(both_clinics: Clinic) -> None:
    person = both_clinics.register("M1")
    typed = {"type": {"coding": [{"code": "PLAC"}]}, "value": "PL77"}
    cards_of(
        both_clinics, SIGN, request_of("order-sign", person.id, draft(identifier=[typed]), draft("CTHEAD", "CT Head"))
    )
    head = both_clinics.place("M1", procedure=Code("CTHEAD", "LN", "CT Head"))
    chest = both_clinics.place("M1", placer_order_number="PL77")
    tied = {check.procedure_code: check.order_id for check in checks(both_clinics)}
    assert tied == {"CTCHEST": chest.id, "CTHEAD": head.id}


def test_who_may_not_read_reports_or_images_is_told_neither(clinic: Clinic) -> None:
    person = clinic.register("M1")
    performed(clinic, "M1")
    body = request_of("order-sign", person.id, draft())
    (for_desk,) = cards_of(clinic, SIGN, body, "scheduler")
    assert "Nodule" not in for_desk["detail"]
    assert "links" not in for_desk
    (for_technologist,) = cards_of(clinic, SIGN, body, "technologist")
    assert "Nodule" not in for_technologist["detail"]
    assert for_technologist["links"]


def test_a_physician_learns_nothing_of_a_strangers_patient(clinic: Clinic) -> None:
    person = clinic.register("M1")
    performed(clinic, "M1")
    body = request_of("order-sign", person.id, draft())
    assert len(cards_of(clinic, SIGN, body, "house")) == 1
    assert cards_of(clinic, SIGN, body, "wilson") == cards_of(clinic, SIGN, request_of("order-sign", "x", draft()))


def test_a_role_without_the_right_is_refused_and_that_is_audited(clinic: Clinic) -> None:
    person = clinic.register("M1")
    for service, body in (
        (SIGN, request_of("order-sign", person.id, draft())),
        (VIEW, request_of("patient-view", "unknown")),
        (f"{SIGN}/feedback", {"feedback": [{"card": "c", "outcome": "accepted"}]}),
    ):
        cards_of(clinic, service, body, "auditor", 403)
    with clinic.store.read() as db:
        row = tables.audit_event.c
        assert db.execute(sa.select(sa.func.count()).where(row.outcome == "refused")).scalar_one() == 3
    answer = requests.post(f"{clinic.root}/cds-services/{SIGN}", json={}, timeout=30)
    assert answer.status_code == 401


def test_withheld_reports_and_images_are_not_relied_on(clinic: Clinic) -> None:
    person = clinic.register("M1")
    order, _ = performed(clinic, "M1")
    report = clinic.found("DiagnosticReport")[0]
    assert report["status"] == "final"
    with clinic.store.read() as db:
        revision = db.execute(sa.select(tables.report.c.revision)).scalar_one()
    clinic.sign(order, ReportStatus.RETRACTED, "", revision)
    (card,) = cards_of(clinic, SIGN, request_of("order-sign", person.id, draft()))
    assert "Its report was retracted." in card["detail"]
    with clinic.store.engine.begin() as db:
        db.execute(tables.series.update().values(withheld=True))
    (card,) = cards_of(clinic, SIGN, request_of("order-sign", person.id, draft()))
    assert "links" not in card


def test_texts_from_outside_are_no_markup(clinic: Clinic) -> None:
    person = clinic.register("M1")
    performed(clinic, "M1", impression="[click](http://evil.example) <script>")
    (card,) = cards_of(clinic, SIGN, request_of("order-sign", person.id, draft()))
    assert r"\[click\]\(http://evil.example\) \<script\>" in card["detail"]


def test_feedback_is_kept(both_clinics: Clinic) -> None:
    items = [
        {"card": "card-1", "outcome": "accepted", "outcomeTimestamp": "2026-11-24T10:00:00Z"},
        {"card": "card-2", "outcome": "overridden", "overrideReason": {"userComment": "needed again"}},
    ]
    both_clinics.ask("POST", f"/cds-services/{SIGN}/feedback", json={"feedback": items})
    with both_clinics.store.read() as db:
        kept = db.execute(sa.select(tables.cds_feedback).order_by(tables.cds_feedback.c.card)).all()
    assert [(row.service, row.card, row.outcome) for row in kept] == [
        (SIGN, "card-1", "accepted"), (SIGN, "card-2", "overridden"),
    ]  # fmt: skip
    assert kept[1].body["overrideReason"]["userComment"] == "needed again"


@pytest.mark.parametrize(
    "change",
    [
        {"hook": "patient-view"},
        {"hookInstance": None},
        {"context": None},
        {"context": {"patientId": 7}},
        {"context": {"patientId": "x"}},
        {"context": {"patientId": "x", "draftOrders": {"entry": "none"}}},
        {"context": {"patientId": "x", "draftOrders": {"entry": [7]}}},
        {"prefetch": {"patient": {"identifier": {"value": "M1"}}}},
    ],
)
def test_a_malformed_request_is_refused_by_its_field(empty_clinic: Clinic, change: dict[str, Any]) -> None:
    body = request_of("order-sign", "x", draft()) | change
    answer = empty_clinic.ask("POST", f"/cds-services/{SIGN}", status=400, json=body)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["field"]


def test_what_is_no_request_is_refused(empty_clinic: Clinic) -> None:
    path = f"/cds-services/{SIGN}"
    json_type = {"Content-Type": "application/json"}
    for content in (b"", b"{", b"[]", b"\xff", b"[" * 100_000):
        empty_clinic.ask("POST", path, status=400, data=content, headers=json_type)
    empty_clinic.ask("POST", path, status=413, data=b" " * (4 * 1024 * 1024 + 1), headers=json_type)
    empty_clinic.ask("POST", path, status=415, data="hook=order-sign")
    empty_clinic.ask("GET", path, status=405)
    empty_clinic.ask("POST", "/cds-services/other", status=404, json={})
    for feedback in ({}, {"feedback": []}, {"feedback": [{"card": "c", "outcome": "ignored"}]}):
        empty_clinic.ask("POST", f"{path}/feedback", status=400, json=feedback)
    many = {"feedback": [{"card": "c", "outcome": "accepted"}] * 51}
    empty_clinic.ask("POST", f"{path}/feedback", status=413, json=many)
    twenty_one = request_of("order-sign", "x", *[draft()] * 21)
    empty_clinic.ask("POST", path, status=413, json=twenty_one)


@pytest.mark.parametrize(
    ("day", "age"),
    [
        (date(2026, 3, 31), "today"),
        (date(2026, 4, 2), "today"),
        (date(2026, 3, 30), "yesterday"),
        (date(2026, 3, 20), "11 days ago"),
        (date(2026, 3, 10), "3 weeks ago"),
        (date(2026, 1, 1), "2 months ago"),
        (date(2025, 3, 31), "11 months ago"),
        (date(2024, 1, 1), "2 years ago"),
    ],
)
def test_an_age_is_said_as_people_say_it(day: date, age: str) -> None:
    assert relative_age(day, date(2026, 3, 31)) == age


def test_a_cancelled_order_is_no_duplicate(clinic: Clinic) -> None:
    person = clinic.register("M1")
    order = clinic.place("M1", procedure=CT_CHEST)
    with clinic.store.engine.begin() as db:
        db.execute(tables.imaging_order.update().values(status=OrderStatus.CANCELLED.value))
    assert order.procedure == CT_CHEST
    assert cards_of(clinic, SIGN, request_of("order-sign", person.id, draft())) == []
