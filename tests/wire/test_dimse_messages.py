"""PS3.7 6.3.1 and Annex E: command sets, against pydicom's own codec and against mutilated bytes."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from hilum.dicom.dimse.messages import (
    COMMANDS,
    CommandField,
    CommandSet,
    MalformedCommand,
    check_request,
    decode_command,
    encode_command,
)

KEYWORDS = {  # field of CommandSet -> DICOM keyword, where capitalisation alone does not give it
    "affected_sop_class_uid": "AffectedSOPClassUID",
    "requested_sop_class_uid": "RequestedSOPClassUID",
    "affected_sop_instance_uid": "AffectedSOPInstanceUID",
    "requested_sop_instance_uid": "RequestedSOPInstanceUID",
    "message_id": "MessageID",
    "message_id_being_responded_to": "MessageIDBeingRespondedTo",
    "error_id": "ErrorID",
    "event_type_id": "EventTypeID",
    "action_type_id": "ActionTypeID",
    "move_originator_message_id": "MoveOriginatorMessageID",
}


def keyword(name: str) -> str:
    return KEYWORDS.get(name, name.title().replace("_", ""))


FULL = CommandSet(
    affected_sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
    requested_sop_class_uid="1.2.840.10008.3.1.2.3.3",
    command_field=0x8021,
    message_id=7,
    message_id_being_responded_to=65535,
    move_destination="ARCHIVE",
    priority=2,
    command_data_set_type=1,
    status=0xB000,
    offending_element=(0x00100020, 0x7FE00010),
    error_comment="Something odd",
    error_id=0xA506,
    affected_sop_instance_uid="1.2.3",
    requested_sop_instance_uid="1.2.3.44",
    event_type_id=1,
    attribute_identifier_list=(0x00080005,),
    action_type_id=3,
    number_of_remaining_suboperations=4,
    number_of_completed_suboperations=5,
    number_of_failed_suboperations=6,
    number_of_warning_suboperations=7,
    move_originator_application_entity_title="WORKSTATION",
    move_originator_message_id=9,
)


def test_pydicom_reads_every_field_we_write() -> None:
    raw = encode_command(FULL, with_data_set=True)
    found = read_dataset(io.BytesIO(raw), is_implicit_VR=True, is_little_endian=True)
    assert found.CommandGroupLength == len(raw) - 12
    for name in CommandSet.__slots__:
        value, expected = found[keyword(name)].value, getattr(FULL, name)
        if isinstance(expected, tuple):
            value = tuple(value) if hasattr(value, "__iter__") else (int(value),)
        assert value == expected, name


def test_we_read_every_field_pydicom_writes() -> None:
    theirs = Dataset()
    theirs.CommandGroupLength = 0
    for name in CommandSet.__slots__:
        value = getattr(FULL, name)
        setattr(theirs, keyword(name), list(value) if isinstance(value, tuple) else value)
    buffer = io.BytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = True, True  # type: ignore[attr-defined]
    from pydicom.filebase import DicomFileLike

    file = DicomFileLike(buffer)
    file.is_implicit_VR, file.is_little_endian = True, True
    write_dataset(file, theirs)
    assert decode_command(buffer.getvalue()) == FULL


def test_a_c_echo_response_is_these_bytes() -> None:
    response = CommandSet(
        affected_sop_class_uid="1.2.840.10008.1.1", command_field=0x8030, message_id_being_responded_to=1, status=0
    )
    assert encode_command(response, with_data_set=False) == bytes.fromhex(
        "00000000 04000000 42000000"
        "00000200 12000000 312e322e3834302e31303030382e312e3100"
        "00000001 02000000 3080"
        "00002001 02000000 0100"
        "00000008 02000000 0101"
        "00000009 02000000 0000"
    )


numbers = st.one_of(st.none(), st.integers(0, 65535))
tags = st.one_of(st.none(), st.lists(st.integers(0, 0xFFFFFFFF), min_size=1, max_size=4).map(tuple))


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 65535), numbers, numbers, tags, st.booleans(), st.from_regex(r"\A[0-2](\.[1-9][0-9]{0,4}){1,9}\Z")
)
def test_what_is_encoded_is_decoded(
    field: int, message_id: int | None, status: int | None, offending: tuple[int, ...] | None, data: bool, uid: str
) -> None:
    command = CommandSet(
        command_field=field,
        message_id=message_id,
        status=status,
        offending_element=offending,
        affected_sop_class_uid=uid,
        command_data_set_type=1 if data else 0x0101,
    )
    assert decode_command(encode_command(command, with_data_set=data)) == command


GOOD = encode_command(CommandSet(command_field=0x30, message_id=1), with_data_set=False)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        GOOD[:-1],
        GOOD[:-3],
        GOOD + GOOD[12:],
        struct.pack("<HHI", 0, 0x0002, 3 << 30) + GOOD,
        struct.pack("<HHI", 0x0010, 0x0010, 4) + b"Name" + GOOD,
        struct.pack("<HHIB", 0, 0x0110, 1, 1) + GOOD[12:22],
        struct.pack("<HHI", 0, 0x0901, 3) + b"abc" + GOOD,
        struct.pack("<HHI", 0, 0x0902, 2000) + bytes(2000) + GOOD,
    ],
    ids=["empty", "cut value", "cut header", "twice", "3 GB", "other group", "odd number", "odd tag", "long text"],
)
def test_a_malformed_command_set_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedCommand):
        decode_command(raw)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutilated_command_sets_are_read_or_refused(data: st.DataObject) -> None:
    raw = bytearray(encode_command(FULL, with_data_set=True))
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        command = decode_command(raw[: data.draw(st.integers(0, len(raw)))])
        encode_command(command, with_data_set=False)
        check_request(command)
    except MalformedCommand as refusal:
        assert refusal.message


def test_every_request_has_a_rule_whose_names_are_fields() -> None:
    requests = {field for field in CommandField if not field & 0x8000}
    assert set(COMMANDS) == requests
    for rule in COMMANDS.values():
        names = {*rule.required, *(name for pair in rule.response_fields for name in pair)}
        assert names <= set(CommandSet.__slots__)


@pytest.mark.parametrize("field", sorted(COMMANDS))
def test_a_request_without_a_required_field_is_refused(field: int) -> None:
    rule = COMMANDS[field]
    whole: dict[str, object] = dict.fromkeys(rule.required, 1) | {"command_field": field}
    whole["command_data_set_type"] = 1 if rule.data_set else 0x0101
    check_request(CommandSet(**whole))  # type: ignore[arg-type]
    for name in rule.required:
        with pytest.raises(MalformedCommand, match=name):
            check_request(CommandSet(**(whole | {name: None})))  # type: ignore[arg-type]
