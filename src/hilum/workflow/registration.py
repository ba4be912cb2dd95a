"""Link 1, Registration: one patient per (identifier, issuer); merges are links that can be undone.

Source: HL7 v2.5.1 ch. 3; IHE RAD TF-2 4.1 (RAD-1), 4.12 (RAD-12).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from hilum.core.actor import Actor, Identifier
from hilum.core.errors import Conflict, InvalidInput, MissingField
from hilum.core.event import EventName
from hilum.core.patient import Demographics, Patient, PatientIdentifier, PersonName, is_another_person
from hilum.core.scope import Confidentiality
from hilum.core.study import ExceptionKind
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.access import Visit, note_confidentiality, note_visit
from hilum.workflow.source import Source


@dataclass(frozen=True, slots=True)
class DemographicsSaid:
    """What a sender says of a person: None where it says nothing, empty where it deletes (HL7 `""`)."""

    name: PersonName | None = None
    birth_date: date | None = None
    birth_date_deleted: bool = False
    sex: str | None = None

    def over(self, known: Demographics) -> Demographics:
        """Return the known demographics with what was said laid over them."""
        return Demographics(
            known.name if self.name is None else self.name,
            None if self.birth_date_deleted else self.birth_date or known.birth_date,
            known.sex if self.sex is None else self.sex,
        )


NOBODY = Demographics(PersonName())


@dataclass(frozen=True, slots=True)
class RegisterPatient:
    """Register a person, or bring what is known of them up to date as of `at` (EVN-6, else EVN-2; UTC)."""

    identifiers: tuple[PatientIdentifier, ...]
    demographics: DemographicsSaid
    at: datetime | None
    source: Source
    label: Confidentiality | None = None
    visit: Visit | None = None


@dataclass(frozen=True, slots=True)
class MergePatients:
    """Link `subsumed` to the survivor named by `identifiers` (A40)."""

    identifiers: tuple[PatientIdentifier, ...]
    subsumed: tuple[PatientIdentifier, ...]
    demographics: DemographicsSaid
    at: datetime | None
    source: Source


def register_patient(uow: UnitOfWork, command: RegisterPatient, actor: Actor) -> Patient:
    """Register or update a patient; a message older than what is known changes nothing."""
    known = lock_patient(uow, command.identifiers)
    if known is None:
        patient = uow.patients.add(command.demographics.over(NOBODY), command.identifiers, command.at)
        name = EventName.PATIENT_REGISTERED
    else:
        patient = _bring_up_to_date(uow, known, command)
        name = EventName.PATIENT_UPDATED
    permit(uow, actor, Action.REGISTER_PATIENT, patient_id=patient.id, message_id=command.source.message_id)
    if known is None or not _is_stale(known, command):
        note_confidentiality(uow, command.identifiers, command.label, command.source)
        note_visit(uow, patient.id, command.visit, command.at)
    if patient is not known:
        _emit(uow, name, patient.id, command.source)
    return patient


def merge_patients(uow: UnitOfWork, command: MergePatients, actor: Actor) -> Patient:
    """Merge two patients; who is not known yet is made first, so that a later message finds the link."""
    if {i.key for i in command.identifiers} & {i.key for i in command.subsumed}:
        raise InvalidInput("A patient cannot be merged into itself.", field="MRG-1")
    known, subsumed = _lock_both(uow, command)
    survivor = known or uow.patients.add(command.demographics.over(NOBODY), command.identifiers, command.at)
    if subsumed is None:
        subsumed = uow.patients.add(survivor.demographics, command.subsumed, None)
    permit(uow, actor, Action.MERGE_PATIENTS, patient_id=survivor.id, message_id=command.source.message_id)
    survivor = _bring_up_to_date(
        uow, survivor, RegisterPatient(command.identifiers, command.demographics, command.at, command.source)
    )
    _refuse_contradicting_merge(uow, command, survivor)
    if survivor.id == subsumed.id:
        return survivor
    uow.patients.merge(survivor.id, subsumed.id, command.source.message_id)
    uow.audit(actor, Action.MERGE_PATIENTS, patient_id=subsumed.id, message_id=command.source.message_id)
    _emit(uow, EventName.PATIENTS_MERGED, survivor.id, command.source, {"subsumed": subsumed.id})
    return uow.patients.get(survivor.id)


def find_patient(
    uow: UnitOfWork, identifiers: tuple[PatientIdentifier, ...], *, field: str = "PID-3"
) -> Patient | None:
    """Return the surviving patient whom identifiers name; refuse when they name more than one."""
    if not identifiers:
        raise MissingField("No patient identifier is given.", field=field)
    found: dict[str, Patient] = {}
    for identifier in identifiers:
        patient = uow.patients.find(identifier.key)
        if patient is not None:
            found[patient.id] = patient
    if len(found) > 1:
        raise Conflict("The identifiers belong to different patients.", field=field)
    return next(iter(found.values()), None)


def lock_patient(uow: UnitOfWork, identifiers: tuple[PatientIdentifier, ...]) -> Patient | None:
    """Return the surviving patient whom identifiers name, locked, as they stand after the wait for the lock."""
    patient = find_patient(uow, identifiers)
    while patient is not None:
        uow.patients.lock(patient.id)
        locked = find_patient(uow, identifiers) if uow.on_postgresql else patient
        if locked is not None and locked.id == patient.id:
            return locked
        patient = locked
    return None


def unknown_identifiers(
    uow: UnitOfWork, patient: Patient, identifiers: tuple[PatientIdentifier, ...]
) -> list[PatientIdentifier]:
    """Return those identifiers that neither the patient nor anybody else holds yet, each once."""
    held = {identifier.key for identifier in patient.identifiers}
    fresh: dict[Identifier, PatientIdentifier] = {i.key: i for i in identifiers if i.key not in held}
    return [identifier for key, identifier in fresh.items() if uow.patients.find(key) is None]


def _is_stale(known: Patient, command: RegisterPatient) -> bool:
    return bool(command.at and known.demographics_at and command.at < known.demographics_at)


def _bring_up_to_date(uow: UnitOfWork, known: Patient, command: RegisterPatient) -> Patient:
    if _is_stale(known, command):
        return known
    fresh = unknown_identifiers(uow, known, command.identifiers)
    uow.patients.add_identifiers(known.id, fresh)
    said = command.demographics.over(known.demographics)
    changed = said != known.demographics
    if changed and is_another_person(known.demographics, said):
        uow.exceptions.add(
            ExceptionKind.DEMOGRAPHICS_DIFFER,
            patient_id=known.id,
            message_id=command.source.message_id,
            note="Family name and birth date changed at once.",
        )
    newer = command.at is not None and command.at != known.demographics_at
    if changed or newer:
        uow.patients.update(known.id, said, command.at or known.demographics_at)
    return uow.patients.get(known.id) if changed or newer or fresh else known


def _lock_both(uow: UnitOfWork, command: MergePatients) -> tuple[Patient | None, Patient | None]:
    """Return survivor and subsumed, locked, as they stand after the wait for the locks; None who is not known."""
    while True:
        survivor = find_patient(uow, command.identifiers)
        subsumed = find_patient(uow, command.subsumed, field="MRG-1")
        known = [patient.id for patient in (survivor, subsumed) if patient]
        uow.patients.lock(*known)
        if not uow.on_postgresql or [uow.patients.survivor(patient_id).id for patient_id in known] == known:
            return (survivor and uow.patients.get(survivor.id)), (subsumed and uow.patients.get(subsumed.id))


def _refuse_contradicting_merge(uow: UnitOfWork, command: MergePatients, survivor: Patient) -> None:
    """Take a repeated merge as done; refuse one that turns an earlier merge round, or names whom it merged elsewhere.

    To merge the survivor of that other merge instead would join two persons of whom nobody said that they are one.
    """
    into = _holders(uow, command.identifiers)
    away = _holders(uow, command.subsumed)
    above = {away_id: uow.patients.merged_into(away_id) for away_id in away}
    if into & (away | {patient_id for merges in above.values() for patient_id in merges}):
        return
    if any(away & set(uow.patients.merged_into(patient_id)) for patient_id in into):
        raise Conflict("These patients were merged the other way round before.", field="MRG-1")
    if any(merges and merges[-1] != survivor.id for merges in above.values()):
        raise Conflict("The patient was merged into another one before.", field="MRG-1")


def _holders(uow: UnitOfWork, identifiers: tuple[PatientIdentifier, ...]) -> set[str]:
    found = (uow.patients.holder(identifier.key) for identifier in identifiers)
    return {patient.id for patient in found if patient is not None}


def _emit(
    uow: UnitOfWork, name: EventName, patient_id: str, source: Source, details: dict[str, str] | None = None
) -> None:
    uow.emit(
        name,
        patient_id=patient_id,
        standard=source.standard,
        peer=source.peer,
        message_id=source.message_id,
        details=details or {},
    )
