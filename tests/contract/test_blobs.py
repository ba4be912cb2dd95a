"""Every blob store keeps the same promises: a directory and a real S3 server."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hilum.archive.blobs import BlobStore, S3Settings, open_store
from hilum.archive.file_blobs import FileBlobs
from hilum.core.errors import InvalidInput, NotFound, OutOfSpace, Unavailable


@pytest.fixture(params=["file", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "file":
        return open_store("file", tmp_path / "archive")
    server = request.getfixturevalue("s3_server")
    bucket = request.getfixturevalue("s3_bucket")
    settings = S3Settings(server.endpoint, server.region, server.access_key, server.secret_key)
    return open_store(f"s3://{bucket}/archive/one", tmp_path, settings)


def test_what_was_put_is_read_back_whole_in_part_and_as_a_stream(blobs: BlobStore) -> None:
    data = os.urandom(3_000_000)
    blobs.put("a/b/object", data)
    assert blobs.get("a/b/object") == data
    assert blobs.get_range("a/b/object", 1_234_567, 89) == data[1_234_567 : 1_234_567 + 89]
    assert blobs.get_range("a/b/object", 5, 0) == b""
    assert b"".join(blobs.stream("a/b/object")) == data
    assert b"".join(blobs.stream("a/b/object", 7, 2_000_000)) == data[7:2_000_007]
    assert blobs.head("a/b/object").size == len(data)


def test_a_put_replaces_and_an_empty_object_is_an_object(blobs: BlobStore) -> None:
    blobs.put("x", b"first and longer")
    blobs.put("x", b"second")
    blobs.put("nothing", b"")
    assert blobs.get("x") == b"second"
    assert blobs.get("nothing") == b""
    assert list(blobs.stream("nothing")) == []


def test_a_file_larger_than_one_part_is_stored_from_a_file_object(blobs: BlobStore) -> None:
    data = os.urandom(1 << 20) * 20
    blobs.put("large", io.BytesIO(data))
    assert blobs.head("large").size == len(data)
    assert blobs.get_range("large", len(data) - 10, 10) == data[-10:]


def test_only_one_of_many_writers_gets_an_absent_key(blobs: BlobStore) -> None:
    won: list[bytes] = []

    def write(value: bytes) -> None:
        if blobs.put_if_absent("once", value):
            won.append(value)

    threads = [threading.Thread(target=write, args=(str(n).encode(),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert blobs.get("once") == won[0]
    assert blobs.put_if_absent("once", b"later") is False


def test_absent_keys_and_ranges_past_the_end_are_not_found(blobs: BlobStore) -> None:
    blobs.put("short", b"12345")
    for read in (
        lambda: blobs.get("absent/key"),
        lambda: blobs.head("absent"),
        lambda: blobs.stream("absent"),
        lambda: blobs.get_range("absent", 0, 1),
        lambda: blobs.get_range("short", 3, 3),
        lambda: blobs.get_range("short", 50, 3),
        lambda: blobs.stream("short", 0, 6),
    ):
        with pytest.raises(NotFound):
            read()


def test_deleting_is_final_and_may_be_repeated(blobs: BlobStore) -> None:
    blobs.put("gone/soon", b"x")
    blobs.delete("gone/soon")
    blobs.delete("gone/soon")
    with pytest.raises(NotFound):
        blobs.get("gone/soon")


def test_a_folder_lists_its_keys_and_no_others(blobs: BlobStore) -> None:
    for key in ("f/1", "f/2/deep", "g/1", "fg"):
        blobs.put(key, key.encode())
    assert {(blob.key, blob.size) for blob in blobs.list("f")} == {("f/1", 3), ("f/2/deep", 8)}
    assert {blob.key for blob in blobs.list()} == {"f/1", "f/2/deep", "g/1", "fg"}
    assert list(blobs.list("none/here")) == []


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "a/../b", "a//b", ".hidden", "a\x00b", "a b", "é", "a" * 2000]
)
def test_a_key_that_could_mean_another_place_is_refused(blobs: BlobStore, key: str) -> None:
    for use in (lambda: blobs.put(key, b""), lambda: blobs.get(key), lambda: blobs.delete(key)):
        with pytest.raises(InvalidInput):
            use()


def test_a_server_that_does_not_answer_is_unavailable_soon(tmp_path: Path) -> None:
    settings = S3Settings("http://127.0.0.1:9", "us-east-1", "a", "b", timeout_seconds=1.0, retries=1)
    store = open_store("s3://nobody-there", tmp_path, settings)
    with pytest.raises(Unavailable) as refusal:
        store.put("x", b"x")
    assert refusal.value.retryable
    assert "127.0.0.1" not in refusal.value.message


def test_credentials_that_are_not_accepted_are_unavailable_and_not_shown(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server = request.getfixturevalue("s3_server")
    settings = S3Settings(server.endpoint, server.region, server.access_key, "wrong-secret")
    assert "wrong-secret" not in repr(settings)
    store = open_store(f"s3://{server.new_bucket()}", tmp_path, settings)
    with pytest.raises(Unavailable, match="credentials"):
        store.put("x", b"x")


@pytest.mark.parametrize("url", ["", "files", "s3://", "s3://UPPER", "s3://bucket/../x", "http://bucket"])
def test_an_archive_url_of_another_kind_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(InvalidInput):
        open_store(url, tmp_path)


def test_a_full_disk_is_out_of_space_and_leaves_the_old_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileBlobs(tmp_path)
    store.put("x", b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutOfSpace):
        store.put("x", b"new")
    assert store.get("x") == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {"x"}


def test_a_put_syncs_the_file_before_its_name_and_the_directory_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        target = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        calls.append(f"sync {'directory ' + target.name if target.is_dir() else 'file'}")
        real_fsync(descriptor)

    def replace(self: Path, target: Path) -> Path:
        calls.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    FileBlobs(tmp_path).put("new/x", b"data")
    assert calls == [f"sync directory {tmp_path.name}", "sync file", "rename", "sync directory new"]


def test_a_writer_killed_half_way_leaves_no_object(tmp_path: Path) -> None:
    program = (
        "import os, sys, io\n"
        "from pathlib import Path\n"
        "from hilum.archive.file_blobs import FileBlobs\n"
        "class Slow(io.RawIOBase):\n"
        "    n = 0\n"
        "    def read(self, size=-1):\n"
        "        self.n += 1\n"
        "        if self.n == 3: os._exit(9)\n"
        "        return b'x' * 1000\n"
        "FileBlobs(Path(sys.argv[1])).put('victim', Slow())\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False).returncode == 9
    assert list(FileBlobs(tmp_path).list()) == []
    assert list(tmp_path.iterdir())  # the unfinished part is there, under a name that no key can have
