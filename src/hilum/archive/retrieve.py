"""From a row of the index to the bytes of its instance: in memory, as a stream, or as a place for sendfile.

A row is anything with the columns `object_key`, `object_offset`, `object_length`, `dataset_offset` of the table
`instance`; `dataset_offset` counts from the beginning of the object, as `object_offset` does.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from hilum.archive.blobs import BlobStore
from hilum.archive.file_blobs import FileBlobs
from hilum.archive.records import Location
from hilum.archive.walk import PixelData
from hilum.core.errors import NotFound

IN_MEMORY = 64 << 20


class InstanceRow(Protocol):
    """What of an index row says where the bytes are."""

    @property
    def object_key(self) -> str: ...
    @property
    def object_offset(self) -> int: ...
    @property
    def object_length(self) -> int: ...
    @property
    def dataset_offset(self) -> int: ...


def location_of_row(row: InstanceRow | Any) -> Location:
    """Return where the Part 10 file of an index row lies."""
    return Location(row.object_key, row.object_offset, row.object_length, row.dataset_offset - row.object_offset)


def location_columns(location: Location) -> dict[str, Any]:
    """Return the columns of the index that keep a location."""
    return {
        "object_key": location.key,
        "object_offset": location.offset,
        "object_length": location.length,
        "dataset_offset": location.dataset_offset,
    }


def read_instance(blobs: BlobStore, row: InstanceRow | Any) -> bytes:
    """Return the Part 10 file of an index row, data set as received."""
    return blobs.get_range(row.object_key, row.object_offset, row.object_length)


def stream_instance(blobs: BlobStore, row: InstanceRow | Any) -> Iterator[bytes]:
    """Return the Part 10 file of an index row in pieces of about 1 MiB."""
    return blobs.stream(row.object_key, row.object_offset, row.object_length)


def place_of(blobs: BlobStore, row: InstanceRow | Any) -> tuple[Path, int, int] | None:
    """Return (file, offset, length) of the Part 10 file for sendfile; None where the archive is no directory."""
    if not isinstance(blobs, FileBlobs):
        return None
    return blobs.path(row.object_key), row.object_offset, row.object_length


def pixels_of(pixels: Mapping[str, Any] | None) -> PixelData | None:
    """Return where pixel data lies in the data set, from the column `pixels`."""
    return None if pixels is None else PixelData(**pixels)


@contextmanager
def open_dataset(blobs: BlobStore, location: Location) -> Iterator[memoryview]:
    """Give the data set at a location without holding a large one in memory.

    A directory's file is mapped; of other stores what exceeds `IN_MEMORY` goes through an unlinked temporary file.
    Raises NotFound where the object is gone.
    """
    if isinstance(blobs, FileBlobs):
        try:
            with blobs.path(location.key).open("rb") as file, _mapped(file.fileno(), location) as view:
                yield view
        except FileNotFoundError:
            raise NotFound("The bytes of the instance are not there.") from None
    elif location.dataset_length <= IN_MEMORY:
        yield memoryview(blobs.get_range(location.key, location.dataset_offset, location.dataset_length))
    else:
        with tempfile.TemporaryFile() as spilled:
            for piece in blobs.stream(location.key, location.dataset_offset, location.dataset_length):
                spilled.write(piece)
            spilled.flush()
            with _mapped(spilled.fileno(), Location("", 0, location.dataset_length, 0)) as view:
                yield view


@contextmanager
def _mapped(descriptor: int, location: Location) -> Iterator[memoryview]:
    if not location.dataset_length:
        yield memoryview(b"")
        return
    skipped = location.dataset_offset % mmap.ALLOCATIONGRANULARITY
    start = location.dataset_offset - skipped
    try:
        mapping = mmap.mmap(descriptor, skipped + location.dataset_length, access=mmap.ACCESS_READ, offset=start)
    except ValueError:
        raise NotFound("The object ends before the instance does.") from None
    try:
        with memoryview(mapping) as whole, whole[skipped:] as view:
            yield view
    finally:
        mapping.close()
