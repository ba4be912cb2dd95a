"""What a landing acknowledged is found again from bytes alone, on a directory and on a real S3 server."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hilum.archive import segments as segments_module
from hilum.archive.batches import ObjectLanding
from hilum.archive.blobs import BlobStore, S3Settings, open_store
from hilum.archive.file_blobs import FileBlobs
from hilum.archive.landing import (
    Landed,
    Landing,
    Location,
    Record,
    Torn,
    in_use,
    landed_segments,
    open_landing,
    read,
    read_dataset,
    reclaim,
    record_of,
    scan,
)
from hilum.archive.segments import SegmentLanding
from hilum.core.errors import InvalidInput, NotFound, OutOfSpace, TooLarge, Unavailable

PREFIX = bytes(128) + b"DICM" + b"group two"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def make(dataset: bytes, source: str = "CT01") -> Record:
    return record_of(PREFIX, dataset, received_at=NOW, source=source, door="dimse", note=len(dataset))


def found(store: BlobStore) -> list[Landed | Torn]:
    return [each for segment in landed_segments(store) for each in scan(store, segment.key)]


def digests(store: BlobStore) -> set[str]:
    return {each.digest for each in found(store) if isinstance(each, Landed)}


@pytest.fixture(params=["direct", "buffered", "s3"])
def landing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[BlobStore, Landing]]:
    landing: Landing
    if request.param == "s3":
        server = request.getfixturevalue("s3_server")
        settings = S3Settings(server.endpoint, server.region, server.access_key, server.secret_key)
        store = open_store(f"s3://{request.getfixturevalue('s3_bucket')}/node", tmp_path, settings)
        landing = ObjectLanding(store, "tester", batch_bytes=1 << 20)
    else:
        store = FileBlobs(tmp_path / "archive")
        landing = SegmentLanding(store, "tester", segment_bytes=1 << 20, direct=request.param == "direct")
    yield store, landing
    landing.close()


def test_a_landed_instance_is_a_part_10_file_at_its_location(landing: tuple[BlobStore, Landing]) -> None:
    store, door = landing
    dataset = os.urandom(5001)
    location = door.append(make(dataset))
    assert read(store, location) == PREFIX + dataset
    assert read_dataset(store, location) == dataset
    assert read_dataset(store, location, 100, 9) == dataset[100:109]
    with pytest.raises(NotFound):
        read_dataset(store, location, 5000, 2)


def test_instances_of_many_threads_all_land_and_are_all_found_by_a_scan(landing: tuple[BlobStore, Landing]) -> None:
    store, door = landing
    chance = random.Random(7)
    sizes = [[chance.choice([0, 1, 4000, 4096, 9000, 70_000, 300_000]) for _ in range(25)] for _ in range(6)]
    landed: dict[Location, bytes] = {}

    def send(mine: list[int]) -> None:
        for size in mine:
            dataset = os.urandom(size)
            landed[door.append(make(dataset))] = dataset

    threads = [threading.Thread(target=send, args=(mine,)) for mine in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(landed) == 150
    for location, dataset in landed.items():
        assert read_dataset(store, location) == dataset
    again = [each for each in found(store) if isinstance(each, Landed)]
    assert {each.location: each.digest for each in again} == {
        location: hashlib.sha256(dataset).hexdigest() for location, dataset in landed.items()
    }
    assert all(each.trailer["source"] == "CT01" and each.trailer["door"] == "dimse" for each in again)
    assert all(each.trailer["note"] == each.location.dataset_length for each in again)
    assert datetime.fromisoformat(again[0].trailer["received_at"]) == NOW


def test_an_instance_larger_than_a_segment_or_batch_lands_from_a_file(landing: tuple[BlobStore, Landing]) -> None:
    store, door = landing
    dataset = os.urandom(1 << 20) * 21 + b"tail"
    file = io.BytesIO(b"before" + dataset)
    file.seek(6)
    location = door.append(record_of(PREFIX, file, received_at=NOW, source="import", door="import"))
    small = door.append(make(b"small"))
    assert location.dataset_length == len(dataset)
    assert hashlib.sha256(read_dataset(store, location)).digest() == hashlib.sha256(dataset).digest()
    assert digests(store) == {hashlib.sha256(dataset).hexdigest(), hashlib.sha256(b"small").hexdigest()}
    assert read_dataset(store, small) == b"small"


def test_a_closed_landing_takes_nothing_more(landing: tuple[BlobStore, Landing]) -> None:
    store, door = landing
    door.append(make(b"before"))
    door.close()
    with pytest.raises(Unavailable):
        door.append(make(b"after"))
    assert digests(store) == {hashlib.sha256(b"before").hexdigest()}


def test_a_torn_record_is_reported_and_its_neighbours_are_found(tmp_path: Path) -> None:
    store = FileBlobs(tmp_path)
    door = SegmentLanding(store, "tester", segment_bytes=1 << 20)
    locations = [door.append(make(bytes([n]) * 10_000)) for n in range(5)]
    door.close()
    path = store.path(locations[0].key)
    data = bytearray(path.read_bytes())
    data[locations[1].dataset_offset + 77] ^= 1  # in the data set
    data[locations[3].offset + 3] ^= 1  # in the preamble
    path.write_bytes(data)
    results = found(store)
    assert [type(each) for each in results] == [Landed, Torn, Landed, Torn, Landed]
    assert [each.reason for each in results if isinstance(each, Torn)] == [
        "data set differs from its digest",
        "header, meta or trailer differ from their checksum",
    ]


def test_gaps_left_by_appends_that_never_happened_are_walked_past(tmp_path: Path) -> None:
    store = FileBlobs(tmp_path)
    door = SegmentLanding(store, "tester", segment_bytes=64 << 20)
    first = door.append(make(b"first"))
    door._reserve(30 << 20)  # a thread that died before its write
    last = door.append(make(b"last"))
    assert last.offset - first.offset > 30 << 20
    assert digests(store) == {hashlib.sha256(each).hexdigest() for each in (b"first", b"last")}


def test_a_record_forged_inside_a_data_set_is_never_taken_for_one(tmp_path: Path) -> None:
    """The sender knows the format but not the nonce; its host record is broken so that the walk steps inside."""
    store = FileBlobs(tmp_path)
    door = SegmentLanding(store, "tester", segment_bytes=1 << 20)
    donor = door.append(make(b"forged patient"))
    other = SegmentLanding(store, "tester", segment_bytes=1 << 20)
    block = store.get_range(donor.key, donor.offset // 4096 * 4096, 4096)
    offset_of_dataset = 80 + len(PREFIX)
    host = other.append(make(bytes(8192 - offset_of_dataset) + block))
    path = store.path(host.key)
    data = bytearray(path.read_bytes())
    assert data[4096 + 8192 :][:8] == b"HILUMREC"
    data[4096 + 9000 - 900] ^= 1
    path.write_bytes(data)
    assert [type(each) for each in scan(store, host.key)] == [Torn]


def test_an_object_that_is_no_segment_yields_one_torn_entry(tmp_path: Path) -> None:
    store = FileBlobs(tmp_path)
    store.put("landing/x/y.seg", b"hello" * 1000)
    store.put("landing/x/z.seg", b"")
    assert [type(each) for each in found(store)] == [Torn, Torn]


def test_a_full_disk_refuses_before_success_and_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileBlobs(tmp_path)
    door = SegmentLanding(store, "tester", segment_bytes=1 << 20)

    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        with pytest.raises(OutOfSpace):
            door.append(make(b"no room"))
    assert list(store.root.rglob("*.part")) == []
    door.append(make(b"room again"))
    assert digests(store) == {hashlib.sha256(b"room again").hexdigest()}


def test_after_a_failed_write_the_segment_is_left_for_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileBlobs(tmp_path)
    door = SegmentLanding(store, "tester", segment_bytes=1 << 20)
    before = door.append(make(b"before"))

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwritev", broken)
        with pytest.raises(Unavailable):
            door.append(make(b"lost, and said so"))
    after = door.append(make(b"after"))
    assert after.key != before.key
    assert digests(store) == {hashlib.sha256(each).hexdigest() for each in (b"before", b"after")}


def test_one_append_is_one_synchronous_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileBlobs(tmp_path)
    door = SegmentLanding(store, "tester", segment_bytes=4 << 20)
    door.append(make(b"opens the segment"))
    calls: list[tuple[int, int, int]] = []
    real = os.pwritev

    def counted(descriptor: int, buffers: list[memoryview], offset: int, flags: int = 0) -> int:
        calls.append((len(buffers[0]), offset, flags))
        return real(descriptor, buffers, offset, flags)

    monkeypatch.setattr(os, "pwritev", counted)
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("an append touched metadata"))
    door.append(make(bytes(500_000)))
    [(length, offset, flags)] = calls
    assert length % 4096 == offset % 4096 == 0
    assert flags == os.RWF_DSYNC


def test_without_direct_writes_an_append_ends_with_a_data_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = os.open

    def without_direct(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "not on this file system")
        return real_open(path, flags, mode)

    monkeypatch.setattr(os, "open", without_direct)
    store = FileBlobs(tmp_path)
    door = SegmentLanding(store, "tester", segment_bytes=1 << 20)
    door.append(make(b"opens the segment"))
    calls: list[str] = []
    real_write, real_sync = os.pwritev, os.fdatasync
    monkeypatch.setattr(os, "pwritev", lambda *args: (calls.append("write"), real_write(*args))[1])
    monkeypatch.setattr(os, "fdatasync", lambda fd: (calls.append("sync"), real_sync(fd))[1])
    location = door.append(make(b"data"))
    assert calls == ["write", "sync"]
    assert read_dataset(store, location) == b"data"


def test_a_segment_is_allocated_and_synced_with_its_name_before_its_first_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real_allocate, real_sync, real_rename, real_write = os.posix_fallocate, os.fsync, Path.rename, os.pwritev

    def fsync(descriptor: int) -> None:
        target = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        calls.append("sync directory" if target.is_dir() else "sync file")
        real_sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "posix_fallocate", lambda *a: (calls.append("allocate"), real_allocate(*a))[1])
    monkeypatch.setattr(Path, "rename", lambda self, to: (calls.append("name"), real_rename(self, to))[1])
    monkeypatch.setattr(os, "pwritev", lambda *a: (calls.append("write"), real_write(*a))[1])
    store = FileBlobs(tmp_path)
    SegmentLanding(store, "tester", segment_bytes=1 << 20).append(make(b"x"))
    making = calls[calls.index("allocate") :]
    assert making == ["allocate", "write", "sync file", "name", "sync directory", "write"]


def test_a_living_writer_owns_its_segment_and_a_dead_ones_room_is_reclaimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments_module, "BEING_MADE_SECONDS", -1)
    program = (
        "import os, sys\n"
        "from datetime import datetime, UTC\n"
        "from pathlib import Path\n"
        "from hilum.archive.landing import open_landing, record_of\n"
        "from hilum.archive.file_blobs import FileBlobs\n"
        "door = open_landing(FileBlobs(Path(sys.argv[1])), 'child')\n"
        "print(door.append(record_of(b'p', b'data', received_at=datetime.now(UTC), source='s', door='d')).key)\n"
        "sys.stdout.flush(); sys.stdin.read()\n"
    )
    store = FileBlobs(tmp_path)
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    key = child.stdout.readline().strip()
    assert in_use(store, key)
    assert reclaim(store) == 0
    child.kill()
    child.wait()
    assert not in_use(store, key)
    assert store.head(key).size == 256 << 20
    assert reclaim(store) == 1
    assert store.head(key).size == 8192
    assert digests(store) == {hashlib.sha256(b"data").hexdigest()}


KILLED = """
import hashlib, os, sys, threading
from datetime import datetime, UTC
from pathlib import Path
from hilum.archive.blobs import S3Settings, open_store
from hilum.archive.landing import open_landing, record_of

url, root, *credentials = sys.argv[1:]
door = open_landing(open_store(url, Path(root), S3Settings(*credentials)), f"w{os.getpid()}")
lock = threading.Lock()

def send():
    while True:
        dataset = os.urandom(3000 + os.urandom(1)[0] * 400)
        door.append(record_of(b"meta", dataset, received_at=datetime.now(UTC), source="s", door="d"))
        line = hashlib.sha256(dataset).hexdigest() + "\\n"
        with lock:
            os.write(1, line.encode())

for _ in range(4):
    threading.Thread(target=send).start()
"""


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_everything_acknowledged_before_kill_9_is_found(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    arguments = ["file", str(tmp_path)]
    settings = S3Settings()
    if kind == "s3":
        server = request.getfixturevalue("s3_server")
        access = [server.endpoint, server.region, server.access_key, server.secret_key]
        arguments = [f"s3://{request.getfixturevalue('s3_bucket')}/node", str(tmp_path), *access]
        settings = S3Settings(*access)
    acknowledged: set[str] = set()
    for pause in (0.15, 0.4, 0.7):
        child = subprocess.Popen([sys.executable, "-c", KILLED, *arguments], stdout=subprocess.PIPE)
        assert child.stdout is not None
        lines = [child.stdout.readline()]  # it is under way
        time.sleep(pause)
        child.kill()
        lines += child.stdout.read().splitlines(keepends=True)
        child.wait()
        acknowledged |= {line.decode().strip() for line in lines if line.endswith(b"\n")}
    store = open_store(arguments[0], tmp_path, settings)
    assert len(acknowledged) > 20
    assert acknowledged <= digests(store)


def test_those_who_wait_together_share_one_put() -> None:
    puts: list[int] = []
    gate = threading.Event()

    class Slow:
        """A store whose first PUT takes until the gate opens."""

        def put(self, key: str, data: bytes) -> None:
            puts.append(len(data))
            if len(puts) == 1:
                gate.wait(30)

    door = ObjectLanding(Slow(), "tester", committers=1)  # type: ignore[arg-type]
    threads = [threading.Thread(target=door.append, args=(make(bytes(100)),)) for _ in range(20)]
    threads[0].start()
    while not puts:
        time.sleep(0.001)
    for thread in threads[1:]:
        thread.start()
    while len(door._queue) < 19:
        time.sleep(0.001)
    gate.set()
    for thread in threads:
        thread.join()
    assert puts == [4096 * 2, 4096 * 20]
    door.close()


def test_when_the_put_fails_every_one_who_waited_is_told() -> None:
    class Full:
        """A store without room."""

        def put(self, key: str, data: bytes) -> None:
            raise OutOfSpace

    door = ObjectLanding(Full(), "tester")  # type: ignore[arg-type]
    told: list[Exception] = []

    def send() -> None:
        try:
            door.append(make(b"x"))
        except OutOfSpace as error:
            told.append(error)

    threads = [threading.Thread(target=send) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 5
    door.close()


def test_impossible_records_and_writers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TooLarge):
        record_of(bytes(2 << 20), b"", received_at=NOW, source="x", door="y")
    with pytest.raises(InvalidInput):
        open_landing(FileBlobs(tmp_path), "../x")
    shrinking = io.BytesIO(b"123456")
    record = record_of(b"", shrinking, received_at=NOW, source="x", door="y")
    shrinking.truncate(3)
    door = SegmentLanding(FileBlobs(tmp_path), "tester", segment_bytes=1 << 20)
    with pytest.raises(InvalidInput):
        door.append(record)
    assert digests(FileBlobs(tmp_path)) == set()
