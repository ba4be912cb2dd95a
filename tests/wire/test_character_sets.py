"""Names come through in each character set, in and out, and what a set lacks never becomes another letter."""

from __future__ import annotations

from pathlib import Path

import pytest
from hl7_wire import Exchange, adt

from hilum.hl7.er7 import Message
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


KANJI = "山田".encode("iso2022_jp")
KATAKANA = "ﾔﾏﾀﾞ"


@pytest.mark.parametrize(
    ("charset", "name", "family"),
    [
        ("ISO IR87", KANJI, "山田"),
        ("~ISO IR87", KANJI, "山田"),
        ("ISO IR6~ISO IR14~ISO IR87", KANJI, "山田"),
        ("JIS X 0202", KANJI, "山田"),
        # A kanji whose second byte is a separator of the message.
        ("~ISO IR87", "論".encode("iso2022_jp"), "論"),
        ("~ISO IR13", b"\x1b)I" + KATAKANA.encode("shift_jis"), KATAKANA),
        ("~ISO IR13", b"\x1b(I" + bytes(each & 0x7F for each in KATAKANA.encode("shift_jis")) + b"\x1b(B", KATAKANA),
        ("~ISO IR159", "丂".encode("iso2022_jp_1"), "丂"),
        ("~KS X 1001", b"\x1b$)C" + "김".encode("euc_kr"), "김"),
        ("~GB 2312", b"\x1b$)A" + "张".encode("gb2312"), "张"),
        ("8859/1~8859/5", "MÜLLER ".encode("latin-1") + b"\x1b-L" + "ИВАН".encode("iso8859-5"), "MÜLLER ИВАН"),
        ("8859/1~8859/7~ISO IR87", b"\x1b-F" + "Δ".encode("iso8859-7") + b"\x1b-A\xc9" + KANJI, "ΔÉ山田"),
        # The escapes of HL7 that spell the sequences (v2.5.1 ch. 2.7.2).
        ("8859/1~8859/5", b"\\C2D4C\\" + "ИВАН".encode("iso8859-5") + b"\\C2D41\\", "ИВАН"),
        ("~ISO IR87", b"\\M2442\\" + KANJI[3:-3] + b"\\C2842\\", "山田"),
        ("~ISO IR159", b"\\M242844\\" + "丂".encode("iso2022_jp_1")[4:-3] + b"\\C2842\\", "丂"),
    ],
)
def test_a_message_goes_over_to_other_sets_and_each_segment_begins_in_the_first(
    door: Exchange, charset: str, name: bytes, family: str
) -> None:
    latin = charset.startswith("8859/1")
    # Back to the first set before the given name, as ISO 2022 wants it.
    back = b"\x1b(B\x1b-A" if latin else b"\x1b(B"
    pid = b"PID|1||100||" + name + back + b"^" + ("MÜ" if latin else "AN").encode("latin-1")
    pv1 = b"PV1|1|O||||||77^R\xc9F" if latin else b"PV1|1|O||||||77^REF"
    raw = adt("A04", "PID|", charset=charset).replace(b"PID|", pid + b"\r" + pv1)
    door.accept(raw)
    patient = door.patient()
    assert (patient.family, patient.given) == (family, "MÜ" if latin else "AN")
    assert Message(raw).segment("PV1").get(8, 2) == ("RÉF" if latin else "REF")
    assert door.row(tables.inbound_message).raw == raw


def test_an_escape_that_spells_no_sequence_stays_as_it_came(door: Exchange) -> None:
    door.accept(adt("A04", "PID|1||100||A\\C9999\\B^\\M2442x", charset="8859/1"))
    assert (door.patient().family, door.patient().given) == ("A\\C9999\\B", "\\M2442x")


def test_utf_8_has_no_other_sets_to_go_over_to(door: Exchange) -> None:
    door.accept(adt("A04", "PID|1||100||山田\\C2D4C\\", charset="UNICODE UTF-8"))
    assert door.patient().family == "山田\\C2D4C\\"
