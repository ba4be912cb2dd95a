"""Who someone is, asked over HL7: by what is known of them (PDQ, QBP^Q22) and by a foreign number (PIX, QBP^Q23)."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from hl7_wire import Exchange, adt, message

from hilum.hl7.er7 import Message
from hilum.storage import tables
from hilum.storage.store import Store

PEOPLE = (
    "PID|1||100^^^GENHOSP^MR~77^^^NATION^NI||DOE^JANE^Q^^^^L||19800102|F",
    "PID|1||101^^^GENHOSP^MR||DOERING^JANE^^^^^L||19800102|F",
    "PID|1||102^^^GENHOSP^MR||DOE^JOHN^^^^^L||19751224|M",
    "PID|1||103^^^GENHOSP^MR||MÜLLER^ANNA^^^^^L||19900909|F",
)


@pytest.fixture
def door(sqlite_store: Store, tmp_path: Path) -> Exchange:
    opened = Exchange(sqlite_store, tmp_path / "home")
    for number, person in enumerate(PEOPLE):
        opened.accept(adt("A04", person, control=f"R{number}"))
    return opened


def query(door: Exchange, trigger: str, third: str, rest: str = "", rcp: str = "RCP|I", control: str = "Q1") -> Message:
    name = {"Q22": "IHE PDQ Query", "Q23": "IHE PIX Query"}[trigger]
    return door.ask(message(f"QBP^{trigger}", f"QPD|{name}|TAG1|{third}{rest}", rcp, control=control))


def numbers(answer: Message) -> list[str]:
    return [pid.get(3) for pid in answer.segments("PID")]


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ("@PID.5.1.1^Doe", ["100", "102", "101"]),
        ("@PID.5.1.1^DOE*~@PID.5.2^Jane", ["100", "101"]),
        ("@PID.5.1^doe~@PID.8^M", ["102"]),
        ("@PID.7^19800102", ["100", "101"]),
        ("@PID.3.1^77~@PID.3.4.1^NATION", ["100"]),
        ("@PID.3^100", ["100"]),
        ("@PID.5.1.1^Muller", ["103"]),
        ("@PID.5.2^Doe", []),
        ("@PID.5.1.1^%", []),
    ],
)
def test_people_are_found_by_what_is_known_of_them(door: Exchange, parameters: str, found: list[str]) -> None:
    answer = query(door, "Q22", parameters)
    assert sorted(numbers(answer)) == sorted(found)
    assert (answer.type, answer.trigger, answer.get("MSA-1"), answer.get("MSA-2")) == ("RSP", "K22", "AA", "Q1")
    assert [answer.get(f"QAK-{field}") for field in (1, 2, 4)] == ["TAG1", "OK" if found else "NF", str(len(found))]
    assert answer.get("QPD-3[1].1") == parameters.partition("^")[0], "the query comes back as it was asked"


def test_more_than_was_asked_for_is_counted_and_not_told(door: Exchange) -> None:
    answer = query(door, "Q22", "@PID.5.1.1^Doe", rcp="RCP|I|2^RD")
    assert len(numbers(answer)) == 2
    assert [answer.get(f"QAK-{field}") for field in (4, 5, 6)] == ["3", "2", "1"]


@pytest.mark.parametrize("count", ["²", "9" * 5000, "-1", "0"])
def test_a_count_that_is_none_asks_for_as_many_as_are_told_at_once(door: Exchange, count: str) -> None:
    assert len(numbers(query(door, "Q22", "@PID.5.1.1^Doe", rcp=f"RCP|I|{count}^RD"))) == 3


def test_only_numbers_of_the_wanted_domain_are_told(door: Exchange) -> None:
    answer = query(door, "Q22", "@PID.5.1.1^Doe~@PID.5.2^Jane", "|||||^^^NATION")
    assert next(pid.text(3) for pid in answer.segments("PID")).startswith("77^^^NATION")


@pytest.mark.parametrize(
    ("trigger", "third", "rest", "place"),
    [
        ("Q22", "@PID.18^4711", "", "QPD^1^3"),
        ("Q22", "@PID.8^F", "", "QPD^1^3"),
        ("Q22", "@PID.7^yesterday", "", "QPD^1^3"),
        ("Q22", "@PID.7^2026W011", "", "QPD^1^3"),
        ("Q22", "@PID.5.1.1^Doe", "|||||^^^ELSEWHERE", "QPD^1^8"),
        ("Q23", "999^^^GENHOSP", "", "QPD^1^3"),
        ("Q23", "100^^^GENHOSP", "|^^^ELSEWHERE", "QPD^1^4"),
        ("Q23", "", "", "QPD^1^3"),
    ],
)
def test_what_cannot_be_answered_is_an_error_with_its_place(
    door: Exchange, trigger: str, third: str, rest: str, place: str
) -> None:
    answer = query(door, trigger, third, rest)
    assert (answer.type, answer.get("MSA-1"), answer.get("QAK-2")) == ("RSP", "AE", "AE")
    segment = answer.segment("ERR")
    assert segment is not None and segment.text(2).startswith(place)
    assert numbers(answer) == []


def test_a_number_leads_to_the_others_also_of_merged_records_and_to_nothing_else(door: Exchange) -> None:
    alone = query(door, "Q23", "102^^^GENHOSP")
    assert (alone.trigger, alone.get("QAK-2"), numbers(alone)) == ("K23", "NF", [])
    door.accept(adt("A40", PEOPLE[0], "MRG|101^^^GENHOSP^MR", control="MERGE", at="20260302120000"))
    answer = query(door, "Q23", "101^^^GENHOSP", control="Q2")
    (pid,) = answer.segments("PID")
    assert [(each.get(1), each.get(4)) for each in pid.repetitions(3)] == [("100", "GENHOSP"), ("77", "NATION")]
    assert not pid.text(5).strip() and not pid.text(7) and not pid.text(8)
    national = query(door, "Q23", "101^^^GENHOSP", "|^^^NATION", control="Q3")
    assert numbers(national) == ["77"]


def test_each_person_who_was_told_of_is_in_the_audit_trail(door: Exchange) -> None:
    query(door, "Q22", "@PID.5.1.1^Doe~@PID.5.2^Jane")
    audit = tables.audit_event
    with door.store.read() as db:
        rows = db.execute(sa.select(audit.c.patient_id).where(audit.c.action == "read-patient")).scalars().all()
    assert len({row for row in rows if row}) == 2


def test_the_same_query_again_is_answered_by_what_is_known_then(door: Exchange) -> None:
    assert numbers(query(door, "Q22", "@PID.3^100")) == ["100"]
    door.accept(adt("A08", PEOPLE[0].replace("DOE", "ROE"), control="A08", at="20260302120000"))
    (pid,) = query(door, "Q22", "@PID.3^100").segments("PID")
    assert pid.get(5) == "ROE"


def test_who_is_not_let_in_gets_no_answer_that_was_somebody_elses(door: Exchange, tmp_path: Path) -> None:
    for trigger, third in (("Q22", "@PID.3^100"), ("Q23", "100^^^GENHOSP")):
        assert numbers(query(door, trigger, third, control=trigger))
    before = door.rows(tables.inbound_message)
    elsewhere = Exchange(door.store, tmp_path / "closed", "")
    for trigger, third in (("Q22", "@PID.3^100"), ("Q23", "100^^^GENHOSP")):
        answer = query(elsewhere, trigger, third, control=trigger)
        assert (answer.get("MSA-1"), numbers(answer)) == ("AR", [])
    assert elsewhere.ask(adt("A04", PEOPLE[0], control="R0")).get("MSA-1") == "AR", "nor that of another message"
    assert door.rows(tables.inbound_message) == before


def test_what_is_of_accounts_and_places_is_kept_and_a_changed_number_is_the_same_person(door: Exchange) -> None:
    for event in ("A09", "A10", "A35", "A41", "A44", "A45"):
        answer = door.ask(adt(event, PEOPLE[2], "MRG|^|", control=event))
        assert answer.get("MSA-1") == "AA", event
    door.accept(
        adt("A47", "PID|1||202^^^GENHOSP^MR||DOE^JOHN^^^^^L||19751224|M", "MRG|102^^^GENHOSP^MR", control="A47")
    )
    assert numbers(query(door, "Q23", "102^^^GENHOSP")) == ["202"]
