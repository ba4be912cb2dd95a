"""Names come through in each character set, in and out, and what a set lacks never becomes another letter."""

from __future__ import annotations

from pathlib import Path

import pytest
from hl7_wire import Exchange, adt

from hilum.hl7.segments_out import fitted
from hilum.storage import tables
from hilum.storage.store import Store

NAME = "MÜLLER^JÖRGÉ"
PID = f"PID|1||100||{NAME}"


@pytest.fixture
def door(sqlite_store: Store, tmp_path: Path) -> Exchange:
    return Exchange(sqlite_store, tmp_path / "home")


@pytest.mark.parametrize(
    ("charset", "encoding", "sender"),
    [
        ("UNICODE UTF-8", "utf-8", "EPIC|GENHOSP"),
        ("8859/1", "latin-1", "EPIC|GENHOSP"),
        ("8859/15", "iso8859-15", "EPIC|GENHOSP"),
        ("", "utf-8", "EPIC|GENHOSP"),
        ("", "latin-1", "EPIC|GENHOSP"),  # not declared: no UTF-8, so ISO 8859-1
        ("", "latin-1", "BERLIN|KLINIK"),  # agreed for this sender
        ("ASCII", "latin-1", "EPIC|GENHOSP"),  # plainly wrong
    ],
)
def test_a_name_is_read_in_its_character_set(door: Exchange, charset: str, encoding: str, sender: str) -> None:
    raw = adt("A04", PID, charset=charset, encoding=encoding, sender=sender)
    door.accept(raw)
    assert (door.patient().family, door.patient().given) == ("MÜLLER", "JÖRGÉ")
    assert door.row(tables.inbound_message).raw == raw


def test_a_set_beyond_latin_is_read_too(door: Exchange) -> None:
    door.accept(adt("A04", "PID|1||100||ИВАНОВА^АННА", charset="8859/5", encoding="iso8859-5"))
    assert door.patient().family == "ИВАНОВА"


@pytest.mark.parametrize(("charset", "encoding"), [("8859/1", "latin-1"), ("UNICODE UTF-8", "utf-8"), ("", "utf-8")])
def test_an_answer_comes_in_the_senders_character_set(door: Exchange, charset: str, encoding: str) -> None:
    raw = adt("A04", PID, charset=charset, encoding=encoding, sender="EPIC|MÜNCHEN")
    (answer,) = door.answers(raw)
    assert "EPIC|MÜNCHEN".encode(encoding) in answer


def test_an_escape_sequence_brings_a_character_that_the_message_cannot_hold(door: Exchange) -> None:
    door.accept(adt("A04", "PID|1||100||M\\XDC\\LLER^A \\T\\ B", charset="8859/1", encoding="latin-1"))
    assert (door.patient().family, door.patient().given) == ("MÜLLER", "A & B")


def test_a_nul_from_an_escape_is_dropped(door: Exchange) -> None:
    door.accept(adt("A04", "PID|1||100||D\\X00\\OE"))
    assert door.patient().family == "DOE"


@pytest.mark.parametrize(
    ("text", "codec", "written"),
    [
        ("Müller", "latin-1", "Müller"),
        ("Müller", "ascii", "Muller"),
        ("size ≥ 5 mm – “stable”", "ascii", 'size >= 5 mm - "stable"'),
        ("Łódź", "latin-1", "Lódz"),
        ("3 µm", "ascii", "3 um"),
        ("山", "latin-1", "山"),
        ("e\u0301", "latin-1", "é"),
    ],
)
def test_what_a_set_lacks_is_written_as_near_as_can_be(text: str, codec: str, written: str) -> None:
    assert fitted(text, codec) == written
