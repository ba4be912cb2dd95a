"""DIMSE command sets: decoded from and encoded to bytes by hand, Implicit VR Little Endian (PS3.7 6.3.1, Annex E).

`COMMANDS` says for every request which fields it must bring, whether a data set follows and which fields its response
repeats. A command set that is cut off, repeats an element or lacks a required field is a `MalformedCommand`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import IntEnum
from operator import attrgetter
from struct import Struct
from typing import Any

from hilum.core.errors import InvalidInput

_ELEMENT = Struct("<HHI")
_US = Struct("<H")
_UL = Struct("<I")
_AT = Struct("<HH")

NO_DATA_SET = 0x0101  # PS3.7 E.1: any other value of Command Data Set Type says that one follows
_DATA_SET_FOLLOWS = 0x0001
RESPONSE = 0x8000


class MalformedCommand(InvalidInput):
    """The command set breaks a rule of PS3.7."""

    code = "malformed-command"


class CommandField(IntEnum):
    """PS3.7 E.1; a response is its request with the highest bit set."""

    C_STORE_RQ = 0x0001
    C_GET_RQ = 0x0010
    C_FIND_RQ = 0x0020
    C_MOVE_RQ = 0x0021
    C_ECHO_RQ = 0x0030
    N_EVENT_REPORT_RQ = 0x0100
    N_GET_RQ = 0x0110
    N_SET_RQ = 0x0120
    N_ACTION_RQ = 0x0130
    N_CREATE_RQ = 0x0140
    N_DELETE_RQ = 0x0150
    C_CANCEL_RQ = 0x0FFF
    C_STORE_RSP = 0x8001
    C_GET_RSP = 0x8010
    C_FIND_RSP = 0x8020
    C_MOVE_RSP = 0x8021
    C_ECHO_RSP = 0x8030
    N_EVENT_REPORT_RSP = 0x8100
    N_GET_RSP = 0x8110
    N_SET_RSP = 0x8120
    N_ACTION_RSP = 0x8130
    N_CREATE_RSP = 0x8140
    N_DELETE_RSP = 0x8150


@dataclass(frozen=True, slots=True)
class CommandSet:
    """One command set; fields are the keywords of PS3.7 E.1 and are None where the element is absent."""

    affected_sop_class_uid: str | None = None
    requested_sop_class_uid: str | None = None
    command_field: int | None = None
    message_id: int | None = None
    message_id_being_responded_to: int | None = None
    move_destination: str | None = None
    priority: int | None = None
    command_data_set_type: int | None = None
    status: int | None = None
    offending_element: tuple[int, ...] | None = None
    error_comment: str | None = None
    error_id: int | None = None
    affected_sop_instance_uid: str | None = None
    requested_sop_instance_uid: str | None = None
    event_type_id: int | None = None
    attribute_identifier_list: tuple[int, ...] | None = None
    action_type_id: int | None = None
    number_of_remaining_suboperations: int | None = None
    number_of_completed_suboperations: int | None = None
    number_of_failed_suboperations: int | None = None
    number_of_warning_suboperations: int | None = None
    move_originator_application_entity_title: str | None = None
    move_originator_message_id: int | None = None

    @property
    def has_data_set(self) -> bool:
        return self.command_data_set_type is not None and self.command_data_set_type != NO_DATA_SET

    @property
    def name(self) -> str:
        """`C-STORE-RQ` and the like; unknown commands by their number."""
        try:
            return CommandField(self.command_field or 0).name.replace("_", "-")
        except ValueError:
            return f"{self.command_field:04X}H"


def _decode_us(raw: bytes) -> int:
    if len(raw) != 2:
        raise MalformedCommand("A number in the command set does not have two bytes.")
    return int(_US.unpack(raw)[0])


def _decode_text(raw: bytes) -> str:
    if len(raw) > 128:
        raise MalformedCommand("A text in the command set is too long.")
    return raw.decode("ascii", "replace").strip("\0 ")


def _decode_at(raw: bytes) -> tuple[int, ...]:
    if len(raw) % 4:
        raise MalformedCommand("A list of tags in the command set is cut off.")
    return tuple(group << 16 | element for group, element in _AT.iter_unpack(raw))


def _encode_ui(value: str) -> bytes:
    raw = value.encode("ascii", "replace")
    return raw + b"\0" * (len(raw) & 1)


def _encode_text(value: str) -> bytes:
    raw = value.encode("ascii", "replace")
    return raw + b" " * (len(raw) & 1)


def _encode_at(value: tuple[int, ...]) -> bytes:
    return b"".join(_AT.pack(tag >> 16, tag & 0xFFFF) for tag in value)


_Codec = tuple[Callable[[bytes], Any], Callable[[Any], bytes]]
_UI: _Codec = (_decode_text, _encode_ui)
_TEXT: _Codec = (_decode_text, _encode_text)
_NUMBER: _Codec = (_decode_us, _US.pack)
_TAGS: _Codec = (_decode_at, _encode_at)

# PS3.7 E.1, element number of group 0000 -> VR, in the order of the fields of CommandSet
_ELEMENTS: dict[int, _Codec] = {
    0x0002: _UI,
    0x0003: _UI,
    0x0100: _NUMBER,
    0x0110: _NUMBER,
    0x0120: _NUMBER,
    0x0600: _TEXT,
    0x0700: _NUMBER,
    0x0800: _NUMBER,
    0x0900: _NUMBER,
    0x0901: _TAGS,
    0x0902: _TEXT,
    0x0903: _NUMBER,
    0x1000: _UI,
    0x1001: _UI,
    0x1002: _NUMBER,
    0x1005: _TAGS,
    0x1008: _NUMBER,
    0x1020: _NUMBER,
    0x1021: _NUMBER,
    0x1022: _NUMBER,
    0x1023: _NUMBER,
    0x1030: _TEXT,
    0x1031: _NUMBER,
}
_DECODERS = {
    element: (field.name, codec[0])
    for (element, codec), field in zip(_ELEMENTS.items(), fields(CommandSet), strict=True)
}
_ENCODERS = [(element, codec[1]) for element, codec in _ELEMENTS.items()]
_values_of = attrgetter(*(field.name for field in fields(CommandSet)))


def decode_command(raw: bytes | bytearray | memoryview) -> CommandSet:
    """The command set in `raw`; elements that PS3.7 does not name are passed over. Raises MalformedCommand."""
    content, at, end = bytes(raw), 0, len(raw)
    found: dict[str, Any] = {}
    while at < end:
        if end - at < 8:
            raise MalformedCommand("An element of the command set is cut off.")
        group, element, length = _ELEMENT.unpack_from(content, at)
        at += 8
        if group != 0:
            raise MalformedCommand("The command set holds an element outside group 0000.")
        if length > end - at:
            raise MalformedCommand("An element of the command set says it is longer than the command set.")
        if (known := _DECODERS.get(element)) is not None:
            name, decode = known
            if name in found:
                raise MalformedCommand("The command set holds an element twice.")
            found[name] = decode(content[at : at + length])
        at += length
    command = CommandSet(**found)
    if command.command_field is None or command.command_data_set_type is None:
        raise MalformedCommand("The command set lacks Command Field or Command Data Set Type.")
    return command


def encode_command(command: CommandSet, *, with_data_set: bool) -> bytes:
    """The bytes of a command set, group length first, Command Data Set Type as the message needs it."""
    parts = []
    for (element, encode), value in zip(_ENCODERS, _values_of(command), strict=True):
        if element == 0x0800:
            raw = encode(_DATA_SET_FOLLOWS if with_data_set else NO_DATA_SET)
        elif value is None:
            continue
        else:
            raw = encode(value)
        parts.append(_ELEMENT.pack(0, element, len(raw)) + raw)
    body = b"".join(parts)
    return _ELEMENT.pack(0, 0, 4) + _UL.pack(len(body)) + body


class DataSetRule(IntEnum):
    """Whether a data set follows a request (PS3.7 9.3 and 10.3)."""

    FORBIDDEN = 0
    ALLOWED = 1
    REQUIRED = 2


@dataclass(frozen=True, slots=True)
class CommandRule:
    """What a request must bring, and where its response takes SOP class and instance from."""

    required: tuple[str, ...]
    data_set: DataSetRule
    response_fields: tuple[tuple[str, str], ...] = ()  # (field of the response, field of the request)


_CLASS = ("affected_sop_class_uid", "affected_sop_class_uid")
_INSTANCE = ("affected_sop_instance_uid", "affected_sop_instance_uid")
_REQUESTED = (
    ("affected_sop_class_uid", "requested_sop_class_uid"),
    ("affected_sop_instance_uid", "requested_sop_instance_uid"),
)
_TARGET = ("message_id", "requested_sop_class_uid", "requested_sop_instance_uid")

# PS3.7 tables 9.3-1 to 9.3-13 and 10.3-1 to 10.3-12. Priority is required by the standard and missed by nobody.
COMMANDS: dict[int, CommandRule] = {
    CommandField.C_ECHO_RQ: CommandRule(("message_id", "affected_sop_class_uid"), DataSetRule.FORBIDDEN, (_CLASS,)),
    CommandField.C_STORE_RQ: CommandRule(
        ("message_id", "affected_sop_class_uid", "affected_sop_instance_uid"),
        DataSetRule.REQUIRED,
        (_CLASS, _INSTANCE),
    ),
    CommandField.C_FIND_RQ: CommandRule(("message_id", "affected_sop_class_uid"), DataSetRule.REQUIRED, (_CLASS,)),
    CommandField.C_GET_RQ: CommandRule(("message_id", "affected_sop_class_uid"), DataSetRule.REQUIRED, (_CLASS,)),
    CommandField.C_MOVE_RQ: CommandRule(
        ("message_id", "affected_sop_class_uid", "move_destination"), DataSetRule.REQUIRED, (_CLASS,)
    ),
    CommandField.C_CANCEL_RQ: CommandRule(("message_id_being_responded_to",), DataSetRule.FORBIDDEN),
    CommandField.N_EVENT_REPORT_RQ: CommandRule(
        ("message_id", "affected_sop_class_uid", "affected_sop_instance_uid", "event_type_id"),
        DataSetRule.ALLOWED,
        (_CLASS, _INSTANCE, ("event_type_id", "event_type_id")),
    ),
    CommandField.N_GET_RQ: CommandRule(_TARGET, DataSetRule.FORBIDDEN, _REQUESTED),
    CommandField.N_SET_RQ: CommandRule(_TARGET, DataSetRule.REQUIRED, _REQUESTED),
    CommandField.N_ACTION_RQ: CommandRule(
        (*_TARGET, "action_type_id"), DataSetRule.ALLOWED, (*_REQUESTED, ("action_type_id", "action_type_id"))
    ),
    CommandField.N_CREATE_RQ: CommandRule(
        ("message_id", "affected_sop_class_uid"), DataSetRule.ALLOWED, (_CLASS, _INSTANCE)
    ),
    CommandField.N_DELETE_RQ: CommandRule(_TARGET, DataSetRule.FORBIDDEN, _REQUESTED),
}


def check_request(command: CommandSet) -> CommandRule:
    """The rule of a request that keeps it; raises MalformedCommand for one that does not or is no request."""
    rule = COMMANDS.get(command.command_field or 0)
    if rule is None:
        raise MalformedCommand(f"The command {command.name} is not a request of PS3.7.")
    missing = [name for name in rule.required if getattr(command, name) in (None, "")]
    if missing:
        raise MalformedCommand(f"{command.name} lacks {missing[0]}.")
    if rule.data_set is DataSetRule.REQUIRED and not command.has_data_set:
        raise MalformedCommand(f"{command.name} comes without a data set.")
    if rule.data_set is DataSetRule.FORBIDDEN and command.has_data_set:
        raise MalformedCommand(f"{command.name} comes with a data set.")
    return rule
