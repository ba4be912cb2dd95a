"""What a message is once it is understood, and what all messages share on their way to a verb.

A reference to an order is followed as this database can; the error of a verb is told with the place in the message that
it is about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from hilum.core.actor import Actor
from hilum.core.errors import HilumError
from hilum.core.patient import PatientIdentifier
from hilum.hl7.ack import SegmentFields
from hilum.hl7.er7 import Segments
from hilum.hl7.profiles import Incoming
from hilum.hl7.translate_order import OrderGroup
from hilum.hl7.translate_step import PLACES_IN_IPC
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.inbound import Applied
from hilum.workflow.ordering import OrderReference, OrderRequest
from hilum.workflow.registration import MergePatients, RegisterPatient
from hilum.workflow.unmerging import UnmergePatients

Apply = Callable[[UnitOfWork, str, Actor], Applied]
# MSH-9 of the answer, and what stands behind MSA and ERR.
Response = Callable[[Applied | None, HilumError | None], tuple[tuple[str, str, str], list[SegmentFields]]]
Sourced = TypeVar("Sourced", RegisterPatient, MergePatients, UnmergePatients, OrderRequest, OrderReference)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A message that was understood: how to apply it and, of an order message, its orders for the answer.

    `respond` is of a query: what it is answered by, and with which segments.
    """

    apply: Apply
    orders: tuple[OrderGroup, ...] = ()
    respond: Response | None = None


def kept(incoming: Incoming, action: Action = Action.CHANGE_ORDER) -> Prepared:
    """What is of no order here: acknowledged, and kept in the journal."""

    def apply(uow: UnitOfWork, message_id: str, actor: Actor) -> Applied:
        permit(uow, actor, action, message_id=message_id)
        return Applied()

    return Prepared(apply)


def journaled(command: Sourced, message_id: str) -> Sourced:
    """The command, tied to the message in the journal."""
    return replace(command, source=replace(command.source, message_id=message_id))


def named_here(uow: UnitOfWork, command: OrderReference) -> OrderReference:
    """A reference as this database can follow it: a filler number that is none may be an accession number."""
    number = command.filler_order_number
    if number and not command.accession_number and uow.orders.by_filler(number) is None:
        command = replace(command, accession_number=number)
    return replace(command, patient_identifiers=held(uow, command.patient_identifiers))


def held(uow: UnitOfWork, identifiers: tuple[PatientIdentifier, ...]) -> tuple[PatientIdentifier, ...]:
    """Identifiers that only check whose order it is: one without any authority means the one patient who holds it."""
    return tuple(_with_authority(uow, identifier) for identifier in identifiers)


def _with_authority(uow: UnitOfWork, identifier: PatientIdentifier) -> PatientIdentifier:
    if identifier.authority or uow.patients.find(identifier.key) is not None:
        return identifier
    holders = uow.patients.holders(identifier.value)
    family = [uow.patients.get(member) for member in uow.patients.family(holders[0].id)] if len(holders) == 1 else []
    held = [known for patient in family for known in patient.identifiers if known.value == identifier.value]
    return held[0] if held else identifier


def located(
    incoming: Incoming, group: Segments, run: Callable[[], Result], prefix: str = "", *, in_ipc: bool = False
) -> Result:
    """Run a verb for one group of a message; its error says which group, and which field of the message."""
    try:
        return run()
    except HilumError as error:
        if in_ipc:
            error.field = PLACES_IN_IPC.get(error.field or "", error.field)
        incoming.relocate(error, group)
        error.message = prefix + error.message
        raise


def elsewhere(run: Callable[[], Result], places: Mapping[str, str]) -> Result:
    """Run a verb for a message that has the numbers of an order in other places than an order message."""
    try:
        return run()
    except HilumError as error:
        error.field = places.get(error.field or "", error.field)
        raise
