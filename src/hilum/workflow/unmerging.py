"""Link 1, Registration: a merge is undone, and each patient has their own again.

What was known before the merge is where it was: the rows of merged patients are never changed. Images that came
meanwhile under a number of the separated patient go with that patient; an order that came meanwhile stays where it was
placed and is listed, since nothing says for which of the two it was meant. The stricter label stays with both, and
their messages stay in one lane, so that none overtakes another.
Source: HL7 v2.5.1 ch. 3.3.37 (A37); IHE PIX/PAM know a merge (A40) and no way back, so a person's word is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from hilum.core.actor import Actor
from hilum.core.errors import Conflict, MissingField, NotFound
from hilum.core.event import EventName
from hilum.core.patient import Patient, PatientIdentifier
from hilum.core.study import ExceptionKind, MatchState
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.access import label_of
from hilum.storage.merges import Merges, below
from hilum.storage.unit_of_work import UnitOfWork
from hilum.storage.unread import refresh_unread
from hilum.workflow.access import PERSON
from hilum.workflow.matching import MATCH_EXCEPTIONS
from hilum.workflow.source import Source

LONGEST_REASON = 500


@dataclass(frozen=True, slots=True)
class UnmergePatients:
    """Separate two patients of whom one was merged into the other; the order of the two does not matter."""

    identifiers: tuple[PatientIdentifier, ...]
    others: tuple[PatientIdentifier, ...]
    reason: str
    source: Source


def unmerge_patients(uow: UnitOfWork, command: UnmergePatients, actor: Actor) -> Patient:
    """Undo a merge; return the patient who stands alone again."""
    one, other = _holder(uow, command.identifiers, "PID-3"), _holder(uow, command.others, "PID-3")
    uow.patients.lock(*_family(uow, one), *_family(uow, other))
    if other.id in uow.patients.merged_into(one.id):
        one, other = other, one
    above = uow.patients.merged_into(other.id)
    permit(uow, actor, Action.MERGE_PATIENTS, patient_id=one.id, message_id=command.source.message_id)
    if one.id not in above:
        raise Conflict("These patients are not merged.", field="PID-3")
    reason = command.reason.strip()[:LONGEST_REASON]
    if not reason:
        raise MissingField("Say why the merge is undone.", field="reason")
    survivor_id, label = above[-1], label_of(uow.connection, other.id)
    merges = Merges(uow)
    since = merges.undo(other.id, actor.name, reason)
    for patient_id in (survivor_id, other.id):
        if label_of(uow.connection, patient_id).strictness < label.strictness:
            uow.access.label(patient_id, PERSON, label, actor.name)
    _separate(uow, merges, survivor_id, other.id)
    _separate(uow, merges, other.id, survivor_id)
    _list_orders(uow, merges, survivor_id, other.id, since or uow.now)
    uow.audit(actor, Action.MERGE_PATIENTS, reason=reason, patient_id=other.id, message_id=command.source.message_id)
    uow.emit(
        EventName.PATIENTS_UNMERGED,
        patient_id=survivor_id,
        standard=command.source.standard,
        peer=command.source.peer,
        message_id=command.source.message_id,
        details={"separated": other.id},
    )
    return uow.patients.get(other.id)


def _holder(uow: UnitOfWork, identifiers: Sequence[PatientIdentifier], field: str) -> Patient:
    """The one patient whose own identifiers these are, also one that was merged away."""
    if not identifiers:
        raise MissingField("No patient identifier is given.", field=field)
    found = {holder.id: holder for each in identifiers if (holder := uow.patients.holder(each.key)) is not None}
    if not found:
        raise NotFound("No patient has this identifier.", field=field)
    if len(found) > 1:
        raise Conflict("The identifiers belong to different records.", field=field)
    return next(iter(found.values()))


def _family(uow: UnitOfWork, patient: Patient) -> list[str]:
    return uow.patients.family(uow.patients.survivor(patient.id).id)


def _separate(uow: UnitOfWork, merges: Merges, from_id: str, to_id: str) -> None:
    """Sort out studies that lie with one of the two while their images name the other."""
    mine = below(uow.connection, from_id)
    for row in merges.studies_naming(mine, uow.patients.identifiers_of_family(to_id)):
        if row["order_id"] is None:
            merges.give(row["id"], to_id)
            continue
        # Proven while the two were one; now the images name another patient than their order.
        uow.studies.match(row["id"], MatchState.CONFLICT, None, None)
        uow.exceptions.resolve_for_study(row["id"], MATCH_EXCEPTIONS, "hilum", "a merge was undone")
        uow.exceptions.add(
            ExceptionKind.IMAGES_OF_ANOTHER_PATIENT, study_id=row["id"], order_id=row["order_id"], patient_id=from_id
        )
        refresh_unread(uow, row["order_id"])


def _list_orders(uow: UnitOfWork, merges: Merges, survivor_id: str, separated_id: str, since: datetime) -> None:
    both = [*below(uow.connection, survivor_id), *below(uow.connection, separated_id)]
    for order_id in merges.orders_since(both, since):
        order = uow.orders.get(order_id)
        uow.exceptions.add(ExceptionKind.ORDER_WHILE_MERGED, order_id=order.id, patient_id=order.patient_id)
