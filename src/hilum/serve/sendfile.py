"""Bytes of files as an answer, from the file to the socket by the kernel alone (sendfile(2)).

A response that knows where its bytes lie sends one message of type `SENDFILE` in the place of its body; the ASGI
extension of that name says whether the connection takes it, which one under TLS does not. The whole of it is written by
one thread: a turn of the event loop for each image costs more than its bytes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hilum.dicom.web.streams import SENDFILE, FilePlace

log = logging.getLogger(__name__)

# Clients that read slowly keep theirs; who finds none free gets its bytes piece by piece from the event loop.
THREADS = 16
COPIED = 1 << 20
WAIT_FOR_HEAD = 0.005


class FileSender:
    """Sends files on the connections of one process."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "sendfile")
        self._busy = 0

    def offered(self, app: ASGIApp, transport: asyncio.Transport, seconds: float) -> ASGIApp:
        """The application on a connection that takes files; a client that takes nothing for `seconds` is cut off."""

        async def answered(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            scope.setdefault("extensions", {})[SENDFILE] = {}

            async def sent(message: Message) -> None:
                if message["type"] != SENDFILE:
                    await send(message)
                elif scope["method"] != "HEAD":
                    await self._send(message["pieces"], transport, seconds, send)

            await app(scope, receive, sent)

        return answered

    async def _send(
        self, pieces: list[bytes | FilePlace], transport: asyncio.Transport, seconds: float, send: Send
    ) -> None:
        while transport.get_write_buffer_size() and not transport.is_closing():
            await asyncio.sleep(WAIT_FOR_HEAD)
        if transport.is_closing():
            return
        if self._busy >= THREADS:
            await self._copy(pieces, send)
            return
        cycle: Any = getattr(send, "__self__", None)
        self._busy += 1
        try:
            connection = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
            loop = asyncio.get_running_loop()
            cycle.expected_content_length -= await loop.run_in_executor(
                self._threads, send_pieces, connection, pieces, seconds
            )
        except OSError as error:
            # The length has been promised: whoever waits for the rest must see that it does not come.
            log.info("an answer was cut off", extra={"door": "http", "code": type(error).__name__})
            transport.abort()
            cycle.expected_content_length = 0
        finally:
            self._busy -= 1

    @staticmethod
    async def _copy(pieces: list[bytes | FilePlace], send: Send) -> None:
        for piece in pieces:
            begin, length = (0, len(piece)) if isinstance(piece, bytes) else (piece.offset, piece.length)
            for start in range(begin, begin + length, COPIED):
                size = min(COPIED, begin + length - start)
                body = piece if isinstance(piece, bytes) else await asyncio.to_thread(_read, piece, start, size)
                await send({"type": "http.response.body", "body": body, "more_body": True})


def send_pieces(connection: socket.socket, pieces: Sequence[bytes | FilePlace], seconds: float) -> int:
    """Send all, close this handle of the connection and say how many bytes went out. Raises OSError."""
    with connection:
        poll = select.poll()
        poll.register(connection, select.POLLOUT)
        total, last = 0, len(pieces) - 1
        for number, piece in enumerate(pieces):
            if isinstance(piece, bytes):
                # The kernel holds back what more is to follow; of the last it would wait for that in vain.
                total += _send_bytes(connection, piece, poll, seconds, socket.MSG_MORE if number < last else 0)
            else:
                total += _send_file(connection, piece, poll, seconds)
        return total


def _send_bytes(connection: socket.socket, data: bytes, poll: select.poll, seconds: float, flags: int) -> int:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[connection.send(rest, flags) :]
        except BlockingIOError:
            _wait(poll, seconds)
    return len(data)


def _send_file(connection: socket.socket, place: FilePlace, poll: select.poll, seconds: float) -> int:
    offset, end = place.offset, place.offset + place.length
    descriptor = os.open(place.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while offset < end:
            try:
                sent = os.sendfile(connection.fileno(), descriptor, offset, end - offset)
            except BlockingIOError:
                _wait(poll, seconds)
                continue
            if not sent:
                raise OSError("The file ends before the asked range.")
            offset += sent
    finally:
        os.close(descriptor)
    return place.length


def _wait(poll: select.poll, seconds: float) -> None:
    if not poll.poll(seconds * 1000):
        raise TimeoutError


def _read(place: FilePlace, start: int, size: int) -> bytes:
    descriptor = os.open(place.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.pread(descriptor, size, start)
    finally:
        os.close(descriptor)
    if len(data) != size:
        raise OSError("The file ends before the asked range.")
    return data
