"""Connections are counted over the processes of a node, and a killed process takes none with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hilum.core.errors import Unavailable
from hilum.security import node_connections
from hilum.security.accepting import TOO_MANY, TOO_MANY_OF_ADDRESS, Caps, LocalConnections
from hilum.security.node_connections import NodeConnections

CAPS = Caps(at_once=5, per_address=3)


@pytest.mark.parametrize(
    "made", [lambda folder: LocalConnections(CAPS), lambda folder: NodeConnections(folder, "d", CAPS)]
)
def test_so_many_at_once_and_so_many_of_one_address(tmp_path: Path, made: Callable[[Path], Any]) -> None:
    connections = made(tmp_path)
    assert [connections.enter("a") for _ in range(4)] == ["", "", "", TOO_MANY_OF_ADDRESS]
    assert [connections.enter("b") for _ in range(3)] == ["", "", TOO_MANY]
    connections.leave("a")
    assert [connections.enter("c"), connections.enter("a")] == ["", TOO_MANY]


def test_processes_count_together_and_doors_do_not(tmp_path: Path) -> None:
    one, other = NodeConnections(tmp_path, "http", CAPS), NodeConnections(tmp_path, "http", CAPS)
    elsewhere = NodeConnections(tmp_path, "other", CAPS)
    assert [one.enter("a"), other.enter("a"), one.enter("a"), other.enter("a")] == ["", "", "", TOO_MANY_OF_ADDRESS]
    assert [one.enter("b"), other.enter("b"), one.enter("b")] == ["", "", TOO_MANY]
    assert elsewhere.enter("a") == ""
    other.close()
    assert [one.enter("a"), one.enter("b"), one.enter("c")] == ["", "", TOO_MANY]


def hold(folder: Path, entered: Any) -> None:
    connections = NodeConnections(folder, "http", CAPS)
    entered.put([connections.enter("a") for _ in range(3)])
    time.sleep(60)


def test_what_a_killed_process_held_is_free_again_once_another_begins(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    entered = spawn.Queue()
    process = spawn.Process(target=hold, args=(tmp_path, entered))
    survivor = NodeConnections(tmp_path, "http", CAPS)
    process.start()
    assert entered.get(timeout=30) == ["", "", ""]
    assert survivor.enter("a") == TOO_MANY_OF_ADDRESS
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(10)
    NodeConnections(tmp_path, "http", CAPS)
    assert [survivor.enter("a") for _ in range(4)] == ["", "", "", TOO_MANY_OF_ADDRESS]


def test_a_set_that_is_full_of_others_still_counts_in_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_connections, "SETS", 1)
    connections = NodeConnections(tmp_path, "http", Caps(12, 1))
    assert [connections.enter(str(number)) for number in range(13)] == [""] * 12 + [TOO_MANY]
    for number in range(12):
        connections.leave(str(number))
    assert [connections.enter("new"), connections.enter("new")] == ["", TOO_MANY_OF_ADDRESS]


def test_more_processes_than_are_counted_do_not_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_connections, "COLUMNS", 1)
    held = NodeConnections(tmp_path, "http", CAPS)
    with pytest.raises(Unavailable):
        NodeConnections(tmp_path, "http", CAPS)
    assert held.enter("a") == ""
