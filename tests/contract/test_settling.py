"""Finished series become plain objects that any tool opens: served as before, and nothing is let go early."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest
import sqlalchemy as sa

from fixtures.dicom_files import ct_image, dataset_bytes
from fixtures.stores import MODALITY, open_store
from hilum.archive.blobs import BlobStore, S3Settings
from hilum.archive.blobs import open_store as open_blobs
from hilum.archive.erasure import erase
from hilum.archive.file_blobs import FileBlobs
from hilum.archive.ingest import Ingest
from hilum.archive.landing import landed_segments, open_landing
from hilum.archive.recovery import SETTLED_SECONDS, recover, reindex
from hilum.archive.retrieve import read_instance
from hilum.archive.settled import settled_objects
from hilum.core.actor import system_actor
from hilum.jobs.settling import Settling
from hilum.settings import Configuration
from hilum.storage import tables
from hilum.storage.store import utc_now
from hilum.workflow.images import CompleteStudy, complete_study
from hilum.workflow.source import Source

EXPLICIT = "1.2.840.10008.1.2.1"


@pytest.fixture(params=["sqlite+files", "postgresql+s3"])
def ingest(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ingest]:
    database, archive = request.param.split("+")
    url = "sqlite" if database == "sqlite" else request.getfixturevalue("migrated_postgres_url")
    store = open_store(url, tmp_path)
    blobs: BlobStore = FileBlobs(tmp_path / "archive")
    if archive == "s3":
        server = request.getfixturevalue("s3_server")
        settings = S3Settings(server.endpoint, server.region, server.access_key, server.secret_key)
        blobs = open_blobs(f"s3://{request.getfixturevalue('s3_bucket')}/node", tmp_path, settings)
    yield Ingest(store, blobs, open_landing(blobs, "tester"))
    store.close()


@pytest.fixture
def settling(ingest: Ingest, tmp_path: Path) -> Settling:
    (tmp_path / "hilum.toml").write_text("[archive]\nsettle_after_hours = 0\n")
    return Settling(ingest, Configuration(tmp_path))


def put(ingest: Ingest, study: str, count: int, *, complete: bool = True) -> list[Any]:
    images = [ct_image() for _ in range(count)]
    for number, image in enumerate(images):
        image.StudyInstanceUID, image.SeriesInstanceUID = study, f"{study}.1"
        image.SOPInstanceUID, image.InstanceNumber = f"{study}.1.{number}", number
        ingest.store_dataset(
            dataset_bytes(image), EXPLICIT, source=Source("DICOM C-STORE", "CT01"), actor=MODALITY, issuer="GENHOSP"
        )
    if complete:
        (row,) = rows(ingest, tables.study, tables.study.c.study_instance_uid == study)
        ingest.store.run(complete_study, CompleteStudy(row.id, timedelta(seconds=-1)), system_actor("test"))
    return images


def rows(ingest: Ingest, table: sa.Table, *where: sa.ColumnElement[bool]) -> list[Any]:
    with ingest.store.read() as db:
        return list(db.execute(sa.select(table).where(*where).order_by(table.c.id)))


def end_landing(ingest: Ingest) -> None:
    """Let recovery pass all segments for good, as it does when they are old enough."""
    ingest._landing.close()
    later = utc_now().timestamp() + SETTLED_SECONDS + 60
    recover(ingest, now=lambda: later)


def test_a_finished_series_is_one_zip_of_files_and_reads_as_before(ingest: Ingest, settling: Settling) -> None:
    images = put(ingest, "1.2.3", 3)
    before = [read_instance(ingest.blobs, row) for row in rows(ingest, tables.instance)]
    assert settling.settle_some() == 3
    after = rows(ingest, tables.instance)
    assert [read_instance(ingest.blobs, row) for row in after] == before
    (key,) = settled_objects(ingest.blobs)
    assert {row.object_key for row in after} == {key}
    with zipfile.ZipFile(io.BytesIO(ingest.blobs.get(key))) as archive:
        assert archive.testzip() is None
        read = [pydicom.dcmread(archive.open(name)) for name in archive.namelist() if name.endswith(".dcm")]
    assert [each.SOPInstanceUID for each in read] == [image.SOPInstanceUID for image in images]
    assert settling.settle_some() == 0


def test_what_is_not_finished_stays_where_it_landed(ingest: Ingest, settling: Settling) -> None:
    put(ingest, "1.2.4", 2, complete=False)
    assert settling.settle_some() == 0
    assert list(settled_objects(ingest.blobs)) == []


def test_a_series_with_a_damaged_instance_is_left_as_it_is(ingest: Ingest, settling: Settling) -> None:
    put(ingest, "1.2.5", 2)
    with ingest.store.engine.begin() as db:
        db.execute(tables.instance.update().values(digest="0" * 64))
    assert settling.settle_some() == 0
    assert all(row.object_key.startswith("landing/") for row in rows(ingest, tables.instance))


def test_segments_are_let_go_only_when_all_in_them_is_elsewhere(ingest: Ingest, settling: Settling) -> None:
    put(ingest, "1.2.6", 2)
    put(ingest, "1.2.7", 1, complete=False)
    end_landing(ingest)
    settling.settle_some()
    settling.let_go(after=0)
    (waiting,) = rows(ingest, tables.instance, tables.instance.c.object_key.like("landing/%"))
    assert ingest.blobs.head(waiting.object_key).size
    (study,) = rows(ingest, tables.study, tables.study.c.study_instance_uid == "1.2.7")
    ingest.store.run(complete_study, CompleteStudy(study.id, timedelta(seconds=-1)), system_actor("test"))
    assert settling.settle_some() == 1
    left = len(list(landed_segments(ingest.blobs)))
    assert settling.let_go() == 0, "a reader may still hold a place in it"
    assert settling.let_go(after=0) == left
    assert list(landed_segments(ingest.blobs)) == []
    for row in rows(ingest, tables.instance):
        assert read_instance(ingest.blobs, row)


def test_a_segment_with_a_record_that_the_index_lacks_is_kept(ingest: Ingest, settling: Settling) -> None:
    put(ingest, "1.2.8", 1)
    end_landing(ingest)
    settling.settle_some()
    with ingest.store.engine.begin() as db:
        db.execute(tables.instance.delete())
    assert settling.let_go(after=0) == 0
    assert reindex(ingest).indexed == 1


def test_the_index_is_rebuilt_from_settled_objects_alone(
    ingest: Ingest, settling: Settling, tmp_path_factory: pytest.TempPathFactory
) -> None:
    images = put(ingest, "1.2.9", 3)
    end_landing(ingest)
    settling.settle_some()
    settling.let_go(after=0)
    empty = open_store("sqlite", tmp_path_factory.mktemp("fresh"))
    fresh = Ingest(empty, ingest.blobs, ingest._landing)
    found = reindex(fresh)
    assert (found.indexed, found.torn, found.refused) == (3, 0, 0)
    with empty.read() as db:
        stored = list(db.execute(sa.select(tables.instance).order_by(tables.instance.c.number)))
    assert [row.sop_instance_uid for row in stored] == [image.SOPInstanceUID for image in images]
    assert {row.peer for row in stored} == {"CT01"}
    assert read_instance(ingest.blobs, stored[0]).endswith(dataset_bytes(images[0]))
    empty.close()


def test_an_erased_instance_leaves_the_others_of_its_object_readable(ingest: Ingest, settling: Settling) -> None:
    images = put(ingest, "1.2.10", 3)
    settling.settle_some()
    first, second, third = rows(ingest, tables.instance)
    erase(ingest.blobs, second)
    assert set(read_instance(ingest.blobs, second)) == {0}
    assert read_instance(ingest.blobs, first).endswith(dataset_bytes(images[first.number]))
    assert read_instance(ingest.blobs, third).endswith(dataset_bytes(images[third.number]))
