"""Who may open an association: configured peers, from their own host where it is set, and by setting this machine.

An AE title proves nothing by itself: for a proof there is mutual TLS.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
import time
from dataclasses import replace

from hilum.core.actor import Door
from hilum.dicom.upper_layer.limits import PeerLimits
from hilum.dicom.upper_layer.negotiation import AcceptancePolicy, Peer
from hilum.dicom.user_identity import UserIdentities
from hilum.security.certificates import agrees
from hilum.security.connections import ConnectionLog
from hilum.settings import Configuration, DicomPeer, DicomSettings
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

    def __init__(self, configuration: Configuration, refusals: ConnectionLog | None = None,
                 identities: UserIdentities | None = None) -> None:  # fmt: skip
        """Takes the live configuration, where refusals are audited, and who checks the users that callers name."""
        self._configuration = configuration
        self._refusals = refusals
        self._hosts = Hosts()
        self._identities = identities

    def policy(self) -> AcceptancePolicy:
        """Return the policy for the next association."""
        settings = self._configuration.refresh().dicom
        called = frozenset({settings.ae_title}) if settings.check_called_ae else frozenset()
        policy = AcceptancePolicy(
            called, lambda peer: self._accepts(settings, peer), limits_of=lambda peer: _limits_of(settings, peer)
        )
        identities = self._identities
        if identities is None:
            return policy
        return replace(policy, check_user_identity=lambda peer: identities.verdict(peer, settings))

    def _accepts(self, settings: DicomSettings, peer: Peer) -> bool:
        configured = settings.peer_named(peer.calling_ae_title)
        address = peer.address[0].removeprefix("::ffff:")
        reason = self._refusal_of(configured, peer, address, settings)
        if reason:
            log.warning("the calling title is not recognised", extra={"door": "dicom", "host": address, "code": reason})
            if self._refusals is not None:
                self._refusals.refused(Door.DIMSE, address, reason, peer.calling_ae_title)
        return not reason

    def _refusal_of(self, configured: DicomPeer | None, peer: Peer, address: str, settings: DicomSettings) -> str:
        """Why a calling title is not let in; empty where title, address and certificate agree."""
        if configured is None:
            found = _address(address)
            known = settings.accept_unknown == "loopback" and found is not None and found.is_loopback
            return "" if known else "unknown-title"
        host = host_and_port(configured.address).host if configured.address else ""
        if host and address not in self._hosts.of(host):
            return "another-address"
        return "" if agrees(configured.certificate, peer.certificate) else "another-certificate"


def _limits_of(settings: DicomSettings, peer: Peer) -> PeerLimits:
    configured = settings.peer_named(peer.calling_ae_title)
    if configured is None:
        return PeerLimits()
    return PeerLimits(configured.max_associations, configured.dimse_timeout, configured.idle_timeout)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
