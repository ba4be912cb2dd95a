"""Instances on their way in, from whichever door: read the header, make the bytes durable, put them into the index.

Refused is what can't be read or lacks one of its four UIDs, and what is not what its sender announced; nothing else is
refused for its content. Whoever returns from `store_dataset` may tell the sender of success: bytes and index row then
survive a power cut. What was cut off between the two is found again by `recovery`.
Source: PS3.4 B.2.3, PS3.18 10.5; design.md, "What always holds" 2 to 4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from hilum.archive.blobs import BlobStore
from hilum.archive.index_columns import (
    accession_of,
    instance_columns,
    patient_on_images,
    series_columns,
    step_id_of,
    study_columns,
)
from hilum.archive.landing import Landing, Location, record_of
from hilum.archive.metadata import Metadata, read_metadata
from hilum.archive.part10 import file_prefix, split
from hilum.archive.rejection_note import rejection_note_of
from hilum.archive.retrieve import location_columns
from hilum.core.actor import Actor
from hilum.core.errors import Conflict, Unavailable
from hilum.security.policy import Action, decide, require
from hilum.storage.instances import holds_instance
from hilum.storage.store import Store
from hilum.workflow.images import Recorded, RecordInstance, record_instance
from hilum.workflow.source import Source

Dataset: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of an instance: its UIDs and whether it is new, known already, or kept beside another."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    recorded: Recorded


class Ingest:
    """Takes instances of many threads at once."""

    def __init__(
        self, store: Store, blobs: BlobStore, landing: Landing, quality_hides: Callable[[], bool] = lambda: True
    ) -> None:
        """`quality_hides` tells whether what is rejected for quality is hidden."""
        self.store = store
        self._quality_hides = quality_hides
        self.blobs = blobs
        self._landing = landing

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
        """Store a data set as received and return once it is durable and indexed.

        `issuer` is of patient IDs that come without one; `announced_sop` is the SOP class and instance that the sender
        named outside the data set. Raises InvalidInput or MissingField with the keyword of what is wrong, Unsupported
        (transfer syntax), Conflict (not what was announced), Forbidden, Unavailable, OutOfSpace.
        """
        require(actor, Action.STORE_IMAGES)
        metadata = read_metadata(dataset, transfer_syntax_uid)
        _check_announced(metadata, announced_sop)
        digest = hashlib.sha256(dataset).digest()
        rejects = decide(actor, Action.REJECT_IMAGES).allowed
        if self.holds(metadata.header.sop_instance_uid, digest.hex()):
            return self._record(metadata, digest.hex(), None, source, actor, issuer, rejects)
        received_at = self.store.clock()
        location = self._land(dataset, metadata, digest, source, actor, issuer, rejects, received_at)
        return self._record(metadata, digest.hex(), location, source, actor, issuer, rejects, received_at=received_at)

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
        with self.store.read() as connection:
            return holds_instance(connection, sop_instance_uid, digest)

    def index_landed(
        self, dataset: Dataset, location: Location, digest: str, trailer: dict[str, Any], actor: Actor
    ) -> Ingested:
        """Put an instance into the index whose bytes are durable already, by what its receiver noted with them."""
        metadata = read_metadata(dataset, str(trailer["transfer_syntax_uid"]))
        source = Source(str(trailer["standard"]), str(trailer["source"]))
        received_at = datetime.fromisoformat(str(trailer["received_at"]))
        issuer = str(trailer["issuer"])
        rejects = trailer.get("rejects") is True
        return self._record(metadata, digest, location, source, actor, issuer, rejects, received_at=received_at)

    def _land(
        self,
        dataset: Dataset,
        metadata: Metadata,
        digest: bytes,
        source: Source,
        actor: Actor,
        issuer: str,
        rejects: bool,
        received_at: datetime,
    ) -> Location:
        header = metadata.header
        prefix = file_prefix(
            header.sop_class_uid, header.sop_instance_uid, metadata.transfer_syntax_uid, source.peer or None
        )
        record = record_of(
            prefix,
            dataset,
            received_at=received_at,
            source=source.peer,
            door=actor.door.value,
            digest=digest,
            standard=source.standard,
            issuer=issuer,
            rejects=rejects,
            sop_instance_uid=header.sop_instance_uid,
            transfer_syntax_uid=metadata.transfer_syntax_uid,
        )
        return self._landing.append(record)

    def _record(
        self,
        metadata: Metadata,
        digest: str,
        location: Location | None,
        source: Source,
        actor: Actor,
        issuer: str,
        rejects: bool,
        **columns: Any,
    ) -> Ingested:
        """Run the verb; without a location the instance is known, of which the verb only makes a note."""
        header = metadata.header
        instance = {**instance_columns(metadata, digest, source.peer), **columns}
        if location is not None:
            instance |= location_columns(location)
        command = RecordInstance(
            study_instance_uid=header.study_instance_uid,
            patient=patient_on_images(header, issuer),
            accession_number=accession_of(header),
            study=study_columns(header, metadata.attributes),
            series=series_columns(header, metadata.attributes),
            instance=instance,
            source=source,
            performed_uid=next(iter(header.performed_procedure_steps), ""),
            step_id=step_id_of(header),
            note=rejection_note_of(metadata, entitled=rejects, quality_hides=self._quality_hides),
        )
        try:
            # The bytes are synced with all that the row is made of: `recovery` makes it again after a power cut.
            recorded = self.store.run(record_instance, command, actor, recoverable=location is not None)
        except Conflict as error:
            # Two senders met on one study too often in a row: nothing is wrong with the instance itself.
            raise Unavailable("The index is busy with this study.") from error
        return Ingested(
            header.sop_class_uid,
            header.sop_instance_uid,
            header.study_instance_uid,
            header.series_instance_uid,
            recorded,
        )


def _check_announced(metadata: Metadata, announced: tuple[str, str] | None) -> None:
    if announced is None:
        return
    header = metadata.header
    if announced[0] != header.sop_class_uid:
        raise Conflict("The data set is of another SOP class than announced.", field="SOPClassUID")
    if announced[1] != header.sop_instance_uid:
        raise Conflict("The data set is another SOP instance than announced.", field="SOPInstanceUID")
