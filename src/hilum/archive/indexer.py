"""The index follows what a receiver has made durable: the work of a process beside it.

It takes what is there, puts it into the index in one transaction and goes on. What the database does not take at the
moment is tried until it does; what the index refuses for good is kept on the list of a person, with its bytes.
"""

from __future__ import annotations

import logging
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from itertools import chain, groupby, repeat
from operator import attrgetter
from pathlib import Path

from hilum.archive.barrier import Position
from hilum.archive.index_queue import LENGTH_BYTES, Entry, EntryDecoder, Hello, Sender
from hilum.archive.ingest import Ingest
from hilum.archive.recovery import recover, report_refused
from hilum.core.errors import HilumError
from hilum.workflow.image_batches import RecordInstances, record_instances

log = logging.getLogger(__name__)

MAXIMUM_BATCH = 256
# A transaction costs as much as a dozen rows, so the first instance of a batch waits a moment for others.
GATHER_SECONDS = 0.015
_CHUNK = 1 << 20
_PAUSES = (0.05, 0.2, 1.0, 5.0)


class Frames:
    """The frames of a socket."""

    def __init__(self, source: socket.socket) -> None:
        self._socket = source
        self._buffer = bytearray()

    def take(self, most: int) -> list[bytes]:
        """Wait for a frame, and take what comes with it; none when the other end is gone."""
        frames = list(self._whole(most))
        while not frames and self._receive():
            frames = list(self._whole(most))
        if not frames or len(frames) == most:
            return frames
        time.sleep(GATHER_SECONDS)
        while len(frames) < most and select.select([self._socket], [], [], 0)[0] and self._receive():
            frames += self._whole(most - len(frames))
        return frames

    def _receive(self) -> bool:
        data = self._socket.recv(_CHUNK)
        self._buffer += data
        return bool(data)

    def _whole(self, most: int) -> Iterator[bytes]:
        start, here = 0, len(self._buffer)
        for _ in range(most):
            end = start + LENGTH_BYTES
            length = int.from_bytes(self._buffer[start:end], "big")
            if end > here or end + length > here:
                break
            yield bytes(memoryview(self._buffer)[end : end + length])
            start = end + length
        del self._buffer[:start]


class Indexer:
    """Puts what comes over a socket into the index until the receiver closes it."""

    def __init__(self, ingest: Ingest, source: socket.socket) -> None:
        self._ingest = ingest
        self._frames = Frames(source)
        self._decoder = EntryDecoder()

    def run(self) -> None:
        """Work until the other end is closed and everything it sent is indexed."""
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, signal.SIG_IGN)  # the receiver drains first, and its end is the end here
        greeting = self._frames.take(1)
        if not greeting:
            return
        hello = Hello.read(greeting[0])
        position = Position(Path(hello.position), hold=True)
        if hello.recover:
            _until_taken(lambda: recover(self._ingest, busy=True))
        position.indexed = hello.indexed
        while frames := self._frames.take(MAXIMUM_BATCH):
            for sender, entries in groupby(map(self._decoder.entry, frames), attrgetter("sender")):
                self._index(sender, list(entries))
            position.indexed += len(frames)
        if position.indexed >= position.landed:
            position.path.unlink(missing_ok=True)

    def _index(self, sender: Sender, entries: list[Entry]) -> None:
        try:
            _until_taken(lambda: self._run(sender, entries))
        except Exception as error:  # noqa: BLE001  # the edge: one instance must not keep all others from the index
            if len(entries) == 1:
                entry = entries[0]
                said = (entry.sender.source.peer, entry.received_at.isoformat())
                report_refused(self._ingest, entry.location, error, *said)
                return
            for entry in entries:
                self._index(sender, [entry])

    def _run(self, sender: Sender, entries: list[Entry]) -> None:
        commands = [self._ingest.command_of(entry) for entry in entries]
        # The bytes are synced with all that the rows are made of: `recovery` makes them again after a power cut.
        self._ingest.store.run(record_instances, RecordInstances(commands), sender.actor, recoverable=True)


def _until_taken(work: Callable[[], object]) -> None:
    """Do some work, again and again while the database or the store do not answer; other errors go on."""
    for pause in chain(_PAUSES, repeat(_PAUSES[-1])):
        try:
            work()
        except HilumError as error:
            if not error.retryable:
                raise
            log.warning("the index waits", extra={"code": error.code})
            time.sleep(pause)
        else:
            return
