"""What is marked for deletion is removed when its time of grace is over: first its rows, then its bytes."""

from __future__ import annotations

import logging

from hilum.archive.blobs import BlobStore
from hilum.archive.erasure import erase
from hilum.core.actor import system_actor
from hilum.jobs.runner import Job
from hilum.storage.deletions import due_deletions, erasures
from hilum.storage.store import Store
from hilum.workflow.deletion import BytesErased, FinishDeletion, bytes_erased, finish_deletion

log = logging.getLogger(__name__)

ACTOR = system_actor("deletion")
LOOK_SECONDS = 10.0


def deletions(store: Store, blobs: BlobStore, *, seconds: float = LOOK_SECONDS) -> Job:
    """Make the job; what a crash cuts off is done at the next turn."""

    def due() -> bool:
        with store.read() as connection:
            return bool(due_deletions(connection, store.clock(), 1) or erasures(connection, 1))

    def run() -> None:
        with store.read() as connection:
            marked = due_deletions(connection, store.clock())
        for deletion_id in marked:
            store.run(finish_deletion, FinishDeletion(deletion_id), ACTOR)
        with store.read() as connection:
            left = erasures(connection)
        for each in left:
            erase(blobs, each)
        if left:
            store.run(bytes_erased, BytesErased(tuple(left)), ACTOR)
            log.info("bytes of deleted instances removed", extra={"count": len(left)})

    return Job("deletion", seconds, run, due=due, lease="deletion")
