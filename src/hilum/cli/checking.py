"""`hilum check`: what is wrong with a home, and what is open that a security officer would ask about."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hilum.app import Application
from hilum.core.errors import HilumError
from hilum.settings import Settings
from hilum.settings.sections import Door


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault makes `hilum check` fail; an opening is named and left to the operator."""

    weight: Literal["fault", "opening"]
    text: str


def findings(application: Application) -> Iterator[Finding]:
    """Go through configuration, keys, database and archive of a home; yield what stands out."""
    settings = application.settings
    yield from _doors(settings)
    yield from _routes(application)
    yield from _database(application)
    yield from _archive(application)


def _doors(settings: Settings) -> Iterator[Finding]:
    for name in ("http", "dicom", "hl7"):
        door: Door = getattr(settings, name)
        if door.tls == "off" and not _is_loopback(door.listen.host):
            yield Finding(
                "fault", f"[{name}] listens on {door.bind} without TLS, which anyone on the network can read."
            )
        if door.tls != "off":
            yield from _certificate_files(name, door, settings)
    for name, unknown in (("dicom", settings.dicom.accept_unknown), ("hl7", settings.hl7.accept_unknown)):
        if unknown != "none":
            yield Finding("opening", f'[{name}] accept_unknown = "{unknown}" lets senders in that are no peers.')
    if not settings.dicom.check_called_ae:
        yield Finding("opening", "[dicom] check_called_ae = false answers calls to any AE title.")


def _certificate_files(name: str, door: Door, settings: Settings) -> Iterator[Finding]:
    wanted = [door.cert, door.key, *([door.ca] if door.tls == "mutual" else []), *([door.crl] if door.crl else [])]
    for file in wanted:
        path = settings.paths.within(file)
        if not _readable(path):
            yield Finding("fault", f"[{name}] names {path}, which cannot be read; `hilum tls init` makes certificates.")


def _routes(application: Application) -> Iterator[Finding]:
    from hilum.delivery.check import check_delivery

    for text in check_delivery(application.settings, application.senders().keys()):
        yield Finding("fault", text)


def _database(application: Application) -> Iterator[Finding]:
    from hilum.storage.database import answers, schema_is_current

    try:
        answers(application.store)
        if not schema_is_current(application.store.engine):
            yield Finding("fault", "The database's schema is not the newest; `hilum up` brings it up to date.")
    except HilumError as error:
        yield Finding("fault", error.message)


def _archive(application: Application) -> Iterator[Finding]:
    try:
        next(iter(application.blobs.list("check")), None)
    except HilumError as error:
        yield Finding("fault", f"The archive does not answer: {error.message}")


def _is_loopback(host: str) -> bool:
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
