"""How far the clocks of peers that speak HTTP are from ours: by the `Date` of an answer (RFC 9110 6.6.1).

A HEAD request asks, without any credentials; redirects are not followed, since whoever answers tells the time. All
peers are asked at once, and who has not answered within `SECONDS` in all is left out.
"""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from hilum.core.errors import HilumError
from hilum.security.tls import client_context

SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class HttpPeer:
    """Who is asked, where, and the files of TLS: its authorities, our certificate and its key."""

    name: str
    address: str
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


def clocks_of(peers: Sequence[HttpPeer], seconds: float = SECONDS) -> dict[str, timedelta]:
    """Return by how much the clock of each peer that answers in time is behind ours; negative is ahead."""
    found: dict[str, timedelta] = {}

    def ask(peer: HttpPeer) -> None:
        behind = clock_of(peer, seconds)
        if behind is not None:
            found[peer.name] = behind

    # Resolving a name has no time-out of its own, so nothing here is waited for longer than `seconds`.
    threads = [threading.Thread(target=ask, args=(peer,), daemon=True) for peer in peers]
    for thread in threads:
        thread.start()
    until = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return dict(found)


def clock_of(peer: HttpPeer, seconds: float = SECONDS) -> timedelta | None:
    """Ask one peer; None where it does not answer, or tells no time."""
    parts = urlsplit(peer.address)
    try:
        connection = _connection(peer, seconds)
        with closing(connection):
            connection.connect()
            asked = datetime.now(UTC)
            connection.request("HEAD", parts.path or "/", headers={"User-Agent": "hilum"})
            said = connection.getresponse().getheader("Date")
            answered = datetime.now(UTC)
        moment = parsedate_to_datetime(said) if said else None
    except (HilumError, OSError, http.client.HTTPException, ValueError):
        return None
    if moment is None or moment.tzinfo is None:
        return None
    # It was said somewhere between question and answer, and tells whole seconds.
    return asked + (answered - asked) / 2 - (moment + timedelta(seconds=0.5))


def _connection(peer: HttpPeer, seconds: float) -> http.client.HTTPConnection:
    parts = urlsplit(peer.address)
    if parts.scheme == "https":
        context: ssl.SSLContext = client_context(peer.ca, peer.cert, peer.key)
        return http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=seconds, context=context)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=seconds)
