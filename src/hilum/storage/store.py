"""`store.run(verb, command, actor)`: the one way in which state changes.

State, events, journal row, audit row and reply commit together, and `run` returns only when the commit is durable.
SQLite has one writer: one committer thread per process takes what is waiting, runs each verb in a savepoint of one
`BEGIN IMMEDIATE` transaction and syncs once for all of them; a file lock taken before BEGIN lets processes queue
fairly (eight processes without it: p99 105 ms, with it 7 ms). PostgreSQL commits verbs concurrently at READ
COMMITTED; a verb locks its patients in id order, and the whole transaction is run again on a serialisation failure,
a deadlock or a get-or-create race. Measured figures: docs/performance.md.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa

from hilum.core.actor import Actor
from hilum.core.errors import HilumError, InvalidInput, Unavailable
from hilum.core.identifiers import new_id
from hilum.storage.committer import Committer, Job
from hilum.storage.unit_of_work import AuditWriter, Signer, UnitOfWork

log = logging.getLogger(__name__)

Command = TypeVar("Command")
Command_contra = TypeVar("Command_contra", contravariant=True)
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)

Clock = Callable[[], datetime]

# Serialisation failure, deadlock, unique violation of a get-or-create race (PostgreSQL appendix A).
RETRIED_SQLSTATES = frozenset({"40001", "40P01", "23505"})
TRIES = 6


class Verb(Protocol[Command_contra, Result_co]):
    """A change of state: it may be run again, so it does no input or output of its own."""

    def __call__(self, uow: UnitOfWork, command: Command_contra, actor: Actor, /) -> Result_co: ...


def utc_now() -> datetime:
    """Return the present moment in UTC."""
    return datetime.now(UTC)


class Store:
    """The database of one process; safe to use from any thread."""

    def __init__(
        self,
        engine: sa.Engine,
        sign: Signer,
        *,
        lock_path: str = "",
        clock: Clock = utc_now,
        threads: int = 8,
        observe: Callable[[str, str, float], None] = lambda verb, outcome, seconds: None,
    ) -> None:
        self.engine = engine
        self.clock = clock
        self._sign = sign
        self._observe = observe
        self._local = threading.local()
        self._committer: Committer | None = None
        self._pool: ThreadPoolExecutor | None = None
        if engine.dialect.name == "sqlite":
            self._committer = Committer(engine, clock, self._new_writer, lock_path)
        else:
            self._pool = ThreadPoolExecutor(threads, thread_name_prefix="store")

    def _new_writer(self) -> AuditWriter:
        return AuditWriter(new_id(), self._sign)

    def submit(
        self, verb: Verb[Command, Result], command: Command, actor: Actor, *, recoverable: bool = False
    ) -> Future[Result]:
        """Hand a verb over; the future is resolved when it is durable, or with the `HilumError` that refused it.

        `recoverable` says that a restart does again what a power cut takes, from bytes that are synced already; SQLite
        then does not sync for this verb alone.
        """
        started = time.perf_counter()
        future: Future[Result]
        if self._committer is not None:
            future = self._committer.put(Job(verb, command, actor, recoverable))
        else:
            assert self._pool is not None
            future = self._pool.submit(self._run_postgresql, verb, command, actor)
        future.add_done_callback(lambda done: self._observe(_name(verb), _outcome(done), time.perf_counter() - started))
        return future

    def run(self, verb: Verb[Command, Result], command: Command, actor: Actor, *, recoverable: bool = False) -> Result:
        """Run a verb and return its result once it is durable; `recoverable` as for `submit`.

        Raises the `HilumError` with which the verb refused, or `Unavailable` when the database does not answer.
        """
        return self.submit(verb, command, actor, recoverable=recoverable).result()

    def make_durable(self, actor: Actor) -> None:
        """Return when everything committed so far is on the disk, also what was recoverable."""
        self.run(_make_durable, None, actor)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Give a connection for queries; it sees one consistent snapshot on SQLite and never blocks a writer."""
        try:
            with self.engine.connect() as connection:
                yield connection.execution_options(hilum_reading=True)
        except sa.exc.DataError as error:
            # PostgreSQL refuses values that SQLite takes: NUL in a text, a number beyond its column.
            raise InvalidInput("A value can't be compared with what is stored.") from error
        except sa.exc.OperationalError as error:
            raise Unavailable("The database does not answer.") from error

    def close(self) -> None:
        """Commit what was handed over, then let go of the database."""
        if self._committer is not None:
            self._committer.close()
        if self._pool is not None:
            self._pool.shutdown(wait=True)
        self.engine.dispose()

    def _run_postgresql(self, verb: Verb[Command, Result], command: Command, actor: Actor) -> Result:
        writer: AuditWriter | None = getattr(self._local, "writer", None)
        if writer is None:
            writer = self._local.writer = self._new_writer()
        for attempt in range(1, TRIES + 1):
            try:
                return self._once(verb, command, actor, writer, is_retried=attempt < TRIES)
            except sa.exc.DBAPIError as error:
                # Whether a failed COMMIT reached the disk is not known, so its audit numbers must not be given again.
                writer = self._local.writer = self._new_writer()
                state = getattr(error.orig, "sqlstate", None) or ""
                if state in RETRIED_SQLSTATES and attempt < TRIES:
                    time.sleep(secrets.randbelow(1 + 4 * attempt) / 1000)
                    continue
                log.error("database refused a verb", extra={"verb": _name(verb), "sqlstate": state})
                raise Unavailable("The database did not take the change.") from error
        raise AssertionError("unreachable")

    def _once(
        self, verb: Verb[Command, Result], command: Command, actor: Actor, writer: AuditWriter, *, is_retried: bool
    ) -> Result:
        refusal: HilumError | None = None
        result: Result | None = None
        with self.engine.connect() as connection, connection.begin():
            uow = UnitOfWork(connection, self.clock(), writer, is_retried=is_retried)
            try:
                result = uow.attempt_decided(lambda: verb(uow, command, actor))
            except HilumError as error:
                refusal = error
                uow.refuse(actor, _name(verb), error)
            written = uow.flush()
        writer.committed += written
        if refusal is not None:
            raise refusal
        return result  # type: ignore[return-value]  # a verb that was not refused has returned


def _make_durable(uow: UnitOfWork, command: None, actor: Actor) -> None:
    # A commit that writes nothing would not be synced.
    uow.next_number("durable")


def _name(verb: Callable[..., Any]) -> str:
    return getattr(verb, "__name__", type(verb).__name__)


def _outcome(future: Future[Any]) -> str:
    error = future.exception()
    if error is None:
        return "done"
    return error.code if isinstance(error, HilumError) else "failed"


def unsigned(row: Mapping[str, Any]) -> tuple[str, bytes]:
    """Sign nothing: for tools that read a database and write no audit rows of their own."""
    raise Unavailable("This process holds no sealing key, so it may not write.")
