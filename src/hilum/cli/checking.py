"""`hilum check`: what is wrong with a home, and what is open that a security officer would ask about."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from hilum.app import Application
from hilum.cli.checking_clocks import clock_findings
from hilum.cli.checking_tls import tls_findings
from hilum.cli.findings import Finding
from hilum.core.errors import HilumError
from hilum.settings import Settings


def findings(application: Application) -> Iterator[Finding]:
    """Go through configuration, keys, database and archive of a home; yield what stands out."""
    settings = application.settings
    yield from _doors(settings)
    yield from tls_findings(settings, application.store.clock())
    yield from _routes(application)
    yield from _collector(settings)
    yield from _database(application)
    yield from _clocks(application)
    yield from _archive(application)


def _doors(settings: Settings) -> Iterator[Finding]:
    for name, unknown in (("dicom", settings.dicom.accept_unknown), ("hl7", settings.hl7.accept_unknown)):
        if unknown != "none":
            yield Finding("opening", f'[{name}] accept_unknown = "{unknown}" lets senders in that are no peers.')
    if not settings.dicom.check_called_ae:
        yield Finding("opening", "[dicom] check_called_ae = false answers calls to any AE title.")


def _routes(application: Application) -> Iterator[Finding]:
    from hilum.app import SENDER_KINDS
    from hilum.delivery.check import check_delivery
    from hilum.dicom.image_rules import check_rules

    for text in (*check_delivery(application.settings, SENDER_KINDS), *check_rules(application.settings)):
        yield Finding("fault", text)


def _collector(settings: Settings) -> Iterator[Finding]:
    """What keeps the audit trail from its collector."""
    if not settings.audit.syslog:
        return
    if settings.audit.syslog.startswith("udp:"):
        yield Finding("opening", "[audit] syslog over udp:// is never confirmed: what the collector drops is lost.")
    for name in filter(None, (settings.audit.ca, settings.audit.cert, settings.audit.key)):
        if not os.access(settings.paths.within(name), os.R_OK):
            yield Finding("fault", f"[audit] names {settings.paths.within(name)}, which cannot be read.")


def _database(application: Application) -> Iterator[Finding]:
    from hilum.storage.database import answers, schema_is_current

    try:
        answers(application.store)
        if not schema_is_current(application.store.engine):
            yield Finding("fault", "The database's schema is not the newest; `hilum up` brings it up to date.")
    except HilumError as error:
        yield Finding("fault", error.message)


def _clocks(application: Application) -> Iterator[Finding]:
    # A database that does not answer is a finding already.
    with contextlib.suppress(HilumError):
        yield from clock_findings(application.store, application.settings)


def _archive(application: Application) -> Iterator[Finding]:
    try:
        next(iter(application.blobs.list("check")), None)
    except HilumError as error:
        yield Finding("fault", f"The archive does not answer: {error.message}")
