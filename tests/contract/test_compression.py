"""Compressed copies by rule: proven before they are served, once for each image, and gone with it; originals stay."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import requests
import sqlalchemy as sa

from fixtures.dicom_files import ct_image, dataset_bytes, packaged
from fixtures.dicomweb_server import JSON, open_archive, path_of
from fixtures.stores import MODALITY, open_store
from hilum.archive.blobs import BlobStore, S3Settings
from hilum.archive.blobs import open_store as open_blobs
from hilum.archive.file_blobs import FileBlobs
from hilum.archive.ingest import Ingest
from hilum.archive.integrity import verify
from hilum.archive.landing import open_landing, read_dataset
from hilum.archive.part10 import EXPLICIT_LITTLE
from hilum.archive.render_pool import RenderPool
from hilum.archive.retrieve import location_of_row, read_instance
from hilum.core.errors import Unavailable
from hilum.dicom.coercing import Coercing
from hilum.dicom.copies import Copies
from hilum.dicom.dimse.retrieve import Outgoing
from hilum.jobs.compression import Compression
from hilum.settings import Configuration
from hilum.storage import tables
from hilum.storage.retrieval import PLACE, StoredInstance
from hilum.storage.store import Store
from hilum.workflow.source import Source

HTJ2K, JPEG_LS = "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.80"
EACH_RUN = "compress_mb_per_second = 10000\n[[archive.compress]]\n"
RULES = f"""[archive]
{EACH_RUN}modality = "CT"
source = "CT01"
to = "htj2k"
[[archive.compress]]
modality = "MR"
age_days = 1
to = "jpeg-ls"
"""


@pytest.fixture(scope="module")
def pool() -> Iterator[RenderPool]:
    with closing(RenderPool(workers=1)) as opened:
        yield opened


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
def files(tmp_path: Path) -> Iterator[Ingest]:
    """SQLite and files alone, for what is the same everywhere."""
    store = open_store("sqlite", tmp_path)
    blobs = FileBlobs(tmp_path / "archive")
    yield Ingest(store, blobs, open_landing(blobs, "tester"))
    store.close()


def compression(ingest: Ingest, home: Path, pool: RenderPool, rules: str = RULES) -> Compression:
    (home / "hilum.toml").write_text(rules)
    return Compression(ingest.store, ingest.blobs, Configuration(home), pool=pool)


def put(ingest: Ingest, source: str = "CT01", **attributes: Any) -> Any:
    image = ct_image(**attributes)
    ingest.store_dataset(dataset_bytes(image), EXPLICIT_LITTLE, source=Source("DICOM C-STORE", source), actor=MODALITY)
    return image


def instances(store: Store) -> list[StoredInstance]:
    query = sa.select(*PLACE).join(tables.series, tables.series.c.id == tables.instance.c.series_id)
    with store.read() as db:
        return [StoredInstance(*row) for row in db.execute(query.order_by(tables.instance.c.id))]


def copies(store: Store) -> list[Any]:
    with store.read() as db:
        return list(db.execute(sa.select(tables.rendition).order_by(tables.rendition.c.instance_id)))


def test_the_first_rule_that_fits_an_image_decides_and_each_is_compressed_once(
    ingest: Ingest, tmp_path: Path, pool: RenderPool
) -> None:
    image = put(ingest)
    put(ingest, source="CT02")
    put(ingest, Modality="MR", SeriesInstanceUID="1.2.9")  # is not old enough
    put(ingest, Modality="US", SeriesInstanceUID="1.2.8")
    job = compression(ingest, tmp_path, pool)
    assert job.due()
    job.run()
    (copy,) = copies(ingest.store)
    original = instances(ingest.store)[0]
    assert (copy.instance_id, copy.transfer_syntax_uid, copy.lossless) == (original.id, HTJ2K, True)
    assert copy.digest != original.digest
    found = Copies(ingest.store, job.configuration).of([original])[original.id]
    stored = pydicom.dcmread(io.BytesIO(read_instance(ingest.blobs, found)))
    assert stored.file_meta.TransferSyntaxUID == HTJ2K
    assert stored.SOPInstanceUID == image.SOPInstanceUID
    assert np.array_equal(stored.pixel_array, image.pixel_array)
    kept = pydicom.dcmread(io.BytesIO(read_instance(ingest.blobs, original)))
    assert kept.PixelData == image.PixelData
    assert not job.due(), "a pass has ended"
    job._rest_until = job._paid_until = 0
    job.run()
    assert copies(ingest.store) == [copy]


def test_a_copy_goes_with_its_image(ingest: Ingest, tmp_path: Path, pool: RenderPool) -> None:
    put(ingest)
    job = compression(ingest, tmp_path, pool)
    job.run()
    (copy,) = copies(ingest.store)
    assert ingest.blobs.head(copy.object_key).size == copy.object_length
    with ingest.store.engine.begin() as db:
        db.execute(tables.instance.delete())
    job.clean()
    assert not copies(ingest.store)
    assert not list(ingest.blobs.list("renditions"))


def test_a_copy_that_rots_is_found_and_made_again(ingest: Ingest, tmp_path: Path, pool: RenderPool) -> None:
    put(ingest)
    job = compression(ingest, tmp_path, pool)
    job.run()
    (copy,) = copies(ingest.store)
    whole = ingest.blobs.get(copy.object_key)
    assert len(list(verify(ingest.store, ingest.blobs, MODALITY))) == 1
    assert copies(ingest.store) == [copy]
    for rotten in (whole[:-9] + b"x" + whole[-8:], whole[:-20], None):
        if rotten is None:
            ingest.blobs.delete(copy.object_key)
        else:
            ingest.blobs.put(copy.object_key, rotten)
        assert [looked.damage for looked in verify(ingest.store, ingest.blobs, MODALITY)] == [None]
        assert not copies(ingest.store)
        job._rest_until = job._paid_until = 0
        job.run()
        (again,) = copies(ingest.store)
        assert (again.digest, ingest.blobs.get(again.object_key)) == (copy.digest, whole)


def test_a_pass_goes_on_where_it_was_left_and_holds_to_its_rate(
    files: Ingest, tmp_path: Path, pool: RenderPool
) -> None:
    for number in range(3):
        put(files, SOPInstanceUID=f"1.2.{number}")
    slow = RULES.replace("10000", "0.0001")
    first = compression(files, tmp_path, pool, slow)
    first.run()
    assert len(copies(files.store)) == 1
    assert not first.due(), "the rate is used up"
    second = compression(files, tmp_path, pool, slow)  # as after a restart
    second.run()
    assert len(copies(files.store)) == 2


def test_what_can_not_be_compressed_is_left_alone_and_not_tried_again(
    files: Ingest, tmp_path: Path, pool: RenderPool
) -> None:
    wide = np.arange(64, dtype=np.uint32).tobytes()
    put(files, BitsAllocated=32, BitsStored=32, HighBit=31, PixelData=wide)
    put(files, SOPInstanceUID="1.2.3", PixelData=b"\xff\xff" * 64)  # more in the cells than pixels
    job = compression(files, tmp_path, pool)
    job.run()
    found = copies(files.store)
    assert [each.object_key for each in found] == [None, None]
    assert not list(files.blobs.list("renditions"))
    assert not Copies(files.store, job.configuration).of(instances(files.store))


def test_a_copy_that_differs_from_its_image_is_never_served(files: Ingest, tmp_path: Path) -> None:
    put(files)

    class Liar(RenderPool):
        """Decodes other pixels from copies than were put into them."""

        def render(self, job: Any, seconds: float | None = None) -> bytes:
            answer = super().render(job, seconds)
            if job.format == "raw" and job.frame_syntax == HTJ2K:
                answer = answer[:-1] + bytes([answer[-1] ^ 1])
            return answer

    with closing(Liar(workers=1)) as liar:
        compression(files, tmp_path, liar).run()
    assert [each.object_key for each in copies(files.store)] == [None]
    assert not list(files.blobs.list("renditions"))


def test_an_image_by_which_the_process_dies_is_given_up_after_three_tries(files: Ingest, tmp_path: Path) -> None:
    put(files)

    class Dead(RenderPool):
        """Dies of every image."""

        def render(self, job: Any, seconds: float | None = None) -> bytes:
            raise Unavailable("The rendering process died on this image.")

    with closing(Dead()) as dead:
        job = compression(files, tmp_path, dead)
        for _ in range(2):
            with pytest.raises(Unavailable):
                job.run()
            assert not copies(files.store)
        job.run()
    assert [each.object_key for each in copies(files.store)] == [None]


def test_a_lossy_copy_is_another_instance_and_stands_beside_the_lossless_one(
    files: Ingest, tmp_path: Path, pool: RenderPool
) -> None:
    image = put(files)
    compression(files, tmp_path, pool).run()
    lossy = compression(files, tmp_path, pool, f'[archive]\n{EACH_RUN}to = "jpeg-ls"\nlossy = true\nquality = 80\n')
    lossy.run()
    assert len(copies(files.store)) == 2
    rows = instances(files.store)
    (copy,) = Copies(files.store, lossy.configuration).of(rows, lossless=False).values()
    stored = pydicom.dcmread(io.BytesIO(read_instance(files.blobs, copy)))
    assert stored.LossyImageCompression == "01"
    assert stored.SOPInstanceUID != image.SOPInstanceUID
    assert location_of_row(copy) != location_of_row(rows[0])


def test_the_web_serves_the_copy_unless_another_syntax_is_named(
    sqlite_store: Store, tmp_path: Path, pool: RenderPool
) -> None:
    home = tmp_path / "home"
    rules = f'[archive]\n{EACH_RUN}to = "jpeg-ls"\n'
    with open_archive(sqlite_store, home, rules) as archive:
        content = packaged("CT_small.dcm").read_bytes()
        image = pydicom.dcmread(io.BytesIO(content))
        archive.keep(content)
        as_it_is = {"Accept": "application/dicom; transfer-syntax=*"}
        before = archive.fetch(path_of(image), headers=as_it_is)
        Compression(sqlite_store, FileBlobs(home / "archive"), Configuration(home), pool=pool).run()

        def served(syntax: str, **headers: str) -> requests.Response:
            return archive.fetch(
                path_of(image), headers={"Accept": f"application/dicom; transfer-syntax={syntax}"} | headers
            )

        after = served("*", **{"If-None-Match": before.headers["etag"]})
        assert after.headers["content-type"].endswith(JPEG_LS)
        copy = pydicom.dcmread(io.BytesIO(after.content))
        assert np.array_equal(copy.pixel_array, image.pixel_array)
        assert served(JPEG_LS).content == after.content
        assert served(EXPLICIT_LITTLE).content == before.content
        frames = f"{path_of(image)}/frames/1"
        octets = "multipart/related; type=application/octet-stream; transfer-syntax="
        assert JPEG_LS in archive.fetch(frames, headers={"Accept": octets + "*"}).text
        assert image.PixelData in archive.fetch(frames, headers={"Accept": octets + EXPLICIT_LITTLE}).content
        (metadata,) = archive.fetch(f"{path_of(image)}/metadata", headers=JSON).json()
        assert metadata["00280010"]["Value"] == [128]
        archive.fetch(
            path_of(image), status=406, headers={"Accept": "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.102"}
        )


def test_a_peer_gets_the_copy_where_it_does_not_take_the_original(
    files: Ingest, tmp_path: Path, pool: RenderPool
) -> None:
    image = put(files)
    job = compression(files, tmp_path, pool)
    job.run()
    (row,) = instances(files.store)
    copy = Copies(files.store, job.configuration).of([row])[row.id]
    outgoing = Outgoing(Coercing(files.store, files.blobs, job.configuration), pool)
    name = str(image.SOPClassUID)
    contexts = {(name, HTJ2K): 1, (name, "1.2.840.10008.1.2"): 3, (name, EXPLICIT_LITTLE): 5}
    for kept, number in ((row, 5), (copy, 1)):
        with outgoing.ready(row, contexts) as (context_id, data_set):
            assert context_id == number
            assert bytes(data_set) == read_dataset(files.blobs, location_of_row(kept))
        contexts.pop((name, EXPLICIT_LITTLE), None)
    with outgoing.ready(row, {(name, "1.2.840.10008.1.2"): 3}) as (context_id, data_set):
        assert context_id == 3
        assert image.PixelData in bytes(data_set)


def test_rules_that_can_not_be_are_refused(tmp_path: Path) -> None:
    for rule in ('to = "htj2k"\nlossy = true', 'to = "jpeg"', 'to = "zip"', "quality = 0"):
        (tmp_path / "hilum.toml").write_text(f"[[archive.compress]]\n{rule}\n")
        with pytest.raises(Exception, match="compress"):
            Configuration(tmp_path)
