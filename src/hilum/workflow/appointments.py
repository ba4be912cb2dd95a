"""Appointments that another system books for the steps of an order: when and where they stand on the worklist.

An appointment that is cancelled takes the steps off the worklist and leaves the order as it is; a new one brings them
back. What has begun is not moved. Source: HL7 v2.5.1 ch. 10.3; IHE RAD TF-2 4.48 (RAD-48).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from hilum.core.actor import Actor
from hilum.core.errors import IllegalTransition
from hilum.core.order import WORKLIST_STATUSES, Order, OrderStatus, Physician, ScheduledStep, StepStatus
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.ordering import OrderReference, find_order
from hilum.workflow.scheduling import announce_schedule


@dataclass(frozen=True, slots=True)
class Slot:
    """When and where a step is to be performed, and by whom; what is empty stays as it is. `start_at` is UTC."""

    start_at: datetime | None = None
    station_name: str = ""
    location: str = ""
    performing_physician: Physician = field(default_factory=Physician)


@dataclass(frozen=True, slots=True)
class BookAppointment:
    """An appointment for an order: a slot for all of its steps, or one for each in their order."""

    order: OrderReference
    slots: tuple[Slot, ...]


def book_appointment(uow: UnitOfWork, command: BookAppointment, actor: Actor) -> Order:
    """Put the steps that nobody began on their slots; raises IllegalTransition where the order was taken back."""
    order = _order_of(uow, command.order, actor)
    if order.status in (OrderStatus.CANCELLED, OrderStatus.DISCONTINUED):
        raise IllegalTransition(f"The order is {order.status.value} and has no appointments.", field="SCH-26")
    # Where the order stands, a cancelled step is one whose appointment was.
    steps = [
        step
        for step in uow.orders.steps(order.id)
        if step.status in WORKLIST_STATUSES or step.status is StepStatus.CANCELLED
    ]
    moved = False
    for number, step in enumerate(steps):
        slots = command.slots
        slot = slots[number] if len(slots) == len(steps) else slots[0]
        booked = _booked(step, slot)
        if booked != step:
            uow.orders.save_step(booked)
            moved = True
    if moved:
        announce_schedule(uow, order, command.order.source)
    return uow.orders.get(order.id)


def cancel_appointment(uow: UnitOfWork, command: OrderReference, actor: Actor) -> Order:
    """Take the steps that nobody began off the worklist until they are booked again; the order stays."""
    order = _order_of(uow, command, actor)
    released = [step for step in uow.orders.steps(order.id) if step.status in WORKLIST_STATUSES]
    for step in released:
        uow.orders.set_step_status(step.id, StepStatus.CANCELLED)
    if released:
        announce_schedule(uow, order, command.source)
    return order


def _order_of(uow: UnitOfWork, reference: OrderReference, actor: Actor) -> Order:
    order = find_order(uow, reference)
    uow.patients.lock(order.patient_id)
    permit(
        uow, actor, Action.CHANGE_ORDER,
        patient_id=order.patient_id, order_id=order.id, message_id=reference.source.message_id,
    )  # fmt: skip
    return uow.orders.get(order.id)


def _booked(step: ScheduledStep, slot: Slot) -> ScheduledStep:
    return replace(
        step,
        start_at=slot.start_at or step.start_at,
        station_name=slot.station_name or step.station_name,
        location=slot.location or step.location,
        performing_physician=slot.performing_physician
        if slot.performing_physician.identifier
        else step.performing_physician,
        status=StepStatus.SCHEDULED if step.status is StepStatus.CANCELLED else step.status,
    )
