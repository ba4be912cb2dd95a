"""What `hilum check` says of clocks: how far those of HL7 senders are from ours, by the time in their latest messages.

A message also takes its time to come, so a sender's clock is measured by the quickest of its latest messages; one that
only ever sends again what is old looks late.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from hilum.cli.findings import Finding
from hilum.core.errors import HilumError
from hilum.hl7.ack import header_of
from hilum.hl7.profiles import profile_of
from hilum.hl7.timestamps import timestamp_from_hl7
from hilum.settings import Settings
from hilum.storage.journal import latest_arrivals
from hilum.storage.store import Store

MOST_SKEW = timedelta(seconds=60)
LOOKED_AT = 500


def clock_findings(store: Store, settings: Settings) -> Iterator[Finding]:
    """Compare MSH-7 of the latest messages with when they came."""
    skews: dict[str, timedelta] = {}
    with store.read() as db:
        for arrival in latest_arrivals(db, LOOKED_AT):
            said = _said(arrival.head, profile_of(settings, arrival.sender).zone)
            if said is None:
                continue
            off = arrival.received_at - said
            known = skews.get(arrival.sender)
            if known is None or abs(off) < abs(known):
                skews[arrival.sender] = off
    for sender, off in sorted(skews.items()):
        if abs(off) > MOST_SKEW:
            seconds, which = int(abs(off).total_seconds()), "behind" if off > timedelta() else "ahead of"
            yield Finding(
                "warning", f"The clock of {sender} is {seconds} s {which} ours, by MSH-7 of its latest messages."
            )


def _said(head: bytes, zone: ZoneInfo) -> datetime | None:
    """MSH-7 in UTC; None where there is none that can be read."""
    header = header_of(head)
    if header is None or not header.get("MSH-7"):
        return None
    try:
        return timestamp_from_hl7(header.get("MSH-7"), zone)
    except HilumError:
        return None
