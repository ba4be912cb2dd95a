"""A table in a file of the home that all processes of a node share: what is counted there is counted for the node.

Records of one size lie in sets of `WAYS`, found by a keyed digest, so that nobody can choose names that meet. One lock
of the kernel's holds the whole table for the microseconds of a change, and falls with a process that is killed. Nothing
here outlasts its use: a table may be lost at any time.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

WAYS: Final = 8
DIGEST: Final = 8
_KEY: Final = 16


class SharedTable:
    """`sets` × `WAYS` records of `size` bytes, each of which begins with its digest, behind `head` bytes of its owner.

    `map` is the memory; only who is in `locked` may touch it.
    """

    def __init__(self, path: Path, sets: int, size: int, head: int = 0) -> None:
        """Open the table, or make it: its layout is part of its name, since what others have mapped is never cut."""
        self._sets, self._size, self.head = sets, size, _KEY
        self._start = _KEY + head
        length = self._start + sets * WAYS * size
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{path.name}.{sets}x{size}+{head}"
        self._descriptor = os.open(path.with_name(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._lock = threading.Lock()
        self.map: mmap.mmap
        with self.locked():
            if os.fstat(self._descriptor).st_size < length:
                os.pwrite(self._descriptor, os.urandom(_KEY), 0)
                os.ftruncate(self._descriptor, length)
            self.map = mmap.mmap(self._descriptor, length)
            self._key = self.map[:_KEY]

    def close(self) -> None:
        """Let go of the file."""
        self.map.close()
        os.close(self._descriptor)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the table against all other threads and processes."""
        with self._lock:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def digest(self, name: str) -> bytes:
        """Return what stands for a name in the table."""
        return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=DIGEST, key=self._key).digest()

    def places(self, digest: bytes) -> range:
        """Return the offsets at which the record of a digest may lie."""
        start = self._start + int.from_bytes(digest) % self._sets * WAYS * self._size
        return range(start, start + WAYS * self._size, self._size)

    def find(self, digest: bytes) -> int | None:
        """Return the offset of the record of a digest, if there is one."""
        return next((at for at in self.places(digest) if self.map[at : at + DIGEST] == digest), None)

    def records(self) -> range:
        """Return the offsets of all records."""
        return range(self._start, len(self.map), self._size)
