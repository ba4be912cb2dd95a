"""Who calls: the actor of an association, and what the settings say of the AE title it came under."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

from hilum.core.actor import Actor, ActorKind, Door, Role
from hilum.dicom.dimse.dispatch import AssociationContext
from hilum.security.policy import Action
from hilum.settings import Settings


@dataclass(frozen=True, slots=True)
class Caller:
    """The other end of an association. `charset` is empty unless the settings name one for it."""

    actor: Actor
    ae_title: str
    issuer: str
    zone: tzinfo
    charset: str | None

    def local(self, moment: datetime) -> datetime:
        """Return a moment in the caller's time zone."""
        return moment.astimezone(self.zone)

    def utc(self, local: datetime, offset: str = "") -> datetime:
        """Return a local time of the caller in UTC; `offset` is its Timezone Offset From UTC (0008,0201), if any."""
        return local.replace(tzinfo=offset_of(offset) or self.zone).astimezone(UTC)


def caller_of(context: AssociationContext, settings: Settings) -> Caller:
    """Return who calls on an association."""
    title = context.calling_ae_title
    peer = settings.dicom.peer_named(title)
    named = peer is not None and "charset" in peer.model_fields_set
    return Caller(
        actor=context.peer.person
        or Actor(
            title,
            Role.SERVICE,
            ActorKind.PEER,
            Door.DIMSE,
            address=context.peer.address[0],
            entrusted=frozenset({Action.REJECT_IMAGES}) if peer and peer.may_reject else frozenset(),
        ),
        ae_title=title,
        issuer=(peer.issuer if peer else "") or settings.facility.default_authority,
        zone=ZoneInfo((peer.zone if peer else "") or settings.facility.zone),
        charset=peer.charset if peer is not None and named else None,
    )


def offset_of(text: str) -> tzinfo | None:
    """Read an offset as "+0100"; None for what is none."""
    if len(text) != 5 or text[0] not in "+-" or not text[1:].isdigit():
        return None
    minutes = int(text[1:3]) * 60 + int(text[3:])
    return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes)) if minutes <= 14 * 60 else None
