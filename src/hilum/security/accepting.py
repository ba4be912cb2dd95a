"""Takes the connections of a door on an event loop: so many at once, so many of one address, and under TLS in time.

A connection counts from its first packet, so that peers who never finish a handshake hinder no more than others.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

log = logging.getLogger(__name__)

HANDSHAKE_SECONDS: Final = 10.0
TOO_MANY: Final = "too-many-connections"
TOO_MANY_OF_ADDRESS: Final = "too-many-connections-of-one-address"

# Makes the protocol of a connection; it has to call what it is given once the connection is lost.
Factory = Callable[[Callable[[], None]], asyncio.Protocol]
# Hears of a connection that was not let in: its address, and the error of its handshake or a word of ours.
Refused = Callable[[str, BaseException | str], None]


@dataclass(frozen=True, slots=True)
class Caps:
    """How many connections are held at once, and how many of them from one address."""

    at_once: int
    per_address: int


class Connections(Protocol):
    """Counts connections against caps."""

    def enter(self, address: str) -> str:
        """Count a connection; return why it is one too many, else nothing."""
        ...

    def leave(self, address: str) -> None:
        """Count a connection off."""
        ...


class LocalConnections:
    """The connections of a door that one process alone answers at."""

    def __init__(self, caps: Caps) -> None:
        self._caps = caps
        self._open: Counter[str] = Counter()

    def enter(self, address: str) -> str:
        """Count a connection; return why it is one too many, else nothing."""
        if self._open.total() >= self._caps.at_once:
            return TOO_MANY
        if self._open[address] >= self._caps.per_address:
            return TOO_MANY_OF_ADDRESS
        self._open[address] += 1
        return ""

    def leave(self, address: str) -> None:
        """Count a connection off."""
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]


class Acceptor:
    """Accepts on a bound socket until closed; stands where `asyncio.Server` stands."""

    def __init__(
        self,
        listening: socket.socket,
        factory: Factory,
        connections: Connections,
        context: ssl.SSLContext | None,
        refused: Refused,
    ) -> None:
        """Takes the socket, bound and listening; it is closed with the acceptor."""
        self.listening = listening
        self._factory = factory
        self._connections = connections
        self._context = context
        self._refused = refused
        self._open = 0
        self._greeting: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None
        listening.setblocking(False)

    @property
    def open_connections(self) -> int:
        """How many there are, with those in a handshake."""
        return self._open

    def start(self) -> None:
        """Begin to accept, on the running loop."""
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    def close(self) -> None:
        """Accept no more; what is open stays, what is in a handshake is dropped."""
        for task in (self._accepting, *self._greeting):
            if task is not None:
                task.cancel()
        self.listening.close()

    async def wait_closed(self) -> None:
        """Return once nothing is accepted any more."""
        tasks = [task for task in (self._accepting, *self._greeting) if task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(self.listening)
            except OSError as error:
                # Out of descriptors or memory: what ends frees some.
                log.warning("cannot accept a connection", extra={"code": type(error).__name__})
                await asyncio.sleep(0.1)
                continue
            self._admit(connection, str(address[0]))

    def _admit(self, connection: socket.socket, address: str) -> None:
        one_too_many = self._connections.enter(address)
        if one_too_many:
            connection.close()
            self._refused(address, one_too_many)
            return
        self._open += 1
        task = asyncio.get_running_loop().create_task(self._greet(connection, address))
        self._greeting.add(task)
        task.add_done_callback(self._greeting.discard)

    async def _greet(self, connection: socket.socket, address: str) -> None:
        ended = self._ender(address)
        options = {"ssl": self._context, "ssl_handshake_timeout": HANDSHAKE_SECONDS} if self._context else {}
        try:
            connection.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(lambda: self._factory(ended), connection, **options)  # type: ignore[arg-type]
        except BaseException as error:
            ended()
            connection.close()
            if not isinstance(error, Exception):
                raise
            self._refused(address, error)

    def _ender(self, address: str) -> Callable[[], None]:
        counted = True

        def ended() -> None:
            nonlocal counted
            if counted:
                counted = False
                self._open -= 1
                self._connections.leave(address)

        return ended
