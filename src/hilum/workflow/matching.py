"""Whose images are these? Studies are tied to orders by accession number or study UID, and only for the right patient.

Nothing is guessed: what does not agree is readable under a banner and stands on the reconciliation list.
Source: PS3.3 C.7.1, C.7.2; IHE RAD TF-2 4.8; design.md link 7.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from hilum.core.actor import Identifier
from hilum.core.event import EventName
from hilum.core.order import Order
from hilum.core.patient import Demographics, Patient, PersonName, is_another_person
from hilum.core.report import AUTHORITATIVE
from hilum.core.study import ExceptionKind, MatchState, Study
from hilum.core.text import fold
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.acquisition import images_complete_exam, images_prove_exam
from hilum.workflow.source import Source

MATCH_EXCEPTIONS = (
    ExceptionKind.IMAGES_WITHOUT_ORDER,
    ExceptionKind.IMAGES_OF_ANOTHER_PATIENT,
    ExceptionKind.IMAGES_OF_UNKNOWN_PATIENT,
    ExceptionKind.IMAGES_WITH_OTHER_NUMBERS,
)


@dataclass(frozen=True, slots=True)
class PatientOnImages:
    """The patient as the images name them; `name` is a DICOM PN, `birth_date` a DICOM DA."""

    identifier: str
    authority: str
    name: str
    birth_date: str
    sex: str

    @property
    def demographics(self) -> Demographics:
        """What can be compared with a registered patient."""
        return Demographics(PersonName.from_dicom(self.name), _date(self.birth_date), self.sex)


@dataclass(frozen=True, slots=True)
class Match:
    """What was found out about a study; `exception` is why a person has to look, if so."""

    state: MatchState
    patient_id: str | None
    order: Order | None
    exception: ExceptionKind | None = None


def study_keys(accession_number: str, study_instance_uid: str) -> list[str]:
    """Return the keys that an order and images not yet known meet by (`UnitOfWork.lock_keys`)."""
    named = (("accession", accession_number), ("study", study_instance_uid))
    return [f"{kind}:{value}" for kind, value in named if value]


def find_match(uow: UnitOfWork, on_images: PatientOnImages, accession_number: str, study_instance_uid: str) -> Match:
    """Find the order and patient of a study by what its images say; one key that disagrees goes to a person."""
    by_study_uid = uow.orders.by_study_uid(study_instance_uid)
    if by_study_uid is not None and by_study_uid.accession_number == accession_number:
        by_accession: Order | None = by_study_uid
    else:
        by_accession = uow.orders.by_accession(accession_number) if accession_number else None
    order = by_study_uid or by_accession
    if order is None:
        known = _find_patient(uow, on_images)
        if known is None:
            return Match(MatchState.UNVERIFIED, None, None, ExceptionKind.IMAGES_OF_UNKNOWN_PATIENT)
        return Match(MatchState.UNVERIFIED, known.id, None, ExceptionKind.IMAGES_WITHOUT_ORDER)
    if not on_images.identifier:
        return Match(MatchState.UNVERIFIED, None, order, ExceptionKind.IMAGES_OF_UNKNOWN_PATIENT)
    if not is_patient(uow, uow.patients.survivor(order.patient_id), on_images):
        return Match(MatchState.CONFLICT, None, order, ExceptionKind.IMAGES_OF_ANOTHER_PATIENT)
    if by_accession is not None and by_accession.id != order.id:
        return Match(MatchState.CONFLICT, None, order, ExceptionKind.IMAGES_WITH_OTHER_NUMBERS)
    if accession_number not in ("", order.accession_number):
        return Match(MatchState.UNVERIFIED, order.patient_id, order, ExceptionKind.IMAGES_WITH_OTHER_NUMBERS)
    return Match(MatchState.VERIFIED, order.patient_id, order)


def is_patient(uow: UnitOfWork, patient: Patient, on_images: PatientOnImages) -> bool:
    """Tell whether images name this patient: an identifier of theirs, and not another person's name and birth date."""
    held = [
        identifier
        for identifier in uow.patients.identifiers_of_family(patient.id)
        if identifier.value == on_images.identifier
        and (not on_images.authority or not identifier.authority or identifier.authority == on_images.authority)
    ]
    return bool(held) and not is_another_person(patient.demographics, on_images.demographics)


def contradict(one: PatientOnImages, other: PatientOnImages) -> bool:
    """Tell whether images that carry one patient identifier are of two persons all the same."""
    if one == other:
        return False
    issuers = {one.authority, other.authority} - {""}
    return len(issuers) > 1 or is_another_person(one.demographics, other.demographics)


def patient_of_study(row: Mapping[str, Any]) -> PatientOnImages:
    """Return the patient whom a study's images name, from its row."""
    return PatientOnImages(
        row["patient_identifier"],
        row["patient_authority"],
        row["patient_name"],
        row["patient_birth_date"],
        row["patient_sex"],
    )


def match_waiting_studies(uow: UnitOfWork, order: Order, source: Source) -> bool:
    """Tie images that came before their order to it, where they are of its patient and nothing contradicts.

    Tells whether any images wait, so that the order may have changed.
    """
    waiting = uow.studies.unmatched(order.accession_number, order.study_instance_uid)
    for study in waiting:
        on_images = patient_of_study(uow.studies.row(study.id))
        match = find_match(uow, on_images, study.accession_number, study.study_instance_uid)
        if match.order is None or match.order.id != order.id:
            continue
        if match.state is MatchState.VERIFIED:
            tie(uow, study, order, source)
            continue
        uow.studies.match(study.id, match.state, match.patient_id, None)
        uow.exceptions.resolve_for_study(study.id, MATCH_EXCEPTIONS, "hilum", "an order arrived")
        assert match.exception is not None
        uow.exceptions.add(match.exception, order_id=order.id, study_id=study.id, patient_id=order.patient_id)
    return bool(waiting)


def note_lateness(uow: UnitOfWork, study: Study, order: Order) -> None:
    """List images of an order that was withdrawn, and images that whoever reported it has not seen."""
    subject = {"order_id": order.id, "study_id": study.id, "patient_id": order.patient_id}
    if order.withdrawn:
        uow.exceptions.add(ExceptionKind.IMAGES_AFTER_CANCELLATION, **subject)
    if uow.reports.status_of(order.id) in AUTHORITATIVE:
        uow.exceptions.add(ExceptionKind.IMAGES_AFTER_REPORT, **subject)


def tie(uow: UnitOfWork, study: Study, order: Order, source: Source) -> None:
    """Tie a study to an order of its patient; the exam that it proves begins, if it had not."""
    uow.studies.match(study.id, MatchState.VERIFIED, order.patient_id, order.id)
    uow.exceptions.resolve_for_study(study.id, MATCH_EXCEPTIONS, "hilum", "matched to an order")
    uow.emit(
        EventName.STUDY_MATCHED,
        patient_id=order.patient_id,
        order_id=order.id,
        study_id=study.id,
        standard=source.standard,
        peer=source.peer,
        message_id=source.message_id,
    )
    note_lateness(uow, study, order)
    if order.withdrawn:
        return
    images_prove_exam(uow, order, source)
    if study.completed_at is not None:
        images_complete_exam(uow, uow.orders.get(order.id), source)


def _find_patient(uow: UnitOfWork, on_images: PatientOnImages) -> Patient | None:
    """Return the one registered patient whom images without an order can be of: all that is given agrees."""
    if not on_images.identifier:
        return None
    if on_images.authority:
        found = uow.patients.find(Identifier(on_images.identifier, on_images.authority))
        candidates = [found] if found else []
    else:
        candidates = uow.patients.holders(on_images.identifier)
    said = on_images.demographics
    family = fold(said.name.family)
    agreeing = [
        patient
        for patient in candidates
        if family
        and fold(patient.demographics.name.family) == family
        and (said.birth_date is None or patient.demographics.birth_date in (None, said.birth_date))
    ]
    return agreeing[0] if len(agreeing) == 1 else None


def _date(text: str) -> date | None:
    try:
        return datetime.strptime(text[:8], "%Y%m%d").date()  # a DICOM DA has no zone
    except ValueError:
        return None
