"""One bounded HTTP exchange with a provider: JSON back or a refusal, no redirects, over when its time is.

Redirects are not followed: whoever may answer for a provider is named in its settings and its own metadata.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import orjson

from hilum.core.errors import Unavailable
from hilum.settings.identity import is_secure

SECONDS = 10.0
MAX_ANSWER_BYTES = 1024 * 1024
NOT_NOW = "The sign-in service does not answer at the moment."


def fetch_json(
    url: str,
    context: ssl.SSLContext | None = None,
    *,
    body: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, dict[str, Any]]:
    """GET, or POST a form, and return the status and the JSON object; Unavailable for everything else."""
    if not is_secure(url):
        raise Unavailable("The sign-in service names an address that is not encrypted.")
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    connection = (
        http.client.HTTPSConnection(host, port, timeout=SECONDS, context=context)
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, port, timeout=SECONDS)
    )
    # A time-out of the socket begins anew with each byte, so the whole exchange gets its own.
    over = threading.Timer(SECONDS, _cut, [connection])
    over.daemon = True
    over.start()
    said = {"Accept": "application/json", "User-Agent": "hilum", **(headers or {})}
    if body is not None:
        said["Content-Type"] = "application/x-www-form-urlencoded"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("GET" if body is None else "POST", target, body, said)
        answer = connection.getresponse()
        data = answer.read(MAX_ANSWER_BYTES + 1)
        found = orjson.loads(data) if len(data) <= MAX_ANSWER_BYTES else None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unavailable(NOT_NOW) from error
    finally:
        over.cancel()
        connection.close()
    if not isinstance(found, dict) or answer.status >= 500 or 300 <= answer.status < 400:
        raise Unavailable(NOT_NOW)
    return answer.status, found


def _cut(connection: http.client.HTTPConnection) -> None:
    with suppress(OSError, AttributeError):
        connection.sock.shutdown(socket.SHUT_RDWR)
