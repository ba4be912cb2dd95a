"""Whom we call: the application entity of a destination or a configured peer, with TLS where it is wanted."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from hilum.dicom.requestor import Called
from hilum.security.live_tls import caller_context
from hilum.settings import Destination, DicomPeer, DicomSettings
from hilum.settings.addresses import host_and_port


def called_destination(destination: Destination, settings: DicomSettings, home: Path) -> Called:
    """Return what `dicom://AET@HOST:PORT` or `dicoms://…` is. Raises InvalidInput where certificates don't fit."""
    to = urlsplit(destination.address)
    assert to.hostname and to.port and to.username  # the settings have checked the address
    said = destination
    tls = caller_context(home, said.name, said.ca, said.cert, said.key) if to.scheme == "dicoms" else None
    ours = destination.calling_ae_title or settings.ae_title
    return Called(to.hostname, to.port, unquote(to.username), ours, destination.ack_timeout, tls)


def called_peer(peer: DicomPeer, settings: DicomSettings, home: Path) -> Called:
    """Return how a configured peer with an address is called. Raises InvalidInput where its certificates don't fit."""
    assert peer.address
    host, port = host_and_port(peer.address)
    tls = caller_context(home, peer.ae_title, peer.ca, peer.cert, peer.key) if peer.tls else None
    seconds = peer.dimse_timeout or settings.dimse_timeout
    return Called(host, port, peer.ae_title, settings.ae_title, seconds, tls)


def titles_of(called: Called, settings: DicomSettings) -> set[str]:
    """The titles under which an application entity may have sent: its own, and those of peers at its address."""
    at_its_address = {
        peer.ae_title
        for peer in settings.peer
        if peer.address and tuple(host_and_port(peer.address)) == (called.host, called.port)
    }
    return {called.ae_title, *at_its_address}
