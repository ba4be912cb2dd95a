"""Answers to HL7 messages say precisely what was wrong and where, in the form of the sender's version."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.core import errors
from hilum.core.errors import Forbidden, HilumError, InvalidInput, MissingField, TooLarge, Unavailable, Unsupported
from hilum.hl7.ack import (
    CONDITIONS,
    REFUSALS,
    UNSUPPORTED,
    acknowledge,
    acknowledgements_due,
    header_of,
    refusal_of,
)
from hilum.hl7.er7 import Message

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def asked(version: str = "2.5.1", *, trigger: str = "A04", rest: str = "") -> Message:
    head = f"MSH|^~\\&|EPIC^1.2^ISO|GEN|HILUM|IMG|20260101||ADT^{trigger}|M1|T|{version}{rest}"
    return Message(head.encode() + b"\rPID|1\r")


def answer(message: Message | None, *refusals: HilumError, **options: object) -> Message:
    return Message(acknowledge(message, refusals, control_id="H1", now=NOW, **options))


def test_success_swaps_the_parties_and_names_the_message():
    read = answer(asked())
    assert bytes(read) == (
        b"MSH|^~\\&|HILUM|IMG|EPIC^1.2^ISO|GEN|20260102030405+0000||ACK^A04^ACK|H1|T|2.5.1\rMSA|AA|M1\r"
    )


@pytest.mark.parametrize(("version", "kind"), [("2.3", "ACK^A04"), ("2.3.1", "ACK^A04^ACK"), ("2.4", "ACK^A04^ACK")])
def test_errors_before_v25_are_in_err_1_and_msa_3(version, kind):
    read = answer(asked(version), MissingField("PID-3 is empty.", field="PID-3"), InvalidInput(field="PID-7.1"))
    assert read.header.field(9) == kind
    assert read.get("MSH-12") == version
    assert (read.get("MSA-1"), read.get("MSA-3")) == ("AE", "PID-3 is empty.")
    assert read.segment("ERR").raw == (
        b"ERR|PID^1^3^101&Required field missing&HL70357~PID^1^7^102&Data type error&HL70357"
    )


def test_errors_from_v25_on_repeat_the_segment_with_location_code_and_text():
    read = answer(asked(), MissingField("PID-3 is empty.", field="PID-3"), InvalidInput("Odd.", field="OBX[2]-5[3].2"))
    assert [segment.raw for segment in read.segments("ERR")] == [
        b"ERR||PID^1^3|101^Required field missing^HL70357|E|||missing|PID-3 is empty.",
        b"ERR||OBX^2^5^3^2|102^Data type error^HL70357|E|||invalid|Odd.",
    ]
    assert read.get("MSA-3") == ""


@pytest.mark.parametrize(
    ("error", "code", "condition"),
    [
        (Unsupported(field="MSH-9.1"), "AR", "200"),
        (Unsupported(field="MSH-9.2"), "AR", "201"),
        (Unsupported(field="MSH-11"), "AR", "202"),
        (Unsupported(field="MSH-12"), "AR", "203"),
        (Unsupported(field="ORC-1"), "AE", "103"),
        (Forbidden(), "AR", "207"),
        (Unavailable(), "AE", "207"),
        (MissingField(field="PID"), "AE", "100"),
        (TooLarge(field="PID"), "AE", "102"),
        (InvalidInput(field="AccessionNumber"), "AE", "102"),
    ],
)
def test_each_refusal_has_its_code_and_condition(error, code, condition):
    read = answer(asked(), error)
    assert (read.get("MSA-1"), read.get("ERR-3")) == (code, condition)


def test_every_error_of_the_core_has_an_answer():
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, HilumError)]
    assert {kind.code for kind in classes} <= set(REFUSALS)
    for code, condition in [*REFUSALS.values(), *UNSUPPORTED.values()]:
        assert code in ("AE", "AR")
        assert condition in CONDITIONS


def test_a_rejection_outweighs_an_error():
    assert answer(asked(), MissingField(field="PID-3"), Unsupported(field="MSH-9.2")).get("MSA-1") == "AR"


@pytest.mark.parametrize(
    ("raw", "control_id", "receiver"),
    [
        (b"", "", ""),
        (b"GET / HTTP/1.1\r\n\r\n", "", ""),
        (b"MSH", "", ""),
        (b"MSH|^^\\&|A|B|C|D|2026||ADT^A01|CID|P|2.5\rPID|1", "CID", "A"),
        (b"MSH|ABCD|A|B|C|D|2026||ADT^A01|CID|P|2.5\rPID|1", "CID", "A"),
        (b"junk\rMSH|^~\\&|A|B|C|D|2026||ADT^A01|CID|P|2.5\rpid", "CID", "A"),
        (b"MSH|^~\\&|A|B|C|D|2026||ADT^A01|CID|P|2.5\rpid|1", "CID", "A"),
    ],
)
def test_an_unreadable_message_is_rejected_with_what_is_left_of_its_header(raw, control_id, receiver):
    with pytest.raises(InvalidInput) as refused:
        Message(raw)
    read = answer(None, refused.value, raw=raw)
    assert (read.get("MSA-1"), read.get("MSA-2"), read.get("MSH-5")) == ("AR", control_id, receiver)
    assert read.get("MSH-3")
    assert read.segment("ERR") is not None


def test_an_order_is_answered_in_its_own_message_type_with_further_segments():
    read = answer(
        asked(trigger="O01"),
        response=("ORR", "O02", "ORR_O02"),
        extra=[("ORC", {1: "OK", 2: ("P1", "EHR"), 3: ("F1", "HILUM")}), ("OBR", {1: 1})],
    )
    assert read.header.field(9) == "ORR^O02^ORR_O02"
    assert read.segment("ORC").field(3) == "F1^HILUM"
    assert [segment.name for segment in read] == ["MSH", "MSA", "ORC", "OBR"]


def test_the_answer_is_in_the_character_set_and_separators_of_the_message():
    raw = "MSH$*@!%$Ä$GEN$HILUM$IMG$$$ADT*A04$M*1$P$2.4$$$$$$8859/1\rPID$1\r".encode("latin-1")
    written = acknowledge(Message(raw), [InvalidInput("Größe 5$ Ł", field="PID-3")], control_id="H1", now=NOW)
    assert written.startswith(b"MSH$*@!%$HILUM$IMG$\xc4$GEN$")
    assert b"\rMSA$AE$M*1$Gr\xf6\xdfe 5!F! ?\r" in written
    assert Message(written).get("MSH-18") == "8859/1"


def test_hostile_header_fields_are_not_echoed_at_length():
    raw = b"MSH|^~\\&|" + b"A" * 100_000 + b"|||" + b"||ADT^A04|" + b"C" * 100_000 + b"|P|2.5\r"
    assert len(bytes(answer(Message(raw)))) < 500


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=120), st.sampled_from([b"", b"MSH", b"MSH|^~\\&|", b"\xef\xbb\xbfMSH|^~\\&|a|b|c|d|"]))
def test_any_bytes_get_an_answer_that_can_be_read(tail, start):
    raw = start + tail
    header_of(raw)
    assert answer(None, InvalidInput("No.", field="MSH"), raw=raw).get("MSA-1") == "AR"


@pytest.mark.parametrize(
    ("msh15", "msh16", "outcome", "journaled", "due"),
    [
        ("", "", "AA", True, (None, "AA")),
        ("", "", "AR", True, (None, "AR")),
        ("", "", "AE", False, (None, "AE")),
        ("AL", "NE", "AA", True, ("CA", None)),
        ("AL", "AL", "AA", True, ("CA", "AA")),
        ("AL", "AL", "AE", True, ("CA", "AE")),
        ("AL", "AL", "AR", True, ("CR", None)),
        ("AL", "AL", "AE", False, ("CE", None)),
        ("NE", "AL", "AR", True, (None, "AR")),
        ("NE", "NE", "AE", True, (None, None)),
        ("ER", "ER", "AA", True, (None, None)),
        ("ER", "ER", "AE", True, (None, "AE")),
        ("ER", "NE", "AR", True, ("CR", None)),
        ("SU", "SU", "AA", True, ("CA", "AA")),
        ("SU", "SU", "AE", True, ("CA", None)),
        ("SU", "AL", "AE", False, (None, "AE")),
        ("", "AL", "AA", True, (None, "AA")),
        ("al", "", "AA", True, ("CA", None)),
        ("XX", "NE", "AA", True, ("CA", None)),
    ],
)
def test_the_answers_due_follow_the_conditions_of_the_sender(msh15, msh16, outcome, journaled, due):
    found = acknowledgements_due(msh15, msh16, outcome, journaled=journaled)
    assert (found.commit, found.application) == due


def test_an_answer_in_enhanced_mode_asks_for_none_itself():
    read = answer(asked(rest="|||AL|NE"), code="CA")
    assert (read.get("MSA-1"), read.get("MSH-15"), read.get("MSH-16")) == ("CA", "NE", "NE")


def test_an_unknown_code_is_an_internal_error():
    class Odd(HilumError):
        """Odd."""

        code = "odd"

    assert refusal_of(Odd()) == ("AE", "207")
