"""Rejection notes: instances that are not to be used any more are hidden at every door, at once and alike.

A note acts when whoever sent it may reject; any other is kept as an ordinary object and listed for a person. What a
note names and is not here yet is hidden when it comes. Nothing is deleted here: an administrator can take a rejection
back. Source: IHE RAD TF-1 "Imaging Object Change Management"; TF-2 RAD-66; PS3.16 CID 7011.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hilum.core.actor import Actor
from hilum.core.errors import IllegalTransition, MissingField, NotFound, Rejected
from hilum.core.event import EventName
from hilum.core.report import AUTHORITATIVE
from hilum.core.study import ExceptionKind, Study
from hilum.security.guard import permit
from hilum.security.policy import Action, decide
from hilum.storage.access import resource_of
from hilum.storage.deletions import has_study
from hilum.storage.exception_list import WITHHOLDING
from hilum.storage.hiding import ids_of, refresh_hidden
from hilum.storage.rejections import (
    HeldInstance,
    RejectableInstance,
    Rejection,
    add_rejection,
    codes_in_force,
    decide_rejection,
    held_instances,
    rejectable,
    rejected_uids,
    rejection_of_note,
)
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.source import Source


class RejectionCode(StrEnum):
    """The document titles of rejection notes (PS3.16 CID 7011, scheme DCM)."""

    QUALITY = "113001"
    PATIENT_SAFETY = "113037"
    WRONG_WORKLIST_ENTRY = "113038"
    RETENTION_EXPIRED = "113039"


MEANINGS: dict[RejectionCode, str] = {
    RejectionCode.QUALITY: "Rejected for Quality Reasons",
    RejectionCode.PATIENT_SAFETY: "Rejected for Patient Safety Reasons",
    RejectionCode.WRONG_WORKLIST_ENTRY: "Incorrect Modality Worklist Entry",
    RejectionCode.RETENTION_EXPIRED: "Data Retention Policy Expired",
}
# A rejected instance that is sent again stays what it is, and its sender hears so.
REFUSED_AGAIN = frozenset({RejectionCode.PATIENT_SAFETY, RejectionCode.WRONG_WORKLIST_ENTRY})


@dataclass(frozen=True, slots=True)
class RejectionNote:
    """What a rejection note says. `references` are (Study, SOP Instance) UIDs; `reason` is its text, if any.

    `entitled` tells whether its sender may reject at all, `hides` whether the settings hide what it names.
    """

    code: RejectionCode
    references: tuple[tuple[str, str], ...]
    reason: str
    entitled: bool
    hides: bool


@dataclass(frozen=True, slots=True)
class DecideRejection:
    """Apply, refuse or revoke a note, saying why."""

    note_uid: str
    reason: str
    source: Source


@dataclass(frozen=True, slots=True)
class RejectInstances:
    """Put a study (`study_id` of its row), or one series or instance of it, out of use, saying why."""

    study_id: str
    code: RejectionCode
    reason: str
    series_instance_uid: str | None = None
    sop_instance_uid: str | None = None


@dataclass(frozen=True, slots=True)
class ToReject:
    """What a person's rejection note is made of: the study as its images name it, and what is to be named."""

    study: Mapping[str, Any]
    instances: tuple[RejectableInstance, ...]


@dataclass(frozen=True, slots=True)
class ReleaseImages:
    """Show the withheld images of an entry's study again, saying why."""

    item_id: str
    reason: str
    source: Source


def reject_instances(uow: UnitOfWork, command: RejectInstances, actor: Actor) -> ToReject:
    """Let a person reject images and return what the note is to name; storing the note is what hides them."""
    study = uow.studies.find(command.study_id, lock=True)
    if study is None:
        permit(uow, actor, Action.REJECT_IMAGES)
        raise NotFound("There is no such study.")
    permit(uow, actor, Action.REJECT_IMAGES, patient_id=study.patient_id, order_id=study.order_id, study_id=study.id)
    if not command.reason.strip():
        raise MissingField("Say why the images are not to be used.", field="reason")
    instances = rejectable(uow.connection, study.id, command.series_instance_uid, command.sop_instance_uid)
    if not instances:
        raise NotFound("There is nothing that could be rejected.")
    return ToReject(uow.studies.row(study.id), tuple(instances))


def release_images(uow: UnitOfWork, command: ReleaseImages, actor: Actor) -> int:
    """Show images that are withheld on suspicion of error, by a person's decision; return how many series."""
    item = uow.exceptions.get(command.item_id)
    if item is None or item.study_id is None:
        permit(uow, actor, Action.RESOLVE_EXCEPTION)
        raise NotFound("There is no such entry.")
    study = uow.studies.get(item.study_id, lock=True)
    permit(
        uow, actor, Action.RESOLVE_EXCEPTION, patient_id=study.patient_id, order_id=study.order_id, study_id=study.id
    )
    reason = command.reason.strip()
    if not reason:
        raise MissingField("Say how you know that the images are right.", field="reason")
    withheld = [row.id for row in uow.studies.series_of([study.id]) if row.withheld]
    if item.resolved_at is not None or not withheld:
        raise IllegalTransition("Nothing of this entry is withheld.")
    uow.studies.release_series(study, withheld)
    _audit(uow, actor, study, Action.RESOLVE_EXCEPTION, f"released: {reason}")
    uow.exceptions.resolve_for_study(study.id, WITHHOLDING, actor.name, reason)
    uow.emit(
        EventName.INSTANCES_RESTORED,
        patient_id=study.patient_id,
        order_id=study.order_id,
        study_id=study.id,
        standard=command.source.standard,
        peer=command.source.peer,
        details={"series": len(withheld)},
    )
    return len(withheld)


def receive_rejection(
    uow: UnitOfWork, note_uid: str, note: RejectionNote, study: Study, named: str, source: Source, actor: Actor
) -> None:
    """Keep a note that was stored in `study` and, where its sender may reject, act on it; `named` is its Patient ID."""
    if rejection_of_note(uow.connection, note_uid) is not None:
        return
    resource = resource_of(uow.connection, actor, study.patient_id)
    entitled = note.entitled and decide(actor, Action.REJECT_IMAGES, resource).allowed
    held = held_instances(uow.connection, [sop for _, sop in note.references])
    doubtful = _contradicts(uow, note, study, named, held)
    rejection = add_rejection(
        uow,
        {
            "note_uid": note_uid,
            "code": note.code.value,
            "state": "applied" if entitled and not doubtful else "waiting",
            "hides": note.hides,
            "study_id": study.id,
            "study_instance_uid": study.study_instance_uid,
            "patient_identifier": named,
            "made_by": source.peer,
            "reason": note.reason,
        },
        note.references,
    )
    if rejection.state == "applied":
        _audit(uow, actor, study, Action.REJECT_IMAGES, f"{note.code.value} {note.reason}".strip())
        _act(uow, rejection, study, source)
        return
    subject = {"study_id": study.id, "order_id": study.order_id, "patient_id": study.patient_id}
    uow.exceptions.add(ExceptionKind.REJECTION_WAITS, note=note_uid, **subject)


def refuse_rejected(uow: UnitOfWork, sop_instance_uid: str, hidden: str | None) -> None:
    """Raise `Rejected` for an instance that is sent again although a note in force says that it must not be used."""
    if hidden is not None and codes_in_force(uow.connection, sop_instance_uid) & {code.value for code in REFUSED_AGAIN}:
        raise Rejected


def apply_rejection(uow: UnitOfWork, command: DecideRejection, actor: Actor) -> Rejection:
    """Act on a note whose sender may not reject, by a person's decision."""
    rejection, study = _decided(uow, command, actor, Action.REJECT_IMAGES, ("waiting",), "applied")
    _act(uow, rejection, study, command.source)
    return rejection


def refuse_rejection(uow: UnitOfWork, command: DecideRejection, actor: Actor) -> Rejection:
    """Set a note aside that waits; what it names stays as it is."""
    return _decided(uow, command, actor, Action.REJECT_IMAGES, ("waiting",), "refused")[0]


def revoke_rejection(uow: UnitOfWork, command: DecideRejection, actor: Actor) -> Rejection:
    """Take a rejection back: what no other note and no deletion hides is shown again; the note stays in the archive."""
    rejection, study = _decided(uow, command, actor, Action.MANAGE_REJECTED, ("applied",), "revoked")
    shown = refresh_hidden(uow, ids_of(uow, [rejection.note_uid, *rejected_uids(uow.connection, rejection.id)]))
    _emit(uow, EventName.INSTANCES_RESTORED, rejection, study, command.source, shown)
    return rejection


def _decided(
    uow: UnitOfWork, command: DecideRejection, actor: Actor, action: Action, states: tuple[str, ...], state: str
) -> tuple[Rejection, Study]:
    rejection = rejection_of_note(uow.connection, command.note_uid, lock=True)
    if rejection is None:
        permit(uow, actor, action)
        raise NotFound("There is no such rejection note.")
    if not has_study(uow.connection, rejection.study_id):
        permit(uow, actor, action)
        raise NotFound("The study of the rejection note was deleted.")
    study = uow.studies.get(rejection.study_id, lock=True)
    permit(uow, actor, action, patient_id=study.patient_id, order_id=study.order_id, study_id=study.id)
    reason = command.reason.strip()
    if not reason:
        raise MissingField("Say why.", field="reason")
    if rejection.state not in states:
        raise IllegalTransition("The rejection note has been decided already.")
    decide_rejection(uow, rejection.id, state, actor.name, reason)
    uow.exceptions.resolve_noted(ExceptionKind.REJECTION_WAITS, rejection.note_uid, actor.name, reason)
    return rejection, study


def _act(uow: UnitOfWork, rejection: Rejection, study: Study, source: Source) -> None:
    named = rejected_uids(uow.connection, rejection.id)
    refresh_hidden(uow, ids_of(uow, [rejection.note_uid, *named]))
    _emit(uow, EventName.INSTANCES_REJECTED, rejection, study, source, len(named))
    orders = {study.order_id, *_orders(uow, named)} - {None}
    for order_id in sorted(filter(None, orders)):
        if uow.reports.status_of(order_id) in AUTHORITATIVE:
            uow.exceptions.add(
                ExceptionKind.REJECTED_AFTER_REPORT,
                order_id=order_id,
                study_id=study.id,
                patient_id=uow.orders.get(order_id).patient_id,
            )


def _orders(uow: UnitOfWork, sop_instance_uids: list[str]) -> set[str | None]:
    held = {instance.study_id for instance in held_instances(uow.connection, sop_instance_uids)}
    return {uow.studies.get(study_id).order_id for study_id in held}


def _contradicts(uow: UnitOfWork, note: RejectionNote, study: Study, named: str, held: list[HeldInstance]) -> bool:
    """Tell whether a note names instances that are of another study or patient than it says."""
    said = {study_instance_uid for study_instance_uid, _ in note.references}
    if not said:
        return True
    survivor = study.patient_id and uow.patients.survivor(study.patient_id).id

    def differs(instance: HeldInstance) -> bool:
        if instance.study_instance_uid not in said:
            return True
        if instance.study_id == study.id or instance.patient_identifier == named:
            return False
        return not survivor or not instance.patient_id or uow.patients.survivor(instance.patient_id).id != survivor

    return any(differs(instance) for instance in {each.study_id: each for each in held}.values())


def _emit(uow: UnitOfWork, name: EventName, rejection: Rejection, study: Study, source: Source, instances: int) -> None:
    uow.emit(
        name,
        patient_id=study.patient_id,
        order_id=study.order_id,
        study_id=study.id,
        standard=source.standard,
        peer=source.peer,
        details={"code": rejection.code, "note": rejection.note_uid, "instances": instances},
    )


def _audit(uow: UnitOfWork, actor: Actor, study: Study, action: Action, reason: str) -> None:
    uow.audit(
        actor,
        action.value,
        reason=reason,
        patient_id=study.patient_id,
        order_id=study.order_id,
        study_id=study.id,
    )
