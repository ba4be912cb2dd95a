"""The sealer: about each second it signs what the audit trail has gained, and keeps the latest seal outside too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from hilum.core.actor import Actor, system_actor
from hilum.core.identifiers import new_id
from hilum.jobs.runner import Job
from hilum.security.audit_trail import ROWS_PER_SEAL, SealRows, keep_outside, seal_rows
from hilum.security.keys import AuditKey
from hilum.security.seal import Seal
from hilum.storage.audit_log import has_unsealed, latest_seal
from hilum.storage.leases import TakeLease, give_back, take_lease
from hilum.storage.store import Store
from hilum.storage.unit_of_work import UnitOfWork

ACTOR = system_actor("sealer")
EACH_SECONDS = 1.0
LEASE = TakeLease("sealer", "", 10.0)
# How long after its time a row may be committed and still be found at once; a wider look comes every half minute.
MARGIN, WIDE_MARGIN, WIDE_EVERY = timedelta(seconds=5), timedelta(minutes=10), timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class SealNow:
    """Seal as `holder`, unless another process is the sealer."""

    holder: str
    rows: SealRows


def seal_now(uow: UnitOfWork, command: SealNow, actor: Actor) -> Seal | None:
    """Seal what is ready under the sealer's lease, which is taken in the same transaction."""
    lease = TakeLease(LEASE.name, command.holder, LEASE.seconds)
    return seal_rows(uow, command.rows, actor) if take_lease(uow, lease, actor) else None


class Sealer:
    """Seals the audit trail of one database with one home's key."""

    def __init__(self, store: Store, key: AuditKey | Callable[[], AuditKey], outside: Path) -> None:
        """Takes the database, the key (or what gives the one in force) and where the latest seal is kept outside."""
        self._store = store
        self._key = key if callable(key) else lambda: key
        self._outside = outside
        self._holder = new_id()
        self._looked_at: datetime | None = None
        self._looked_wide_at: datetime | None = None

    def job(self) -> Job:
        """Make the job; at its end the tail is sealed."""
        return Job("sealer", EACH_SECONDS, self.run, last=self.last)

    def run(self) -> None:
        """Seal what is ready, in as many seals as it takes."""
        since = self._since()
        with self._store.read() as connection:
            if not has_unsealed(connection, since):
                return
        while (seal := self._seal(since)) is not None:
            keep_outside(self._outside, seal)
            if seal.count < ROWS_PER_SEAL:
                return

    def last(self) -> None:
        """Seal the tail and let another be the sealer."""
        self._looked_wide_at = None
        self.run()
        self._store.run(give_back, TakeLease(LEASE.name, self._holder, 0), ACTOR)

    def _seal(self, since: datetime | None) -> Seal | None:
        return self._store.run(seal_now, SealNow(self._holder, SealRows(self._key(), since)), ACTOR)

    def _since(self) -> datetime | None:
        """From when on to look: all is sealed before, but for what took long to commit."""
        now = self._store.clock()
        if self._looked_at is None:
            with self._store.read() as connection:
                body = latest_seal(connection)
            since = Seal.from_dict(body).at - WIDE_MARGIN if body is not None else None
            self._looked_wide_at = now
        elif self._looked_wide_at is None or now - self._looked_wide_at > WIDE_EVERY:
            since, self._looked_wide_at = self._looked_at - WIDE_MARGIN, now
        else:
            since = self._looked_at - MARGIN
        self._looked_at = now
        return since
