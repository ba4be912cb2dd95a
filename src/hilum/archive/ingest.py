"""Instances on their way in, from whichever door: read the header, make the bytes durable, put them into the index.

Refused is what can't be read or lacks one of its four UIDs, and what is not what its sender announced; nothing else is
refused for its content. Whoever returns from `store_dataset` may tell the sender of success: the bytes then survive a
power cut, with all that their index row is made of. With a queue the row follows behind the answer, and readers wait
for it (`barrier`). What was cut off between the two is found again by `recovery`.
Source: PS3.4 B.2.3, PS3.18 10.5; design.md, "What always holds" 2 to 4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

import orjson

from hilum.archive.blobs import BlobStore
from hilum.archive.index_columns import (
    accession_of,
    instance_columns,
    patient_on_images,
    series_columns,
    step_id_of,
    study_columns,
)
from hilum.archive.index_queue import Entry, IndexQueue, Sender
from hilum.archive.landing import Landing, Location, record_of
from hilum.archive.metadata import (
    Header,
    Identity,
    Metadata,
    identity_of,
    metadata_of,
    metadata_of_walk,
    read_metadata,
    walk_dataset,
)
from hilum.archive.part10 import file_prefix, split
from hilum.archive.rejection_note import KEY_OBJECT_SELECTION, rejection_note_of
from hilum.archive.retrieve import location_columns
from hilum.core.actor import Actor
from hilum.core.errors import Conflict, Unavailable
from hilum.security.policy import Action, decide, require
from hilum.storage.instances import HeldInstances
from hilum.storage.store import Store
from hilum.workflow.images import Recorded, RecordInstance, record_instance
from hilum.workflow.source import Source

QUEUE_SECONDS = 20.0

Dataset: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of an instance: its UIDs and whether it is new, known already, or kept beside another."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    recorded: Recorded

    @classmethod
    def of(cls, named: Identity | Header, recorded: Recorded) -> Ingested:
        """What became of the instance of these UIDs."""
        return cls(
            named.sop_class_uid,
            named.sop_instance_uid,
            named.study_instance_uid,
            named.series_instance_uid,
            recorded,
        )


class Ingest:
    """Takes instances of many threads at once."""

    def __init__(
        self,
        store: Store,
        blobs: BlobStore,
        landing: Landing,
        quality_hides: Callable[[], bool] = lambda: True,
    ) -> None:
        """`quality_hides` tells whether what is rejected for quality is hidden."""
        self.store = store
        self.blobs = blobs
        self._quality_hides = quality_hides
        self._landing = landing
        self._queue: IndexQueue | None = None
        self._held = HeldInstances(store)

    def index_behind(self, queue: IndexQueue) -> None:
        """From now on let the index follow behind the answers, through a queue; readers are to wait at its barrier."""
        self._queue = queue

    def store_dataset(
        self,
        dataset: Dataset,
        transfer_syntax_uid: str,
        *,
        source: Source,
        actor: Actor,
        issuer: str = "",
        announced_sop: tuple[str, str] | None = None,
    ) -> Ingested:
        """Store a data set as received and return once it is durable, and indexed or handed to the indexer.

        `issuer` is of patient IDs that come without one; `announced_sop` is the SOP class and instance that the sender
        named outside the data set. Raises InvalidInput or MissingField with the keyword of what is wrong, Unsupported
        (transfer syntax), Conflict (not what was announced), Forbidden, Rejected, Unavailable, OutOfSpace.
        """
        require(actor, Action.STORE_IMAGES)
        walk = walk_dataset(dataset, transfer_syntax_uid)
        identity = identity_of(walk.attributes)
        _check_announced(identity, announced_sop)
        sender = Sender(source, actor, issuer, decide(actor, Action.REJECT_IMAGES).allowed)
        digest = hashlib.sha256(dataset).digest()
        held = self._held.digests(identity.sop_instance_uid)
        if digest.hex() in held:
            metadata = metadata_of_walk(walk, transfer_syntax_uid)
            return self._record(metadata, self._command(metadata, digest.hex(), sender), actor)
        received_at = self.store.clock()
        location = self._land(dataset, identity, transfer_syntax_uid, digest, sender, received_at)
        if self._queue is None:
            metadata = metadata_of_walk(walk, transfer_syntax_uid)
            command = self._command(metadata, digest.hex(), sender, location, received_at)
            return self._record(metadata, command, actor, recoverable=True)
        written = orjson.dumps(walk.attributes)
        entry = Entry(
            sender, written, walk.character_set, transfer_syntax_uid, walk.pixels, location, digest.hex(), received_at
        )
        if not held and identity.sop_class_uid != KEY_OBJECT_SELECTION:
            self._queue.put(entry)
            return Ingested.of(identity, Recorded.STORED)
        # What may be refused, or changes how others are seen, is known before the answer, after all that came before.
        if not self._queue.wait(QUEUE_SECONDS):
            raise Unavailable("The index does not keep up with what arrives.")
        return self._record(
            metadata_of_walk(walk, transfer_syntax_uid), self.command_of(entry), actor, recoverable=True
        )

    def store_file(self, content: Dataset, *, source: Source, actor: Actor, issuer: str = "") -> Ingested:
        """Store a Part 10 file: its data set as received, group 0002 written anew. Raises as `store_dataset`.

        Files without a preamble or without group 0002 are taken too. What group 0002 says of SOP class and instance is
        not held against the data set: tools that change the one often forget the other.
        """
        part10 = split(content)
        with memoryview(content) as whole, whole[part10.dataset_offset :] as dataset:
            return self.store_dataset(dataset, part10.transfer_syntax_uid, source=source, actor=actor, issuer=issuer)

    def holds(self, sop_instance_uid: str, digest: str) -> bool:
        """Tell whether the index holds exactly these bytes under this UID; `digest` is hexadecimal."""
        return digest in self._held.digests(sop_instance_uid)

    def command_of(self, entry: Entry) -> RecordInstance:
        """What the index is told of an instance that has landed."""
        metadata = metadata_of(entry.attributes, entry.character_set, entry.pixels, entry.transfer_syntax_uid)
        return self._command(metadata, entry.digest, entry.sender, entry.location, entry.received_at)

    def index_landed(
        self, dataset: Dataset, location: Location, digest: str, trailer: dict[str, Any], actor: Actor
    ) -> Ingested:
        """Put an instance into the index whose bytes are durable already, by what its receiver noted with them."""
        metadata = read_metadata(dataset, str(trailer["transfer_syntax_uid"]))
        source = Source(str(trailer["standard"]), str(trailer["source"]))
        sender = Sender(source, actor, str(trailer["issuer"]), trailer.get("rejects") is True)
        received_at = datetime.fromisoformat(str(trailer["received_at"]))
        command = self._command(metadata, digest, sender, location, received_at)
        return self._record(metadata, command, actor, recoverable=True)

    def _land(
        self,
        dataset: Dataset,
        identity: Identity,
        transfer_syntax_uid: str,
        digest: bytes,
        sender: Sender,
        received_at: datetime,
    ) -> Location:
        source = sender.source
        prefix = file_prefix(
            identity.sop_class_uid, identity.sop_instance_uid, transfer_syntax_uid, source.peer or None
        )
        record = record_of(
            prefix,
            dataset,
            received_at=received_at,
            source=source.peer,
            door=sender.actor.door.value,
            digest=digest,
            standard=source.standard,
            issuer=sender.issuer,
            rejects=sender.rejects,
            sop_instance_uid=identity.sop_instance_uid,
            transfer_syntax_uid=transfer_syntax_uid,
        )
        return self._landing.append(record)

    def _command(
        self,
        metadata: Metadata,
        digest: str,
        sender: Sender,
        location: Location | None = None,
        received_at: datetime | None = None,
    ) -> RecordInstance:
        """The command of the verb; without a location the instance is known, of which the verb only makes a note."""
        header = metadata.header
        instance = instance_columns(metadata, digest, sender.source.peer)
        if location is not None:
            instance |= {**location_columns(location), "received_at": received_at}
        return RecordInstance(
            study_instance_uid=header.study_instance_uid,
            patient=patient_on_images(header, sender.issuer),
            accession_number=accession_of(header),
            study=study_columns(header, metadata.attributes),
            series=series_columns(header, metadata.attributes),
            instance=instance,
            source=sender.source,
            performed_uid=next(iter(header.performed_procedure_steps), ""),
            step_id=step_id_of(header),
            note=rejection_note_of(metadata, entitled=sender.rejects, quality_hides=self._quality_hides),
        )

    def _record(
        self, metadata: Metadata, command: RecordInstance, actor: Actor, *, recoverable: bool = False
    ) -> Ingested:
        """Run the verb; `recoverable` where the bytes are synced with all that the row is made of."""
        try:
            recorded = self.store.run(record_instance, command, actor, recoverable=recoverable)
        except Conflict as error:
            # Two senders met on one study too often in a row: nothing is wrong with the instance itself.
            raise Unavailable("The index is busy with this study.") from error
        return Ingested.of(metadata.header, recorded)


def _check_announced(identity: Identity, announced: tuple[str, str] | None) -> None:
    if announced is None:
        return
    if announced[0] != identity.sop_class_uid:
        raise Conflict("The data set is of another SOP class than announced.", field="SOPClassUID")
    if announced[1] != identity.sop_instance_uid:
        raise Conflict("The data set is another SOP instance than announced.", field="SOPInstanceUID")
