"""The router's verb: give events their positions and put what is to leave into lanes, in one transaction.

Nothing is dropped. What cannot be encoded becomes a dead letter at its place in the lane; what a condition could not
decide is set aside on the operator's list without holding the lane up. Both are made again when they are replayed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hilum.core.actor import Actor
from hilum.core.errors import HilumError
from hilum.core.event import Event, EventName
from hilum.delivery.context import load_context
from hilum.delivery.images import IMAGE_KINDS, OF_IMAGES, PRIORS, image_delivery, prior_delivery
from hilum.delivery.ports import Encoder, EventContext
from hilum.delivery.rules import ConditionFailed, Rules, values_of
from hilum.settings import Destination, Route, Settings
from hilum.storage.deliveries import NewDelivery
from hilum.storage.leases import TakeLease, take_lease
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.inbound import APPLIED

log = logging.getLogger(__name__)

ROUTER_LEASE = "router"
# The lease is checked in the same transaction that routes, so it may be short: it only saves the others the work.
LEASE_SECONDS = 3.0
BATCH = 64
# The kinds of deliveries whose body could not be made yet, and from what it is to be made.
UNMADE_EVENT, UNMADE_RAW = "unmade event", "unmade raw"
UNMADE = {"event": UNMADE_EVENT, "raw": UNMADE_RAW, **{send: f"unmade {send}" for send in sorted(OF_IMAGES)}}
KIND_LIMIT = 40


@dataclass(frozen=True, slots=True)
class RouteEvents:
    """Route what waits, by these routes and encoders."""

    holder: str
    settings: Settings
    rules: Rules
    encoders: Mapping[str, Encoder]


@dataclass(frozen=True, slots=True)
class Routed:
    """What a run of the router did; `held` is false where another process is the router now."""

    held: bool
    events: int = 0
    deliveries: int = 0
    failures: int = 0


def route_events(uow: UnitOfWork, command: RouteEvents, actor: Actor) -> Routed:
    """Route up to a batch of events, unless another holds the router's lease."""
    if not take_lease(uow, TakeLease(ROUTER_LEASE, command.holder, LEASE_SECONDS), actor):
        return Routed(held=False)
    events = uow.deliveries.unrouted(BATCH)
    if not events:
        return Routed(held=True)
    positions = uow.deliveries.place(events)
    deliveries = failures = 0
    for event in events:
        if event.name is EventName.PATIENTS_MERGED and event.patient_id:
            uow.deliveries.join_lanes(str(event.details.get("subsumed", "")), event.patient_id)
        for made in _made_of(uow, event, command) if command.rules.on(event.name) else ():
            _enqueue(uow, event, positions[event.id], made)
            deliveries += 1
            failures += made.new.state != "waiting"
    return Routed(True, len(events), deliveries, failures)


@dataclass(frozen=True, slots=True)
class _Made:
    """A delivery, its destination and the lane's subject there."""

    destination: str
    subject: str
    patient_id: str | None
    new: NewDelivery


def _made_of(uow: UnitOfWork, event: Event, command: RouteEvents) -> list[_Made]:
    """Return what an event becomes; where even its context cannot be loaded, a dead letter for each way it might go."""
    try:
        return uow.attempt_inner(lambda: _deliveries_of(uow, event, command))
    except HilumError:
        subject = event.patient_id or event.study_id or event.message_id or event.id
        ways = {name: rule.route.send for rule in command.rules.on(event.name) for name in rule.route.to}
        return [_Made(name, subject, None, unmade("dead", "not-loaded", send)) for name, send in ways.items()]


def _deliveries_of(uow: UnitOfWork, event: Event, command: RouteEvents) -> list[_Made]:
    context = load_context(uow, event)
    survivor = context.patient.id if context.patient else None
    made: list[_Made] = []
    for (name, _), way in ways_of(context, command.rules).items():
        destination = command.settings.destination_named(name)
        if destination is None:
            continue
        if way.failed:
            new: NewDelivery | None = unmade("parked", "condition-failed", way.send)
        else:
            new = make(uow, context, destination, command.settings, command.encoders, way.routes)
        if new is not None:
            made.append(_Made(name, _subject(context), survivor, new))
    return made


@dataclass(frozen=True, slots=True)
class Way:
    """The routes that lead an event to one destination; `failed` where no condition could be decided."""

    routes: tuple[Route, ...]
    failed: bool = False

    @property
    def send(self) -> str:
        """What the first of them sends."""
        return self.routes[0].send


def ways_of(context: EventContext, rules: Rules) -> dict[tuple[str, str], Way]:
    """Return where an event goes, by destination and what of it; those that are decided come first."""
    values = values_of(context)
    decided: dict[tuple[str, str], list[Route]] = {}
    undecided: dict[tuple[str, str], list[Route]] = {}
    for rule in rules.on(context.event.name):
        failed = False
        try:
            holds = rule.holds(values)
        except ConditionFailed:
            log.error("the condition of a route failed", extra=_named(context.event, ",".join(rule.route.to)))
            holds = failed = True
        if holds:
            # A message as such and what it tells are the same thing said twice, availability and images are not.
            what = rule.route.send if rule.route.send in OF_IMAGES else ""
            for name in rule.route.to:
                (undecided if failed else decided).setdefault((name, what), []).append(rule.route)
    ways = {key: Way(tuple(routes)) for key, routes in decided.items()}
    return ways | {key: Way(tuple(routes), True) for key, routes in undecided.items() if key not in ways}


def make(
    uow: UnitOfWork,
    context: EventContext,
    destination: Destination,
    settings: Settings,
    encoders: Mapping[str, Encoder],
    routes: Sequence[Route],
) -> NewDelivery | None:
    """Encode an event for where `routes` lead; None where there is nothing to say, a dead letter where it can't be."""
    send = routes[0].send
    if send == "raw":
        return _raw(context)
    if send == PRIORS:
        return prior_delivery(uow, context, settings, routes)
    if destination.kind in IMAGE_KINDS:
        return image_delivery(context, destination, routes)
    encoder = encoders.get(destination.kind)
    if encoder is None:
        return unmade("dead", "no-encoder", send)
    try:
        encoded = encoder(context, destination, settings)
    except Exception as error:  # the edge: one event must not stop all that come after it
        log.error("an event could not be encoded", extra=_named(context.event, destination.name), exc_info=error)
        return unmade("dead", "not-encoded", send)
    if encoded is None:
        return None
    return NewDelivery(encoded.kind[:KIND_LIMIT], encoded.control_id, encoded.body, encoded.supersedes_key)


def _raw(context: EventContext) -> NewDelivery | None:
    """A received message byte for byte. One that was refused is not handed on: its sender knows, and sends it again."""
    message = context.message
    if message is None or context.event.details.get("outcome") != APPLIED:
        return None
    return NewDelivery(message.kind, message.control_id, message.raw)


def unmade(state: str, reason: str, send: str) -> NewDelivery:
    """A delivery without a body: "dead" stops its lane, "parked" does not; its body is made when it is replayed."""
    return NewDelivery(UNMADE.get(send, UNMADE_EVENT), "", b"", "", state, reason)


def _named(event: Event, destination: str) -> dict[str, str]:
    return {"event_name": event.name.value, "event_id": event.id, "destination": destination}


def _subject(context: EventContext) -> str:
    """Return what the lane is of: the patient, else the study, else the message, else the event alone."""
    event = context.event
    if context.patient is not None:
        return context.patient.id
    return event.study_id or event.message_id or event.id


def _enqueue(uow: UnitOfWork, event: Event, position: int, made: _Made) -> None:
    if made.patient_id is not None and event.patient_id not in (None, made.patient_id):
        # Merged in the meantime: the lane of the merged patient must not be overtaken.
        uow.deliveries.join_lanes(str(event.patient_id), made.patient_id)
    lane_id = uow.deliveries.lane(made.destination, made.subject)
    uow.deliveries.enqueue(lane_id, event, position, made.new)
