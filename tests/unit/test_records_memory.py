"""The bytes of a mapped file are hashed without keeping them in memory; what can be written to is left as it is."""

from __future__ import annotations

import hashlib
import mmap
import os
from pathlib import Path

from hilum.archive.records import digest_of, let_go

SIZE = 64 << 20


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_mapped_file_is_hashed_in_bounded_memory(tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(os.urandom(1 << 20) * (SIZE >> 20))
    before = resident()
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = memoryview(mapped)
        assert digest_of(view[5:]) == hashlib.sha256(file.read_bytes()[5:]).digest()
        after = resident()
        assert view[SIZE - 3 :].tobytes() == file.read_bytes()[-3:]
        view.release()
    assert after - before < SIZE // 2


def test_memory_that_can_be_written_to_is_never_given_back() -> None:
    with mmap.mmap(-1, mmap.PAGESIZE) as anonymous:
        anonymous[:4] = b"data"
        view = memoryview(anonymous)
        let_go(view)
        assert anonymous[:4] == b"data"
        view.release()
