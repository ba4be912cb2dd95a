"""Each instance is recorded once; what comes late or says otherwise is listed and never mixed in."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from fixtures.stores import MODALITY
from fixtures.ward import SCANNER, Ward, image, naming, on_images
from hilum.core.event import EventName
from hilum.core.identifiers import new_uid
from hilum.core.order import OrderStatus
from hilum.core.report import ReportStatus
from hilum.core.study import ExceptionKind, MatchState
from hilum.storage import tables
from hilum.storage.store import Store
from hilum.workflow.images import CompleteStudy, Recorded, complete_study, record_instance


@pytest.fixture
def ward(sqlite_store: Store) -> Ward:
    return Ward(sqlite_store)


def test_an_instance_is_recorded_once(ward: Ward) -> None:
    placed = ward.place()
    instance = ward.image_of(placed)
    assert [ward.send(instance), ward.send(instance)] == [Recorded.STORED, Recorded.KNOWN]
    assert ward.study(placed.study_instance_uid).instance_count == 1
    assert ward.events(EventName.IMAGES_ARRIVED) == 1


def test_other_bytes_under_a_known_uid_are_kept_beside_and_listed(ward: Ward) -> None:
    placed, sop = ward.place(), new_uid()
    ward.send(ward.image_of(placed, sop=sop))
    assert ward.send(ward.image_of(placed, sop=sop, content="other")) is Recorded.BESIDE
    assert ward.study(placed.study_instance_uid).instance_count == 1
    assert [item.note for item in ward.open_items(ExceptionKind.INSTANCE_WITH_OTHER_BYTES)] == [sop]


def test_other_bytes_under_the_uid_of_another_patients_image_are_kept_beside(ward: Ward) -> None:
    one, two, sop = ward.place("1"), ward.place("2"), new_uid()
    ward.send(ward.image_of(one, "1", sop=sop))
    assert ward.send(ward.image_of(two, "2", sop=sop, content="other")) is Recorded.BESIDE
    assert ward.study(one.study_instance_uid).instance_count == 1
    assert ward.study(two.study_instance_uid).instance_count == 0
    assert ward.order(two).status is OrderStatus.SCHEDULED


def test_two_instances_of_one_uid_at_the_same_moment_leave_one_image(store: Store) -> None:
    ward = Ward(store)
    for number in range(8):
        sop, one, two = new_uid(), ward.place("1"), ward.place("2" if number % 2 else "1")
        commands = [
            ward.image_of(order, who, sop=sop, content=str(n))
            for n, (order, who) in enumerate([(one, "1"), (two, "2" if number % 2 else "1")] * 2)
        ]
        outcomes = [f.result() for f in [store.submit(record_instance, each, MODALITY) for each in commands]]
        assert sorted(outcomes) == [Recorded.BESIDE] * 3 + [Recorded.STORED]
        with store.read() as db:
            beside = db.execute(sa.select(tables.instance.c.beside).where(tables.instance.c.sop_instance_uid == sop))
            assert sorted(beside.scalars()) == [False, True, True, True]


def test_the_first_images_of_a_study_at_the_same_moment_make_one_study(store: Store) -> None:
    ward = Ward(store)
    for number in range(6):
        placed = ward.place()
        uid = placed.study_instance_uid if number % 2 else new_uid()
        series = new_uid()
        commands = [image(on_images("1"), uid, series=series if n % 2 else "") for n in range(12)]
        assert {f.result() for f in [store.submit(record_instance, each, MODALITY) for each in commands]} == {
            Recorded.STORED
        }
        study = ward.study(uid)
        assert (study.instance_count, study.series_count) == (12, 7)
    assert ward.events(EventName.IMAGES_ARRIVED) == 3


def test_images_after_a_cancellation_are_kept_and_listed_and_reopen_nothing(ward: Ward) -> None:
    placed = ward.place()
    ward.cancel(placed)
    ward.send(ward.image_of(placed))
    assert ward.study(placed.study_instance_uid).match_state is MatchState.VERIFIED
    assert ward.order(placed).status is OrderStatus.CANCELLED
    assert ward.open_kinds() == {ExceptionKind.IMAGES_AFTER_CANCELLATION}


def test_images_that_came_before_an_order_that_was_cancelled_are_listed(ward: Ward) -> None:
    placed = ward.place(accession_number="A1")
    ward.cancel(placed)
    uid = new_uid()
    ward.send(image(on_images("1"), uid, "A1"))
    assert ward.study(uid).order_id == placed.id
    assert ward.open_kinds() == {ExceptionKind.IMAGES_AFTER_CANCELLATION}


def test_every_image_after_the_report_is_listed_once(ward: Ward) -> None:
    placed, series = ward.place(), new_uid()
    ward.send(ward.image_of(placed, series=series))
    ward.relay(placed, ReportStatus.PRELIMINARY)
    ward.send(ward.image_of(placed, series=series))
    assert not ward.open_items()
    ward.relay(placed, ReportStatus.FINAL)
    ward.send(ward.image_of(placed, series=series))
    ward.send(ward.image_of(placed, series=series))
    [item] = ward.open_items()
    assert (item.kind, item.order_id) == (ExceptionKind.IMAGES_AFTER_REPORT, placed.id)


def test_images_of_two_persons_in_one_study_are_listed_and_withheld(ward: Ward) -> None:
    placed = ward.place()
    ward.send(ward.image_of(placed))
    ward.send(ward.image_of(placed, patient=on_images("1", "ROE", born="19550505")))
    assert ward.withheld(ward.study(placed.study_instance_uid)) == [False, True]
    assert ward.open_kinds() == {ExceptionKind.DEMOGRAPHICS_DIFFER}


def test_a_study_completes_when_it_is_quiet_and_again_after_late_images(ward: Ward) -> None:
    placed = ward.place()
    ward.send(ward.image_of(placed))
    study = ward.study(placed.study_instance_uid)
    assert ward.complete(study)
    assert not ward.complete(study)
    ward.send(ward.image_of(placed))
    assert ward.study(placed.study_instance_uid).completed_at is None
    assert ward.complete(study)
    assert ward.events(EventName.STUDY_COMPLETED) == 2
    assert ward.order(placed).status is OrderStatus.COMPLETED


def test_a_study_that_just_received_an_image_is_not_complete(ward: Ward) -> None:
    placed = ward.place()
    ward.send(ward.image_of(placed))
    study = ward.study(placed.study_instance_uid)
    assert not ward.store.run(complete_study, CompleteStudy(study.id, timedelta(seconds=60)), MODALITY)
    assert ward.order(placed).status is OrderStatus.IN_PROGRESS


def test_a_study_that_receives_an_image_while_it_completes_is_completed_with_it(store: Store) -> None:
    ward = Ward(store)
    for _ in range(10):
        placed = ward.place()
        ward.send(ward.image_of(placed))
        study = ward.study(placed.study_instance_uid)
        quiet = store.clock() - study.last_received_at
        futures = [
            store.submit(record_instance, ward.image_of(placed), MODALITY),
            store.submit(complete_study, CompleteStudy(study.id, quiet), MODALITY),
        ]
        for future in futures:
            future.result()
        after = ward.study(placed.study_instance_uid)
        # Either the image came first and the study waits on, or it came after and opened the study again.
        assert after.completed_at is None
        assert after.instance_count == 2


def test_an_image_that_names_an_exam_is_related_to_it(ward: Ward) -> None:
    placed, series = ward.place(), new_uid()
    uid = ward.start(naming(placed))
    ward.send(ward.image_of(placed, series=series, performed_uid=uid))
    found = ward.ask(lambda uow: uow.exams.of_series(series))
    assert found is not None
    assert found.sop_instance_uid == uid


def test_the_event_of_an_arrival_says_from_where(ward: Ward) -> None:
    ward.send(ward.image_of(ward.place()))
    query = sa.select(tables.event).where(tables.event.c.name == EventName.IMAGES_ARRIVED.value)
    with ward.store.read() as db:
        row = db.execute(query).one()
    assert (row.standard, row.peer) == (SCANNER.standard, SCANNER.peer)
