"""What `hilum check` says of clocks: how far those of peers are from ours, as far as they tell the time.

HL7 senders tell it in MSH-7 of their latest messages, modalities by the start of their latest exams (MPPS), and what
speaks HTTP (destinations, OpenID providers) in the `Date` of an answer, which is asked for here. What was sent also
took its time to come, so a sender's clock is measured by the quickest of its latest; one that only ever sends again
what is old looks late.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from hilum.cli.findings import Finding
from hilum.core.errors import HilumError
from hilum.hl7.ack import header_of
from hilum.hl7.profiles import profile_of
from hilum.hl7.timestamps import timestamp_from_hl7
from hilum.security.peer_clocks import HttpPeer, clocks_of
from hilum.settings import Destination, Settings
from hilum.storage.exams import latest_exams
from hilum.storage.journal import latest_arrivals
from hilum.storage.store import Store

MOST_SKEW = timedelta(seconds=60)
LOOKED_AT = 500
BY_MESSAGES = "MSH-7 of its latest messages"
BY_EXAMS = "the start of its latest exams (MPPS), unless it tells of them late"
BY_ANSWER = "the Date of its answer"


def clock_findings(store: Store, settings: Settings) -> Iterator[Finding]:
    """Name each peer whose clock is further from ours than `MOST_SKEW`."""
    yield from _named(_hl7_senders(store, settings), BY_MESSAGES)
    yield from _named(_modalities(store), BY_EXAMS)
    yield from _named(clocks_of(http_peers(settings)), BY_ANSWER)


def http_peers(settings: Settings) -> list[HttpPeer]:
    """Return who is asked for the time: destinations that speak HTTP, and the providers of identity."""
    within = settings.paths.within
    found = [
        HttpPeer(f'destination "{each.name}"', each.address, *(within(n) if n else None for n in _files(each)))
        for each in settings.destination
        if each.address.startswith(("https://", "http://"))
    ]
    for provider in settings.security.oidc:
        address = provider.issuer.rstrip("/") + "/.well-known/openid-configuration"
        ca = within(provider.ca) if provider.ca else None
        found.append(HttpPeer(f'OpenID provider "{provider.name}"', address, ca))
    return found


def _files(destination: Destination) -> tuple[str, str, str]:
    return destination.ca, destination.cert, destination.key


def _named(behind: Mapping[str, timedelta], by: str) -> Iterator[Finding]:
    for peer, off in sorted(behind.items()):
        if abs(off) > MOST_SKEW:
            seconds, which = int(abs(off).total_seconds()), "behind" if off > timedelta() else "ahead of"
            yield Finding("warning", f"The clock of {peer} is {seconds} s {which} ours, by {by}.")


def _hl7_senders(store: Store, settings: Settings) -> dict[str, timedelta]:
    quickest: dict[str, timedelta] = {}
    with store.read() as db:
        for arrival in latest_arrivals(db, LOOKED_AT):
            said = _said(arrival.head, profile_of(settings, arrival.sender).zone)
            if said is not None:
                _keep(quickest, arrival.sender, arrival.received_at - said)
    return quickest


def _modalities(store: Store) -> dict[str, timedelta]:
    quickest: dict[str, timedelta] = {}
    with store.read() as db:
        for exam in latest_exams(db, LOOKED_AT):
            _keep(quickest, exam.peer, exam.told_at - exam.started_at)
    return quickest


def _keep(quickest: dict[str, timedelta], peer: str, off: timedelta) -> None:
    known = quickest.get(peer)
    if known is None or abs(off) < abs(known):
        quickest[peer] = off


def _said(head: bytes, zone: ZoneInfo) -> datetime | None:
    """MSH-7 in UTC; None where there is none that can be read."""
    header = header_of(head)
    if header is None or not header.get("MSH-7"):
        return None
    try:
        return timestamp_from_hl7(header.get("MSH-7"), zone)
    except HilumError:
        return None
