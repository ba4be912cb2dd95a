"""Finished series as plain objects: a ZIP of Part 10 files that any tool opens, and that is served from as it lies.

The files are stored, not compressed, so that an instance is a range of the object like any other place in the archive.
The last member, `HILUM.jsonl`, says of each file what its receiver had noted, which is what the index is rebuilt from.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import uuid
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO

import orjson

from hilum.archive.blobs import CHUNK, BlobStore
from hilum.archive.file_blobs import FileBlobs
from hilum.archive.records import Landed, Location, Torn, landed_at
from hilum.core.errors import HilumError, NotFound

SETTLED = "settled"
NOTES = "HILUM.jsonl"
MAXIMUM_BYTES = 1 << 30  # a longer series becomes several objects
MAXIMUM_MEMBERS = 2000
_EPOCH = (1980, 1, 1, 0, 0, 0)  # a ZIP needs a time; the true ones are in the notes


@dataclass(frozen=True, slots=True)
class Member:
    """An instance that is to be settled, by its index row; `digest` is hexadecimal."""

    instance_id: str
    sop_instance_uid: str
    digest: str
    location: Location


@dataclass(frozen=True, slots=True)
class Settled:
    """An object that was written, and where in it each instance now lies."""

    key: str
    places: dict[str, Location]


class Damaged(HilumError):
    """The bytes of an instance are not those that were received."""

    code = "damaged"


def settle(blobs: BlobStore, members: Sequence[Member], now: datetime) -> Settled:
    """Write instances of one series into an object, durably, each compared with its digest on the way.

    Raises Damaged where one differs, so that a series is only settled whole; NotFound, OutOfSpace, Unavailable.
    """
    key = f"{SETTLED}/{now:%Y%m}/{uuid.uuid4().hex}.zip"
    places: dict[str, Location] = {}
    notes: list[bytes] = []
    folder = blobs.root if isinstance(blobs, FileBlobs) else None
    with tempfile.TemporaryFile(dir=folder) as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for number, member in enumerate(members):
                landed = landed_at(blobs, member.location)
                name = f"{number:06d}.dcm"
                offset = _copy(blobs, member, archive, file, name)
                place = Location(key, offset, member.location.length, member.location.prefix)
                places[member.instance_id] = place
                noted = {"offset": offset, "length": place.length, "prefix": place.prefix, "digest": member.digest}
                notes.append(orjson.dumps({"name": name, **noted, "noted": landed.trailer}))
            archive.writestr(zipfile.ZipInfo(NOTES, _EPOCH), b"\n".join(notes))
        file.seek(0)
        blobs.put(key, file)
    return Settled(key, places)


def _copy(blobs: BlobStore, member: Member, archive: zipfile.ZipFile, file: BinaryIO, name: str) -> int:
    """Add an instance to the object being written; return where its Part 10 file begins."""
    place, seen, passed = member.location, hashlib.sha256(), 0
    with archive.open(zipfile.ZipInfo(name, _EPOCH), "w", force_zip64=place.length >= zipfile.ZIP64_LIMIT) as target:
        offset = file.tell()
        for piece in blobs.stream(place.key, place.offset, place.length):
            target.write(piece)
            seen.update(memoryview(piece)[max(0, place.prefix - passed) :])
            passed += len(piece)
    if seen.hexdigest() != member.digest:
        raise Damaged
    return offset


def settled_objects(blobs: BlobStore) -> Iterator[str]:
    """The keys of all settled objects."""
    yield from sorted(blob.key for blob in blobs.list(SETTLED) if blob.key.endswith(".zip"))


def settled_instances(blobs: BlobStore, key: str) -> Iterator[Landed | Torn]:
    """Every instance of a settled object as its notes have it, its bytes compared with its digest."""
    try:
        with closing(_opened(blobs, key)) as file, zipfile.ZipFile(file) as archive:
            notes = archive.read(NOTES)
    except (zipfile.BadZipFile, KeyError):
        yield Torn(key, 0, "not an object of settled instances")
        return
    for line in notes.splitlines():
        note: dict[str, Any] = orjson.loads(line)
        place = Location(key, note["offset"], note["length"], note["prefix"])
        try:
            whole = _digest(blobs, place) == note["digest"]
        except NotFound:
            whole = False
        if not whole and _is_blank(blobs, place):
            continue
        yield (
            Landed(place, note["digest"], note["noted"])
            if whole
            else Torn(key, place.offset, "differs from its digest")
        )


def _is_blank(blobs: BlobStore, place: Location) -> bool:
    """Whether a file was cleared since a person deleted its instance: a Part 10 file has DICM behind its preamble."""
    try:
        return not any(blobs.get_range(place.key, place.offset, min(132, place.length)))
    except NotFound:
        return False


def _digest(blobs: BlobStore, place: Location) -> str:
    seen = hashlib.sha256()
    for piece in blobs.stream(place.key, place.dataset_offset, place.dataset_length):
        seen.update(piece)
    return seen.hexdigest()


def _opened(blobs: BlobStore, key: str) -> BinaryIO:
    if isinstance(blobs, FileBlobs):
        try:
            return blobs.path(key).open("rb")
        except FileNotFoundError:
            raise NotFound("The object is not there.") from None
    return io.BufferedReader(_Ranges(blobs, key), CHUNK)


class _Ranges(io.RawIOBase):
    """An object of a bucket as a file that can be read at any place."""

    def __init__(self, blobs: BlobStore, key: str) -> None:
        super().__init__()
        self._blobs = blobs
        self._key = key
        self._size = blobs.head(key).size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), max(0, self._size - self._position))
        if length:
            buffer[:length] = self._blobs.get_range(self._key, self._position, length)
            self._position += length
        return length
