"""Storage commitment as SCU: a destination is asked to hold for good what it took (PS3.4 J.3, IHE RAD-10).

The answer comes as an N-EVENT-REPORT, at once on our own association or later on one that the destination opens to our
door. Until then the delivery
waits and is tried again; what the destination says it lacks counts as not sent and is sent once more.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta

from hilum.archive.metadata import walk_dataset
from hilum.core.actor import system_actor
from hilum.core.errors import HilumError, MissingField, Unavailable
from hilum.delivery.ports import SendOutcome, Sent
from hilum.dicom.commitment_report import PUSH_MODEL, PUSH_MODEL_INSTANCE
from hilum.dicom.dimse.messages import CommandField, CommandSet
from hilum.dicom.dimse.status import SUCCESS, UNRECOGNIZED_OPERATION
from hilum.dicom.encode import encode
from hilum.dicom.identifier import Keys
from hilum.dicom.requestor import Called, NothingAccepted, associate
from hilum.dicom.upper_layer.syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from hilum.storage.deliveries import Delivery
from hilum.storage.forwarding import AskedCommitment, Candidate, commitment_for
from hilum.storage.store import Store
from hilum.workflow.forwarding import AskCommitment, CommitmentAnswered, ask_commitment, commitment_answered

ACTOR = system_actor("forwarding")
REQUEST_COMMITMENT = 1  # Action Type ID, PS3.4 table J.3-1
# A receiver that has not answered by then is asked anew.
PATIENCE = timedelta(hours=1)
# Receivers that report on the association of the request do so at once.
SAME_ASSOCIATION_SECONDS = 1.0
Heard = Callable[[CommandSet, bytes, str], int]
AWAITING = Sent(SendOutcome.AMBIGUOUS, "awaiting-commitment")


class CommitmentRequests:
    """Asks destinations and reads what they answered."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def ensure(self, delivery: Delivery, called: Called, ledger: str, images: Sequence[Candidate]) -> Sent:
        """Tell how far the commitment to these images is, noted in `ledger`; ask where that was not done yet."""
        if not images:
            return Sent(SendOutcome.ACCEPTED)
        with self._store.read() as connection:
            asked = commitment_for(connection, delivery.id)
        if asked is None or self._is_forgotten(asked):
            return self._ask(delivery, called, ledger, images)
        if asked.answered_at is None:
            return AWAITING
        if asked.failed:
            # What was lacking has been sent again by now; a destination that goes on lacking it is given up.
            again = self._ask(delivery, called, ledger, images)
            return Sent(SendOutcome.ERROR, "not-committed") if again is AWAITING else again
        return Sent(SendOutcome.ACCEPTED, "committed")

    def _hear(self, ae_title: str, command: CommandSet, content: bytes, transfer_syntax: str) -> int:
        """Take a report that comes on our own association; return its status."""
        if command.command_field != CommandField.N_EVENT_REPORT_RQ:
            return UNRECOGNIZED_OPERATION
        transaction_uid, failed = read_report(content, transfer_syntax)
        self._store.run(commitment_answered, CommitmentAnswered(transaction_uid, ae_title, failed), ACTOR)
        return SUCCESS

    def _is_forgotten(self, asked: AskedCommitment) -> bool:
        return asked.answered_at is None and self._store.clock() - asked.asked_at > PATIENCE

    def _ask(self, delivery: Delivery, called: Called, ledger: str, images: Sequence[Candidate]) -> Sent:
        transaction_uid = f"2.25.{uuid.uuid4().int}"
        # Noted first: the answer may be quicker than we are.
        command = AskCommitment(transaction_uid, ledger, called.ae_title, delivery.id)
        self._store.run(ask_commitment, command, ACTOR)
        try:
            status = _request(called, transaction_uid, images, lambda *report: self._hear(called.ae_title, *report))
        except NothingAccepted as error:
            return Sent(SendOutcome.ERROR, error.code)
        except HilumError as error:
            code = SendOutcome.TRANSIENT if isinstance(error, Unavailable) else SendOutcome.AMBIGUOUS
            return Sent(code, error.code)
        return AWAITING if status == SUCCESS else Sent(SendOutcome.ERROR, f"commitment-{status or 0:04X}")


def read_report(content: bytes, transfer_syntax: str) -> tuple[str, tuple[str, ...]]:
    """Return the transaction of an N-EVENT-REPORT and the instances that are not safe. Raises MissingField."""
    keys = Keys(walk_dataset(content, transfer_syntax).attributes)
    transaction_uid = keys.text("TransactionUID")
    if not transaction_uid:
        raise MissingField("Transaction UID is missing.", field="TransactionUID")
    failed = tuple(uid for item in keys.items("FailedSOPSequence") if (uid := item.text("ReferencedSOPInstanceUID")))
    return transaction_uid, failed


def _request(called: Called, transaction_uid: str, images: Sequence[Candidate], heard: Heard) -> int | None:
    """Send one N-ACTION and return its status; a report that follows at once on the same association is heard."""
    references = [
        {
            "ReferencedSOPClassUID": image.stored.sop_class_uid,
            "ReferencedSOPInstanceUID": image.stored.sop_instance_uid,
        }
        for image in images
    ]
    wishes = [(PUSH_MODEL, EXPLICIT_VR_LITTLE_ENDIAN), (PUSH_MODEL, IMPLICIT_VR_LITTLE_ENDIAN)]
    with associate(called, wishes) as requestor:
        (_, transfer_syntax), context_id = next(iter(requestor.contexts.items()))
        command = CommandSet(
            requested_sop_class_uid=PUSH_MODEL,
            requested_sop_instance_uid=PUSH_MODEL_INSTANCE,
            command_field=CommandField.N_ACTION_RQ,
            action_type_id=REQUEST_COMMITMENT,
        )
        values = {"TransactionUID": transaction_uid, "ReferencedSOPSequence": references}
        requestor.answer_with(lambda _, report, event: heard(report, event, transfer_syntax))
        status = requestor.invoke(context_id, command, encode(values, transfer_syntax, "")).status
        if status == SUCCESS:
            requestor.serve(SAME_ASSOCIATION_SECONDS)
        return status
