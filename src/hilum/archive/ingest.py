"""Instances on their way in, from whichever door: read the header, make the bytes durable, put them into the index.

Refused is what can't be read or lacks one of its four UIDs, and what is not what its sender announced; nothing else is
refused for its content. Whoever returns from `store_dataset` may tell the sender of success: the bytes then survive a
power cut, with all that their index row is made of. With a queue the row follows behind the answer, and readers wait
for it (`barrier`). What was cut off between the two is found again by `recovery`.
Source: PS3.4 B.2.3, PS3.18 10.5; design.md, "What always holds" 2 to 4.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

import orjson

from hilum.archive.admission import Admission
from hilum.archive.blobs import BlobStore
from hilum.archive.index_columns import (
    accession_of,
    instance_columns,
    patient_on_images,
    series_columns,
    step_id_of,
    study_columns,
)
from hilum.archive.index_queue import Entry, Queue, Sender
from hilum.archive.landing import Landing, Location, Record, record_of
from hilum.archive.metadata import (
    Header,
    Identity,
    Metadata,
    header_of,
    identity_of,
    metadata_of,
    read_metadata,
    walk_dataset,
)
from hilum.archive.part10 import file_prefix, split
from hilum.archive.precedent import Precedent
from hilum.archive.records import digest_of
from hilum.archive.rejection_note import KEY_OBJECT_SELECTION, rejection_note_of
from hilum.archive.retrieve import location_columns
from hilum.archive.walk import Attributes, PixelData
from hilum.core.actor import Actor
from hilum.core.errors import Conflict, HilumError, Unavailable
from hilum.security.policy import Action, decide, require
from hilum.storage.instances import HeldInstances
from hilum.storage.store import Store
from hilum.workflow.image_batches import RecordInstances, record_instances
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


@dataclass(frozen=True, slots=True)
class Arrived:
    """A data set whose header was read up to its pixel data; `digest` is the SHA-256 of all of it."""

    dataset: Dataset
    transfer_syntax_uid: str
    attributes: Attributes
    character_set: str
    pixels: PixelData | None
    identity: Identity
    digest: bytes


class _Thread(threading.local):
    """What each thread read before: an association has a thread, and sends series."""

    def __init__(self) -> None:
        self.precedent = Precedent()


class Ingest:
    """Takes instances of many threads at once."""

    def __init__(
        self,
        store: Store,
        blobs: BlobStore,
        landing: Landing,
        quality_hides: Callable[[], bool] = lambda: True,
        admission: Admission | None = None,
    ) -> None:
        """`quality_hides` tells whether what is rejected for quality is hidden, `admission` what is let in."""
        self.store = store
        self.blobs = blobs
        self._quality_hides = quality_hides
        self._admission = admission
        self._landing = landing
        self._queue: Queue | None = None
        self._held = HeldInstances(store)
        self._thread = _Thread()

    def index_behind(self, queue: Queue) -> None:
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
        digest: bytes | None = None,
    ) -> Ingested:
        """Store a data set as received and return once it is durable, and indexed or handed to the indexer.

        `issuer` is of patient IDs that come without one; `announced_sop` is the SOP class and instance that the sender
        named outside the data set; `digest` its SHA-256 where that is known. Raises InvalidInput or MissingField with
        the keyword of what is wrong, Unsupported (transfer syntax), Conflict (not what was announced), Forbidden,
        DroppedByRule, Rejected, Unavailable, OutOfSpace.
        """
        require(actor, Action.STORE_IMAGES)
        sender = Sender(source, actor, issuer, decide(actor, Action.REJECT_IMAGES).allowed)
        arrived = _read(dataset, transfer_syntax_uid, self._thread.precedent, digest)
        _check_announced(arrived.identity, announced_sop)
        self._admit(arrived, sender)
        held = self._held.digests(arrived.identity.sop_instance_uid)
        if arrived.digest.hex() in held:
            return self._record(arrived.identity, self._command(arrived, sender), actor)
        received_at = self.store.clock()
        location = self._landing.append(_record_of(arrived, sender, received_at))
        if self._queue is not None:
            # What may be refused, or changes how others are seen, is known before the answer, after all before it.
            if not held and _is_indexed_behind(arrived):
                self._queue.put(_entry(arrived, sender, location, received_at))
                return Ingested.of(arrived.identity, Recorded.STORED)
            if not self._queue.wait(QUEUE_SECONDS):
                raise Unavailable("The index does not keep up with what arrives.")
        command = self._command(arrived, sender, location, received_at)
        return self._record(arrived.identity, command, actor, recoverable=True)

    def store_files(
        self,
        contents: Sequence[Dataset],
        *,
        source: Source,
        actor: Actor,
        issuer: str = "",
        study_instance_uid: str = "",
    ) -> list[Ingested | HilumError]:
        """Store Part 10 files with one sync and one transaction for all; of each say what became of it.

        Where `study_instance_uid` is given the instances of another study are refused. One that is refused does not
        touch the others. Raises Forbidden.
        """
        require(actor, Action.STORE_IMAGES)
        sender = Sender(source, actor, issuer, decide(actor, Action.REJECT_IMAGES).allowed)
        outcomes: dict[int, Ingested | HilumError] = {}
        fresh: dict[int, Arrived] = {}
        seen: set[str] = set()
        singly: list[int] = []
        precedent = self._thread.precedent
        for number, content in enumerate(contents):
            try:
                arrived = _read_file(content, precedent)
                if study_instance_uid not in ("", arrived.identity.study_instance_uid):
                    message = "The instance is of another study than the request names."
                    raise Conflict(message, field="StudyInstanceUID")
                self._admit(arrived, sender)
                uid = arrived.identity.sop_instance_uid
                if uid in seen or self._held.digests(uid):
                    singly.append(number)
                else:
                    seen.add(uid)
                    fresh[number] = arrived
            except HilumError as error:
                outcomes[number] = _alone(error)
        outcomes |= zip(fresh, self._store_fresh(list(fresh.values()), sender), strict=True)
        for number in singly:
            try:
                outcomes[number] = self.store_file(contents[number], source=source, actor=actor, issuer=issuer)
            except HilumError as error:
                outcomes[number] = _alone(error)
        return [outcomes[number] for number in range(len(contents))]

    def _store_fresh(self, arrived: list[Arrived], sender: Sender) -> list[Ingested | HilumError]:
        """Store instances of different UIDs under which nothing is held."""
        if not arrived:
            return []
        received_at = self.store.clock()
        try:
            locations = self._landing.append_all([_record_of(each, sender, received_at) for each in arrived])
        except HilumError as error:
            return [error] * len(arrived)
        if self._queue is not None:
            if all(map(_is_indexed_behind, arrived)):
                queue = self._queue
                return [
                    self._hand_on(queue, *each, sender, received_at) for each in zip(arrived, locations, strict=True)
                ]
            if not self._queue.wait(QUEUE_SECONDS):
                return [Unavailable("The index does not keep up with what arrives.")] * len(arrived)
        commands = [
            self._command(each, sender, location, received_at)
            for each, location in zip(arrived, locations, strict=True)
        ]
        try:
            together = RecordInstances(commands)
            recorded = self.store.run(record_instances, together, sender.actor, recoverable=True)
            return [Ingested.of(each.identity, what) for each, what in zip(arrived, recorded, strict=True)]
        except HilumError:
            # One of them is refused, or two senders met: each for itself says so, and the others are not to suffer.
            outcomes: list[Ingested | HilumError] = []
            for each, command in zip(arrived, commands, strict=True):
                try:
                    outcomes.append(self._record(each.identity, command, sender.actor, recoverable=True))
                except HilumError as error:
                    outcomes.append(_alone(error))
            return outcomes

    def _hand_on(
        self, queue: Queue, arrived: Arrived, location: Location, sender: Sender, received_at: datetime
    ) -> Ingested | HilumError:
        try:
            queue.put(_entry(arrived, sender, location, received_at))
        except Unavailable as error:
            return error
        return Ingested.of(arrived.identity, Recorded.STORED)

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
        return self._command_of(metadata, entry.digest, entry.sender, entry.location, entry.received_at)

    def index_landed(
        self, dataset: Dataset, location: Location, digest: str, trailer: dict[str, Any], actor: Actor
    ) -> Ingested:
        """Put an instance into the index whose bytes are durable already, by what its receiver noted with them."""
        metadata = read_metadata(dataset, str(trailer["transfer_syntax_uid"]))
        source = Source(str(trailer["standard"]), str(trailer["source"]))
        sender = Sender(source, actor, str(trailer["issuer"]), trailer.get("rejects") is True)
        received_at = datetime.fromisoformat(str(trailer["received_at"]))
        command = self._command_of(metadata, digest, sender, location, received_at)
        return self._record(metadata.header, command, actor, recoverable=True)

    def _admit(self, arrived: Arrived, sender: Sender) -> None:
        """Raises DroppedByRule for what the configuration turns away."""
        if self._admission is not None:
            syntax = arrived.transfer_syntax_uid
            self._admission.admit(arrived.attributes, syntax, sender.source, sender.actor)

    def _command(
        self,
        arrived: Arrived,
        sender: Sender,
        location: Location | None = None,
        received_at: datetime | None = None,
    ) -> RecordInstance:
        header = header_of(arrived.attributes, arrived.character_set)
        metadata = Metadata(header, arrived.attributes, arrived.pixels, arrived.transfer_syntax_uid)
        return self._command_of(metadata, arrived.digest.hex(), sender, location, received_at)

    def _command_of(
        self,
        metadata: Metadata,
        digest: str,
        sender: Sender,
        location: Location | None,
        received_at: datetime | None,
    ) -> RecordInstance:
        """The command of the verb; without a location the instance is known, of which the verb only makes a note."""
        header, admission, source = metadata.header, self._admission, sender.source
        instance = instance_columns(metadata, digest, source.peer)
        if location is not None:
            instance |= {**location_columns(location), "received_at": received_at}
        return RecordInstance(
            study_instance_uid=header.study_instance_uid,
            patient=patient_on_images(header, sender.issuer),
            accession_number=accession_of(header),
            study=study_columns(header, metadata.attributes),
            series=series_columns(header, metadata.attributes),
            instance=instance,
            source=source,
            performed_uid=next(iter(header.performed_procedure_steps), ""),
            step_id=step_id_of(header),
            note=rejection_note_of(metadata, entitled=sender.rejects, quality_hides=self._quality_hides),
            held=admission is not None and admission.holds(metadata.attributes, metadata.transfer_syntax_uid, source),
        )

    def _record(
        self, named: Identity | Header, command: RecordInstance, actor: Actor, *, recoverable: bool = False
    ) -> Ingested:
        """Run the verb; `recoverable` where the bytes are synced with all that the row is made of."""
        try:
            recorded = self.store.run(record_instance, command, actor, recoverable=recoverable)
        except Conflict as error:
            # Two senders met on one study too often in a row: nothing is wrong with the instance itself.
            raise Unavailable("The index is busy with this study.") from error
        return Ingested.of(named, recorded)


def _is_indexed_behind(arrived: Arrived) -> bool:
    """Rejection notes change how others are seen, so their sender waits for them."""
    return arrived.identity.sop_class_uid != KEY_OBJECT_SELECTION


def _alone(error: HilumError) -> HilumError:
    """The error without the frames it came through: they hold what was unfolded, hundreds of megabytes at worst."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _read(dataset: Dataset, transfer_syntax_uid: str, precedent: Precedent, digest: bytes | None = None) -> Arrived:
    # The walk itself is let go: of a deflated data set it holds all that came out of it.
    walk = walk_dataset(dataset, transfer_syntax_uid, precedent)
    found = (walk.attributes, walk.character_set, walk.pixels)
    digest = digest or digest_of(dataset)
    return Arrived(dataset, transfer_syntax_uid, *found, identity_of(walk.attributes), digest)


def _read_file(content: Dataset, precedent: Precedent) -> Arrived:
    part10 = split(content)
    return _read(memoryview(content)[part10.dataset_offset :], part10.transfer_syntax_uid, precedent)


def _entry(arrived: Arrived, sender: Sender, location: Location, received_at: datetime) -> Entry:
    """What the indexer is told of an instance that has landed."""
    written, charset = orjson.dumps(arrived.attributes), arrived.character_set
    syntax, digest = arrived.transfer_syntax_uid, arrived.digest.hex()
    return Entry(sender, written, charset, syntax, arrived.pixels, location, digest, received_at)


def _record_of(arrived: Arrived, sender: Sender, received_at: datetime) -> Record:
    source, named, syntax = sender.source, arrived.identity, arrived.transfer_syntax_uid
    return record_of(
        file_prefix(named.sop_class_uid, named.sop_instance_uid, syntax, source.peer or None),
        arrived.dataset,
        received_at=received_at,
        source=source.peer,
        door=sender.actor.door.value,
        digest=arrived.digest,
        standard=source.standard,
        issuer=sender.issuer,
        rejects=sender.rejects,
        sop_instance_uid=named.sop_instance_uid,
        transfer_syntax_uid=syntax,
    )


def _check_announced(identity: Identity, announced: tuple[str, str] | None) -> None:
    if announced is None:
        return
    if announced[0] != identity.sop_class_uid:
        raise Conflict("The data set is of another SOP class than announced.", field="SOPClassUID")
    if announced[1] != identity.sop_instance_uid:
        raise Conflict("The data set is another SOP instance than announced.", field="SOPInstanceUID")
