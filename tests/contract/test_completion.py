"""When a study is complete: by its exams at once, by quiet of its modality, later while an exam is under way."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from fixtures.outbound import configuration
from fixtures.ward import Ward, naming, new_uid
from hilum.core.event import EventName
from hilum.core.order import PerformedStatus
from hilum.jobs.runner import Runner
from hilum.jobs.study_complete import instances_stored, study_complete
from hilum.settings import Configuration
from hilum.storage import tables
from hilum.storage.store import Store


@pytest.fixture
def ward(store: Store) -> Ward:
    return Ward(store)


def config(folder: Path, study: str = "", routes: str = "") -> Configuration:
    made = configuration(folder / "home", "ehr", routes=routes)
    file = folder / "home" / "hilum.toml"
    file.write_text(f"[study]\n{study}\n" + file.read_text())
    return Configuration(made.home)


def listed(series: str, *uids: str) -> dict[str, Any]:
    """The Performed Series Sequence of an exam, as DICOM JSON."""
    images = [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in uids]
    item = {"0020000E": {"vr": "UI", "Value": [series]}, "00081140": {"vr": "SQ", "Value": images}}
    return {"00400340": {"vr": "SQ", "Value": [item]}}


def look(ward: Ward, settings: Configuration) -> bool:
    """Let the job look once; it gives its lease back as at the end of its process."""
    job, runner = study_complete(ward.store, settings), Runner(ward.store, [])
    ran = runner.run_once(job)
    runner._end(job)
    return ran


def age(ward: Ward, study_uid: str, seconds: float) -> None:
    study = tables.study
    with ward.store.engine.begin() as db:
        long_ago = ward.store.clock() - timedelta(seconds=seconds)
        db.execute(study.update().where(study.c.study_instance_uid == study_uid).values(last_received_at=long_ago))


def completions(ward: Ward) -> list[dict[str, Any]]:
    with ward.store.read() as db:
        query = sa.select(tables.event.c.details).where(tables.event.c.name == EventName.STUDY_COMPLETED)
        return list(db.execute(query.order_by(tables.event.c.number)).scalars())


def test_an_exam_that_ends_completes_its_study_as_soon_as_all_that_it_lists_is_here(ward: Ward, tmp_path: Path) -> None:
    settings = config(tmp_path)
    placed, series, uids = ward.place(), new_uid(), [new_uid(), new_uid()]
    exam = ward.start(naming(placed))
    ward.send(ward.image_of(placed, series=series, sop=uids[0]))
    ward.end(exam, series_instance_uids=(series,), attributes=listed(series, *uids))
    assert not look(ward, settings), "one image is missing"
    ward.send(ward.image_of(placed, series=series, sop=uids[1]))
    assert look(ward, settings)
    assert [(each["by"], each["late"]) for each in completions(ward)] == [("exam", False)]
    assert not look(ward, settings)


def test_a_series_that_names_its_exam_is_enough_where_there_is_no_order(ward: Ward, tmp_path: Path) -> None:
    settings = config(tmp_path)
    placed, series, uid = ward.place(), new_uid(), new_uid()
    exam = ward.start()
    ward.send(ward.image_of(placed, "9", series=series, sop=uid, performed_uid=exam))
    ward.end(exam, attributes=listed(series, uid))
    assert look(ward, settings)
    assert [each["by"] for each in completions(ward)] == ["exam"]


def test_an_exam_that_lists_nothing_or_steps_still_to_come_leave_it_to_the_quiet_time(
    ward: Ward, tmp_path: Path
) -> None:
    settings = config(tmp_path)
    placed, series = ward.place(), new_uid()
    exam = ward.start(naming(placed))
    ward.send(ward.image_of(placed, series=series))
    ward.end(exam, series_instance_uids=(series,))
    assert not look(ward, settings)
    age(ward, placed.study_instance_uid, 61)
    assert look(ward, settings)
    assert [each["by"] for each in completions(ward)] == ["quiet"]


@pytest.mark.parametrize(("status", "seconds", "complete"), [
    (PerformedStatus.IN_PROGRESS, 600, False),
    (PerformedStatus.IN_PROGRESS, 3600, True),
    (PerformedStatus.DISCONTINUED, 600, True),
])  # fmt: skip
def test_an_exam_under_way_keeps_its_study_open_for_a_while(
    ward: Ward, tmp_path: Path, status: PerformedStatus, seconds: float, complete: bool
) -> None:
    settings = config(tmp_path, "exam_patience = 3000")
    placed = ward.place()
    exam = ward.start(naming(placed))
    ward.send(ward.image_of(placed))
    if status is not PerformedStatus.IN_PROGRESS:
        ward.end(exam, status)
    age(ward, placed.study_instance_uid, seconds)
    assert look(ward, settings) is complete
    assert len(completions(ward)) == int(complete)


def test_each_modality_has_its_quiet_and_the_longest_counts(ward: Ward, tmp_path: Path) -> None:
    settings = config(tmp_path, "quiet_seconds_of = {CT = 300, US = 10}")
    placed = ward.place()
    ward.send(ward.image_of(placed))  # a CT
    age(ward, placed.study_instance_uid, 200)
    assert not look(ward, settings)
    age(ward, placed.study_instance_uid, 301)
    assert look(ward, settings)
    quick = config(tmp_path / "quick", "quiet_seconds = 300\nquiet_seconds_of = {CT = 10}")
    other = ward.place()
    ward.send(ward.image_of(other))
    age(ward, other.study_instance_uid, 11)
    assert look(ward, quick)


def test_late_images_complete_a_study_anew_and_the_event_says_so(ward: Ward, tmp_path: Path) -> None:
    settings = config(tmp_path)
    placed = ward.place()
    for _ in range(2):
        ward.send(ward.image_of(placed))
        age(ward, placed.study_instance_uid, 61)
        assert look(ward, settings)
    assert [each["late"] for each in completions(ward)] == [False, True]


def test_images_are_announced_as_they_come_only_where_a_route_listens(ward: Ward, tmp_path: Path) -> None:
    route = '[[route]]\non = "InstancesStored"\nto = ["ehr"]\n'
    placed = ward.place()

    def announced(settings: Configuration) -> Sequence[int]:
        job, runner = instances_stored(ward.store, settings), Runner(ward.store, [])
        runner.run_once(job)
        runner._end(job)
        with ward.store.read() as db:
            query = sa.select(tables.event.c.details).where(tables.event.c.name == EventName.INSTANCES_STORED)
            return [details["new"] for details in db.execute(query.order_by(tables.event.c.number)).scalars()]

    ward.send(ward.image_of(placed))
    ward.send(ward.image_of(placed))
    assert announced(config(tmp_path)) == []
    listening = config(tmp_path / "listening", routes=route)
    assert announced(listening) == [2]
    assert announced(listening) == [2]
    ward.send(ward.image_of(placed))
    ward.complete(ward.study(placed.study_instance_uid))
    assert announced(listening) == [2, 1], "what came last is announced with the completion"
