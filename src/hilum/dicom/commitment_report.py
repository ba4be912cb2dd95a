"""The answer to a request for storage commitment: what is safe here, and how the peer is told (PS3.4 J.3.3).

An instance is safe when it is in the index and the object that holds its bytes is as long as the index says; both were
made durable before its C-STORE was answered. A store that doesn't answer at the moment is no failure of an instance:
the report then comes later.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hilum.archive.blobs import BlobStore
from hilum.core.actor import system_actor
from hilum.core.errors import HilumError, NotFound, Unavailable
from hilum.dicom.called import called_peer
from hilum.dicom.dimse.messages import CommandField, CommandSet
from hilum.dicom.dimse.status import SUCCESS
from hilum.dicom.encode import encode
from hilum.dicom.requestor import associate
from hilum.dicom.upper_layer.syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from hilum.dicom.upper_layer.user_information import ScpScuRoleSelection
from hilum.jobs.runner import Job
from hilum.settings import Configuration
from hilum.storage.commitments import (
    GIVEN_UP,
    CommitmentRequest,
    Reference,
    due_commitments,
    has_due_commitments,
    places_of,
)
from hilum.storage.store import Store
from hilum.workflow.commitment import NoteAttempt, note_attempt

log = logging.getLogger(__name__)

PUSH_MODEL = "1.2.840.10008.1.20.1"
PUSH_MODEL_INSTANCE = "1.2.840.10008.1.20.1.1"
ALL_SAFE, FAILURES_EXIST = 1, 2  # Event Type ID, PS3.4 table J.3-3
NO_SUCH_OBJECT_INSTANCE, CLASS_INSTANCE_CONFLICT = 0x0112, 0x0119  # Failure Reason, PS3.3 C.14.1.1
EACH_SECONDS = 1.0
ACTOR = system_actor("storage-commitment")

Send = Callable[[int, CommandSet, "bytes | memoryview | None"], CommandSet]


@dataclass(frozen=True, slots=True)
class Report:
    """What is safe and what is not, with the reason."""

    transaction_uid: str
    safe: tuple[Reference, ...]
    failed: tuple[tuple[Reference, int], ...]

    @property
    def event_type(self) -> int:
        """1 when everything is safe, else 2."""
        return FAILURES_EXIST if self.failed else ALL_SAFE

    def data_set(self, transfer_syntax: str, ae_title: str) -> bytes:
        """The Event Information of an N-EVENT-REPORT."""
        values: dict[str, Any] = {
            "TransactionUID": self.transaction_uid,
            "RetrieveAETitle": ae_title,
            "ReferencedSOPSequence": [_item(reference) for reference in self.safe],
        }
        if self.failed:
            values["FailedSOPSequence"] = [
                {**_item(reference), "FailureReason": reason} for reference, reason in self.failed
            ]
        if not self.safe:
            del values["ReferencedSOPSequence"]
        return encode(values, transfer_syntax, "")


def _item(reference: Reference) -> dict[str, str]:
    return {"ReferencedSOPClassUID": reference[0], "ReferencedSOPInstanceUID": reference[1]}


class Commitments:
    """Checks what is asked for and tells those who asked."""

    def __init__(self, store: Store, configuration: Configuration, blobs: BlobStore) -> None:
        self._store = store
        self._configuration = configuration
        self._blobs = blobs

    def job(self) -> Job:
        """Make the job that calls those who are to be told; several processes take turns."""
        return Job("storage-commitment", EACH_SECONDS, self.run, due=self._due, lease="storage-commitment")

    def run(self) -> None:
        """Try each request that is due once."""
        with self._store.read() as connection:
            due = due_commitments(connection, self._store.clock())
        for request in due:
            self.note(request.id, told=self._tell_by_calling(request))

    def _due(self) -> bool:
        with self._store.read() as connection:
            return has_due_commitments(connection, self._store.clock())

    def report_of(self, request: CommitmentRequest) -> Report:
        """Check a request. Raises Unavailable when index or archive do not answer at the moment."""
        with self._store.read() as connection:
            uids = [sop_instance for _, sop_instance in request.referenced]
            places = {place.sop_instance_uid: place for place in places_of(connection, uids)}
        sizes: dict[str, int] = {}
        safe: list[Reference] = []
        failed: list[tuple[Reference, int]] = []
        for reference in request.referenced:
            place = places.get(reference[1])
            if place is None or self._size(place.object_key, sizes) < place.object_end:
                failed.append((reference, NO_SUCH_OBJECT_INSTANCE))
            elif place.sop_class_uid != reference[0]:
                failed.append((reference, CLASS_INSTANCE_CONFLICT))
            else:
                safe.append(reference)
        return Report(request.transaction_uid, tuple(safe), tuple(failed))

    def _size(self, key: str, sizes: dict[str, int]) -> int:
        if key not in sizes:
            try:
                sizes[key] = self._blobs.head(key).size
            except NotFound:
                sizes[key] = -1
        return sizes[key]

    def tell(self, request: CommitmentRequest, context_id: int, transfer_syntax: str, send: Send) -> bool:
        """Send the report of a request on a context and tell whether the peer took it."""
        report = self.report_of(request)
        command = CommandSet(
            affected_sop_class_uid=PUSH_MODEL,
            affected_sop_instance_uid=PUSH_MODEL_INSTANCE,
            command_field=CommandField.N_EVENT_REPORT_RQ,
            event_type_id=report.event_type,
        )
        data_set = report.data_set(transfer_syntax, self._configuration.current.dicom.ae_title)
        return send(context_id, command, data_set).status == SUCCESS

    def note(self, request_id: str, *, told: bool) -> None:
        """Record how an attempt went."""
        if self._store.run(note_attempt, NoteAttempt(request_id, told), ACTOR) == GIVEN_UP:
            log.warning("a peer was not told of its storage commitment", extra={"code": "given-up"})

    def _tell_by_calling(self, request: CommitmentRequest) -> bool:
        """Call the peer in the role of the SCP (PS3.7 D.3.3.4)."""
        settings = self._configuration.refresh().dicom
        peer = settings.peer_named(request.peer)
        if peer is None or not peer.address:
            return False
        wishes = [(PUSH_MODEL, EXPLICIT_VR_LITTLE_ENDIAN), (PUSH_MODEL, IMPLICIT_VR_LITTLE_ENDIAN)]
        role = ScpScuRoleSelection(PUSH_MODEL, scu_role=False, scp_role=True)
        try:
            called = called_peer(peer, settings, self._configuration.home)
            with associate(called, wishes, [role]) as requestor:
                (_, transfer_syntax), context_id = next(iter(requestor.contexts.items()))
                return self.tell(request, context_id, transfer_syntax, requestor.invoke)
        except HilumError as error:
            write = log.info if isinstance(error, Unavailable) else log.warning
            write("a peer cannot be told now", extra={"ae_title": request.peer, "code": error.code})
            return False
