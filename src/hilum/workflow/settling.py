"""Link 7, Images: finished series move from where they landed into plain objects; what they are does not change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hilum.core.actor import Actor
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.settling import move_instance
from hilum.storage.unit_of_work import UnitOfWork


@dataclass(frozen=True, slots=True)
class Move:
    """An instance, the object it lay in, and the columns of the index that say where its bytes lie now."""

    instance_id: str
    from_key: str
    place: Mapping[str, Any]


def settle_instances(uow: UnitOfWork, moves: Sequence[Move], actor: Actor) -> int:
    """Record where instances lie now; return of how many. The bytes are durable in both places."""
    permit(uow, actor, Action.STORE_IMAGES)
    return sum(move_instance(uow, move.instance_id, move.from_key, move.place) for move in moves)
