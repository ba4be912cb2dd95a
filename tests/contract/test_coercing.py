"""What leaves rewritten is read from every store in stretches, and is the same whole, in part and as a data set."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest

from fixtures.dicom_files import ct_image, part10_bytes
from fixtures.fhir_server import Clinic
from fixtures.stores import MODALITY
from hilum.archive.blobs import BlobStore, S3Settings, open_store
from hilum.archive.ingest import Ingest
from hilum.archive.landing import open_landing
from hilum.core.scope import EVERYTHING
from hilum.dicom.coercing import Coercing
from hilum.security.audit import ReadLog
from hilum.settings import Configuration
from hilum.storage.retrieval import find_instances, find_study
from hilum.storage.store import Store
from hilum.workflow.source import Source


@pytest.fixture(params=["file", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "file":
        return open_store("file", tmp_path / "archive")
    server = request.getfixturevalue("s3_server")
    bucket = request.getfixturevalue("s3_bucket")
    settings = S3Settings(server.endpoint, server.region, server.access_key, server.secret_key)
    return open_store(f"s3://{bucket}/archive/one", tmp_path, settings)


def test_a_large_image_leaves_rewritten_from_every_store(sqlite_store: Store, blobs: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "hilum.toml").write_text("")
    clinic = Clinic(sqlite_store, "", ReadLog(sqlite_store))
    clinic.register("100", "Łukasz", "Ann")
    placed = clinic.place("100")
    pixels = np.arange(1 << 20, dtype="<u2").tobytes()
    image = ct_image(
        StudyInstanceUID=placed.study_instance_uid, AccessionNumber=placed.accession_number, PatientID="100",
        PatientName="Lukasz^Anna", Rows=1024, Columns=1024, PixelData=pixels, SpecificCharacterSet="ISO_IR 100",
    )  # fmt: skip
    landing = open_landing(blobs, "tester")
    try:
        ingest = Ingest(sqlite_store, blobs, landing)
        ingest.store_file(part10_bytes(image), source=Source("DICOM C-STORE", "CT01"), actor=MODALITY)
        coercing = Coercing(sqlite_store, blobs, Configuration(tmp_path))
        with sqlite_store.read() as db:
            study = find_study(db, placed.study_instance_uid, EVERYTHING)
            assert study is not None
            (row,) = find_instances(db, study.id)
        coercion = coercing.of(row)
        assert coercion is not None and coercion == coercing.of_each(study, [row])[row.id]
        made = coercing.made(row, coercion)
        whole = b"".join(coercing.file(row, made))
        assert len(whole) == coercing.file_length(row, made)
        for begin, end in ((0, 10), (100, 2000), (len(whole) - 5, len(whole)), (400, 1 << 21)):
            assert b"".join(coercing.file(row, made, begin, end)) == whole[begin:end]
        with coercing.data_set(row, made) as data_set:
            assert whole.endswith(data_set)
        read = pydicom.dcmread(io.BytesIO(whole))
        assert (read.PatientName, read.PixelData) == ("Łukasz^Ann", pixels)
    finally:
        landing.close()
