"""Links 6 and 7, Exam and Images: performed steps move the order; every instance is recorded with whose it is.

Performed steps are their own entities, n:m with scheduled ones; images alone also prove an exam.
Source: PS3.4 F.7 (MPPS N-CREATE, N-SET), IHE RAD TF-2 4.6, 4.7; PS3.4 B.2 (Storage).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from hilum.core.actor import Actor
from hilum.core.errors import Duplicate, IllegalTransition, NotFound
from hilum.core.event import EventName
from hilum.core.order import (
    STEP_ENDED,
    WORKLIST_STATUSES,
    Code,
    Order,
    OrderStatus,
    PerformedStatus,
    PerformedStep,
    ScheduledStep,
    StepStatus,
)
from hilum.core.study import ExceptionKind
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.scheduling import set_order_status
from hilum.workflow.source import Source


@dataclass(frozen=True, slots=True)
class ScheduledReference:
    """One item of the Scheduled Step Attributes Sequence (0040,0270)."""

    study_instance_uid: str
    accession_number: str
    step_id: str
    requested_procedure_id: str


@dataclass(frozen=True, slots=True)
class ExamReport:
    """What a modality says of a performed step (N-CREATE, or N-SET laid over it). Times are UTC."""

    sop_instance_uid: str
    status: PerformedStatus
    source: Source
    references: tuple[ScheduledReference, ...] = ()
    patient_identifier: str = ""
    station_ae_title: str = ""
    modality: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    discontinuation: Code | None = None
    series_instance_uids: tuple[str, ...] = ()
    attributes: Mapping[str, Any] | None = None


def start_exam(uow: UnitOfWork, command: ExamReport, actor: Actor) -> PerformedStep:
    """Record that a modality began an exam (MPPS N-CREATE)."""
    if uow.exams.find(command.sop_instance_uid) is not None:
        raise Duplicate("This performed procedure step already exists.", field="AffectedSOPInstanceUID")
    if command.status is not PerformedStatus.IN_PROGRESS:
        raise IllegalTransition("A performed procedure step begins IN PROGRESS.", field="PerformedProcedureStepStatus")
    steps, mismatched = _scheduled(uow, command)
    orders = {order.id: order for order in _locked(uow, dict.fromkeys(step.order_id for step in steps))}
    patient_id = next((order.patient_id for order in orders.values()), None)
    permit(uow, actor, Action.PERFORM_EXAM, patient_id=patient_id, order_id=next(iter(orders), None))
    performed = PerformedStep(
        id=uow.new_id(),
        sop_instance_uid=command.sop_instance_uid,
        status=PerformedStatus.IN_PROGRESS,
        patient_id=patient_id,
        order_ids=tuple(orders),
        step_ids=tuple(step.id for step in steps),
        station_ae_title=command.station_ae_title,
        modality=command.modality,
        started_at=command.started_at or uow.now,
        series_instance_uids=command.series_instance_uids,
        study_instance_uids=tuple(dict.fromkeys(r.study_instance_uid for r in command.references)),
    )
    uow.exams.add(
        performed, [(step.id, step.order_id) for step in steps], dict(command.attributes or {}), command.source.peer
    )
    if not steps or mismatched:
        uow.exceptions.add(ExceptionKind.EXAM_WITHOUT_ORDER, patient_id=patient_id, note=command.sop_instance_uid)
    for order in orders.values():
        _emit(uow, EventName.EXAM_STARTED, order, performed, command.source)
        _derive(uow, order, command.source)
    return performed


def update_exam(uow: UnitOfWork, command: ExamReport, actor: Actor) -> PerformedStep:
    """Record what a modality says further of an exam, up to its end (MPPS N-SET)."""
    known = uow.exams.find(command.sop_instance_uid)
    # Patients are locked before exams, as everywhere; the orders of an exam stay the same.
    orders = _locked(uow, known.order_ids) if known else []
    known = uow.exams.find(command.sop_instance_uid, lock=True)
    if known is None:
        raise NotFound("There is no such performed procedure step.", field="RequestedSOPInstanceUID")
    if known.status is not PerformedStatus.IN_PROGRESS:
        # PS3.4 F.7.2.2.2, status 0110H
        raise IllegalTransition("The performed procedure step may no longer be updated.")
    permit(uow, actor, Action.PERFORM_EXAM, patient_id=known.patient_id, order_id=next(iter(known.order_ids), None))
    ended = command.status is not PerformedStatus.IN_PROGRESS
    performed = replace(
        known,
        status=command.status,
        ended_at=(command.ended_at or uow.now) if ended else None,
        discontinuation=command.discontinuation or known.discontinuation,
        series_instance_uids=command.series_instance_uids or known.series_instance_uids,
    )
    uow.exams.save(performed, {**uow.exams.attributes(known.id), **(command.attributes or {})})
    if performed.was_wrong_entry:
        _withhold_images(uow, performed, orders)
    for order in orders:
        if ended:
            _emit(uow, EventName.EXAM_ENDED, order, performed, command.source)
        _derive(uow, order, command.source)
    return performed


def images_prove_exam(uow: UnitOfWork, order: Order, source: Source, step_id: str = "") -> None:
    """Move an order whose modality sends images but no MPPS: its steps have evidently started."""
    if uow.exams.of_order(order.id):
        return
    open_steps = [step for step in uow.orders.steps(order.id) if step.status in WORKLIST_STATUSES]
    begun = [step for step in open_steps if step.step_id == step_id] or (open_steps if len(open_steps) == 1 else [])
    for step in begun:
        uow.orders.set_step_status(step.id, StepStatus.STARTED)
    if begun:
        _emit_proved(uow, EventName.EXAM_STARTED, order, source)
        _derive(uow, order, source)


def images_complete_exam(uow: UnitOfWork, order: Order, source: Source) -> None:
    """End the steps that only images speak of, once no more images are expected."""
    ended = False
    for step in uow.orders.steps(order.id):
        if step.status is StepStatus.STARTED and not uow.exams.of_scheduled(step.id):
            uow.orders.set_step_status(step.id, StepStatus.COMPLETED)
            ended = True
    if ended:
        _emit_proved(uow, EventName.EXAM_ENDED, order, source)
        _derive(uow, order, source)


def step_status(scheduled: ScheduledStep, performed: list[PerformedStep]) -> StepStatus:
    """Return where a scheduled step stands by what was performed for it.

    A step taken by mistake (wrong worklist entry) was not performed: it goes back on the worklist, unless its order was
    withdrawn.
    """
    real = [step for step in performed if not step.was_wrong_entry]
    if not real:
        return StepStatus.SCHEDULED if performed and scheduled.status not in STEP_ENDED else scheduled.status
    if any(step.status is PerformedStatus.IN_PROGRESS for step in real):
        return StepStatus.STARTED
    if any(step.status is PerformedStatus.COMPLETED for step in real):
        return StepStatus.COMPLETED
    return StepStatus.DISCONTINUED


def order_status(steps: list[StepStatus]) -> OrderStatus:
    """Return where an order stands by its steps; one completed step does not complete an order of several."""
    live = [status for status in steps if status is not StepStatus.CANCELLED]
    if live and all(status in STEP_ENDED for status in live):
        return OrderStatus.COMPLETED if StepStatus.COMPLETED in live else OrderStatus.DISCONTINUED
    if StepStatus.COMPLETED in live:
        return OrderStatus.PARTIAL
    if StepStatus.STARTED in live:
        return OrderStatus.IN_PROGRESS
    return OrderStatus.SCHEDULED


def _scheduled(uow: UnitOfWork, command: ExamReport) -> tuple[list[ScheduledStep], bool]:
    """Return the scheduled steps that an exam performs, and whether any reference could not be followed.

    An exam is of one patient: where its references lead to several, none is followed.
    """
    steps: dict[str, ScheduledStep] = {}
    missed = False
    for reference in command.references:
        found = _referenced(uow, reference, command.patient_identifier)
        missed |= not found
        steps |= {step.id: step for step in found}
    persons = {uow.patients.survivor(uow.orders.get(step.order_id).patient_id).id for step in steps.values()}
    return ([], True) if len(persons) > 1 else (list(steps.values()), missed)


def _referenced(uow: UnitOfWork, reference: ScheduledReference, patient_identifier: str) -> list[ScheduledStep]:
    order = uow.orders.by_study_uid(reference.study_instance_uid) if reference.study_instance_uid else None
    if order is None and reference.accession_number:
        order = uow.orders.by_accession(reference.accession_number)
    if order is None or (patient_identifier and not _holds(uow, order.patient_id, patient_identifier)):
        return []
    if reference.accession_number not in ("", order.accession_number):
        return []
    steps = uow.orders.steps(order.id)
    named = [step for step in steps if step.step_id == reference.step_id]
    # A modality that leaves out the step's ID means the only one there is.
    return named or (steps if len(steps) == 1 and not reference.step_id else [])


def _locked(uow: UnitOfWork, order_ids: Iterable[str]) -> list[Order]:
    """Return orders as they stand once their patients are locked."""
    orders = [uow.orders.get(order_id) for order_id in order_ids]
    uow.patients.lock(*(order.patient_id for order in orders))
    return [uow.orders.get(order.id) for order in orders] if uow.on_postgresql else orders


def _holds(uow: UnitOfWork, patient_id: str, value: str) -> bool:
    survivor = uow.patients.survivor(patient_id).id
    return any(holder.id == survivor for holder in uow.patients.holders(value))


def _derive(uow: UnitOfWork, order: Order, source: Source) -> None:
    """Bring steps and order in line with what was performed."""
    statuses = []
    for step in uow.orders.steps(order.id):
        status = step_status(step, uow.exams.of_scheduled(step.id))
        if order.withdrawn and status in WORKLIST_STATUSES:
            status = StepStatus.CANCELLED if order.status is OrderStatus.CANCELLED else StepStatus.DISCONTINUED
        if status is not step.status:
            uow.orders.set_step_status(step.id, status)
        statuses.append(status)
    if order.withdrawn:
        if any(status not in STEP_ENDED for status in statuses) or StepStatus.COMPLETED in statuses:
            uow.exceptions.add(
                ExceptionKind.IMAGES_AFTER_CANCELLATION,
                order_id=order.id,
                patient_id=order.patient_id,
                note="An exam was performed for an order that had ended.",
            )
        return
    set_order_status(uow, order, order_status(statuses), source)


def _withhold_images(uow: UnitOfWork, performed: PerformedStep, orders: list[Order]) -> None:
    """Keep images of an exam done under the wrong worklist entry from sight until a person decides whose they are."""
    named = set(uow.exams.series_of(performed.id))
    for order in orders:
        others = {
            uid
            for step in uow.exams.of_order(order.id)
            if step.id != performed.id
            for uid in uow.exams.series_of(step.id)
        }
        study_ids = [study.id for study in uow.studies.of_order(order.id)]
        wrong = [
            row
            for row in uow.studies.series_of(study_ids)
            if row.series_instance_uid in named or (not named and row.series_instance_uid not in others)
        ]
        uow.studies.withhold_series([row.id for row in wrong], True)
        listed: list[str | None] = [*study_ids] or [None]
        for study_id in listed:
            uow.exceptions.add(
                ExceptionKind.WRONG_WORKLIST_ENTRY,
                order_id=order.id,
                study_id=study_id,
                patient_id=order.patient_id,
                note=performed.sop_instance_uid,
            )


def _emit(uow: UnitOfWork, name: EventName, order: Order, performed: PerformedStep, source: Source) -> None:
    uow.emit(
        name,
        patient_id=order.patient_id,
        order_id=order.id,
        standard=source.standard,
        peer=source.peer,
        details={
            "performed": performed.sop_instance_uid,
            "status": performed.status.value,
            "wrong_entry": performed.was_wrong_entry,
        },
    )


def _emit_proved(uow: UnitOfWork, name: EventName, order: Order, source: Source) -> None:
    uow.emit(
        name,
        patient_id=order.patient_id,
        order_id=order.id,
        standard=source.standard,
        peer=source.peer,
        details={"proved_by": "images"},
    )
