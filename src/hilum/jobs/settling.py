"""Finished series are settled into plain objects, and segments that nothing lies in any more are let go.

A segment is let go an hour after it was first found empty, as a reader may still hold a place in it, and only when each
of its records is in the index elsewhere or was deleted by a person.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta

from hilum.archive.ingest import Ingest
from hilum.archive.records import FOLDER, Location
from hilum.archive.recovery import is_accounted_for, passed_segments
from hilum.archive.retrieve import location_columns
from hilum.archive.settled import MAXIMUM_BYTES, MAXIMUM_MEMBERS, Damaged, Member, settle
from hilum.core.actor import system_actor
from hilum.core.errors import NotFound
from hilum.jobs.runner import Job
from hilum.settings import Configuration
from hilum.storage.settling import Unsettled, holds_anything, unsettled_instances, unsettled_series
from hilum.workflow.settling import Move, settle_instances

log = logging.getLogger(__name__)

ACTOR = system_actor("settling")
LOOK_SECONDS = 60.0
SERIES_AT_ONCE = 50
LET_GO_AFTER = 3600.0


class Settling:
    """The job, and what it found empty."""

    def __init__(self, ingest: Ingest, configuration: Configuration) -> None:
        self._ingest = ingest
        self._configuration = configuration
        self._empty: dict[str, float] = {}
        self._damaged: set[str] = set()

    def job(self, *, seconds: float = LOOK_SECONDS) -> Job:
        """Make the job; one process does it at a time."""
        return Job("settling", seconds, self.run, due=self._is_wanted, lease="settling")

    def run(self) -> None:
        """Settle what is finished, then let go of what is empty."""
        while self.settle_some():
            pass
        self.let_go()

    def settle_some(self) -> int:
        """Settle some finished series; return how many instances have moved."""
        store, archive = self._ingest.store, self._configuration.current.archive
        before = store.clock() - timedelta(hours=archive.settle_after_hours)
        with store.read() as connection:
            found = unsettled_series(connection, FOLDER, before, SERIES_AT_ONCE + len(self._damaged))
        return sum(self._settle(series_id) for series_id in found if series_id not in self._damaged)

    def let_go(self, *, after: float = LET_GO_AFTER) -> int:
        """Delete the segments that have been empty for `after` seconds; return how many."""
        gone, blobs, now = 0, self._ingest.blobs, time.monotonic()
        for key in passed_segments(blobs):
            with self._ingest.store.read() as connection:
                if holds_anything(connection, key):
                    self._empty.pop(key, None)
                    continue
            if now - self._empty.setdefault(key, now) >= after and is_accounted_for(self._ingest, key):
                blobs.delete(key)
                self._empty.pop(key, None)
                gone += 1
        if gone:
            log.info("segments let go", extra={"count": gone})
        return gone

    def _is_wanted(self) -> bool:
        return self._configuration.refresh().archive.settle

    def _settle(self, series_id: str) -> int:
        store = self._ingest.store
        with store.read() as connection:
            rows = unsettled_instances(connection, series_id, FOLDER)
        moved = 0
        for part in parts_of(rows):
            try:
                written = settle(self._ingest.blobs, [_member(row) for row in part], store.clock())
            except (Damaged, NotFound) as error:
                # The scrub says which instance it is; the series stays where it landed, for a person to see to.
                log.error("a series can't be settled", extra={"code": error.code})
                self._damaged.add(series_id)
                return moved
            moves = [Move(row.id, row.object_key, location_columns(written.places[row.id])) for row in part]
            moved += store.run(settle_instances, moves, ACTOR)
        return moved


def parts_of(rows: Sequence[Unsettled]) -> Iterator[list[Unsettled]]:
    """Divide a series so that no object becomes larger than one that is still handy."""
    part: list[Unsettled] = []
    size = 0
    for row in rows:
        if part and (size + row.object_length > MAXIMUM_BYTES or len(part) >= MAXIMUM_MEMBERS):
            yield part
            part, size = [], 0
        part.append(row)
        size += row.object_length
    if part:
        yield part


def _member(row: Unsettled) -> Member:
    place = Location(row.object_key, row.object_offset, row.object_length, row.dataset_offset - row.object_offset)
    return Member(row.id, row.sop_instance_uid, row.digest, place)


def settling(ingest: Ingest, configuration: Configuration) -> Job:
    """Make the job that settles finished series."""
    return Settling(ingest, configuration).job()
