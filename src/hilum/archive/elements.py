"""Elements of a stored data set by their places, for rewriting some of them while the others stay as they are.

The data sets have been through `archive.walk` when they came, which checks and bounds them; what does not hold here all
the same is refused. Bytes are read as they are needed, so that a large value that stays is never in memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hilum.archive.charset import ESCAPE, decode, encodings_of
from hilum.archive.dictionary import SIGNED_OR_NOT, name_of, vr_of
from hilum.archive.values import REPRESENTATIONS
from hilum.archive.walk import MAX_DEPTH, UNDEFINED
from hilum.core.errors import InvalidInput, TooLarge

CHARACTER_SET = 0x00080005
PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
UTF8 = "ISO_IR 192"
MAX_VALUE = 64 << 20  # of what is written anew
# PS3.5 6.1.2.3: the representations that Specific Character Set applies to.
OF_CHARSET = frozenset({"SH", "LO", "ST", "LT", "PN", "UC", "UT"})
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_AHEAD = 256 << 10

# The bytes of a data set: offset, length → at most that many bytes.
Reader = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True)
class Encoding:
    """How elements are written: with or without VR, and the byte order."""

    implicit: bool
    big_endian: bool = False

    @property
    def order(self) -> str:
        """The byte order as `struct` writes it."""
        return ">" if self.big_endian else "<"


IMPLICIT = Encoding(implicit=True)


@dataclass(frozen=True, slots=True)
class Element:
    """An element and its places: where it starts, where its value does, and where the next one begins.

    `undefined` tells that the value ends with a delimiter. `vr` is as written, or what the dictionary knows.
    """

    tag: int
    vr: str
    start: int
    value: int
    end: int
    undefined: bool


class Source:
    """The bytes of a data set, read ahead in stretches so that a walk costs few reads."""

    def __init__(self, reader: Reader, total: int) -> None:
        self.total = total
        self._reader = reader
        self._start = 0
        self._held = b""

    def read(self, begin: int, length: int) -> bytes:
        """Exactly these bytes. Raises InvalidInput where the data set ends before them, TooLarge for very many."""
        if begin + length > self.total:
            raise InvalidInput("The data set is cut within an element.")
        if length > MAX_VALUE:
            raise TooLarge("An element is too large to be written anew.")
        if not self._start <= begin <= begin + length <= self._start + len(self._held):
            self._start = begin
            self._held = bytes(self._reader(begin, min(max(length, _AHEAD), self.total - begin)))
        at = begin - self._start
        return self._held[at : at + length]


def elements(
    source: Source, encoding: Encoding, begin: int = 0, end: int | None = None, depth: int = 0
) -> Iterator[Element]:
    """The elements from `begin` to `end` or, inside an item of undefined length, up to its delimiter.

    On the outermost level pixel data is the last one, and ends with the data set.
    """
    if depth > MAX_DEPTH:
        raise InvalidInput("Sequences are nested too deeply.")
    creators: dict[int, str] = {}
    position, limit = begin, source.total if end is None else end
    while position + 8 <= limit:
        element = _element_at(source, encoding, position, limit, depth, creators)
        if element is None:
            return
        if element.tag >> 16 & 1 and 0x10 <= element.tag & 0xFFFF <= 0xFF and element.end - element.value <= 256:
            creator = source.read(element.value, element.end - element.value)
            creators[element.tag >> 16 << 8 | element.tag & 0xFF] = creator.decode("ascii", "replace").strip("\0 ")
        yield element
        if depth == 0 and element.tag in PIXELS:
            return
        position = element.end


def _element_at(
    source: Source, encoding: Encoding, position: int, limit: int, depth: int, creators: dict[int, str]
) -> Element | None:
    order = encoding.order
    head = source.read(position, min(12, limit - position))
    group, number, vr_bytes, short = struct.unpack_from(order + "HH2sH", head)
    tag = group << 16 | number
    if group == 0xFFFE or (tag == 0 and depth == 0):  # a delimiter, or padding behind the last element
        return None
    letters = vr_bytes.decode("latin-1")
    known = REPRESENTATIONS.get(letters)
    if encoding.implicit or not (letters.isascii() and letters.isalpha() and letters.isupper()):
        vr = _dictionary_vr(tag, creators)
        value, length = position + 8, struct.unpack_from(order + "I", head, 4)[0]
    elif known is not None and not known.long:
        vr, value, length = letters, position + 8, short
    else:
        vr, value = letters, position + 12
        length = struct.unpack_from(order + "I", head.ljust(12, b"\0"), 8)[0]
    if depth == 0 and tag in PIXELS:
        return Element(tag, vr, position, value, source.total, length == UNDEFINED)
    if length != UNDEFINED:
        if value + length > limit:
            raise InvalidInput("An element claims more bytes than there are.", field=name_of(tag))
        return Element(tag, vr, position, value, value + length, False)
    inner = IMPLICIT if vr == "UN" else encoding
    stop = _end_of_sequence(source, inner, value, limit, depth)
    return Element(tag, "SQ" if vr == "UN" and encoding.implicit else vr, position, value, stop, True)


def _dictionary_vr(tag: int, creators: dict[int, str]) -> str:
    creator = creators.get(tag >> 16 << 8 | (tag & 0xFFFF) >> 8) if tag >> 16 & 1 else None
    vr = vr_of(tag, creator)
    return "US" if vr == SIGNED_OR_NOT else vr


def _end_of_sequence(source: Source, encoding: Encoding, begin: int, limit: int, depth: int) -> int:
    following = [after for _, _, after in items(source, encoding, begin, limit, depth, delimited=True)]
    return (following[-1] if following else begin) + 8


def items(
    source: Source, encoding: Encoding, begin: int, limit: int, depth: int, *, delimited: bool
) -> Iterator[tuple[int, int, int]]:
    """The items of a sequence: where the content begins and ends, and where the next item begins."""
    position = begin
    while position + 8 <= limit:
        group, number, length = struct.unpack(encoding.order + "HHI", source.read(position, 8))
        mark, start = group << 16 | number, position + 8
        if mark == _SEQUENCE_END and delimited:
            return
        if mark != _ITEM:
            raise InvalidInput("A sequence holds something that is not an item.")
        if length == UNDEFINED:
            end = start
            for element in elements(source, encoding, start, limit, depth + 1):
                end = element.end
            position = end + 8
        else:
            end = position = start + length
        if position > limit:
            raise InvalidInput("An item claims more bytes than there are.")
        yield start, end, position


def written(tag: int, vr: str, value: bytes, encoding: Encoding) -> bytes:
    """An element of defined length; text is padded to an even one. What the short form can't hold becomes UN."""
    if len(value) % 2:
        value += b"\0" if vr in ("UI", "OB", "UN") else b" "
    head = struct.pack(encoding.order + "HH", tag >> 16, tag & 0xFFFF)
    if encoding.implicit:
        return head + struct.pack(encoding.order + "I", len(value)) + value
    known = REPRESENTATIONS.get(vr)
    if known is not None and not known.long:
        if len(value) <= 0xFFFF:
            return head + struct.pack(encoding.order + "2sH", vr.encode(), len(value)) + value
        vr = "UN"  # PS3.5 6.2.2, note 5
    return head + struct.pack(encoding.order + "2sHI", vr.encode(), 0, len(value)) + value


def item(content: bytes, encoding: Encoding) -> bytes:
    """An item of defined length."""
    return struct.pack(encoding.order + "HHI", 0xFFFE, 0xE000, len(content)) + content


def transcoded(
    source: Source, element: Element, encoding: Encoding, encodings: Sequence[str], depth: int = 0
) -> bytes | None:
    """The element with every text in UTF-8, None where it stays as it is; a sequence comes out with defined lengths."""
    vr, inner = element.vr, encoding
    if vr == "UN":
        # Bytes of an element sent as UN are implicit little endian (PS3.5 6.2.2).
        vr, inner = ("SQ" if element.undefined else _dictionary_vr(element.tag, {})), IMPLICIT
    if vr in OF_CHARSET:
        raw = source.read(element.value, element.end - element.value)
        if raw.isascii() and ESCAPE not in raw:
            return None
        text = decode(raw, encodings).rstrip("\0 ")
        return written(element.tag, element.vr, text.encode(), encoding)
    if vr != "SQ":
        return None
    stop = element.end - 8 if element.undefined else element.end
    contents = [
        item(_item_transcoded(source, begin, end, inner, encodings, depth + 1), inner)
        for begin, end, _ in items(source, inner, element.value, stop, depth, delimited=False)
    ]
    return written(element.tag, element.vr, b"".join(contents), encoding)


def _item_transcoded(
    source: Source, begin: int, end: int, encoding: Encoding, encodings: Sequence[str], depth: int
) -> bytes:
    parts = []
    for element in elements(source, encoding, begin, end, depth):
        if element.tag & 0xFFFF == 0:
            continue  # a group length, which would not be right any more
        if element.tag == CHARACTER_SET:
            encodings = encodings_of(source.read(element.value, element.end - element.value).decode("ascii", "replace"))
            parts.append(written(CHARACTER_SET, "CS", UTF8.encode(), encoding))
        else:
            anew = transcoded(source, element, encoding, encodings, depth)
            parts.append(source.read(element.start, element.end - element.start) if anew is None else anew)
    return b"".join(parts)
