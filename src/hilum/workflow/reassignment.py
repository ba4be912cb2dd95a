"""A person corrects whose images these are: a study or parts of it go to another patient or order, or two become one.

The bytes stay as received; every way out shows and sends them as they are now, with what they said before in Original
Attributes. More images of what was moved follow it. Each move says why, is audited with both patients, and can be taken
back. Nothing is moved away from a signed report: it is retracted first, so that no result rests on images of somebody
else. What is chosen in part gets a Study Instance UID of its own, and instances out of a series a series of their own
(PS3.3 C.7.2.1, C.7.3.1: a study is one patient's, a series one study's).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from hilum.core.actor import Actor
from hilum.core.errors import Conflict, InvalidInput, MissingField, NotFound
from hilum.core.event import EventName
from hilum.core.identifiers import new_uid
from hilum.core.order import Order
from hilum.core.report import SIGNED, ReportStatus
from hilum.core.study import ExceptionKind, MatchState, Study
from hilum.security.guard import permit
from hilum.security.policy import Action, require
from hilum.storage.deletions import has_study
from hilum.storage.reassignments import Reassignment, Reassignments
from hilum.storage.unit_of_work import UnitOfWork
from hilum.storage.unread import refresh_unread
from hilum.workflow.matching import MATCH_EXCEPTIONS, note_lateness, tie
from hilum.workflow.source import Source

LONGEST_REASON = 500
MOST_INSTANCES = 10_000
SOURCE = "Hilum page"


class ReassignmentKind(StrEnum):
    """What was done: a whole study moved, a part split off, a study joined into another."""

    MOVE = "move"
    SPLIT = "split"
    JOIN = "join"


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose a study is: what a person has seen before they decide, and what is put on record."""

    patient_id: str | None
    order_id: str | None
    match_state: str

    @classmethod
    def of(cls, study: Study) -> Whose:
        """Whose a study is now."""
        return cls(study.patient_id, study.order_id, study.match_state.value)


@dataclass(frozen=True, slots=True)
class ReassignStudy:
    """Move a study, or only these series and instances of it (by UID), to a patient and perhaps an order of theirs."""

    study_id: str
    seen: Whose
    patient_id: str
    order_id: str | None
    reason: str
    series: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JoinStudies:
    """Put all images of a study into another study of the same patient."""

    study_id: str
    seen: Whose
    into_study_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class UndoReassignment:
    """Take back what was moved."""

    reassignment_id: str
    reason: str


def reassign_study(uow: UnitOfWork, command: ReassignStudy, actor: Actor) -> Reassignment:
    """Move images to another patient or order; what is only a part becomes a study of its own."""
    require(actor, Action.REASSIGN_STUDY)
    study = _locked(uow, command.study_id, command.seen, command.patient_id)
    patient_id = uow.patients.survivor(command.patient_id).id
    order = uow.orders.get(command.order_id) if command.order_id else None
    _permit(uow, actor, study, patient_id, order, command.reason)
    if order is not None and uow.patients.survivor(order.patient_id).id != patient_id:
        raise Conflict("The order is another patient's.", field="order")
    _refuse_reported(uow, study.order_id)
    moves, taken = Reassignments(uow), _chosen(uow, study, command)
    if taken.is_all:
        if Whose.of(study) == Whose(study.patient_id, command.order_id, MatchState.VERIFIED.value) and _one_person(
            uow, study.patient_id, patient_id
        ):
            raise Conflict("The study is there already.")
        # Two studies of one UID can't both be shown: where there is another, this one goes on under a new UID.
        if not moves.others_under(study.study_instance_uid, study.id):
            done = _record(uow, study, study.id, ReassignmentKind.MOVE, taken, command.reason, actor)
            _decide(uow, study.id, patient_id, order, actor)
            _announce(uow, done, study, patient_id, order, actor)
            return done
    into_id = moves.copy_study(study.id, new_uid())
    done = _record(uow, study, into_id, ReassignmentKind.SPLIT, taken, command.reason, actor)
    _put(moves, study.id, into_id, taken)
    moves.recount(study.id, into_id)
    _decide(uow, into_id, patient_id, order, actor)
    _refresh(uow, study.order_id)
    _announce(uow, done, study, patient_id, order, actor)
    return done


def join_studies(uow: UnitOfWork, command: JoinStudies, actor: Actor) -> Reassignment:
    """Make two studies of one patient one; series of the same UID become one series."""
    require(actor, Action.REASSIGN_STUDY)
    if command.study_id == command.into_study_id or not has_study(uow.connection, command.into_study_id):
        raise NotFound("There is no such other study.", field="into")
    into = uow.studies.get(command.into_study_id)
    study = _locked(uow, command.study_id, command.seen, into.patient_id)
    into = uow.studies.get(into.id, lock=True)
    _permit(uow, actor, study, into.patient_id, None, command.reason)
    if not _one_person(uow, study.patient_id, into.patient_id):
        raise Conflict("The studies are of different patients; move one of them first.", field="into")
    if study.order_id != into.order_id:
        _refuse_reported(uow, study.order_id)
    moves, whole, single = Reassignments(uow), [], dict[str, str]()
    known = {row.series_instance_uid: row.id for row in moves.series(into.id)}
    for row in moves.series(study.id):
        if row.series_instance_uid in known:
            held = moves.all_of_series(row.id)
            moves.move_instances(list(held), known[row.series_instance_uid], into.id)
            single |= held
        else:
            whole.append(row.id)
    taken = _Taken(tuple(whole), single)
    done = _record(uow, study, into.id, ReassignmentKind.JOIN, taken, command.reason, actor)
    moves.move_series(whole, into.id, study.id)
    moves.recount(study.id, into.id)
    moves.mark(into.id, uow.now)
    uow.exceptions.resolve_for_study(study.id, MATCH_EXCEPTIONS, actor.name, "joined with another study")
    order = uow.orders.get(into.order_id) if into.order_id else None
    if order is not None:
        note_lateness(uow, into, order)
    _refresh(uow, study.order_id, into.order_id)
    assert into.patient_id is not None
    _announce(uow, done, study, into.patient_id, order, actor)
    return done


def undo_reassignment(uow: UnitOfWork, command: UndoReassignment, actor: Actor) -> Reassignment:
    """Take back what was moved, as far as nothing else was decided about it since."""
    require(actor, Action.REASSIGN_STUDY)
    moves = Reassignments(uow)
    done = moves.get(command.reassignment_id)
    if done is None or not (has_study(uow.connection, done.study_id) and has_study(uow.connection, done.into_study_id)):
        raise NotFound("There is no such move of images.")
    into = uow.studies.get(done.into_study_id)
    uow.patients.lock(into.patient_id, done.before["patient_id"])
    into = uow.studies.get(into.id, lock=True)
    study = uow.studies.get(done.study_id, lock=True)
    _permit(uow, actor, into, done.before["patient_id"], None, command.reason)
    standing = moves.standing([done.study_id, done.into_study_id])
    if done.id not in [each.id for each in standing]:
        raise Conflict("Someone else took this back already.")
    if standing[0].id != done.id or not moves.are_series([*done.series_ids, *done.instance_ids.values()]):
        raise Conflict("Something else was done with these images since; take that back first.")
    if done.kind != ReassignmentKind.JOIN or into.order_id != study.order_id:
        _refuse_reported(uow, into.order_id)
    moves.note_undone(done.id, actor.name, _checked(command.reason))
    if done.kind == ReassignmentKind.MOVE:
        whose = done.before
        uow.studies.match(study.id, MatchState(whose["match_state"]), whose["patient_id"], whose["order_id"])
    else:
        _put_back(moves, done)
        moves.recount(done.study_id, done.into_study_id)
    moves.withhold(done.before["withheld"], True)
    for study_id in {done.study_id, done.into_study_id}:
        moves.mark(study_id, max((each.at for each in moves.standing([study_id])), default=None))
    _refresh(uow, into.order_id, done.before["order_id"])
    _emit(uow, done, into.patient_id, into.order_id, actor, undone=True)
    _emit(uow, done, done.before["patient_id"], done.before["order_id"], actor, undone=True)
    return done


@dataclass(frozen=True, slots=True)
class _Taken:
    """What moves: whole series by their ids, and instances by theirs with the series each is in; neither for all."""

    series_ids: tuple[str, ...] = ()
    instance_ids: Mapping[str, str] = field(default_factory=dict)
    is_all: bool = False


def _chosen(uow: UnitOfWork, study: Study, command: ReassignStudy) -> _Taken:
    """What of the study is to move. Raises NotFound where something named is not in it."""
    moves = Reassignments(uow)
    there = {row.series_instance_uid: row.id for row in moves.series(study.id)}
    if not command.series and not command.instances:
        return _Taken(tuple(there.values()), is_all=True)
    if len(command.instances) > MOST_INSTANCES:
        raise InvalidInput("More images are named than are moved at once; name their series.", field="instances")
    if not set(command.series) <= set(there):
        raise NotFound("The study has no such series.", field="series")
    series_ids = tuple(there[uid] for uid in dict.fromkeys(command.series))
    found = moves.instances(study.id, command.instances)
    if command.instances and not found:
        raise NotFound("The study has no such image.", field="instances")
    single = {each: series_id for each, series_id in found.items() if series_id not in series_ids}
    for series_id in set(single.values()):
        if moves.all_of_series(series_id).keys() <= single.keys():  # all of a series is the series
            series_ids = (*series_ids, series_id)
            single = {each: other for each, other in single.items() if other != series_id}
    return _Taken(series_ids, single, is_all=not single and set(series_ids) == set(there.values()))


def _put(moves: Reassignments, study_id: str, into_id: str, taken: _Taken) -> None:
    moves.move_series(taken.series_ids, into_id, study_id)
    for series_id in sorted(set(taken.instance_ids.values())):
        new_series = moves.copy_series(series_id, into_id, new_uid())
        ids = [each for each, of in taken.instance_ids.items() if of == series_id]
        moves.move_instances(ids, new_series, into_id)


def _put_back(moves: Reassignments, done: Reassignment) -> None:
    moves.move_series(done.series_ids, done.study_id, None)
    for series_id in sorted(set(done.instance_ids.values())):
        ids = [each for each, of in done.instance_ids.items() if of == series_id]
        moves.move_instances(ids, series_id, done.study_id)


def _decide(uow: UnitOfWork, study_id: str, patient_id: str, order: Order | None, actor: Actor) -> None:
    """Let a study be a patient's and an order's by a person's word."""
    moves, before = Reassignments(uow), uow.studies.get(study_id)
    moves.withhold(moves.withheld(study_id), False)
    if order is not None:
        tie(uow, before, order, Source(SOURCE, actor.name))
    else:
        uow.studies.match(study_id, MatchState.VERIFIED, patient_id, None)
        uow.exceptions.resolve_for_study(study_id, MATCH_EXCEPTIONS, actor.name, "moved to a patient by a person")
    moves.mark(study_id, uow.now)
    _refresh(uow, before.order_id, order.id if order is not None else None)


def _locked(uow: UnitOfWork, study_id: str, seen: Whose, patient_id: str | None) -> Study:
    """The study, locked with both patients, provided that it is still whose the person saw it to be."""
    if not has_study(uow.connection, study_id):
        raise NotFound("There is no such study.")
    if patient_id is not None and not uow.patients.exists(patient_id):
        raise NotFound("There is no such patient.", field="patient")
    uow.patients.lock(uow.studies.get(study_id).patient_id, patient_id)
    study = uow.studies.get(study_id, lock=True)
    if Whose.of(study) != seen:
        raise Conflict("Someone else has changed whose the study is; look at it again.")
    return study


def _permit(
    uow: UnitOfWork, actor: Actor, study: Study, patient_id: str | None, order: Order | None, reason: str
) -> None:
    """Let the actor act on both patients, audited with each."""
    order_id = order.id if order is not None else None
    permit(uow, actor, Action.REASSIGN_STUDY, patient_id=patient_id, order_id=order_id, study_id=study.id)
    permit(uow, actor, Action.REASSIGN_STUDY, patient_id=study.patient_id, order_id=study.order_id, study_id=study.id)
    uow.audit(actor, Action.REASSIGN_STUDY, reason=_checked(reason), patient_id=study.patient_id, study_id=study.id)


def _checked(reason: str) -> str:
    if not reason.strip():
        raise MissingField("Say how you know whose images these are.", field="reason")
    return reason.strip()[:LONGEST_REASON]


def _refuse_reported(uow: UnitOfWork, order_id: str | None) -> None:
    status = uow.reports.status_of(order_id) if order_id is not None else None
    if status in SIGNED and status is not ReportStatus.RETRACTED:
        raise Conflict("A signed report rests on these images: retract it first.")


def _one_person(uow: UnitOfWork, one: str | None, other: str | None) -> bool:
    if one is None or other is None:
        return False
    return uow.patients.survivor(one).id == uow.patients.survivor(other).id


def _refresh(uow: UnitOfWork, *order_ids: str | None) -> None:
    """Bring orders in line with the images they have now; one that lost them all may have to be examined yet."""
    for order_id in sorted({each for each in order_ids if each}):
        refresh_unread(uow, order_id)
        if Reassignments(uow).has_images(order_id):
            uow.exceptions.resolve_for_order(order_id, ExceptionKind.IMAGES_MOVED_AWAY, "hilum", "it has images")
        else:
            patient_id = uow.orders.get(order_id).patient_id
            uow.exceptions.add(ExceptionKind.IMAGES_MOVED_AWAY, order_id=order_id, patient_id=patient_id)


def _record(
    uow: UnitOfWork, study: Study, into_id: str, kind: ReassignmentKind, taken: _Taken, reason: str, actor: Actor
) -> Reassignment:
    """Put on record how it is before anything moves."""
    moves = Reassignments(uow)
    return moves.add(
        kind=kind.value,
        study_id=study.id,
        into_study_id=into_id,
        before={**asdict(Whose.of(study)), "withheld": moves.withheld(study.id)},
        series_ids=list(taken.series_ids),
        instance_ids=dict(taken.instance_ids),
        reason=_checked(reason),
        by=actor.name,
    )


def _announce(
    uow: UnitOfWork, done: Reassignment, study: Study, patient_id: str, order: Order | None, actor: Actor
) -> None:
    """Tell of it in the lanes of both patients."""
    _emit(uow, done, study.patient_id, study.order_id, actor, undone=False)
    if (study.patient_id, study.order_id) != (patient_id, order.id if order else None):
        _emit(uow, done, patient_id, order.id if order else None, actor, undone=False)


def _emit(
    uow: UnitOfWork, done: Reassignment, patient_id: str | None, order_id: str | None, actor: Actor, *, undone: bool
) -> None:
    uow.emit(
        EventName.STUDY_REASSIGNED,
        patient_id=patient_id,
        order_id=order_id,
        study_id=done.into_study_id,
        standard=SOURCE,
        peer=actor.name,
        details={"reassignment": done.id, "kind": done.kind, "from_study": done.study_id, "undone": undone},
    )
