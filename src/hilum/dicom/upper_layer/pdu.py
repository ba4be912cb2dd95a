"""The seven protocol data units of the DICOM upper layer, decoded from and encoded to bytes (PS3.8 9.3).

Works on memoryviews; a P-DATA-TF is split without copying its fragments. Every length is checked against what is
really there, and what does not fit is refused with `InvalidPdu`, whose reason goes into the A-ABORT.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct

from hilum.dicom.upper_layer.user_information import (
    U32,
    AbortReason,
    InvalidPdu,
    UserInformation,
    decode_user_information,
    encode_user_information,
    item,
    items_of,
    uid_of,
)

PDU_HEADER = Struct(">BxI")
PDV_HEADER = Struct(">IBB")
APPLICATION_CONTEXT_NAME = "1.2.840.10008.3.1.1.1"


class PduType(IntEnum):
    """PS3.8 9.3.1."""

    A_ASSOCIATE_RQ = 0x01
    A_ASSOCIATE_AC = 0x02
    A_ASSOCIATE_RJ = 0x03
    P_DATA_TF = 0x04
    A_RELEASE_RQ = 0x05
    A_RELEASE_RP = 0x06
    A_ABORT = 0x07


class ContextResult(IntEnum):
    """Result/Reason of a presentation context (PS3.8 table 9-18)."""

    ACCEPTANCE = 0
    USER_REJECTION = 1
    NO_REASON = 2
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 4


class RejectResult(IntEnum):
    """PS3.8 table 9-21."""

    REJECTED_PERMANENT = 1
    REJECTED_TRANSIENT = 2


class RejectSource(IntEnum):
    """PS3.8 table 9-21."""

    SERVICE_USER = 1
    SERVICE_PROVIDER_ACSE = 2
    SERVICE_PROVIDER_PRESENTATION = 3


class AbortSource(IntEnum):
    """PS3.8 table 9-26."""

    SERVICE_USER = 0
    SERVICE_PROVIDER = 2


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """Presentation Context item of an A-ASSOCIATE-RQ (PS3.8 9.3.2.2)."""

    presentation_context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContextReply:
    """Presentation Context item of an A-ASSOCIATE-AC (PS3.8 9.3.3.2)."""

    presentation_context_id: int
    result: int
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class AAssociateRQ:
    """A-ASSOCIATE-RQ (PS3.8 9.3.2)."""

    called_ae_title: str
    calling_ae_title: str
    presentation_contexts: tuple[ProposedContext, ...]
    user_information: UserInformation
    application_context_name: str = APPLICATION_CONTEXT_NAME
    protocol_version: int = 1


@dataclass(frozen=True, slots=True)
class AAssociateAC:
    """A-ASSOCIATE-AC (PS3.8 9.3.3)."""

    called_ae_title: str
    calling_ae_title: str
    presentation_contexts: tuple[ContextReply, ...]
    user_information: UserInformation
    application_context_name: str = APPLICATION_CONTEXT_NAME
    protocol_version: int = 1


@dataclass(frozen=True, slots=True)
class AAssociateRJ:
    """A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

    result: int
    source: int
    reason: int


@dataclass(frozen=True, slots=True)
class PresentationDataValue:
    """One fragment of a command or a data set (PS3.8 9.3.5.1 and E.2); the fragment is a view, not a copy."""

    presentation_context_id: int
    is_command: bool
    is_last: bool
    fragment: memoryview


@dataclass(frozen=True, slots=True)
class PDataTF:
    """P-DATA-TF (PS3.8 9.3.5)."""

    presentation_data_values: tuple[PresentationDataValue, ...]


@dataclass(frozen=True, slots=True)
class AReleaseRQ:
    """A-RELEASE-RQ (PS3.8 9.3.6)."""


@dataclass(frozen=True, slots=True)
class AReleaseRP:
    """A-RELEASE-RP (PS3.8 9.3.7)."""


@dataclass(frozen=True, slots=True)
class AAbort:
    """A-ABORT (PS3.8 9.3.8)."""

    source: int
    reason: int


Pdu = AAssociateRQ | AAssociateAC | AAssociateRJ | PDataTF | AReleaseRQ | AReleaseRP | AAbort


def split_pdvs(body: memoryview) -> tuple[PresentationDataValue, ...]:
    """The presentation data values of a P-DATA-TF body (PS3.8 9.3.5.1)."""
    values = []
    at, end = 0, len(body)
    while at < end:
        if end - at < 6:
            raise InvalidPdu("A presentation data value header is cut off.")
        length, context_id, control = PDV_HEADER.unpack_from(body, at)
        if not 2 <= length <= end - at - 4:
            raise InvalidPdu("A presentation data value does not fit in its P-DATA-TF.")
        values.append(pdv_of(context_id, control, body[at + 6 : at + 4 + length]))
        at += 4 + length
    if not values:
        raise InvalidPdu("A P-DATA-TF holds no presentation data value.")
    return tuple(values)


def pdv_of(context_id: int, control: int, fragment: memoryview) -> PresentationDataValue:
    """One value from its context and message control header; bits 2 to 7 of the header are not tested (E.2)."""
    return PresentationDataValue(context_id, bool(control & 1), bool(control & 2), fragment)


def _ae_title(raw: memoryview) -> str:
    return bytes(raw).decode("ascii", "replace").strip("\0 ")


def _proposed(value: memoryview) -> ProposedContext:
    if len(value) < 4:
        raise InvalidPdu("A presentation context item is cut off.")
    abstract_syntax = ""
    transfer_syntaxes = []
    for kind, sub in items_of(value[4:]):
        if kind == 0x30 and not abstract_syntax:
            abstract_syntax = uid_of(sub)
        elif kind == 0x40:
            transfer_syntaxes.append(uid_of(sub))
        else:
            raise InvalidPdu("A presentation context holds an item it may not hold.")
    if not abstract_syntax or not transfer_syntaxes:
        raise InvalidPdu("A presentation context names no abstract syntax or no transfer syntax.")
    return ProposedContext(value[0], abstract_syntax, tuple(transfer_syntaxes))


def _reply(value: memoryview) -> ContextReply:
    if len(value) < 4:
        raise InvalidPdu("A presentation context item is cut off.")
    names = [bytes(sub).rstrip(b"\0 ").decode("ascii", "replace") for kind, sub in items_of(value[4:]) if kind == 0x40]
    return ContextReply(value[0], value[2], names[0] if names else "")


def _decode_associate(body: memoryview, is_request: bool) -> AAssociateRQ | AAssociateAC:
    if len(body) < 68:
        raise InvalidPdu("An A-ASSOCIATE is shorter than its fixed fields.")
    application_context = ""
    proposed: list[ProposedContext] = []
    replies: list[ContextReply] = []
    user_information: UserInformation | None = None
    for kind, value in items_of(body[68:]):
        if kind == 0x10 and not application_context:
            application_context = uid_of(value)
        elif kind == 0x20 and is_request:
            proposed.append(_proposed(value))
        elif kind == 0x21 and not is_request:
            replies.append(_reply(value))
        elif kind == 0x50 and user_information is None:
            user_information = decode_user_information(value)
        else:
            raise InvalidPdu(f"The item {kind:02X}H may not be here.", AbortReason.UNEXPECTED_PDU_PARAMETER)
    if not application_context or user_information is None:
        raise InvalidPdu("An A-ASSOCIATE lacks its application context or user information.")
    titles = (_ae_title(body[4:20]), _ae_title(body[20:36]))
    version = int.from_bytes(body[:2], "big")
    if is_request:
        return AAssociateRQ(*titles, tuple(proposed), user_information, application_context, version)
    return AAssociateAC(*titles, tuple(replies), user_information, application_context, version)


_FOUR_BYTE_PDUS = (PduType.A_ASSOCIATE_RJ, PduType.A_RELEASE_RQ, PduType.A_RELEASE_RP, PduType.A_ABORT)


def decode_pdu(pdu_type: int, body: memoryview) -> Pdu:
    """The unit of that type whose bytes after the six-byte header are `body`; raises InvalidPdu."""
    if pdu_type in _FOUR_BYTE_PDUS and len(body) != 4:
        raise InvalidPdu(f"A PDU of type {pdu_type:02X}H has four bytes, not {len(body)}.")
    match pdu_type:
        case PduType.P_DATA_TF:
            return PDataTF(split_pdvs(body))
        case PduType.A_ASSOCIATE_RQ:
            return _decode_associate(body, is_request=True)
        case PduType.A_ASSOCIATE_AC:
            return _decode_associate(body, is_request=False)
        case PduType.A_ASSOCIATE_RJ:
            return AAssociateRJ(body[1], body[2], body[3])
        case PduType.A_RELEASE_RQ:
            return AReleaseRQ()
        case PduType.A_RELEASE_RP:
            return AReleaseRP()
        case PduType.A_ABORT:
            return AAbort(body[2], body[3])
    raise InvalidPdu(f"There is no PDU of type {pdu_type:02X}H.", AbortReason.UNRECOGNIZED_PDU)


def _encode_proposed(context: ProposedContext) -> bytes:
    names = item(0x30, context.abstract_syntax.encode("ascii"))
    names += b"".join(item(0x40, syntax.encode("ascii")) for syntax in context.transfer_syntaxes)
    return item(0x20, bytes((context.presentation_context_id, 0, 0, 0)) + names)


def _encode_reply(context: ContextReply) -> bytes:
    head = bytes((context.presentation_context_id, 0, context.result, 0))
    return item(0x21, head + item(0x40, context.transfer_syntax.encode("ascii")))


def _encode_associate(pdu: AAssociateRQ | AAssociateAC) -> bytes:
    titles = b"".join(
        title.encode("ascii", "replace")[:16].ljust(16) for title in (pdu.called_ae_title, pdu.calling_ae_title)
    )
    contexts = (
        b"".join(map(_encode_proposed, pdu.presentation_contexts))
        if isinstance(pdu, AAssociateRQ)
        else b"".join(map(_encode_reply, pdu.presentation_contexts))
    )
    fixed = pdu.protocol_version.to_bytes(2, "big") + bytes(2) + titles + bytes(32)
    application_context = item(0x10, pdu.application_context_name.encode("ascii"))
    return fixed + application_context + contexts + encode_user_information(pdu.user_information)


def _encode_p_data(pdu: PDataTF) -> bytes:
    parts: list[bytes | memoryview] = []
    for value in pdu.presentation_data_values:
        control = value.is_command | value.is_last << 1
        parts += [PDV_HEADER.pack(len(value.fragment) + 2, value.presentation_context_id, control), value.fragment]
    return b"".join(parts)


def encode_pdu(pdu: Pdu) -> bytes:
    """The unit with its header, ready for the transport."""
    match pdu:
        case AAssociateRQ():
            kind, body = PduType.A_ASSOCIATE_RQ, _encode_associate(pdu)
        case AAssociateAC():
            kind, body = PduType.A_ASSOCIATE_AC, _encode_associate(pdu)
        case AAssociateRJ(result, source, reason):
            kind, body = PduType.A_ASSOCIATE_RJ, bytes((0, result, source, reason))
        case PDataTF():
            kind, body = PduType.P_DATA_TF, _encode_p_data(pdu)
        case AReleaseRQ():
            kind, body = PduType.A_RELEASE_RQ, bytes(4)
        case AReleaseRP():
            kind, body = PduType.A_RELEASE_RP, bytes(4)
        case AAbort(source, reason):
            kind, body = PduType.A_ABORT, bytes((0, 0, source, reason))
    return PDU_HEADER.pack(kind, len(body)) + body


def fragment_message(
    command: bytes, data_set: bytes | memoryview | None, context_id: int, maximum_length: int
) -> list[bytes | memoryview]:
    """Buffers of the P-DATA-TFs that carry one message, one value each, none above the receiver's maximum length.

    `maximum_length` bounds the bytes after the PDU header (PS3.8 D.1.1). The data set is sliced, not copied.
    """
    size = maximum_length - 6
    buffers: list[bytes | memoryview] = []
    for content, command_bit in ((memoryview(command), 1), (data_set, 0)):
        if content is None:
            continue
        view, total = memoryview(content), len(content)
        for start in range(0, total, size):
            fragment = view[start : start + size]
            control = command_bit | (2 if start + size >= total else 0)
            length = len(fragment)
            buffers.append(
                PDU_HEADER.pack(PduType.P_DATA_TF, length + 6) + PDV_HEADER.pack(length + 2, context_id, control)
            )
            buffers.append(fragment)
    return buffers


__all__ = [
    "APPLICATION_CONTEXT_NAME",
    "PDU_HEADER",
    "PDV_HEADER",
    "U32",
    "AAbort",
    "AAssociateAC",
    "AAssociateRJ",
    "AAssociateRQ",
    "AReleaseRP",
    "AReleaseRQ",
    "AbortReason",
    "AbortSource",
    "ContextReply",
    "ContextResult",
    "InvalidPdu",
    "PDataTF",
    "Pdu",
    "PduType",
    "PresentationDataValue",
    "ProposedContext",
    "RejectResult",
    "RejectSource",
    "decode_pdu",
    "encode_pdu",
    "fragment_message",
    "pdv_of",
    "split_pdvs",
]
