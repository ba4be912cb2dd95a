"""Exams move their orders, whatever comes first and however many there are."""

from __future__ import annotations

import itertools

import pytest

from fixtures.stores import MODALITY
from fixtures.ward import WRONG_ENTRY, Ward, during, image, naming, on_images, performed
from hilum.core.errors import Duplicate, IllegalTransition, NotFound
from hilum.core.event import EventName
from hilum.core.identifiers import new_uid
from hilum.core.order import (
    ORDER_TRANSITIONS,
    STEP_ENDED,
    WORKLIST_STATUSES,
    OrderStatus,
    PerformedStatus,
    StepStatus,
)
from hilum.core.study import ExceptionKind, MatchState
from hilum.storage.store import Store
from hilum.workflow.acquisition import ScheduledReference, order_status, start_exam, update_exam
from hilum.workflow.images import record_instance
from hilum.workflow.scheduling import StepRequest

DISCONTINUED = PerformedStatus.DISCONTINUED


@pytest.fixture
def ward(sqlite_store: Store) -> Ward:
    return Ward(sqlite_store)


def test_every_state_has_its_row_in_the_tables() -> None:
    assert set(ORDER_TRANSITIONS) == set(OrderStatus)
    assert not WORKLIST_STATUSES & STEP_ENDED
    assert set(StepStatus) == WORKLIST_STATUSES | STEP_ENDED | {StepStatus.STARTED}


def test_an_order_is_never_complete_while_a_step_is_open() -> None:
    for statuses in itertools.product(StepStatus, repeat=3):
        status = order_status(list(statuses))
        open_steps = [each for each in statuses if each not in STEP_ENDED]
        assert not (open_steps and status in (OrderStatus.COMPLETED, OrderStatus.DISCONTINUED))
        assert status is not OrderStatus.COMPLETED or StepStatus.COMPLETED in statuses


def test_an_exam_starts_and_completes_its_order(ward: Ward) -> None:
    placed = ward.place()
    uid = ward.start(naming(placed, ward.steps(placed)[0]), patient_identifier="1")
    assert (ward.order(placed).status, ward.step_statuses(placed)) == (OrderStatus.IN_PROGRESS, [StepStatus.STARTED])
    done = ward.end(uid)
    assert done.ended_at is not None
    assert (ward.order(placed).status, ward.step_statuses(placed)) == (OrderStatus.COMPLETED, [StepStatus.COMPLETED])
    assert (ward.events(EventName.EXAM_STARTED), ward.events(EventName.EXAM_ENDED)) == (1, 1)


def test_one_completed_step_of_several_completes_no_order(ward: Ward) -> None:
    placed = ward.place(steps=(StepRequest(), StepRequest()))
    one, two = ward.steps(placed)
    ward.end(ward.start(naming(placed, one)))
    assert ward.order(placed).status is OrderStatus.PARTIAL
    ward.end(ward.start(naming(placed, two)), DISCONTINUED)
    assert ward.order(placed).status is OrderStatus.COMPLETED


def test_one_exam_performs_several_steps_of_several_orders(ward: Ward) -> None:
    first, second = ward.place(), ward.place()
    uid = ward.start(naming(first), naming(second))
    assert {ward.order(order).status for order in (first, second)} == {OrderStatus.IN_PROGRESS}
    ward.end(uid)
    assert {ward.order(order).status for order in (first, second)} == {OrderStatus.COMPLETED}


def test_several_exams_perform_one_step(ward: Ward) -> None:
    placed = ward.place()
    one, two = ward.start(naming(placed)), ward.start(naming(placed))
    ward.end(one)
    assert ward.order(placed).status is OrderStatus.IN_PROGRESS
    ward.end(two, DISCONTINUED)
    assert ward.order(placed).status is OrderStatus.COMPLETED


def test_an_exam_that_is_broken_off_discontinues_its_order(ward: Ward) -> None:
    placed = ward.place()
    ward.end(ward.start(naming(placed)), DISCONTINUED)
    assert ward.order(placed).status is OrderStatus.DISCONTINUED


def test_an_exam_of_two_patients_is_tied_to_neither(ward: Ward) -> None:
    first, second = ward.place("1"), ward.place("2")
    ward.end(ward.start(naming(first), naming(second)))
    assert {ward.order(order).status for order in (first, second)} == {OrderStatus.SCHEDULED}
    assert ward.open_kinds() == {ExceptionKind.EXAM_WITHOUT_ORDER}


def test_an_exam_of_another_patient_moves_no_order(ward: Ward) -> None:
    placed = ward.place("1")
    ward.register("2")
    ward.start(naming(placed), patient_identifier="2")
    assert ward.order(placed).status is OrderStatus.SCHEDULED
    assert ward.open_kinds() == {ExceptionKind.EXAM_WITHOUT_ORDER}


def test_an_exam_under_the_number_that_was_merged_is_of_the_survivor(ward: Ward) -> None:
    placed = ward.place("1")
    ward.register("2")
    ward.merge("2", "1")
    ward.start(naming(placed), patient_identifier="2")
    assert ward.order(placed).status is OrderStatus.IN_PROGRESS


def test_an_exam_whose_numbers_contradict_moves_no_order(ward: Ward) -> None:
    one, two = ward.place(), ward.place()
    mixed = ScheduledReference(one.study_instance_uid, two.accession_number, "", "")
    ward.start(mixed)
    ward.start(ScheduledReference(one.study_instance_uid, "", "NO-SUCH-STEP", ""))
    assert {ward.order(order).status for order in (one, two)} == {OrderStatus.SCHEDULED}
    assert len(ward.open_items(ExceptionKind.EXAM_WITHOUT_ORDER)) == 2


def test_an_unscheduled_exam_is_kept_and_listed(ward: Ward) -> None:
    uid = ward.start()
    assert ward.end(uid).order_ids == ()
    assert [item.note for item in ward.open_items()] == [uid]


def test_an_exam_is_created_once(store: Store) -> None:
    ward = Ward(store)
    placed = ward.place()
    command = performed(new_uid(), references=(naming(placed),))
    failures = [f.exception() for f in [store.submit(start_exam, command, MODALITY) for _ in range(6)]]
    assert [type(failure) for failure in failures if failure] == [Duplicate] * 5
    assert ward.events(EventName.EXAM_STARTED) == 1


@pytest.mark.parametrize("status", [PerformedStatus.COMPLETED, DISCONTINUED])
def test_an_exam_begins_in_progress(ward: Ward, status: PerformedStatus) -> None:
    with pytest.raises(IllegalTransition):
        ward.store.run(start_exam, performed(new_uid(), status), MODALITY)


@pytest.mark.parametrize("final", [PerformedStatus.COMPLETED, DISCONTINUED])
@pytest.mark.parametrize("then", PerformedStatus)
def test_an_exam_that_ended_is_updated_no_more(ward: Ward, final: PerformedStatus, then: PerformedStatus) -> None:
    uid = ward.start()
    ward.end(uid, final)
    with pytest.raises(IllegalTransition):
        ward.end(uid, then)


def test_an_exam_is_ended_once_by_many(store: Store) -> None:
    ward = Ward(store)
    placed = ward.place()
    uid = ward.start(naming(placed))
    ends = [performed(uid, PerformedStatus.COMPLETED), performed(uid, DISCONTINUED)] * 3
    failures = [f.exception() for f in [store.submit(update_exam, command, MODALITY) for command in ends]]
    assert [type(failure) for failure in failures if failure] == [IllegalTransition] * 5
    assert ward.events(EventName.EXAM_ENDED) == 1


def test_an_exam_nobody_knows_is_not_updated(ward: Ward) -> None:
    with pytest.raises(NotFound):
        ward.end(new_uid())


def test_the_steps_of_one_order_ended_at_the_same_moment_complete_it(store: Store) -> None:
    ward = Ward(store)
    for _ in range(6):
        placed = ward.place(steps=(StepRequest(), StepRequest(), StepRequest()))
        uids = [ward.start(naming(placed, step)) for step in ward.steps(placed)]
        commands = [performed(uid, PerformedStatus.COMPLETED) for uid in uids]
        for future in [store.submit(update_exam, command, MODALITY) for command in commands]:
            future.result()
        assert ward.order(placed).status is OrderStatus.COMPLETED


# The wrong worklist entry


def test_a_wrong_worklist_entry_gives_the_step_back(ward: Ward) -> None:
    placed = ward.place()
    ward.wrong_entry(ward.start(naming(placed)))
    assert (ward.order(placed).status, ward.step_statuses(placed)) == (OrderStatus.SCHEDULED, [StepStatus.SCHEDULED])
    assert ward.open_kinds() == {ExceptionKind.WRONG_WORKLIST_ENTRY}
    ward.end(ward.start(naming(placed)))
    assert ward.order(placed).status is OrderStatus.COMPLETED


def test_a_wrong_worklist_entry_of_a_cancelled_order_puts_nothing_on_the_worklist(ward: Ward) -> None:
    placed = ward.place()
    ward.cancel(placed)
    ward.wrong_entry(ward.start(naming(placed)))
    assert (ward.order(placed).status, ward.step_statuses(placed)) == (OrderStatus.CANCELLED, [StepStatus.CANCELLED])


def test_images_of_a_wrong_worklist_entry_are_withheld_whenever_they_come(ward: Ward) -> None:
    placed = ward.place()
    uid = ward.start(naming(placed))
    before, after, later = (new_uid() for _ in range(3))
    ward.send(ward.image_of(placed, series=before))
    ward.wrong_entry(uid, series_instance_uids=(before, after))
    ward.send(ward.image_of(placed, series=after))
    ward.send(ward.image_of(placed, series=later, performed_uid=uid))
    assert ward.withheld(ward.study(placed.study_instance_uid)) == [True, True, True]
    assert ward.order(placed).status is OrderStatus.SCHEDULED


def test_images_of_a_wrong_worklist_entry_that_names_no_series_are_withheld(ward: Ward) -> None:
    placed = ward.place()
    uid = ward.start(naming(placed))
    ward.send(ward.image_of(placed))
    ward.wrong_entry(uid)
    ward.send(ward.image_of(placed))
    study = ward.study(placed.study_instance_uid)
    assert ward.withheld(study) == [True, True]
    assert study.id in {item.study_id for item in ward.open_items(ExceptionKind.WRONG_WORKLIST_ENTRY)}


def test_images_of_the_right_exam_beside_a_wrong_entry_are_shown(ward: Ward) -> None:
    placed = ward.place()
    wrong, right = ward.start(naming(placed)), ward.start(naming(placed))
    mine, others = new_uid(), new_uid()
    ward.send(ward.image_of(placed, series=others, performed_uid=wrong))
    ward.send(ward.image_of(placed, series=mine, performed_uid=right))
    ward.wrong_entry(wrong)
    ward.end(right, series_instance_uids=(mine,))
    ward.send(ward.image_of(placed, series=mine))
    assert ward.withheld(ward.study(placed.study_instance_uid)) == [True, False]
    assert ward.order(placed).status is OrderStatus.COMPLETED


def test_a_wrong_entry_and_its_first_image_at_the_same_moment_withhold_it(store: Store) -> None:
    ward = Ward(store)
    for number in range(10):
        placed = ward.place()
        uid, series = ward.start(naming(placed)), new_uid()
        ward.send(ward.image_of(placed))
        named = {"performed_uid": uid} if number % 2 else {}
        instance = ward.image_of(placed, series=series, **named)
        wrong = performed(uid, DISCONTINUED, discontinuation=WRONG_ENTRY, series_instance_uids=(series,))
        futures = [store.submit(record_instance, instance, MODALITY), store.submit(update_exam, wrong, MODALITY)]
        for future in futures:
            future.result()
        rows = ward.ask(lambda uow, placed=placed: uow.studies.series_of([uow.studies.of_order(placed.id)[0].id]))
        assert {row.series_instance_uid: row.withheld for row in rows}[series]


def test_an_image_that_comes_while_its_exam_is_told_to_be_a_wrong_entry_is_withheld(store: Store) -> None:
    ward = Ward(store)
    placed, series = ward.place(), new_uid()
    uid = ward.start(naming(placed))
    ward.send(ward.image_of(placed))
    wrong = performed(uid, DISCONTINUED, discontinuation=WRONG_ENTRY, series_instance_uids=(series,))
    instance = ward.image_of(placed, series=series)
    assert during(store, (update_exam, wrong, MODALITY), (record_instance, instance, MODALITY)) == [None, None]
    rows = ward.ask(lambda uow: uow.studies.series_of([uow.studies.of_order(placed.id)[0].id]))
    assert {row.series_instance_uid: row.withheld for row in rows}[series]


# Images alone


def test_images_alone_prove_an_exam_and_its_end(ward: Ward) -> None:
    placed = ward.place()
    ward.send(ward.image_of(placed))
    assert ward.order(placed).status is OrderStatus.IN_PROGRESS
    assert ward.complete(ward.study(placed.study_instance_uid))
    assert (ward.order(placed).status, ward.step_statuses(placed)) == (OrderStatus.COMPLETED, [StepStatus.COMPLETED])


def test_images_that_name_their_step_prove_only_that_one(ward: Ward) -> None:
    placed = ward.place(steps=(StepRequest(), StepRequest()))
    one, two = ward.steps(placed)
    ward.send(ward.image_of(placed, step_id=two.step_id))
    assert ward.step_statuses(placed) == [StepStatus.SCHEDULED, StepStatus.STARTED]
    ward.complete(ward.study(placed.study_instance_uid))
    assert ward.order(placed).status is OrderStatus.PARTIAL
    assert one.status is StepStatus.SCHEDULED


def test_exam_and_images_in_any_order_end_alike(ward: Ward) -> None:
    for position in range(3):
        placed, uid = ward.place(), new_uid()
        for moment in range(3):
            if moment == position:
                ward.send(ward.image_of(placed, performed_uid=uid))
            if moment == 0:
                ward.start(naming(placed), uid=uid)
            if moment == 1:
                ward.end(uid)
        study = ward.study(placed.study_instance_uid)
        ward.complete(study)
        assert ward.order(placed).status is OrderStatus.COMPLETED
        assert study.match_state is MatchState.VERIFIED
    assert not ward.open_items()


def test_images_that_were_complete_before_their_order_came_complete_it(ward: Ward) -> None:
    uid = new_uid()
    ward.send(image(on_images("1"), uid))
    ward.complete(ward.study(uid))
    placed = ward.place("1", study_instance_uid=uid)
    assert ward.order(placed).status is OrderStatus.COMPLETED


def test_a_step_that_the_modality_reports_is_not_ended_by_quiet(ward: Ward) -> None:
    placed = ward.place()
    ward.start(naming(placed))
    ward.send(ward.image_of(placed))
    ward.complete(ward.study(placed.study_instance_uid))
    assert ward.order(placed).status is OrderStatus.IN_PROGRESS
