"""The chain of one order: which links are proven, when, by whom, and how long each took."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hilum.core.event import Event, EventName
from hilum.core.links import LINK_OF_EVENT, Link

# What an event did, in words for `hilum trace` and the order page.
WHAT = {
    EventName.PATIENT_REGISTERED: "patient registered",
    EventName.PATIENT_UPDATED: "patient updated",
    EventName.PATIENTS_MERGED: "patients merged",
    EventName.PATIENTS_UNMERGED: "merge undone",
    EventName.PRIORS_CHECKED: "priors checked",
    EventName.ORDER_PLACED: "order placed",
    EventName.ORDER_CHANGED: "order changed",
    EventName.ORDER_CANCELLED: "order cancelled",
    EventName.ORDER_DISCONTINUED: "order discontinued",
    EventName.STEP_SCHEDULED: "step scheduled",
    EventName.WORKLIST_SERVED: "step shown to the modality",
    EventName.EXAM_STARTED: "exam started",
    EventName.EXAM_ENDED: "exam ended",
    EventName.IMAGES_ARRIVED: "images arrived",
    EventName.STUDY_MATCHED: "images matched",
    EventName.STUDY_REASSIGNED: "images reassigned",
    EventName.STUDY_COMPLETED: "study complete",
    EventName.READING_STARTED: "reading started",
    EventName.REPORT_SIGNED: "report signed",
    EventName.RESULT_DELIVERED: "result delivered",
}


@dataclass(frozen=True, slots=True)
class ChainEvent:
    """An event as a step of the chain."""

    link: Link
    event: Event

    @property
    def what(self) -> str:
        """What happened, in a few words."""
        status = self.event.details.get("status") if self.event.name in _WITH_STATUS else None
        return WHAT[self.event.name] + (f" ({str(status).lower()})" if status else "")


_WITH_STATUS = frozenset({EventName.EXAM_ENDED, EventName.REPORT_SIGNED, EventName.RESULT_DELIVERED})


@dataclass(frozen=True, slots=True)
class ChainLink:
    """One link: the events that prove it, oldest first, and the time since the link before it."""

    link: Link
    events: tuple[ChainEvent, ...]
    gap: timedelta | None

    @property
    def at(self) -> datetime | None:
        """When the link was first proven (UTC), or None while it is missing."""
        return self.events[0].event.at if self.events else None


def chain_of(events: Iterable[Event]) -> list[ChainLink]:
    """Return the ten links of an order from its events, in the order of the chain; a missing link has no events."""
    proven: dict[Link, list[ChainEvent]] = {link: [] for link in Link}
    for event in sorted(events, key=lambda event: (event.at, event.id)):
        link = LINK_OF_EVENT.get(event.name)
        if link is not None:
            proven[link].append(ChainEvent(link, event))
    chain: list[ChainLink] = []
    before: datetime | None = None
    for link, found in proven.items():
        at = found[0].event.at if found else None
        chain.append(ChainLink(link, tuple(found), at - before if at and before else None))
        before = at or before
    return chain


def chain_as_rows(chain: list[ChainLink]) -> list[dict[str, Any]]:
    """Return a chain as plain rows, for JSON."""
    return [
        {
            "number": int(link.link),
            "link": link.link.title,
            "at": link.at.isoformat() if link.at else None,
            "gap_seconds": link.gap.total_seconds() if link.gap is not None else None,
            "standard": link.events[0].event.standard if link.events else None,
            "peer": link.events[0].event.peer if link.events else None,
            "what": link.events[0].what if link.events else "missing",
            "events": [
                {
                    "at": each.event.at.isoformat(),
                    "name": each.event.name.value,
                    "standard": each.event.standard,
                    "peer": each.event.peer,
                    "what": each.what,
                }
                for each in link.events
            ],
        }
        for link in chain
    ]
