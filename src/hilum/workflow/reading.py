"""Links 5 and 8, Worklist and Reading: who saw the step, and who began to read."""

from __future__ import annotations

from dataclasses import dataclass

from hilum.core.actor import Actor, Role
from hilum.core.errors import Forbidden
from hilum.core.event import EventName
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.source import Source


@dataclass(frozen=True, slots=True)
class WorklistServed:
    """Steps that a modality was shown."""

    step_ids: tuple[str, ...]
    source: Source


@dataclass(frozen=True, slots=True)
class OpenImages:
    """Someone opens the images of a study; `order_id` is empty for a study without one."""

    study_id: str
    order_id: str | None
    patient_id: str | None
    source: Source


def worklist_served(uow: UnitOfWork, command: WorklistServed, actor: Actor) -> int:
    """Record which steps a modality sees for the first time; return how many."""
    permit(uow, actor, Action.READ_WORKLIST)
    fresh = uow.orders.worklist_served(command.step_ids, command.source.peer)
    for step_id in fresh:
        order = uow.orders.get(uow.orders.step(step_id).order_id)
        uow.emit(
            EventName.WORKLIST_SERVED,
            patient_id=order.patient_id,
            order_id=order.id,
            standard=command.source.standard,
            peer=command.source.peer,
        )
    return len(fresh)


def open_images(uow: UnitOfWork, command: OpenImages, actor: Actor) -> None:
    """Audit that images are opened; a radiologist who opens them has begun to read."""
    permit(
        uow,
        actor,
        Action.READ_IMAGES,
        patient_id=command.patient_id,
        order_id=command.order_id,
        study_id=command.study_id,
    )
    if actor.role is Role.RADIOLOGIST and command.order_id is not None:
        uow.emit(
            EventName.READING_STARTED,
            patient_id=command.patient_id,
            order_id=command.order_id,
            study_id=command.study_id,
            standard=command.source.standard,
            peer=command.source.peer,
        )


def export_original(uow: UnitOfWork, command: OpenImages, actor: Actor) -> None:
    """Let someone have images byte for byte as they were received, whatever is known of them by now; always audited."""
    permit(
        uow,
        actor,
        Action.EXPORT_ORIGINAL,
        patient_id=command.patient_id,
        order_id=command.order_id,
        study_id=command.study_id,
    )


@dataclass(frozen=True, slots=True)
class MoveImages:
    """Someone has the images of a study sent to another application entity."""

    images: OpenImages
    destination: str


def move_images(uow: UnitOfWork, command: MoveImages, actor: Actor) -> None:
    """Audit that images are opened and where they are sent to."""
    images = command.images
    open_images(uow, images, actor)
    uow.audit(
        actor,
        "send-images",
        reason=f"to {command.destination}",
        patient_id=images.patient_id,
        order_id=images.order_id,
        study_id=images.study_id,
    )


def refuse_move(uow: UnitOfWork, command: object, actor: Actor) -> None:
    """Refuse, audited, to move images for a caller that is no configured peer: whoever it is chose its own name."""
    raise Forbidden("Only a configured application entity may move images.")
