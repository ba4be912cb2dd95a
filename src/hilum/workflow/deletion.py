"""Deletion in two steps: marked and hidden at once, and after a time of grace removed for good.

Until then it can be undone. Nothing under a legal hold is marked or removed. Rows go first and bytes after, so that
nothing is ever listed whose bytes are gone; what is left is a tombstone: UIDs, digest, who, when and why.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from hilum.core.actor import Actor
from hilum.core.errors import IllegalTransition, MissingField, NotFound, OnHold
from hilum.core.event import EventName
from hilum.core.study import ExceptionKind, Study
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.deletions import (
    Deletion,
    Erasure,
    deletion_of,
    end_deletion,
    forget_bytes,
    has_study,
    instances_of,
    mark,
    postpone,
    remove_rows,
    unmark,
)
from hilum.storage.hiding import refresh_hidden
from hilum.storage.retention import study_is_held
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.source import Source

# A deletion that a legal hold stops is looked at again so much later.
HELD_FOR = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class MarkForDeletion:
    """Delete a study (`study_id` of its row), or one series or instance of it, after `grace`, saying why."""

    study_id: str
    reason: str
    grace: timedelta
    source: Source
    series_instance_uid: str | None = None
    sop_instance_uid: str | None = None


@dataclass(frozen=True, slots=True)
class UndoDeletion:
    """Show again what was marked, saying why."""

    deletion_id: str
    reason: str
    source: Source


@dataclass(frozen=True, slots=True)
class FinishDeletion:
    """Remove what was marked, since its time of grace is over."""

    deletion_id: str


@dataclass(frozen=True, slots=True)
class BytesErased:
    """These bytes are gone from the archive."""

    erased: tuple[Erasure, ...]


def mark_for_deletion(uow: UnitOfWork, command: MarkForDeletion, actor: Actor) -> Deletion:
    """Hide images and have them removed after the time of grace; refused under a legal hold."""
    study = uow.studies.find(command.study_id, lock=True)
    if study is None:
        permit(uow, actor, Action.DELETE_IMAGES)
        raise NotFound("There is no such study.")
    _permit(uow, actor, study)
    reason = command.reason.strip()
    if not reason:
        raise MissingField("Say why the images are to be deleted.", field="reason")
    if study_is_held(uow.connection, study.id):
        raise OnHold
    until = uow.now + command.grace
    deletion, ids = mark(
        uow, study.id, reason, actor.name, until, command.series_instance_uid, command.sop_instance_uid
    )
    if not ids:
        raise NotFound("There is nothing that could be deleted.")
    refresh_hidden(uow, ids)
    _say(uow, actor, study, f"marked until {until:%Y-%m-%d}: {reason}")
    return deletion


def undo_deletion(uow: UnitOfWork, command: UndoDeletion, actor: Actor) -> Deletion:
    """Show again what was marked; what a rejection hides stays hidden. Refused once the images are removed."""
    deletion = _open(uow, command.deletion_id, actor)
    if not has_study(uow.connection, deletion.study_id):
        permit(uow, actor, Action.DELETE_IMAGES)
        raise NotFound("The study is gone.")
    study = uow.studies.get(deletion.study_id, lock=True)
    _permit(uow, actor, study)
    if not command.reason.strip():
        raise MissingField("Say why the images are to be kept.", field="reason")
    end_deletion(uow, deletion.id, "undone", actor.name)
    shown = refresh_hidden(uow, instances_of(uow.connection, deletion.id))
    _say(uow, actor, study, f"undone: {command.reason.strip()}")
    uow.emit(
        EventName.INSTANCES_RESTORED,
        patient_id=study.patient_id,
        order_id=study.order_id,
        study_id=study.id,
        standard=command.source.standard,
        peer=command.source.peer,
        details={"deletion": deletion.id, "instances": shown},
    )
    return deletion


def finish_deletion(uow: UnitOfWork, command: FinishDeletion, actor: Actor) -> bool:
    """Remove the rows of a deletion whose time of grace is over and note which bytes are to go; tell whether it did so.

    A legal hold that was set meanwhile stops it.
    """
    deletion = _open(uow, command.deletion_id, actor)
    if uow.now < deletion.until:
        permit(uow, actor, Action.DELETE_IMAGES)
        raise IllegalTransition("The time of grace is not over.")
    if not has_study(uow.connection, deletion.study_id):
        # Another deletion took all of it.
        permit(uow, actor, Action.DELETE_IMAGES)
        end_deletion(uow, deletion.id, "done", actor.name)
        return True
    study = uow.studies.get(deletion.study_id, lock=True)
    _permit(uow, actor, study)
    if study_is_held(uow.connection, study.id):
        postpone(uow, deletion.id, uow.now + HELD_FOR)
        return False
    removed = remove_rows(uow, deletion)
    end_deletion(uow, deletion.id, "done", actor.name)
    _say(uow, actor, study, f"removed {removed} instances, asked by {deletion.asked_by}: {deletion.reason}")
    uow.emit(
        EventName.INSTANCES_DELETED,
        patient_id=study.patient_id,
        order_id=study.order_id,
        study_id=study.id,
        standard="Hilum",
        peer=deletion.asked_by,
        details={"deletion": deletion.id, "instances": removed},
    )
    return True


def keep_after_all(uow: UnitOfWork, instance_id: str, study_id: str, sop_instance_uid: str, digest: str) -> None:
    """Keep an instance that is marked and comes again: its sender will hear that it is stored, so it has to be."""
    study = uow.studies.get(study_id, lock=True)
    unmark(uow, sop_instance_uid, digest)
    refresh_hidden(uow, [instance_id])
    uow.exceptions.add(
        ExceptionKind.SENT_WHILE_MARKED, study_id=study.id, order_id=study.order_id, patient_id=study.patient_id
    )


def bytes_erased(uow: UnitOfWork, command: BytesErased, actor: Actor) -> None:
    """Record that the bytes of deleted instances are gone."""
    permit(uow, actor, Action.DELETE_IMAGES)
    forget_bytes(uow, command.erased)


def _open(uow: UnitOfWork, deletion_id: str, actor: Actor) -> Deletion:
    deletion = deletion_of(uow.connection, deletion_id, lock=True)
    if deletion is None:
        permit(uow, actor, Action.DELETE_IMAGES)
        raise NotFound("There is no such deletion.")
    if deletion.state != "marked":
        permit(uow, actor, Action.DELETE_IMAGES)
        raise IllegalTransition("The deletion has ended.")
    return deletion


def _permit(uow: UnitOfWork, actor: Actor, study: Study) -> None:
    permit(uow, actor, Action.DELETE_IMAGES, patient_id=study.patient_id, order_id=study.order_id, study_id=study.id)


def _say(uow: UnitOfWork, actor: Actor, study: Study, reason: str) -> None:
    uow.audit(
        actor,
        Action.DELETE_IMAGES.value,
        reason=reason,
        patient_id=study.patient_id,
        order_id=study.order_id,
        study_id=study.id,
    )
