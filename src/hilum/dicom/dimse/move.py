"""C-MOVE in Patient Root and Study Root (PS3.4 C.4.2): the instances go to a third party, by its AE title.

Only configured peers may ask, and only a configured peer with an address is a destination (A801H for any other). The
destination is called once for all instances, more often only where they are of more SOP classes than one association
negotiates; what it can't be given is counted as failed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from hilum.archive.transcode import UNCOMPRESSED
from hilum.core.errors import NotFound, Unavailable
from hilum.dicom.called import called_peer
from hilum.dicom.callers import Caller, caller_of
from hilum.dicom.dimse.dispatch import AssociationContext, Request, Response, Service
from hilum.dicom.dimse.extended import agreed, retrieve_abilities
from hilum.dicom.dimse.messages import CommandField
from hilum.dicom.dimse.retrieve import (
    OFFERED,
    Counts,
    Origin,
    Outgoing,
    priority_of,
    store_each,
    to_the_end,
)
from hilum.dicom.dimse.retrieve_keys import PATIENT_ROOT_MOVE, STUDY_ROOT_MOVE, Opened, Selection, wanted_of
from hilum.dicom.dimse.status import ServiceClass
from hilum.dicom.identifier import MAXIMUM_IDENTIFIER, read_keys
from hilum.dicom.requestor import Called, associate
from hilum.dicom.upper_layer.negotiation import MAXIMUM_CONTEXTS, Offer
from hilum.dicom.upper_layer.syntaxes import only
from hilum.security.audit import Read, ReadLog
from hilum.security.policy import Action
from hilum.settings import Configuration, DicomSettings
from hilum.storage.retrieval import StoredInstance
from hilum.storage.shown import ShownStudy
from hilum.storage.store import Store
from hilum.workflow.reading import MoveImages, OpenImages, move_images, refuse_move
from hilum.workflow.source import Source

log = logging.getLogger(__name__)

Wish = tuple[str, str]  # SOP class, transfer syntax


class ImageMove:
    """Sends images to where the caller wants them."""

    def __init__(self, store: Store, configuration: Configuration, reads: ReadLog, outgoing: Outgoing) -> None:
        self._store = store
        self._configuration = configuration
        self._reads = reads
        self._outgoing = outgoing
        self._selection = Selection(store, reads)

    def service(self) -> Service:
        """Return the service to be offered."""
        offer = Offer(only(PATIENT_ROOT_MOVE, STUDY_ROOT_MOVE), extended_negotiation=retrieve_abilities)
        return Service("move", ServiceClass.RETRIEVE, offer, {CommandField.C_MOVE_RQ: self.move}, MAXIMUM_IDENTIFIER)

    def move(self, context: AssociationContext, request: Request) -> Iterator[Response]:
        """Send each instance to the destination and yield a pending response after it."""
        settings = self._configuration.refresh()
        caller = caller_of(context, settings)
        if settings.dicom.peer_named(caller.ae_title) is None:
            self._reads.record(caller.actor, Read(Action.READ_IMAGES), refuse_move)
        # Before anything is said of destinations, which are nobody's to try out.
        self._reads.record(caller.actor, Read(Action.READ_IMAGES))
        keys, _ = read_keys(context, request)
        wanted = wanted_of(keys, context.abstract_syntax, relational=agreed(context).relational)
        called = destination_of(settings.dicom, request.command.move_destination or "", self._configuration.home)
        rows = self._selection.instances(wanted, caller.actor, self._opening(caller, called.ae_title))
        counts = Counts(len(rows))
        origin = Origin(priority_of(request.command), caller.ae_title, request.message_id)
        yield from to_the_end(self._sent(called, rows, counts, origin), counts, context.transfer_syntax)

    def _opening(self, caller: Caller, destination: str) -> Opened:
        """Each move is audited with its destination, however often it is asked for."""
        source = Source("DICOM C-MOVE", caller.ae_title)

        def opened(study: ShownStudy) -> None:
            images = OpenImages(study.id, study.order_id, study.patient_id, source)
            self._store.run(move_images, MoveImages(images, destination), caller.actor)

        return opened

    def _sent(
        self, called: Called, rows: Sequence[StoredInstance], counts: Counts, origin: Origin
    ) -> Iterator[Response]:
        for batch, wishes in batches(rows):
            left = counts.remaining - len(batch)
            try:
                with associate(called, wishes) as requestor:
                    steps = store_each(batch, counts, self._outgoing, requestor.contexts, requestor.invoke, origin)
                    yield from steps
            except Unavailable as error:
                log.warning(
                    "the destination of a move failed", extra={"ae_title": called.ae_title, "code": error.message}
                )
                for row in batch[len(batch) - (counts.remaining - left) :]:
                    counts.note(row.sop_instance_uid, None)


def destination_of(settings: DicomSettings, ae_title: str, home: Path) -> Called:
    """Return whom a move destination means. Raises NotFound, which is A801H."""
    peer = settings.peer_named(ae_title)
    if peer is None or not peer.address:
        raise NotFound("The move destination is not known.")
    return called_peer(peer, settings, home)


def batches(rows: Sequence[StoredInstance]) -> Iterator[tuple[list[StoredInstance], list[Wish]]]:
    """Divide instances by how many contexts an association has: each SOP class as stored and as it can be made."""
    stored: dict[str, dict[str, None]] = {}
    for row in rows:
        stored.setdefault(row.sop_class_uid, {})[row.transfer_syntax_uid] = None
    # Everyone takes Implicit VR (PS3.5 10.1), so what is compressed is proposed only where there is room for it.
    made = OFFERED if len(stored) * (len(OFFERED) + 2) <= MAXIMUM_CONTEXTS else UNCOMPRESSED
    classes: set[str] = set()
    wishes: list[Wish] = []
    for sop_class, syntaxes in stored.items():
        # A class has as many syntaxes as DICOM; those of one class always fit.
        needed = [(sop_class, syntax) for syntax in dict.fromkeys((*syntaxes, *made))][:MAXIMUM_CONTEXTS]
        if len(wishes) + len(needed) > MAXIMUM_CONTEXTS:
            yield [row for row in rows if row.sop_class_uid in classes], wishes
            classes, wishes = set(), []
        classes.add(sop_class)
        wishes += needed
    if classes:
        yield [row for row in rows if row.sop_class_uid in classes], wishes
