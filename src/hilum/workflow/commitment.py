"""Storage commitment: a peer asks whether its images are safe here, and is told until it has heard (PS3.4 J)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from hilum.core.actor import Actor
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.commitments import GIVEN_UP, REPORTED, WAITING, Commitments, Reference
from hilum.storage.unit_of_work import UnitOfWork

FIRST_RETRY, LONGEST_RETRY = timedelta(seconds=5), timedelta(hours=1)
GIVE_UP_AFTER = timedelta(days=7)
KEPT = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class RequestCommitment:
    """A peer asks to be assured of these instances, and is to be told after a while."""

    peer: str
    transaction_uid: str
    referenced: tuple[Reference, ...]
    after: timedelta


@dataclass(frozen=True, slots=True)
class NoteAttempt:
    """An attempt to tell the peer is over; `told` when it has confirmed."""

    request_id: str
    told: bool


def request_commitment(uow: UnitOfWork, command: RequestCommitment, actor: Actor) -> str:
    """Keep a request and return its id; the same transaction again is told anew."""
    permit(uow, actor, Action.STORE_IMAGES)
    due_at = uow.now + command.after
    return Commitments(uow).keep(command.peer, command.transaction_uid, command.referenced, due_at)


def note_attempt(uow: UnitOfWork, command: NoteAttempt, actor: Actor) -> str:
    """Record how telling a peer went, and return the state: told, to be tried again later, or given up for good."""
    commitments = Commitments(uow)
    request = commitments.waiting(command.request_id)
    if request is None:
        return REPORTED
    if command.told or uow.now - request.created_at > GIVE_UP_AFTER:
        state = REPORTED if command.told else GIVEN_UP
        commitments.end(request, state, KEPT)
        return state
    pause = min(FIRST_RETRY * 2 ** min(request.attempts, 20), LONGEST_RETRY)
    commitments.try_again(request, uow.now + pause)
    return WAITING
