"""Who may open an association: configured peers, from their own host where it is set, and by setting this machine.

An AE title proves nothing by itself: for a proof there is mutual TLS.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
import time

from hilum.dicom.upper_layer.negotiation import AcceptancePolicy, Peer
from hilum.settings import Configuration, DicomSettings
from hilum.settings.addresses import host_and_port

log = logging.getLogger(__name__)

LOOKED_UP_SECONDS = 60.0


class Hosts:
    """The IP addresses behind the hosts of peers, looked up at most once a minute each."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, frozenset[str]]] = {}
        self._lock = threading.Lock()

    def of(self, host: str) -> frozenset[str]:
        """Return the addresses of a host; none where its name is not resolved."""
        if _address(host) is not None:
            return frozenset({host})
        with self._lock:
            known = self._known.get(host)
        if known is not None and time.monotonic() - known[0] < LOOKED_UP_SECONDS:
            return known[1]
        try:
            found = frozenset(str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
        except OSError:
            return known[1] if known else frozenset()
        with self._lock:
            self._known[host] = (time.monotonic(), found)
        return found


class Acceptance:
    """The policy of the DICOM door as the settings stand at each association."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._hosts = Hosts()

    def policy(self) -> AcceptancePolicy:
        """Return the policy for the next association."""
        settings = self._configuration.refresh().dicom
        called = frozenset({settings.ae_title}) if settings.check_called_ae else frozenset()
        return AcceptancePolicy(called, lambda peer: self._accepts(settings, peer))

    def _accepts(self, settings: DicomSettings, peer: Peer) -> bool:
        configured = settings.peer_named(peer.calling_ae_title)
        address = peer.address[0].removeprefix("::ffff:")
        if configured is not None:
            host = host_and_port(configured.address).host if configured.address else ""
            accepted = not host or address in self._hosts.of(host)
        else:
            found = _address(address)
            accepted = settings.accept_unknown == "loopback" and found is not None and found.is_loopback
        if not accepted:
            log.warning("calling AE is not recognised", extra={"door": "dicom", "host": address})
        return accepted


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
