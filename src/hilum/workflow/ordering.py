"""Link 3, Order: place, change, cancel and discontinue; numbers and study UID are assigned here or adopted.

Source: HL7 v2.5.1 ch. 4 (ORC-1, table 0119); IHE RAD TF-2 4.2 (RAD-2), 4.4 (RAD-4), 4.13 (RAD-13).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from hilum.core.actor import Actor
from hilum.core.codes import modality_of, region_of
from hilum.core.errors import (
    Conflict,
    Duplicate,
    IdentityMismatch,
    IllegalTransition,
    InvalidInput,
    MissingField,
    NotFound,
)
from hilum.core.event import EventName
from hilum.core.identifiers import is_uid, new_uid
from hilum.core.order import Code, Filler, Order, OrderStatus, Physician, Priority, StepStatus, same_procedure
from hilum.core.patient import Patient, PatientIdentifier, is_another_person
from hilum.core.report import SIGNED
from hilum.core.study import ExceptionKind
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.matching import match_waiting_studies, study_keys
from hilum.workflow.order_limits import check_limits
from hilum.workflow.registration import NOBODY, DemographicsSaid, find_patient, lock_patient, unknown_identifiers
from hilum.workflow.scheduling import (
    StepRequest,
    announce_schedule,
    end_open_steps,
    reschedule,
    set_order_status,
    steps_for,
)
from hilum.workflow.source import Source

# How long a check of the priors waits for the order that it was made for.
PRIOR_CHECK_WAITS = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """What a sender says of an order; empty fields are Hilum's to give. `scheduled_at` is UTC."""

    placer_order_number: str
    placer_authority: str
    procedure: Code
    source: Source
    patient_identifiers: tuple[PatientIdentifier, ...] = ()
    demographics: DemographicsSaid = field(default_factory=DemographicsSaid)
    filler: Filler = Filler.HILUM
    filler_order_number: str = ""
    filler_authority: str = ""
    accession_number: str = ""
    study_instance_uid: str = ""
    requested_procedure_id: str = ""
    section: str = ""
    # None where nothing is said: routine for a new order, no change for a known one.
    priority: Priority | None = None
    reason: str = ""
    clinical_information: str = ""
    ordering_physician: Physician = field(default_factory=Physician)
    copies_to: tuple[Physician, ...] = ()
    visit_number: str = ""
    patient_class: str = ""
    scheduled_at: datetime | None = None
    steps: tuple[StepRequest, ...] = ()


@dataclass(frozen=True, slots=True)
class OrderReference:
    """How a sender names an existing order, with the patient as a check."""

    placer_order_number: str
    placer_authority: str
    filler_order_number: str
    source: Source
    accession_number: str = ""
    patient_identifiers: tuple[PatientIdentifier, ...] = ()


def place_order(uow: UnitOfWork, command: OrderRequest, actor: Actor) -> Order:
    """Place an order and schedule its steps; the same order sent again is answered with what stands."""
    if not command.placer_order_number and not command.filler_order_number:
        raise MissingField("The order has neither a placer nor a filler order number.", field="ORC-2")
    if not command.procedure.value and not command.procedure.meaning:
        raise MissingField("The order names no procedure.", field="OBR-4")
    check_limits(command)
    # Images of this order may be on their way in at this moment: they come before it or find it.
    uow.lock_keys(*study_keys(command.accession_number, command.study_instance_uid))
    patient = _patient_of(uow, command)
    permit(uow, actor, Action.PLACE_ORDER, patient_id=patient.id, message_id=command.source.message_id)
    known = _known(uow, command)
    if known is not None:
        return _same_again(uow, known, patient, command)
    order = _numbered(uow, command, patient)
    steps = steps_for(uow, order, command.steps)
    uow.orders.add(order, steps)
    _tie_prior_check(uow, order, patient)
    _emit(uow, EventName.ORDER_PLACED, order, command.source)
    announce_schedule(uow, order, command.source)
    uow.emit(
        EventName.ORDER_STATUS_CHANGED,
        patient_id=order.patient_id,
        order_id=order.id,
        standard=command.source.standard,
        peer=command.source.peer,
        message_id=command.source.message_id,
        details={"from": "", "status": order.status.value},
    )
    return uow.orders.get(order.id) if match_waiting_studies(uow, order, command.source) else order


def change_order(uow: UnitOfWork, command: OrderRequest, actor: Actor) -> Order:
    """Change an order that has not ended (ORC-1 XO): procedure, urgency, reason, physicians, time and steps."""
    check_limits(command)
    order = find_order(uow, _reference(command))
    uow.patients.lock(order.patient_id)
    permit(
        uow,
        actor,
        Action.CHANGE_ORDER,
        patient_id=order.patient_id,
        order_id=order.id,
        message_id=command.source.message_id,
    )
    order = uow.orders.get(order.id)
    if order.status not in (OrderStatus.SCHEDULED, OrderStatus.IN_PROGRESS, OrderStatus.PARTIAL):
        raise IllegalTransition(f"The order is {order.status.value} and cannot be changed.", field="ORC-1")
    if command.study_instance_uid not in ("", order.study_instance_uid):
        raise Conflict("The order has another Study Instance UID.", field="ZDS-1")
    procedure = command.procedure if command.procedure.value or command.procedure.meaning else order.procedure
    if order.status is not OrderStatus.SCHEDULED and not same_procedure(procedure, order.procedure):
        raise IllegalTransition("The exam has begun, so its procedure cannot be changed.", field="OBR-4")
    changed = replace(
        order,
        procedure=procedure,
        modality=_modality(command, procedure) if procedure != order.procedure or command.section else order.modality,
        body_region=region_of(procedure),
        priority=command.priority or order.priority,
        reason=command.reason or order.reason,
        clinical_information=command.clinical_information or order.clinical_information,
        ordering_physician=command.ordering_physician
        if command.ordering_physician.identifier
        else order.ordering_physician,
        copies_to=command.copies_to or order.copies_to,
        scheduled_at=command.scheduled_at or order.scheduled_at,
    )
    moved = reschedule(uow, order, changed, command.steps)
    if changed != order or moved:
        uow.orders.save(changed)
        _emit(uow, EventName.ORDER_CHANGED, changed, command.source)
    if moved:
        announce_schedule(uow, changed, command.source)
    return uow.orders.get(order.id)


def cancel_order(uow: UnitOfWork, command: OrderReference, actor: Actor) -> Order:
    """Cancel an order that nobody began (ORC-1 CA); its steps leave the worklist at once."""
    order = _for_ending(uow, command, actor)
    if order.status is OrderStatus.CANCELLED:
        return order
    if order.status is not OrderStatus.SCHEDULED:
        raise IllegalTransition(f"The order is {order.status.value} and can no longer be cancelled.", field="ORC-1")
    if uow.reports.status_of(order.id) in SIGNED:
        raise IllegalTransition("The order is reported and can no longer be cancelled.", field="ORC-1")
    end_open_steps(uow, order, StepStatus.CANCELLED)
    return _end(uow, order, OrderStatus.CANCELLED, EventName.ORDER_CANCELLED, command.source)


def discontinue_order(uow: UnitOfWork, command: OrderReference, actor: Actor) -> Order:
    """Discontinue an order that may have begun (ORC-1 DC); what was not performed leaves the worklist."""
    order = _for_ending(uow, command, actor)
    if order.status is OrderStatus.DISCONTINUED and order.withdrawn:
        return order
    if order.status in (OrderStatus.COMPLETED, OrderStatus.CANCELLED):
        raise IllegalTransition(f"The order is {order.status.value} and can no longer be discontinued.", field="ORC-1")
    end_open_steps(uow, order, StepStatus.DISCONTINUED)
    return _end(uow, order, OrderStatus.DISCONTINUED, EventName.ORDER_DISCONTINUED, command.source)


def find_order(uow: UnitOfWork, reference: OrderReference) -> Order:
    """Return the order that a sender names; refuse when its numbers or its patient contradict each other."""
    named: list[Order | None] = []
    if reference.placer_order_number:
        named.append(uow.orders.by_placer(reference.placer_order_number, reference.placer_authority))
    if reference.filler_order_number:
        named.append(uow.orders.by_filler(reference.filler_order_number))
    if reference.accession_number:
        named.append(uow.orders.by_accession(reference.accession_number))
    found = {order.id: order for order in named if order is not None}
    if not found:
        raise NotFound("No order has this number.", field="ORC-2" if reference.placer_order_number else "ORC-3")
    if len(found) > 1:
        raise Conflict("The numbers belong to different orders.", field="ORC-3")
    order = next(iter(found.values()))
    _refuse_other_numbers(order, reference)
    if reference.patient_identifiers:
        patient = find_patient(uow, reference.patient_identifiers)
        if patient is None or patient.id != uow.patients.survivor(order.patient_id).id:
            raise IdentityMismatch("The order belongs to another patient.", field="PID-3")
    return order


def _refuse_other_numbers(order: Order, reference: OrderReference) -> None:
    """Refuse a number that is not this order's, though no other order has it: which of them is wrong is not known.

    A filler number may also be the accession; of a placer's number, authorities differ between feeds.
    """
    is_placeholder = order.placer_order_number == f"F{order.filler_order_number}"
    if reference.placer_order_number not in ("", order.placer_order_number) and not is_placeholder:
        raise Conflict("The order has another placer order number.", field="ORC-2")
    if reference.filler_order_number not in ("", order.filler_order_number, order.accession_number):
        raise Conflict("The order has another filler order number.", field="ORC-3")
    if reference.accession_number not in ("", order.accession_number, order.filler_order_number):
        raise Conflict("The order has another accession number.", field="OBR-18")


def _patient_of(uow: UnitOfWork, command: OrderRequest) -> Patient:
    """Return the patient of a new order, registered from the order when nobody knows the person yet."""
    patient = lock_patient(uow, command.patient_identifiers)
    said = command.demographics.over(NOBODY)
    if patient is None:
        patient = uow.patients.add(said, command.patient_identifiers, None)
        uow.emit(
            EventName.PATIENT_REGISTERED,
            patient_id=patient.id,
            standard=command.source.standard,
            peer=command.source.peer,
            message_id=command.source.message_id,
        )
        return patient
    if is_another_person(patient.demographics, said):
        raise IdentityMismatch("The identifier belongs to a person of another name and birth date.", field="PID-3")
    uow.patients.add_identifiers(patient.id, unknown_identifiers(uow, patient, command.patient_identifiers))
    return patient


def _known(uow: UnitOfWork, command: OrderRequest) -> Order | None:
    if command.placer_order_number:
        known = uow.orders.by_placer(command.placer_order_number, command.placer_authority)
        if known is not None:
            return known
    if command.filler is Filler.EXTERNAL and command.filler_order_number:
        return uow.orders.by_filler(command.filler_order_number, command.filler_authority)
    return None


def _same_again(uow: UnitOfWork, known: Order, patient: Patient, command: OrderRequest) -> Order:
    """Answer a repeated NW with the order that stands; refuse one that says something else under the same number."""
    same = (
        uow.patients.survivor(known.patient_id).id == patient.id
        and same_procedure(known.procedure, command.procedure)
        and command.priority in (None, known.priority)
        and command.accession_number in ("", known.accession_number)
        and command.study_instance_uid in ("", known.study_instance_uid)
        and not known.withdrawn
    )
    if not same:
        raise Duplicate("Another order already has this placer order number.", field="ORC-2")
    return known


def _numbered(uow: UnitOfWork, command: OrderRequest, patient: Patient) -> Order:
    """Build the order with the numbers of its filler, or with Hilum's own."""
    accession = command.accession_number or _next_accession(uow)
    if command.accession_number and uow.orders.by_accession(accession) is not None:
        raise Duplicate("Another order already has this accession number.", field="OBR-18")
    study_uid = command.study_instance_uid or new_uid()
    if not is_uid(study_uid):
        raise InvalidInput("The Study Instance UID is not a UID.", field="ZDS-1")
    if command.study_instance_uid and uow.orders.by_study_uid(study_uid) is not None:
        raise Duplicate("Another order already has this Study Instance UID.", field="ZDS-1")
    return Order(
        id=uow.new_id(),
        patient_id=patient.id,
        accession_number=accession,
        placer_order_number=command.placer_order_number or f"F{command.filler_order_number}",
        placer_authority=command.placer_authority,
        filler_order_number=command.filler_order_number or accession,
        filler_authority=command.filler_authority or ("HILUM" if command.filler is Filler.HILUM else ""),
        filler=command.filler,
        study_instance_uid=study_uid,
        requested_procedure_id=command.requested_procedure_id or accession,
        procedure=command.procedure,
        modality=_modality(command, command.procedure),
        body_region=region_of(command.procedure),
        priority=command.priority or Priority.ROUTINE,
        status=OrderStatus.SCHEDULED,
        placed_at=uow.now,
        sender=command.source.peer,
        reason=command.reason,
        clinical_information=command.clinical_information,
        ordering_physician=command.ordering_physician,
        copies_to=command.copies_to,
        visit_number=command.visit_number,
        patient_class=command.patient_class,
        scheduled_at=command.scheduled_at,
    )


def _next_accession(uow: UnitOfWork) -> str:
    """Return the next free accession number: year and a running number, short enough to say on the phone."""
    while True:
        accession = f"H{uow.now:%y}{uow.next_number('accession'):07}"
        # An external filler may have used it.
        if uow.orders.by_accession(accession) is None:
            return accession


def _modality(command: OrderRequest, procedure: Code) -> str:
    stepped = [step.modality for step in command.steps if step.modality]
    return stepped[0] if stepped else modality_of(command.section, procedure)


def _tie_prior_check(uow: UnitOfWork, order: Order, patient: Patient) -> None:
    """Tie the check of the priors that led to this order: by placer number, else the latest for this procedure."""
    checks = uow.orders.prior_checks(patient.id)
    fresh = [check for check in checks if uow.now - check.at <= PRIOR_CHECK_WAITS]
    exact = [c for c in fresh if c.placer_order_number and c.placer_order_number == order.placer_order_number]
    alike = [c for c in fresh if not c.placer_order_number and c.procedure_code == order.procedure.value]
    for check in (exact or alike)[:1]:
        uow.orders.tie_prior_check(check.id, order.id)


def _for_ending(uow: UnitOfWork, command: OrderReference, actor: Actor) -> Order:
    order = find_order(uow, command)
    uow.patients.lock(order.patient_id)
    permit(
        uow,
        actor,
        Action.CANCEL_ORDER,
        patient_id=order.patient_id,
        order_id=order.id,
        message_id=command.source.message_id,
    )
    return uow.orders.get(order.id)


def _end(uow: UnitOfWork, order: Order, status: OrderStatus, name: EventName, source: Source) -> Order:
    uow.orders.withdraw(order.id)
    ended = replace(set_order_status(uow, order, status, source), withdrawn=True)
    _emit(uow, name, ended, source)
    for study in uow.studies.of_order(order.id):
        uow.exceptions.add(
            ExceptionKind.IMAGES_AFTER_CANCELLATION,
            order_id=order.id,
            study_id=study.id,
            patient_id=order.patient_id,
            note=f"The order was {status.value} while images are here.",
        )
    return ended


def _reference(command: OrderRequest) -> OrderReference:
    return OrderReference(
        command.placer_order_number,
        command.placer_authority,
        command.filler_order_number,
        command.source,
        accession_number=command.accession_number,
        patient_identifiers=command.patient_identifiers,
    )


def _emit(uow: UnitOfWork, name: EventName, order: Order, source: Source) -> None:
    uow.emit(
        name,
        patient_id=order.patient_id,
        order_id=order.id,
        standard=source.standard,
        peer=source.peer,
        message_id=source.message_id,
    )
