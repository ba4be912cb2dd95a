"""SIU messages: which event does what to the appointment of an order's steps."""

from __future__ import annotations

from collections.abc import Callable

from hilum.core.actor import Actor
from hilum.core.order import Order
from hilum.hl7.prepared import Prepared, elsewhere, journaled, kept, named_here
from hilum.hl7.profiles import Incoming
from hilum.hl7.translate_appointment import order_of_appointment, slots_of_appointment
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.appointments import BookAppointment, book_appointment, cancel_appointment
from hilum.workflow.inbound import Applied
from hilum.workflow.ordering import OrderReference

# Where the verbs say a number is wrong, and where it stands in an SIU.
PLACES = {"ORC-2": "SCH-26", "ORC-3": "SCH-27"}


def _appointment(incoming: Incoming) -> Prepared:
    """A booking, its change, or a change of its resources."""
    reference = order_of_appointment(incoming)
    if reference is None:
        return kept(incoming)
    slots = slots_of_appointment(incoming)

    def run(uow: UnitOfWork, named: OrderReference, actor: Actor) -> Order:
        return book_appointment(uow, BookAppointment(named, slots), actor)

    return _of_order(reference, run)


def _no_appointment(incoming: Incoming) -> Prepared:
    """A booking that is cancelled, discontinued, deleted, or that nobody came to."""
    reference = order_of_appointment(incoming)
    return kept(incoming) if reference is None else _of_order(reference, cancel_appointment)


def _of_order(reference: OrderReference, run: Callable[[UnitOfWork, OrderReference, Actor], Order]) -> Prepared:
    def apply(uow: UnitOfWork, message_id: str, actor: Actor) -> Applied:
        order = elsewhere(lambda: run(uow, named_here(uow, journaled(reference, message_id)), actor), PLACES)
        return Applied(order, patient_id=order.patient_id, order_id=order.id)

    return Prepared(apply)


# MSH-9.2 (HL7 table 0003).
SIU: dict[str, Callable[[Incoming], Prepared]] = {
    "S12": _appointment,  # new
    "S13": _appointment,  # other time
    "S14": _appointment,  # other details
    "S15": _no_appointment,  # cancelled
    "S16": _no_appointment,  # discontinued
    "S17": _no_appointment,  # deleted
    "S18": _appointment,  # a service or resource more
    "S19": _appointment,  # one cancelled
    "S20": _appointment,  # one discontinued
    "S21": _appointment,  # one deleted
    "S22": _appointment,  # one for another
    "S23": kept,  # times of a resource blocked
    "S24": kept,  # and open again
    "S26": _no_appointment,  # the patient did not come
}
