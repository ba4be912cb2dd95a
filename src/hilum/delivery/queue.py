"""The operator's verbs on the queue: replay what waits for a person, or hold it back."""

from __future__ import annotations

from dataclasses import dataclass

from hilum.core.actor import Actor
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
