"""What a receiver left unindexed that was killed together with its indexer, and that does not come back by itself."""

from __future__ import annotations

from hilum.archive.barrier import IndexBarrier
from hilum.archive.ingest import Ingest
from hilum.archive.recovery import recover_orphans
from hilum.jobs.runner import Job

SECONDS = 5.0


def orphans(ingest: Ingest, barrier: IndexBarrier) -> Job:
    """The job that recovers it; until then readers wait, or are told that the index is behind."""
    return Job(
        "recover",
        SECONDS,
        lambda: void(recover_orphans(ingest, barrier)),
        due=lambda: bool(barrier.orphans()),
        lease="recovery",
    )


def void(result: object) -> None:
    """Take a result that nobody asks for."""
