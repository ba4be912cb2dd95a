"""Instances whose bytes are not what was received: put on the list that a person sees, and taken off once they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hilum.core.actor import Actor
from hilum.core.study import ExceptionKind
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.integrity import damage_entries, put_elsewhere
from hilum.storage.unit_of_work import UnitOfWork


@dataclass(frozen=True, slots=True)
class NoteDamage:
    """What was found of one instance: `is_damaged` says whether its bytes are other than received."""

    study_id: str
    sop_instance_uid: str
    is_damaged: bool


def note_damage(uow: UnitOfWork, command: NoteDamage, actor: Actor) -> None:
    """List an instance as damaged, once; or take it off the list since its bytes were brought back."""
    study = uow.studies.get(command.study_id)
    permit(uow, actor, Action.STORE_IMAGES, patient_id=study.patient_id, study_id=study.id)
    if command.is_damaged:
        uow.exceptions.add(
            ExceptionKind.INSTANCE_DAMAGED,
            study_id=study.id,
            order_id=study.order_id,
            patient_id=study.patient_id,
            note=command.sop_instance_uid,
        )
        return
    for item_id in damage_entries(uow.connection, study.id, command.sop_instance_uid):
        uow.exceptions.resolve(item_id, actor.name, "The bytes are again what was received.")


def restore_bytes(uow: UnitOfWork, instance_id: str, study_id: str, instance: Mapping[str, Any], actor: Actor) -> None:
    """Let a damaged instance be served from the same bytes that came again; nothing changes for one that is whole.

    `instance` has its UID and, where the bytes were written anew, their place.
    """
    entries = damage_entries(uow.connection, study_id, instance["sop_instance_uid"]) if "object_key" in instance else []
    if entries:
        put_elsewhere(uow.connection, instance_id, instance)
    for item_id in entries:
        uow.exceptions.resolve(item_id, actor.name, "The same bytes were received again.")
