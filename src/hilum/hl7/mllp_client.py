"""Sends HL7 messages over MLLP, one in flight, and takes as its answer only what names its control ID in MSA-2.

What can go wrong is of two kinds. NotSent: nothing was written, sending again is safe. Unanswered: the peer may or may
not have the message; it is sent again under the same control ID. After that the connection is closed, so that a late
answer can never be credited to another message. What an answer means (AE, AR) is for the caller.
"""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from contextlib import suppress
from ssl import SSLContext, SSLWantReadError
from typing import Final

from hilum.core.errors import HilumError, Unavailable
from hilum.hl7.mllp import CutFrame, Deframer, acknowledge_quickly, framed, prepare_socket

MAX_ANSWER_BYTES: Final = 1024 * 1024
_CHUNK: Final = 64 * 1024
# A receiver that says more than this between two messages is not listening.
_MOST_LATE_CHUNKS: Final = 64
_LINES: Final = re.compile(rb"[\r\n]+")
_REFUSALS: Final = frozenset({b"AE", b"AR", b"CE", b"CR"})


class NotSent(Unavailable):
    """The receiver can't be reached; nothing was written to it."""

    code = "not-sent"


class Unanswered(HilumError):
    """The message was sent, and it is not known whether the receiver has it."""

    code = "unanswered"
    retryable = True


def control_id_of(message: bytes) -> bytes:
    """MSH-10 as sent; raises ValueError where there is none, since its answer could not be told from others."""
    fields = _LINES.split(message, 1)[0].split(message[3:4], 10) if message[:3] == b"MSH" else []
    if len(fields) < 10 or not fields[9].strip():
        raise ValueError("a message without control ID can't be sent")
    return fields[9].strip()


def answer_of(message: bytes) -> tuple[bytes, bytes] | None:
    """MSA-1 and MSA-2 as sent; None where there is no MSA. Lenient, since an odd answer is an answer."""
    for line in _LINES.split(message):
        if line[:3] == b"MSA":
            fields = [*line.split(line[3:4], 3), b"", b""]
            return fields[1].strip(), fields[2].strip()
    return None


def answers(message: bytes, control_id: bytes) -> bool:
    """Whether a received message answers the one in flight.

    A refusal without MSA-2 comes from a receiver that could not read the header; it is taken too, since it credits
    nothing.
    """
    found = answer_of(message)
    return found is not None and (found[1] == control_id or (not found[1] and found[0] in _REFUSALS))


class _Wire(asyncio.Protocol):
    """One connection; it always reads, so that late answers and a close by the peer are seen between messages."""

    def __init__(self) -> None:
        self.late_answers = 0
        self.transport: asyncio.Transport | None = None
        self._deframer = Deframer(MAX_ANSWER_BYTES)
        self._control_id = b""
        self._answer: asyncio.Future[bytes] | None = None

    @property
    def usable(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def write(self, message: bytes, control_id: bytes) -> asyncio.Future[bytes]:
        """Writes a message; the future is its answer, or a ConnectionError."""
        assert self.transport is not None
        self._control_id = control_id
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(framed(message))
        return self._answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        prepare_socket(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        acknowledge_quickly(self.transport.get_extra_info("socket"))
        self._deframer.feed(data)
        try:
            for message in _whole_messages(self._deframer):
                self._take(message)
        except HilumError:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the receiver closed the connection"))

    def _take(self, message: bytes) -> None:
        if self._answer is not None and not self._answer.done() and answers(message, self._control_id):
            self._answer.set_result(message)
        else:
            self.late_answers += 1


def _whole_messages(deframer: Deframer) -> list[bytes]:
    messages: list[bytes] = []
    while True:
        try:
            message = deframer.next()
        except CutFrame:
            continue
        if message is None:
            return messages
        messages.append(message)


class MllpClient:
    """Keeps a connection to one receiver; concurrent calls of `send` wait for one another."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        ssl: SSLContext | None = None,
        server_hostname: str | None = None,
        connect_timeout: float = 5,
    ) -> None:
        self._host, self._port, self._ssl = host, port, ssl
        self._server_hostname = (server_hostname or host) if ssl else None
        self._connect_timeout = connect_timeout
        self._lock = asyncio.Lock()
        self._wire: _Wire | None = None
        self._late_answers = 0

    @property
    def late_answers(self) -> int:
        """How many messages came that answered nothing in flight."""
        return self._late_answers + (self._wire.late_answers if self._wire else 0)

    async def send(self, message: bytes, timeout: float) -> bytes:
        """Sends a message and returns its answer, both without frame; raises NotSent or Unanswered.

        `timeout` is in seconds and covers connecting, sending and waiting.
        """
        control_id = control_id_of(message)
        async with self._lock:
            deadline = asyncio.get_running_loop().time() + timeout
            wire = await self._connected(deadline)
            try:
                async with asyncio.timeout_at(deadline):
                    return await wire.write(message, control_id)
            except TimeoutError:
                self._drop()
                raise Unanswered(f"No answer came within {timeout:g} seconds.") from None
            except ConnectionError:
                self._drop()
                raise Unanswered("The connection broke before the answer came.") from None
            except BaseException:
                self._drop()
                raise

    async def close(self) -> None:
        """Closes the connection; the next `send` opens another."""
        async with self._lock:
            self._drop()

    async def _connected(self, deadline: float) -> _Wire:
        if self._wire is not None:
            # Two turns of the loop let a close that has already arrived be seen: then nothing is written into it.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if self._wire.usable:
                return self._wire
            self._drop()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + self._connect_timeout)):
                _, self._wire = await loop.create_connection(
                    _Wire, self._host, self._port, ssl=self._ssl, server_hostname=self._server_hostname
                )
        except OSError:
            raise NotSent from None
        return self._wire

    def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            self._late_answers += wire.late_answers
            if wire.transport is not None:
                wire.transport.abort()


class BlockingMllpClient:
    """The same on a plain socket, for the threads that deliver; one thread at a time is served."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        ssl: SSLContext | None = None,
        server_hostname: str | None = None,
        connect_timeout: float = 5,
    ) -> None:
        self.late_answers = 0
        self._host, self._port, self._ssl = host, port, ssl
        self._server_hostname = (server_hostname or host) if ssl else None
        self._connect_timeout = connect_timeout
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self._deframer = Deframer(MAX_ANSWER_BYTES)

    def send(self, message: bytes, timeout: float) -> bytes:
        """Sends a message and returns its answer, both without frame; raises NotSent or Unanswered.

        `timeout` is in seconds and covers connecting, sending and waiting.
        """
        control_id = control_id_of(message)
        with self._lock:
            deadline = time.monotonic() + timeout
            sock = self._connected(deadline)
            try:
                sock.settimeout(_left(deadline))
                sock.sendall(framed(message))
                return self._answer(sock, control_id, deadline)
            except TimeoutError:
                self._drop()
                raise Unanswered(f"No answer came within {timeout:g} seconds.") from None
            except OSError:
                self._drop()
                raise Unanswered("The connection broke before the answer came.") from None
            except BaseException:
                self._drop()
                raise

    def close(self) -> None:
        """Closes the connection; the next `send` opens another."""
        with self._lock:
            self._drop()

    def _answer(self, sock: socket.socket, control_id: bytes, deadline: float) -> bytes:
        while True:
            sock.settimeout(_left(deadline))
            data = sock.recv(_CHUNK)
            if not data:
                raise ConnectionResetError("the receiver closed the connection")
            acknowledge_quickly(sock)
            answer: bytes | None = None
            for received in self._received(data):
                if answer is None and answers(received, control_id):
                    answer = received
                else:
                    self.late_answers += 1
            if answer is not None:
                return answer

    def _received(self, data: bytes) -> list[bytes]:
        self._deframer.feed(data)
        try:
            return _whole_messages(self._deframer)
        except HilumError:
            raise ConnectionAbortedError("what came is not MLLP") from None

    def _connected(self, deadline: float) -> socket.socket:
        if self._sock is not None:
            if self._is_usable(self._sock):
                return self._sock
            self._drop()
        try:
            self._sock = self._connect(deadline)
        except OSError:
            raise NotSent from None
        return self._sock

    def _connect(self, deadline: float) -> socket.socket:
        within = min(self._connect_timeout, _left(deadline))
        sock = socket.create_connection((self._host, self._port), within)
        prepare_socket(sock)
        if self._ssl is None:
            return sock
        try:
            return self._ssl.wrap_socket(sock, server_hostname=self._server_hostname)
        except BaseException:
            sock.close()
            raise

    def _is_usable(self, sock: socket.socket) -> bool:
        """Takes what came since the last answer: late answers, or a close, into which nothing must be written."""
        try:
            sock.settimeout(0)
            for _ in range(_MOST_LATE_CHUNKS):
                data = sock.recv(_CHUNK)
                if not data:
                    return False
                self.late_answers += len(self._received(data))
        except (BlockingIOError, SSLWantReadError):
            return True
        except OSError:
            return False
        return False

    def _drop(self) -> None:
        sock, self._sock = self._sock, None
        self._deframer = Deframer(MAX_ANSWER_BYTES)
        if sock is not None:
            with suppress(OSError):
                sock.close()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
