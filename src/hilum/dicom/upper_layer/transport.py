"""A connection read and written exactly, with deadlines, on blocking sockets; plain TCP and TLS.

The kernel's own receive and send time-outs (SO_RCVTIMEO, SO_SNDTIMEO) wake a thread once per tick, so that MSG_WAITALL
still works: with Python's time-outs the socket would be non-blocking underneath and every PDU read in pieces.
TCP_QUICKACK is re-armed before each read, because a peer with Nagle's algorithm on holds the end of every message
back until what it sent before is acknowledged.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Sequence

Buffer = bytes | memoryview

_MAXIMUM_VECTOR = 512  # buffers in one sendmsg; IOV_MAX is 1024 on Linux


class TransportClosed(Exception):
    """The peer closed the connection, or it broke."""


class TransportStalled(Exception):
    """The deadline passed before all bytes were through."""


class Transport:
    """A plain TCP connection."""

    def __init__(self, connection: socket.socket, tick: float) -> None:
        self._socket = connection
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._arm_time_outs(tick)

    def _arm_time_outs(self, tick: float) -> None:
        self._socket.settimeout(None)
        value = struct.pack("ll", int(tick), int(tick % 1 * 1_000_000))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)

    def _receive(self, views: Sequence[memoryview]) -> int:
        """Bytes received, 0 at the end of the stream, -1 after a tick without any."""
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            if len(views) == 1:
                return self._socket.recv_into(views[0], 0, socket.MSG_WAITALL)
            return self._socket.recvmsg_into(views, 0, socket.MSG_WAITALL)[0]
        except BlockingIOError:
            return -1

    def _send(self, buffers: Sequence[Buffer]) -> int:
        try:
            return self._socket.sendmsg(buffers)
        except BlockingIOError:
            return -1

    def read_into(self, *views: memoryview, deadline: float, on_tick: Callable[[], bool] | None = None) -> bool:
        """Fill the views one after the other; raises TransportClosed or TransportStalled.

        `on_tick` is asked at every tick while not a single byte has come; when it says True, so is False returned.
        """
        pending = [view for view in views if len(view)]
        untouched = True
        while pending:
            try:
                received = self._receive(pending)
            except (OSError, ValueError) as error:  # ValueError: the socket was closed under a TLS read
                raise TransportClosed from error
            if received == 0:
                raise TransportClosed
            if received < 0:
                if untouched and on_tick is not None and on_tick():
                    return False
                if time.monotonic() >= deadline:
                    raise TransportStalled
                continue
            untouched = False
            while pending and received >= len(pending[0]):
                received -= len(pending.pop(0))
            if received:
                pending[0] = pending[0][received:]
            if pending and time.monotonic() >= deadline:
                raise TransportStalled
        return True

    def send(self, buffers: Sequence[Buffer], deadline: float) -> None:
        """Write all buffers; raises TransportClosed or TransportStalled."""
        pending = [memoryview(buffer) for buffer in buffers if len(buffer)]
        while pending:
            try:
                sent = self._send(pending[:_MAXIMUM_VECTOR])
            except (OSError, ValueError) as error:
                raise TransportClosed from error
            if sent < 0:
                if time.monotonic() >= deadline:
                    raise TransportStalled
                continue
            done = 0
            while done < len(pending) and sent >= len(pending[done]):
                sent -= len(pending[done])
                done += 1
            del pending[:done]
            if sent:
                pending[0] = pending[0][sent:]

    def readable(self) -> bool:
        """Whether a read would return at once."""
        return bool(self._poll.poll(0))

    def discard_until_closed(self, deadline: float) -> None:
        """Take what still comes, unread, until the peer closes or the deadline passes."""
        scratch = memoryview(bytearray(65536))
        while time.monotonic() < deadline:
            try:
                if self._socket.recv_into(scratch) == 0:
                    return
            except (BlockingIOError, TimeoutError):
                continue
            except (OSError, ValueError):
                return

    def close(self) -> None:
        self._socket.close()


class TlsTransport(Transport):
    """A connection under TLS; the handshake was done before. Python's time-outs serve as ticks here."""

    _socket: ssl.SSLSocket

    def _arm_time_outs(self, tick: float) -> None:
        self._socket.settimeout(tick)

    def _receive(self, views: Sequence[memoryview]) -> int:
        try:
            return self._socket.recv_into(views[0])
        except (TimeoutError, ssl.SSLWantReadError):
            return -1

    def _send(self, buffers: Sequence[Buffer]) -> int:
        try:
            if len(buffers[0]) < 1024 and len(buffers) > 1:  # a header and its fragment share a TLS record
                head, fragment = buffers[0], memoryview(buffers[1])[:15000]
                return self._socket.send(bytes(head) + bytes(fragment))
            return self._socket.send(buffers[0])
        except (TimeoutError, ssl.SSLWantWriteError):
            return -1

    def readable(self) -> bool:
        return self._socket.pending() > 0 or super().readable()
