"""Connections that are refused before anyone may ask for anything: why, in a closed set of words, and audited.

What an address can make us write is bounded: beyond so many refusals in a minute the rest are only counted.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from hilum.core.actor import Actor, ActorKind, Door, Role
from hilum.storage.store import Store
from hilum.storage.unit_of_work import UnitOfWork
from hilum.telemetry import count_refused_connection

log = logging.getLogger(__name__)

AUDITED_A_MINUTE: Final = 30
_ADDRESSES_REMEMBERED: Final = 10_000
_NAME_LIMIT: Final = 200

# X509_V_ERR_… of OpenSSL: why a peer's certificate does not hold.
_OF_CERTIFICATE: Final = {
    3: "no-revocation-list",
    9: "certificate-not-yet-valid",
    10: "certificate-expired",
    12: "revocation-list-expired",
    18: "certificate-self-signed",
    19: "certificate-self-signed",
    20: "certificate-of-unknown-authority",
    21: "certificate-of-unknown-authority",
    23: "certificate-revoked",
    26: "certificate-for-another-purpose",
}
_OF_HANDSHAKE: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no-certificate",
    "UNSUPPORTED_PROTOCOL": "tls-version",
    "VERSION_TOO_LOW": "tls-version",
    "NO_SHARED_CIPHER": "tls-cipher",
    "HTTP_REQUEST": "not-tls",
    "WRONG_VERSION_NUMBER": "not-tls",
    "UNKNOWN_PROTOCOL": "not-tls",
    "PACKET_LENGTH_TOO_LONG": "not-tls",
    "RECORD_LAYER_FAILURE": "not-tls",
}


def refusal_reason(error: BaseException) -> str:
    """Why a handshake failed, as one of our words; empty where the peer only went away, as a probe of a port does."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _OF_CERTIFICATE.get(error.verify_code, "certificate")
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return ""
    if isinstance(error, ssl.SSLError):
        said = error.reason or ""
        return "peer-refuses-ours" if "_ALERT_" in said else _OF_HANDSHAKE.get(said, "tls")
    if isinstance(error, TimeoutError):
        return "tls-timeout"
    # asyncio's own word for a handshake that took too long is a ConnectionAbortedError
    return "tls-timeout" if isinstance(error, ConnectionAbortedError) else ""


def refuse_connection(uow: UnitOfWork, command: str, actor: Actor) -> None:
    """Audit that a peer was not let in, for the reason `command`."""
    uow.audit(actor, "connect", outcome="refused", reason=command)


class ConnectionLog:
    """Audits refused connections of one process; safe to call from threads and event loops, waits for nothing."""

    def __init__(self, store: Store, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Takes the store of the audit trail."""
        self._store = store
        self._monotonic = monotonic
        self._minutes: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._lock = threading.Lock()

    def refused(self, door: Door, address: str, reason: str, name: str = "") -> None:
        """Note that a peer at an address, called `name` if it said one, was not let in."""
        count_refused_connection(door.value, reason)
        if not self._within_bound(address):
            return
        log.warning("a connection was refused", extra={"door": door.value, "host": address, "code": reason})
        actor = Actor(name[:_NAME_LIMIT] or "unknown", Role.SERVICE, ActorKind.PEER, door, address=address)
        self._store.submit(refuse_connection, reason, actor).add_done_callback(_look_at)

    def handshake_failed(self, door: Door, address: str, error: BaseException) -> None:
        """Note a failed handshake, unless the peer only went away."""
        reason = refusal_reason(error)
        if reason:
            self.refused(door, address, reason)

    def _within_bound(self, address: str) -> bool:
        key = (address, int(self._monotonic() // 60))
        with self._lock:
            count = self._minutes[key] = self._minutes.get(key, 0) + 1
            while len(self._minutes) > _ADDRESSES_REMEMBERED:
                self._minutes.popitem(last=False)
        return count <= AUDITED_A_MINUTE


def _look_at(done: object) -> None:
    error = done.exception()  # type: ignore[attr-defined]
    if error is not None:
        log.error("a refused connection was not audited", exc_info=error)
