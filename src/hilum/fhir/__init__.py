"""The FHIR door: R4 read and search, and CDS Hooks. It answers from what other doors and pages brought in."""

from __future__ import annotations

from starlette.routing import Route

from hilum.fhir.rest import FhirDoor
from hilum.security.audit import ReadLog
from hilum.settings import Configuration
from hilum.storage.store import Store

__all__ = ["routes"]


def routes(store: Store, configuration: Configuration, read_log: ReadLog) -> list[Route]:
    """Return everything under `/fhir`; `request.state.actor` says who asks, except for `metadata`."""
    return FhirDoor(store, configuration, read_log).routes()
