"""Access beyond the rules: labels of patients, care teams, grants for a time, and breaking the glass with its review.

What messages say of labels and visits is noted here as part of a registration; the rest is decided by named people.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from hilum.core.actor import BREAK_THE_GLASS, Actor, Identifier
from hilum.core.errors import Conflict, Forbidden, InvalidInput, MissingField, NotFound
from hilum.core.event import EventName
from hilum.core.patient import Patient, PatientIdentifier
from hilum.core.scope import Confidentiality, GrantKind
from hilum.security.guard import permit
from hilum.security.policy import Action, require
from hilum.storage.access import Grant
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.source import Source

PERSON, MESSAGE = "person", "message"
LONGEST_GRANT = timedelta(days=366)
SHORTEST_REASON = 10
LONGEST_REASON = 500
# Whoever breaks the glass this often in an hour tries numbers out.
MOST_BROKEN_PER_HOUR = 20
# A visit that is no stay is often never ended by a message: without a new one its team is no team any more.
VISIT_WITHOUT_END = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Visit:
    """A visit as a message tells it: `team` attends, refers, consults or admits. A `stay` lasts until it is ended."""

    number: str
    team: tuple[Identifier, ...] = ()
    stay: bool = False
    ended: bool = False


@dataclass(frozen=True, slots=True)
class LabelPatient:
    """How confidential a patient is, by a person's decision; an identifier without authority is that of any."""

    identifier: Identifier
    label: Confidentiality


@dataclass(frozen=True, slots=True)
class GrantAccess:
    """Access of an account until a moment, either to a patient or to all patients of a label."""

    account: str
    until: datetime
    reason: str
    identifier: Identifier | None = None
    label: Confidentiality | None = None


@dataclass(frozen=True, slots=True)
class LimitAccount:
    """The facilities whose patients alone an account sees; none for all."""

    account: str
    facilities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BreakGlass:
    """A number as the person typed it, why they have to see that patient, and for how long."""

    identifier: Identifier
    reason: str
    lasting: timedelta
    source: Source


@dataclass(frozen=True, slots=True)
class ReviewAccess:
    """What a reviewer found about a broken glass."""

    grant_id: str
    finding: str


def note_confidentiality(
    uow: UnitOfWork, identifiers: tuple[PatientIdentifier, ...], label: Confidentiality | None, source: Source
) -> None:
    """Keep the label that a message gives to the record it names; of merged records and of persons the strictest holds.

    So a message about one record never takes back what another one, merged into it, was labelled.
    """
    if label is not None:
        holders = {holder.id for i in identifiers if (holder := uow.patients.holder(i.key)) is not None}
        for holder_id in sorted(holders):
            uow.access.label(holder_id, MESSAGE, label, source.peer)


def note_visit(uow: UnitOfWork, patient_id: str, visit: Visit | None, at: datetime | None) -> None:
    """Keep who attends a patient in a visit, or that it is over."""
    if visit is None:
        return
    moment = at or uow.now
    if visit.ended:
        uow.access.end_visit(patient_id, visit.number, moment)
    elif visit.team:
        until = None if visit.stay else moment + VISIT_WITHOUT_END
        uow.access.set_team(patient_id, visit.number, visit.team, until)


def label_patient(uow: UnitOfWork, command: LabelPatient, actor: Actor) -> str:
    """Label a patient; `normal` takes back what a person decided, not what a message said."""
    patient = _one_patient(uow, command.identifier)
    if patient is None:
        permit(uow, actor, Action.MANAGE_ACCESS)
        raise NotFound("No patient has this number, or several have it.", field="identifier")
    uow.patients.lock(patient.id)
    permit(uow, actor, Action.MANAGE_ACCESS, patient_id=patient.id)
    uow.audit(actor, "label-patient", reason=command.label.value, patient_id=patient.id)
    if command.label is Confidentiality.NORMAL:
        for member in uow.patients.family(patient.id):
            uow.access.label(member, PERSON, command.label, actor.name)
    else:
        uow.access.label(patient.id, PERSON, command.label, actor.name)
    return patient.id


def grant_access(uow: UnitOfWork, command: GrantAccess, actor: Actor) -> str:
    """Let an account see a patient, or a label's patients, until a moment; return the grant's id."""
    permit(uow, actor, Action.MANAGE_ACCESS)
    if not uow.now < command.until <= uow.now + LONGEST_GRANT:
        raise InvalidInput("A grant ends after now and within a year.", field="until")
    reason = _reason(command.reason)
    _require_account(uow, command.account)
    if (command.identifier is None) == (command.label is None):
        raise InvalidInput("A grant is for a patient or for a label.", field="label")
    patient = None
    if command.identifier is not None:
        patient = _one_patient(uow, command.identifier)
        if patient is None:
            raise NotFound("No patient has this number, or several have it.", field="identifier")
    patient_id = patient.id if patient else None
    uow.audit(actor, "grant-access", reason=command.label or "", patient_id=patient_id)
    return uow.access.grant(
        command.account, GrantKind.GIVEN, patient_id=patient_id, label=command.label, reason=reason,
        granted_by=actor.name, expires_at=command.until,
    )  # fmt: skip


def revoke_access(uow: UnitOfWork, grant_id: str, actor: Actor) -> None:
    """End a grant now, however it came about."""
    permit(uow, actor, Action.MANAGE_ACCESS)
    grant = uow.access.find(grant_id)
    if grant is None or grant.revoked_at is not None:
        raise NotFound("There is no such grant in force.")
    uow.audit(actor, "revoke-access", patient_id=grant.patient_id)
    uow.access.revoke(grant_id)


def limit_account(uow: UnitOfWork, command: LimitAccount, actor: Actor) -> None:
    """Limit an account to the patients of facilities."""
    permit(uow, actor, Action.MANAGE_USERS)
    _require_account(uow, command.account)
    uow.users.update(command.account, facilities=list(dict.fromkeys(command.facilities)))


def break_glass(uow: UnitOfWork, command: BreakGlass, actor: Actor) -> None:
    """Let a person see a patient whom the rules do not show them, for a time; auditors are told and review it.

    Whether the number is anybody's shows in no way: both are kept, told and answered alike.
    """
    actor = replace(actor, purpose=BREAK_THE_GLASS)
    require(actor, Action.BREAK_GLASS)
    reason = _reason(command.reason)
    if uow.access.broken_since(actor.name, uow.now - timedelta(hours=1)) >= MOST_BROKEN_PER_HOUR:
        raise Forbidden("Emergency access was asked for too often. Turn to the administration.")
    patient = _one_patient(uow, command.identifier)
    patient_id = patient.id if patient else None
    permit(uow, actor, Action.BREAK_GLASS, patient_id=patient_id)
    # Why stands in the sealed trail too, where nobody changes it afterwards.
    uow.audit(actor, "break-glass-reason", reason=reason, patient_id=patient_id)
    grant_id = uow.access.grant(
        actor.name, GrantKind.BREAK_GLASS, patient_id=patient_id, reason=reason, granted_by=actor.name,
        expires_at=uow.now + command.lasting,
    )  # fmt: skip
    uow.emit(
        EventName.GLASS_BROKEN,
        patient_id=patient_id,
        standard=command.source.standard,
        peer=command.source.peer,
        details={"grant": grant_id, "account": actor.name, "role": actor.role.value},
    )


def review_access(uow: UnitOfWork, command: ReviewAccess, actor: Actor) -> Grant:
    """Settle the review of a broken glass; nobody reviews what they did themselves."""
    grant = uow.access.find(command.grant_id)
    permit(uow, actor, Action.REVIEW_ACCESS, patient_id=grant.patient_id if grant else None)
    if grant is None or grant.kind is not GrantKind.BREAK_GLASS:
        raise NotFound("There is no such entry.")
    if grant.reviewed_at is not None:
        raise Conflict("Someone else reviewed this already.")
    if grant.account == actor.name:
        raise Conflict("Nobody reviews their own access.")
    uow.access.reviewed(grant.id, actor.name, _reason(command.finding))
    return grant


def _one_patient(uow: UnitOfWork, identifier: Identifier) -> Patient | None:
    """Return the one person who holds a number; none where several do."""
    if identifier.authority:
        return uow.patients.find(identifier)
    found = uow.patients.holders(identifier.value)
    return found[0] if len(found) == 1 else None


def _require_account(uow: UnitOfWork, account: str) -> None:
    if uow.users.find(account) is None:
        raise NotFound("There is no account of this name.", field="account")


def _reason(text: str) -> str:
    """The reason as it is kept. Raises MissingField for one that says nothing, InvalidInput for one too long."""
    reason = " ".join(text.split())
    if len(reason) < SHORTEST_REASON:
        raise MissingField("Say why, in a few words.", field="reason")
    if len(reason) > LONGEST_REASON:
        raise InvalidInput(f"A reason has up to {LONGEST_REASON} characters.", field="reason")
    return reason
