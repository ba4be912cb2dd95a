"""Application answers of enhanced mode to a peer that names an address for them (v2.5.1 ch. 2.9.3.2).

They are sent in their order over a connection of their own, and are not answered in turn (MSH-15 and MSH-16 are NE).
One that can't be brought after a few tries is given up and counted: its sender asks again with the same control ID and
gets the same answer.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from ssl import SSLContext
from typing import Final
from urllib.parse import urlsplit

from hilum.core.errors import HilumError
from hilum.hl7.mllp import framed
from hilum.security.tls import client_context
from hilum.settings import Configuration

log = logging.getLogger(__name__)

TRIES: Final = 6
MOST_WAITING: Final = 1_000
_TIMEOUT: Final = 10.0


class DeferredAnswers:
    """Brings answers to the addresses of peers; one queue and one task for each address."""

    def __init__(self, configuration: Configuration, *, first_pause: float = 1.0) -> None:
        """Takes the live configuration for TLS; `first_pause` is in seconds and doubled at each further try."""
        self.given_up = 0
        self._configuration = configuration
        self._first_pause = first_pause
        self._queues: dict[str, asyncio.Queue[bytes]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, address: str, answer: bytes) -> None:
        """Queue an answer for `mllp://HOST:PORT`."""
        queue = self._queues.get(address)
        if queue is None:
            queue = self._queues[address] = asyncio.Queue(MOST_WAITING)
            self._tasks.add(asyncio.get_running_loop().create_task(self._work(address, queue)))
        try:
            queue.put_nowait(answer)
        except asyncio.QueueFull:
            self._give_up(address)

    async def close(self, grace: float = 10) -> None:
        """Wait for what is queued, at most `grace` seconds, and stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await asyncio.gather(*(queue.join() for queue in self._queues.values()))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self, address: str, queue: asyncio.Queue[bytes]) -> None:
        while True:
            answer = await queue.get()
            try:
                await self._bring(address, answer)
            finally:
                queue.task_done()

    async def _bring(self, address: str, answer: bytes) -> None:
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(self._first_pause * 2 ** (attempt - 1))
            try:
                async with asyncio.timeout(_TIMEOUT):
                    await self._write(address, answer)
                return
            except (OSError, TimeoutError, HilumError):
                continue
        self._give_up(address)

    async def _write(self, address: str, answer: bytes) -> None:
        to = urlsplit(address)
        context = self._context() if to.scheme == "mllps" else None
        _, writer = await asyncio.open_connection(to.hostname, to.port, ssl=context)
        try:
            writer.write(framed(answer))
            await writer.drain()
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _context(self) -> SSLContext:
        settings = self._configuration.current
        home, said = settings.home, settings.hl7
        return client_context(home / said.ca, home / said.cert, home / said.key)

    def _give_up(self, address: str) -> None:
        self.given_up += 1
        log.error("an application answer was given up", extra={"door": "hl7", "host": urlsplit(address).hostname})
