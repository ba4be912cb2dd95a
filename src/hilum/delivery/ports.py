"""What delivery needs of the doors: encoders that turn an event into bytes, senders that bring bytes to a receiver.

The doors implement these and `app` hands them over; delivery imports no door.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from hilum.core.event import Event
from hilum.core.order import Order, ScheduledStep
from hilum.core.patient import Patient
from hilum.core.report import Report, ReportVersion
from hilum.core.study import Study
from hilum.settings import Destination, Settings
from hilum.storage.deliveries import Delivery
from hilum.storage.messages import JournaledMessage


@dataclass(frozen=True, slots=True)
class EventContext:
    """An event with what it concerns, as committed. `patient` is the survivor of any merge."""

    event: Event
    patient: Patient | None = None
    order: Order | None = None
    steps: tuple[ScheduledStep, ...] = ()
    studies: tuple[Study, ...] = ()
    report: Report | None = None
    version: ReportVersion | None = None
    message: JournaledMessage | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """A body for one destination, made once so that every try sends the same bytes.

    `supersedes_key` is shared by versions of one thing (a report), of which a newer one replaces an unsent older one.
    """

    kind: str
    control_id: str
    body: bytes
    supersedes_key: str = ""


class SendOutcome(StrEnum):
    """How a try ended. `AMBIGUOUS`: it may have arrived; the next try sends the same bytes under the same ID.

    `PARTIAL`: all went well so far, and there is more; the next try goes on where this one ended.
    """

    ACCEPTED = "accepted"
    PARTIAL = "partial"
    TRANSIENT = "transient"
    AMBIGUOUS = "ambiguous"
    ERROR = "AE"
    REJECTED = "AR"


@dataclass(frozen=True, slots=True)
class Sent:
    """The end of a try, with a reason code (no patient data) and the receiver's answer."""

    outcome: SendOutcome
    reason: str = ""
    reply: bytes | None = None


class Encoder(Protocol):
    """Turns an event into the body for a destination, or None when there is nothing to say; pure."""

    def __call__(self, context: EventContext, destination: Destination, settings: Settings) -> Encoded | None: ...


class Sender(Protocol):
    """Brings bodies to receivers of one kind of destination; called from worker threads, one lane at a time."""

    def send(self, delivery: Delivery, destination: Destination) -> Sent:
        """Try once, within the destination's `ack_timeout`."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
