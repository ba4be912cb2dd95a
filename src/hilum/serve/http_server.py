"""The HTTP role: uvicorn on connections that are bounded in number, in time, and under TLS as the settings stand.

A head has a bound of time and size (`serve/wire.py`), bodies and answers have theirs in `serve/gate.py`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from hilum.core.actor import Door
from hilum.security.accepting import Acceptor, Caps
from hilum.security.connections import ConnectionLog
from hilum.serve.roles import DRAIN_SECONDS, watch_parent
from hilum.serve.supervisor import say_ready
from hilum.serve.wire import BoundedHttp


@dataclass(frozen=True, slots=True)
class Bounds:
    """Connections at once, those of one address, and seconds until the headers of a request are there."""

    at_once: int
    per_address: int
    header_timeout: float


def serve_http(
    app: ASGIApp,
    listening: socket.socket,
    context: ssl.SSLContext | None,
    address: str,
    bounds: Bounds,
    refusals: ConnectionLog,
) -> None:
    """Answer HTTP on a bound socket until SIGTERM, then finish the requests in hand."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        timeout_keep_alive=30,
        lifespan="on",
        ws="none",
    )
    server = HttpServer(config, listening, context, address, bounds, refusals)
    config.load()
    watch_parent(lambda: setattr(server, "should_exit", True))
    asyncio.run(server.serve(sockets=[]))


class HttpServer(uvicorn.Server):
    """uvicorn that takes its connections from an acceptor, and says that it is ready once it accepts."""

    def __init__(
        self,
        config: uvicorn.Config,
        listening: socket.socket,
        context: ssl.SSLContext | None,
        address: str,
        bounds: Bounds,
        refusals: ConnectionLog,
    ) -> None:
        super().__init__(config)
        self._listening = listening
        self._context = context
        self._address = address
        self._bounds = bounds
        self._refusals = refusals

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        if not self.started:
            return
        caps = Caps(self._bounds.at_once, self._bounds.per_address)
        acceptor = Acceptor(self._listening, self._protocol, caps, self._context, self._refused)
        acceptor.start()
        # It closes and is waited for as a server of asyncio is.
        self.servers.append(acceptor)  # type: ignore[arg-type]
        say_ready(self._address)

    def _protocol(self, ended: Callable[[], None]) -> asyncio.Protocol:
        return _Connection(self, self._bounds.header_timeout, ended)

    def _refused(self, address: str, why: BaseException | str) -> None:
        if isinstance(why, str):
            self._refusals.refused(Door.PAGE, address, why)
        else:
            self._refusals.handshake_failed(Door.PAGE, address, why)


class _Connection(BoundedHttp):
    """One connection, whose end is told to the acceptor."""

    def __init__(self, server: uvicorn.Server, head_seconds: float, ended: Callable[[], None]) -> None:
        super().__init__(server.config, server.server_state, server.lifespan.state)
        self.head_seconds = head_seconds
        self._ended = ended

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._ended()
