"""Group commit on SQLite: one thread per process, many verbs per transaction, one sync for all of them."""

from __future__ import annotations

import fcntl
import logging
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from hilum.core.actor import Actor
from hilum.core.errors import HilumError, OutOfSpace, Unavailable
from hilum.storage.unit_of_work import AuditWriter, UnitOfWork
from hilum.telemetry import observe_batch

log = logging.getLogger(__name__)

# More verbs in one transaction would only make the first of them wait for the last.
MAX_BATCH = 256


@dataclass(slots=True)
class Job:
    """A verb that waits for the next transaction."""

    verb: Callable[..., Any]
    command: Any
    actor: Actor
    # Whether a power cut may take it, since it is found again from bytes that are synced already.
    recoverable: bool = False
    future: Future[Any] = field(default_factory=Future)


class Committer:
    """Takes verbs off a queue and commits them in batches."""

    def __init__(
        self, engine: sa.Engine, clock: Callable[[], datetime], new_writer: Callable[[], AuditWriter], lock_path: str
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._new_writer = new_writer
        self._writer = new_writer()
        self._lock = os.open(lock_path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600) if lock_path else None
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._closed = False
        self._closing = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name="committer", daemon=True)
        self._thread.start()

    def put(self, job: Job) -> Future[Any]:
        """Queue a verb."""
        # A job put after the end of the queue would wait for ever.
        with self._closing:
            if self._closed:
                raise Unavailable("The store is closing.")
            self._jobs.put(job)
        return job.future

    def close(self) -> None:
        """Commit what is queued and stop."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
        self._thread.join()
        if self._lock is not None:
            os.close(self._lock)

    def _loop(self) -> None:
        with self._engine.connect() as connection:
            while True:
                batch = self._take()
                if not batch:
                    return
                self._commit(connection, batch)

    def _take(self) -> list[Job]:
        first = self._jobs.get()
        if first is None:
            return []
        batch = [first]
        while len(batch) < MAX_BATCH:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)
                break
            batch.append(job)
        return batch

    def _commit(self, connection: sa.Connection, batch: list[Job]) -> None:
        """Run a batch in one transaction; no future is resolved before the commit is on the disk.

        Of a batch of recoverable verbs alone it is only in the write-ahead log: whatever is synced next, and each
        checkpoint, syncs all that was written before.
        """
        # From here on a caller can no longer take its verb back: to resolve a cancelled future would end this thread.
        batch = [job for job in batch if job.future.set_running_or_notify_cancel()]
        outcomes: list[tuple[Job, Any, BaseException | None]] = []
        if self._lock is not None:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            _set_sync(connection, "NORMAL" if all(job.recoverable for job in batch) else "FULL")
            with connection.begin():
                uow = UnitOfWork(connection, self._clock(), self._writer)
                for job in batch:
                    uow.now, uow.asked = self._clock(), None
                    outcomes.append((job, *self._run(uow, job)))
                written = uow.flush()
            self._writer.committed += written
            observe_batch(len(batch))
        except BaseException as error:  # noqa: BLE001  # recorded and handed to every caller
            # The edge of the loop that must live: nothing of the batch was committed, and every caller is told.
            failure = _database_failure(error)
            # Whether a failed COMMIT reached the disk is not known, so its audit numbers must not be given again.
            self._writer = self._new_writer()
            log.error("a batch was not committed", extra={"verbs": len(batch), "code": failure.code})
            outcomes = [(job, None, failure) for job in batch]
        finally:
            if self._lock is not None:
                fcntl.flock(self._lock, fcntl.LOCK_UN)
        for job, result, raised in outcomes:
            if raised is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(raised)

    def _run(self, uow: UnitOfWork, job: Job) -> tuple[Any, BaseException | None]:
        try:
            return uow.attempt_decided(lambda: job.verb(uow, job.command, job.actor)), None
        except HilumError as error:
            uow.refuse(job.actor, getattr(job.verb, "__name__", "verb"), error)
            return None, error
        except sa.exc.DatabaseError:
            raise
        except Exception as error:  # noqa: BLE001  # handed to the caller
            # A defect in one verb must not take the other verbs of the batch with it.
            return None, error


def _set_sync(connection: sa.Connection, level: str) -> None:
    # Between transactions, where SQLAlchemy would begin one; SQLite takes it there alone.
    driver = connection.connection.driver_connection
    assert driver is not None
    driver.execute(f"PRAGMA synchronous={level}")


def _database_failure(error: BaseException) -> HilumError:
    text = str(getattr(error, "orig", ""))
    refusal: HilumError = (
        OutOfSpace("The database has no room left.")
        if "full" in text
        else Unavailable("The database did not take the change.")
    )
    refusal.__cause__ = error
    return refusal
