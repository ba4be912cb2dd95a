"""The verbs around one try to deliver: take the head of a lane, make a missing body, settle how the try ended.

The try itself happens between the transactions. Outcomes are transient, ambiguous or permanent; the first two wait
and send the same bytes under the same control ID again, the third counts until the destination's `give_up` and is then
a dead letter, which stops its lane until a person replays it or sets it aside, or a newer version supersedes it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from hilum.core.actor import Actor
from hilum.core.event import Event, EventName
from hilum.delivery.context import load_context
from hilum.delivery.ports import Encoder, EventContext, SendOutcome, Sent
from hilum.delivery.routing import KIND_LIMIT, UNMADE, make
from hilum.settings import Destination, Route, Settings
from hilum.storage.deliveries import Delivery
from hilum.storage.unit_of_work import UnitOfWork

log = logging.getLogger(__name__)

# Renewed while a send goes on, so that it only has to outlast a slow commit; after a kill it is what the lane waits.
LEASE_SECONDS = 6.0
JITTER = 0.1
TOO_OLD = "too-old"

# How the chain names what went over each kind of destination.
STANDARDS = {
    "hl7": "HL7", "dicom": "DICOM", "stow": "DICOMweb", "fhir": "FHIR", "webhook": "Webhook", "smtp": "SMTP",
    "file": "File", "s3": "S3",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TakeDelivery:
    """Take what is next for a destination."""

    destination: str
    holder: str


@dataclass(frozen=True, slots=True)
class MakeBody:
    """Make the body that the router could not make."""

    delivery: Delivery
    destination: Destination
    settings: Settings
    encoders: Mapping[str, Encoder]


@dataclass(frozen=True, slots=True)
class SettleTry:
    """A try ended. `chance` (0 to 1) spreads retries; `next_for` takes the destination's next delivery as well."""

    delivery: Delivery
    destination: Destination
    sent: Sent
    chance: float
    next_for: str | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """What a delivery is now, its age in seconds when it was accepted, and the one to send next.

    `state` is None when the try was no longer this worker's.
    """

    state: str | None
    seconds: float = 0.0
    next: Delivery | None = None


def take_delivery(uow: UnitOfWork, command: TakeDelivery, actor: Actor) -> Delivery | None:
    """Lease the lane of a destination that has been ready the longest, and return its head."""
    return uow.deliveries.take(command.destination, command.holder, LEASE_SECONDS)


@dataclass(frozen=True, slots=True)
class RenewLeases:
    """Keep the lanes whose deliveries are on their way."""

    delivery_ids: Sequence[str]
    holder: str


def renew_leases(uow: UnitOfWork, command: RenewLeases, actor: Actor) -> None:
    """Give a worker more time for sends that are still going on."""
    uow.deliveries.renew(command.delivery_ids, command.holder, LEASE_SECONDS)


def make_body(uow: UnitOfWork, command: MakeBody, actor: Actor) -> Delivery | None:
    """Make the body of a delivery that has none; None when that settled it: still impossible, or nothing to say."""
    delivery = command.delivery
    context = load_context(uow, uow.deliveries.event(delivery.event_id))
    new = make(uow, context, command.destination, command.settings, command.encoders, _routes_of(context, command))
    if new is None:
        uow.deliveries.settle(delivery, state="superseded", reason="nothing-to-say")
        return None
    if not new.body:
        uow.deliveries.settle(delivery, state="dead", reason=new.reason or "empty")
        return None
    uow.deliveries.make_body(delivery.id, new)
    return replace(delivery, kind=new.kind, control_id=new.control_id, body=new.body)


def _routes_of(context: EventContext, command: MakeBody) -> list[Route]:
    """The routes that lead the event here: what a person lets go on goes whatever their conditions say."""
    event = context.event.name.value
    send = next((send for send, kind in UNMADE.items() if kind == command.delivery.kind), "event")
    routes = [
        route
        for route in command.settings.route
        if route.on == event and command.destination.name in route.to and route.send == send
    ]
    return routes or [Route.model_validate({"on": event, "to": [command.destination.name], "send": send})]


def settle_try(uow: UnitOfWork, command: SettleTry, actor: Actor) -> Settled:
    """Store how a try ended; an accepted report is a `ResultDelivered` from this moment."""
    state, seconds = _settle(uow, command)
    following = None
    if command.next_for is not None:
        following = uow.deliveries.take(command.destination.name, command.next_for, LEASE_SECONDS)
    return Settled(state, seconds, following)


def _settle(uow: UnitOfWork, command: SettleTry) -> tuple[str | None, float]:
    delivery, sent, destination = command.delivery, command.sent, command.destination
    if sent.outcome is SendOutcome.ACCEPTED:
        state = uow.deliveries.settle(delivery, state="delivered", reason=sent.reason, reply=sent.reply)
        if state is None:
            return None, 0.0
        event = uow.deliveries.event(delivery.event_id)
        _tell(uow, event, delivery, destination)
        return state, (uow.now - event.at).total_seconds()
    if sent.outcome is SendOutcome.PARTIAL:
        state = uow.deliveries.settle(delivery, state="waiting", retry_at=uow.now, reason=sent.reason)
        return state, 0.0
    give_up = {SendOutcome.ERROR: destination.give_up.AE, SendOutcome.REJECTED: destination.give_up.AR}
    refused = sent.outcome in give_up
    reason = sent.reason or sent.outcome.value
    if refused and delivery.refusals + 1 >= give_up[sent.outcome]:
        state = uow.deliveries.settle(delivery, state="dead", reason=reason, refused=True, reply=sent.reply)
        return state, 0.0
    if _is_too_old(uow, command):
        state = uow.deliveries.settle(delivery, state="dead", reason=TOO_OLD, refused=refused, reply=sent.reply)
        return state, 0.0
    tries = delivery.refusals + 1 if refused else delivery.attempts
    pause = retry_pause(destination, tries, command.chance)
    retry_at = uow.now + timedelta(seconds=pause)
    state = uow.deliveries.settle(
        delivery, state="waiting", retry_at=retry_at, reason=reason, refused=refused, reply=sent.reply
    )
    return state, 0.0


def _is_too_old(uow: UnitOfWork, command: SettleTry) -> bool:
    """Whether a person is to decide if it still makes sense to send it; what a person let go on is tried once more."""
    hours = command.destination.maximum_age
    if not hours:
        return False
    return uow.now - uow.deliveries.event(command.delivery.event_id).at > timedelta(hours=hours)


def retry_pause(destination: Destination, tries: int, chance: float) -> float:
    """Return the seconds before the next try: `retry_first`, doubled with each, up to `retry_max`, a little spread."""
    pause = destination.retry_first * 2.0 ** min(max(tries - 1, 0), 40)
    return min(pause * (1 + JITTER * chance), destination.retry_max)


def _tell(uow: UnitOfWork, event: Event, delivery: Delivery, destination: Destination) -> None:
    """Record that a result arrived at its receiver. That a person has seen it is another thing."""
    if event.name is not EventName.REPORT_SIGNED:
        return
    label = STANDARDS[destination.kind]
    kind = delivery.kind if delivery.kind.startswith(label) else f"{label} {delivery.kind}"
    uow.emit(
        EventName.RESULT_DELIVERED,
        patient_id=event.patient_id,
        order_id=event.order_id,
        report_id=event.report_id,
        report_version=event.report_version,
        standard=kind[:KIND_LIMIT],
        peer=destination.name,
        details={"delivery": delivery.id, "attempts": delivery.attempts},
    )
