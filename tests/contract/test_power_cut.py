"""What a power cut takes of the index comes back from the bytes; all else is synced before anyone hears of it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from fixtures.dicom_files import ct_image, dataset_bytes
from fixtures.stores import HL7_PEER, MODALITY, migrated, open_store, sign
from fixtures.ward import registration
from hilum.archive.file_blobs import FileBlobs
from hilum.archive.ingest import Ingest
from hilum.archive.landing import open_landing
from hilum.archive.recovery import recover
from hilum.storage import tables
from hilum.storage.database import open_engine
from hilum.storage.store import Store
from hilum.workflow.registration import register_patient
from hilum.workflow.source import Source

EXPLICIT = "1.2.840.10008.1.2.1"


class Watched:
    """A store on SQLite, and every statement that its database was given."""

    def __init__(self, folder: Path) -> None:
        (folder / "hilum.db").write_bytes(migrated())
        self.statements: list[str] = []
        engine = open_engine("sqlite", folder / "hilum.db")
        sa.event.listen(engine, "connect", lambda driver, _: driver.set_trace_callback(self.statements.append))
        self.store = Store(engine, sign, lock_path=str(folder / "hilum.lock"))
        self.blobs = FileBlobs(folder / "archive")
        self.landing = open_landing(self.blobs, "tester")
        self.ingest = Ingest(self.store, self.blobs, self.landing)

    def put(self, image: Any) -> None:
        self.ingest.store_dataset(
            dataset_bytes(image), EXPLICIT, source=Source("DICOM C-STORE", "CT01"), actor=MODALITY
        )

    def syncs(self) -> list[str]:
        """How each transaction that wrote was synced."""
        levels: list[str] = []
        level = ""
        for statement in self.statements:
            if statement.startswith("PRAGMA synchronous="):
                level = statement.partition("=")[2]
            elif statement == "BEGIN IMMEDIATE":
                levels.append(level)
        return levels


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    opened = Watched(tmp_path)
    yield opened
    opened.landing.close()
    opened.store.close()


def test_an_index_row_is_not_synced_beside_its_bytes_and_all_else_is(watched: Watched) -> None:
    image = ct_image()
    watched.put(image)
    watched.store.run(register_patient, registration("1"), HL7_PEER)
    watched.put(image)
    assert watched.syncs() == ["NORMAL", "FULL", "FULL"]


def test_what_a_checkpoint_passes_is_synced_before(watched: Watched) -> None:
    watched.put(ct_image())
    watched.landing.close()
    recover(watched.ingest, now=lambda: time.time() + 3600)
    assert watched.syncs()[-1] == "FULL"
    assert any("counter" in statement for statement in watched.statements)


def test_images_whose_rows_a_power_cut_took_are_indexed_again(tmp_path: Path) -> None:
    (before := tmp_path / "before").mkdir()
    (after := tmp_path / "after").mkdir()
    doomed = Watched(before)
    for image in (images := [ct_image() for _ in range(3)]):
        doomed.put(image)
    doomed.landing.close()
    doomed.store.close()
    # The archive as it was synced, with a database that has heard of none of it.
    shutil.copytree(before / "archive", after / "archive")
    store = open_store("sqlite", after)
    blobs = FileBlobs(after / "archive")
    landing = open_landing(blobs, "tester")
    assert recover(Ingest(store, blobs, landing)).indexed == 3
    with store.read() as db:
        found = set(db.execute(sa.select(tables.instance.c.sop_instance_uid)).scalars())
    assert found == {image.SOPInstanceUID for image in images}
    landing.close()
    store.close()
