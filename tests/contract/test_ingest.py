"""Instances that were ingested are durable, indexed once and found again after a crash, on every backend."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from fixtures.dicom_files import ct_image, dataset_bytes, packaged
from fixtures.stores import MODALITY
from hilum.archive import part10
from hilum.archive.blobs import BlobStore, S3Settings, open_store
from hilum.archive.file_blobs import FileBlobs
from hilum.archive.ingest import Ingest
from hilum.archive.landing import open_landing
from hilum.archive.recovery import recover, reindex
from hilum.archive.retrieve import location_of_row, open_dataset, pixels_of, read_instance
from hilum.core.actor import Actor, ActorKind, Door, Role
from hilum.core.errors import Conflict, Forbidden, InvalidInput, MissingField, Unavailable, Unsupported
from hilum.storage import tables
from hilum.storage.store import Store
from hilum.workflow.images import Recorded
from hilum.workflow.source import Source

EXPLICIT = "1.2.840.10008.1.2.1"
SOURCE = Source("DICOM C-STORE", "CT01")
AUDITOR = Actor("auditor", Role.AUDITOR, ActorKind.PERSON, Door.DICOMWEB)


def archive_of(request: pytest.FixtureRequest, kind: str, folder: Path) -> BlobStore:
    if kind == "files":
        return FileBlobs(folder / "archive")
    server = request.getfixturevalue("s3_server")
    settings = S3Settings(server.endpoint, server.region, server.access_key, server.secret_key)
    return open_store(f"s3://{request.getfixturevalue('s3_bucket')}/node", folder, settings)


@pytest.fixture(params=["sqlite+files", "postgresql+s3"])
def ingest(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ingest]:
    from fixtures.stores import open_store as open_database

    database, archive = request.param.split("+")
    url = "sqlite" if database == "sqlite" else request.getfixturevalue("migrated_postgres_url")
    store = open_database(url, tmp_path)
    blobs = archive_of(request, archive, tmp_path)
    landing = open_landing(blobs, "tester")
    yield Ingest(store, blobs, landing)
    landing.close()
    store.close()


def put(ingest: Ingest, image: Any, **options: Any) -> Any:
    return ingest.store_dataset(dataset_bytes(image), EXPLICIT, source=SOURCE, actor=MODALITY, **options)


def rows(store: Store, table: sa.Table, *where: sa.ColumnElement[bool]) -> list[Any]:
    with store.read() as db:
        return list(db.execute(sa.select(table).where(*where)))


def test_an_instance_is_read_back_byte_for_byte_through_its_index_row(ingest: Ingest) -> None:
    image = ct_image()
    dataset = dataset_bytes(image)
    ingested = put(ingest, image)
    assert ingested.recorded is Recorded.STORED
    (row,) = rows(ingest.store, tables.instance)
    file = read_instance(ingest.blobs, row)
    assert file[128:132] == b"DICM"
    assert file.endswith(dataset)
    assert part10.split(file).dataset_offset == row.dataset_offset - row.object_offset
    assert row.digest == hashlib.sha256(dataset).hexdigest()
    pixels = pixels_of(row.pixels)
    assert pixels is not None
    assert dataset[pixels.offset : pixels.offset + pixels.length] == image.PixelData
    with open_dataset(ingest.blobs, location_of_row(row)) as view:
        assert view == dataset


def test_the_index_says_what_the_images_say(ingest: Ingest) -> None:
    put(ingest, ct_image(PatientName="Müller^Jürgen", StudyDescription="CT Schädel", BodyPartExamined="HEAD"))
    (study,) = rows(ingest.store, tables.study)
    (series,) = rows(ingest.store, tables.series)
    (instance,) = rows(ingest.store, tables.instance)
    assert (study.patient_name, study.patient_name_folded) == ("Müller^Jürgen", "muller^jurgen")
    assert (study.description, study.description_folded) == ("CT Schädel", "ct schadel")
    assert study.attributes["00080090"]["Value"] == [{"Alphabetic": "House^Gregory"}]
    assert (series.modality, series.body_part, series.number) == ("CT", "HEAD", 1)
    assert (instance.rows, instance.columns, instance.frames, instance.peer) == (8, 8, 1, "CT01")


def test_the_same_instance_again_is_known_and_takes_no_room(ingest: Ingest) -> None:
    image = ct_image()
    put(ingest, image)
    before = sorted((blob.key, blob.size) for blob in ingest.blobs.list())
    assert put(ingest, image).recorded is Recorded.KNOWN
    assert sorted((blob.key, blob.size) for blob in ingest.blobs.list()) == before
    assert len(rows(ingest.store, tables.instance)) == 1


def test_the_issuer_of_the_peer_stands_in_where_the_images_name_none(ingest: Ingest) -> None:
    put(ingest, ct_image(), issuer="GENHOSP")
    put(ingest, ct_image(IssuerOfPatientID="OTHER"), issuer="GENHOSP")
    authorities = {study.patient_authority for study in rows(ingest.store, tables.study)}
    assert authorities == {"GENHOSP", "OTHER"}


def test_the_accession_is_taken_from_the_one_request_where_the_image_has_none(ingest: Ingest) -> None:
    import pydicom

    def asking(*accessions: str) -> Any:
        items = []
        for accession in accessions:
            item = pydicom.Dataset()
            item.AccessionNumber = accession
            items.append(item)
        return ct_image(RequestAttributesSequence=items)

    put(ingest, asking("A1"))
    put(ingest, asking("A2", "A3"))
    assert {study.accession_number for study in rows(ingest.store, tables.study)} == {"A1", ""}


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
def test_an_instance_without_one_of_its_uids_is_refused_by_name(ingest: Ingest, keyword: str) -> None:
    with pytest.raises(MissingField) as refused:
        put(ingest, ct_image(**{keyword: None}))
    assert refused.value.field == keyword
    assert list(ingest.blobs.list("landing")) == []


def test_an_instance_that_is_not_what_was_announced_is_refused(ingest: Ingest) -> None:
    image = ct_image()
    with pytest.raises(Conflict):
        put(ingest, image, announced_sop=("1.2.840.10008.5.1.4.1.1.4", image.SOPInstanceUID))
    with pytest.raises(Conflict):
        put(ingest, image, announced_sop=(image.SOPClassUID, "1.2.3"))
    assert rows(ingest.store, tables.instance) == []


def test_a_cut_instance_and_an_unknown_transfer_syntax_are_refused(ingest: Ingest) -> None:
    dataset = dataset_bytes(ct_image())
    with pytest.raises(InvalidInput):
        ingest.store_dataset(dataset[:-10], EXPLICIT, source=SOURCE, actor=MODALITY)
    with pytest.raises(Unsupported):
        ingest.store_dataset(dataset, "1.2.3.4", source=SOURCE, actor=MODALITY)


def test_whoever_may_not_store_leaves_no_bytes(ingest: Ingest) -> None:
    with pytest.raises(Forbidden):
        ingest.store_dataset(dataset_bytes(ct_image()), EXPLICIT, source=SOURCE, actor=AUDITOR)
    assert list(ingest.blobs.list("landing")) == []


def test_a_file_is_taken_with_its_data_set_as_it_is(ingest: Ingest) -> None:
    for name in ("CT_small.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm", "JPEG2000-embedded-sequence-delimiter.dcm"):
        content = packaged(name).read_bytes()
        dataset = content[part10.split(content).dataset_offset :]
        ingest.store_file(content, source=Source("STOW-RS", "someone"), actor=MODALITY)
        (row,) = rows(ingest.store, tables.instance, tables.instance.c.digest == hashlib.sha256(dataset).hexdigest())
        assert read_instance(ingest.blobs, row).endswith(dataset)


def test_an_absurd_number_in_a_header_is_no_reason_to_refuse_an_image(ingest: Ingest) -> None:
    image = ct_image()
    image.InstanceNumber = None
    image.add_new(0x00200013, "IS", "99999999999")
    assert put(ingest, image).recorded is Recorded.STORED
    assert rows(ingest.store, tables.instance)[0].number is None


class _DiesBeforeTheIndex:
    """A process that is killed after the bytes are durable: its verb never runs."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.clock, self.engine = store.clock, store.engine
        self.read = store.read

    def run(self, *_: Any, **__: Any) -> None:
        raise Unavailable("killed")


def test_what_landed_before_a_crash_is_indexed_at_the_next_start(ingest: Ingest) -> None:
    landing = open_landing(ingest.blobs, "doomed")
    doomed = Ingest(_DiesBeforeTheIndex(ingest.store), ingest.blobs, landing)  # type: ignore[arg-type]
    images = [ct_image() for _ in range(3)]
    put(ingest, images[0])
    for image in images:
        with pytest.raises(Unavailable):
            put(doomed, image, issuer="GENHOSP")
    landing.close()
    found = recover(ingest)
    assert (found.indexed, found.torn, found.refused) == (2, 0, 0)
    stored = {row.sop_instance_uid: row for row in rows(ingest.store, tables.instance)}
    assert set(stored) == {image.SOPInstanceUID for image in images}
    assert all(read_instance(ingest.blobs, stored[i.SOPInstanceUID]).endswith(dataset_bytes(i)) for i in images)
    assert {row.peer for row in stored.values()} == {"CT01"}
    assert recover(ingest).indexed == 0


def test_settled_segments_are_not_read_again_at_the_next_start(ingest: Ingest) -> None:
    import time

    landing = open_landing(ingest.blobs, "gone")
    put(Ingest(ingest.store, ingest.blobs, landing), ct_image())
    landing.close()
    assert recover(ingest).segments == 1
    assert recover(ingest, now=lambda: time.time() + 3600).segments == 1
    assert recover(ingest).segments == 0


def test_reindex_rebuilds_a_lost_index_from_bytes_alone(
    ingest: Ingest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from fixtures.stores import open_store as open_database

    images = [ct_image(StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.1") for _ in range(4)]
    for image in images:
        put(ingest, image)
    received = {row.sop_instance_uid: row.received_at for row in rows(ingest.store, tables.instance)}
    empty = open_database("sqlite", tmp_path_factory.mktemp("empty"))
    told: list[int] = []
    found = reindex(
        Ingest(empty, ingest.blobs, open_landing(ingest.blobs, "tester2")), lambda r: told.append(r.indexed)
    )
    assert (found.instances, found.indexed) == (4, 4)
    assert told[-1] == 4
    (study,) = rows(empty, tables.study)
    assert (study.series_count, study.instance_count) == (1, 4)
    assert {row.sop_instance_uid: row.received_at for row in rows(empty, tables.instance)} == received
    empty.close()
