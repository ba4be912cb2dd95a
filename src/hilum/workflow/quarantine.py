"""Bytes that landed and are no usable instance: listed for a person, never dropped and never guessed at.

Torn is what a crash cut off before its sender was told anything, or what decayed since; refused is what the index would
not take. The exceptions page has an entry for each object that holds such bytes; `hilum quarantine` lists them singly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hilum.core.actor import Actor
from hilum.core.errors import IllegalTransition, MissingField, NotFound
from hilum.core.study import ExceptionKind
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.quarantine import Unusable, add_unusable, open_of_object, resolve_unusable, unusable_of
from hilum.storage.unit_of_work import UnitOfWork


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Bytes at a place of the archive, and why they are of no use."""

    kind: Literal["torn", "refused"]
    reason: str
    object_key: str
    object_offset: int
    peer: str = ""
    received_at: str = ""


@dataclass(frozen=True, slots=True)
class ResolveQuarantine:
    """Take an entry off the list, saying what was done about it."""

    item_id: str
    resolution: str


def put_in_quarantine(uow: UnitOfWork, command: Quarantine, actor: Actor) -> bool:
    """List unusable bytes, once; tell whether they are new."""
    permit(uow, actor, Action.MANAGE_QUARANTINE)
    names = Quarantine.__slots__
    new = add_unusable(uow, {name: getattr(command, name) for name in names})
    if new:
        uow.exceptions.add(ExceptionKind.BYTES_UNUSABLE, note=command.object_key)
    return new


def resolve_quarantine(uow: UnitOfWork, command: ResolveQuarantine, actor: Actor) -> Unusable:
    """Take an entry off the list, and with the last one of its object the entry on the exceptions page."""
    permit(uow, actor, Action.MANAGE_QUARANTINE)
    found = unusable_of(uow.connection, command.item_id)
    if found is None:
        raise NotFound("There is no such entry.")
    resolution = command.resolution.strip()
    if not resolution:
        raise MissingField("Say what was done about it.", field="reason")
    if found.resolved_at is not None:
        raise IllegalTransition("Someone else resolved this entry already.")
    resolve_unusable(uow, [found.id], actor.name, resolution)
    if not open_of_object(uow.connection, found.object_key):
        uow.exceptions.resolve_noted(ExceptionKind.BYTES_UNUSABLE, found.object_key, actor.name, resolution)
    return found
