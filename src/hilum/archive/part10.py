"""The Part 10 file format (PS3.10 7): preamble and group 0002 before the data set, without decoding the data set.

Files that lack the preamble, or preamble and group 0002 both, are understood: what is missing is inferred from the
first element. What has no group 0002 can't be told to be deflated.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hilum.core.errors import InvalidInput, TooLarge, Unsupported

IMPLEMENTATION_CLASS_UID = "2.25.238404372910485621770394846350216539057"
IMPLEMENTATION_VERSION_NAME = "HILUM_0_1"
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED_LITTLE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
MAX_META = 1 << 20
MAX_INFLATED = 128 << 20
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_PREAMBLE = bytes(128) + b"DICM"
_FIRST_GROUPS = range(0x0004, 0x7FE1)


@dataclass(frozen=True, slots=True)
class Part10:
    """What stands before a data set, and where the data set starts."""

    dataset_offset: int
    transfer_syntax_uid: str
    sop_class_uid: str | None = None
    sop_instance_uid: str | None = None
    source_ae_title: str | None = None


def file_prefix(
    sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, source_ae_title: str | None = None
) -> bytes:
    """Preamble and group 0002 to put before a data set of this transfer syntax (PS3.10 7.1)."""
    before, behind = _around_instance(sop_class_uid, transfer_syntax_uid, source_ae_title)
    group = before + _element(0x0003, b"UI", _uid(sop_instance_uid)) + behind
    return _PREAMBLE + _element(0x0000, b"UL", struct.pack("<I", len(group))) + group


@lru_cache(maxsize=256)
def _around_instance(sop_class_uid: str, transfer_syntax_uid: str, source_ae_title: str | None) -> tuple[bytes, bytes]:
    """What stands before and behind the SOP Instance UID: the same for all that one sender sends of a kind."""
    before = _element(0x0001, b"OB", b"\x00\x01") + _element(0x0002, b"UI", _uid(sop_class_uid))
    behind = [
        _element(0x0010, b"UI", _uid(transfer_syntax_uid)),
        _element(0x0012, b"UI", _uid(IMPLEMENTATION_CLASS_UID)),
        _element(0x0013, b"SH", _even(IMPLEMENTATION_VERSION_NAME.encode("ascii"), b" ")),
    ]
    if source_ae_title:
        behind.append(_element(0x0016, b"AE", _even(source_ae_title.encode("ascii", "replace")[:16], b" ")))
    return before, b"".join(behind)


def _element(element: int, vr: bytes, value: bytes) -> bytes:
    if vr in _LONG:
        return struct.pack("<HH2sHI", 2, element, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", 2, element, vr, len(value)) + value


def _uid(value: str) -> bytes:
    return _even(value.encode("ascii"), b"\0")


def _even(value: bytes, pad: bytes) -> bytes:
    return value + pad if len(value) % 2 else value


def split(data: Any) -> Part10:
    """Tell group 0002 from the data set in a Part 10 file, or in its beginning (1 MiB is enough).

    `data` is bytes, bytearray or mmap. Raises InvalidInput when it is not DICOM.
    """
    start = 132 if bytes(data[128:132]) == b"DICM" else 0
    if start == 0 and bytes(data[:4]) == b"DICM":
        start = 4
    if start == 0 and _preamble_without_mark(data):
        start = 128
    elements, position = _meta(data, start)
    syntax = elements.get(0x0010, "")
    if not syntax:
        syntax = _guess(bytes(data[position : position + 8]))
    return Part10(
        position, syntax, elements.get(0x0002) or None, elements.get(0x0003) or None, elements.get(0x0016) or None
    )


def _preamble_without_mark(data: Any) -> bool:
    """128 zeros and then an element: some writers forget the four letters."""
    head = bytes(data[:136])
    return len(head) == 136 and not any(head[:128]) and head[128:130] in (b"\x02\x00", b"\x08\x00")


def _meta(data: Any, position: int) -> tuple[dict[int, str], int]:
    """The text elements of group 0002, which is explicit little endian whatever follows, and where it ends."""
    elements: dict[int, str] = {}
    begin = position
    while bytes(data[position : position + 2]) == b"\x02\x00":
        head = bytes(data[position : position + 12])
        if len(head) < 8:
            raise InvalidInput("The file is cut within group 0002.")
        vr = head[4:6]
        if not (vr.isalpha() and vr.isupper()):  # written as implicit, against the standard
            length, start = struct.unpack_from("<I", head, 4)[0], position + 8
        elif vr in _LONG:
            length, start = struct.unpack_from("<I", head.ljust(12, b"\0"), 8)[0], position + 12
        else:
            length, start = struct.unpack_from("<H", head, 6)[0], position + 8
        position = start + length
        if position > len(data) or position - begin > MAX_META:
            raise InvalidInput("Group 0002 claims more bytes than there are.")
        tag = struct.unpack_from("<H", head, 2)[0]
        elements[tag] = bytes(data[start:position]).decode("ascii", "replace").strip("\0 ")
    return elements, position


def _guess(head: bytes) -> str:
    """The encoding of a data set by its first element."""
    if len(head) < 8:
        raise InvalidInput("The file is too short to hold DICOM.")
    little, big = struct.unpack("<H", head[:2])[0], struct.unpack(">H", head[:2])[0]
    lettered = head[4:6].isalpha() and head[4:6].isupper()
    if lettered and little in _FIRST_GROUPS and little < big:
        return EXPLICIT_LITTLE
    if lettered and big in _FIRST_GROUPS:
        return EXPLICIT_BIG
    if little in _FIRST_GROUPS and struct.unpack("<I", head[4:8])[0] < 1 << 20:
        return IMPLICIT_LITTLE
    raise InvalidInput("The file is not DICOM.")


def is_implicit(transfer_syntax_uid: str) -> bool:
    """Whether data sets of this transfer syntax carry no VR."""
    return transfer_syntax_uid == IMPLICIT_LITTLE


def is_big_endian(transfer_syntax_uid: str) -> bool:
    """Whether data sets of this transfer syntax have the high byte first."""
    return transfer_syntax_uid == EXPLICIT_BIG


def inflated(dataset: Any, limit: int = MAX_INFLATED) -> bytes:
    """The bytes of a data set of Deflated Explicit VR Little Endian (PS3.5 A.5). Raises TooLarge, InvalidInput."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = stream.decompress(dataset, limit)
    except zlib.error as error:
        raise InvalidInput("The deflated data set is damaged.") from error
    if stream.unconsumed_tail:
        raise TooLarge("The deflated data set is larger than the archive takes.")
    if not stream.eof:
        raise InvalidInput("The deflated data set is cut.")
    return data


def checked_transfer_syntax(uid: str) -> str:
    """The transfer syntax itself, or Unsupported when its data sets can't be read here (XML, private ones)."""
    if uid.startswith("1.2.840.10008.1.2") and uid not in _NOT_DATA_SETS:
        return uid
    raise Unsupported("The transfer syntax is not known here.", field="TransferSyntaxUID")


# RFC 2557 MIME, XML and the SMPTE ST 2110 streams are transfer syntaxes without data set bytes of their own.
_NOT_DATA_SETS = frozenset(
    {"1.2.840.10008.1.2.6.1", "1.2.840.10008.1.2.6.2", *(f"1.2.840.10008.1.2.7.{n}" for n in (1, 2, 3))}
)
