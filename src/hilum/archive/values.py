"""Values of each VR as PS3.18 F.2.3 writes them in JSON.

Odd values are kept, not refused: a decimal that is none stays a string, a NaN becomes its name, bytes left over behind
the last whole number are left out. Padding at the end of text is not significant (PS3.5 6.2) and dropped.
"""

from __future__ import annotations

import math
import re
import struct
from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hilum.archive.charset import ESCAPE, decode

BINARY_INLINE = 1024
NUMBERS_INLINE = 8192
TEXT_INLINE = 64 << 10
_PAD = "\0 "
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}\Z")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z")

Converter = Callable[[bytes, Sequence[str], str], list[Any]]


class Representation(NamedTuple):
    """How a VR is read: its name, whether its explicit length has four bytes, its converter (None: binary or a
    sequence), and up to how many bytes a value stands in the JSON itself."""

    vr: str
    long: bool
    convert: Converter | None
    inline: int


def _unicode(value: bytes, encodings: Sequence[str]) -> str:
    return str(value, "ascii") if value.isascii() and ESCAPE not in value else decode(value, encodings)


def _texts(value: bytes, encodings: Sequence[str], _: str) -> list[Any]:
    text = _unicode(value, encodings).rstrip(_PAD)
    if "\\" in text:
        return [part.rstrip(_PAD) or None for part in text.split("\\")]
    return [text] if text else []


def _text(value: bytes, encodings: Sequence[str], _: str) -> list[Any]:
    text = _unicode(value, encodings).rstrip(_PAD)
    return [text] if text else []


def _names(value: bytes, encodings: Sequence[str], _: str) -> list[Any]:
    text = _unicode(value, encodings).rstrip(_PAD)
    return [_name(part) for part in text.split("\\")] if text else []


def _name(text: str) -> dict[str, str] | None:
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False)
    return {group: part for group, raw in groups if (part := raw.rstrip(_PAD))} or None


def _integers(value: bytes, encodings: Sequence[str], order: str) -> list[Any]:
    return [_integer(part) for part in _texts(value, encodings, order)]


def _integer(text: str | None) -> int | str | None:
    if text is None or not _INTEGER.match(stripped := text.strip()):
        return text
    return int(stripped)


def _decimals(value: bytes, encodings: Sequence[str], order: str) -> list[Any]:
    return [_decimal(part) for part in _texts(value, encodings, order)]


def _decimal(text: str | None) -> int | float | str | None:
    if text is None or not _DECIMAL.match(stripped := text.strip()):
        return text
    if _INTEGER.match(stripped):
        return int(stripped)
    number = float(stripped)
    return number if math.isfinite(number) else text


def _numbers(code: str) -> Converter:
    size = struct.calcsize(code)
    single = {order: struct.Struct(order + code) for order in "<>"}

    def convert(value: bytes, _: Sequence[str], order: str) -> list[Any]:
        if len(value) == size:
            return [single[order].unpack(value)[0]]
        count = len(value) // size
        return list(struct.unpack_from(f"{order}{count}{code}", value)) if count else []

    return convert


def _floats(code: str) -> Converter:
    convert = _numbers(code)

    def finite(value: bytes, encodings: Sequence[str], order: str) -> list[Any]:
        return [each if math.isfinite(each) else _NOT_FINITE[str(each)] for each in convert(value, encodings, order)]

    return finite


_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def _tags(value: bytes, _: Sequence[str], order: str) -> list[Any]:
    halves = struct.unpack_from(f"{order}{len(value) // 4 * 2}H", value)
    return [f"{group:04X}{element:04X}" for group, element in zip(halves[::2], halves[1::2], strict=True)]


def inline_binary(vr: str, value: bytes, order: str) -> str:
    """The Base64 of a binary value, in little endian as PS3.18 F.2.7 asks."""
    width = _WORD.get(vr, 1)
    if order == ">" and width > 1 and len(value) % width == 0:
        value = b"".join(value[at : at + width][::-1] for at in range(0, len(value), width))
    return b64encode(value).decode("ascii")


_WORD = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}

REPRESENTATIONS: dict[str, Representation] = {
    each.vr: each
    for each in (
        *(Representation(vr, False, _texts, TEXT_INLINE) for vr in "AE AS CS DA DT LO SH TM UI".split()),
        *(Representation(vr, False, _text, TEXT_INLINE) for vr in "LT ST".split()),
        Representation("PN", False, _names, TEXT_INLINE),
        Representation("IS", False, _integers, TEXT_INLINE),
        Representation("DS", False, _decimals, TEXT_INLINE),
        Representation("AT", False, _tags, NUMBERS_INLINE),
        Representation("US", False, _numbers("H"), NUMBERS_INLINE),
        Representation("SS", False, _numbers("h"), NUMBERS_INLINE),
        Representation("UL", False, _numbers("I"), NUMBERS_INLINE),
        Representation("SL", False, _numbers("i"), NUMBERS_INLINE),
        Representation("FL", False, _floats("f"), NUMBERS_INLINE),
        Representation("FD", False, _floats("d"), NUMBERS_INLINE),
        Representation("SV", True, _numbers("q"), NUMBERS_INLINE),
        Representation("UV", True, _numbers("Q"), NUMBERS_INLINE),
        Representation("UC", True, _texts, TEXT_INLINE),
        *(Representation(vr, True, _text, TEXT_INLINE) for vr in "UR UT".split()),
        *(Representation(vr, True, None, BINARY_INLINE) for vr in "OB OD OF OL OV OW UN SQ".split()),
    )
}
