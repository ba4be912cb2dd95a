"""Instances that go out with other attributes than they came with: the header is rewritten, the pixel data is not read.

What does not change is passed on as a stretch of the stored bytes. Values that are replaced or taken out are kept in
the Original Attributes Sequence (PS3.3 C.12.1.1.9). Transfer syntax and character set stay; text that the character set
lacks turns the data set to ISO_IR 192, and then every text in it is written anew. Group lengths of groups that change
are left out (PS3.5 7.2). Only a deflated data set is unfolded and folded again as a whole.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Lock

from hilum.archive.charset import DEFAULT, PLAIN, encodings_of
from hilum.archive.elements import (
    CHARACTER_SET,
    OF_CHARSET,
    PIXELS,
    UTF8,
    Element,
    Encoding,
    Reader,
    Source,
    elements,
    item,
    transcoded,
    written,
)
from hilum.archive.part10 import DEFLATED_LITTLE, EXPLICIT_LITTLE, inflated, is_big_endian, is_implicit

ORIGINAL_ATTRIBUTES = 0x04000561
_MODIFIED_ATTRIBUTES, _MODIFIED_AT, _MODIFYING_SYSTEM = 0x04000550, 0x04000562, 0x04000563
_PREVIOUS_SOURCE, _REASON = 0x04000564, 0x04000565

# A few kilobytes can unfold to very many: one at a time.
_UNFOLDING = Lock()

# A stretch of the stored data set (begin, end), or bytes that take its place.
Piece = bytes | tuple[int, int]


@dataclass(frozen=True, slots=True)
class Provenance:
    """When (UTC), by which system and why attributes are changed, and who had sent the values before.

    `reason` is COERCE for values that are reconciled, CORRECT for wrong ones (PS3.3 C.12.1.1.9).
    """

    at: datetime
    system: str
    reason: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class Coercion:
    """What is to change: by tag, the VR and the text of each new value; None where the attribute is taken out."""

    values: Mapping[int, tuple[str, str] | None]
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Coerced:
    """A data set as it goes out, in pieces, and how many bytes it has."""

    pieces: tuple[Piece, ...]
    length: int

    def between(self, begin: int, end: int) -> Iterator[Piece]:
        """The pieces from one byte of the result to another."""
        at = 0
        for piece in self.pieces:
            size = _size(piece)
            low, high = max(begin - at, 0), min(end - at, size)
            if low < high:
                yield piece[low:high] if isinstance(piece, bytes) else (piece[0] + low, piece[0] + high)
            at += size


def coerced(reader: Reader, total: int, transfer_syntax_uid: str, coercion: Coercion) -> Coerced:
    """Return the data set of `total` bytes behind `reader` with the changes made. Raises InvalidInput, TooLarge."""
    if transfer_syntax_uid == DEFLATED_LITTLE:
        return _folded(reader, total, coercion)
    source = Source(reader, total)
    # Some write without VR in a transfer syntax that has them, and are understood everywhere: so must what is added be.
    lettered = source.read(4, 2).isalpha() if total >= 8 else True
    implicit = is_implicit(transfer_syntax_uid) or not lettered
    pieces = tuple(
        _joined(_Rewriting(source, Encoding(implicit, is_big_endian(transfer_syntax_uid)), coercion).pieces())
    )
    return Coerced(pieces, sum(map(_size, pieces)))


def _folded(reader: Reader, total: int, coercion: Coercion) -> Coerced:
    with _UNFOLDING:
        return _folded_again(inflated(reader(0, total)), coercion)


def _folded_again(whole: bytes, coercion: Coercion) -> Coerced:
    opened = coerced(lambda begin, size: whole[begin : begin + size], len(whole), EXPLICIT_LITTLE, coercion)
    folding = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    parts = [folding.compress(each if isinstance(each, bytes) else whole[slice(*each)]) for each in opened.pieces]
    folded = b"".join([*parts, folding.flush()])
    folded += b"\0" * (len(folded) % 2)  # PS3.5 A.5
    return Coerced((folded,), len(folded))


def _size(piece: Piece) -> int:
    return len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]


def _joined(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """The same pieces, those that follow one another made one and empty ones left out."""
    held: Piece | None = None
    for piece in pieces:
        if not _size(piece):
            continue
        if isinstance(held, bytes) and isinstance(piece, bytes):
            held += piece
        elif isinstance(held, tuple) and isinstance(piece, tuple) and held[1] == piece[0]:
            held = (held[0], piece[1])
        else:
            if held is not None:
                yield held
            held = piece
    if held is not None:
        yield held


class _Rewriting:
    """One pass that notes what is there, and one that writes what is to be there."""

    def __init__(self, source: Source, encoding: Encoding, coercion: Coercion) -> None:
        self._source = source
        self._encoding = encoding
        self._provenance = coercion.provenance
        self._found = list(elements(source, encoding))
        charset = self._declared()
        self._encodings: Sequence[str] = encodings_of(charset) if charset else DEFAULT
        texts = [value[1] for value in coercion.values.values() if value is not None and value[0] in OF_CHARSET]
        codec = _codec_for(texts, charset)
        self._to_utf8, self._codec = not codec, codec or "utf8"
        self._values: dict[int, tuple[str, str] | None] = dict(coercion.values)
        if self._to_utf8:
            self._values[CHARACTER_SET] = ("CS", UTF8)
        self._groups = {tag >> 16 for tag in self._values} | {ORIGINAL_ATTRIBUTES >> 16}

    def pieces(self) -> Iterator[Piece]:
        """The whole data set."""
        there = {element.tag: element for element in reversed(self._found)}  # the first of each tag
        wanted = {tag: self._written(tag, *new) if new else b"" for tag, new in self._values.items()}
        wanted[ORIGINAL_ATTRIBUTES] = self._original_attributes(there)
        missing = sorted(set(wanted) - set(there))
        position = 0
        for element in self._found:
            while missing and missing[0] < element.tag:
                yield wanted[missing.pop(0)]
            if element.tag in PIXELS:
                break
            position = element.end
            if element.tag in wanted:
                yield wanted[element.tag] if element is there[element.tag] else b""
            elif element.tag & 0xFFFF or not (self._to_utf8 or element.tag >> 16 in self._groups):
                yield self._kept(element)
        yield b"".join(wanted[tag] for tag in missing)
        yield (position, self._source.total)

    def _declared(self) -> str:
        """Specific Character Set (0008,0005) of the data set."""
        declared = next((self._value(each) for each in self._found if each.tag == CHARACTER_SET), b"")
        return declared.decode("ascii", "replace").strip("\0 ")

    def _value(self, element: Element) -> bytes:
        return self._source.read(element.value, element.end - element.value)

    def _kept(self, element: Element) -> Piece:
        anew = transcoded(self._source, element, self._encoding, self._encodings) if self._to_utf8 else None
        return (element.start, element.end) if anew is None else anew

    def _written(self, tag: int, vr: str, text: str) -> bytes:
        codec = self._codec if vr in OF_CHARSET else "ascii"
        return written(tag, vr, text.encode(codec, "replace"), self._encoding)

    def _original_attributes(self, there: Mapping[int, Element]) -> bytes:
        """Original Attributes Sequence: the items that came with the instance, and ours as the last."""
        earlier = b""
        if (element := there.get(ORIGINAL_ATTRIBUTES)) is not None:
            piece = self._kept(element)
            if isinstance(piece, bytes):  # written anew, and so with a defined length
                earlier = piece[len(self._written(ORIGINAL_ATTRIBUTES, "SQ", "")) :]
            else:
                earlier = self._value(element)[: -8 if element.undefined else None]
        ours = item(self._what_changed(there), self._encoding)
        return written(ORIGINAL_ATTRIBUTES, "SQ", earlier + ours, self._encoding)

    def _what_changed(self, there: Mapping[int, Element]) -> bytes:
        said = self._provenance
        before = b"".join(self._before(tag, there.get(tag)) for tag in sorted(self._values) if tag != CHARACTER_SET)
        parts = [
            written(_MODIFIED_ATTRIBUTES, "SQ", item(before, self._encoding), self._encoding),
            self._written(_MODIFIED_AT, "DT", moment_of(said)),
            self._written(_MODIFYING_SYSTEM, "LO", plain_text(said.system)),
            self._written(_PREVIOUS_SOURCE, "LO", plain_text(said.source)),
            self._written(_REASON, "CS", said.reason),
        ]
        return b"".join(parts)

    def _before(self, tag: int, element: Element | None) -> bytes:
        """What an attribute was, empty where it was not there."""
        if element is None:
            new = self._values[tag]
            return self._written(tag, new[0], "") if new else b""
        piece = self._kept(element)
        return piece if isinstance(piece, bytes) else self._source.read(piece[0], _size(piece))


def moment_of(said: Provenance) -> str:
    """Attribute Modification DateTime (0400,0562)."""
    return said.at.strftime("%Y%m%d%H%M%S+0000")


def plain_text(text: str) -> str:
    """A name of ours or of a peer as a value of LO that every character set holds."""
    return "".join(c for c in text if c.isascii() and c.isprintable() and c != "\\")[:64]


def _codec_for(texts: Sequence[str], charset: str) -> str:
    """The codec of the data set's own character set where that holds the texts; "" where it has to be UTF-8.

    With code extensions (PS3.5 6.1.2.5) only plain text is written as it is declared.
    """
    if all(text.isascii() for text in texts):
        return "ascii"
    encodings = encodings_of(charset)
    if charset in PLAIN or len(encodings) > 1 or charset.strip().upper().startswith("ISO 2022"):
        return ""
    try:
        "".join(texts).encode(encodings[0])
    except UnicodeEncodeError:
        return ""
    return encodings[0]
