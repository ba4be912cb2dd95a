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

_AHEAD = 16 * 1024  # what is smaller is read together with what follows it
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
        self._ahead = memoryview(bytearray(_AHEAD))
        self._held = self._ahead[:0]

    def _arm_time_outs(self, tick: float) -> None:
        self._socket.settimeout(None)
        value = struct.pack("ll", int(tick), int(tick % 1 * 1_000_000))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)

    def _receive(self, views: Sequence[memoryview], *, whole: bool) -> int:
        """Bytes received, `whole` to wait for all; 0 at the end of the stream, -1 after a tick without any."""
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            flags = socket.MSG_WAITALL if whole else 0
            if len(views) == 1:
                return self._socket.recv_into(views[0], 0, flags)
            return self._socket.recvmsg_into(views, 0, flags)[0]
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
        pending = self._from_held([view for view in views if len(view)])
        untouched = True
        while pending:
            is_small = sum([len(view) for view in pending]) < _AHEAD
            try:
                received = self._receive([self._ahead] if is_small else pending, whole=not is_small)
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
            if is_small:
                self._held = self._ahead[:received]
                pending = self._from_held(pending)
            else:
                pending = _rest(pending, received)
            if pending and time.monotonic() >= deadline:
                raise TransportStalled
        return True

    def _from_held(self, pending: list[memoryview]) -> list[memoryview]:
        """Fill views with what was read ahead; those that are left."""
        held = self._held
        if not held:
            return pending
        taken = 0
        for view in pending:
            piece = held[taken : taken + len(view)]
            view[: len(piece)] = piece
            taken += len(piece)
        self._held = held[taken:]
        return _rest(pending, taken)

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
        return bool(self._held) or bool(self._poll.poll(0))

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


def _rest(pending: list[memoryview], received: int) -> list[memoryview]:
    """What of the views is still to be filled after so many bytes."""
    for number, view in enumerate(pending):
        if received < len(view):
            return [view[received:], *pending[number + 1 :]]
        received -= len(view)
    return []


class TlsTransport(Transport):
    """A connection under TLS; the handshake was done before. Python's time-outs serve as ticks here."""

    _socket: ssl.SSLSocket

    def _arm_time_outs(self, tick: float) -> None:
        self._socket.settimeout(tick)

    def _receive(self, views: Sequence[memoryview], *, whole: bool) -> int:
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
