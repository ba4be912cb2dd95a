"""The operator's verbs on the queue: replay what waits for a person, changed or not, or hold it back."""

from __future__ import annotations

from dataclasses import dataclass

from hilum.core.actor import Actor
from hilum.core.errors import InvalidInput, MissingField, TooLarge
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.lanes import OperatedLanes
from hilum.storage.unit_of_work import UnitOfWork


@dataclass(frozen=True, slots=True)
class QueueTarget:
    """A destination, a lane or a delivery, by name or id."""

    target: str


def replay_queue(uow: UnitOfWork, command: QueueTarget, actor: Actor) -> int:
    """Let dead letters be sent again and held lanes go on; return how many deliveries wait there now."""
    permit(uow, actor, Action.OPERATE_QUEUE)
    return OperatedLanes(uow).replay(command.target)


def park_queue(uow: UnitOfWork, command: QueueTarget, actor: Actor) -> int:
    """Hold lanes, or set one delivery aside so that its lane goes on; return how many lanes or deliveries."""
    permit(uow, actor, Action.OPERATE_QUEUE)
    return OperatedLanes(uow).park(command.target)


MOST_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Amendment:
    """A delivery that waits for a person, and what is to be sent in its place."""

    delivery_id: str
    body: bytes


def resend_amended(uow: UnitOfWork, command: Amendment, actor: Actor) -> str:
    """Send a changed message in the place of a dead letter, in its turn; what was refused is kept beside it.

    An HL7 message gets a control ID of its own (MSH-10): a receiver that has seen the first would take it for that.
    Return the control ID. Raises Conflict for a delivery that does not wait for a person, and
    for a message that was not changed.
    """
    lanes = OperatedLanes(uow)
    permit(uow, actor, Action.OPERATE_QUEUE, order_id=lanes.order_of(command.delivery_id))
    body = command.body
    if not body.strip():
        raise MissingField("There is nothing to send.", field="body")
    if len(body) > MOST_BYTES:
        raise TooLarge("The message is larger than a receiver would take.")
    numbered, control_id = _numbered(body, uow.new_id()) if body.startswith(b"MSH") else (body, uow.new_id())
    lanes.amend(command.delivery_id, body, numbered, control_id, actor.name)
    return control_id


def _numbered(body: bytes, control_id: str) -> tuple[bytes, str]:
    """The message with this control ID in its header."""
    head, separator, rest = body.partition(b"\r")
    fields = head.split(head[3:4])
    if len(fields) < 10:
        raise InvalidInput("The header of the message is cut off before its control ID.", field="MSH-10")
    fields[9] = control_id.encode("ascii")
    return head[3:4].join(fields) + separator + rest, control_id
