"""The HTTP role: uvicorn on connections that are bounded in number, in time, and under TLS as the settings stand.

A head has a bound of time and size (`serve/wire.py`), bodies and answers have theirs in `serve/gate.py`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from hilum.core.actor import Door
from hilum.security.accepting import Acceptor, Caps, Connections
from hilum.security.connections import ConnectionLog
from hilum.security.node_connections import NodeConnections
from hilum.serve.roles import DRAIN_SECONDS, watch_parent
from hilum.serve.sendfile import FileSender
from hilum.serve.supervisor import say_ready
from hilum.serve.wire import BoundedHttp

# What a refused request may still take to send the rest of its body.
REST_OF_BODY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Connections at once and of one address; seconds until a request's headers are there and an answer is taken."""

    at_once: int
    per_address: int
    header_timeout: float
    body_timeout: float
    trusted_proxies: tuple[str, ...] = ()


def behind_proxies(app: ASGIApp, trusted: tuple[str, ...]) -> ASGIApp:
    """The application as asked by the clients of these proxies; `scope["peer"]` stays the proxy itself."""
    if not trusted:
        return app
    forwarded = ProxyHeadersMiddleware(app, list(trusted))  # type: ignore[arg-type]

    async def asked(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["peer"] = scope.get("client")
        await forwarded(scope, receive, send)  # type: ignore[arg-type]

    return asked


def serve_http(
    app: ASGIApp,
    listening: socket.socket,
    context: ssl.SSLContext | None,
    address: str,
    bounds: Bounds,
    refusals: ConnectionLog,
    run: Path,
) -> None:
    """Answer HTTP on a bound socket until SIGTERM, then finish the requests in hand.

    What is bounded in number is counted in the folder `run`, together with the other processes of this node.
    """
    config = uvicorn.Config(
        behind_proxies(app, bounds.trusted_proxies),
        proxy_headers=False,  # else uvicorn believes whoever is on this machine
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        timeout_keep_alive=30,
        lifespan="on",
        ws="none",
    )
    connections = NodeConnections(run, "http", Caps(bounds.at_once, bounds.per_address))
    server = HttpServer(config, listening, context, address, bounds, refusals, connections)
    config.load()
    watch_parent(lambda: setattr(server, "should_exit", True))
    try:
        asyncio.run(server.serve(sockets=[]))
    finally:
        connections.close()


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
        connections: Connections,
    ) -> None:
        super().__init__(config)
        self._connections = connections
        self._listening = listening
        self._context = context
        self._address = address
        self._bounds = bounds
        self._refusals = refusals
        self.files = FileSender()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        if not self.started:
            return
        acceptor = Acceptor(self._listening, self._protocol, self._connections, self._context, self._refused)
        acceptor.start()
        # It closes and is waited for as a server of asyncio is.
        self.servers.append(acceptor)  # type: ignore[arg-type]
        say_ready(self._address)

    def _protocol(self, ended: Callable[[], None]) -> asyncio.Protocol:
        return _Connection(self, self._bounds, ended)

    def _refused(self, address: str, why: BaseException | str) -> None:
        if isinstance(why, str):
            self._refusals.refused(Door.HTTP, address, why)
        else:
            self._refusals.handshake_failed(Door.HTTP, address, why)


class _Connection(BoundedHttp):
    """One connection, whose end is told to the acceptor; a client that does not take its answers is cut off."""

    def __init__(self, server: HttpServer, bounds: Bounds, ended: Callable[[], None]) -> None:
        super().__init__(server.config, server.server_state, server.lifespan.state)
        self._files = server.files
        self.head_seconds = bounds.header_timeout
        self._answer_seconds = bounds.body_timeout
        self._answer_timer: asyncio.TimerHandle | None = None
        self._ended = ended

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if transport.get_extra_info("sslcontext") is None:
            self.app = self._files.offered(self.app, transport, self._answer_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._answer_was_taken()
        super().connection_lost(exc)
        self._ended()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._answer_timer = self.loop.call_later(self._answer_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        self._answer_was_taken()
        super().resume_writing()

    def _answer_was_taken(self) -> None:
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            # Closed once all is written, and not only when the client pleases to read it.
            self.loop.call_later(self._answer_seconds, self.transport.abort)
        elif self.cycle.more_body:
            self.loop.call_later(REST_OF_BODY_SECONDS, self._end_waiting, self.cycle)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self.loop.call_later(self._answer_seconds, self.transport.abort)

    def _end_waiting(self, cycle: object) -> None:
        """Close where the body of a request that was answered early is still not at its end."""
        if self.cycle is cycle and self.cycle.more_body and self.cycle.response_complete:
            self.transport.abort()
