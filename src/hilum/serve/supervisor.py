"""`hilum up`: starts every role as a process of its own, keeps them alive, and drains them on SIGTERM.

A role says `ready ADDRESS` on its standard output once it accepts. A role that ends is started again with a growing
pause; one that never becomes ready at the first start takes everything down, since the configuration is wrong.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FrameType

from hilum.core.errors import Unavailable

log = logging.getLogger(__name__)

START_SECONDS = 60.0
DRAIN_SECONDS = 30.0
RESTART_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
STABLE_SECONDS = 30.0


@dataclass
class Child:
    """A role's process; `descriptors` are inherited sockets."""

    name: str
    arguments: list[str]
    descriptors: tuple[int, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    address: str = ""
    started_at: float = 0.0
    failures: int = 0
    ready: threading.Event = field(default_factory=threading.Event)


class Supervisor:
    """Runs children until it is told to stop."""

    def __init__(
        self,
        children: list[Child],
        environment: Mapping[str, str],
        ended: Callable[[int], None] = lambda pid: None,
    ) -> None:
        self._children = children
        self._environment = {**os.environ, **environment}
        self._ended = ended
        self._stopping = threading.Event()
        self._exits: queue.SimpleQueue[Child] = queue.SimpleQueue()

    def run(self, announce: Callable[[dict[str, str]], None]) -> int:
        """Start all, announce their addresses once all accept, and stay until a signal; return the exit code."""
        self._listen_for_signals()
        try:
            for child in self._children:
                self._start(child)
            if not self._wait_until_ready():
                return 0 if self._stopping.is_set() else 1
            announce({child.name: child.address for child in self._children})
            self._watch()
            return 0
        finally:
            self._drain()

    def stop(self) -> None:
        """Ask the supervisor to drain and end."""
        self._stopping.set()

    def _listen_for_signals(self) -> None:
        def stop(number: int, frame: FrameType | None) -> None:
            self._stopping.set()

        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, stop)

    def _start(self, child: Child) -> None:
        child.ready.clear()
        child.started_at = time.monotonic()
        child.process = subprocess.Popen(
            [sys.executable, "-m", "hilum.cli", *child.arguments],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env=self._environment,
            pass_fds=child.descriptors,
            # A Ctrl-C in the terminal reaches only the supervisor, which then drains the roles in order.
            start_new_session=True,
        )
        threading.Thread(target=self._read, args=(child, child.process), daemon=True).start()

    def _read(self, child: Child, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            words = line.decode(errors="replace").split()
            if words[:1] == ["ready"]:
                child.address = words[1] if len(words) > 1 else ""
                child.ready.set()
        process.wait()
        with contextlib.suppress(OSError):
            self._ended(process.pid)
        self._exits.put(child)

    def _wait_until_ready(self) -> bool:
        deadline = time.monotonic() + START_SECONDS
        for child in self._children:
            while not child.ready.wait(0.05):
                assert child.process is not None
                if self._stopping.is_set():
                    return False
                if child.process.poll() is not None or time.monotonic() > deadline:
                    log.error("a role did not start", extra={"role": child.name})
                    return False
        return True

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                child = self._exits.get(timeout=0.2)
            except queue.Empty:
                continue
            if self._stopping.is_set():
                return
            stable = time.monotonic() - child.started_at > STABLE_SECONDS
            child.failures = 0 if stable else min(child.failures + 1, len(RESTART_PAUSES) - 1)
            log.error("a role ended and is started again", extra={"role": child.name})
            self._stopping.wait(RESTART_PAUSES[child.failures])
            if not self._stopping.is_set():
                self._start(child)

    def _drain(self) -> None:
        """End the doors first, so that what they took is still delivered and sealed by the worker."""
        for group in (
            [c for c in self._children if c.name != "worker"],
            [c for c in self._children if c.name == "worker"],
        ):
            for child in group:
                if child.process is not None and child.process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        child.process.terminate()
            deadline = time.monotonic() + DRAIN_SECONDS
            for child in group:
                _wait(child, deadline)


def _wait(child: Child, deadline: float) -> None:
    if child.process is None:
        return
    try:
        child.process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        log.error("a role did not drain in time", extra={"role": child.name})
        child.process.kill()
        child.process.wait()


def say_ready(address: str) -> None:
    """Tell the supervisor that this role accepts."""
    try:
        sys.stdout.write(f"ready {address}\n")
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise Unavailable("The supervisor is gone.") from error
