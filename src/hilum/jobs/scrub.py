"""The scrub: reads the whole archive again and again, slowly, and lists what is no longer what was received.

A pass goes on where it was left, also after a restart: its place is kept beside the archive's own checkpoints.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import orjson

from hilum import telemetry
from hilum.archive.blobs import BlobStore
from hilum.archive.integrity import verify
from hilum.core.actor import system_actor
from hilum.core.errors import NotFound
from hilum.jobs.runner import LEASE_SECONDS, Job
from hilum.settings import Configuration
from hilum.storage.integrity import damaged
from hilum.storage.store import Store

log = logging.getLogger(__name__)

ACTOR = system_actor("scrub")
PLACE = "checkpoints/scrub.json"
EACH_SECONDS = 5.0
MB = 1_000_000
# The lease must not end while a slice is read.
SLICE_SECONDS = LEASE_SECONDS / 2


@dataclass(frozen=True, slots=True)
class Pass:
    """How far a pass has come; `ended_at` is set once it is through."""

    begun_at: datetime
    after: str = ""
    instances: int = 0
    damaged: int = 0
    ended_at: datetime | None = None


@dataclass(slots=True)
class Scrub:
    """Reads a slice at each turn, so that over time no more than the set rate is read."""

    store: Store
    blobs: BlobStore
    configuration: Configuration
    monotonic: Callable[[], float] = time.monotonic
    _paid_until: float = field(default=0.0, init=False)
    _known: Pass | None = field(default=None, init=False)

    def job(self) -> Job:
        """Make the job; nothing is due while the rate is 0, a pass is over or the rate is used up."""
        return Job("scrub", EACH_SECONDS, self.run, due=self.due, lease="scrub")

    def due(self) -> bool:
        """Tell whether there is something to read now."""
        archive = self.configuration.refresh().archive
        if not archive.verify_mb_per_second or self.monotonic() < self._paid_until:
            return False
        ended = self._known.ended_at if self._known is not None else None
        return ended is None or self.store.clock() - ended >= timedelta(days=archive.verify_every_days)

    def run(self) -> None:
        """Read one slice."""
        archive = self.configuration.current.archive
        self._known = found = self._place()
        if not self.due():
            return  # another process has ended the pass
        if found.ended_at is not None:
            found = Pass(self.store.clock())
        rate = archive.verify_mb_per_second * MB
        begun, size, is_through = self.monotonic(), 0, True
        for looked in verify(self.store, self.blobs, ACTOR, after=found.after):
            size += looked.kept.object_length
            found = replace(found, after=looked.kept.id, instances=found.instances + 1,
                            damaged=found.damaged + (looked.damage is not None))  # fmt: skip
            telemetry.count_verified(looked.damage.value if looked.damage else "whole")
            if size >= rate * EACH_SECONDS or self.monotonic() - begun > SLICE_SECONDS:
                is_through = False
                break
        self._paid_until = begun + size / rate
        self._end(replace(found, ended_at=self.store.clock()) if is_through else found)

    def _end(self, found: Pass) -> None:
        self._known = found
        self.blobs.put(PLACE, orjson.dumps(found))
        with self.store.read() as connection:
            telemetry.set_damaged(len(damaged(connection)))
        if found.ended_at is not None:
            telemetry.set_verified_at(found.ended_at.timestamp())
            log.info(
                "the archive was verified", extra={"count": found.instances, "outcome": f"{found.damaged} damaged"}
            )

    def _place(self) -> Pass:
        try:
            kept = orjson.loads(self.blobs.get(PLACE))
            ended = datetime.fromisoformat(kept["ended_at"]) if kept["ended_at"] else None
            return Pass(
                datetime.fromisoformat(kept["begun_at"]),
                str(kept["after"]),
                int(kept["instances"]),
                int(kept["damaged"]),
                ended,
            )
        except NotFound:
            return Pass(self.store.clock())
        except (ValueError, KeyError, TypeError):  # unreadable: begin anew
            return Pass(self.store.clock())
