"""What is deleted is hidden at once, can be had back for a while, and is then gone from index and bytes for good."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from fixtures.dicom_files import ct_image, part10_bytes
from fixtures.stores import MODALITY
from fixtures.ward import SCANNER, Ward
from hilum.archive.blobs import BlobStore, S3Settings, open_store
from hilum.archive.erasure import erase
from hilum.archive.ingest import Ingest
from hilum.archive.landing import landed_segments, open_landing
from hilum.archive.records import Landed, scan
from hilum.archive.recovery import reindex
from hilum.archive.retrieve import read_instance
from hilum.core.actor import Actor, ActorKind, Door, Role
from hilum.core.errors import Forbidden, IllegalTransition, MissingField, NotFound, OnHold
from hilum.core.event import Event, EventName
from hilum.core.scope import EVERYTHING
from hilum.core.study import ExceptionKind
from hilum.delivery.context import load_context
from hilum.jobs.deletion import deletions
from hilum.jobs.runner import Runner
from hilum.storage import tables
from hilum.storage.deletions import due_deletions, erasures, open_deletions, was_deleted
from hilum.storage.qido import Page, find_instances
from hilum.storage.retention import add_hold
from hilum.storage.store import Store
from hilum.workflow.deletion import (
    FinishDeletion,
    MarkForDeletion,
    UndoDeletion,
    finish_deletion,
    mark_for_deletion,
    undo_deletion,
)
from hilum.workflow.images import Recorded
from hilum.workflow.source import Source

ADMIN = Actor("root", Role.ADMIN, ActorKind.PERSON, Door.CLI)
RADIOLOGIST = replace(ADMIN, role=Role.RADIOLOGIST)
AT_ONCE, LATER = timedelta(0), timedelta(days=30)


@pytest.fixture
def ward(store: Store) -> Ward:
    return Ward(store)


def shown(ward: Ward) -> set[str]:
    with ward.store.read() as db:
        return {each.sop_instance_uid for each in find_instances(db, [], EVERYTHING, Page(100))[0]}


def marking(ward: Ward, study_uid: str, grace: timedelta = LATER, **part: str) -> MarkForDeletion:
    return MarkForDeletion(ward.study(study_uid).id, "a phantom", grace, SCANNER, **part)


def sent(ward: Ward, images: int = 2, number: str = "1") -> tuple[str, list[str]]:
    placed = ward.place(number)
    commands = [ward.image_of(placed, number) for _ in range(images)]
    for command in commands:
        ward.send(command)
    return placed.study_instance_uid, [command.instance["sop_instance_uid"] for command in commands]


def test_what_is_marked_is_hidden_at_once_and_shown_again_when_it_is_undone(ward: Ward) -> None:
    study_uid, images = sent(ward)
    with pytest.raises(Forbidden):
        ward.store.run(mark_for_deletion, marking(ward, study_uid), RADIOLOGIST)
    with pytest.raises(MissingField):
        ward.store.run(mark_for_deletion, replace(marking(ward, study_uid), reason=" "), ADMIN)
    assert shown(ward) == set(images)
    deletion = ward.store.run(mark_for_deletion, marking(ward, study_uid), ADMIN)
    assert shown(ward) == set() and ward.study(study_uid).instance_count == 0
    with ward.store.read() as db:
        assert [(found.id, count) for found, count in open_deletions(db)] == [(deletion.id, 2)]
        assert due_deletions(db, ward.store.clock()) == []
    with pytest.raises(NotFound):
        ward.store.run(mark_for_deletion, marking(ward, study_uid), ADMIN)
    with pytest.raises(IllegalTransition):
        ward.store.run(finish_deletion, FinishDeletion(deletion.id), ADMIN)
    undoing = UndoDeletion(deletion.id, "it was no phantom", SCANNER)
    with pytest.raises(Forbidden):
        ward.store.run(undo_deletion, undoing, RADIOLOGIST)
    ward.store.run(undo_deletion, undoing, ADMIN)
    assert shown(ward) == set(images) and ward.study(study_uid).instance_count == 2
    assert ward.events(EventName.INSTANCES_RESTORED) == 1
    with pytest.raises(IllegalTransition):
        ward.store.run(undo_deletion, undoing, ADMIN)


def test_after_the_grace_rows_are_gone_and_a_tombstone_says_who_and_why(ward: Ward) -> None:
    study_uid, images = sent(ward)
    kept, others = sent(ward, number="2")
    deletion = ward.store.run(mark_for_deletion, marking(ward, study_uid, AT_ONCE), ADMIN)
    with ward.store.read() as db:
        assert due_deletions(db, ward.store.clock()) == [deletion.id]
    assert ward.store.run(finish_deletion, FinishDeletion(deletion.id), ADMIN)
    assert ward.studies(study_uid) == [] and shown(ward) == set(others) and ward.study(kept).series_count == 2
    with ward.store.read() as db:
        row = db.execute(sa.select(tables.deletion)).one()
        assert (row.state, row.asked_by, row.reason, row.study_instance_uid) == ("done", "root", "a phantom", study_uid)
        assert all(was_deleted(db, sop) for sop in images) and not was_deleted(db, others[0])
        assert not any(was_deleted(db, sop, received_at=ward.store.clock()) for sop in images), "sent again since"
        reasons = sa.select(tables.audit_event.c.reason).where(tables.audit_event.c.action == "delete-images")
        assert "removed 2 instances, asked by root: a phantom" in list(db.execute(reasons).scalars())
    assert ward.events(EventName.INSTANCES_DELETED) == 1


def test_events_of_a_study_that_is_gone_are_routed_without_it(ward: Ward) -> None:
    study_uid, _ = sent(ward)
    study = ward.study(study_uid)
    deletion = ward.store.run(mark_for_deletion, marking(ward, study_uid, AT_ONCE), ADMIN)
    ward.store.run(finish_deletion, FinishDeletion(deletion.id), ADMIN)
    event = Event("e", EventName.INSTANCES_DELETED, ward.store.clock(), order_id=study.order_id, study_id=study.id)
    context = ward.ask(lambda uow: load_context(uow, event))
    assert context.order is not None and context.studies == ()


def test_a_marked_image_that_is_sent_again_is_kept_and_listed(ward: Ward) -> None:
    placed = ward.place()
    one, two = ward.image_of(placed), ward.image_of(placed)
    ward.send(one)
    ward.send(two)
    study_uid = placed.study_instance_uid
    deletion = ward.store.run(mark_for_deletion, marking(ward, study_uid, AT_ONCE), ADMIN)
    assert ward.send(one) is Recorded.KNOWN
    assert shown(ward) == {one.instance["sop_instance_uid"]}
    assert ward.open_items(ExceptionKind.SENT_WHILE_MARKED)
    ward.store.run(finish_deletion, FinishDeletion(deletion.id), ADMIN)
    assert shown(ward) == {one.instance["sop_instance_uid"]}, "its sender was told that it is stored"
    assert ward.study(study_uid).series_count == 1


def test_one_series_or_one_image_goes_alone(ward: Ward) -> None:
    study_uid, (one, two) = sent(ward)
    first = ward.store.run(mark_for_deletion, marking(ward, study_uid, AT_ONCE, sop_instance_uid=one), ADMIN)
    assert shown(ward) == {two}
    ward.store.run(finish_deletion, FinishDeletion(first.id), ADMIN)
    assert (ward.study(study_uid).series_count, ward.study(study_uid).instance_count) == (1, 1)
    everything = ward.store.run(mark_for_deletion, marking(ward, study_uid, AT_ONCE), ADMIN)
    ward.store.run(finish_deletion, FinishDeletion(everything.id), ADMIN)
    assert ward.studies(study_uid) == []


def test_a_legal_hold_forbids_marking_and_stops_what_was_marked(ward: Ward) -> None:
    study_uid, _ = sent(ward)
    deletion = ward.store.run(mark_for_deletion, marking(ward, study_uid, AT_ONCE), ADMIN)
    ward.ask(lambda uow: add_hold(uow, None, study_uid, "court order", "root"))
    assert ward.store.run(finish_deletion, FinishDeletion(deletion.id), ADMIN) is False
    assert ward.study(study_uid) is not None
    with ward.store.read() as db:
        assert due_deletions(db, ward.store.clock()) == [], "it is looked at again later"
    other, images = sent(ward, number="2")
    survivor = ward.register("3")
    ward.merge("3", "2")
    ward.ask(lambda uow: add_hold(uow, survivor.id, None, "complaint", "root"))
    with pytest.raises(OnHold):
        ward.store.run(mark_for_deletion, marking(ward, other), ADMIN)
    assert set(images) <= shown(ward)


# The bytes


@pytest.fixture(params=["file", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "file":
        return open_store("file", tmp_path / "archive", S3Settings())
    server = request.getfixturevalue("s3_server")
    settings = S3Settings(server.endpoint, server.region, server.access_key, server.secret_key)
    return open_store(f"s3://{request.getfixturevalue('s3_bucket')}/node", tmp_path, settings)


@pytest.fixture
def ingest(blobs: BlobStore, sqlite_store: Store) -> Iterator[Ingest]:
    landing = open_landing(blobs, "tester", segment_bytes=1 << 20)
    yield Ingest(sqlite_store, blobs, landing)
    landing.close()


def keep(ingest: Ingest, study_uid: str) -> bytes:
    content = part10_bytes(ct_image(StudyInstanceUID=study_uid))
    stored = ingest.store_file(content, source=Source("DICOM", "CT01"), actor=MODALITY)
    assert stored.recorded is Recorded.STORED
    return content


def records(blobs: BlobStore) -> int:
    found = [record for segment in landed_segments(blobs) for record in scan(blobs, segment.key)]
    assert all(isinstance(record, Landed) for record in found)
    return len(found)


def test_the_bytes_go_and_their_neighbours_stay(ingest: Ingest, blobs: BlobStore, sqlite_store: Store) -> None:
    ward = Ward(sqlite_store)
    with ThreadPoolExecutor(3) as senders:  # at once, so that a bucket gets them in one object
        list(senders.map(lambda number: keep(ingest, f"1.2.{number}"), range(3)))
    assert records(blobs) == 3
    deletion = sqlite_store.run(mark_for_deletion, marking(ward, "1.2.1", AT_ONCE), ADMIN)
    assert sqlite_store.run(finish_deletion, FinishDeletion(deletion.id), ADMIN)
    with sqlite_store.read() as db:
        [left] = erasures(db)
    erase(blobs, left)
    assert Runner(sqlite_store, []).run_once(deletions(sqlite_store, blobs)), "again, as after a crash"
    assert records(blobs) == 2
    with sqlite_store.read() as db:
        assert erasures(db) == []
        for row in db.execute(sa.select(tables.instance)).all():
            assert read_instance(blobs, row)[128:132] == b"DICM"


def test_what_was_deleted_does_not_come_back_from_bytes(ingest: Ingest, blobs: BlobStore, sqlite_store: Store) -> None:
    content = keep(ingest, "1.2.1")
    deletion = sqlite_store.run(mark_for_deletion, marking(Ward(sqlite_store), "1.2.1", AT_ONCE), ADMIN)
    sqlite_store.run(finish_deletion, FinishDeletion(deletion.id), ADMIN)
    assert (reindex(ingest).indexed, records(blobs)) == (0, 1), "the bytes are there still, as in a restored backup"
    again = ingest.store_file(content, source=Source("DICOM", "CT01"), actor=MODALITY)
    assert again.recorded is Recorded.STORED, "whoever sends it again means it"
    with sqlite_store.read() as db:
        assert len(erasures(db)) == 1


def test_bytes_are_left_alone_where_something_else_lies(ingest: Ingest, blobs: BlobStore, sqlite_store: Store) -> None:
    keep(ingest, "1.2.1")
    with sqlite_store.read() as db:
        row = db.execute(sa.select(tables.instance)).one()._asdict()
    wrong = type("Row", (), {**row, "object_length": row["object_length"] - 2})
    erase(blobs, wrong)
    assert records(blobs) == 1
