"""Whether the archive still holds what it acknowledged: each instance's bytes against the digest of its index row.

Bit rot, a cut file, a lost object and a sector that can't be read are told apart; what a living deletion or a change of
place does at the same moment is not taken for damage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from hilum.archive.blobs import BlobStore
from hilum.archive.copies import drop_damaged_copies
from hilum.archive.file_blobs import FileBlobs
from hilum.archive.part10 import split
from hilum.core.actor import Actor
from hilum.core.errors import HilumError, NotFound, Unavailable
from hilum.storage.integrity import Kept, damaged, kept_after, kept_now
from hilum.storage.store import Store
from hilum.workflow.integrity import NoteDamage, note_damage


class Damage(StrEnum):
    """How the bytes of an instance differ from what was received."""

    MISSING = "missing"  # there is no such object
    TRUNCATED = "truncated"  # the object ends before the instance does
    CHANGED = "changed"  # the data set has another digest
    META_CHANGED = "meta-changed"  # the data set is whole, preamble or group 0002 before it is not
    UNREADABLE = "unreadable"  # the file system refuses to read it


@dataclass(frozen=True, slots=True)
class Looked:
    """An instance that was read in full, and what is wrong with it."""

    kept: Kept
    damage: Damage | None


def look_at(blobs: BlobStore, kept: Kept) -> Damage | None:
    """Read an instance in full and tell what is wrong with it.

    Raises Unavailable when an object store does not answer; a file that can't be read is damaged.
    """
    try:
        return _compare(blobs, kept)
    except NotFound:
        return _gone(blobs, kept)
    except Unavailable:
        if isinstance(blobs, FileBlobs):
            return Damage.UNREADABLE
        raise


def verify(store: Store, blobs: BlobStore, actor: Actor, *, after: str = "", study: str = "") -> Iterator[Looked]:
    """Look at every kept instance behind an id, of all studies or of one UID; list what is damaged, unlist what is not.

    Compressed copies that are damaged are removed, to be made again.

    The archive may be in use meanwhile. Errors as of `look_at`.
    """
    with store.read() as connection:
        known = damaged(connection)
    while True:
        with store.read() as connection:
            page = kept_after(connection, after, study)
        if not page:
            return
        for kept in page:
            looked = _look_twice(store, blobs, kept)
            if looked is not None:
                _note(store, looked, known, actor)
                yield looked
                drop_damaged_copies(store, blobs, kept.id, actor)
            after = kept.id


def _look_twice(store: Store, blobs: BlobStore, kept: Kept) -> Looked | None:
    """Look where the index says; where that changed meanwhile, once more at the new place. None: it was deleted."""
    damage = look_at(blobs, kept)
    if damage is None:
        return Looked(kept, None)
    with store.read() as connection:
        now = kept_now(connection, kept.id)
    if now is None:
        return None
    return Looked(now, damage if now == kept else look_at(blobs, now))


def _note(store: Store, looked: Looked, known: set[tuple[str, str]], actor: Actor) -> None:
    kept, is_damaged = looked.kept, looked.damage is not None
    if is_damaged != ((kept.study_id, kept.sop_instance_uid) in known):
        store.run(note_damage, NoteDamage(kept.study_id, kept.sop_instance_uid, is_damaged), actor)


def _compare(blobs: BlobStore, kept: Kept) -> Damage | None:
    prefix_length = kept.dataset_offset - kept.object_offset
    found, prefix = hashlib.sha256(), b""
    for piece in blobs.stream(kept.object_key, kept.object_offset, kept.object_length):
        missing = prefix_length - len(prefix)
        prefix += piece[:missing]
        with memoryview(piece) as view:
            found.update(view[missing:] if missing else view)
    if found.hexdigest() != kept.digest:
        return Damage.CHANGED
    return None if _is_prefix_of(prefix, kept) else Damage.META_CHANGED


def _is_prefix_of(prefix: bytes, kept: Kept) -> bool:
    """Whether preamble and group 0002 end where the data set begins and tell of this instance."""
    try:
        meta = split(prefix)
    except HilumError:
        return False
    stated = (meta.dataset_offset, meta.transfer_syntax_uid, meta.sop_instance_uid)
    return stated == (len(prefix), kept.transfer_syntax_uid, kept.sop_instance_uid)


def _gone(blobs: BlobStore, kept: Kept) -> Damage:
    try:
        blobs.head(kept.object_key)
    except NotFound:
        return Damage.MISSING
    return Damage.TRUNCATED


class Pace:
    """Holds work to so many bytes a second, over all of it."""

    def __init__(self, bytes_per_second: float, monotonic: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._rate = bytes_per_second
        self._monotonic = monotonic
        self._sleep = sleep
        self._begun = monotonic()
        self._done = 0

    def took(self, count: int) -> None:
        """Wait until so many more bytes are due."""
        self._done += count
        ahead = self._done / self._rate - (self._monotonic() - self._begun)
        if ahead > 0:
            self._sleep(ahead)
