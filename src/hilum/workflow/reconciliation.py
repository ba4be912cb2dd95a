"""A person decides what could not be matched: tie a study to an order, show or keep images, or set an entry aside."""

from __future__ import annotations

from dataclasses import dataclass

from hilum.core.actor import Actor
from hilum.core.errors import Conflict, MissingField, NotFound
from hilum.core.study import ExceptionItem, ExceptionKind, MatchState
from hilum.security.guard import permit
from hilum.security.policy import Action, require, scope_for
from hilum.storage.quarantine import open_of_object, resolve_unusable
from hilum.storage.scoping import sees_patient
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.matching import tie
from hilum.workflow.source import Source


@dataclass(frozen=True, slots=True)
class DismissException:
    """Set an entry aside, saying why."""

    item_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class AssignStudy:
    """Tie the study of an entry to an order, by accession number, saying why it is that patient's."""

    item_id: str
    accession_number: str
    reason: str


def dismiss_exception(uow: UnitOfWork, command: DismissException, actor: Actor) -> ExceptionItem:
    """Take an entry off the list; what it speaks of stays as it is."""
    item = _open_item(uow, command.item_id)
    permit(
        uow,
        actor,
        Action.RESOLVE_EXCEPTION,
        patient_id=item.patient_id,
        order_id=item.order_id,
        study_id=item.study_id,
        message_id=item.message_id,
    )
    if not command.reason.strip():
        raise MissingField("Say why the entry is set aside.", field="reason")
    uow.exceptions.resolve(item.id, actor.name, command.reason.strip())
    if item.kind is ExceptionKind.BYTES_UNUSABLE:
        resolve_unusable(uow, open_of_object(uow.connection, item.note), actor.name, command.reason.strip())
    return item


def assign_study(uow: UnitOfWork, command: AssignStudy, actor: Actor) -> ExceptionItem:
    """Tie a study to an order by a person's decision; the images stay as received, the truth is overlaid."""
    item = _open_item(uow, command.item_id)
    if item.study_id is None:
        raise Conflict("This entry is not about a study.")
    require(actor, Action.RESOLVE_EXCEPTION)
    order = uow.orders.by_accession(command.accession_number.strip())
    scope = scope_for(actor, Action.RESOLVE_EXCEPTION)
    if order is None or not sees_patient(uow.connection, scope, order.patient_id):
        # Alike, so that trying numbers tells nothing.
        raise NotFound("No order has this accession number.", field="accession_number")
    if not command.reason.strip():
        raise MissingField("Say how you know that the study is of this patient.", field="reason")
    uow.patients.lock(order.patient_id)
    study = uow.studies.get(item.study_id, lock=True)
    order = uow.orders.get(order.id)
    if study.match_state is MatchState.VERIFIED:
        raise Conflict("The study already belongs to an order.")
    permit(uow, actor, Action.RESOLVE_EXCEPTION, patient_id=order.patient_id, order_id=order.id, study_id=study.id)
    tie(uow, study, order, Source("Hilum page", actor.name))
    uow.exceptions.resolve(item.id, actor.name, command.reason.strip())
    return item


def _open_item(uow: UnitOfWork, item_id: str) -> ExceptionItem:
    item = uow.exceptions.get(item_id)
    if item is None:
        raise NotFound("There is no such entry.")
    if item.resolved_at is not None:
        raise Conflict("Someone else resolved this entry already.")
    return item
