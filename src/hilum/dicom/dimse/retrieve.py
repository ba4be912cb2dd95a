"""What C-MOVE and C-GET share: what an Identifier asks for, sub-operations and their counts (PS3.4 C.4.2, C.4.3).

What is withheld, kept beside another instance or out of the caller's scope is not selected, as if it were not there;
the attempt is audited. An instance goes out with the bytes it came with where the peer takes its transfer syntax and
they contradict nothing that is known (`dicom.coercing`). Else its header is rewritten, or all of it in a syntax that
the peer takes (`dicom.rewriting`); where neither is possible it counts as failed and its UID is listed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from hilum.archive.codecs import RLE_LOSSLESS
from hilum.archive.coercion import Coercion
from hilum.archive.encoders import HTJ2K_LOSSLESS, HTJ2K_RPCL, JPEG_2000_LOSSLESS, JPEG_LOSSLESS, JPEG_LS_LOSSLESS
from hilum.archive.frames import instance_opener
from hilum.archive.part10 import EXPLICIT_LITTLE
from hilum.archive.render_pool import RenderPool
from hilum.archive.retrieve import location_of_row, open_dataset
from hilum.archive.transcode import UNCOMPRESSED
from hilum.core.errors import HilumError, Unsupported
from hilum.dicom.coercing import Coercing
from hilum.dicom.copies import Copies
from hilum.dicom.dimse.dispatch import OperationCancelled, Response
from hilum.dicom.dimse.messages import CommandField, CommandSet
from hilum.dicom.dimse.status import CANCEL, PENDING, SUCCESS, UNABLE_TO_PERFORM_SUB_OPERATIONS
from hilum.dicom.encode import encode
from hilum.dicom.rewriting import Rewriting, gathered
from hilum.storage.retrieval import StoredInstance

log = logging.getLogger(__name__)

SUB_OPERATIONS_WITH_FAILURES = 0xB000
# PS3.4 B.2.3: stored, with a remark
STORE_WARNINGS = frozenset({0x0001, 0x0107, 0x0116, 0xB000, 0xB006, 0xB007})
# In this order an instance is made for who does not take it as stored: what costs least first, and never with a loss.
OFFERED = (*UNCOMPRESSED, JPEG_LS_LOSSLESS, JPEG_2000_LOSSLESS, HTJ2K_RPCL, HTJ2K_LOSSLESS, JPEG_LOSSLESS, RLE_LOSSLESS)
_LONGEST_LIST = 0xFFFE  # bytes of a UI value in explicit VR

Contexts = Mapping[tuple[str, str], int]  # (SOP class, transfer syntax) → presentation context ID
Invoke = Callable[[int, CommandSet, "bytes | memoryview | None"], CommandSet]


@dataclass
class Counts:
    """How far the sub-operations are."""

    remaining: int
    completed: int = 0
    warning: int = 0
    failed: list[str] = field(default_factory=list)

    def note(self, sop_instance_uid: str, status: int | None) -> None:
        """Count one that is over; `status` is its C-STORE status, None where it was not even sent."""
        self.remaining -= 1
        if status == SUCCESS:
            self.completed += 1
        elif status in STORE_WARNINGS:
            self.warning += 1
        else:
            self.failed.append(sop_instance_uid)

    def pending(self) -> Response:
        """Say how far it is."""
        return Response(PENDING, fields=self._fields(remaining=True))

    def cancelled(self, transfer_syntax: str) -> Response:
        """The final response to a cancel, which says what was left out."""
        return Response(CANCEL, self._list(transfer_syntax), fields=self._fields(remaining=True))

    def final(self, transfer_syntax: str) -> Response:
        """The final response when nothing remains (PS3.4 tables C.4-2 and C.4-3)."""
        status = SUCCESS
        if self.failed or self.warning:
            all_failed = not self.completed and not self.warning
            status = UNABLE_TO_PERFORM_SUB_OPERATIONS if all_failed else SUB_OPERATIONS_WITH_FAILURES
        return Response(status, self._list(transfer_syntax), fields=self._fields(remaining=False))

    def _fields(self, *, remaining: bool) -> dict[str, int]:
        counted = {
            "number_of_completed_suboperations": self.completed,
            "number_of_failed_suboperations": len(self.failed),
            "number_of_warning_suboperations": self.warning,
        }
        if remaining:
            counted["number_of_remaining_suboperations"] = self.remaining
        return {name: min(number, 0xFFFF) for name, number in counted.items()}

    def _list(self, transfer_syntax: str) -> bytes | None:
        """Failed SOP Instance UID List (0008,0058), as far as an element holds it."""
        if not self.failed:
            return None
        longest = _LONGEST_LIST if transfer_syntax == EXPLICIT_LITTLE else 1 << 22
        listed, size = [], 0
        for uid in self.failed:
            size += len(uid) + 1
            if size > longest:
                break
            listed.append(uid)
        return encode({"FailedSOPInstanceUIDList": listed}, transfer_syntax, "")


class Outgoing:
    """Gets instances ready for a peer: the bytes as received, or rewritten for those who can't read them."""

    def __init__(self, coercing: Coercing, pool: RenderPool) -> None:
        self._coercing = coercing
        self._blobs = coercing.blobs
        self._rewriting = Rewriting(coercing, instance_opener(self._blobs, cached=2), pool.render)
        self._copies = Copies(coercing.store, coercing.configuration)
        # The rendering processes are few, and what is made may lie in memory.
        self._turns = threading.Semaphore(2)

    @contextmanager
    def ready(self, row: StoredInstance, contexts: Contexts) -> Iterator[tuple[int, bytes | memoryview]]:
        """Give the context to send an instance on and its data set. Raises what says why it can't be sent."""
        coercion = self._coercing.of(row)
        kept = self._kept(row, contexts)
        if kept is None:
            with self._made(row, coercion, contexts) as made:
                yield made
        elif coercion is None:
            with open_dataset(self._blobs, location_of_row(kept)) as view:
                yield _context(kept, contexts), view
        else:
            with self._coercing.data_set(kept, self._coercing.made(kept, coercion)) as view:
                yield _context(kept, contexts), view

    def _kept(self, row: StoredInstance, contexts: Contexts) -> StoredInstance | None:
        """The instance as received or its compressed copy, whichever the peer takes."""
        if (row.sop_class_uid, row.transfer_syntax_uid) in contexts:
            return row
        copies = self._copies.of([row]).values()
        return next((copy for copy in copies if (copy.sop_class_uid, copy.transfer_syntax_uid) in contexts), None)

    @contextmanager
    def _made(
        self, row: StoredInstance, coercion: Coercion | None, contexts: Contexts
    ) -> Iterator[tuple[int, bytes | memoryview]]:
        """The instance in the first syntax of `OFFERED` that the peer takes and that it can be made in."""
        coerced = None if coercion is None else self._coercing.made(row, coercion)
        refusal = Unsupported("The peer accepts no transfer syntax for this instance.")
        for syntax in OFFERED:
            number = contexts.get((row.sop_class_uid, syntax))
            if number is None:
                continue
            with ExitStack() as stack:
                try:
                    with self._turns:
                        view = stack.enter_context(gathered(self._rewriting.of(row, syntax, coerced).pieces))
                except Unsupported as error:
                    refusal = error
                    continue
                yield number, view
                return
        raise refusal


def _context(row: StoredInstance, contexts: Contexts) -> int:
    return contexts[row.sop_class_uid, row.transfer_syntax_uid]


@dataclass(frozen=True, slots=True)
class Origin:
    """What the C-STORE requests of sub-operations say of the request they belong to."""

    priority: int
    move_originator: str | None = None
    message_id: int | None = None


def store_each(
    rows: Sequence[StoredInstance],
    counts: Counts,
    outgoing: Outgoing,
    contexts: Contexts,
    invoke: Invoke,
    origin: Origin,
) -> Iterator[Response]:
    """Send instances one after the other and yield a pending response after each; `counts` is kept up.

    Raises what `invoke` raises; an instance that can't be made ready only counts as failed.
    """
    for row in rows:
        counts.note(row.sop_instance_uid, store_one(row, outgoing, contexts, invoke, origin))
        yield counts.pending()


def store_one(
    row: StoredInstance, outgoing: Outgoing, contexts: Contexts, invoke: Invoke, origin: Origin
) -> int | None:
    """Send an instance and return the status of its C-STORE; None where it could not be made ready for this peer."""
    with ExitStack() as stack:
        try:
            context_id, data_set = stack.enter_context(outgoing.ready(row, contexts))
        except (HilumError, OSError) as error:
            code = error.code if isinstance(error, HilumError) else type(error).__name__
            log.info("an instance can't be sent", extra={"door": "dicom", "code": code})
            return None
        return invoke(context_id, _store_request(row, origin), data_set).status


def _store_request(row: StoredInstance, origin: Origin) -> CommandSet:
    return CommandSet(
        affected_sop_class_uid=row.sop_class_uid,
        affected_sop_instance_uid=row.sop_instance_uid,
        command_field=CommandField.C_STORE_RQ,
        priority=origin.priority,
        move_originator_application_entity_title=origin.move_originator,
        move_originator_message_id=origin.message_id,
    )


def to_the_end(steps: Iterator[Response], counts: Counts, transfer_syntax: str) -> Iterator[Response]:
    """Pass pending responses on, then the final one; a cancel ends with what was done until then."""
    try:
        yield from steps
    except OperationCancelled:
        yield counts.cancelled(transfer_syntax)
        return
    yield counts.final(transfer_syntax)


def priority_of(command: CommandSet) -> int:
    """The priority of a request (PS3.7 E.1); what is none is medium."""
    return command.priority if command.priority in (0, 1, 2) else 0
