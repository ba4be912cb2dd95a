"""C-GET in Patient Root and Study Root (PS3.4 C.4.3): the instances come back on the association that asks for them.

A context serves for sub-operations only where the requestor proposed it with the SCP role (PS3.7 D.3.3.4).
"""

from __future__ import annotations

from collections.abc import Iterator

from hilum.dicom.callers import caller_of
from hilum.dicom.dimse.dispatch import AssociationContext, Request, Response, Service
from hilum.dicom.dimse.extended import agreed, retrieve_abilities
from hilum.dicom.dimse.messages import CommandField
from hilum.dicom.dimse.retrieve import Counts, Origin, Outgoing, priority_of, store_each, to_the_end
from hilum.dicom.dimse.retrieve_keys import PATIENT_ROOT_GET, STUDY_ROOT_GET, Selection, opening, wanted_of
from hilum.dicom.dimse.status import ServiceClass
from hilum.dicom.identifier import MAXIMUM_IDENTIFIER, read_keys
from hilum.dicom.upper_layer.negotiation import Offer
from hilum.dicom.upper_layer.syntaxes import only
from hilum.security.audit import ReadLog
from hilum.settings import Configuration
from hilum.storage.store import Store
from hilum.workflow.source import Source


class ImageGet:
    """Sends images to who asks, on the same association."""

    def __init__(self, store: Store, configuration: Configuration, reads: ReadLog, outgoing: Outgoing) -> None:
        self._configuration = configuration
        self._reads = reads
        self._outgoing = outgoing
        self._selection = Selection(store, reads)

    def service(self) -> Service:
        """Return the service to be offered."""
        offer = Offer(only(PATIENT_ROOT_GET, STUDY_ROOT_GET), extended_negotiation=retrieve_abilities)
        return Service("get", ServiceClass.RETRIEVE, offer, {CommandField.C_GET_RQ: self.get}, MAXIMUM_IDENTIFIER)

    def get(self, context: AssociationContext, request: Request) -> Iterator[Response]:
        """Send each instance and yield a pending response after it."""
        caller = caller_of(context, self._configuration.refresh())
        keys, _ = read_keys(context, request)
        opened = opening(self._reads, caller.actor, Source("DICOM C-GET", caller.ae_title))
        rows = self._selection.instances(
            wanted_of(keys, context.abstract_syntax, relational=agreed(context).relational), caller.actor, opened
        )
        counts = Counts(len(rows))
        contexts = {
            (abstract, transfer): number
            for number, abstract, transfer, requestor_is_scp in reversed(context.accepted)
            if requestor_is_scp
        }
        origin = Origin(priority_of(request.command))
        steps = store_each(rows, counts, self._outgoing, contexts, request.invoke, origin)
        yield from to_the_end(steps, counts, context.transfer_syntax)
