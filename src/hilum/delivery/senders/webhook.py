"""Webhooks: one POST a delivery, signed, never redirected, over when `ack_timeout` is.

`X-Hilum-Signature: v1=HEX` is HMAC-SHA-256, with the secret of `password_file`, over the time of the try (the header
`X-Hilum-Timestamp`, seconds), a dot and the body. `X-Hilum-Delivery` is the same at each repetition.
"""

from __future__ import annotations

import hmac
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from hilum.core.errors import HilumError
from hilum.delivery.ports import SendOutcome, Sent
from hilum.delivery.senders.secret import read_secret
from hilum.security.tls import client_context
from hilum.settings import Destination
from hilum.storage.deliveries import Delivery

MAX_ANSWER_BYTES = 64 * 1024
# RFC 9110 15: these say "not now"; 500 is a receiver's defect, which counts like AE; other 4xx and 3xx are final.
_PASSING = frozenset({408, 425, 429, 502, 503, 504})
_PORTS = {"http": 80, "https": 443}


class WebhookSender:
    """Posts each body to its destination on a connection of its own."""

    def __init__(self, home: Path, clock: Callable[[], float] = time.time) -> None:
        self._home = home
        self._clock = clock

    def send(self, delivery: Delivery, destination: Destination) -> Sent:
        """Post once. Before anything was written a failure is transient, after that ambiguous."""
        address = urlsplit(destination.address)
        try:
            secret = read_secret(self._home, destination)
            connection = self._connect(address, destination)
        except (HilumError, OSError) as error:
            return Sent(SendOutcome.TRANSIENT, getattr(error, "code", "unreachable"))
        # A timeout of the socket begins anew with each byte, so the whole exchange gets its own.
        over = threading.Timer(destination.ack_timeout, _cut, [connection])
        over.daemon = True
        over.start()
        try:
            connection.request("POST", _target(address), delivery.body, self._headers(delivery, secret))
            answer = connection.getresponse()
            answer.read(MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException, ValueError):
            return Sent(SendOutcome.AMBIGUOUS, "no-answer")
        finally:
            over.cancel()
            connection.close()
        return outcome_of(answer.status)

    def close(self) -> None:
        """Nothing is held."""

    def _connect(self, address: SplitResult, destination: Destination) -> http.client.HTTPConnection:
        port = address.port or _PORTS[address.scheme]
        connection: http.client.HTTPConnection
        if address.scheme == "https":
            context = self._context(destination)
            connection = http.client.HTTPSConnection(
                address.hostname or "", port, timeout=destination.ack_timeout, context=context
            )
        else:
            connection = http.client.HTTPConnection(address.hostname or "", port, timeout=destination.ack_timeout)
        connection.connect()
        return connection

    def _context(self, destination: Destination) -> ssl.SSLContext:
        within = self._home.joinpath
        return client_context(
            within(destination.ca) if destination.ca else None,
            within(destination.cert) if destination.cert else None,
            within(destination.key) if destination.key else None,
        )

    def _headers(self, delivery: Delivery, secret: bytes) -> dict[str, str]:
        raw = delivery.body.startswith(b"MSH")
        moment = str(int(self._clock()))
        headers = {
            "Content-Type": "application/hl7-v2" if raw else "application/json",
            "User-Agent": "hilum",
            "X-Hilum-Event": "".join(letter for letter in delivery.kind if letter.isprintable() and letter.isascii()),
            "X-Hilum-Delivery": delivery.id,
            "X-Hilum-Timestamp": moment,
        }
        if secret:
            headers["X-Hilum-Signature"] = "v1=" + signature(secret, moment, delivery.body)
        return headers


def signature(secret: bytes, moment: str, body: bytes) -> str:
    """Return the hexadecimal HMAC-SHA-256 with which a receiver tells that Hilum sent this, and when."""
    return hmac.new(secret, moment.encode() + b"." + body, "sha256").hexdigest()


def outcome_of(status: int) -> Sent:
    """Say what an HTTP status means for a delivery."""
    if 200 <= status < 300:
        return Sent(SendOutcome.ACCEPTED)
    if status in _PASSING:
        return Sent(SendOutcome.TRANSIENT, f"http-{status}")
    return Sent(SendOutcome.ERROR if status >= 500 else SendOutcome.REJECTED, f"http-{status}")


def _target(address: SplitResult) -> str:
    return (address.path or "/") + (f"?{address.query}" if address.query else "")


def _cut(connection: http.client.HTTPConnection) -> None:
    with suppress(OSError, AttributeError):
        connection.sock.shutdown(socket.SHUT_RDWR)
