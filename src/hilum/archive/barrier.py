"""How far the index is behind what was received, told across the processes of a machine.

A receiver that indexes behind its answer keeps two numbers in a small file that every process maps: how many instances
it has made durable, and how many of them the index holds. Who reads the index waits until the second has reached what
the first was when the question came, so that a sender reads its own writes at every door. Where nothing is received,
to look costs a microsecond.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from hilum.core.errors import Unavailable

WAIT_SECONDS = 10.0
_NUMBERS: Final = struct.Struct("=QQ")
_SUFFIX = ".position"
_PAUSES = (0.0005, 0.001, 0.002, 0.004)


class Position:
    """The two numbers of one receiver: `landed` is written by the receiver alone, `indexed` by its indexer alone."""

    def __init__(self, path: Path, *, create: bool = False, hold: bool = False) -> None:
        """Map the file of a receiver; who holds it shows that the receiver or its indexer lives."""
        self.path = path
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        # A file object, so that whoever lets go of a position last closes it.
        self._file = os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0)
        if hold:
            fcntl.flock(self._file, fcntl.LOCK_SH)
        if create:
            self._file.truncate(_NUMBERS.size)
        self._numbers = mmap.mmap(self._file.fileno(), _NUMBERS.size)

    @property
    def landed(self) -> int:
        """How many instances are durable."""
        return int(_NUMBERS.unpack_from(self._numbers)[0])

    @landed.setter
    def landed(self, number: int) -> None:
        struct.pack_into("=Q", self._numbers, 0, number)

    @property
    def indexed(self) -> int:
        """How many of them the index holds."""
        return int(_NUMBERS.unpack_from(self._numbers)[1])

    @indexed.setter
    def indexed(self, number: int) -> None:
        struct.pack_into("=Q", self._numbers, 8, number)

    def is_held(self) -> bool:
        """Tell whether the receiver or its indexer lives; ask only through a position that does not hold."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self._file, fcntl.LOCK_UN)
        return False

    def close(self) -> None:
        """Let go of the file."""
        self._numbers.close()
        self._file.close()


def new_position(folder: Path, name: str) -> Position:
    """The position of a receiver that begins."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Position(folder / f"{name}{_SUFFIX}", create=True, hold=True)


class IndexBarrier:
    """What readers wait at; one for a process, used by any of its threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[str, Position] = {}
        self._changed = -1

    def behind(self) -> list[tuple[Position, int]]:
        """The receivers whose index is behind, each with the number it has to reach; mostly none."""
        waiting = []
        for position in self._positions():
            landed = position.landed
            if position.indexed < landed:
                waiting.append((position, landed))
        return waiting

    def wait(self, seconds: float = WAIT_SECONDS) -> None:
        """Return once the index holds all that was received before. Raises Unavailable when that takes too long."""
        waiting = self.behind()
        deadline, tries = time.monotonic() + seconds, 0
        while waiting := still_behind(waiting):
            if time.monotonic() > deadline:
                raise Unavailable("The index has not yet taken in all that was received.")
            time.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])
            tries += 1

    def orphans(self) -> list[Path]:
        """The files of receivers that died, and whose indexers are gone too: their segments are to be recovered."""
        return [position.path for position in self._positions() if not position.is_held()]

    def _positions(self) -> list[Position]:
        try:
            changed = self._folder.stat().st_mtime_ns
        except FileNotFoundError:
            return []
        if changed != self._changed:
            self._look()
            self._changed = changed
        return list(self._seen.values())

    def _look(self) -> None:
        named = {path.name: path for path in self._folder.glob(f"*{_SUFFIX}")}
        for name in [name for name in self._seen if name not in named]:
            del self._seen[name]
        for name, path in named.items():
            if name not in self._seen:
                with suppress(OSError, ValueError):  # gone meanwhile, or not yet two numbers long
                    self._seen[name] = Position(path)


def still_behind(waiting: list[tuple[Position, int]]) -> list[tuple[Position, int]]:
    """Those that have not reached their number; a receiver whose file is gone was recovered."""
    return [(position, number) for position, number in waiting if position.indexed < number and position.path.exists()]
