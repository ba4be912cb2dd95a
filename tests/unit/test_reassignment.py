"""Images go to whom they belong by a person's word: moved, split, joined, taken back; never from a signed report."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fixtures.stores import HL7_PEER
from fixtures.ward import PAGE, RADIOLOGIST, TECHNOLOGIST, Ward, during, image, naming, on_images
from hilum.core.actor import Actor, ActorKind, Door, Role
from hilum.core.errors import Conflict, Forbidden, HilumError, MissingField, NotFound
from hilum.core.event import EventName
from hilum.core.identifiers import new_uid
from hilum.core.order import Order
from hilum.core.report import ReportStatus
from hilum.core.scope import EVERYTHING
from hilum.core.study import ExceptionKind, MatchState, Study
from hilum.storage.reassignments import Reassignment
from hilum.storage.retrieval import find_instances, find_study
from hilum.storage.store import Store
from hilum.workflow.images import Recorded
from hilum.workflow.reassignment import (
    JoinStudies,
    ReassignStudy,
    UndoReassignment,
    Whose,
    join_studies,
    reassign_study,
    undo_reassignment,
)
from hilum.workflow.reporting import SignReport, sign_report

WHY = "The technologist chose the wrong line."


@pytest.fixture
def ward(store: Store) -> Ward:
    return Ward(store)


def exam(ward: Ward, number: str, *series: str) -> tuple[Order, Study]:
    """An order of a patient with an image in each series."""
    placed = ward.place(number)
    for uid in series or (new_uid(),):
        ward.send(ward.image_of(placed, number, series=uid))
    return placed, ward.study(placed.study_instance_uid)


def move(
    ward: Ward, study: Study, patient_id: str, order: Order | None = None, actor: Actor = TECHNOLOGIST,
    reason: str = WHY, **parts: tuple[str, ...],
) -> Reassignment:  # fmt: skip
    command = ReassignStudy(study.id, Whose.of(study), patient_id, order.id if order else None, reason, **parts)
    return ward.store.run(reassign_study, command, actor)


def undo(ward: Ward, done: Reassignment, actor: Actor = TECHNOLOGIST) -> Reassignment:
    return ward.store.run(undo_reassignment, UndoReassignment(done.id, "It was right before."), actor)


def get(ward: Ward, study_id: str) -> Study:
    return ward.ask(lambda uow: uow.studies.get(study_id))


def shown(ward: Ward, study_uid: str) -> tuple[str | None, int]:
    """Whose the study of a UID is shown to be, and with how many images."""
    with ward.store.read() as db:
        found = find_study(db, study_uid, EVERYTHING)
        return (found.patient_id, len(find_instances(db, found.id))) if found else (None, 0)


def test_a_study_moves_to_another_patient_and_order_and_back(ward: Ward) -> None:
    wrong, study = exam(ward, "1")
    right = ward.place("2")
    done = move(ward, study, right.patient_id, right)
    moved = get(ward, study.id)
    assert (moved.patient_id, moved.order_id) == (right.patient_id, right.id)
    assert (moved.match_state, moved.study_instance_uid) == (MatchState.VERIFIED, wrong.study_instance_uid)
    assert ward.events(EventName.STUDY_REASSIGNED) == 2
    assert [item.order_id for item in ward.open_items(ExceptionKind.IMAGES_MOVED_AWAY)] == [wrong.id]
    undo(ward, done)
    assert Whose.of(get(ward, study.id)) == Whose.of(study)
    assert [item.order_id for item in ward.open_items(ExceptionKind.IMAGES_MOVED_AWAY)] == [right.id]
    with pytest.raises(Conflict):
        undo(ward, done)


def test_after_a_move_more_of_its_series_follow_and_new_series_wait_for_a_person(ward: Ward) -> None:
    """The order that the wrong exam was made under is examined yet, with the same numbers."""
    one = new_uid()
    wrong, study = exam(ward, "1", one)
    right = ward.place("2")
    move(ward, study, right.patient_id, right)
    assert ward.send(ward.image_of(wrong, "1", series=one)) is Recorded.STORED
    assert shown(ward, study.study_instance_uid) == (right.patient_id, 2)
    own = new_uid()
    ward.send(ward.image_of(wrong, "1", series=own))
    ward.send(ward.image_of(wrong, "1", series=own))
    assert shown(ward, study.study_instance_uid) == (right.patient_id, 2)
    assert len(ward.open_items(ExceptionKind.IMAGES_AFTER_MOVE)) == 1
    done = move(ward, get(ward, study.id), wrong.patient_id, wrong, series=(own,))
    assert shown(ward, get(ward, done.into_study_id).study_instance_uid) == (wrong.patient_id, 2)
    assert not ward.open_items(ExceptionKind.IMAGES_MOVED_AWAY)


def test_a_study_may_be_a_patients_without_an_order_and_then_names_none(ward: Ward) -> None:
    _, study = exam(ward, "1")
    other = ward.register("2")
    move(ward, study, other.id)
    with ward.store.read() as db:
        found = find_study(db, study.study_instance_uid, EVERYTHING)
    assert found is not None and (found.patient_id, found.truth.accession_number) == (other.id, "")
    assert not ward.open_items(ExceptionKind.IMAGES_WITHOUT_ORDER)


def test_a_part_becomes_a_study_of_its_own_and_late_images_of_it_follow(ward: Ward) -> None:
    one, two = new_uid(), new_uid()
    wrong, study = exam(ward, "1", one, one, two)
    right = ward.place("2")
    done = move(ward, study, right.patient_id, right, series=(two,))
    split = get(ward, done.into_study_id)
    assert split.study_instance_uid not in (wrong.study_instance_uid, right.study_instance_uid)
    assert (split.instance_count, split.series_count, split.modalities) == (1, 1, ("CT",))
    assert shown(ward, study.study_instance_uid) == (wrong.patient_id, 2)
    ward.send(ward.image_of(wrong, "1", series=two))
    ward.send(ward.image_of(wrong, "1", series=one))
    assert shown(ward, split.study_instance_uid) == (right.patient_id, 2)
    assert shown(ward, study.study_instance_uid) == (wrong.patient_id, 3)
    undo(ward, done)
    assert shown(ward, study.study_instance_uid) == (wrong.patient_id, 5)
    assert shown(ward, split.study_instance_uid) == (None, 0)


def test_single_images_get_a_series_of_their_own(ward: Ward) -> None:
    one = new_uid()
    wrong, study = exam(ward, "1", one)
    strays = [ward.image_of(wrong, "1", series=one) for _ in range(2)]
    for stray in strays:
        ward.send(stray)
    right = ward.place("2")
    uids = tuple(str(stray.instance["sop_instance_uid"]) for stray in strays)
    done = move(ward, study, right.patient_id, right, instances=uids)
    with ward.store.read() as db:
        found = find_instances(db, done.into_study_id)
    assert {each.sop_instance_uid for each in found} == set(uids)
    assert one not in {each.series_instance_uid for each in found}
    undo(ward, done)
    assert shown(ward, study.study_instance_uid) == (wrong.patient_id, 3)


def test_two_studies_of_one_patient_are_joined_and_parted_again(ward: Ward) -> None:
    placed, into = exam(ward, "1")
    loose, shared = new_uid(), new_uid()
    ward.send(ward.image_of(placed, "1", series=shared))
    ward.send(image(on_images("1"), loose, series=shared))
    ward.send(image(on_images("1"), loose))
    study = ward.study(loose)
    done = ward.store.run(join_studies, JoinStudies(study.id, Whose.of(study), into.id, WHY), RADIOLOGIST)
    assert shown(ward, into.study_instance_uid) == (placed.patient_id, 4) and shown(ward, loose) == (None, 0)
    undo(ward, done)
    assert shown(ward, into.study_instance_uid)[1] == shown(ward, loose)[1] == 2
    _, other = exam(ward, "2")
    with pytest.raises(Conflict):
        ward.store.run(join_studies, JoinStudies(study.id, Whose.of(study), other.id, WHY), RADIOLOGIST)


def test_images_of_two_persons_under_one_uid_go_on_under_two(ward: Ward) -> None:
    placed, study = exam(ward, "1")
    stranger = ward.register("2", family="ROE")
    ward.send(ward.image_of(placed, patient=on_images("2", family="ROE", born="19700101")))
    (conflict,) = [each for each in ward.studies(placed.study_instance_uid) if each.id != study.id]
    done = move(ward, conflict, stranger.id)
    split = get(ward, done.into_study_id)
    assert split.study_instance_uid != placed.study_instance_uid
    assert shown(ward, split.study_instance_uid) == (stranger.id, 1)
    assert shown(ward, placed.study_instance_uid) == (placed.patient_id, 1)


def test_nothing_moves_away_from_a_signed_report(ward: Ward) -> None:
    wrong, study = exam(ward, "1", new_uid(), new_uid())
    right = ward.place("2")
    report = ward.sign(wrong, ReportStatus.PRELIMINARY)
    for parts in ({}, {"series": (ward.ask(lambda uow: uow.studies.series_of([study.id])[0].series_instance_uid),)}):
        with pytest.raises(Conflict, match="signed report"):
            move(ward, study, right.patient_id, right, **parts)
    ward.sign(wrong, ReportStatus.RETRACTED, revision=report.revision, reason="wrong patient")
    done = move(ward, study, right.patient_id, right)
    ward.sign(right, ReportStatus.FINAL)
    with pytest.raises(Conflict, match="signed report"):
        undo(ward, done)


def test_what_was_withheld_as_a_wrong_entry_is_shown_to_whom_it_belongs(ward: Ward) -> None:
    wrong = ward.place("1")
    step = ward.steps(wrong)[0]
    uid = ward.start(naming(wrong, step))
    ward.send(ward.image_of(wrong, "1", performed_uid=uid))
    ward.wrong_entry(uid)
    study = ward.study(wrong.study_instance_uid)
    assert shown(ward, study.study_instance_uid) == (None, 0)
    right = ward.place("2")
    done = move(ward, study, right.patient_id, right)
    assert shown(ward, study.study_instance_uid) == (right.patient_id, 1)
    undo(ward, done)
    assert shown(ward, study.study_instance_uid) == (None, 0)


REFUSED: list[tuple[type[HilumError], Callable[[Ward, Study, Order, Order], object]]] = [
    (MissingField, lambda w, s, r, o: move(w, s, r.patient_id, r, reason=" ")),
    (Conflict, lambda w, s, r, o: move(w, s, o.patient_id, r)),  # the order is another patient's
    (NotFound, lambda w, s, r, o: move(w, s, "nobody")),
    (NotFound, lambda w, s, r, o: move(w, s, r.patient_id, r, series=(new_uid(),))),
    (NotFound, lambda w, s, r, o: move(w, s, r.patient_id, r, instances=(new_uid(),))),
    (Conflict, lambda w, s, r, o: move(w, s, o.patient_id, o)),  # it is there already
    (Forbidden, lambda w, s, r, o: move(w, s, r.patient_id, r, actor=HL7_PEER)),
    (Forbidden, lambda w, s, r, o: move(
        w, s, r.patient_id, r, actor=Actor("admin", Role.ADMIN, ActorKind.SERVICE, Door.PAGE))),
    (Forbidden, lambda w, s, r, o: move(
        w, s, r.patient_id, r, actor=Actor("desk", Role.SCHEDULER, ActorKind.PERSON, Door.PAGE))),
]  # fmt: skip


def test_what_is_not_right_is_refused_and_changes_nothing(sqlite_store: Store) -> None:
    ward = Ward(sqlite_store)
    own, study = exam(ward, "1")
    right = ward.place("2")
    for error, attempt in REFUSED:
        with pytest.raises(error):
            attempt(ward, study, right, own)
        assert get(ward, study.id) == study
    move(ward, study, right.patient_id, right)
    with pytest.raises(Conflict, match="Someone else"):
        move(ward, study, own.patient_id, own)  # as it was seen before


def test_only_the_latest_of_several_moves_is_taken_back(sqlite_store: Store) -> None:
    ward = Ward(sqlite_store)
    _, study = exam(ward, "1")
    second, third = ward.register("2"), ward.register("3")
    first = move(ward, study, second.id)
    last = move(ward, get(ward, study.id), third.id)
    with pytest.raises(Conflict, match="since"):
        undo(ward, first)
    undo(ward, last)
    assert get(ward, study.id).patient_id == second.id
    undo(ward, first)
    assert get(ward, study.id).patient_id == study.patient_id


def test_a_report_that_is_being_signed_holds_its_images(ward: Ward) -> None:
    wrong, study = exam(ward, "1")
    right = ward.place("2")
    sign = SignReport(wrong.id, ReportStatus.FINAL, "Clear.", "", None, PAGE)
    command = ReassignStudy(study.id, Whose.of(study), right.patient_id, right.id, WHY)
    signed, moved = during(ward.store, (sign_report, sign, RADIOLOGIST), (reassign_study, command, TECHNOLOGIST))
    assert signed is None and isinstance(moved, Conflict)
    assert get(ward, study.id).order_id == wrong.id


def test_two_people_who_move_the_same_study_do_not_both_succeed(ward: Ward) -> None:
    _, study = exam(ward, "1")
    orders = [ward.place(number) for number in ("2", "3")]
    one, two = (ReassignStudy(study.id, Whose.of(study), each.patient_id, each.id, WHY) for each in orders)
    first, second = during(ward.store, (reassign_study, one, TECHNOLOGIST), (reassign_study, two, RADIOLOGIST))
    assert first is None and isinstance(second, Conflict)
    assert get(ward, study.id).order_id == orders[0].id
