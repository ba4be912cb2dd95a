"""One role in the foreground: it says when it accepts, works until SIGTERM, and then finishes what it holds."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Protocol

from hilum.serve.supervisor import say_ready

DRAIN_SECONDS = 20


class Drained(Protocol):
    """What a role runs: started already, ended by `drain`."""

    def drain(self, timeout: float) -> None:
        """Finish what is in hand within `timeout` seconds, then stop."""
        ...


def run_until_stopped(address: str, part: Drained) -> None:
    """Say ready, wait for SIGTERM or SIGINT (or the supervisor's end), drain."""
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda number, frame: stop.set())
    say_ready(address)
    watch_parent(stop.set)
    stop.wait()
    part.drain(DRAIN_SECONDS)


class Listening(Protocol):
    """A door on an event loop."""

    async def start(self) -> tuple[str, int]:
        """Listen; return host and port."""
        ...

    async def drain(self, grace: float) -> object:
        """Stop accepting, finish what is in hand within `grace` seconds, close."""
        ...


def run_listening(door: Listening) -> None:
    """Run a door on an event loop of its own until SIGTERM or SIGINT, then drain it."""

    async def run() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stop.set)
        host, port = await door.start()
        say_ready(f"{host}:{port}")
        watch_parent(lambda: loop.call_soon_threadsafe(stop.set))
        await stop.wait()
        await door.drain(DRAIN_SECONDS)

    asyncio.run(run())


def listen_on(host: str, port: int) -> socket.socket:
    """Bind a listening socket that child processes can inherit."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    listening.listen(1024)
    listening.set_inheritable(True)
    return listening


def watch_parent(stop: Callable[[], object]) -> None:
    """End with the supervisor: a role whose parent was killed must not go on alone."""
    parent = os.getppid()
    if os.environ.get("HILUM_SUPERVISED") != "1":
        return

    def watch() -> None:
        while os.getppid() == parent:
            threading.Event().wait(0.5)
        stop()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
