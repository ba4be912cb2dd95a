"""What `hilum check` says of TLS: doors without it, certificates that end, keys that others can read, broken files."""

from __future__ import annotations

import ipaddress
import stat
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from hilum.cli.findings import Finding
from hilum.core.errors import HilumError
from hilum.security.tls import client_context, server_context
from hilum.settings import Destination, Settings
from hilum.settings.sections import Door

ENDS_SOON = timedelta(days=30)
LIST_ENDS_SOON = timedelta(days=2)
DOORS = ("http", "dicom", "hl7")
_PLAIN = frozenset({"mllp", "dicom", "http", "smtp"})


def tls_findings(settings: Settings, now: datetime) -> Iterator[Finding]:
    """Go through the doors, the peers and the destinations."""
    for name in DOORS:
        door: Door = getattr(settings, name)
        if door.tls == "off":
            yield from _plain_door(name, door)
        else:
            yield from _secured_door(name, door, settings, now)
    yield from _peers(settings)
    for destination in settings.destination:
        yield from _destination(destination, settings, now)


def _plain_door(name: str, door: Door) -> Iterator[Finding]:
    if is_loopback(door.listen.host):
        return
    text = f"[{name}] listens on {door.bind} without TLS, which anyone on the network can read"
    if door.allow_plain:
        yield Finding("opening", f"{text}; allow_plain = true allows it.")
    else:
        yield Finding("fault", f'{text}; set tls = "server" or "mutual", or allow_plain = true behind a proxy.')


def _secured_door(name: str, door: Door, settings: Settings, now: datetime) -> Iterator[Finding]:
    within = settings.paths.within
    cert, key, ca = within(door.cert), within(door.key), within(door.ca)
    crl = within(door.crl) if door.crl else None
    wanted = [cert, key, *([ca] if door.tls == "mutual" else []), *([crl] if crl else [])]
    absent = [path for path in wanted if not _readable(path)]
    for path in absent:
        yield Finding("fault", f"[{name}] names {path}, which cannot be read; `hilum tls init` makes certificates.")
    if absent:
        return
    try:
        server_context(cert, key, ca, door.tls if door.tls != "off" else "server", crl)
    except HilumError as error:
        yield Finding("fault", f"[{name}] {error.field}: {error.message} What runs goes on with the files before.")
    yield from _certificates(f"[{name}]", cert, now)
    yield from _key(f"[{name}]", key)
    if door.tls == "mutual":
        yield from _certificates(f"[{name}]", ca, now)
    if crl is not None:
        yield from _revocations(f"[{name}]", crl, now)


def _peers(settings: Settings) -> Iterator[Finding]:
    named = [("dicom", peer.ae_title, peer.certificate) for peer in settings.dicom.peer]
    named += [("hl7", peer.name, peer.certificate) for peer in settings.hl7.peer]
    for section, name, certificate in named:
        if certificate and getattr(settings, section).tls != "mutual":
            yield Finding(
                "fault",
                f'[[{section}.peer]] {name} is known by its certificate, which takes [{section}] tls = "mutual"; '
                "until then it is always refused.",
            )


def _destination(destination: Destination, settings: Settings, now: datetime) -> Iterator[Finding]:
    where, to = f"[[destination]] {destination.name}", urlsplit(destination.address)
    if to.scheme in _PLAIN and not is_loopback(to.hostname or ""):
        yield Finding("opening", f"{where} is sent to over {to.scheme}://, which anyone on the network can read.")
    files = [
        settings.paths.within(name) if name else None for name in (destination.ca, destination.cert, destination.key)
    ]
    ca, cert, key = files
    absent = [path for path in files if path is not None and not _readable(path)]
    for missing in absent:
        yield Finding("fault", f"{where} names {missing}, which cannot be read.")
    if absent or not any(files):
        return
    try:
        client_context(ca, cert, key)
    except HilumError as error:
        yield Finding("fault", f"{where} {error.field}: {error.message}")
    for path in (ca, cert):
        if path is not None:
            yield from _certificates(where, path, now)
    if key is not None:
        yield from _key(where, key)


def _certificates(where: str, path: Path, now: datetime) -> Iterator[Finding]:
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        yield Finding("fault", f"{where} names {path}, which holds no certificate.")
        return
    for certificate in found:
        ends, begins = certificate.not_valid_after_utc, certificate.not_valid_before_utc
        if ends <= now:
            yield Finding("fault", f"{where} The certificate in {path} ended on {ends:%Y-%m-%d %H:%M} UTC.")
        elif begins > now:
            yield Finding("fault", f"{where} The certificate in {path} begins only on {begins:%Y-%m-%d %H:%M} UTC.")
        elif ends - now < ENDS_SOON:
            days = (ends - now).days
            yield Finding("warning", f"{where} The certificate in {path} ends on {ends:%Y-%m-%d}, in {days} days.")


def _key(where: str, path: Path) -> Iterator[Finding]:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o007:
        yield Finding("fault", f"{where} Anyone on this machine may read or change the private key {path}; chmod 600.")
    elif mode & 0o070:
        yield Finding("warning", f"{where} The private key {path} is open to its group.")


def _revocations(where: str, path: Path, now: datetime) -> Iterator[Finding]:
    try:
        ends = x509.load_pem_x509_crl(path.read_bytes()).next_update_utc
    except (OSError, ValueError):
        yield Finding("fault", f"{where} names {path}, which holds no revocation list.")
        return
    if ends is None:
        return
    if ends <= now:
        yield Finding("fault", f"{where} The revocation list {path} is out of date, so every client is refused.")
    elif ends - now < LIST_ENDS_SOON:
        yield Finding("warning", f"{where} The revocation list {path} is good until {ends:%Y-%m-%d %H:%M} UTC only.")


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine by its name or number alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _readable(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return bool(file.read(1))
    except OSError:
        return False
