"""Which message becomes which verb: the tables by message type, trigger event and order control, read top to bottom.

Translation comes first and needs no database (`prepare`); what it returns is applied in the transaction that journals
the message. A message with several orders, merges or reports is applied as a whole or not at all, and the error names
the segment that failed. Types that are not here are refused with AR and stay in the journal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from hilum.core.actor import Actor
from hilum.core.errors import InvalidInput, MissingField, TooLarge, Unsupported
from hilum.core.order import Order
from hilum.hl7.adapted import require_fields
from hilum.hl7.er7 import Segments
from hilum.hl7.messages_document import MDM
from hilum.hl7.messages_query import QBP
from hilum.hl7.messages_scheduling import SIU
from hilum.hl7.prepared import Prepared, held, journaled, kept, located, named_here
from hilum.hl7.profiles import Incoming
from hilum.hl7.translate_order import OrderGroup, order_groups, reference_from_group, request_from_group
from hilum.hl7.translate_patient import (
    event_time,
    merge_from_adt,
    registration_from_adt,
    require_segment,
    required_identifiers,
    unmerge_from_adt,
    visit_from_adt,
)
from hilum.hl7.translate_report import report_from_group
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.access import note_visit
from hilum.workflow.inbound import Applied
from hilum.workflow.ordering import (
    OrderReference,
    OrderRequest,
    cancel_order,
    change_order,
    discontinue_order,
    place_order,
)
from hilum.workflow.registration import RegisterPatient, find_patient, merge_patients, register_patient
from hilum.workflow.reporting import relay_report
from hilum.workflow.unmerging import unmerge_patients

Group = TypeVar("Group", Segments, OrderGroup)

# A message with more groups is no order or result of one visit, and would hold up all others.
MOST_GROUPS = 200


@dataclass(frozen=True, slots=True)
class Control:
    """What an order control (ORC-1, HL7 table 0119) asks for, and how it is answered when done and when refused."""

    verb: Callable[[UnitOfWork, Any, Actor], Order]
    read: Callable[[Incoming, OrderGroup], OrderRequest | OrderReference]
    done: str
    refused: str


ORDER_CONTROL = {
    "NW": Control(place_order, request_from_group, "OK", "UA"),
    "XO": Control(change_order, request_from_group, "XR", "UX"),
    "CA": Control(cancel_order, reference_from_group, "CR", "UC"),
    "DC": Control(discontinue_order, reference_from_group, "DR", "UD"),
}


def prepare(incoming: Incoming) -> Prepared:
    """Read a message into commands; raises Unsupported, or the error that names what is wrong in it."""
    message = incoming.message
    if not message.control_id.strip():
        raise MissingField("The message has no control ID.", field="MSH-10")
    if len(message.control_id) > 199 or not message.control_id.isprintable():
        raise InvalidInput("The control ID is not one of up to 199 printable characters.", field="MSH-10")
    if b"\x00" in message.raw:
        raise InvalidInput("The message holds a NUL character.")
    if not message.type:
        raise MissingField("The message has no type.", field="MSH-9")
    if message.version and not message.version.startswith("2."):
        raise Unsupported("This version of HL7 is not handled.", field="MSH-12")
    triggers = MESSAGES.get(message.type)
    if triggers is None:
        raise Unsupported("Messages of this type are not handled.", field="MSH-9.1")
    # v2.2 senders of orders and results may leave the only trigger event out.
    trigger = message.trigger or next(iter(triggers))
    if trigger not in triggers:
        raise Unsupported("This event is not handled.", field="MSH-9.2")
    require_fields(message, incoming.kind, incoming.profile.peer.required)
    return triggers[trigger](incoming)


def _register(incoming: Incoming) -> Prepared:
    return _registration(registration_from_adt(incoming, name_required=True))


def _update(incoming: Incoming) -> Prepared:
    return _registration(registration_from_adt(incoming, name_required=False))


def _registration(command: RegisterPatient) -> Prepared:
    def apply(uow: UnitOfWork, message_id: str, actor: Actor) -> Applied:
        patient = register_patient(uow, journaled(command, message_id), actor)
        return Applied(patient, patient_id=patient.id)

    return Prepared(apply)


def _kept(incoming: Incoming) -> Prepared:
    """What says nothing of a patient that is kept here: of places and accounts."""
    required_identifiers(incoming, require_segment(incoming.message, "PID"))
    return kept(incoming, Action.REGISTER_PATIENT)


def _change_of_visit(incoming: Incoming) -> Prepared:
    """An event that takes back another one of a visit: nothing of the patient changes but who attends them."""
    identifiers = required_identifiers(incoming, require_segment(incoming.message, "PID"))
    visit, at = visit_from_adt(incoming), event_time(incoming)

    def apply(uow: UnitOfWork, message_id: str, actor: Actor) -> Applied:
        patient = find_patient(uow, identifiers)
        patient_id = patient.id if patient else None
        permit(uow, actor, Action.REGISTER_PATIENT, patient_id=patient_id, message_id=message_id)
        if patient_id is not None:
            note_visit(uow, patient_id, visit, at)
        return Applied(patient, patient_id=patient_id)

    return Prepared(apply)


def _merge(incoming: Incoming) -> Prepared:
    groups = _bounded(incoming.message.groups("PID"))
    if not groups:
        raise MissingField("The message has no PID segment.", field="PID")
    merges = [(merge_from_adt(incoming, group), group) for group in groups]

    def apply(uow: UnitOfWork, message_id: str, actor: Actor) -> Applied:
        survivors = [
            located(incoming, group, partial(merge_patients, uow, journaled(command, message_id), actor))
            for command, group in merges
        ]
        return Applied(survivors, patient_id=survivors[0].id)

    return Prepared(apply)


def _unlink(incoming: Incoming) -> Prepared:
    command = unmerge_from_adt(incoming, _bounded(incoming.message.groups("PID")))

    def apply(uow: UnitOfWork, message_id: str, actor: Actor) -> Applied:
        separated = unmerge_patients(uow, journaled(command, message_id), actor)
        return Applied(separated, patient_id=separated.id)

    return Prepared(apply)


def _orders(incoming: Incoming) -> Prepared:
    groups = _bounded(order_groups(incoming))
    commands = [(_control_of(incoming, group), group) for group in groups]
    read = [(control, group, control.read(incoming, group)) for control, group in commands]

    def apply(uow: UnitOfWork, message_id: str, actor: Actor) -> Applied:
        orders: list[Order] = []
        for number, (control, group, command) in enumerate(read, 1):
            prefix = f"Order {number} of {len(read)}: " if len(read) > 1 else ""
            sourced = _order_command(uow, control, command, message_id)
            run = partial(control.verb, uow, sourced, actor)
            orders.append(located(incoming, group.first, run, prefix, in_ipc=bool(group.all("IPC"))))
        return Applied(tuple(orders), patient_id=orders[0].patient_id, order_id=orders[0].id)

    return Prepared(apply, tuple(groups))


def _control_of(incoming: Incoming, group: OrderGroup) -> Control:
    if not group.control:
        raise MissingField("The order has no order control.", field=incoming.place(group.orc, 1))
    if group.control not in ORDER_CONTROL:
        raise Unsupported("This order control is not handled.", field=incoming.place(group.orc, 1))
    return ORDER_CONTROL[group.control]


def _order_command(
    uow: UnitOfWork, control: Control, command: OrderRequest | OrderReference, message_id: str
) -> OrderRequest | OrderReference:
    if isinstance(command, OrderReference):
        return named_here(uow, journaled(command, message_id))
    sourced = journaled(command, message_id)
    if control.verb is change_order:
        return replace(sourced, patient_identifiers=held(uow, sourced.patient_identifiers))
    return sourced


def _reports(incoming: Incoming) -> Prepared:
    groups = _bounded(incoming.message.groups("ORC", "OBR"))
    if not groups:
        raise MissingField("The message has no OBR segment.", field="OBR")
    reports = [(report_from_group(incoming, group), group) for group in groups]

    def apply(uow: UnitOfWork, message_id: str, actor: Actor) -> Applied:
        relayed = []
        for command, group in reports:
            sourced = replace(command, order=named_here(uow, journaled(command.order, message_id)))
            relayed.append(located(incoming, group, partial(relay_report, uow, sourced, actor)))
        return Applied(tuple(relayed), patient_id=relayed[0].patient_id, order_id=relayed[0].order_id)

    return Prepared(apply)


# MSH-9.1, MSH-9.2 (HL7 tables 0076, 0003).
MESSAGES: dict[str, dict[str, Callable[[Incoming], Prepared]]] = {
    "ADT": {
        "A01": _register,  # admit
        "A04": _register,  # register
        "A05": _register,  # pre-admit
        "A28": _register,  # add person
        "A02": _update,  # transfer
        "A03": _update,  # discharge
        "A06": _update,  # outpatient to inpatient
        "A07": _update,  # inpatient to outpatient
        "A08": _update,
        "A31": _update,  # update person
        "A11": _change_of_visit,  # cancel admit
        "A12": _change_of_visit,  # cancel transfer
        "A13": _change_of_visit,  # cancel discharge
        "A09": _kept,  # departing
        "A10": _kept,  # arriving
        "A35": _kept,  # merge of accounts
        "A41": _kept,  # merge of accounts
        "A44": _kept,  # an account moves
        "A45": _kept,  # a visit moves
        "A40": _merge,
        "A46": _merge,  # change of the identifier of the patient
        "A47": _merge,  # change of the identifier in a list
        "A18": _merge,  # until v2.3
        "A34": _merge,  # patient identifier only
        "A36": _merge,  # patient identifier and account
        "A37": _unlink,  # undoes a merge
    },
    "ORM": {"O01": _orders},
    "OMG": {"O19": _orders},
    "OMI": {"O23": _orders},
    "ORU": {"R01": _reports},
    "MDM": MDM,
    "SIU": SIU,
    "QBP": QBP,
}


def _bounded(groups: list[Group]) -> list[Group]:
    if len(groups) > MOST_GROUPS:
        raise TooLarge(f"The message has more than {MOST_GROUPS} groups.")
    return groups
