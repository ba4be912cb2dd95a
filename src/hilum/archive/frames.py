"""Single frames of stored instances, fetched by ranged reads and never through the whole object.

`open_instance` reads the header of a stored instance and finds its frames; `Instance.frame` returns one frame as
DICOMweb sends it: native frames as little endian bytes that begin on a byte, encapsulated ones as their codestream.
"""

from __future__ import annotations

import struct
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from hilum.archive.blobs import BlobStore
from hilum.archive.landing import Location, read_dataset
from hilum.archive.metadata import integer, text
from hilum.archive.native import turned
from hilum.archive.part10 import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    checked_transfer_syntax,
    inflated,
    is_big_endian,
    is_implicit,
    split,
)
from hilum.archive.walk import Attributes, MoreNeeded, PixelData, Walk
from hilum.core.errors import InvalidInput, NotFound, TooLarge, Unsupported

HEAD_BYTES = 256 << 10
# Up to here the bytes of a deflated instance stay in memory while it is open; larger ones are inflated at each read.
KEPT_INFLATED = 8 << 20
MAX_HEADER = 256 << 20
MAX_FRAMES = 1_000_000
MAX_FRAME_BYTES = 1 << 30
MAX_TRAILER = 16 << 20
_PIECE = 1 << 20  # a multiple of every width that words have
_ITEM, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE0DD
NATIVE = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED_LITTLE})

# The bytes of a data set: offset, length → exactly that many bytes.
Reader = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True)
class FrameTable:
    """Where the frames of one instance lie in its data set.

    Native: `bits` per frame from byte `base`, `count` of them, `swap` bytes per value when the high byte is first.
    Encapsulated: `spans`, a begin and an end of whole fragments with their headers per frame.
    """

    count: int
    base: int = 0
    bits: int = 0
    swap: int = 1
    spans: tuple[tuple[int, int], ...] = ()

    def read(self, reader: Reader, number: int) -> bytes:
        """Frame `number`, counted from 1. Raises NotFound when there is none of that number."""
        if not 1 <= number <= self.count:
            raise NotFound("The instance has no frame of that number.", field="frame")
        if self.spans:
            begin, end = self.spans[number - 1]
            if end - begin > MAX_FRAME_BYTES:
                raise TooLarge("The frame is larger than can be served.")
            return _joined(reader(begin, end - begin))
        return self._native(reader, number)

    def _native(self, reader: Reader, number: int) -> bytes:
        first = self.bits * (number - 1)
        start, last = first // 8, -(-(first + self.bits) // 8)
        low, high = start - start % self.swap, last + -last % self.swap  # words are turned around as a whole
        data = reader(self.base + low, high - low)
        if self.swap > 1:
            data = turned(data, self.swap)
        data = data[start - low : last - low]
        if self.bits % 8:  # bit-packed frames follow one another without padding, PS3.5 8.1.1
            bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[first % 8 :][: self.bits]
            return np.packbits(bits, bitorder="little").tobytes()
        return data


@dataclass(frozen=True, slots=True)
class Instance:
    """A stored instance opened for its frames: its header as JSON model and as bytes, and its frame table."""

    attributes: Attributes
    header: bytes
    header_syntax: str
    frame_syntax: str
    table: FrameTable
    reader: Reader
    pixels: PixelData
    total: int

    def frame(self, number: int) -> bytes:
        """Frame `number`, counted from 1, in `frame_syntax`."""
        return self.table.read(self.reader, number)

    def native(self) -> Iterator[bytes]:
        """The value of native pixel data, little endian, in pieces."""
        for start in range(0, self.pixels.length, _PIECE):
            piece = self.reader(self.pixels.offset + start, min(_PIECE, self.pixels.length - start))
            yield turned(piece, self.table.swap) if self.table.swap > 1 else piece

    def trailer(self) -> bytes:
        """The elements behind the pixel data, in `header_syntax`. Raises TooLarge."""
        end = self.pixels.offset + self.pixels.length
        if self.pixels.encapsulated:
            end = self._end_of_fragments()
        if self.total - end > MAX_TRAILER:
            raise TooLarge("The elements behind the pixel data are larger than can be served.")
        return self.reader(end, self.total - end) if end < self.total else b""

    def _end_of_fragments(self) -> int:
        """Where the sequence of the last frame's fragments is closed (PS3.5 A.4)."""
        position = self.table.spans[-1][0]
        item = struct.Struct((">" if is_big_endian(self.header_syntax) else "<") + "HHI")
        while position + 8 <= self.total:
            group, element, length = item.unpack(self.reader(position, 8))
            if group << 16 | element != _ITEM:
                return position + 8 if group << 16 | element == _SEQUENCE_END else position
            position += 8 + length
        return self.total


def instance_opener(store: BlobStore, cached: int = 64) -> Callable[[Location], Instance]:
    """`open_instance` on a store that remembers the last instances; locations never change their bytes."""

    @lru_cache(maxsize=cached)
    def opened(location: Location) -> Instance:
        return open_instance(store, location)

    return opened


def open_instance(store: BlobStore, location: Location) -> Instance:
    """Open a stored instance. Raises Unsupported when it has no pixel data."""
    head = store.get_range(location.key, location.offset, min(location.prefix + HEAD_BYTES, location.length))
    syntax = split(head).transfer_syntax_uid

    def reader(offset: int, length: int) -> bytes:
        return read_dataset(store, location, offset, length)

    return instance_of(reader, location.dataset_length, syntax, head[location.prefix :])


def instance_of(reader: Reader, total: int, transfer_syntax_uid: str, head: bytes = b"") -> Instance:
    """Open the data set of `total` bytes behind `reader`; `head` is what was already read of it."""
    checked_transfer_syntax(transfer_syntax_uid)
    if transfer_syntax_uid == DEFLATED_LITTLE:
        whole = inflated(reader(0, total))
        kept = _reader_of(whole) if len(whole) <= KEPT_INFLATED else _inflating(reader, total)
        return instance_of(kept, len(whole), EXPLICIT_LITTLE, whole)
    walk, data = _walk_head(reader, total, transfer_syntax_uid, head)
    pixels = walk.pixels
    if pixels is None:
        raise Unsupported("The instance has no pixel data.", field="PixelData")
    table = frame_table(pixels, walk.attributes, reader, transfer_syntax_uid)
    native = transfer_syntax_uid in NATIVE
    frame_syntax = EXPLICIT_LITTLE if native else transfer_syntax_uid
    return Instance(
        walk.attributes, bytes(data[: pixels.offset]), transfer_syntax_uid, frame_syntax, table, reader, pixels, total
    )


def _reader_of(data: bytes) -> Reader:
    def reader(offset: int, length: int) -> bytes:
        piece = data[offset : offset + length]
        if len(piece) != length:
            raise NotFound("The instance ends before the asked range.")
        return piece

    return reader


def _inflating(reader: Reader, total: int) -> Reader:
    return lambda offset, length: _reader_of(inflated(reader(0, total)))(offset, length)


def _walk_head(reader: Reader, total: int, syntax: str, head: bytes) -> tuple[Walk, bytes]:
    """Walk the beginning of the data set, and more of it until the header is complete."""
    data = head or reader(0, min(HEAD_BYTES, total))
    while True:
        try:
            walk = Walk(data, implicit=is_implicit(syntax), big_endian=is_big_endian(syntax), total=total)
        except MoreNeeded:
            if len(data) >= min(total, MAX_HEADER):
                raise InvalidInput("The header is cut or larger than the archive reads.") from None
            data = reader(0, min(len(data) * 4, total, MAX_HEADER))
        else:
            return walk, data


def frame_table(pixels: PixelData, attributes: Attributes, reader: Reader, transfer_syntax_uid: str) -> FrameTable:
    """Find the frames of an instance. Raises InvalidInput when header and pixel data contradict each other."""
    count = integer(attributes, "00280008") or 1
    if not 1 <= count <= MAX_FRAMES:
        raise InvalidInput("The number of frames is not plausible.", field="NumberOfFrames")
    if pixels.encapsulated:
        order = ">" if is_big_endian(transfer_syntax_uid) else "<"
        return FrameTable(count, spans=_Fragments(pixels, attributes, reader, order).spans(count))
    return _native_table(pixels, attributes, count, transfer_syntax_uid)


def _native_table(pixels: PixelData, attributes: Attributes, count: int, syntax: str) -> FrameTable:
    rows, columns = integer(attributes, "00280010") or 0, integer(attributes, "00280011") or 0
    samples, allocated = integer(attributes, "00280002") or 1, integer(attributes, "00280100") or 0
    if text(attributes, "00280004") == "YBR_FULL_422" and samples == 3:
        samples = 2  # two pixels share their colour, PS3.3 C.7.6.3.1.2
    bits = rows * columns * samples * allocated
    if rows <= 0 or columns <= 0 or samples <= 0 or allocated <= 0 or bits > MAX_FRAME_BYTES * 8:
        raise InvalidInput("Rows, columns and bits do not describe an image.", field="Rows")
    whole = pixels.length * 8 // bits
    if whole == 0:
        raise InvalidInput("The pixel data is shorter than one frame.", field="PixelData")
    width = 1
    if is_big_endian(syntax) and pixels.vr != "OB":
        width = max(2, allocated // 8)  # also of smaller cells two go into a word, PS3.5 8.1.1
    return FrameTable(min(count, whole), pixels.offset, bits, width if width in (2, 4, 8) and _even(pixels) else 1)


def _even(pixels: PixelData) -> bool:
    return pixels.length % 2 == 0


class _Fragments:
    """The fragments of encapsulated pixel data and how they make up frames (PS3.5 A.4)."""

    def __init__(self, pixels: PixelData, attributes: Attributes, reader: Reader, order: str) -> None:
        self._pixels = pixels
        self._end = pixels.offset + pixels.length
        self._attributes = attributes
        self._reader = reader
        self._item = struct.Struct(order + "HHI")

    def spans(self, count: int) -> tuple[tuple[int, int], ...]:
        """Begin and end of each frame's fragments."""
        mark, length = self._header(self._pixels.offset)
        first = self._pixels.offset + 8 + length
        if mark != _ITEM or first > self._end:
            raise InvalidInput("The encapsulated pixel data has no offset table.", field="PixelData")
        if extended := self._extended(first, count):
            return extended
        if count > 1 and length == 4 * count:
            offsets = struct.unpack(f"<{count}I", self._reader(self._pixels.offset + 8, length))
            begins = [first + offset for offset in offsets]
            if all(a < b for a, b in pairwise([*begins, self._end])):
                return tuple(pairwise([*begins, self._end]))
        if count == 1:
            return ((first, self._end),)
        return self._by_fragments(first, count)

    def _header(self, position: int) -> tuple[int, int]:
        if position + 8 > self._end:
            return _SEQUENCE_END, 0
        group, element, length = self._item.unpack(self._reader(position, 8))
        return group << 16 | element, length

    def _extended(self, first: int, count: int) -> tuple[tuple[int, int], ...]:
        """The Extended Offset Table (7FE0,0001), where there is a plausible one."""
        offsets, lengths = self._table("7FE00001", count), self._table("7FE00002", count)
        spans = tuple((first + o, first + o + 8 + n) for o, n in zip(offsets, lengths, strict=False))
        return spans if len(spans) == count and all(end <= self._end for _, end in spans) else ()

    def _table(self, key: str, count: int) -> tuple[int, ...]:
        entry = self._attributes.get(key, {})
        if "InlineBinary" in entry:
            data = b64decode(entry["InlineBinary"])
        elif "BulkDataURI" in entry:
            _, offset, length = entry["BulkDataURI"].split("/")
            data = self._reader(int(offset), int(length))
        else:
            return ()
        return struct.unpack(f"<{count}Q", data) if len(data) == 8 * count else ()

    def _by_fragments(self, position: int, count: int) -> tuple[tuple[int, int], ...]:
        """Without a table: a fragment per frame or, if there are more, a frame where a codestream starts."""
        begins: list[int] = []
        starts: list[int] = []
        while True:
            mark, length = self._header(position)
            if mark != _ITEM:
                break
            if position + 8 + length > self._end or len(begins) > MAX_FRAMES:
                raise InvalidInput("A fragment of the pixel data is cut or malformed.", field="PixelData")
            begins.append(position)
            if length >= 2 and self._reader(position + 8, 2) in (b"\xff\xd8", b"\xff\x4f"):
                starts.append(position)
            position += 8 + length
        chosen = begins if len(begins) == count else starts
        if len(chosen) != count:
            raise InvalidInput("The fragments of the pixel data do not match the number of frames.", field="PixelData")
        return tuple(pairwise([*chosen, position]))


def _joined(data: bytes) -> bytes:
    """The codestream in a run of fragments: their values without the item headers."""
    values, position = [], 0
    while position + 8 <= len(data):
        group, element, length = struct.unpack_from("<HHI", data, position)
        if group << 16 | element != _ITEM:
            break
        if position + 8 + length > len(data):
            raise InvalidInput("A fragment of the pixel data is cut or malformed.", field="PixelData")
        values.append(data[position + 8 : position + 8 + length])
        position += 8 + length
    return b"".join(values)
