"""The index may follow behind the answer to a sender: readers wait for it, and nothing that landed is left out."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from fixtures.dicom_files import ct_image, dataset_bytes, part10_bytes
from fixtures.stores import MODALITY
from hilum.app import Application
from hilum.archive import index_queue
from hilum.archive.barrier import IndexBarrier, Position
from hilum.archive.index_queue import Sender
from hilum.archive.ingest import Ingest, Ingested
from hilum.archive.landing import open_landing
from hilum.archive.recovery import recover_orphans
from hilum.archive.rejection_note import KEY_OBJECT_SELECTION
from hilum.core.errors import Unavailable
from hilum.serve.after_index import AfterIndex
from hilum.storage import tables
from hilum.storage.store import Store
from hilum.workflow.image_batches import RecordInstances, record_instances
from hilum.workflow.images import Recorded, record_instance
from hilum.workflow.source import Source

EXPLICIT = "1.2.840.10008.1.2.1"
SOURCE = Source("DICOM C-STORE", "CT01")


@pytest.fixture
def application(tmp_path: Path) -> Iterator[Application]:
    """A home whose receiver indexes behind its answers, as the role `dicom` does."""
    opened = Application(tmp_path, "dicom")
    opened.prepare()
    opened.ingest.index_behind(opened.queue)
    yield opened
    opened.close()


def put(ingest: Ingest, image: Any) -> Recorded:
    stored = ingest.store_dataset(dataset_bytes(image), EXPLICIT, source=SOURCE, actor=MODALITY, issuer="GENHOSP")
    return stored.recorded


def series(count: int, study: str, series: str = "1") -> list[Any]:
    images = [ct_image() for _ in range(count)]
    for number, image in enumerate(images):
        image.StudyInstanceUID, image.SeriesInstanceUID = study, f"{study}.{series}"
        image.SOPInstanceUID, image.InstanceNumber = f"{study}.{series}.{number}", number
        image.PatientID, image.PatientName = "P1", "Doe^Jane"
    return images


def indexed(store: Store) -> list[str]:
    with store.read() as db:
        return sorted(db.execute(sa.select(tables.instance.c.sop_instance_uid)).scalars())


def test_readers_that_wait_find_all_that_was_answered_before(application: Application) -> None:
    images = series(40, "1.2.3")
    for image in images:
        assert put(application.ingest, image) is Recorded.STORED
    application.barrier.wait()
    assert indexed(application.store) == sorted(str(image.SOPInstanceUID) for image in images)
    assert put(application.ingest, images[0]) is Recorded.KNOWN
    images[1].PatientComments = "other bytes"
    assert put(application.ingest, images[1]) is Recorded.BESIDE


def test_files_of_one_request_are_handed_on_too_but_for_rejection_notes(application: Application) -> None:
    images = series(5, "1.2.8")
    note = series(1, "1.2.8", "2")[0]
    note.SOPClassUID = KEY_OBJECT_SELECTION
    os.kill(application.queue._process.pid, signal.SIGSTOP)
    try:
        stored = application.ingest.store_files(list(map(part10_bytes, images)), source=SOURCE, actor=MODALITY)
        assert [each.recorded for each in stored if isinstance(each, Ingested)] == [Recorded.STORED] * 5
        assert indexed(application.store) == []
    finally:
        os.kill(application.queue._process.pid, signal.SIGCONT)
    application.ingest.store_files([part10_bytes(note)], source=SOURCE, actor=MODALITY)
    assert len(indexed(application.store)) == 6, "what a note is of is known before it, and it is known at the answer"


def test_an_indexer_that_is_killed_is_replaced_and_leaves_nothing_out(application: Application) -> None:
    images = series(30, "1.2.4")
    for number, image in enumerate(images):
        put(application.ingest, image)
        if number in (5, 20):
            os.kill(application.queue._process.pid, signal.SIGKILL)
    application.barrier.wait(30.0)
    assert indexed(application.store) == sorted(str(image.SOPInstanceUID) for image in images)


def test_a_receiver_waits_for_room_and_then_tells_its_sender_to_come_again(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_queue, "ROOM_SECONDS", 0.1)
    process = application.queue._process
    put(application.ingest, series(1, "1.2.5")[0])
    application.barrier.wait(30.0)
    os.kill(process.pid, signal.SIGSTOP)
    image = series(1, "1.2.6")[0]
    image.PatientComments, image.StudyComments, image.ImageComments = "x" * 10000, "y" * 10000, "z" * 10000
    sent: list[Any] = []
    try:
        with pytest.raises(Unavailable):
            for number in range(1000):
                image.SOPInstanceUID = f"1.2.6.1.{number}"
                put(application.ingest, image)
                sent.append(image.SOPInstanceUID)
        assert sent
        with pytest.raises(Unavailable):
            application.barrier.wait(0.05)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    application.barrier.wait(30.0)
    assert set(indexed(application.store)) >= {"1.2.5.1.0", *map(str, sent)}


def test_what_a_killed_receiver_left_is_recovered_before_readers_go_on(tmp_path: Path) -> None:
    dead = Application(tmp_path)
    dead.prepare()
    position = Position(_positions(tmp_path) / "dicom-dead.position", create=True)
    for image in series(3, "1.2.7"):
        _land_only(dead, image)
        position.landed += 1
    dead.landing.close()
    barrier = IndexBarrier(_positions(tmp_path))
    with pytest.raises(Unavailable):
        barrier.wait(0.05)
    assert [path.name for path in barrier.orphans()] == ["dicom-dead.position"]
    assert recover_orphans(dead.ingest, barrier).indexed == 3
    barrier.wait(0.05)
    assert len(indexed(dead.store)) == 3
    dead.close()


def test_who_holds_a_position_is_no_orphan(tmp_path: Path) -> None:
    held = Position(tmp_path / "dicom-1.position", create=True, hold=True)
    held.landed = 1
    barrier = IndexBarrier(tmp_path)
    assert barrier.behind()
    assert barrier.orphans() == []
    held.close()
    assert [path.name for path in barrier.orphans()] == ["dicom-1.position"]


def test_programs_are_told_that_the_index_is_behind_and_pages_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hilum.serve.after_index.WAIT_SECONDS", 0.05)
    monkeypatch.setattr("hilum.serve.after_index.PAGE_SECONDS", 0.05)
    position = Position(tmp_path / "dicom-1.position", create=True, hold=True)
    asked: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])

    waits = AfterIndex(app, IndexBarrier(tmp_path))

    def ask(path: str) -> None:
        asyncio.run(waits({"type": "http", "path": path, "method": "GET"}, None, None))  # type: ignore[arg-type]

    position.landed = 1
    for path in ("/dicom-web/studies", "/fhir/ImagingStudy"):
        with pytest.raises(Unavailable):
            ask(path)
    ask("/worklist")
    ask("/health/ready")
    position.indexed = 1
    ask("/dicom-web/studies")
    assert asked == ["/worklist", "/health/ready", "/dicom-web/studies"]


def test_many_at_once_are_recorded_as_one_after_the_other(store: Store, tmp_path: Path) -> None:
    """The same instances, duplicates, other bytes and a contradicting person, once in one go and once singly."""
    images = [*series(6, "1.2.8"), *series(4, "1.2.8", "2"), *series(2, "1.2.9")]
    images += [series(1, "1.2.8")[0], series(2, "1.2.8")[1], *series(1, "1.2.8", "3")]
    images[-2].PatientComments = "other bytes"
    images[-1].PatientName = "Smith^John"
    batch = _commands(tmp_path / "a", store, images)
    together = store.run(record_instances, RecordInstances(batch), MODALITY)
    first = _shape(store)
    _forget(store)
    singly = [store.run(record_instance, command, MODALITY) for command in batch]
    assert together == singly
    assert set(singly) == set(Recorded)
    assert first == _shape(store)


def _positions(home: Path) -> Path:
    folder = home / "run" / "index"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _land_only(application: Application, image: Any) -> None:
    """What a receiver has done when it is killed before it hands on what it has made durable."""

    class Killed(Exception):
        pass

    class Queue:
        def put(self, entry: Any) -> None:
            raise Killed

    receiver = Ingest(application.store, application.blobs, application.landing)
    receiver.index_behind(Queue())  # type: ignore[arg-type]
    with pytest.raises(Killed):
        put(receiver, image)


def _commands(folder: Path, store: Store, images: list[Any]) -> list[Any]:
    from hilum.archive.file_blobs import FileBlobs

    taken: list[Any] = []

    class Queue:
        def put(self, entry: Any) -> None:
            taken.append(entry)

    blobs = FileBlobs(folder)
    landing = open_landing(blobs, "tester")
    ingest = Ingest(store, blobs, landing)
    ingest.index_behind(Queue())  # type: ignore[arg-type]
    for image in images:
        put(ingest, image)
    landing.close()
    assert all(isinstance(entry.sender, Sender) for entry in taken)
    return [ingest.command_of(entry) for entry in taken]


def _shape(store: Store) -> list[Any]:
    """What the index holds, without what differs from run to run."""
    study, one, instance = tables.study.c, tables.series.c, tables.instance.c
    queries = (
        sa.select(study.study_instance_uid, study.match_state, study.series_count, study.instance_count).order_by(
            study.study_instance_uid
        ),
        sa.select(one.series_instance_uid, one.instance_count, one.withheld).order_by(one.series_instance_uid),
        sa.select(instance.sop_instance_uid, instance.digest, instance.beside, instance.number).order_by(
            instance.sop_instance_uid, instance.digest
        ),
        sa.select(tables.event.c.name).order_by(tables.event.c.name),
        sa.select(tables.exception_item.c.kind).order_by(tables.exception_item.c.kind),
    )
    with store.read() as db:
        return [[tuple(row) for row in db.execute(query)] for query in queries]


def _forget(store: Store) -> None:
    with store.engine.begin() as db:
        for table in reversed(tables.metadata.sorted_tables):
            if table.name != "audit_event":
                db.execute(table.delete())
