"""Landing in a bucket: the instances that wait together become one segment object, then all are told.

A node's disk is not durability where the archive is a bucket, so a batch is PUT before any of its acknowledgements.
While one PUT is under way the next batch gathers, so the number of requests falls as the load rises.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from itertools import chain

from hilum.archive.blobs import BlobStore
from hilum.archive.records import (
    ALIGNMENT,
    Location,
    Record,
    location_of,
    new_segment_key,
    record_pieces,
    segment_header,
)
from hilum.core.errors import DeadlineExceeded, HilumError, Unavailable

BATCH_BYTES = 32 << 20
PENDING_BYTES = 256 << 20
LINGER_SECONDS = 0.002
COMMITTERS = 2
WAIT_SECONDS = 180.0


class ObjectLanding:
    """Durable group commits of many threads' instances to a bucket."""

    def __init__(
        self,
        store: BlobStore,
        writer: str,
        *,
        batch_bytes: int = BATCH_BYTES,
        pending_bytes: int = PENDING_BYTES,
        committers: int = COMMITTERS,
    ) -> None:
        self._store = store
        self._writer = writer
        self._batch_bytes = batch_bytes
        self._limit = pending_bytes
        self._pending = 0
        self._queue: deque[tuple[Record, Future[Location]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._commit_loop, name=f"landing-{n}", daemon=True) for n in range(committers)
        ]
        for thread in self._threads:
            thread.start()

    def append(self, record: Record) -> Location:
        """Store durably, then say where; see Landing. Waits while too many bytes are under way."""
        return self.append_all([record])[0]

    def append_all(self, records: Sequence[Record]) -> list[Location]:
        """Store several durably, then say where; see Landing."""
        waiting = [None if record.size > self._batch_bytes else self._hand_in(record) for record in records]
        try:
            return [
                self._put_alone(record) if future is None else future.result(WAIT_SECONDS)
                for record, future in zip(records, waiting, strict=True)
            ]
        except TimeoutError as error:
            raise DeadlineExceeded("The object store took too long.") from error

    def _hand_in(self, record: Record) -> Future[Location]:
        waiting: Future[Location] = Future()
        with self._changed:
            free = self._changed.wait_for(lambda: self._closed or self._pending < self._limit, WAIT_SECONDS)
            if self._closed:
                raise Unavailable("The archive is closing.")
            if not free:
                raise Unavailable("The object store is slower than what arrives.")
            self._queue.append((record, waiting))
            self._pending += record.size
            self._changed.notify()
        return waiting

    def close(self) -> None:
        """Commit what waits and take no more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _commit_loop(self) -> None:
        while batch := self._gather():
            try:
                locations = self._put_together([record for record, _ in batch])
            except Exception as error:  # noqa: BLE001 - each waiter raises it; this thread must live
                refusal = error if isinstance(error, HilumError) else Unavailable()
                for _, waiting in batch:
                    waiting.set_exception(refusal)
            else:
                for (_, waiting), location in zip(batch, locations, strict=True):
                    waiting.set_result(location)
            with self._changed:
                self._pending -= sum(record.size for record, _ in batch)
                self._changed.notify_all()

    def _gather(self) -> list[tuple[Record, Future[Location]]]:
        """The next batch; empty only when the landing is closed and nothing waits."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._queue or self._closed)
                self._linger()
                batch: list[tuple[Record, Future[Location]]] = []
                size = 0
                while self._queue and size + self._queue[0][0].size <= self._batch_bytes:
                    batch.append(self._queue.popleft())
                    size += batch[-1][0].size
                if self._queue:
                    self._changed.notify()
                if batch or self._closed:
                    return batch

    def _linger(self) -> None:
        """Let those who are about to arrive join; the lock is free meanwhile."""
        end = time.monotonic() + LINGER_SECONDS
        while not self._closed and (left := end - time.monotonic()) > 0:
            self._changed.wait(left)

    def _put_together(self, records: list[Record]) -> list[Location]:
        key, nonce = new_segment_key(self._writer), secrets.token_bytes(16)
        pieces: list[bytes | bytearray | memoryview] = [segment_header(nonce)]
        locations = []
        offset = ALIGNMENT
        for record in records:
            pieces.extend(record_pieces(record, nonce))
            locations.append(location_of(record, key, offset))
            offset += record.size
        self._store.put(key, b"".join(pieces))
        return locations

    def _put_alone(self, record: Record) -> Location:
        """A record larger than a batch goes up in parts from the caller's thread, never whole in memory."""
        key, nonce = new_segment_key(self._writer), secrets.token_bytes(16)
        self._store.put(key, chain((segment_header(nonce),), record_pieces(record, nonce)))
        return location_of(record, key, ALIGNMENT)
