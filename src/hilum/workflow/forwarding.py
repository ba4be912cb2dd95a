"""Images on their way to other archives: what a destination has taken, and what it committed itself to.

Source: PS3.4 B (Storage), J (Storage Commitment Push Model) as SCU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hilum.core.actor import Actor
from hilum.core.errors import NotFound
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.forwarding import Forwarded
from hilum.storage.unit_of_work import UnitOfWork


@dataclass(frozen=True, slots=True)
class NoteSent:
    """Images that a destination has taken, by their row ids, each with 0 or the warning it gave."""

    destination: str
    statuses: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class AskCommitment:
    """A destination is about to be asked to commit itself to what one delivery sent."""

    transaction_uid: str
    destination: str
    ae_title: str
    delivery_id: str


@dataclass(frozen=True, slots=True)
class CommitmentAnswered:
    """What an application entity says that it holds for good, and what not (SOP Instance UIDs)."""

    transaction_uid: str
    ae_title: str
    failed: tuple[str, ...]


def note_sent(uow: UnitOfWork, command: NoteSent, actor: Actor) -> None:
    """Record that a destination has taken images."""
    Forwarded(uow).note(command.destination, command.statuses)


def ask_commitment(uow: UnitOfWork, command: AskCommitment, actor: Actor) -> None:
    """Record that a destination is asked, so that its answer finds the question also on another association."""
    Forwarded(uow).ask(command.transaction_uid, command.destination, command.ae_title, command.delivery_id)


def commitment_answered(uow: UnitOfWork, command: CommitmentAnswered, actor: Actor) -> None:
    """Record the answer to a request for commitment. Raises NotFound where that entity was never asked."""
    permit(uow, actor, Action.STORE_IMAGES)
    if not Forwarded(uow).answer(command.transaction_uid, command.ae_title, command.failed):
        raise NotFound("There was no such request for storage commitment.", field="TransactionUID")
