"""The ER7 codec: nothing is lost in reading, and nothing that is written can become structure."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.core.errors import InvalidInput, TooLarge, Unsupported
from hilum.hl7.compose import Builder
from hilum.hl7.er7 import Limits, Message, path_of
from hilum.hl7.escapes import NULL, Null, Separators
from hilum.hl7.timestamps import date_from_hl7, hl7_timestamp, timestamp_from_hl7

HEAD = b"MSH|^~\\&|RIS|GENHOSP|HILUM|IMAGING|20260102030405||ORU^R01^ORU_R01|M1|P|2.5.1"
PID = b"PID|1||4711^^^GENHOSP&1.2.3&ISO^MR~998^^^NATIONAL^NI||DOE^JANE||19700101"


def message(*segments: bytes, end: bytes = b"\r", head: bytes = HEAD) -> Message:
    return Message(end.join([head, *segments]) + end)


def test_paths_reach_repetitions_components_and_subcomponents():
    read = message(PID)
    assert read.get("PID-3.1") == "4711"
    assert read.get("PID-3[2].4.1") == "NATIONAL"
    assert read.get("PID-3.4.2") == "1.2.3"
    assert read.get("PID-3") == "4711"
    assert read.get("PID-3.4") == "GENHOSP"
    assert read.get("PID-5.2") == "JANE"


@pytest.mark.parametrize("path", ["PID-3[3].1", "PID-3.9", "PID-3.1.2", "PID-99", "PV1-2", "OBX[2]-5", "PID-5.3.2"])
def test_what_is_absent_reads_as_empty(path):
    assert message(PID).get(path) == ""


@pytest.mark.parametrize("path", ["PID", "pid-3", "PID-0", "PID-3.0", "PID-3[0]", "PID-3.1.1.1", "PID-3.x", ""])
def test_a_path_that_is_none_is_a_programming_error(path):
    with pytest.raises(ValueError, match="path"):
        path_of(path)


def test_header_fields_count_the_separator_as_first():
    read = message()
    assert (read.get("MSH-1"), read.get("MSH-2"), read.get("MSH-3")) == ("|", "^~\\&", "RIS")
    assert (read.type, read.trigger, read.control_id, read.version) == ("ORU", "R01", "M1", "2.5.1")
    assert read.sender == "RIS|GENHOSP"


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\r\r", b"\n\n"])
def test_every_segment_end_in_use_is_understood_and_kept(end):
    raw = end.join([HEAD, PID, b"PV1|1|I", b"ZDS|1.2.3"]) + end
    read = Message(raw)
    assert [segment.name for segment in read] == ["MSH", "PID", "PV1", "ZDS"]
    assert bytes(read) == raw


def test_segment_ends_may_be_mixed_in_one_message():
    raw = HEAD + b"\r\n" + PID + b"\n" + b"PV1|1|I" + b"\r" + b"EVN"
    assert [segment.name for segment in Message(raw)] == ["MSH", "PID", "PV1", "EVN"]


def test_a_lone_line_feed_in_a_report_stays_in_its_field():
    read = message(b"OBX|1|TX|||first line\nsecond line|||", b"OBX|2|TX|||other")
    assert read.get("OBX-5") == "first line\nsecond line"
    assert read.get("OBX[2]-5") == "other"


def test_separators_are_the_senders_choice():
    raw = b"MSH$*@!%$RIS*X$FAC$$$20260102$$ADT*A08$M2$P$2.3\rPID$1$$47!S!11*$$A%B|C^D*@E\r"
    read = Message(raw)
    assert read.separators == Separators("$", "*", "@", "!", "%")
    assert read.get("PID-3.1") == "47*11"
    assert read.get("PID-5.1.2") == "B|C^D"
    assert read.get("PID-5[2].1") == "E"
    assert bytes(read) == raw


def test_the_truncation_character_of_later_versions_is_taken():
    read = Message(b"MSH|^~\\&#|RIS|F|||20260102||ADT^A08|M2|P|2.7\rPID|||a\\P\\b\r")
    assert read.separators.truncation == "#"
    assert read.get("PID-3") == "a#b"


def test_the_null_value_is_told_apart_from_absence():
    read = message(b'PID|1||4711||""|""^x|')
    assert read.get("PID-5") is NULL
    assert read.get("PID-6.1") is NULL
    assert read[1].is_null(5)
    assert not read[1].is_null(7)
    assert not isinstance(read.get("PID-7"), Null)


@pytest.mark.parametrize(
    ("encoded", "plain"),
    [
        (b"a\\F\\b\\S\\c\\T\\d\\R\\e\\E\\f", "a|b^c&d~e\\f"),
        (b"one\\.br\\two\\.BR\\three", "one\ntwo\nthree"),
        (b"a\\.sp\\b\\.sp2\\c", "a\nb\n\nc"),
        (b"\\H\\urgent\\N\\ now", "urgent now"),
        (b"\\X41\\\\X4243\\", "ABC"),
        (b"\\XC3\\\\XA9\\", "é"),
        (b"\\XE9\\", "é"),
        (b"\\Zlocal\\ and \\C2842\\", "\\Zlocal\\ and \\C2842\\"),
        (b"C:\\temp\\new", "C:\\temp\\new"),
        (b"ends with \\", "ends with \\"),
        (b"\\X4\\", "\\X4\\"),
    ],
)
def test_escapes_are_undone_and_unknown_ones_left_visible(encoded, plain):
    assert message(b"NTE|1||" + encoded).get("NTE-3") == plain


def test_free_text_with_forgotten_escapes_is_read_whole():
    read = message(b"OBX|1|TX|||T1 & T2 ^ approx. ~5 mm")
    assert read[1].text(5) == "T1 & T2 ^ approx. ~5 mm"
    assert [part.text for part in read[1].repetitions(5)] == ["T1 & T2 ^ approx. ", "5 mm"]


@pytest.mark.parametrize(
    ("declared", "sent", "codec", "as_declared"),
    [
        ("8859/1", "Ä".encode("latin-1"), "iso8859-1", True),
        ("UNICODE UTF-8", "Ä".encode(), "utf-8", True),
        ("utf-8", "Ä".encode(), "utf-8", True),
        ("ISO-8859-1", "Ä".encode("latin-1"), "iso8859-1", True),
        ("8859/5", "Я".encode("iso8859-5"), "iso8859-5", True),
        ("GB 18030-2000", "赵".encode("gb18030"), "gb18030", True),
        ("ISO IR87", "山".encode("iso2022_jp"), "iso2022_jp", True),
        ("", "Ä".encode(), "utf-8", False),
        ("", "Ä".encode("latin-1"), "iso8859-1", False),
        ("ASCII", "Ä".encode("latin-1"), "iso8859-1", False),
        ("UNICODE UTF-8", "Ä".encode("latin-1"), "iso8859-1", False),
        ("KLINGON", "Ä".encode(), "utf-8", False),
    ],
)
def test_the_character_set_is_as_declared_or_the_reading_says_why_not(declared, sent, codec, as_declared):
    head = HEAD + b"||||||" + declared.encode()
    read = message(b"PID|1||1||" + sent, head=head)
    assert (read.reading.codec, read.reading.as_declared) == (codec, as_declared)
    assert read.get("PID-5") == sent.decode(codec)


def test_the_second_byte_of_a_character_is_no_separator():
    name = next(char for char in map(chr, range(0x4E00, 0x9FA5)) if b"|" in char.encode("gb18030"))
    raw = bytes(Builder("GB 18030-2000").add("MSH", {10: "1"}).add("PID", {5: (name, name), 7: name}))
    read = Message(raw)
    assert (read.get("PID-5.1"), read.get("PID-5.2"), read.get("PID-7")) == (name, name, name)


def test_a_sender_without_declaration_is_read_in_the_set_agreed_for_it():
    raw = HEAD + "\rPID|1||1||Łódź\r".encode("iso8859-2")
    read = Message(raw, assumed_charset="8859/2")
    assert (read.get("PID-5"), read.reading.as_declared) == ("Łódź", True)


def test_a_byte_order_mark_is_kept_and_means_utf_8():
    raw = b"\xef\xbb\xbf" + HEAD + "\rPID|1||1||Ä\r".encode()
    read = Message(raw)
    assert (read.get("PID-5"), bytes(read)) == ("Ä", raw)


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"", "MSH"),
        (b"PID|1", "MSH"),
        (b"msh|^~\\&|", "MSH"),
        (b"FHS|^~\\&|", "MSH"),
        (b"MSH", "MSH-2"),
        (b"MSH|", "MSH-2"),
        (b"MSH|^~\\&", "MSH-2"),
        (b"MSH|^~\\&\rPID|1", "MSH-2"),
        (b"MSHA^~\\&AX", "MSH-1"),
        (b"MSH ^~\\& X", "MSH-1"),
        (b"MSH|^|X", "MSH-2"),
        (b"MSH|^~\\&#+|X", "MSH-2"),
        (b"MSH|^~\\A|X", "MSH-2"),
        (b"MSH|^^\\&|X", "MSH-2"),
        (b"MSH|^~\xc3&|X", "MSH-2"),
        (HEAD + b"\r" + HEAD, "MSH[2]"),
        (HEAD + b"\rpid|1", None),
        (HEAD + b"\rPIDX|1", None),
        (HEAD + b"\rfree text", None),
    ],
)
def test_what_is_no_message_is_refused_by_place(raw, field):
    with pytest.raises(InvalidInput) as refused:
        Message(raw)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("segments", "field"),
    [
        ([b"PID|" + b"x" * 300], "PID-1"),
        ([b"OBX|1", b"OBX|2|TX|||" + b"x" * 201], "OBX[2]-5"),
        ([b"PID" + b"|" * 21], "PID"),
        ([b"NTE|1"] * 10, None),
        ([b"NTE|" + b"x" * 150] * 8, None),
    ],
)
def test_a_message_beyond_the_limits_is_refused_by_segment_and_field(segments, field):
    with pytest.raises(TooLarge) as refused:
        Message(
            b"\r".join([HEAD, *segments]), limits=Limits(message_bytes=1000, field_bytes=200, segments=10, fields=20)
        )
    assert refused.value.field == field


def test_the_limits_themselves_are_allowed():
    read = Message(
        HEAD + b"\rPID|" + b"x" * 200 + b"|" * 19,
        limits=Limits(message_bytes=1000, field_bytes=200, segments=2, fields=20),
    )
    assert len(read[1]) == 20


def test_groups_begin_at_each_order_and_at_a_request_without_one():
    names = ["PID", "ORC", "OBR", "OBX", "OBX", "ORC", "OBR", "OBR", "NTE"]
    groups = message(*[name.encode() + b"|1" for name in names]).groups("ORC", "OBR")
    assert [[segment.name for segment in group] for group in groups] == [
        ["ORC", "OBR", "OBX", "OBX"],
        ["ORC", "OBR"],
        ["OBR", "NTE"],
    ]
    assert message(b"OBR|7", b"OBX|1").groups("ORC", "OBR")[0].get("OBR-1") == "7"
    assert message(PID).groups("ORC", "OBR") == []


def test_text_cannot_forge_a_segment_a_field_or_a_frame():
    evil = 'x\rOBR|1|FORGED^~\\&\nPID|2\x0b\x1c\r""\x00'
    raw = bytes(Builder().add("MSH", {10: "1"}).add("PID", {5: (evil, evil), 8: "F"}).add("PV1", {2: "I"}))
    assert raw.count(b"\r") == 3
    assert not set(raw) & {0x0A, 0x0B, 0x1C, 0x00}
    read = Message(raw)
    assert [segment.name for segment in read] == ["MSH", "PID", "PV1"]
    assert read.get("PID-5.1") == read.get("PID-5.2") == evil.replace("\r", "\n")
    assert (read.get("PID-8"), read.get("PV1-2")) == ("F", "I")


def test_two_quotation_marks_typed_by_a_person_are_not_the_null_value():
    raw = bytes(Builder().add("MSH", {10: "1"}).add("PID", {5: '""', 6: NULL, 7: ("a", NULL)}))
    read = Message(raw)
    assert (read[1].is_null(5), read.get("PID-5")) == (False, '""')
    assert (read[1].is_null(6), read.get("PID-7.2") is NULL) == (True, True)


def test_a_character_outside_the_set_is_refused_by_field_or_substituted():
    with pytest.raises(InvalidInput) as refused:
        Builder("8859/1").add("MSH", {10: "1"}).add("PID", {3: "1", 5: ("Łukasz",)})
    assert refused.value.field == "PID-5"
    raw = bytes(Builder("8859/1", substitute="?").add("MSH", {10: "1"}).add("PID", {5: ("Łukäsz",)}))
    assert Message(raw).get("PID-5") == "?ukäsz"


def test_an_unknown_set_or_misplaced_segment_is_not_written():
    with pytest.raises(Unsupported):
        Builder("KLINGON")
    with pytest.raises(ValueError, match="MSH"):
        Builder().add("PID", {3: "1"})
    with pytest.raises(ValueError, match="MSH"):
        Builder().add("MSH", {10: "1"}).add("MSH", {10: "1"})
    with pytest.raises(ValueError, match="MSH-2"):
        Builder().add("MSH", {2: "^"})


def test_a_field_can_be_carried_into_a_message_with_other_separators():
    read = message(PID)
    odd = Separators("$", "*", "@", "!", "%")
    raw = bytes(Builder(separators=odd).add("MSH", {10: "1"}).add("PID", {3: read[1].value(3)}))
    assert b"PID$$$4711***GENHOSP%1.2.3%ISO*MR@998***NATIONAL*NI\r" in raw
    assert Message(raw)[1].value(3) == read[1].value(3)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), min_size=1, max_size=12)
SUBCOMPONENTS = st.lists(TEXT, min_size=2, max_size=3).map(tuple)
COMPONENTS = st.lists(st.one_of(TEXT, SUBCOMPONENTS), min_size=2, max_size=4).map(tuple)
FIELD = st.one_of(TEXT, COMPONENTS, st.lists(st.one_of(TEXT, COMPONENTS), min_size=2, max_size=3))
SEPARATORS = st.permutations("|^~\\&#$%.*!:").map(lambda chars: Separators(*chars[:6]))


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.integers(1, 40), FIELD, max_size=4), SEPARATORS)
def test_whatever_is_written_reads_back_the_same(fields, separators):
    raw = bytes(Builder(separators=separators).add("MSH", {10: "1"}).add("ZZZ", fields))
    read = Message(raw)
    assert bytes(read) == raw
    assert {number: read[1].value(number) for number in fields} == fields
    assert len(read) == 2


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_after_the_header_are_kept_or_refused(tail):
    raw = HEAD + b"\r" + tail
    try:
        read = Message(raw)
    except InvalidInput:
        return
    assert bytes(read) == raw
    for segment in read:
        for number in range(len(segment) + 1):
            assert isinstance(segment.text(number), str)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026", datetime(2025, 12, 31, 23, tzinfo=UTC)),
        ("202607", datetime(2026, 6, 30, 22, tzinfo=UTC)),
        ("20260102", datetime(2026, 1, 1, 23, tzinfo=UTC)),
        ("2026010203", datetime(2026, 1, 2, 2, tzinfo=UTC)),
        ("202601020304", datetime(2026, 1, 2, 2, 4, tzinfo=UTC)),
        ("20260102030405", datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC)),
        ("20260102030405.25", datetime(2026, 1, 2, 2, 4, 5, 250000, tzinfo=UTC)),
        ("20260102030405.1234-0530", datetime(2026, 1, 2, 8, 34, 5, 123400, tzinfo=UTC)),
        ("20260102+0000", datetime(2026, 1, 2, tzinfo=UTC)),
        ("20261025023000", datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
    ],
)
def test_times_of_every_precision_become_utc(text, moment):
    assert timestamp_from_hl7(text, ZoneInfo("Europe/Berlin")) == moment


@pytest.mark.parametrize(
    "text",
    ["", "26", "20261", "20261301", "20260230", "2026010225", "20260102030460", "00000101", "2026-01-02", "20260102Z",
     "20260102030405+2500", "20260102030405+0175", "٢٠٢٦", "99991231235959-2300"],
)  # fmt: skip
def test_times_that_are_none_are_refused_by_field(text):
    with pytest.raises(InvalidInput) as refused:
        timestamp_from_hl7(text, UTC, field="OBR-7")
    assert refused.value.field == "OBR-7"


def test_a_birth_date_is_the_day_as_written():
    assert date_from_hl7("19700101") == date(1970, 1, 1)
    assert date_from_hl7("19700101233000+0200") == date(1970, 1, 1)
    with pytest.raises(InvalidInput):
        date_from_hl7("1970")


def test_times_are_written_with_their_offset():
    moment = datetime(2026, 7, 1, 12, 0, 5, 250999, tzinfo=UTC)
    assert hl7_timestamp(moment, ZoneInfo("Europe/Berlin")) == "20260701140005+0200"
    assert hl7_timestamp(moment, ZoneInfo("America/St_Johns"), "millisecond") == "20260701093005.250-0230"
    with pytest.raises(ValueError, match="zone"):
        hl7_timestamp(datetime(2026, 7, 1), UTC)


@settings(max_examples=100, deadline=None)
@given(
    st.datetimes(datetime(1800, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),
    st.sampled_from([UTC, ZoneInfo("Europe/Amsterdam"), ZoneInfo("Asia/Kathmandu"), timezone(timedelta(hours=-12))]),
)
def test_a_written_time_is_the_same_instant_when_read(moment, zone):
    moment = moment.replace(microsecond=0)
    assert timestamp_from_hl7(hl7_timestamp(moment, zone), UTC) == moment
