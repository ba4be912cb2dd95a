"""How a received instance lies in a landing segment, and how it is found again without any index.

A segment starts with a 4 KiB block that holds a random nonce. Each record starts on a 4 KiB boundary:

    header (80 bytes) | Part 10 file: preamble, group 0002, data set as received | trailer (JSON) | zeros

The header carries lengths, the SHA-256 of the data set, the segment's nonce and a CRC-32 over header, group 0002 and
trailer. The nonce makes it impossible to smuggle a record in as pixel data: a sender can't know it.
Appends complete out of order, so `scan` walks past gaps and torn records in steps of 4 KiB.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import time
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO

import orjson

from hilum.archive.blobs import BlobStore
from hilum.core.errors import InvalidInput, NotFound, TooLarge

FOLDER = "landing"
ALIGNMENT = 4096
MAX_PREFIX = 1 << 20
MAX_TRAILER = 1 << 20
MAX_DATASET = 1 << 40
_RECORD = struct.Struct("<8sHHIQI32s16sI")
RECORD_HEADER = _RECORD.size
_RECORD_MAGIC = b"HILUMREC"
_SEGMENT = struct.Struct("<8sH6x16s")
_SEGMENT_MAGIC = b"HILUMSEG"
_VERSION = 1
_WINDOW = 4 << 20
_COPY = 1 << 20
_SEARCH = 64 << 10


@dataclass(frozen=True, slots=True)
class Location:
    """Where a Part 10 file lies: `length` bytes from `offset` of the object `key`, of which the first `prefix` bytes
    are preamble and group 0002 and the rest is the data set as received."""

    key: str
    offset: int
    length: int
    prefix: int

    @property
    def dataset_offset(self) -> int:
        """Where the data set starts in the object."""
        return self.offset + self.prefix

    @property
    def dataset_length(self) -> int:
        """How many bytes the data set has."""
        return self.length - self.prefix


@dataclass(frozen=True, slots=True)
class Record:
    """An instance on its way to the archive; made by `record_of`."""

    prefix: bytes
    dataset: bytes | bytearray | memoryview | BinaryIO
    dataset_length: int
    digest: bytes
    trailer: bytes

    @property
    def size(self) -> int:
        """The bytes it takes in a segment, padding included."""
        used = _RECORD.size + len(self.prefix) + self.dataset_length + len(self.trailer)
        return -(-used // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True, slots=True)
class Landed:
    """A whole record found by `scan`: where, the SHA-256 of its data set in hex, and what its receiver noted."""

    location: Location
    digest: str
    trailer: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Torn:
    """Where a record begins whose bytes are not whole: a crash before its acknowledgement, or decay after it."""

    key: str
    offset: int
    reason: str


def record_of(
    prefix: bytes,
    dataset: bytes | bytearray | memoryview | BinaryIO,
    *,
    received_at: datetime,
    source: str,
    door: str,
    digest: bytes | None = None,
    **noted: Any,
) -> Record:
    """The record of a received instance.

    `prefix` is preamble and group 0002 (part10.file_prefix); `dataset` the bytes as received, or a seekable file that
    is read from its present position to its end, so an instance larger than memory lands too. `source` is who sent it
    (AE title, user), `door` how (dimse, stow, import); `noted` is whatever else the index wants back from `scan`.
    """
    length = len(dataset) if isinstance(dataset, bytes | bytearray) else _length(dataset)
    trailer = orjson.dumps({"received_at": received_at, "source": source, "door": door, **noted})
    if len(prefix) > MAX_PREFIX or len(trailer) > MAX_TRAILER or length > MAX_DATASET:
        raise TooLarge("The instance is larger than the archive takes.")
    return Record(prefix, dataset, length, digest or _digest(dataset), trailer)


def _length(dataset: memoryview | BinaryIO) -> int:
    if isinstance(dataset, memoryview):
        return dataset.nbytes
    start = dataset.tell()
    end = dataset.seek(0, os.SEEK_END)
    dataset.seek(start)
    return end - start


def digest_of(dataset: bytes | bytearray | memoryview) -> bytes:
    """The SHA-256 of a data set, of a mapped file without all of it in memory."""
    view, state = memoryview(dataset).cast("B"), hashlib.sha256()
    for start in range(0, len(view), _WINDOW):
        state.update(view[start : start + _WINDOW])
        let_go(view)
    return state.digest()


def let_go(view: memoryview) -> None:
    """Give the memory of a mapped file back; what is looked at again is read again.

    Only of read-only mappings: one that can be written to may be the one place where its bytes are.
    """
    if view.readonly and isinstance(view.obj, mmap.mmap):
        view.obj.madvise(mmap.MADV_DONTNEED)


def _digest(dataset: bytes | bytearray | memoryview | BinaryIO) -> bytes:
    if isinstance(dataset, bytes | bytearray | memoryview):
        return digest_of(dataset)
    start = dataset.tell()
    state = hashlib.sha256()
    while piece := dataset.read(_COPY):
        state.update(piece)
    dataset.seek(start)
    return state.digest()


def new_segment_key(writer: str) -> str:
    """A key no other segment has; keys sort by the time they were made."""
    now = time.time()
    day = time.strftime("%Y%m%d", time.gmtime(now))
    return f"{FOLDER}/{day}/{int(now * 1000):013d}-{writer}-{uuid.uuid4().hex[:12]}.seg"


def segment_header(nonce: bytes) -> bytes:
    """The first block of a segment."""
    return _SEGMENT.pack(_SEGMENT_MAGIC, _VERSION, nonce).ljust(ALIGNMENT, b"\0")


def record_pieces(record: Record, nonce: bytes) -> Iterator[bytes | bytearray | memoryview]:
    """The bytes of a record in order, padding included."""
    lengths = (_VERSION, 0, len(record.prefix), record.dataset_length, len(record.trailer))
    bare = _RECORD.pack(_RECORD_MAGIC, *lengths, record.digest, nonce, 0)[:-4]
    crc = zlib.crc32(record.trailer, zlib.crc32(record.prefix, zlib.crc32(bare)))
    yield bare + crc.to_bytes(4, "little") + record.prefix
    yield from _dataset_pieces(record)
    used = _RECORD.size + len(record.prefix) + record.dataset_length + len(record.trailer)
    yield record.trailer + bytes(record.size - used)


def _dataset_pieces(record: Record) -> Iterator[bytes | bytearray | memoryview]:
    if isinstance(record.dataset, bytes | bytearray | memoryview):
        yield record.dataset
        return
    missing = record.dataset_length
    while missing:
        piece = record.dataset.read(min(_COPY, missing))
        if not piece:
            raise InvalidInput("The file became shorter while it was being stored.")
        missing -= len(piece)
        yield piece


def location_of(record: Record, key: str, offset: int) -> Location:
    """The Part 10 file of a record that starts at `offset` of `key`."""
    length = len(record.prefix) + record.dataset_length
    return Location(key, offset + _RECORD.size, length, len(record.prefix))


def record_extent(header: bytes, location: Location) -> int:
    """The bytes that the record of a location takes in its segment, by its header; 0 where no such record is."""
    if len(header) < _RECORD.size:
        return 0
    magic, version, _, prefix, dataset, trailer, *_ = _RECORD.unpack_from(header)
    if magic != _RECORD_MAGIC or version != _VERSION:
        return 0
    if (prefix, dataset) != (location.prefix, location.dataset_length):
        return 0
    used: int = _RECORD.size + prefix + dataset + trailer
    return -(-used // ALIGNMENT) * ALIGNMENT


def has_records(segment: bytes | bytearray) -> bool:
    """Tell whether a segment that is held in memory has any place where a record may begin."""
    starts = range(ALIGNMENT, len(segment), ALIGNMENT)
    return any(segment.startswith(_RECORD_MAGIC, start) for start in starts)


class _Window:
    """Reads of an object, served from one read-ahead buffer so that a walk costs few requests."""

    def __init__(self, store: BlobStore, key: str) -> None:
        self.key = key
        self.size = store.head(key).size
        self._store = store
        self._start = 0
        self._data = b""

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer only at the end of the object."""
        length = min(length, self.size - offset)
        if not self._start <= offset <= offset + length <= self._start + len(self._data):
            self._start = offset
            self._data = self._store.get_range(self.key, offset, min(max(length, _WINDOW), self.size - offset))
        begin = offset - self._start
        return self._data[begin : begin + length]

    def next_record(self, offset: int) -> int | None:
        """The next aligned place at or after `offset` where a record may begin."""
        while offset < self.size:
            data = self.read(offset, _SEARCH)
            found = data.find(_RECORD_MAGIC)
            while found >= 0 and (offset + found) % ALIGNMENT:
                found = data.find(_RECORD_MAGIC, found + 1)
            if found >= 0:
                return offset + found
            offset += max(len(data) // ALIGNMENT, 1) * ALIGNMENT
        return None


def scan(store: BlobStore, key: str) -> Iterator[Landed | Torn]:
    """Every record of a segment, whole ones as Landed with CRC and digest verified, others as Torn.

    A record that is being appended at this moment looks torn. Errors as of the store.
    """
    window = _Window(store, key)
    first = window.read(0, ALIGNMENT)
    magic, version, nonce = _SEGMENT.unpack_from(first.ljust(_SEGMENT.size, b"\0"))
    if magic != _SEGMENT_MAGIC or version != _VERSION:
        yield Torn(key, 0, "not a segment of a version known here")
        return
    offset = window.next_record(ALIGNMENT)
    while offset is not None:
        found = _record_at(window, offset, nonce)
        if isinstance(found, Landed):
            end = found.location.offset + found.location.length
            following = max(offset + ALIGNMENT, -(-end // ALIGNMENT) * ALIGNMENT)
        else:
            following = offset + ALIGNMENT
        if found is not None:
            yield found
        offset = window.next_record(following)


def landed_at(store: BlobStore, location: Location) -> Landed:
    """The record of a location with what its receiver noted; the data set is not looked at.

    Raises NotFound where no such record is, as in an object that is no segment.
    """
    start = location.offset - _RECORD.size
    header = store.get_range(location.key, start, _RECORD.size) if start > 0 else b""
    if not record_extent(header, location):
        raise NotFound("There is no record at this place.")
    fields = _RECORD.unpack(header)
    trailer = store.get_range(location.key, location.offset + location.length, fields[5])
    prefix = store.get_range(location.key, location.offset, location.prefix)
    if zlib.crc32(trailer, zlib.crc32(prefix, zlib.crc32(header[:-4]))) != fields[8]:
        raise NotFound("The record at this place is damaged.")
    return Landed(location, fields[6].hex(), orjson.loads(trailer))


def _record_at(window: _Window, offset: int, nonce: bytes) -> Landed | Torn | None:
    header = window.read(offset, _RECORD.size)
    if len(header) < _RECORD.size:
        return Torn(window.key, offset, "header is cut")
    fields = _RECORD.unpack(header)
    _, version, _, prefix_length, dataset_length, trailer_length, digest, its_nonce, crc = fields
    if its_nonce != nonce or version != _VERSION:
        return None  # bytes of a data set that look like a header, never a record of ours
    end = offset + _RECORD.size + prefix_length + dataset_length + trailer_length
    if prefix_length > MAX_PREFIX or trailer_length > MAX_TRAILER or end > window.size:
        return Torn(window.key, offset, "lengths reach past the segment")
    location = Location(window.key, offset + _RECORD.size, prefix_length + dataset_length, prefix_length)
    prefix = window.read(location.offset, prefix_length)
    found = hashlib.sha256()
    for position in range(location.dataset_offset, location.dataset_offset + dataset_length, _COPY):
        found.update(window.read(position, min(_COPY, location.dataset_offset + dataset_length - position)))
    trailer = window.read(end - trailer_length, trailer_length)
    if zlib.crc32(trailer, zlib.crc32(prefix, zlib.crc32(header[:-4]))) != crc:
        return Torn(window.key, offset, "header, meta or trailer differ from their checksum")
    if found.digest() != digest:
        return Torn(window.key, offset, "data set differs from its digest")
    return Landed(location, digest.hex(), orjson.loads(trailer))
