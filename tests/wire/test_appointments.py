"""SIU: an appointment puts the steps of an order on their time and place, and takes them off the worklist again."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hl7_wire import NEW_ORDER, PID, Exchange, error_of, message

from hilum.hl7.messages_in import MESSAGES
from hilum.storage import tables
from hilum.storage.store import Store

MLLP_SEND = Path(sys.executable).with_name("mllp_send")
RESOURCES = (
    "RGS|1",
    "AIS|1||CTCHEST^CT chest^L|20260310143000",
    "AIG|1||CT02^Scanner 2|CT",
    "AIL|1||RAD^Room 7",
    "AIP|1||T77^TECH^TONI",
)


def siu(event: str, *segments: str, number: str = "P1^EPIC", control: str = "S1", **options: str) -> bytes:
    sch = "SCH|A1||||||ROUTINE" + "|" * 19 + number
    return message(f"SIU^{event}", sch, PID, *(segments or RESOURCES), control=control, **options)


@pytest.fixture
def door(store: Store, tmp_path: Path) -> Exchange:
    made = Exchange(store, tmp_path / "home")
    made.accept(message("ORM^O01", *NEW_ORDER, control="O1"))
    return made


@pytest.fixture
def quick(sqlite_store: Store, tmp_path: Path) -> Exchange:
    made = Exchange(sqlite_store, tmp_path / "home")
    made.accept(message("ORM^O01", *NEW_ORDER, control="O1"))
    return made


def step(door: Exchange) -> tuple[object, ...]:
    row = door.row(tables.scheduled_step)
    return row.status, row.start_at, row.station_name, row.location, row.performing_physician["identifier"]


BOOKED = ("SCHEDULED", datetime(2026, 3, 10, 14, 30, tzinfo=UTC), "CT02", "RAD Room 7", "T77")


def test_an_appointment_is_booked_moved_cancelled_and_booked_again(door: Exchange) -> None:
    door.accept(siu("S12"))
    assert step(door) == BOOKED
    later = [segment.replace("0310143000", "0311080000") for segment in RESOURCES]
    door.accept(siu("S13", *later, control="S2"))
    assert step(door)[:2] == ("SCHEDULED", datetime(2026, 3, 11, 8, tzinfo=UTC))
    door.accept(siu("S15", control="S3"))
    assert step(door)[0] == "CANCELLED"
    assert door.order().status == "scheduled", "the order stands"
    door.accept(siu("S12", control="S4"))
    assert step(door) == BOOKED
    kept = door.row(tables.inbound_message, tables.inbound_message.c.control_id == "S4")
    assert (kept.order_id, kept.outcome) == (door.order().id, "applied")


@pytest.mark.parametrize("event", ["S15", "S16", "S17", "S26"])
def test_each_end_of_an_appointment_takes_the_step_off_the_worklist(quick: Exchange, event: str) -> None:
    quick.accept(siu(event))
    assert step(quick)[0] == "CANCELLED"


def test_what_an_appointment_does_not_say_stays(quick: Exchange) -> None:
    quick.accept(siu("S12"))
    quick.accept(siu("S14", "RGS|1", "AIS|1||CTCHEST", control="S2"))
    assert step(quick) == BOOKED
    quick.accept(siu("S19", *RESOURCES[:2], "AIG|1|D|CT09", "AIG|2|A|CT03", control="S3"))
    assert step(quick)[2] == "CT03", "a resource that was taken away is none"


@pytest.mark.parametrize(
    ("quantity", "segments"),
    [
        ("^^^20260310143000", ("RGS|1", "AIG|1||CT02")),
        ("", ("TQ1|1||||||20260310143000", "RGS|1")),
        ("", ("RGS|1", "AIG|1||CT02|||||20260310143000")),
        ("", ("RGS|1", "AIL|1||RAD|||20260310143000")),
        ("^^^20260101", RESOURCES),
    ],
)
def test_the_time_is_found_wherever_it_stands(quick: Exchange, quantity: str, segments: tuple[str, ...]) -> None:
    sch = "SCH|A1" + "|" * 10 + quantity + "|" * 15 + "P1^EPIC"
    quick.accept(message("SIU^S12", sch, PID, *segments))
    assert step(quick)[1] == BOOKED[1]


def test_each_step_of_an_order_has_its_own_slot(sqlite_store: Store, tmp_path: Path) -> None:
    door = Exchange(sqlite_store, tmp_path / "home")
    steps = [f"IPC|ACC9|RP1|1.2.3.9|S{number}|CT" for number in (1, 2)]
    omi = [PID, "ORC|NW|P1^EPIC|F1^RIS", "OBR|1|P1^EPIC|F1^RIS|CTCHEST^CT chest^L", *steps]
    door.accept(message("OMI^O23", *omi, sender="RIS|GENHOSP", control="O1"))
    second = ["RGS|2", "AIS|2||CTABD|20260310160000", "AIG|2||CT03"]
    door.accept(siu("S12", *RESOURCES[:3], *second))
    found = [(row.step_id, row.station_name, row.start_at.hour) for row in door.rows(tables.scheduled_step)]
    assert found == [("S1", "CT02", 14), ("S2", "CT03", 16)]


def test_an_appointment_of_no_order_here_is_acknowledged_and_kept(quick: Exchange) -> None:
    before = step(quick)
    for number, event in enumerate(("S12", "S15", "S23", "S24")):
        quick.accept(siu(event, number="", control=f"K{number}"))
    assert step(quick) == before
    assert len(quick.rows(tables.inbound_message)) == 5


def test_what_cannot_be_is_refused_at_its_place(quick: Exchange) -> None:
    assert error_of(quick.ask(siu("S12", number="P9^EPIC")))[1:] == ("SCH^1^26", "204")
    other = siu("S12", control="S2").replace(b"|100^^^GENHOSP", b"|999^^^GENHOSP")
    assert error_of(quick.ask(other))[0] == "AE"
    assert error_of(quick.ask(siu("S12", "RGS|1", "AIS|1||X|noon", control="S3")))[1] == "AIS^1^4"
    quick.accept(message("ORM^O01", PID, "ORC|CA|P1^EPIC", control="O2"))
    assert error_of(quick.ask(siu("S12", control="S4")))[1] == "SCH^1^26"
    assert step(quick)[0] == "CANCELLED"


def test_every_event_of_scheduling_is_known() -> None:
    assert set(MESSAGES["SIU"]) == {f"S{number}" for number in (*range(12, 25), 26)}


def test_the_client_of_another_library_books(quick: Exchange, tmp_path: Path) -> None:
    source = tmp_path / "siu.hl7"
    source.write_bytes(siu("S12") + b"\n" + siu("S26", control="S2"))

    async def send() -> bytes:
        _, port = await quick.door.start()
        sender = await asyncio.create_subprocess_exec(
            str(MLLP_SEND), "--loose", "--file", str(source), "-p", str(port), "127.0.0.1", stdout=subprocess.PIPE
        )
        said, _ = await asyncio.wait_for(sender.communicate(), 20)
        await quick.door.drain()
        return said

    said = asyncio.run(send())
    assert b"MSA|AA|S1" in said and b"MSA|AA|S2" in said
    assert step(quick) == ("CANCELLED", *BOOKED[1:])
