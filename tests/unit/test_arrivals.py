"""One more image of a known series costs little, and is still seen for what it may mean."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from fixtures.ward import Ward, image, naming, on_images
from hilum.core.identifiers import new_uid
from hilum.core.study import ExceptionKind
from hilum.storage.store import Store


@pytest.fixture
def ward(store: Store) -> Ward:
    return Ward(store)


def test_one_more_image_of_a_known_series_takes_five_statements(sqlite_store: Store) -> None:
    ward, series = Ward(sqlite_store), new_uid()
    placed = ward.place()
    ward.send(ward.image_of(placed, series=series))
    statements: list[str] = []
    sa.event.listen(
        sqlite_store.engine, "before_cursor_execute", lambda _, __, statement, *___: statements.append(statement)
    )
    ward.send(ward.image_of(placed, series=series))
    own = [text for text in statements if "SAVEPOINT" not in text and "BEGIN" not in text and "audit_event" not in text]
    assert len(own) == 5, own


def test_an_order_takes_as_many_statements_as_it_writes_and_looks_up(sqlite_store: Store) -> None:
    ward = Ward(sqlite_store)
    ward.place()
    statements: list[str] = []
    sa.event.listen(
        sqlite_store.engine, "before_cursor_execute", lambda _, __, statement, *___: statements.append(statement)
    )
    ward.place()
    assert len([text for text in statements if "SAVEPOINT" not in text and "BEGIN" not in text]) <= 12, statements


def test_one_more_image_of_an_order_that_was_discontinued_meanwhile_is_listed(ward: Ward) -> None:
    placed, series = ward.place(), new_uid()
    ward.send(ward.image_of(placed, series=series))
    ward.discontinue(placed)
    for item in ward.open_items():
        ward.ask(lambda uow, item=item: uow.exceptions.resolve(item.id, "someone", "seen"))
    ward.send(ward.image_of(placed, series=series))
    assert ward.open_kinds() == {ExceptionKind.IMAGES_AFTER_CANCELLATION}


def test_one_more_image_that_names_an_exam_heard_of_meanwhile_is_related_to_it(ward: Ward) -> None:
    placed, series, uid = ward.place(), new_uid(), new_uid()
    ward.send(ward.image_of(placed, series=series, performed_uid=uid))
    ward.start(naming(placed), uid=uid)
    assert ward.ask(lambda uow: uow.exams.of_series(series)) is None
    ward.send(ward.image_of(placed, series=series, performed_uid=uid))
    found = ward.ask(lambda uow: uow.exams.of_series(series))
    assert found is not None
    assert found.sop_instance_uid == uid


@pytest.mark.parametrize("is_named", [True, False])
def test_one_more_image_of_an_exam_under_the_wrong_entry_is_listed_again(ward: Ward, is_named: bool) -> None:
    placed, series = ward.place(), new_uid()
    uid = ward.start(naming(placed))
    named = uid if is_named else ""
    ward.send(ward.image_of(placed, series=series, performed_uid=named))
    ward.wrong_entry(uid)
    for item in ward.open_items():
        ward.ask(lambda uow, item=item: uow.exceptions.resolve(item.id, "someone", "seen"))
    ward.send(ward.image_of(placed, series=series, performed_uid=named))
    assert ward.open_kinds() == {ExceptionKind.WRONG_WORKLIST_ENTRY}


def test_one_more_image_of_a_complete_study_opens_it_again(ward: Ward) -> None:
    placed, series = ward.place(), new_uid()
    ward.send(ward.image_of(placed, series=series))
    assert ward.complete(ward.study(placed.study_instance_uid))
    ward.send(ward.image_of(placed, series=series))
    study = ward.study(placed.study_instance_uid)
    assert study.completed_at is None
    assert (study.series_count, study.instance_count) == (1, 2)


def test_one_series_uid_in_studies_of_two_patients_is_two_series(ward: Ward) -> None:
    study, series = new_uid(), new_uid()
    for number in ("1", "2", "1"):
        ward.send(image(on_images(number), study, series=series))
    assert sorted((s.series_count, s.instance_count) for s in ward.studies(study)) == [(1, 1), (1, 2)]
