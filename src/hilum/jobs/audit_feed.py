"""The audit feed: what was sealed goes to the collector, in the order of the seals, each row at least once.

The position is a place in the chain of seals and moves only after the collector has a batch, so that what is sealed
while the collector is down, or when this process is killed, is sent when both are there again.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence

from hilum.core.actor import system_actor
from hilum.core.errors import HilumError
from hilum.core.identifiers import new_id
from hilum.delivery.senders.syslog import send_batch
from hilum.jobs.runner import Job
from hilum.security.audit_message import AuditSource, audit_message
from hilum.security.seal import Seal
from hilum.settings import Configuration, Settings
from hilum.storage.audit_position import NotePosition, Position, note_position, position_of, seal_after
from hilum.storage.audit_records import AuditRecord, names_of, rows_of_ranges
from hilum.storage.leases import TakeLease, give_back, take_lease
from hilum.storage.store import Store

ACTOR = system_actor("audit-feed")
COLLECTOR = "syslog"
EACH_SECONDS = 1.0
ROWS_AT_ONCE = 500
# After a failure the next try waits, each time twice as long.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
# Longer than a batch takes, as each batch renews it.
LEASE_SECONDS = 30.0


class AuditFeed:
    """Sends the trail of one database to the collector of one home."""

    def __init__(
        self, store: Store, configuration: Configuration, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._configuration = configuration
        self._monotonic = monotonic
        self._not_before = 0.0
        self._pause = FIRST_PAUSE
        self._holder = new_id()

    def job(self) -> Job:
        """Make the job; one process at a time does its work, under a lease of its own."""
        return Job("audit-feed", EACH_SECONDS, self.run, due=self.due, last=self.last)

    def last(self) -> None:
        """Let another process go on."""
        self._store.run(give_back, TakeLease("audit-feed", self._holder, 0), ACTOR)

    def due(self) -> bool:
        """Tell whether there is a collector, and something under a seal that it has not got."""
        if not self._configuration.refresh().audit.syslog or self._monotonic() < self._not_before:
            return False
        with self._store.read() as connection:
            return seal_after(connection, position_of(connection, COLLECTOR).seal) is not None

    def run(self) -> None:
        """Send all that is sealed, batch by batch. Raises Unavailable where the collector does not take it."""
        try:
            while self._send_next():
                pass
        except HilumError:
            self._not_before = self._monotonic() + self._pause
            self._pause = min(LONGEST_PAUSE, 2 * self._pause)
            raise
        self._pause = FIRST_PAUSE

    def _send_next(self) -> bool:
        """Send the next batch; tell whether there was one."""
        settings = self._configuration.refresh()
        lease = TakeLease("audit-feed", self._holder, LEASE_SECONDS)
        if not settings.audit.syslog or not self._store.run(take_lease, lease, ACTOR):
            return False
        with self._store.read() as connection:
            position = position_of(connection, COLLECTOR)
            body = seal_after(connection, position.seal)
            if body is None:
                return False
            seal = Seal.from_dict(body)
            ranges = [(writer, sealed.first, sealed.last) for writer, sealed in seal.ranges.items()]
            records = rows_of_ranges(connection, ranges)
            batch = records[position.rows : position.rows + ROWS_AT_ONCE]
            names = names_of(connection, batch)
        source = source_of(settings)
        messages = [audit_message(record, names[record.id], source) for record in batch]
        if messages:
            send_batch(settings.audit, settings.home, messages)
        self._store.run(note_position, NotePosition(COLLECTOR, _after(position, seal, records, batch)), ACTOR)
        return True


def source_of(settings: Settings) -> AuditSource:
    """Return under which name this Hilum reports."""
    host = socket.gethostname()
    return AuditSource(settings.audit.source or f"hilum@{host}", settings.facility.name, host, os.getpid())


def _after(position: Position, seal: Seal, records: Sequence[AuditRecord], batch: Sequence[AuditRecord]) -> Position:
    done = position.rows + len(batch)
    return Position(seal.number) if done >= len(records) else Position(position.seal, done)
