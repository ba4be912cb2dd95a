"""Where the bytes of a data set are collected: one page-aligned buffer per association, reused, bounded.

The data set lies contiguous in anonymous memory with `HEADROOM` writable bytes before it and `TAILROOM` after, so that
a file's preamble and meta information, or a record's header and trailer, can be put around it and the whole written
with one call and no copy; its first byte is page-aligned. A large one, or one for which the shared memory budget has no
room, goes to an unlinked temporary file and is shown as a read-only mapping of it. What is too large, or finds no room
on the disk, is counted and dropped to the message's end, so that the peer gets a status instead of an abort.
"""

from __future__ import annotations

import hashlib
import mmap
import tempfile
import threading
from dataclasses import dataclass
from typing import BinaryIO

from hilum.core.errors import HilumError, OutOfSpace, TooLarge
from hilum.dicom.upper_layer.limits import MIB, Limits

HEADROOM = 4096
TAILROOM = 64 * 1024
_FIRST_CAPACITY = 2 * MIB


@dataclass(frozen=True, slots=True)
class DataSet:
    """The bytes of one data set as received, in the context's transfer syntax. Valid until the handler returns.

    `view` is the data set. In memory, `buffer[start : start + length]` is the same bytes, `start` is HEADROOM, and the
    handler may write before and after them. In a file, `file` is open for reading and `buffer` is None. `digest` is the
    SHA-256 of the data set: counted as its fragments came in, while the peer was sending the next.
    """

    view: memoryview
    buffer: memoryview | None = None
    start: int = 0
    file: BinaryIO | None = None
    digest: bytes | None = None

    def __len__(self) -> int:
        return len(self.view)

    def tobytes(self) -> bytes:
        return self.view.tobytes()

    @classmethod
    def of(cls, content: bytes) -> DataSet:
        """A data set from bytes at hand, for callers that did not get it from an association."""
        return cls(memoryview(content))


class MemoryBudget:
    """Bytes that all associations together may hold beyond their first buffers."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def give(self, size: int) -> None:
        with self._lock:
            self._left += size


class DataSetBuffer:
    """Collects one data set after another; not thread-safe."""

    def __init__(self, limits: Limits, budget: MemoryBudget) -> None:
        self._limits = limits
        self._budget = budget
        self._borrowed = 0
        self._maximum = limits.maximum_object
        self._map: mmap.mmap | None = None
        self._memory = memoryview(b"")
        self._capacity = 0
        self._filled = 0  # bytes in memory that are not yet in the file
        self._file: BinaryIO | None = None
        self._mapped: mmap.mmap | None = None
        self._digest = hashlib.sha256()
        self.length = 0
        self.failure: HilumError | None = None

    def begin(self, maximum: int) -> None:
        """Start an empty data set of at most `maximum` bytes."""
        self.end()
        self._maximum = min(maximum, self._limits.maximum_object)

    def window(self, size: int) -> memoryview:
        """Writable memory for the next `size` bytes; `commit` makes them part of the data set."""
        if self._filled + size > self._capacity:
            self._make_room(size)
        start = HEADROOM + self._filled
        return self._memory[start : start + size]

    def commit(self, size: int) -> None:
        """The first `size` bytes of the last window are the next of the data set."""
        start = HEADROOM + self._filled
        self._digest.update(self._memory[start : start + size])
        self.length += size
        if self.failure is None and self.length > self._maximum:
            self._fail(TooLarge(f"The data set is larger than the {self._maximum} bytes taken here."))
        self._filled = 0 if self.failure is not None else self._filled + size

    def append(self, fragment: memoryview) -> None:
        """Copy a fragment that was received elsewhere."""
        self.window(len(fragment))[:] = fragment
        self.commit(len(fragment))

    def owns(self, fragment: memoryview) -> bool:
        """Whether a fragment lies in this buffer, which it does when it was received into the last window."""
        return self._map is not None and fragment.obj is self._map

    @property
    def hopeless(self) -> bool:
        """Whether so much was dropped that waiting for the end is no service to anyone."""
        return self.length > 2 * self._maximum + 16 * MIB

    def finish(self) -> DataSet:
        """The data set; raises what went wrong while it was received."""
        if self.failure is None and self._file is not None:
            self._flush(self._file)
        if self.failure is not None:
            raise self.failure
        if self._file is not None:
            self._file.flush()
            self._mapped = mmap.mmap(self._file.fileno(), self.length, access=mmap.ACCESS_READ)
            return DataSet(memoryview(self._mapped), file=self._file, digest=self._digest.digest())
        end = HEADROOM + self.length
        return DataSet(
            self._memory[HEADROOM:end], self._memory[: end + TAILROOM], HEADROOM, digest=self._digest.digest()
        )

    def end(self) -> None:
        """Forget the data set; the memory is kept for the next."""
        if self._file is not None:
            self._file.close()
        self._file = self._mapped = None  # a mapping goes when the last view of it does
        self._filled = self.length = 0
        self._digest = hashlib.sha256()
        self.failure = None

    def shrink(self) -> None:
        """Give the memory back, for an association that is idle or over."""
        self._map, self._memory, self._capacity, self._filled = None, memoryview(b""), 0, 0
        self._budget.give(self._borrowed)
        self._borrowed = 0

    def _make_room(self, size: int) -> None:
        if self._file is not None:
            self._flush(self._file)
            return
        wanted = max(_FIRST_CAPACITY, 2 * self._capacity)
        while wanted < self._filled + size:
            wanted *= 2
        if self._map is None or (wanted <= self._limits.spill_above and self._budget.take(wanted)):
            self._grow(wanted)
            return
        try:
            self._file = tempfile.TemporaryFile(dir=self._limits.spill_directory, buffering=0)  # noqa: SIM115
        except OSError:
            self._fail(OutOfSpace("There is no room to receive a large data set."))
            return
        self._flush(self._file)

    def _grow(self, capacity: int) -> None:
        old, borrowed = self._memory[HEADROOM : HEADROOM + self._filled], self._borrowed
        # private: only private anonymous memory is given back page by page and never backed by shared memory
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._borrowed = capacity if self._map is not None else 0
        self._map = mmap.mmap(-1, HEADROOM + capacity + TAILROOM, flags=flags)
        self._memory = memoryview(self._map)
        self._memory[HEADROOM : HEADROOM + self._filled] = old
        self._capacity = capacity
        self._budget.give(borrowed)

    def _flush(self, file: BinaryIO) -> None:
        pending = self._memory[HEADROOM : HEADROOM + self._filled]
        self._filled = 0
        try:
            while len(pending):
                pending = pending[file.write(pending) :]
        except OSError:
            self._fail(OutOfSpace("There is no room to receive a large data set."))

    def _fail(self, error: HilumError) -> None:
        self.failure = error
        self._filled = 0
        if self._file is not None:
            self._file.close()
            self._file = None
