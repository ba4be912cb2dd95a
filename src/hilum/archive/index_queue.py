"""From the receiver to its indexer: what has landed is handed on over a socket to a process of its own.

A receiver that ran the index's transactions itself would spend more time on them than on receiving, and as a thread
they would take turns with it at the interpreter's lock. Nothing is lost with the socket: the bytes have landed before,
and an indexer that is started anew looks for what its predecessor left in the segments (`recovery`). The socket's
buffer bounds how far the index can fall behind, since a receiver waits for room in it.
"""

from __future__ import annotations

import logging
import pickle
import select
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from hilum.archive.barrier import Position, new_position
from hilum.archive.records import Location
from hilum.archive.walk import PixelData
from hilum.core.actor import Actor
from hilum.core.errors import Unavailable
from hilum.workflow.source import Source

log = logging.getLogger(__name__)

ROOM_SECONDS = 20.0  # how long a receiver waits for room before it tells its sender to come again
DRAIN_SECONDS = 20.0
RESTART_PAUSE = 1.0
WATCH_SECONDS = 0.5
BUFFER_BYTES = 1 << 20
LENGTH_BYTES = 4
MAXIMUM_SENDERS = 512


@dataclass(frozen=True, slots=True)
class Sender:
    """Who brought an instance: `issuer` is of patient IDs without one, `rejects` whether rejection notes count."""

    source: Source
    actor: Actor
    issuer: str = ""
    rejects: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """An instance that has landed; `attributes` is its header as DICOM JSON, `digest` hexadecimal."""

    sender: Sender
    attributes: bytes
    character_set: str
    transfer_syntax_uid: str
    pixels: PixelData | None
    location: Location
    digest: str
    received_at: datetime


class EntryEncoder:
    """Writes entries for the indexer; senders repeat, so each is written out once."""

    def __init__(self) -> None:
        self._senders: dict[Sender, bytes] = {}

    def frame(self, entry: Entry) -> bytes:
        """The entry with its length before it."""
        sender = self._senders.get(entry.sender)
        if sender is None:
            if len(self._senders) >= MAXIMUM_SENDERS:
                self._senders.clear()
            sender = self._senders[entry.sender] = pickle.dumps(entry.sender)
        place = entry.location
        pixels = entry.pixels
        parts = (
            sender,
            entry.attributes,
            entry.character_set,
            entry.transfer_syntax_uid,
            None if pixels is None else (pixels.tag, pixels.vr, pixels.offset, pixels.length, pixels.encapsulated),
            (place.key, place.offset, place.length, place.prefix),
            entry.digest,
            entry.received_at,
        )
        content = pickle.dumps(parts, pickle.HIGHEST_PROTOCOL)
        return len(content).to_bytes(LENGTH_BYTES, "big") + content


class EntryDecoder:
    """Reads what `EntryEncoder` wrote."""

    def __init__(self) -> None:
        self._senders: dict[bytes, Sender] = {}

    def entry(self, content: bytes | memoryview) -> Entry:
        """One entry, without its length."""
        # Only the receiver that started this process can write to its socket.
        sent, attributes, charset, syntax, pixels, place, digest, received_at = pickle.loads(content)  # noqa: S301
        sender = self._senders.get(sent)
        if sender is None:
            if len(self._senders) >= MAXIMUM_SENDERS:
                self._senders.clear()
            sender = self._senders[sent] = pickle.loads(sent)  # noqa: S301  # as above
        where = None if pixels is None else PixelData(*pixels)
        return Entry(sender, attributes, charset, syntax, where, Location(*place), digest, received_at)


@dataclass(frozen=True, slots=True)
class Hello:
    """What an indexer is told first: where the position is, what number it starts at, and whether to look for more."""

    position: str
    indexed: int
    recover: bool

    def frame(self) -> bytes:
        """The greeting with its length before it."""
        content = pickle.dumps((self.position, self.indexed, self.recover))
        return len(content).to_bytes(LENGTH_BYTES, "big") + content

    @classmethod
    def read(cls, content: bytes | memoryview) -> Hello:
        """Read what `frame` wrote."""
        return cls(*pickle.loads(content))  # noqa: S301  # written by the process that started this one


StartIndexer = Callable[[int], "subprocess.Popen[Any]"]


class Queue(Protocol):
    """Where a receiver hands on what has landed."""

    def put(self, entry: Entry) -> None:
        """Hand an entry on; readers wait for it from now on. Raises Unavailable where there is no room for it."""

    def wait(self, seconds: float) -> bool:
        """Tell whether everything handed on so far came into the index in time."""


class QueueOnDemand:
    """A queue whose indexer is started with the first entry: most processes that answer HTTP never receive images."""

    def __init__(self, queue: Callable[[], IndexQueue]) -> None:
        """`queue` gives the same queue each time."""
        self._queue = queue

    def put(self, entry: Entry) -> None:
        """Hand an entry on, as of IndexQueue."""
        self._queue().put(entry)

    def wait(self, seconds: float) -> bool:
        """Wait, as of IndexQueue."""
        return self._queue().wait(seconds)


class IndexQueue:
    """The receiver's end; used by any of its threads. `start` starts an indexer that inherits a socket's descriptor."""

    def __init__(self, folder: Path, name: str, start: StartIndexer) -> None:
        self._start = start
        self._encoder = EntryEncoder()
        self._position: Position = new_position(folder, name)
        self._lock = threading.Lock()
        self._unsent = memoryview(b"")
        self._closing = False
        self._started_at = 0.0
        self._socket: socket.socket
        self._process: subprocess.Popen[Any]
        self._launch(recover=False)

    def put(self, entry: Entry) -> None:
        """Hand an entry on; readers wait for it from now on. Raises Unavailable where there is no room for it."""
        frame = self._encoder.frame(entry)
        with self._lock:
            if self._closing:
                raise Unavailable("The archive is closing.")
            if self._unsent and not self._send():
                raise Unavailable("The index does not keep up with what arrives.")
            self._position.landed += 1
            self._unsent = memoryview(frame)
            self._send()

    def wait(self, seconds: float) -> bool:
        """Tell whether everything handed on so far came into the index in time."""
        number, deadline = self._position.landed, time.monotonic() + seconds
        while self._position.indexed < number:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        return True

    def close(self) -> None:
        """Hand the rest on and wait until it is indexed; what is not by then is recovered at the next start."""
        complete = self.wait(DRAIN_SECONDS)
        with self._lock:
            self._closing = True
            process, self._socket = self._process, self._socket
            self._socket.close()
        try:
            process.wait(DRAIN_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if complete:
            self._position.path.unlink(missing_ok=True)
        self._position.close()

    def _send(self, seconds: float | None = None) -> bool:
        """Send what is unsent, waiting for room for so long at a time; tell whether all of it went out."""
        while self._unsent:
            try:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
            except BlockingIOError:
                if not select.select([], [self._socket], [], ROOM_SECONDS if seconds is None else seconds)[1]:
                    return False
            except OSError:
                # What has landed is found by the next indexer with everything else that this one left.
                self._relaunch()
        return True

    def _launch(self, *, recover: bool) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            for end, option in ((ours, socket.SO_SNDBUF), (theirs, socket.SO_RCVBUF)):
                end.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
            self._process = self._start(theirs.fileno())
        self._started_at = time.monotonic()
        self._socket = ours
        ours.sendall(Hello(str(self._position.path), self._position.landed, recover).frame())
        ours.setblocking(False)
        self._unsent = memoryview(b"")
        threading.Thread(target=self._watch, args=(self._process,), name="indexer-watch", daemon=True).start()

    def _relaunch(self) -> None:
        """Start another indexer in the place of one that ended."""
        log.error("the indexer ended", extra={"state": "started again"})
        self._socket.close()
        self._process.kill()
        self._process.wait()
        time.sleep(max(0.0, self._started_at + RESTART_PAUSE - time.monotonic()))
        self._launch(recover=True)

    def _watch(self, process: subprocess.Popen[Any]) -> None:
        """See to it that neither a frame nor what an indexer leaves when it dies waits for the next image to come."""
        while process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(WATCH_SECONDS)
            with self._lock:
                if process is not self._process or self._closing:
                    return
                if process.poll() is None:
                    self._send(0)
                else:
                    self._relaunch()
