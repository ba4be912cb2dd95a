"""The User Information item of A-ASSOCIATE-RQ and -AC (PS3.8 9.3.2.3, PS3.7 Annex D.3.3).

Sub-items that are not known are passed over, as PS3.8 9.3.2.3 asks; known ones with wrong lengths are refused
with `InvalidPdu`. Secrets of a user identity never appear in a `repr`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from struct import Struct

from hilum.core.errors import InvalidInput

U16 = Struct(">H")
U32 = Struct(">I")
ITEM_HEADER = Struct(">BxH")
_UID = re.compile(rb"[0-9.]{1,64}")

MAXIMUM_ITEMS = 2048  # in one item list; far above what 128 contexts with 60 transfer syntaxes each need


class AbortReason(IntEnum):
    """Reason/Diag. of an A-ABORT from the service provider (PS3.8 9.3.8, table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNIZED_PDU_PARAMETER = 4
    UNEXPECTED_PDU_PARAMETER = 5
    INVALID_PDU_PARAMETER_VALUE = 6


class InvalidPdu(InvalidInput):
    """The protocol data unit breaks a rule of PS3.8 9.3."""

    code = "invalid-pdu"

    def __init__(self, message: str, reason: AbortReason = AbortReason.INVALID_PDU_PARAMETER_VALUE) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class AsynchronousOperationsWindow:
    """PS3.7 D.3.3.3; zero means unlimited."""

    maximum_number_operations_invoked: int
    maximum_number_operations_performed: int


@dataclass(frozen=True, slots=True)
class ScpScuRoleSelection:
    """PS3.7 D.3.3.4; the roles are those of the association requestor."""

    sop_class_uid: str
    scu_role: bool
    scp_role: bool


@dataclass(frozen=True, slots=True)
class SopClassExtendedNegotiation:
    """PS3.7 D.3.3.5."""

    sop_class_uid: str
    service_class_application_information: bytes


@dataclass(frozen=True, slots=True)
class SopClassCommonExtendedNegotiation:
    """PS3.7 D.3.3.6."""

    sop_class_uid: str
    service_class_uid: str
    related_general_sop_class_uids: tuple[str, ...] = ()


class UserIdentityType(IntEnum):
    """PS3.7 table D.3-14."""

    USERNAME = 1
    USERNAME_AND_PASSCODE = 2
    KERBEROS = 3
    SAML = 4
    JWT = 5


@dataclass(frozen=True, slots=True)
class UserIdentityRQ:
    """PS3.7 D.3.3.7.1."""

    user_identity_type: int
    positive_response_requested: bool
    primary_field: bytes = field(repr=False)
    secondary_field: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class UserInformation:
    """All sub-items of one User Information item."""

    maximum_length_received: int = 16384
    implementation_class_uid: str = ""
    implementation_version_name: str = ""
    asynchronous_operations_window: AsynchronousOperationsWindow | None = None
    role_selections: tuple[ScpScuRoleSelection, ...] = ()
    extended_negotiations: tuple[SopClassExtendedNegotiation, ...] = ()
    common_extended_negotiations: tuple[SopClassCommonExtendedNegotiation, ...] = ()
    user_identity: UserIdentityRQ | None = None
    user_identity_server_response: bytes | None = None


def items_of(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield (item type, value) of a list of items, each length checked against what is left."""
    at, end = 0, len(view)
    for _ in range(MAXIMUM_ITEMS):
        if at == end:
            return
        if end - at < 4:
            raise InvalidPdu("An item header is cut off.")
        item_type, length = ITEM_HEADER.unpack_from(view, at)
        at += 4
        if length > end - at:
            raise InvalidPdu(f"The item {item_type:02X}H says it is longer than what holds it.")
        yield item_type, view[at : at + length]
        at += length
    raise InvalidPdu(f"There are more than {MAXIMUM_ITEMS} items in one list.")


def item(item_type: int, value: bytes) -> bytes:
    """One item: type, a reserved byte, a two-byte length and the value."""
    return ITEM_HEADER.pack(item_type, len(value)) + value


def uid_of(value: bytes | memoryview) -> str:
    """A UID of at most 64 digits and dots; padding as some peers send it is taken off."""
    raw = bytes(value).rstrip(b"\0 ")
    if not _UID.fullmatch(raw):
        raise InvalidPdu("A UID has characters other than digits and dots, or is not 1 to 64 characters long.")
    return raw.decode("ascii")


class _Fields:
    """Reads length-prefixed fields of one sub-item and refuses to read past its end."""

    def __init__(self, view: memoryview) -> None:
        self._view, self._at = view, 0

    def take(self, length: int) -> bytes:
        if length > len(self._view) - self._at:
            raise InvalidPdu("A field in a user information sub-item is longer than the sub-item.")
        self._at += length
        return bytes(self._view[self._at - length : self._at])

    def number(self) -> int:
        return int(U16.unpack(self.take(2))[0])

    def prefixed(self) -> bytes:
        return self.take(self.number())

    def rest(self) -> bytes:
        return self.take(len(self._view) - self._at)

    @property
    def more(self) -> bool:
        return self._at < len(self._view)


def _role(value: memoryview) -> ScpScuRoleSelection:
    fields = _Fields(value)
    return ScpScuRoleSelection(uid_of(fields.prefixed()), fields.take(1) == b"\1", fields.take(1) == b"\1")


def _extended(value: memoryview) -> SopClassExtendedNegotiation:
    fields = _Fields(value)
    return SopClassExtendedNegotiation(uid_of(fields.prefixed()), fields.rest())


def _common_extended(value: memoryview) -> SopClassCommonExtendedNegotiation:
    fields = _Fields(value)
    sop_class, service_class = uid_of(fields.prefixed()), uid_of(fields.prefixed())
    if not fields.more:
        return SopClassCommonExtendedNegotiation(sop_class, service_class)
    related = _Fields(memoryview(fields.prefixed()))
    uids = []
    while related.more:
        uids.append(uid_of(related.prefixed()))
    return SopClassCommonExtendedNegotiation(sop_class, service_class, tuple(uids))


def _identity(value: memoryview) -> UserIdentityRQ:
    fields = _Fields(value)
    kind, wants_response = fields.take(2)
    return UserIdentityRQ(kind, wants_response == 1, fields.prefixed(), fields.prefixed())


def _window(value: memoryview) -> AsynchronousOperationsWindow:
    fields = _Fields(value)
    return AsynchronousOperationsWindow(fields.number(), fields.number())


def decode_user_information(view: memoryview) -> UserInformation:
    """The sub-items of a User Information item (type 50H), by PS3.8 9.3.2.3 and PS3.7 D.3.3."""
    single: dict[str, object] = {}
    roles: list[ScpScuRoleSelection] = []
    extended: list[SopClassExtendedNegotiation] = []
    common: list[SopClassCommonExtendedNegotiation] = []
    for kind, value in items_of(view):
        match kind:
            case 0x51:
                single["maximum_length_received"] = int(U32.unpack(_Fields(value).take(4))[0])
            case 0x52:
                single["implementation_class_uid"] = uid_of(value)
            case 0x53:
                single["asynchronous_operations_window"] = _window(value)
            case 0x54:
                roles.append(_role(value))
            case 0x55:
                single["implementation_version_name"] = bytes(value[:16]).decode("ascii", "replace").strip("\0 ")
            case 0x56:
                extended.append(_extended(value))
            case 0x57:
                common.append(_common_extended(value))
            case 0x58:
                single["user_identity"] = _identity(value)
            case 0x59:
                single["user_identity_server_response"] = _Fields(value).prefixed()
    return UserInformation(
        role_selections=tuple(roles),
        extended_negotiations=tuple(extended),
        common_extended_negotiations=tuple(common),
        **single,  # type: ignore[arg-type]  # each value is decoded for its own field above
    )


def _prefixed(value: bytes) -> bytes:
    return U16.pack(len(value)) + value


def _encoded_optional(info: UserInformation) -> Iterator[bytes]:
    if info.implementation_class_uid:
        yield item(0x52, info.implementation_class_uid.encode("ascii"))
    if (window := info.asynchronous_operations_window) is not None:
        invoked, performed = window.maximum_number_operations_invoked, window.maximum_number_operations_performed
        yield item(0x53, U16.pack(invoked) + U16.pack(performed))
    for role in info.role_selections:
        yield item(0x54, _prefixed(role.sop_class_uid.encode("ascii")) + bytes((role.scu_role, role.scp_role)))
    if info.implementation_version_name:
        yield item(0x55, info.implementation_version_name.encode("ascii")[:16])
    for extended in info.extended_negotiations:
        uid = extended.sop_class_uid.encode("ascii")
        yield item(0x56, _prefixed(uid) + extended.service_class_application_information)
    for common in info.common_extended_negotiations:
        related = b"".join(_prefixed(uid.encode("ascii")) for uid in common.related_general_sop_class_uids)
        uids = _prefixed(common.sop_class_uid.encode("ascii")) + _prefixed(common.service_class_uid.encode("ascii"))
        yield item(0x57, uids + _prefixed(related))
    if (who := info.user_identity) is not None:
        head = bytes((who.user_identity_type, who.positive_response_requested))
        yield item(0x58, head + _prefixed(who.primary_field) + _prefixed(who.secondary_field))
    if info.user_identity_server_response is not None:
        yield item(0x59, _prefixed(info.user_identity_server_response))


def encode_user_information(info: UserInformation) -> bytes:
    """The User Information item, its header included."""
    return item(0x50, item(0x51, U32.pack(info.maximum_length_received)) + b"".join(_encoded_optional(info)))
