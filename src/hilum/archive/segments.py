"""Landing in a directory: one aligned, synchronous write per instance into a preallocated segment.

A segment belongs to one process (it holds a lock on the file) and is allocated, synced and named before the first
record goes in, so that an append costs one `pwritev2(RWF_DSYNC)` past the page cache and touches no metadata that
could be lost. Where the file system knows no O_DIRECT or RWF_DSYNC it is a buffered write and fdatasync.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hilum.archive.blobs import checked_key
from hilum.archive.file_blobs import UNFINISHED, FileBlobs, in_our_words, make_directory, storage_error, sync_directory
from hilum.archive.records import (
    ALIGNMENT,
    FOLDER,
    Location,
    Record,
    let_go,
    location_of,
    new_segment_key,
    record_pieces,
    segment_header,
)
from hilum.core.errors import HilumError, Unavailable

SEGMENT_BYTES = 256 << 20
BUFFER_BYTES = 8 << 20  # a larger record goes out in several writes and one sync
POOLED_BUFFERS = 8
BEING_MADE_SECONDS = 60  # a file this young may be one that another process is about to lock
_NOT_HERE = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS})


@dataclass(eq=False)
class _Segment:
    """An open segment and who uses it; every field is guarded by the landing's lock."""

    key: str
    path: Path
    descriptor: int
    size: int
    nonce: bytes
    end: int = ALIGNMENT
    writers: int = 0
    retired: bool = False


class SegmentLanding:
    """Durable appends of many threads to segments that this process alone writes."""

    def __init__(
        self, store: FileBlobs, writer: str, *, segment_bytes: int = SEGMENT_BYTES, direct: bool = True
    ) -> None:
        self._store = store
        self._writer = writer
        self._segment_bytes = max(-(-segment_bytes // ALIGNMENT), 2) * ALIGNMENT
        self._direct = direct and hasattr(os, "O_DIRECT") and hasattr(os, "RWF_DSYNC")
        self._lock = threading.Lock()
        self._rotating = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._current: _Segment | None = None
        self._next: _Segment | None = None
        self._preparing: threading.Thread | None = None
        self._buffers: list[mmap.mmap] = []
        self._closed = False

    def append(self, record: Record) -> Location:
        """Store durably, then say where; see Landing."""
        segment, offset = self._reserve(record.size)
        broken = False
        try:
            self._write(segment, offset, record)
        except OSError as error:
            # After a failed sync the kernel may have dropped pages it will never report again: never reuse the file.
            broken = True
            raise storage_error(error) from error
        finally:
            self._release(segment, broken=broken)
        return location_of(record, segment.key, offset)

    def append_all(self, records: Sequence[Record]) -> list[Location]:
        """Store several durably with one sync of each segment they fall into; see Landing."""
        if len(records) == 1:
            return [self.append(records[0])]
        locations: list[Location] = []
        used: list[_Segment] = []
        broken = True
        try:
            for record in records:
                segment, offset = self._reserve(record.size)
                used.append(segment)
                self._write(segment, offset, record, sync=False)
                locations.append(location_of(record, segment.key, offset))
            for descriptor in {segment.descriptor for segment in used}:
                os.fdatasync(descriptor)
            broken = False
        except OSError as error:
            raise storage_error(error) from error
        finally:
            for segment in used:
                self._release(segment, broken=broken)
        return locations

    def close(self) -> None:
        """Wait for appends under way, cut the unused ends off and let the segments go."""
        with self._lock:
            self._closed = True
            preparing = self._preparing
        if preparing is not None:
            preparing.join()
        with self._lock:
            segment, self._current = self._current, None
            unused, self._next = self._next, None
            while segment is not None and segment.writers:
                self._idle.wait()
            if segment is not None:
                self._finish(segment)
            if unused is not None:
                self._finish(unused)

    def _reserve(self, size: int) -> tuple[_Segment, int]:
        if size > self._segment_bytes - ALIGNMENT:
            own = self._create(size + ALIGNMENT)
            own.end, own.writers, own.retired = own.size, 1, True
            return own, ALIGNMENT
        while True:
            with self._lock:
                if self._closed:
                    raise Unavailable("The archive is closing.")
                segment = self._current
                if segment is not None and segment.end + size <= segment.size:
                    offset = segment.end
                    segment.end += size
                    segment.writers += 1
                    self._prepare_ahead(segment)
                    return segment, offset
            self._rotate(segment)

    def _rotate(self, full: _Segment | None) -> None:
        """Put a segment with room in the place of `full`; of many threads that find it full, one does."""
        with self._rotating:
            with self._lock:
                if self._current is not full:
                    return
                preparing = self._preparing
            if preparing is not None:
                preparing.join()
            with self._lock:
                fresh, self._next = self._next, None
            fresh = fresh or self._create(self._segment_bytes)
            with self._lock:
                if full is not None:
                    self._retire(full)
                if self._closed:
                    self._finish(fresh)
                else:
                    self._current = fresh

    def _prepare_ahead(self, segment: _Segment) -> None:
        if segment.end * 2 < segment.size or self._next is not None or self._preparing is not None:
            return
        self._preparing = threading.Thread(target=self._prepare, name="segment-ahead", daemon=True)
        self._preparing.start()

    def _prepare(self) -> None:
        fresh = None
        with suppress(HilumError):  # the thread that needs the segment meets the same error and answers for it
            fresh = self._create(self._segment_bytes)
        with self._lock:
            self._next, self._preparing = fresh, None

    def _release(self, segment: _Segment, *, broken: bool) -> None:
        with self._lock:
            segment.writers -= 1
            if broken and segment is self._current:
                self._current = None
                segment.retired = True
            if segment.retired and not segment.writers:
                self._finish(segment)
            self._idle.notify_all()

    def _retire(self, segment: _Segment) -> None:
        segment.retired = True
        if not segment.writers:
            self._finish(segment)

    @staticmethod
    def _finish(segment: _Segment) -> None:
        with suppress(OSError):  # only room is won by it; everything acknowledged is synced
            if segment.end == ALIGNMENT:
                segment.path.unlink()
            os.ftruncate(segment.descriptor, segment.end)
        os.close(segment.descriptor)

    def _create(self, size: int) -> _Segment:
        key, nonce = new_segment_key(self._writer), secrets.token_bytes(16)
        path = self._store.path(key)
        part = path.with_name(path.name + UNFINISHED)
        with in_our_words():
            make_directory(path.parent)
            descriptor = self._open(part, size, segment_header(nonce))
            try:
                part.rename(path)
                sync_directory(path.parent)
            except OSError:
                os.close(descriptor)
                path.unlink(missing_ok=True)
                raise
        return _Segment(key, path, descriptor, size, nonce)

    def _open(self, part: Path, size: int, header: bytes) -> int:
        """A new file of `size` bytes, locked, allocated, its first block written, synced."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = -1
        try:
            descriptor = self._open_direct(part, flags)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(descriptor, 0, size)
            with mmap.mmap(-1, ALIGNMENT) as block:
                block[:] = header
                self._write_all(descriptor, memoryview(block), 0, last=True)
            os.fsync(descriptor)
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            part.unlink(missing_ok=True)
            if self._direct and error.errno in _NOT_HERE:
                self._direct = False
                return self._open(part, size, header)
            raise
        return descriptor

    def _open_direct(self, part: Path, flags: int) -> int:
        return os.open(part, flags | os.O_DIRECT if self._direct else flags, 0o640)

    def _write(self, segment: _Segment, offset: int, record: Record, *, sync: bool = True) -> None:
        buffer = self._buffer(min(record.size, BUFFER_BYTES))
        filled, view = 0, memoryview(buffer)
        try:
            for piece in record_pieces(record, segment.nonce):
                rest = memoryview(piece).cast("B")
                while rest:
                    taken = min(len(rest), len(view) - filled)
                    view[filled : filled + taken] = rest[:taken]
                    filled, rest = filled + taken, rest[taken:]
                    if rest and filled == len(view):
                        self._write_all(segment.descriptor, view, offset, last=False)
                        offset, filled = offset + filled, 0
                        let_go(rest)
            self._write_all(segment.descriptor, view[:filled], offset, last=sync and record.size <= len(view))
            if sync and record.size > len(view):
                os.fdatasync(segment.descriptor)
        finally:
            view.release()
            self._give_back(buffer)

    def _write_all(self, descriptor: int, data: memoryview, offset: int, *, last: bool) -> None:
        """Write at `offset`; with `last` the bytes are on the disk when it returns."""
        flags = os.RWF_DSYNC if last and self._direct else 0
        while data:
            written = os.pwritev(descriptor, [data], offset, flags)
            data, offset = data[written:], offset + written
        if last and not self._direct:
            os.fdatasync(descriptor)

    def _buffer(self, size: int) -> mmap.mmap:
        """A page-aligned buffer of at least `size` bytes, rounded so that it can be used again."""
        with self._lock:
            for index, buffer in enumerate(self._buffers):
                if len(buffer) >= size:
                    return self._buffers.pop(index)
        return mmap.mmap(-1, max(1 << 20, 1 << (size - 1).bit_length()))

    def _give_back(self, buffer: mmap.mmap) -> None:
        with self._lock:
            if len(self._buffers) < POOLED_BUFFERS:
                self._buffers.append(buffer)


def in_use(store: FileBlobs, key: str) -> bool:
    """Whether a living process still appends to this segment."""
    with in_our_words():
        descriptor = os.open(store.path(checked_key(key)), os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
    return False


def reclaim(store: FileBlobs) -> int:
    """Give back the room that dead processes had allocated behind their last write; says how many files it touched.

    What a living process owns is left alone. Torn records stay: nothing but zeros is cut off.
    """
    touched = 0
    for path in sorted((store.root / FOLDER).glob("*/*.seg*")):
        with in_our_words(), suppress(FileNotFoundError):
            touched += _reclaim(path)
    return touched


def _reclaim(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status, written = os.fstat(descriptor), _last_written(descriptor)
        if time.time() - status.st_mtime < BEING_MADE_SECONDS:
            return False
        if path.name.endswith(UNFINISHED) or written <= ALIGNMENT:
            path.unlink()
        elif written < status.st_size:
            os.ftruncate(descriptor, written)
        else:
            return False
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _last_written(descriptor: int) -> int:
    """The end of the last aligned block that is not all zeros."""
    step = 1 << 20
    end = os.fstat(descriptor).st_size
    while end > ALIGNMENT:
        start = max(0, (end - 1) // step * step)
        data = os.pread(descriptor, end - start, start).rstrip(b"\0")
        if data:
            return start + -(-len(data) // ALIGNMENT) * ALIGNMENT
        end = start
    return ALIGNMENT
