"""Storage Commitment Push Model: as SCP N-ACTION, and N-EVENT-REPORT once it is checked; as SCU the reports of those
that Hilum asked itself (PS3.4 J, IHE RAD-10).

A request is durable before it is answered. A peer with an address in the settings is called back there, again and again
until it confirms; one without is told on its own association, right after the answer to its request.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from hilum.archive.metadata import walk_dataset
from hilum.core.errors import InvalidInput, MissingField
from hilum.core.identifiers import is_uid
from hilum.dicom.callers import caller_of
from hilum.dicom.commitment_report import PUSH_MODEL, PUSH_MODEL_INSTANCE, Commitments
from hilum.dicom.commitment_request import read_report
from hilum.dicom.dimse.dispatch import AssociationContext, Handler, Request, Response, Service
from hilum.dicom.dimse.messages import CommandField
from hilum.dicom.dimse.status import INVALID_SOP_INSTANCE, NO_SUCH_ACTION, ServiceClass
from hilum.dicom.identifier import Keys
from hilum.dicom.upper_layer.negotiation import Offer
from hilum.dicom.upper_layer.syntaxes import only
from hilum.settings import Configuration
from hilum.storage.commitments import Reference, find_commitment
from hilum.storage.store import Store
from hilum.workflow.commitment import RequestCommitment, request_commitment
from hilum.workflow.forwarding import CommitmentAnswered, commitment_answered

REQUEST_COMMITMENT = 1  # Action Type ID, PS3.4 table J.3-1
MAXIMUM_REFERENCES = 100_000
MAXIMUM_REQUEST = 32 << 20
# Until an attempt on its own association has had its chance, nobody else tries.
ON_ITS_OWN_ASSOCIATION = timedelta(seconds=60)


class StorageCommitment:
    """Assures peers that their images are safe here."""

    def __init__(self, store: Store, configuration: Configuration, commitments: Commitments) -> None:
        self._store = store
        self._configuration = configuration
        self._commitments = commitments

    def service(self) -> Service:
        """Return the service to be offered."""
        handlers: dict[CommandField, Handler] = {
            CommandField.N_ACTION_RQ: self.action,
            CommandField.N_EVENT_REPORT_RQ: self.report,
        }
        offer = Offer(only(PUSH_MODEL), requestor_may_be_scp=True)
        return Service("commitment", ServiceClass.STORAGE_COMMITMENT, offer, handlers, MAXIMUM_REQUEST)

    def report(self, context: AssociationContext, request: Request) -> Response:
        """Take what a destination answers to our own request."""
        if request.data_set is None:
            raise MissingField("The report comes without event information.")
        caller = caller_of(context, self._configuration.refresh())
        transaction_uid, failed = read_report(request.data_set.tobytes(), context.transfer_syntax)
        command = CommitmentAnswered(transaction_uid, caller.ae_title, failed)
        self._store.run(commitment_answered, command, caller.actor)
        return Response()

    def action(self, context: AssociationContext, request: Request) -> Iterator[Response]:
        """Keep the request, answer, and tell the peer at once where it can't be called."""
        if request.command.action_type_id != REQUEST_COMMITMENT:
            yield Response(NO_SUCH_ACTION, error_comment="There is no such action.")
            return
        if request.command.requested_sop_instance_uid != PUSH_MODEL_INSTANCE:
            yield Response(INVALID_SOP_INSTANCE, error_comment="The instance is not the well-known one.")
            return
        settings = self._configuration.refresh()
        caller = caller_of(context, settings)
        transaction_uid, referenced = _read(context, request)
        peer = settings.dicom.peer_named(caller.ae_title)
        is_called = peer is not None and bool(peer.address)
        after = timedelta() if is_called else ON_ITS_OWN_ASSOCIATION
        command = RequestCommitment(caller.ae_title, transaction_uid, referenced, after)
        request_id = self._store.run(request_commitment, command, caller.actor)
        yield Response()
        if not is_called:
            self._tell_here(request_id, context, request)

    def _tell_here(self, request_id: str, context: AssociationContext, request: Request) -> None:
        with self._store.read() as connection:
            kept = find_commitment(connection, request_id)
        if kept is None:
            return
        number, syntax = context.presentation_context_id, context.transfer_syntax
        told = False
        try:
            told = self._commitments.tell(kept, number, syntax, request.invoke)
        finally:
            self._commitments.note(request_id, told=told)


def _read(context: AssociationContext, request: Request) -> tuple[str, tuple[Reference, ...]]:
    """The transaction and what it refers to. Raises MissingField or InvalidInput with the keyword."""
    if request.data_set is None:
        raise MissingField("The request comes without action information.")
    keys = Keys(walk_dataset(request.data_set.tobytes(), context.transfer_syntax).attributes)
    transaction_uid = keys.text("TransactionUID")
    if not transaction_uid:
        raise MissingField("Transaction UID is missing.", field="TransactionUID")
    items = keys.items("ReferencedSOPSequence")
    if not items:
        raise MissingField("Nothing is referenced.", field="ReferencedSOPSequence")
    if len(items) > MAXIMUM_REFERENCES:
        raise InvalidInput("More is referenced than is taken in one request.", field="ReferencedSOPSequence")
    referenced = tuple((item.text("ReferencedSOPClassUID"), item.text("ReferencedSOPInstanceUID")) for item in items)
    if not is_uid(transaction_uid):
        raise InvalidInput("The Transaction UID is not a UID.", field="TransactionUID")
    if not all(is_uid(uid) for reference in referenced for uid in reference):
        raise InvalidInput("A reference lacks its SOP class or instance.", field="ReferencedSOPSequence")
    return transaction_uid, referenced
