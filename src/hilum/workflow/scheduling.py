"""Link 4, Schedule: the steps of an order on stations. A step without time is due at once.

Source: PS3.3 C.4.10 (Scheduled Procedure Step); IHE RAD TF-2 4.4 (RAD-4).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from hilum.core.errors import NotFound
from hilum.core.event import EventName
from hilum.core.order import WORKLIST_STATUSES, Code, Order, OrderStatus, Physician, ScheduledStep, StepStatus
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.source import Source


@dataclass(frozen=True, slots=True)
class StepRequest:
    """A step as a sender asks for it; what is empty Hilum gives or leaves open. `start_at` is UTC."""

    step_id: str = ""
    modality: str = ""
    station_ae_title: str = ""
    station_name: str = ""
    location: str = ""
    start_at: datetime | None = None
    description: str = ""
    protocol: tuple[Code, ...] = ()
    performing_physician: Physician = field(default_factory=Physician)


def steps_for(uow: UnitOfWork, order: Order, requests: tuple[StepRequest, ...]) -> list[ScheduledStep]:
    """Return the scheduled steps of a new order: one per request, one when nothing was asked for."""
    return [
        ScheduledStep(
            id=uow.new_id(),
            order_id=order.id,
            step_id=request.step_id or f"{order.requested_procedure_id[:13]}-{number}",
            modality=request.modality or order.modality,
            station_ae_title=request.station_ae_title,
            station_name=request.station_name,
            location=request.location,
            start_at=request.start_at or order.scheduled_at,
            description=request.description or order.procedure.meaning,
            protocol=request.protocol or (order.procedure,),
            performing_physician=request.performing_physician,
        )
        for number, request in enumerate(requests or (StepRequest(),), 1)
    ]


def reschedule(uow: UnitOfWork, before: Order, after: Order, requests: tuple[StepRequest, ...]) -> bool:
    """Bring the steps not yet performed in line with a changed order; tell whether any changed.

    A step is found by its id; a sender that names none changes the steps in their order. Raises NotFound for a step
    that the order does not have.
    """
    steps = uow.orders.steps(after.id)
    if len(steps) == len(requests) == 1:
        # The one step there is, whoever gave it its id.
        requests = (replace(requests[0], step_id=""),)
    named = {request.step_id: request for request in requests if request.step_id}
    if len(requests) > len(steps) or not named.keys() <= {step.step_id for step in steps}:
        raise NotFound("The order has no such step.", field="OBR-20")
    changed = False
    for position, step in enumerate(steps):
        if step.status not in WORKLIST_STATUSES:
            continue
        unnamed = requests[position] if position < len(requests) and not requests[position].step_id else None
        moved = _moved(step, before, after, named.get(step.step_id) or unnamed or StepRequest())
        if moved != step:
            uow.orders.save_step(moved)
            changed = True
    return changed


def _moved(step: ScheduledStep, before: Order, after: Order, request: StepRequest) -> ScheduledStep:
    procedure_changed = before.procedure != after.procedure
    follows = step.description == before.procedure.meaning
    return replace(
        step,
        modality=request.modality or (after.modality if before.modality != after.modality else step.modality),
        station_ae_title=request.station_ae_title or step.station_ae_title,
        station_name=request.station_name or step.station_name,
        location=request.location or step.location,
        start_at=request.start_at
        or (after.scheduled_at if before.scheduled_at != after.scheduled_at else step.start_at),
        description=request.description or (after.procedure.meaning if follows else step.description),
        protocol=request.protocol or ((after.procedure,) if procedure_changed else step.protocol),
        performing_physician=request.performing_physician
        if request.performing_physician.identifier
        else step.performing_physician,
    )


def end_open_steps(uow: UnitOfWork, order: Order, status: StepStatus) -> None:
    """End the steps that nobody performed yet, so that they leave the worklist."""
    for step in uow.orders.steps(order.id):
        if step.status in WORKLIST_STATUSES:
            uow.orders.set_step_status(step.id, status)


def announce_schedule(uow: UnitOfWork, order: Order, source: Source) -> None:
    """Record that the steps stand."""
    uow.emit(
        EventName.STEP_SCHEDULED,
        patient_id=order.patient_id,
        order_id=order.id,
        standard=source.standard,
        peer=source.peer,
        message_id=source.message_id,
    )


def set_order_status(uow: UnitOfWork, order: Order, status: OrderStatus, source: Source) -> Order:
    """Store an order's new status and say so (RAD-3); nothing happens when it is the same."""
    if order.status is status:
        return order
    uow.orders.set_status(order.id, status)
    uow.emit(
        EventName.ORDER_STATUS_CHANGED,
        patient_id=order.patient_id,
        order_id=order.id,
        standard=source.standard,
        peer=source.peer,
        message_id=source.message_id,
        details={"from": order.status.value, "status": status.value},
    )
    return replace(order, status=status)
