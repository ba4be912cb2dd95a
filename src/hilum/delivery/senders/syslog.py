"""Syslog to an audit collector: TLS (RFC 5425), and plain TCP (RFC 6587) or UDP (RFC 5426) on this machine.

Syslog has no answer, so a batch counts as received only when the collector has read all of it: after the last message
Hilum closes its side, and the collector's own clean close, with every byte acknowledged and none left unread, is the
receipt. Over UDP there is no receipt; what a collector that is up drops, is lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import ssl
import struct
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from hilum.core.errors import Unavailable
from hilum.security.tls import client_context
from hilum.settings.sections import AuditSettings

# For each of: to connect, to shake hands, to send, to be read, to be closed. Together less than the feed's lease.
SECONDS = 5.0
CHUNK = 64 * 1024
# Linux: bytes that were sent and that the other side has not acknowledged (tcp(7), SIOCOUTQ).
_UNACKNOWLEDGED = 0x5411


def send_batch(settings: AuditSettings, home: Path, messages: Sequence[bytes]) -> None:
    """Send messages in their order; return once the collector has them. Raises Unavailable, and all is sent anew."""
    address = urlsplit(settings.syslog)
    host, port = address.hostname or "", address.port or 0
    try:
        if address.scheme == "udp":
            _send_datagrams(host, port, messages)
            return
        with socket.create_connection((host, port), timeout=SECONDS) as connection:
            stream = b"".join(framed(message) for message in messages)
            if address.scheme == "tls":
                _send_encrypted(connection, _context(settings, home), host, stream)
            else:
                connection.sendall(stream)
                connection.shutdown(socket.SHUT_WR)
                _await_receipt(connection)
    except (OSError, ValueError) as error:
        raise Unavailable("The audit collector does not take the messages.") from error


def framed(message: bytes) -> bytes:
    """Count the octets of a message in front of it (RFC 5425 4.3)."""
    return b"%d %s" % (len(message), message)


def _context(settings: AuditSettings, home: Path) -> ssl.SSLContext:
    within = home.joinpath
    return client_context(
        within(settings.ca) if settings.ca else None,
        within(settings.cert) if settings.cert else None,
        within(settings.key) if settings.key else None,
    )


def _send_encrypted(connection: socket.socket, context: ssl.SSLContext, host: str, stream: bytes) -> None:
    encrypted = context.wrap_socket(connection, server_hostname=host)
    try:
        encrypted.sendall(stream)
        # Sends close_notify and waits for the collector's, or for its end of the connection (RFC 5425 4.4).
        with contextlib.suppress(ssl.SSLError):
            encrypted.unwrap()
    finally:
        plain = socket.socket(fileno=encrypted.detach())
    with plain:
        plain.settimeout(SECONDS)
        with contextlib.suppress(OSError):
            plain.shutdown(socket.SHUT_WR)
        _await_receipt(plain)


def _await_receipt(connection: socket.socket) -> None:
    """Wait until the collector closes; a reset, or bytes it has not acknowledged, mean that it read less than all."""
    while connection.recv(CHUNK):
        pass
    failure = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failure or _unacknowledged(connection):
        raise ConnectionResetError("The collector closed before it had read everything.")


def _unacknowledged(connection: socket.socket) -> int:
    try:
        return int(struct.unpack("i", fcntl.ioctl(connection, _UNACKNOWLEDGED, bytes(4)))[0])
    except OSError:  # not every system can say
        return 0


def _send_datagrams(host: str, port: int, messages: Sequence[bytes]) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(SECONDS)
        # Connected, so that a port where nobody listens is an error and not silence.
        datagrams.connect((host, port))
        for message in messages:
            datagrams.send(message)
        failure = datagrams.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failure:
            raise OSError(failure, "refused")
