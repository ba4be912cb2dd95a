"""Retention: how long images are kept, and legal holds, which keep them whatever the rules say.

Nothing is guessed here either: a study of a modality without a rule, without a date, or of a minor whose birth date is
not known, is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from hilum.core.actor import Actor, Identifier
from hilum.core.errors import IllegalTransition, MissingField, NotFound
from hilum.core.patient import Patient
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.deletions import Deletion, mark
from hilum.storage.hiding import refresh_hidden
from hilum.storage.rejections import rejected_uids, rejection_of_note
from hilum.storage.retention import add_hold, hold_of, release, studies_of_uid, study_is_held
from hilum.storage.unit_of_work import UnitOfWork

# Objects that go with the images of another modality (PS3.3 C.7.3.1.1.1).
ACCOMPANYING = frozenset({"AU", "DOC", "FID", "KO", "PLAN", "PR", "REG", "RTSTRUCT", "RWV", "SEG", "SR"})


@dataclass(frozen=True, slots=True)
class Rule:
    """How long images of some modalities are kept (settings `[[archive.retention]]`); none stands for all others."""

    modalities: tuple[str, ...]
    keep_years: int
    since_last_exam: bool
    minors_until: int


@dataclass(frozen=True, slots=True)
class Dates:
    """What the age of a study is counted from; None where it is not known."""

    study: date | None
    last_exam: date | None
    birth: date | None


@dataclass(frozen=True, slots=True)
class SetHold:
    """Forbid that images of a patient, or of one study, are deleted, saying why."""

    reason: str
    patient: Identifier | None = None
    study_instance_uid: str | None = None


@dataclass(frozen=True, slots=True)
class ReleaseHold:
    """Let a legal hold go, saying why."""

    hold_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class MarkExpired:
    """Mark what a note "data retention policy expired" (113039) names for deletion after `grace`."""

    note_uid: str
    grace: timedelta


def expires_on(rules: Sequence[Rule], modalities: Sequence[str], dates: Dates) -> date | None:
    """Return the first day on which nothing keeps a study any more; None where it is kept for ever."""
    own = [modality for modality in modalities if modality not in ACCOMPANYING] or list(modalities)
    if not own:
        return None
    days = [_expires(rules, modality, dates) for modality in own]
    return None if None in days else max(day for day in days if day is not None)


def _expires(rules: Sequence[Rule], modality: str, dates: Dates) -> date | None:
    about = [rule for rule in rules if modality in rule.modalities] or [rule for rule in rules if not rule.modalities]
    days: list[date] = []
    for rule in about:
        begun = dates.last_exam if rule.since_last_exam else dates.study
        if begun is None or dates.study is None or (rule.minors_until and dates.birth is None):
            return None
        days.append(_years_after(begun, rule.keep_years))
        if rule.minors_until and dates.birth is not None:
            days.append(_years_after(dates.birth, rule.minors_until))
    return max(days, default=None)


def _years_after(day: date, years: int) -> date:
    try:
        return day.replace(year=day.year + years)
    except ValueError:  # 29 February
        return date(day.year + years, 3, 1)


def set_hold(uow: UnitOfWork, command: SetHold, actor: Actor) -> str:
    """Set a legal hold and return its id."""
    reason = command.reason.strip()
    if command.patient is not None:
        patient = _one_patient(uow, command.patient)
        permit(uow, actor, Action.HOLD_IMAGES, patient_id=patient.id if patient else None)
        if patient is None:
            raise NotFound("No patient has this number, or several have it.", field="identifier")
        patient_id: str | None = patient.id
    else:
        studies = studies_of_uid(uow.connection, command.study_instance_uid or "")
        for study_id, its_patient in studies:
            permit(uow, actor, Action.HOLD_IMAGES, patient_id=its_patient, study_id=study_id)
        if not studies:
            permit(uow, actor, Action.HOLD_IMAGES)
            raise NotFound("There is no such study.")
        patient_id = None
    if not reason:
        raise MissingField("Say why the images must be kept.", field="reason")
    uow.audit(actor, Action.HOLD_IMAGES.value, reason=f"held: {reason}", patient_id=patient_id)
    return add_hold(uow, patient_id, command.study_instance_uid, reason, actor.name)


def release_hold(uow: UnitOfWork, command: ReleaseHold, actor: Actor) -> None:
    """Let a legal hold go."""
    hold = hold_of(uow.connection, command.hold_id, lock=True)
    permit(uow, actor, Action.HOLD_IMAGES, patient_id=hold.patient_id if hold else None)
    if hold is None:
        raise NotFound("There is no such hold.")
    reason = command.reason.strip()
    if not reason:
        raise MissingField("Say why the hold ends.", field="reason")
    if hold.released_at is not None:
        raise IllegalTransition("The hold has ended.")
    uow.audit(actor, Action.HOLD_IMAGES.value, reason=f"released: {reason}", patient_id=hold.patient_id)
    release(uow, hold.id, actor.name, reason)


def mark_expired(uow: UnitOfWork, command: MarkExpired, actor: Actor) -> Deletion | None:
    """Mark what a note of expired retention names; None where a legal hold forbids it or nothing is left to mark."""
    note = rejection_of_note(uow.connection, command.note_uid, lock=True)
    if note is None or note.state != "applied":
        permit(uow, actor, Action.DELETE_IMAGES)
        raise NotFound("No such note is in force.")
    study = uow.studies.get(note.study_id, lock=True)
    permit(uow, actor, Action.DELETE_IMAGES, patient_id=study.patient_id, order_id=study.order_id, study_id=study.id)
    if study_is_held(uow.connection, study.id):
        return None
    named = [note.note_uid, *rejected_uids(uow.connection, note.id)]
    reason = f"{note.code} {note.reason}".strip()
    deletion, ids = mark(uow, study.id, reason, note.made_by, uow.now + command.grace, named=named)
    refresh_hidden(uow, ids)
    uow.audit(
        actor,
        Action.DELETE_IMAGES.value,
        reason=f"marked until {deletion.until:%Y-%m-%d}: {reason}",
        patient_id=study.patient_id,
        order_id=study.order_id,
        study_id=study.id,
    )
    return deletion


def _one_patient(uow: UnitOfWork, identifier: Identifier) -> Patient | None:
    if identifier.authority:
        return uow.patients.find(identifier)
    holders = uow.patients.holders(identifier.value)
    return holders[0] if len({holder.id for holder in holders}) == 1 else None
