"""Where received instances become durable, before anyone is told that they are.

`open_landing` gives the landing that fits the store: appends to preallocated segments in a directory, group commits of
small segment objects in a bucket. Both keep one record format, so `scan` finds everything again from bytes alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Protocol

from hilum.archive.batches import ObjectLanding
from hilum.archive.blobs import Blob, BlobStore, checked_range
from hilum.archive.file_blobs import FileBlobs
from hilum.archive.records import FOLDER, Landed, Location, Record, Torn, record_of, scan
from hilum.archive.segments import SEGMENT_BYTES, SegmentLanding, in_use, reclaim
from hilum.core.errors import InvalidInput, NotFound

__all__ = [
    "Landed", "Landing", "Location", "Record", "Torn",
    "in_use", "landed_segments", "open_landing", "read", "read_dataset", "reclaim", "record_of", "scan",
]  # fmt: skip

_WRITER = re.compile(r"[A-Za-z0-9_]{1,40}\Z")


class Landing(Protocol):
    """Takes instances of many threads at once."""

    def append(self, record: Record) -> Location:
        """Store durably, then say where. Errors, before which nothing was promised: OutOfSpace, Unavailable."""

    def append_all(self, records: Sequence[Record]) -> list[Location]:
        """Store several durably with one sync, then say where; errors as of `append`, and then for all."""

    def close(self) -> None:
        """Finish what is under way and take no more."""


def open_landing(store: BlobStore, writer: str, *, segment_bytes: int = SEGMENT_BYTES) -> Landing:
    """The landing of this process on `store`; `writer` names the process in the names of its segments."""
    if not _WRITER.match(writer):
        raise InvalidInput("The name of a writer is made of letters, digits and underscores.", field="writer")
    if isinstance(store, FileBlobs):
        return SegmentLanding(store, writer, segment_bytes=segment_bytes)
    return ObjectLanding(store, writer)


def landed_segments(store: BlobStore, after: str = "") -> Iterator[Blob]:
    """The segments in the order they were begun, from the first whose key is greater than `after`.

    `hilum reindex` scans all of them; a restarted indexer those since its last checkpoint.
    """
    yield from sorted((blob for blob in store.list(FOLDER) if blob.key > after), key=lambda blob: blob.key)


def read(store: BlobStore, location: Location) -> bytes:
    """The Part 10 file at a location."""
    return store.get_range(location.key, location.offset, location.length)


def read_dataset(store: BlobStore, location: Location, offset: int = 0, length: int | None = None) -> bytes:
    """A part of the data set at a location; all of it from `offset` when no length is given."""
    length = location.dataset_length - offset if length is None else length
    checked_range(offset, length)
    if offset + length > location.dataset_length:
        raise NotFound("The instance ends before the asked range.")
    return store.get_range(location.key, location.dataset_offset + offset, length)
