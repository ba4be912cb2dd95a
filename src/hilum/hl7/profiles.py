"""Who may send, and how the messages of one sender are read: a profile is a peer's setting with its defaults filled in.

A sender is known by MSH-3|MSH-4, and by its host where its setting names one. Anyone else is refused, unless unknown
senders on this machine are let in by `accept_unknown = "loopback"`.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from hilum.core.errors import Forbidden, HilumError, Unavailable
from hilum.hl7.er7 import Message, Segment, Segments
from hilum.hl7.hosts import plain_ip
from hilum.hl7.timestamps import timestamp_from_hl7
from hilum.security.certificates import PeerCertificate, agrees
from hilum.settings import Hl7Peer, Settings
from hilum.workflow.source import Source

# How far a sender's clock (or a wrong zone) may run ahead of ours before its times are not believed.
CLOCK_AHEAD = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Profile:
    """How one sender's messages are read and answered.

    `authority` assigns the identifiers that come without one, `zone` is that of times without an offset, and `peer` is
    the setting as it stands, with the sender's own places and codes.
    """

    name: str
    filler: Literal["auto", "hilum", "external"]
    authority: str
    zone: ZoneInfo
    charset: str
    answer: Literal["orr", "ack"]
    address: str
    known: bool
    certificate: str = ""
    peer: Hl7Peer = field(default_factory=lambda: Hl7Peer(name="-|"))


def profile_of(settings: Settings, name: str) -> Profile:
    """Return the profile of a sender, by its setting or, for one without, by the facility's."""
    peer = settings.hl7.peer_named(name)
    said = peer or Hl7Peer(name="-|")
    return Profile(
        name=name,
        filler=said.filler,
        authority=said.authority or settings.facility.default_authority,
        zone=ZoneInfo(said.zone or settings.facility.zone),
        charset=said.charset,
        answer=said.answer,
        address=said.address,
        known=peer is not None,
        certificate=said.certificate,
        peer=said,
    )


def require_admission(
    settings: Settings,
    profile: Profile,
    host: str,
    allowed_hosts: frozenset[str] | None,
    certificate: PeerCertificate | None = None,
) -> None:
    """Raise `Forbidden` unless a sender may send from `host`.

    `allowed_hosts` is where its setting says it is: empty for anywhere, None where that can't be told at the moment.
    """
    if profile.known:
        if allowed_hosts is None:
            raise Unavailable("The address of this sender cannot be looked up.", field="MSH-3")
        if allowed_hosts and plain_ip(host) not in allowed_hosts:
            raise Forbidden("This sender is configured for another address.", field="MSH-3")
        if not agrees(profile.certificate, certificate):
            raise Forbidden("This sender is configured for another certificate.", field="MSH-3")
        return
    if settings.hl7.accept_unknown != "loopback" or not is_loopback(host):
        raise Forbidden("This sender is not configured here.", field="MSH-3")


def is_loopback(host: str) -> bool:
    """Tell whether an IP address is of this machine."""
    try:
        return ipaddress.ip_address(plain_ip(host)).is_loopback
    except ValueError:
        return False


class Incoming:
    """A message as it came from an admitted sender, with what is needed to read it and to say where it is wrong."""

    __slots__ = ("_occurrences", "message", "profile", "received_at")

    def __init__(self, message: Message, profile: Profile, received_at: datetime) -> None:
        self.message = message
        self.profile = profile
        self.received_at = received_at
        counts: dict[str, int] = {}
        self._occurrences: dict[int, int] = {}
        for segment in message:
            counts[segment.name] = counts.get(segment.name, 0) + 1
            self._occurrences[id(segment)] = counts[segment.name]

    @property
    def kind(self) -> str:
        """MSH-9.1^MSH-9.2, as in `ORM^O01`."""
        return f"{self.message.type}^{self.message.trigger}"

    @property
    def source(self) -> Source:
        """Where commands made from this message come from; the journal's id is added when they are applied."""
        return Source(f"HL7 {self.kind}", self.profile.name)

    def place(self, segment: Segment, field: str | int = "") -> str:
        """The path of a field for an error: `OBR[2]-4`, or `OBR[2]` for the segment."""
        number = self._occurrences[id(segment)]
        name = segment.name if number == 1 else f"{segment.name}[{number}]"
        return f"{name}-{field}" if field else name

    def relocate(self, error: HilumError, group: Segments) -> None:
        """Make an error that a verb raised for `OBR-4` name the segment of this group: `OBR[2]-4`."""
        name, dash, rest = (error.field or "").partition("-")
        segment = group.segment(name) if name else None
        if segment is not None:
            error.field = self.place(segment) + dash + rest

    def time(self, segment: Segment, field: int, component: int = 1) -> datetime | None:
        """A time in UTC, read in the sender's zone; None where the sender says nothing or deletes."""
        text = segment.get(field, component)
        if not text or text == '""':
            return None
        place = f"{field}.{component}" if component > 1 else field
        return timestamp_from_hl7(text, self.profile.zone, field=self.place(segment, place))

    def past(self, moment: datetime | None) -> datetime | None:
        """A time of something that has happened: one far ahead of our clock is taken as now.

        Else one message from a sender whose clock is years ahead would make all later ones stale.
        """
        if moment is not None and moment > self.received_at + CLOCK_AHEAD:
            return self.received_at
        return moment
