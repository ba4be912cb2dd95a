"""Where data sets are collected: contiguous and aligned in memory, in a file when large, refused when too large."""

from __future__ import annotations

import ctypes
import dataclasses
import os
from pathlib import Path

import pytest

from hilum.core.errors import OutOfSpace, TooLarge
from hilum.dicom.dimse.data_set import HEADROOM, TAILROOM, DataSetBuffer, MemoryBudget
from hilum.dicom.upper_layer.limits import GIB, MIB, Limits


def filled(buffer: DataSetBuffer, content: bytes, piece: int = 100_000, maximum: int = GIB) -> DataSetBuffer:
    buffer.begin(maximum)
    for start in range(0, len(content), piece):
        fragment = content[start : start + piece]
        buffer.window(len(fragment))[:] = fragment
        buffer.commit(len(fragment))
    return buffer


def test_a_data_set_in_memory_is_aligned_with_room_around_it() -> None:
    content = os.urandom(700_001)
    data_set = filled(DataSetBuffer(Limits(), MemoryBudget(GIB)), content).finish()
    assert data_set.tobytes() == content
    assert data_set.buffer is not None
    assert data_set.start == HEADROOM
    assert len(data_set.buffer) == HEADROOM + len(content) + TAILROOM
    address = ctypes.addressof(ctypes.c_char.from_buffer(data_set.buffer))
    assert address % 4096 == 0
    data_set.buffer[HEADROOM - 4 : HEADROOM] = b"DICM"
    data_set.buffer[HEADROOM + len(content) : HEADROOM + len(content) + 3] = b"end"
    assert data_set.tobytes() == content


def test_a_buffer_is_reused_and_grows() -> None:
    buffer = DataSetBuffer(Limits(), MemoryBudget(GIB))
    for size in (10, 9 * MIB + 1, 3, 0, 2 * MIB):
        content = os.urandom(size)
        assert filled(buffer, content).finish().tobytes() == content


@pytest.mark.parametrize(
    ("limits", "budget"),
    [(Limits(spill_above=4 * MIB), GIB), (Limits(), 5 * MIB)],
    ids=["above the threshold", "beyond the budget"],
)
def test_a_large_data_set_goes_to_a_file_and_is_the_same(limits: Limits, budget: int, tmp_path: Path) -> None:
    content = os.urandom(11 * MIB + 7)
    buffer = DataSetBuffer(dataclasses.replace(limits, spill_directory=tmp_path), MemoryBudget(budget))
    data_set = filled(buffer, content).finish()
    assert data_set.file is not None
    assert data_set.buffer is None
    assert data_set.view == content
    assert list(tmp_path.iterdir()) == [], "nothing is left if the process dies"
    del data_set
    assert filled(buffer, b"small").finish().tobytes() == b"small"


def test_the_budget_is_given_back() -> None:
    budget = MemoryBudget(16 * MIB)
    buffer = DataSetBuffer(Limits(), budget)
    filled(buffer, bytes(7 * MIB)).finish()
    assert not budget.take(16 * MIB)
    buffer.end()
    buffer.shrink()
    assert budget.take(16 * MIB)


def test_too_large_a_data_set_is_refused_without_being_kept() -> None:
    buffer = filled(DataSetBuffer(Limits(), MemoryBudget(GIB)), bytes(3 * MIB), maximum=1 * MIB)
    with pytest.raises(TooLarge):
        buffer.finish()
    assert filled(buffer, b"next").finish().tobytes() == b"next"
    assert filled(buffer, bytes(20 * MIB), maximum=MIB).hopeless


@pytest.mark.parametrize("full", [True, False], ids=["no space", "no directory"])
def test_a_full_disk_is_a_refusal(full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(spill_above=MIB, spill_directory=tmp_path / ("" if full else "gone"))
    if full:
        device = Path("/dev/full").open("r+b", buffering=0)  # noqa: SIM115
        monkeypatch.setattr("tempfile.TemporaryFile", lambda **options: device)
    buffer = filled(DataSetBuffer(limits, MemoryBudget(GIB)), bytes(6 * MIB))
    with pytest.raises(OutOfSpace):
        buffer.finish()
    assert filled(buffer, b"next").finish().tobytes() == b"next"
