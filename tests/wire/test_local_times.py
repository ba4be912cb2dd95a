"""Local times of HL7 senders are read in their own zone, and ours are written with their offset."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hl7_wire import PID, SETTINGS, Exchange, adt, message

from hilum.storage import tables
from hilum.storage.store import Store


@pytest.fixture
def door(sqlite_store: Store, tmp_path: Path) -> Exchange:
    return Exchange(sqlite_store, tmp_path / "home")


@pytest.mark.parametrize(
    ("written", "instant"),
    [
        ("20260115100000", datetime(2026, 1, 15, 9, tzinfo=UTC)),  # winter
        ("20260715100000", datetime(2026, 7, 15, 8, tzinfo=UTC)),  # summer
        ("20261025023000", datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),  # the hour that comes twice: its first passage
        ("20260715100000-0500", datetime(2026, 7, 15, 15, tzinfo=UTC)),  # an offset goes before any zone
        ("202607151000", datetime(2026, 7, 15, 8, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_in_the_zone_of_its_sender(door: Exchange, written: str, instant: datetime) -> None:
    segments = (PID, f"ORC|NW|P1|||||^^^{written}", "OBR|1|||X")
    door.accept(message("ORM^O01", *segments, sender="BERLIN|KLINIK"))
    assert door.order().scheduled_at == instant
    assert door.row(tables.scheduled_step).start_at == instant


def test_a_sender_without_zone_is_read_in_the_facilitys(sqlite_store: Store, tmp_path: Path) -> None:
    door = Exchange(sqlite_store, tmp_path / "home", SETTINGS.replace('zone = "UTC"', 'zone = "America/New_York"'))
    door.accept(message("ORM^O01", PID, "ORC|NW|P1|||||^^^20260115100000", "OBR|1|||X"))
    assert door.order().scheduled_at == datetime(2026, 1, 15, 15, tzinfo=UTC)


def test_two_senders_in_two_zones_are_put_in_the_order_of_what_happened(door: Exchange) -> None:
    later_in_utc = adt("A08", PID.replace("DOE", "LATER"), at="20260115093000", control="M1")
    earlier_in_berlin = adt(
        "A08", PID.replace("DOE", "EARLIER"), at="20260115100000", control="M2", sender="BERLIN|KLINIK"
    )
    door.accept(later_in_utc)
    door.accept(earlier_in_berlin)
    assert door.patient().family == "LATER"


def test_a_birth_date_is_no_instant_and_moves_with_no_zone(door: Exchange) -> None:
    pid = "PID|1||100||DOE^JANE||19800102003000+0100|F"
    door.accept(adt("A04", pid, sender="BERLIN|KLINIK"))
    assert door.patient().birth_date == date(1980, 1, 2)


def test_answers_carry_the_senders_local_time_with_its_offset(door: Exchange) -> None:
    stamp = door.accept(adt("A04", sender="BERLIN|KLINIK")).get("MSH-7")
    assert datetime.strptime(stamp, "%Y%m%d%H%M%S%z").utcoffset() is not None
    assert stamp[-5:] in ("+0100", "+0200")
    assert door.accept(adt("A04", control="M2")).get("MSH-7").endswith("+0000")


def test_a_report_is_signed_at_the_instant_that_its_sender_means(door: Exchange) -> None:
    door.accept(message("ORM^O01", PID, "ORC|NW|P1", "OBR|1|||X"))
    obr = "OBR|1|P1||X" + "|" * 18 + "20260115100000|||F|||||||9&R"
    door.accept(message("ORU^R01", PID, obr, "OBX|1|TX|X||Clear.", control="M2", sender="BERLIN|KLINIK"))
    assert door.row(tables.report_version).signed_at == datetime(2026, 1, 15, 9, tzinfo=UTC)
