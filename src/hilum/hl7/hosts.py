"""From which hosts a configured peer may send: the host of its address, as an IP address or as a name looked up."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from typing import Final
from urllib.parse import urlsplit

_REMEMBERED_SECONDS: Final = 60.0
_LOOKUP_SECONDS: Final = 5.0


class Hosts:
    """Looks up the hosts of peers' addresses, at most once a minute each."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, frozenset[str]]] = {}

    async def of(self, address: str) -> frozenset[str] | None:
        """The IP addresses behind `mllp://HOST:PORT`: none for no address, None where the name is not resolved."""
        host = urlsplit(address).hostname if address else ""
        if not host:
            return frozenset()
        if _is_ip(host):
            return frozenset({host})
        known = self._known.get(host)
        if known is not None and time.monotonic() - known[0] < _REMEMBERED_SECONDS:
            return known[1]
        try:
            async with asyncio.timeout(_LOOKUP_SECONDS):
                found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError):
            return known[1] if known else None
        hosts = frozenset(str(entry[4][0]) for entry in found)
        self._known[host] = (time.monotonic(), hosts)
        return hosts


def plain_ip(host: str) -> str:
    """An IP address without the IPv6 form that a socket gives to an IPv4 one."""
    return host.removeprefix("::ffff:")


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
