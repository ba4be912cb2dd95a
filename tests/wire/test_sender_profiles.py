"""Profiles of senders as files: what a sender has in its own places, names and codes is read as the standard has it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hl7_wire import NEW_ORDER, PID, Exchange, adt, error_of, message

from hilum.settings import Settings, SettingsError
from hilum.storage import tables
from hilum.storage.store import Store

PROFILE = """
name = "ODD|CLINIC"
authority = "GENHOSP"
filler = "external"
[authorities]
EPI = "GENHOSP"
"1.2.3.4" = "OTHER"
[places]
"OBR-18" = "ZAC-2"
"ZDS-1" = "ZAC-3.2"
"PV1-19" = "ZVN-1"
"OBR-4.2" = "NTE-3"
[codes."PID-8"]
W = "F"
[codes."ORC-1"]
NEW = "NW"
[codes."ORC-7.6"]
1 = "S"
[required]
"ORM^O01" = ["ZAC-2"]
"*" = ["PID-5.2"]
"""
UID = "1.2.826.0.1.3680043.8.498.1"
ORDER = (
    "PID|1||100^^^EPI^MR~7^^^&1.2.3.4&ISO^PI||DOE^JANE||19800102|W",
    "PV1|1|O",
    "ZVN|V77",
    "ORC|NEW|P1^EPIC|||||^^^20260302101500^^1",
    "OBR|1|P1^EPIC||CTCHEST^^L|||||||||||||||||||||CT",
    "NTE|1||CT of \\T\\ chest",
    f"ZAC|1|ACC1|x^{UID}",
)


@pytest.fixture
def door(sqlite_store: Store, tmp_path: Path) -> Exchange:
    profiles = tmp_path / "home" / "profiles"
    profiles.mkdir(parents=True)
    (profiles / "odd.toml").write_text(PROFILE)
    return Exchange(sqlite_store, tmp_path / "home")


def order(*segments: str, **options: str) -> bytes:
    return message("ORM^O01", *segments, sender="ODD|CLINIC", **options)


def test_what_stands_elsewhere_under_other_names_and_codes_is_read_as_the_standard_has_it(door: Exchange) -> None:
    raw = order(*ORDER)
    answer = door.accept(raw)
    placed = door.order()
    assert (placed.accession_number, placed.study_instance_uid) == ("ACC1", UID)
    assert (placed.visit_number, placed.priority) == ("V77", "stat")
    assert placed.procedure_meaning == "CT of & chest"
    assert door.patient().sex == "F"
    named = {(row.value, row.authority) for row in door.rows(tables.patient_identifier)}
    assert named == {("100", "GENHOSP"), ("7", "OTHER")}
    assert answer.get("ORC-1") == "OK"
    assert door.row(tables.inbound_message).raw == raw


def test_each_order_of_a_message_has_what_stands_in_its_own_group(door: Exchange) -> None:
    second = [line.replace("P1", "P2").replace("ACC1", "ACC2").replace("498.1", "498.2") for line in ORDER[3:]]
    door.accept(order(*ORDER, *second))
    found = {row.accession_number: row.study_instance_uid for row in door.rows(tables.imaging_order)}
    assert found == {"ACC1": UID, "ACC2": UID.replace("498.1", "498.2")}


def test_another_sender_is_not_read_by_this_profile(door: Exchange) -> None:
    answer = door.ask(message("ORM^O01", *ORDER, sender="EPIC|GENHOSP"))
    assert answer.get("MSA-1") != "AA"
    door.accept(message("ORM^O01", *NEW_ORDER, control="M2"))


@pytest.mark.parametrize(
    ("segments", "place"),
    [(ORDER[:-1], "ZAC^1^2"), ([line.replace("DOE^JANE", "DOE") for line in ORDER], "PID^1^5^^2")],
)
def test_what_the_sender_has_to_give_is_missed_at_its_place(door: Exchange, segments: list[str], place: str) -> None:
    said = error_of(door.ask(order(*segments)))
    assert (said[0], said[1].replace("^1^5^1^2", "^1^5^^2"), said[2]) == ("AE", place, "101")
    assert not door.rows(tables.imaging_order)


def test_required_of_orders_only_is_not_required_of_others(door: Exchange) -> None:
    door.accept(adt("A04", PID.replace("^^^GENHOSP", "^^^EPI"), sender="ODD|CLINIC"))


def test_a_profile_that_comes_holds_from_the_next_message_on(sqlite_store: Store, tmp_path: Path) -> None:
    door = Exchange(sqlite_store, tmp_path / "home")
    assert door.ask(order(*ORDER, control="M1")).get("MSA-1") == "AE"
    before = door.configuration.revision
    (tmp_path / "home" / "profiles").mkdir()
    (tmp_path / "home" / "profiles" / "odd.toml").write_text(PROFILE)
    time.sleep(1.1)
    door.accept(order(*ORDER, control="M2"))
    assert door.configuration.revision != before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = 7", "odd.toml: `name`"),
        ('name = "A|B"\nplaces = {"OBR" = "ZAC-2"}', "odd.toml: `places"),
        ('name = "A|B"\nplace = 1', "odd.toml: there is no setting `place`"),
        ("name = ", "odd.toml: is not TOML"),
        ('name = "EPIC|GENHOSP"', "same name"),
    ],
)
def test_a_profile_that_is_wrong_is_refused_in_a_sentence_that_names_it(
    sqlite_store: Store, tmp_path: Path, text: str, said: str
) -> None:
    Exchange(sqlite_store, tmp_path / "home")
    (tmp_path / "home" / "profiles").mkdir()
    (tmp_path / "home" / "profiles" / "odd.toml").write_text(text)
    with pytest.raises(SettingsError, match=said):
        Settings.load(tmp_path / "home")
