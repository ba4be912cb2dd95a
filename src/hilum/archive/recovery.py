"""The index brought in line with the bytes: after a crash, and as a whole by `hilum reindex`.

A process may die between the landing of an instance and its index row. `recover` runs at each start over the segments
since its last checkpoint; segments that a living process appends to are left to that process.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import orjson

from hilum.archive.barrier import IndexBarrier
from hilum.archive.blobs import BlobStore
from hilum.archive.file_blobs import FileBlobs
from hilum.archive.ingest import Ingest
from hilum.archive.landing import Landed, Location, Torn, in_use, landed_segments, reclaim, scan
from hilum.archive.retrieve import open_dataset
from hilum.archive.settled import settled_instances, settled_objects
from hilum.core.actor import system_actor
from hilum.core.errors import HilumError, NotFound, Rejected, Unavailable
from hilum.storage.deletions import was_deleted
from hilum.workflow.images import Recorded
from hilum.workflow.quarantine import Quarantine, put_in_quarantine

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoints/landing.json"
# No store takes longer from landing to index: doors, object store and database give up before. Segments younger than
# this may still have such stores in another process, so the checkpoint stays behind them.
SETTLED_SECONDS = 900.0
RECOVERY = system_actor("recovery")

Progress = Callable[["Recovery"], None]


@dataclass(slots=True)
class Recovery:
    """What a pass over the bytes found: records in all, those now in the index that were not, and what is unusable."""

    segments: int = 0
    instances: int = 0
    indexed: int = 0
    torn: int = 0
    refused: int = 0


def recover(ingest: Ingest, *, now: Callable[[], float] = time.time, busy: bool = False) -> Recovery:
    """Index what landed since the last checkpoint and the index lacks; call it before a door opens.

    Room that dead processes had allocated in a directory is given back. With `busy` the segments that living processes
    append to are looked through, too: an indexer that takes the place of another does so.

    Raises Unavailable when database or store do not answer.
    """
    blobs = ingest.blobs
    if isinstance(blobs, FileBlobs):
        reclaim(blobs)
    found = Recovery()
    checkpoint = after = _checkpoint(blobs)
    advancing = True
    for key in _segments(blobs, after):
        if _is_busy(blobs, key):
            advancing = False
            if not busy:
                continue
        # What a living process is appending at this moment looks torn.
        _index_segment(ingest, key, found, lists_torn=not _is_busy(blobs, key))
        advancing = advancing and _begun_at(key) < now() - SETTLED_SECONDS
        if advancing:
            checkpoint = key
    if checkpoint != after:
        # What the checkpoint passes is never looked at again, so its rows may not be such as a power cut can take.
        ingest.store.make_durable(RECOVERY)
        blobs.put(CHECKPOINT, orjson.dumps({"after": checkpoint}))
    if found.indexed or found.refused:
        log.warning("instances recovered", extra={"count": found.indexed, "outcome": "recovered"})
    return found


def recover_orphans(ingest: Ingest, barrier: IndexBarrier) -> Recovery:
    """Recover what receivers left that died with their indexers, and let readers go on that wait for them."""
    left = barrier.orphans()
    found = recover(ingest)
    for path in left:
        path.unlink(missing_ok=True)
    return found


def reindex(ingest: Ingest, progress: Progress = lambda recovery: None) -> Recovery:
    """Go over the bytes of the whole archive and index what the index lacks; `progress` hears of each segment.

    The archive may be in use meanwhile. Raises Unavailable when database or store do not answer.
    """
    found = Recovery()
    for key in _segments(ingest.blobs, ""):
        _index_segment(ingest, key, found, lists_torn=not _is_busy(ingest.blobs, key))
        progress(found)
    for key in settled_objects(ingest.blobs):
        _index_records(ingest, settled_instances(ingest.blobs, key), found, lists_torn=True)
        progress(found)
    return found


def passed_segments(blobs: BlobStore) -> list[str]:
    """The segments that recovery has passed for good: all that is in them came into the index."""
    checkpoint = _checkpoint(blobs)
    return [key for key in _segments(blobs, "") if key <= checkpoint]


def is_accounted_for(ingest: Ingest, key: str) -> bool:
    """Whether each record of a segment is in the index, wherever its bytes lie now, or was deleted by a person."""
    for record in scan(ingest.blobs, key):
        if isinstance(record, Torn):
            return False
        uid = str(record.trailer.get("sop_instance_uid", ""))
        if not ingest.holds(uid, record.digest) and not _was_deleted(ingest, record):
            return False
    return True


def _segments(blobs: BlobStore, after: str) -> Iterator[str]:
    for segment in landed_segments(blobs, after):
        if segment.key.endswith(".seg"):
            yield segment.key


def _index_segment(ingest: Ingest, key: str, found: Recovery, *, lists_torn: bool) -> None:
    _index_records(ingest, scan(ingest.blobs, key), found, lists_torn=lists_torn)


def _index_records(ingest: Ingest, records: Iterable[Landed | Torn], found: Recovery, *, lists_torn: bool) -> None:
    found.segments += 1
    try:
        for record in records:
            if isinstance(record, Torn):
                found.torn += 1
                if lists_torn:
                    torn = Quarantine("torn", record.reason, record.key, record.offset)
                    ingest.store.run(put_in_quarantine, torn, RECOVERY)
            else:
                found.instances += 1
                _index(ingest, record, found)
    except NotFound:
        return  # reclaimed meanwhile: it held nothing


def _index(ingest: Ingest, record: Landed, found: Recovery) -> None:
    if ingest.holds(str(record.trailer.get("sop_instance_uid", "")), record.digest) or _was_deleted(ingest, record):
        return
    try:
        with open_dataset(ingest.blobs, record.location) as dataset:
            outcome = ingest.index_landed(dataset, record.location, record.digest, record.trailer, RECOVERY)
    except Unavailable:
        raise
    except (HilumError, KeyError, ValueError) as error:
        # One record that can't be understood must not keep the others, and the door, closed.
        found.refused += 1
        said = (str(record.trailer.get(name, "")) for name in ("source", "received_at"))
        report_refused(ingest, record.location, error, *said)
        return
    found.indexed += outcome.recorded is not Recorded.KNOWN


def report_refused(ingest: Ingest, location: Location, error: Exception, peer: str = "", received_at: str = "") -> None:
    """Say and list that an instance that has landed can't be put into the index."""
    code = error.code if isinstance(error, HilumError) else type(error).__name__
    if isinstance(error, Rejected):
        return  # sent again after its rejection: that it is left out is what was wanted
    refused = Quarantine("refused", code, location.key, location.offset, peer, received_at)
    ingest.store.run(put_in_quarantine, refused, RECOVERY)
    log.error("a landed instance was not indexed", extra={"segment": location.key, "code": code})


def _was_deleted(ingest: Ingest, record: Landed) -> bool:
    """Whether a person deleted the instance after it had come: its bytes may outlast that in a restored backup."""
    uid, received = str(record.trailer.get("sop_instance_uid", "")), str(record.trailer.get("received_at", ""))
    try:
        received_at = datetime.fromisoformat(received)
    except ValueError:
        return False
    with ingest.store.read() as connection:
        return was_deleted(connection, uid, record.digest, received_at)


def _is_busy(blobs: BlobStore, key: str) -> bool:
    """Whether a living process appends to the segment; a segment in a bucket is whole once it is there."""
    try:
        return isinstance(blobs, FileBlobs) and in_use(blobs, key)
    except NotFound:
        return False


def _begun_at(key: str) -> float:
    """When a segment was begun, from its name (records.new_segment_key)."""
    milliseconds, _, _ = key.rpartition("/")[2].partition("-")
    return int(milliseconds) / 1000 if milliseconds.isdigit() else 0.0


def _checkpoint(blobs: BlobStore) -> str:
    try:
        return str(orjson.loads(blobs.get(CHECKPOINT))["after"])
    except NotFound:
        return ""
    except (orjson.JSONDecodeError, KeyError, TypeError):
        log.error("the checkpoint of the landing is unreadable", extra={"state": "ignored"})
        return ""
