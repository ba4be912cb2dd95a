"""Compressed copies that rotted: removed, so that the original is served again until a new one is made."""

from __future__ import annotations

import hashlib

from hilum.archive.blobs import BlobStore
from hilum.core.actor import Actor
from hilum.core.errors import NotFound
from hilum.storage.renditions import Rendition, renditions_of
from hilum.storage.store import Store
from hilum.workflow.compression import forget_renditions


def drop_damaged_copies(store: Store, blobs: BlobStore, instance_id: str, actor: Actor) -> None:
    """Compare the copies of an instance with their digests, and remove those that differ. Errors as of the store."""
    with store.read() as connection:
        found = [
            copy for kind in (True, False) for copy in renditions_of(connection, [instance_id], lossless=kind).values()
        ]
    damaged = [copy for copy in found if not _is_whole(blobs, copy)]
    for copy in damaged:
        blobs.delete(copy.object_key or "")
    if damaged:
        store.run(forget_renditions, damaged, actor)


def _is_whole(blobs: BlobStore, copy: Rendition) -> bool:
    seen, passed = hashlib.sha256(), 0
    try:
        for piece in blobs.stream(copy.object_key or "", 0, copy.object_length):
            seen.update(memoryview(piece)[max(0, copy.dataset_offset - passed) :])
            passed += len(piece)
    except NotFound:
        return False
    return seen.hexdigest() == copy.digest
