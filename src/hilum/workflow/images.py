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
from hilum.core.order import Order, OrderStatus
from hilum.core.study import ExceptionKind, MatchState, Study
from hilum.core.text import fold
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.arrivals import Place, find_place
from hilum.storage.completion import was_complete_before
from hilum.storage.hiding import DELETED, hidden_on_arrival
from hilum.storage.reassignments import Reassignments
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.acquisition import images_complete_exam, images_prove_exam
from hilum.workflow.completion import ExamsSay, announce, exams_say
from hilum.workflow.deletion import keep_after_all
from hilum.workflow.holding import hold_back
from hilum.workflow.integrity import restore_bytes
from hilum.workflow.matching import (
    PatientOnImages,
    contradict,
    find_match,
    note_lateness,
    patient_of_study,
    study_keys,
)
from hilum.workflow.rejection import RejectionNote, receive_rejection, refuse_rejected
from hilum.workflow.source import Source


@dataclass(frozen=True, slots=True)
class RecordInstance:
    """An instance that the archive has made durable, with what its header says.

    `study`, `series` and `instance` are the columns of the index as the images give them; `performed_uid` is the
    Referenced Performed Procedure Step (0008,1111), `step_id` the SPS ID of the Request Attributes Sequence; `note` is
    set for a rejection note, `held` where a rule holds the instance back.
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
    note: RejectionNote | None = None
    held: bool = False


@dataclass(frozen=True, slots=True)
class CompleteStudy:
    """A study that has received nothing for the time `quiet`; while its exam is under way, for `patience`."""

    study_id: str
    quiet: timedelta
    patience: timedelta = timedelta()


class Recorded(StrEnum):
    """What became of an instance."""

    STORED = "stored"
    KNOWN = "known"
    BESIDE = "beside"


def record_instance(uow: UnitOfWork, command: RecordInstance, actor: Actor) -> Recorded:
    """Put an instance into the index, once; other bytes under a known UID are kept beside and listed.

    Raises Rejected for one that a rejection note has put out of use for good.
    """
    sop_instance_uid = command.instance["sop_instance_uid"]
    held = uow.studies.instance(sop_instance_uid)
    for row in held:
        refuse_rejected(uow, sop_instance_uid, row.hidden)
    same = next((row for row in held if row.digest == command.instance["digest"]), None)
    if same is not None:
        permit(uow, actor, Action.STORE_IMAGES)
        restore_bytes(uow, same.id, same.study_id, command.instance, actor)
        if same.hidden == DELETED:
            keep_after_all(uow, same.id, same.study_id, sop_instance_uid, same.digest)
        return Recorded.KNOWN
    place, is_new, contradicts = _place(uow, command)
    study = place.study
    order = None if place.is_one_more else _order(uow, place, is_new)
    permit(uow, actor, Action.STORE_IMAGES, patient_id=study.patient_id, study_id=study.id, order_id=study.order_id)
    beside = bool(held)
    withheld = contradicts or command.held or (not place.is_one_more and _wrong_entry(uow, command, study, order))
    withheld = withheld or _comes_after_move(uow, place)
    hidden = None if place.is_one_more else hidden_on_arrival(uow, sop_instance_uid)
    if command.held:
        hold_back(uow, study, place.series_id, sop_instance_uid)
    series = {**command.series, "withheld": withheld}
    instance = {**command.instance, "beside": beside, "hidden": hidden}
    uow.studies.add_instance(study, place.series_id, series, instance)
    if beside:
        _list(uow, ExceptionKind.INSTANCE_WITH_OTHER_BYTES, study, sop_instance_uid)
        return Recorded.BESIDE
    if command.note is not None:
        named = command.patient.identifier
        receive_rejection(uow, sop_instance_uid, command.note, study, named, command.source, actor)
    if is_new or study.completed_at is not None:
        _announce(uow, study, command)
    if order is not None and study.match_state is MatchState.VERIFIED:
        if command.note is None:
            note_lateness(uow, study, order)
        if (is_new or study.completed_at is not None) and order.status is OrderStatus.SCHEDULED:
            images_prove_exam(uow, order, command.source, command.step_id)
    return Recorded.STORED


def complete_study(uow: UnitOfWork, command: CompleteStudy, actor: Actor) -> bool:
    """Record that no more images are expected of a study, unless one came just now; tell whether it was so."""
    study = uow.studies.get(command.study_id, lock=True)
    permit(uow, actor, Action.STORE_IMAGES, patient_id=study.patient_id, study_id=study.id)
    if study.completed_at is not None:
        return False
    said = exams_say(uow, study)
    quiet = max(command.quiet, command.patience) if said is ExamsSay.UNDER_WAY else command.quiet
    if said is not ExamsSay.ALL_HERE and study.last_received_at > uow.now - quiet:
        return False
    late = was_complete_before(uow, study.id)
    announce(uow, study, actor.name)
    uow.studies.complete(study.id)
    uow.emit(
        EventName.STUDY_COMPLETED,
        patient_id=study.patient_id,
        order_id=study.order_id,
        study_id=study.id,
        standard="Hilum",
        peer=actor.name,
        details={
            "instances": study.instance_count,
            "series": study.series_count,
            "late": late,
            "by": "exam" if said is ExamsSay.ALL_HERE else "quiet",
        },
    )
    if study.order_id is not None and study.match_state is MatchState.VERIFIED:
        order = uow.orders.get(study.order_id)
        uow.patients.lock(order.patient_id)
        images_complete_exam(uow, uow.orders.get(order.id), Source("Hilum", actor.name))
    return True


def _place(uow: UnitOfWork, command: RecordInstance) -> tuple[Place, bool, bool]:
    """Return the place of an instance, whether its study is new, and whether the other images are of another person.

    The row is locked until the commit. Of a new study, the numbers that an order may come with are locked too.
    """
    known = known_place(uow, command)
    if known is None:
        uow.lock_keys(*study_keys(command.accession_number, command.study_instance_uid))
        known = known_place(uow, command) if uow.on_postgresql else None
    if known is None or known.row is None:
        return Place(_new_study(uow, command)), True, False
    contradicts = contradict(patient_of_study(known.row), command.patient)
    if contradicts:
        _list(uow, ExceptionKind.DEMOGRAPHICS_DIFFER, known.study, "Images of one study name two persons.")
    return known, False, contradicts


def known_place(uow: UnitOfWork, command: RecordInstance) -> Place | None:
    """Return where an instance belongs if anything of its study is known; the row is locked until the commit."""
    return find_place(
        uow,
        command.study_instance_uid,
        command.patient.identifier,
        command.series["series_instance_uid"],
        command.performed_uid,
    )


def _new_study(uow: UnitOfWork, command: RecordInstance) -> Study:
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
    return uow.studies.get(study_id)


def _order(uow: UnitOfWork, place: Place, is_new: bool) -> Order | None:
    """Return the order of a study; its patient is locked where the instance is more than one more of a known series."""
    study = place.study
    if study.order_id is None:
        return None
    order = uow.orders.get(study.order_id)
    more = not is_new and study.completed_at is None
    if uow.on_postgresql and not (more and place.series_id is not None):
        uow.patients.lock(order.patient_id)
        order = uow.orders.get(order.id)
    return order


def _wrong_entry(uow: UnitOfWork, command: RecordInstance, study: Study, order: Order | None) -> bool:
    """Tell whether an instance belongs to an exam that was done under the wrong worklist entry.

    Where nothing says which exam it belongs to, and the order has none but such, it belongs to one of them.
    """
    series_uid = command.series["series_instance_uid"]
    performed = uow.exams.find(command.performed_uid, lock=True) if command.performed_uid else None
    if performed is not None:
        uow.exams.relate_series(performed.id, series_uid)
    else:
        performed = uow.exams.of_series(series_uid)
    if performed is None and order is not None:
        exams = uow.exams.of_order(order.id)
        performed = exams[-1] if all(exam.was_wrong_entry for exam in exams) and exams else None
    if performed is None or not performed.was_wrong_entry:
        return False
    _list(uow, ExceptionKind.WRONG_WORKLIST_ENTRY, study, performed.sop_instance_uid)
    return True


def _comes_after_move(uow: UnitOfWork, place: Place) -> bool:
    """Tell whether a series is new to a study that a person moved: it may be of whom its numbers name after all."""
    if place.series_id is not None or place.row is None or place.row["reassigned_at"] is None:
        return False
    if not Reassignments(uow).was_moved(place.study.id):
        return False
    _list(uow, ExceptionKind.IMAGES_AFTER_MOVE, place.study, "")
    return True


def _list(uow: UnitOfWork, kind: ExceptionKind, study: Study, note: str) -> None:
    uow.exceptions.add(kind, study_id=study.id, order_id=study.order_id, patient_id=study.patient_id, note=note)


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
