"""What a message or an image would set off, found by doing it and undoing it: which routes match, and what would leave.

The work runs in a savepoint that is always rolled back; nothing of it is kept, sent or numbered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hilum.core.actor import Actor
from hilum.core.event import Event
from hilum.delivery.context import load_context
from hilum.delivery.ports import Encoder, EventContext
from hilum.delivery.routing import make, ways_of
from hilum.delivery.rules import Rules
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.settings import Settings
from hilum.storage.store import Verb
from hilum.storage.unit_of_work import UnitOfWork


@dataclass(frozen=True, slots=True)
class Rehearse:
    """Verbs with their commands, in order, each in the name of `actor`; and the routes as they stand."""

    steps: Sequence[tuple[Verb[Any, Any], Any]]
    actor: Actor
    settings: Settings
    rules: Rules
    encoders: Mapping[str, Encoder]


@dataclass(frozen=True, slots=True)
class Departure:
    """What would go to one destination: as what kind, or why it would wait for a person."""

    destination: str
    kind: str
    state: str
    reason: str
    routes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """One event that would happen, and what would leave because of it."""

    event: str
    departures: tuple[Departure, ...]


class _Undone(Exception):
    """Carries what was found out of the savepoint."""

    def __init__(self, found: list[Rehearsed], results: list[Any]) -> None:
        super().__init__()
        self.found, self.results = found, results


def rehearse(uow: UnitOfWork, command: Rehearse, actor: Actor) -> tuple[list[Rehearsed], list[Any]]:
    """Return the events that the steps would raise, with what would leave, and what each step would return."""
    permit(uow, actor, Action.READ_QUEUE)
    try:
        uow.attempt(lambda: _play(uow, command))
    except _Undone as undone:
        return undone.found, undone.results
    raise AssertionError("unreachable")


def _play(uow: UnitOfWork, command: Rehearse) -> None:
    mark = uow.mark()
    results = [verb(uow, each, command.actor) for verb, each in command.steps]
    raise _Undone([_route(uow, event, command) for event in uow.events_since(mark)], results)


def _route(uow: UnitOfWork, event: Event, command: Rehearse) -> Rehearsed:
    if not command.rules.on(event.name):
        return Rehearsed(event.name.value, ())
    context = load_context(uow, event)
    return Rehearsed(event.name.value, tuple(_departures(uow, context, command)))


def _departures(uow: UnitOfWork, context: EventContext, command: Rehearse) -> list[Departure]:
    found = []
    for (name, _), way in ways_of(context, command.rules).items():
        destination = command.settings.destination_named(name)
        if destination is None:
            continue
        numbers = tuple(command.settings.route.index(route) for route in way.routes)
        if way.failed:
            found.append(Departure(name, destination.kind, "parked", "condition-failed", numbers))
            continue
        new = make(uow, context, destination, command.settings, command.encoders, way.routes)
        if new is None:
            found.append(Departure(name, destination.kind, "nothing", "nothing-to-say", numbers))
        else:
            found.append(Departure(name, f"{destination.kind} {new.kind}", new.state, new.reason, numbers))
    return found
