"""Images that a rule of the configuration turns away at the door: never without a trace."""

from __future__ import annotations

from dataclasses import dataclass

from hilum.core.actor import Actor
from hilum.core.errors import Forbidden
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.unit_of_work import UnitOfWork


class DroppedByRule(Forbidden):
    """A rule of this archive does not let this image in."""

    code = "dropped"

    def __init__(self, *, is_told: bool = True) -> None:
        """`is_told` is false where the configuration has the sender hear of success."""
        super().__init__()
        self.is_told = is_told


@dataclass(frozen=True, slots=True)
class DropInstance:
    """An image that a rule, by its place in the configuration, does not let in."""

    rule: int
    sop_instance_uid: str


def drop_instance(uow: UnitOfWork, command: DropInstance, actor: Actor) -> None:
    """Record that an image was sent and not stored, and which rule says so."""
    permit(uow, actor, Action.STORE_IMAGES)
    uow.audit(actor, "drop-instance", outcome="refused", reason=f"rule[{command.rule}] {command.sop_instance_uid}")
