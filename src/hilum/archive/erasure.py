"""Bytes of deleted instances removed for good, from a directory or a bucket; doing it again does nothing.

Only a record that is the instance's own is touched: where anything else lies at its place, nothing is.
"""

from __future__ import annotations

import ctypes
import errno
import os
import tempfile
from contextlib import suppress
from typing import Any

from hilum.archive.blobs import BlobStore
from hilum.archive.file_blobs import FileBlobs, in_our_words
from hilum.archive.records import ALIGNMENT, FOLDER, RECORD_HEADER, Location, has_records, record_extent
from hilum.archive.retrieve import location_of_row
from hilum.archive.settled import SETTLED
from hilum.core.errors import NotFound

_PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01  # linux/falloc.h
_NOT_HERE = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_ZEROS = bytes(1 << 20)


def erase(blobs: BlobStore, row: Any) -> None:
    """Remove the bytes of an index row (columns as of the table `instance`). Errors as of the store."""
    location = location_of_row(row)
    with suppress(NotFound):
        if location.key.startswith(f"{SETTLED}/"):
            _blank(blobs, location)
        elif not (location.key.startswith(f"{FOLDER}/") and location.key.endswith(".seg")):
            blobs.delete(location.key)
        elif isinstance(blobs, FileBlobs):
            _punch(blobs, location)
        else:
            _rewrite(blobs, location)


def _punch(blobs: FileBlobs, location: Location) -> None:
    start = location.offset - RECORD_HEADER
    with in_our_words():
        descriptor = os.open(blobs.path(location.key), os.O_RDWR | os.O_CLOEXEC)
        try:
            size = record_extent(os.pread(descriptor, RECORD_HEADER, start), location)
            if size:
                _clear(descriptor, start, size)
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _blank(blobs: BlobStore, location: Location) -> None:
    """Clear one file of a settled object; its other files stay where they are, and the object can still be opened."""
    if isinstance(blobs, FileBlobs):
        with in_our_words():
            descriptor = os.open(blobs.path(location.key), os.O_RDWR | os.O_CLOEXEC)
            try:
                _clear(descriptor, location.offset, location.length)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        return
    # Through a file, as the store can't be read from while it is written to.
    with tempfile.TemporaryFile() as copy:
        for piece in blobs.stream(location.key):
            copy.write(piece)
        copy.seek(location.offset)
        for start in range(0, location.length, len(_ZEROS)):
            copy.write(_ZEROS[: location.length - start])
        copy.seek(0)
        blobs.put(location.key, copy)


def _clear(descriptor: int, start: int, size: int) -> None:
    """Give the room back; where the file system can't, overwrite it."""
    fallocate = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
    if fallocate is not None:
        fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
        if fallocate(descriptor, _PUNCH_HOLE_KEEP_SIZE, start, size) == 0:
            return
        number = ctypes.get_errno()
        if number not in _NOT_HERE:
            raise OSError(number, os.strerror(number))
    end = start + size
    while start < end:
        start += os.pwrite(descriptor, _ZEROS[: end - start], start)


def _rewrite(blobs: BlobStore, location: Location) -> None:
    """Put the object again without the record, or delete it where it held nothing else."""
    start = location.offset - RECORD_HEADER
    size = record_extent(blobs.get_range(location.key, start, RECORD_HEADER), location)
    if not size:
        return
    if start == ALIGNMENT and start + size >= blobs.head(location.key).size:
        blobs.delete(location.key)
        return
    # Only what was put together in one batch comes here, so it fits into memory (batches.BATCH_BYTES).
    content = bytearray(blobs.get(location.key))
    content[start : start + size] = bytes(size)
    if has_records(content):
        blobs.put(location.key, bytes(content))
    else:
        blobs.delete(location.key)
