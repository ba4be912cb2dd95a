"""The inbound journal's verb: keep the message, apply it once, keep the answer; all in one commit.

What fails is undone to a savepoint while the journal row stays, so nothing that was sent is ever lost. The same bytes
under the same control ID are answered as before; after a refusal they are processed again, since the cause may be
mended. Source: HL7 v2.5.1 ch. 2.9.2; design.md §3.3, §3.4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hilum.core.actor import Actor
from hilum.core.errors import HilumError
from hilum.core.event import EventName
from hilum.core.study import ExceptionKind
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.messages import JournaledMessage
from hilum.storage.unit_of_work import UnitOfWork

APPLIED, REFUSED = "applied", "refused"

# Not refused by what the message says but by what happened here; not worth a place on a person's list.
_PASSING = frozenset({"unavailable", "deadline", "out-of-space"})


@dataclass(frozen=True, slots=True)
class Applied:
    """What a message became: the answer's material and whom and which order it concerned."""

    result: Any = None
    patient_id: str | None = None
    order_id: str | None = None


@dataclass(frozen=True, slots=True)
class ReceiveMessage:
    """A message as it came in.

    `apply(uow, message_id, actor)` changes the state; `answer(applied, error)` builds the reply's bytes and may be
    called more than once. Neither does input or output. `barred` is why its sender may not send at all; a query
    (`is_query`) is answered anew each time.
    """

    sender: str
    control_id: str
    digest: str
    kind: str
    raw: bytes
    apply: Callable[[UnitOfWork, str, Actor], Applied]
    answer: Callable[[Applied | None, HilumError | None], bytes]
    barred: HilumError | None = None
    is_query: bool = False


@dataclass(frozen=True, slots=True)
class Received:
    """How a message was answered."""

    message_id: str
    reply: bytes
    outcome: str
    reason: str = ""
    repeated: bool = False


def receive_message(uow: UnitOfWork, command: ReceiveMessage, actor: Actor) -> Received:
    """Journal a message, apply it unless it was applied before, and keep the answer."""
    known = uow.messages.find(command.sender, command.control_id, command.digest)
    if known is not None and known.outcome == APPLIED:
        if command.barred is not None:
            # Whoever only says to be the sender does not get its answer, and what was applied stays as it was.
            code = command.barred.code
            uow.audit(actor, Action.RECEIVE_MESSAGE, outcome="refused", reason=code, message_id=known.id)
            return Received(known.id, command.answer(None, command.barred), REFUSED, code)
        if not command.is_query:
            return Received(known.id, known.reply, known.outcome, repeated=True)
    message_id = known.id if known else uow.new_id()
    applied: Applied | None = None
    error: HilumError | None = None
    try:
        permit(uow, actor, Action.RECEIVE_MESSAGE, message_id=message_id)
        applied = uow.attempt_inner(lambda: command.apply(uow, message_id, actor))
    except HilumError as refusal:
        error = refusal
        uow.audit(actor, Action.RECEIVE_MESSAGE, outcome="refused", reason=refusal.code, message_id=message_id)
    received = Received(
        message_id, command.answer(applied, error), REFUSED if error else APPLIED, error.code if error else ""
    )
    _keep(uow, command, received, applied, known)
    _tell(uow, command, received, applied, error, known)
    return received


def _keep(
    uow: UnitOfWork,
    command: ReceiveMessage,
    received: Received,
    applied: Applied | None,
    known: JournaledMessage | None,
) -> None:
    message = JournaledMessage(
        id=received.message_id,
        received_at=known.received_at if known else uow.now,
        sender=command.sender,
        control_id=command.control_id,
        digest=command.digest,
        kind=command.kind,
        raw=command.raw,
        reply=received.reply,
        outcome=received.outcome,
        reason=received.reason,
        attempts=known.attempts + 1 if known else 1,
        patient_id=applied.patient_id if applied else None,
        order_id=applied.order_id if applied else None,
    )
    uow.messages.save(message, known=known is not None)


def _tell(
    uow: UnitOfWork,
    command: ReceiveMessage,
    received: Received,
    applied: Applied | None,
    error: HilumError | None,
    known: JournaledMessage | None,
) -> None:
    """Put what a person should look at on the list, and let routes on raw messages know."""
    if command.control_id and uow.messages.control_id_taken(command.sender, command.control_id, command.digest):
        uow.exceptions.add(ExceptionKind.CONTROL_ID_REUSED, message_id=received.message_id)
    if error is not None and error.code not in _PASSING:
        uow.exceptions.add(
            ExceptionKind.MESSAGE_REFUSED,
            message_id=received.message_id,
            note=f"{command.kind}: {error.message}" + (f" ({error.field})" if error.field else ""),
        )
    if error is None and known is not None:
        uow.exceptions.resolve_for_message(received.message_id, "hilum", "the message was applied")
    uow.emit(
        EventName.MESSAGE_RECEIVED,
        patient_id=applied.patient_id if applied else None,
        order_id=applied.order_id if applied else None,
        message_id=received.message_id,
        standard="HL7",
        peer=command.sender,
        details={"kind": command.kind, "outcome": received.outcome},
    )
