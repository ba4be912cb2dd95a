"""MLLP (HL7 v2 transport specification, `0B message 1C 0D`): framing, and the server that takes messages.

Per connection one message is handled at a time and answered before the next is looked at, so answers come in the order
of the messages. Everything a peer can make grow or wait is bounded: a frame, the bytes outside frames, the time of a
frame, silence, unread answers, the number of connections. A cut frame is never handed on as a message.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ssl import SSLContext
from typing import Final

from hilum.core.errors import DeadlineExceeded, HilumError, InvalidInput, TooLarge
from hilum.security.accepting import Acceptor, Caps, LocalConnections, Refused
from hilum.security.certificates import PeerCertificate, peer_certificate

START: Final = b"\x0b"
END: Final = b"\x1c"
CR: Final = b"\r"

MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
_CHUNK: Final = 64 * 1024
_PREFIX: Final = 4096

log = logging.getLogger(__name__)


def framed(message: bytes) -> bytes:
    """A message as it goes over the wire."""
    return START + message + END + CR


class Deframer:
    """Cuts a stream into messages, holding no more than one message of the largest size and one chunk.

    A missing CR after the end byte is tolerated; bytes outside of frames are skipped and counted up to a bound.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES, max_skipped_bytes: int = _PREFIX) -> None:
        self.skipped_bytes = 0
        self._max_frame_bytes = max_frame_bytes
        self._max_skipped_bytes = max_skipped_bytes
        self._buffer = bytearray()
        self._inside = False
        self._searched = 0
        self._skipped_here = 0

    @property
    def inside(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._inside

    @property
    def prefix(self) -> bytes:
        """The beginning of the frame at hand, enough for its header."""
        return bytes(self._buffer[:_PREFIX])

    def __len__(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Takes what came; to be followed by `next` until that returns None."""
        self._buffer += data

    def next(self) -> bytes | None:
        """The next whole message, or None until more is fed.

        Raises CutFrame for a message in whose middle another begins (the next call goes on with that one), TooLarge for
        one beyond the bound and InvalidInput for too much outside of frames; after these two the stream is of no use.
        """
        if not self._inside and not self._enter():
            return None
        end = self._buffer.find(END, self._searched)
        if (end if end >= 0 else len(self._buffer)) > self._max_frame_bytes:
            raise TooLarge(f"The message has no end within {self._max_frame_bytes} bytes.")
        if end < 0:
            self._searched = len(self._buffer)
            return None
        # A vertical tab alone may be a line break from a word processor; before MSH it is a sender that began again.
        again = self._buffer.find(START + b"MSH", 0, end)
        if again >= 0:
            cut = bytes(self._buffer[: min(again, _PREFIX)])
            del self._buffer[: again + 1]
            self._searched = end - again - 1
            raise CutFrame(cut)
        message = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._inside, self._searched, self._skipped_here = False, 0, 0
        return message

    def _enter(self) -> bool:
        start = self._buffer.find(START)
        outside = bytes(self._buffer if start < 0 else self._buffer[:start])
        # The CR of the end, and the line ends that some senders add, are nothing to speak of.
        stray = len(outside) - outside.count(b"\r") - outside.count(b"\n")
        self.skipped_bytes += stray
        self._skipped_here += stray
        if self._skipped_here > self._max_skipped_bytes:
            raise InvalidInput("More bytes came outside of an MLLP frame than are skipped.")
        del self._buffer[: len(outside) + 1]
        self._inside = start >= 0
        return self._inside


class CutFrame(InvalidInput):
    """A message was cut off: another began before its end."""

    def __init__(self, prefix: bytes) -> None:
        super().__init__()
        self.prefix = prefix


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """Who is at the other end: address, the certificate it has proven, if any, and which connection."""

    host: str
    port: int
    certificate: PeerCertificate | None = None
    connection: int = 0


@dataclass(slots=True)
class Counters:
    """What happened since the start, for metrics."""

    connections: int = 0
    connections_refused: int = 0
    frames: int = 0
    frames_refused: int = 0
    skipped_bytes: int = 0
    timeouts: int = 0
    failures: int = 0


# Takes a message, returns the answers to send on the same connection: none, one, or a commit and an application answer.
Handle = Callable[[bytes, PeerInfo], Awaitable[Sequence[bytes]]]
# Takes why a frame can't be a message, and its first bytes; returns the answer, or None for silence.
Refuse = Callable[[HilumError, bytes], bytes | None]


def _no_answer(reason: HilumError, prefix: bytes) -> bytes | None:
    return None


class _Connection:
    __slots__ = ("busy", "deframer", "peer", "reader", "sock", "writer")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, deframer: Deframer, number: int):
        self.reader = reader
        self.writer = writer
        self.deframer = deframer
        self.busy = False
        self.sock: socket.socket | None = writer.get_extra_info("socket")
        host, port, *_ = writer.get_extra_info("peername") or ("", 0)
        secured = writer.get_extra_info("ssl_object")
        self.peer = PeerInfo(host, port, peer_certificate(secured) if secured is not None else None, number)


class _Stream(asyncio.StreamReaderProtocol):
    """Streams over one accepted connection, whose end is told to the acceptor."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        accept: Callable[[asyncio.StreamReader, asyncio.StreamWriter], None],
        ended: Callable[[], None],
    ) -> None:
        super().__init__(reader, accept)
        self._ended = ended

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended()
        super().connection_lost(exc)


class MllpServer:
    """Listens, hands each message to `handle`, writes its answers; a slow or hostile peer hinders no other."""

    def __init__(
        self,
        host: str,
        port: int,
        handle: Handle,
        *,
        refuse: Refuse = _no_answer,
        max_frame_bytes: int = MAX_FRAME_BYTES,
        max_connections: int = 200,
        max_connections_per_address: int = 200,
        idle_timeout: float = 3600,
        frame_timeout: float = 60,
        ssl: SSLContext | None = None,
        refused: Refused = lambda address, why: None,
    ) -> None:
        """Times are seconds: `idle_timeout` between frames, `frame_timeout` for a frame to come in or answers to go.

        `refused` hears of connections that were not let in.
        """
        self.counters = Counters()
        self._host, self._port, self._ssl = host, port, ssl
        self._handle = handle
        self._refuse = refuse
        self._max_frame_bytes = max_frame_bytes
        self._caps = Caps(max_connections, max_connections_per_address)
        self._refused = refused
        self._idle_timeout = idle_timeout
        self._frame_timeout = frame_timeout
        self._acceptor: Acceptor | None = None
        self._connections: dict[asyncio.Task[None], _Connection] = {}
        self._draining = False

    async def start(self, sock: socket.socket | None = None) -> tuple[str, int]:
        """Listens, on `sock` where one is given that is bound already, and returns host and port."""
        if sock is None:
            family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
            sock = socket.create_server((self._host, self._port), family=family, backlog=256)
        else:
            sock.listen(256)
        self._acceptor = Acceptor(sock, self._protocol, LocalConnections(self._caps), self._ssl, self._not_let_in)
        self._acceptor.start()
        return self.address

    def _protocol(self, ended: Callable[[], None]) -> asyncio.Protocol:
        return _Stream(asyncio.StreamReader(_CHUNK), self._accept, ended)

    def _not_let_in(self, address: str, why: BaseException | str) -> None:
        self.counters.connections_refused += 1
        self._refused(address, why)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port it listens on."""
        if self._acceptor is None:
            raise RuntimeError("the MLLP server does not listen")
        host, port, *_ = self._acceptor.listening.getsockname()
        return host, port

    @property
    def open_connections(self) -> int:
        """How many peers are connected."""
        return len(self._connections)

    async def drain(self, grace: float = 10) -> int:
        """Stops accepting, finishes the messages in hand, closes; returns how many were still unfinished after `grace`.

        A message of which the answer was not written is for its sender to send again.
        """
        self._draining = True
        if self._acceptor is not None:
            self._acceptor.close()
        for task, connection in self._connections.items():
            if not connection.busy:
                task.cancel()
        unfinished: set[asyncio.Task[None]] = set()
        if self._connections:
            _, unfinished = await asyncio.wait(list(self._connections), timeout=grace)
        for task in unfinished:
            task.cancel()
        if unfinished:
            await asyncio.wait(unfinished, timeout=1)
        return len(unfinished)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._draining:
            self.counters.connections_refused += 1
            writer.transport.abort()
            return
        self.counters.connections += 1
        deframer = Deframer(self._max_frame_bytes)
        connection = _Connection(reader, writer, deframer, self.counters.connections)
        task = asyncio.get_running_loop().create_task(self._serve(connection))
        self._connections[task] = connection
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self.counters.skipped_bytes += self._connections.pop(task).deframer.skipped_bytes

    async def _serve(self, connection: _Connection) -> None:
        try:
            prepare_socket(connection.sock)
            await self._converse(connection)
        except (ConnectionError, TimeoutError):
            pass  # The peer is gone or does not read; what it did not see answered it sends again.
        except asyncio.CancelledError:
            if not self._draining:
                raise
        except Exception:
            # Unanswered, so that the sender sends it again; other connections go on.
            self.counters.failures += 1
            log.exception("message not answered", extra={"door": "hl7", "host": connection.peer.host})
        finally:
            await _close(connection.writer)

    async def _converse(self, connection: _Connection) -> None:
        while not self._draining:
            try:
                message = await self._next_message(connection)
            except CutFrame as cut:
                await self._answer_refusal(connection, cut, cut.prefix)
                continue
            except HilumError as reason:
                await self._answer_refusal(connection, reason, connection.deframer.prefix)
                await _linger(connection)
                return
            if message is None:
                return
            self.counters.frames += 1
            connection.busy = True
            await self._write(connection, await self._answers(message, connection.peer))
            connection.busy = False

    async def _answers(self, message: bytes, peer: PeerInfo) -> Sequence[bytes]:
        try:
            return await self._handle(message, peer)
        except (ConnectionError, TimeoutError) as error:
            # Not to be taken for trouble with the peer.
            raise RuntimeError("the handler failed") from error

    async def _next_message(self, connection: _Connection) -> bytes | None:
        """The next message; None when the peer has gone or been silent for too long between two messages."""
        loop = asyncio.get_running_loop()
        deframer, began = connection.deframer, 0.0
        while (message := deframer.next()) is None:
            if deframer.inside and not began:
                began = loop.time()
            left = began + self._frame_timeout - loop.time() if began else self._idle_timeout
            try:
                async with asyncio.timeout(left):
                    data = await connection.reader.read(_CHUNK)
            except TimeoutError:
                self.counters.timeouts += 1
                if not began:
                    return None
                raise DeadlineExceeded(f"The message had no end within {self._frame_timeout:g} seconds.") from None
            if not data:
                if began:
                    raise InvalidInput("The connection ended before the message did.")
                return None
            acknowledge_quickly(connection.sock)
            deframer.feed(data)
        return message

    async def _answer_refusal(self, connection: _Connection, reason: HilumError, prefix: bytes) -> None:
        self.counters.frames_refused += 1
        log.warning("frame refused", extra={"door": "hl7", "code": reason.code, "host": connection.peer.host})
        answer = self._refuse(reason, prefix)
        if answer is not None:
            await self._write(connection, [answer])

    async def _write(self, connection: _Connection, answers: Sequence[bytes]) -> None:
        connection.writer.write(b"".join(framed(answer) for answer in answers))
        async with asyncio.timeout(self._frame_timeout):
            await connection.writer.drain()


def prepare_socket(sock: socket.socket | None) -> None:
    """Small messages leave at once, and a peer that vanished without a word is noticed."""
    if sock is not None:
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    acknowledge_quickly(sock)


def acknowledge_quickly(sock: socket.socket | None) -> None:
    """Re-arms TCP_QUICKACK, which Linux forgets: a peer with Nagle on waits 40 ms a message without it."""
    if sock is not None and hasattr(socket, "TCP_QUICKACK"):
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


# What is on its way when a sender hears the refusal; one that goes on sending is cut off.
_LINGER_BYTES = 16 * 1024 * 1024


async def _linger(connection: _Connection) -> None:
    """Reads on for a moment: closing with bytes unread would reset the connection and take the answer with it."""
    with suppress(ConnectionError, OSError, TimeoutError):
        if connection.writer.can_write_eof():
            connection.writer.write_eof()
        left = _LINGER_BYTES
        async with asyncio.timeout(1):
            while left > 0 and (data := await connection.reader.read(_CHUNK)):
                left -= len(data)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        async with asyncio.timeout(2):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()
