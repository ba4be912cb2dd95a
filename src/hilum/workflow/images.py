"""Link 7, Images: the index of what the archive has made durable, and the completion of studies.

The bytes are safe before `record_instance` runs; the sender hears of success after both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from hilum.core.actor import Actor
from hilum.core.event import EventName
from hilum.core.order import OrderStatus
from hilum.core.report import AUTHORITATIVE
from hilum.core.study import ExceptionKind, MatchState, Study
from hilum.core.text import fold
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.acquisition import images_complete_exam, images_prove_exam
from hilum.workflow.matching import PatientOnImages, find_match
from hilum.workflow.source import Source


@dataclass(frozen=True, slots=True)
class RecordInstance:
    """An instance that the archive has made durable, with what its header says.

    `study`, `series` and `instance` are the columns of the index as the images give them; `performed_uid` is the
    Referenced Performed Procedure Step (0008,1111), `step_id` the SPS ID of the Request Attributes Sequence.
    """

    study_instance_uid: str
    patient: PatientOnImages
    accession_number: str
    study: Mapping[str, Any]
    series: Mapping[str, Any]
    instance: Mapping[str, Any]
    source: Source
    performed_uid: str = ""
    step_id: str = ""


class Recorded(StrEnum):
    """What became of an instance."""

    STORED = "stored"
    KNOWN = "known"
    BESIDE = "beside"


def record_instance(uow: UnitOfWork, command: RecordInstance, actor: Actor) -> Recorded:
    """Put an instance into the index, once; other bytes under a known UID are kept beside and listed."""
    held = uow.studies.instance(command.instance["sop_instance_uid"])
    if any(row.digest == command.instance["digest"] for row in held):
        permit(uow, actor, Action.STORE_IMAGES)
        return Recorded.KNOWN
    study, is_new = _study(uow, command)
    order = uow.orders.get(study.order_id) if study.order_id else None
    permit(uow, actor, Action.STORE_IMAGES, study_id=study.id, order_id=study.order_id)
    beside = bool(held)
    withheld = _wrong_entry(uow, command)
    uow.studies.add_instance(study, {**command.series, "withheld": withheld}, {**command.instance, "beside": beside})
    if beside:
        uow.exceptions.add(
            ExceptionKind.INSTANCE_WITH_OTHER_BYTES,
            study_id=study.id,
            order_id=study.order_id,
            patient_id=study.patient_id,
            note=command.instance["sop_instance_uid"],
        )
        return Recorded.BESIDE
    if is_new or study.completed_at is not None:
        _announce(uow, study, command)
        if order is not None and study.match_state is MatchState.VERIFIED:
            _check_lateness(uow, study, order.id, order.status)
            if order.status is OrderStatus.SCHEDULED:
                images_prove_exam(uow, order, command.source, command.step_id)
    return Recorded.STORED


def complete_study(uow: UnitOfWork, study_id: str, actor: Actor) -> bool:
    """Record that a study has been quiet long enough to be complete; tell whether it was so."""
    study = uow.studies.get(study_id)
    permit(uow, actor, Action.STORE_IMAGES, study_id=study.id)
    if study.completed_at is not None:
        return False
    uow.studies.complete(study.id)
    uow.emit(
        EventName.STUDY_COMPLETED,
        patient_id=study.patient_id,
        order_id=study.order_id,
        study_id=study.id,
        standard="Hilum",
        peer=actor.name,
        details={"instances": study.instance_count, "series": study.series_count},
    )
    if study.order_id is not None and study.match_state is MatchState.VERIFIED:
        order = uow.orders.get(study.order_id)
        uow.patients.lock(order.patient_id)
        images_complete_exam(uow, order, Source("Hilum", actor.name))
    return True


def quiet_studies(uow: UnitOfWork, quiet: timedelta, actor: Actor) -> list[str]:
    """Return studies that have received nothing for a while and are not complete yet."""
    permit(uow, actor, Action.STORE_IMAGES)
    return [study.id for study in uow.studies.quiet_since(uow.now - quiet)]


def _study(uow: UnitOfWork, command: RecordInstance) -> tuple[Study, bool]:
    known = uow.studies.find(command.study_instance_uid, command.patient.identifier)
    if known is not None:
        return known, False
    match = find_match(uow, command.patient, command.accession_number, command.study_instance_uid)
    order = match.order if match.state is MatchState.VERIFIED else None
    study_id = uow.studies.add(
        {
            **command.study,
            "study_instance_uid": command.study_instance_uid,
            "patient_id": match.patient_id,
            "order_id": order.id if order else None,
            "match_state": match.state.value,
            "patient_identifier": command.patient.identifier,
            "patient_authority": command.patient.authority,
            "patient_name": command.patient.name,
            "patient_name_folded": fold(command.patient.name),
            "patient_birth_date": command.patient.birth_date,
            "patient_sex": command.patient.sex,
            "accession_number": command.accession_number,
        }
    )
    if match.exception is not None:
        uow.exceptions.add(
            match.exception,
            study_id=study_id,
            patient_id=match.patient_id,
            order_id=match.order.id if match.order else None,
        )
    return uow.studies.get(study_id), True


def _wrong_entry(uow: UnitOfWork, command: RecordInstance) -> bool:
    """Tell whether an instance belongs to an exam that was done under the wrong worklist entry."""
    series_uid = command.series["series_instance_uid"]
    performed = uow.exams.find(command.performed_uid) if command.performed_uid else None
    if performed is not None:
        uow.exams.relate_series(performed.id, series_uid)
    else:
        performed = uow.exams.of_series(series_uid)
    return performed is not None and performed.was_wrong_entry


def _announce(uow: UnitOfWork, study: Study, command: RecordInstance) -> None:
    name = EventName.IMAGES_ARRIVED if study.match_state is MatchState.VERIFIED else EventName.STUDY_UNMATCHED
    uow.emit(
        name,
        patient_id=study.patient_id,
        order_id=study.order_id,
        study_id=study.id,
        standard=command.source.standard,
        peer=command.source.peer,
        details={"state": study.match_state.value},
    )


def _check_lateness(uow: UnitOfWork, study: Study, order_id: str, status: OrderStatus) -> None:
    if status in (OrderStatus.CANCELLED, OrderStatus.DISCONTINUED):
        uow.exceptions.add(
            ExceptionKind.IMAGES_AFTER_CANCELLATION, order_id=order_id, study_id=study.id, patient_id=study.patient_id
        )
    report = uow.reports.of_order(order_id)
    if report is not None and report.status in AUTHORITATIVE:
        uow.exceptions.add(
            ExceptionKind.IMAGES_AFTER_REPORT, order_id=order_id, study_id=study.id, patient_id=study.patient_id
        )
