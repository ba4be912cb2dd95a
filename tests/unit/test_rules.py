"""The conditions of routes: CEL over what an event concerns, refused when the configuration is read, bounded."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from hilum.core.event import Event, EventName
from hilum.core.order import Code, Filler, Order, OrderStatus, Physician, Priority
from hilum.core.patient import Demographics, Patient, PatientIdentifier, PersonName
from hilum.core.report import Report, ReportStatus, ReportVersion
from hilum.core.study import MatchState, Study
from hilum.delivery.check import check_delivery
from hilum.delivery.ports import EventContext
from hilum.delivery.rules import FIELDS, ConditionFailed, RouteError, Rules, check_routes, values_of
from hilum.settings import Settings
from hilum.storage.messages import JournaledMessage

NOW = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
ORDER = Order(
    "o1", "p1", "A1", "P1", "EPIC", "A1", "HILUM", Filler.HILUM, "1.2.3", "RP1", Code("CTCH", "L", "CT chest"), "CT",
    Priority.STAT, OrderStatus.COMPLETED, NOW,
)  # fmt: skip
PATIENT = Patient(
    "p1", Demographics(PersonName("DOE", "JANE"), date(1980, 1, 2), "F"), (PatientIdentifier("77", "GENHOSP"),)
)
VERSION = ReportVersion("r1", 1, ReportStatus.PRELIMINARY, "f", "i", Physician("R42"), NOW, NOW)
REPORT = Report("r1", "o1", "p1", ReportStatus.FINAL, 2, (VERSION,))
STUDY = Study("s1", "1.2.3", "p1", "o1", MatchState.VERIFIED, "A1", "", "", "", ("CT", "SR"), 2, 90, NOW, NOW, None, 1)
MESSAGE = JournaledMessage("m1", NOW, "EPIC|GENHOSP", "C1", "d", "ADT^A04", b"MSH", b"", "applied", "", 1)
FULL = EventContext(
    Event("e1", EventName.REPORT_SIGNED, NOW, "p1", "o1", details={"status": "preliminary"}),
    PATIENT, ORDER, (), (STUDY,), REPORT, VERSION, MESSAGE,
)  # fmt: skip
BARE = EventContext(Event("e2", EventName.REPORT_SIGNED, NOW))


def settings(*conditions: str, **extra: Any) -> Settings:
    routes = [{"on": "ReportSigned", "if": condition, "to": ["ehr"]} for condition in conditions]
    destination = {"name": "ehr", "kind": "file", "address": "file:///out"} | extra
    return Settings(home=Path("/nowhere"), destination=[destination], route=routes)


def holds(condition: str, context: EventContext = FULL) -> bool:
    (rule,) = Rules.of(settings(condition)).on(EventName.REPORT_SIGNED)
    return rule.holds(values_of(context))


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "report.status != 'draft'",
        "report.status == 'preliminary' && report.version == 1",
        "order.filler == 'hilum' && order.priority in ['stat', 'urgent']",
        "'SR' in study.modalities",
        "patient.authority == 'GENHOSP'",
        "message.type == 'ADT' && message.trigger == 'A04'",
        "event.details.status == 'preliminary'",
        "event.name == 'ReportSigned' && event.at.startsWith('2026-03-04T05:06')",
    ],
)
def test_a_condition_sees_what_the_event_concerns(condition: str) -> None:
    assert holds(condition)


def test_a_report_is_seen_in_the_version_that_the_event_speaks_of() -> None:
    assert not holds("report.status == 'final'")


@pytest.mark.parametrize(
    "condition",
    ["order.filler == 'hilum'", "order.filler != 'hilum'", "!(order.filler == 'hilum')", "'CT' in study.modalities"],
)
def test_a_condition_on_an_absent_thing_is_false(condition: str) -> None:
    assert not holds(condition, BARE)


def test_an_absent_thing_does_not_spoil_the_other_side_of_an_or() -> None:
    assert holds("order.filler == 'hilum' || event.name == 'ReportSigned'", BARE)


def test_every_documented_field_is_there() -> None:
    values = values_of(FULL)
    assert {name: tuple(fields) for name, fields in values.items()} == FIELDS


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("report.state == 'final'", "perhaps `report.status`"),
        ("report.status = 'final'", "not valid CEL"),
        ("raport.status == 'final'", "not valid CEL"),
        ("'final'", "neither true nor false"),
        ("(" * 500 + "true" + ")" * 500, "not valid CEL"),
    ],
)
def test_a_condition_that_cannot_be_used_is_refused_by_the_number_of_its_route(condition: str, said: str) -> None:
    with pytest.raises(RouteError, match="route\\[1\\]") as refused:
        Rules.of(settings("true", condition))
    assert said in refused.value.message
    assert check_routes(settings("true", condition)) == [refused.value.message]


def test_words_inside_a_text_are_no_fields() -> None:
    assert not holds("order.reason == 'x'".replace("order.reason", "order.sender") + " || 'report.foo' == 'x'")


@pytest.mark.parametrize("condition", ["report.version.startsWith('1')", "1 / (report.version - 1) == 1"])
def test_a_condition_that_comes_to_no_answer_is_told_apart_from_one_that_is_false(condition: str) -> None:
    with pytest.raises(ConditionFailed):
        holds(condition)


def test_no_condition_can_hold_the_router_up() -> None:
    ten = "[1,2,3,4,5,6,7,8,9,10]"
    condition = "true"
    for letter in "abcdefgh":
        condition = f"{ten}.all({letter}, {condition})"
    started = time.process_time()
    with pytest.raises(ConditionFailed):
        holds(condition)
    assert time.process_time() - started < 2


def test_check_names_a_kind_that_nothing_can_send_to_and_a_destination_without_route() -> None:
    stow = settings("", kind="stow", address="http://127.0.0.1:1/dicom-web")
    assert any('"stow"' in line for line in check_delivery(stow, {"file", "hl7"}))
    assert check_delivery(settings(), {"file"}) == ['No route leads to destination "ehr".']
    assert check_delivery(settings(""), {"file"}) == []


def test_check_names_a_mail_destination_without_recipients() -> None:
    mail = settings("", kind="smtp", address="smtp://127.0.0.1")
    assert any("recipients" in line for line in check_delivery(mail, {"smtp"}))
