"""Lanes and deliveries: what is to leave, in order per (destination, subject).

Locks are taken lane first, then its deliveries, so that router, workers and operators never wait for each other in a
circle. What a lane may do next is in `lane_rule`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from hilum.core.event import Event, EventName
from hilum.storage import tables
from hilum.storage.lane_rule import HEAD, LOCK_LANE, TAKE_LANE, apply_rule, set_lane

if TYPE_CHECKING:
    from hilum.storage.unit_of_work import UnitOfWork

_event = tables.event
_lane = tables.lane
_delivery = tables.delivery

_OF = sa.bindparam("of", type_=_delivery.c.id.type)
_STANDING: sa.Select[Any] = sa.select(
    _delivery.c.id,
    _delivery.c.lane_id,
    _delivery.c.state,
    _delivery.c.position,
    _delivery.c.attempts,
    _delivery.c.refusals,
    _delivery.c.supersedes_key,
).where(_delivery.c.id == _OF)
_TAKEN = (
    _delivery.update()
    .where(_delivery.c.id == _OF)
    .values(state="sending", attempts=sa.bindparam("to"), sent_at=sa.bindparam("now"))
)
_SETTLED = (
    _delivery.update()
    .where(_delivery.c.id == _OF)
    .values(
        state=sa.bindparam("to_state"),
        reason=sa.bindparam("to_reason"),
        reply=sa.bindparam("to_reply"),
        refusals=sa.bindparam("to_refusals"),
        delivered_at=sa.bindparam("to_delivered"),
    )
)

# States in which a delivery still has something ahead of it; a newer version may take its place in all but "sending".
UNSENT = ("waiting", "sending")
REPLACEABLE = ("waiting", "dead", "parked")


def event_from_row(row: sa.Row[Any]) -> Event:
    """Build an event from its row."""
    return Event(
        id=row.id,
        name=EventName(row.name),
        at=row.at,
        patient_id=row.patient_id,
        order_id=row.order_id,
        study_id=row.study_id,
        report_id=row.report_id,
        report_version=row.report_version,
        message_id=row.message_id,
        standard=row.standard,
        peer=row.peer,
        details=row.details,
    )


@dataclass(frozen=True, slots=True)
class Delivery:
    """One body for one destination. `refusals` counts the receiver's AE/AR answers, `attempts` every try.

    A body is empty where the router could not make it; the worker makes it before it sends.
    """

    id: str
    lane_id: str
    destination: str
    position: int
    event_id: str
    order_id: str | None
    kind: str
    control_id: str
    body: bytes
    attempts: int
    refusals: int


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """What the router puts into a lane; `state` is "waiting", or "dead" or "parked" with a reason code."""

    kind: str
    control_id: str
    body: bytes
    supersedes_key: str = ""
    state: str = "waiting"
    reason: str = ""


class Deliveries:
    """The outbound side of one transaction."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow
        self._db = uow.connection

    # The router

    def unrouted(self, limit: int) -> list[Event]:
        """Return events that have no position yet, in the order in which each patient's were written."""
        query = sa.select(_event).where(_event.c.position.is_(None)).order_by(_event.c.number).limit(limit)
        return [event_from_row(row) for row in self._db.execute(query)]

    def place(self, events: Sequence[Event]) -> dict[str, int]:
        """Give events the next positions, in the order given; return them by event id."""
        last = self._uow.next_number("position", len(events))
        positions = {event.id: last - len(events) + 1 + index for index, event in enumerate(events)}
        update = _event.update().where(_event.c.id == sa.bindparam("of")).values(position=sa.bindparam("to"))
        self._db.execute(update, [{"of": event_id, "to": to} for event_id, to in positions.items()])
        return positions

    def event(self, event_id: str) -> Event:
        """Return the event that a delivery came from."""
        return event_from_row(self._db.execute(sa.select(_event).where(_event.c.id == event_id)).one())

    def lane(self, destination: str, subject: str) -> str:
        """Return the lane of a destination and subject, following merges, made when it is new."""
        query = sa.select(_lane).where(_lane.c.destination == destination, _lane.c.subject == subject)
        row = self._db.execute(query).one_or_none()
        while row is not None and row.joined_into is not None:
            row = self._db.execute(sa.select(_lane).where(_lane.c.id == row.joined_into)).one()
        if row is not None:
            return str(row.id)
        lane_id = self._uow.new_id()
        self._db.execute(_lane.insert().values(id=lane_id, destination=destination, subject=subject, state="open"))
        return lane_id

    def join_lanes(self, subject: str, survivor: str) -> None:
        """Let everything of a merged patient wait in the survivor's lanes, in the order of positions; repeatable."""
        query = sa.select(_lane.c.id, _lane.c.destination).where(
            _lane.c.subject == subject, _lane.c.joined_into.is_(None)
        )
        for row in self._db.execute(query).all():
            target = self.lane(row.destination, survivor)
            if target != row.id:
                self._join(row.id, target)

    def _join(self, source_id: str, target_id: str) -> None:
        lanes = {lane_id: self.lock_lane(lane_id) for lane_id in sorted((source_id, target_id))}
        self._db.execute(_delivery.update().where(_delivery.c.lane_id == source_id).values(lane_id=target_id))
        self._db.execute(
            _lane.update()
            .where(_lane.c.id == source_id)
            .values(joined_into=target_id, state="open", ready_at=None, lease_by=None)
        )
        # What was joined into the source before leads straight to the target from now on.
        self._db.execute(_lane.update().where(_lane.c.joined_into == source_id).values(joined_into=target_id))
        columns = _joined(lanes[source_id], lanes[target_id])
        self._db.execute(_lane.update().where(_lane.c.id == target_id).values(**columns))

    def enqueue(self, lane_id: str, event: Event, position: int, new: NewDelivery) -> str:
        """Put a body at the end of a lane and return its id.

        An older one of the same key that is not on its way is superseded, also when it is a dead letter: the newer
        version says all that the older one did, so the lane need not wait for a person any more.
        """
        lane = self.lock_lane(lane_id)
        superseded = self._supersede_older(lane_id, new.supersedes_key, position) if new.supersedes_key else 0
        delivery_id = self._uow.new_id()
        self._db.execute(
            _delivery.insert().values(
                id=delivery_id,
                lane_id=lane_id,
                position=position,
                event_id=event.id,
                order_id=event.order_id,
                kind=new.kind,
                supersedes_key=new.supersedes_key,
                control_id=new.control_id,
                body=new.body,
                state=new.state,
                attempts=0,
                refusals=0,
                reason=new.reason,
                created_at=self._uow.now,
            )
        )
        if superseded or new.state == "dead" or (lane.ready_at is None and lane.state == "open"):
            self.refresh(lane_id)
        return delivery_id

    def _supersede_older(self, lane_id: str, key: str, position: int) -> int:
        changed = self._db.execute(
            _delivery.update()
            .where(
                _delivery.c.lane_id == lane_id,
                _delivery.c.state.in_(REPLACEABLE),
                _delivery.c.supersedes_key == key,
                _delivery.c.position < position,
            )
            .values(state="superseded")
        )
        return int(changed.rowcount)

    # The workers

    def take(self, destination: str, holder: str, lease_seconds: float) -> Delivery | None:
        """Lease the lane of a destination that has been ready the longest; return the delivery at its head."""
        now = self._uow.now
        while (found := self._db.execute(TAKE_LANE, {"destination": destination, "now": now}).first()) is not None:
            row = self._db.execute(HEAD, {"of": found.id}).one_or_none()
            if row is None:
                self.refresh(found.id)
                continue
            set_lane(self._db, found.id, "open", now + timedelta(seconds=lease_seconds), holder)
            self._db.execute(_TAKEN, {"of": row.id, "to": row.attempts + 1, "now": now})
            return _delivery_from_row(row, destination, row.attempts + 1)
        return None

    def lock_delivery(self, delivery_id: str) -> sa.Row[Any] | None:
        """Lock the lane of a delivery, then return where the delivery stands now."""
        row = self._db.execute(_STANDING, {"of": delivery_id}).one_or_none()
        while row is not None and self._uow.on_postgresql:
            self.lock_lane(row.lane_id)
            again = self._db.execute(_STANDING, {"of": delivery_id}).one()
            if again.lane_id == row.lane_id:
                return again
            row = again
        return row

    def make_body(self, delivery_id: str, new: NewDelivery) -> None:
        """Store the body that could not be made before."""
        self._db.execute(
            _delivery.update()
            .where(_delivery.c.id == delivery_id)
            .values(kind=new.kind, control_id=new.control_id, body=new.body, supersedes_key=new.supersedes_key)
        )

    def settle(
        self,
        delivery: Delivery,
        *,
        state: str,
        retry_at: datetime | None = None,
        reason: str = "",
        refused: bool = False,
        reply: bytes | None = None,
    ) -> str | None:
        """Store how a try ended and give the lane back; return the state that the delivery is in now.

        None when the try is no longer this worker's: its lease ran out and another has taken the delivery since. A
        delivery that would wait for another try, or for a person, is superseded when a newer version is behind it.
        """
        row = self.lock_delivery(delivery.id)
        if row is None or row.state != "sending" or row.attempts != delivery.attempts:
            return None
        if state in REPLACEABLE and row.supersedes_key and self._has_newer(row):
            state, retry_at = "superseded", None
        settled = {
            "of": row.id,
            "to_state": state,
            "to_reason": reason,
            "to_reply": reply,
            "to_refusals": row.refusals + (1 if refused else 0),
            "to_delivered": self._uow.now if state == "delivered" else None,
        }
        self._db.execute(_SETTLED, settled)
        apply_rule(self._db, row.lane_id, self._uow.now, given_back=True, retry_at=retry_at)
        return state

    def renew(self, delivery_ids: Sequence[str], holder: str, seconds: float) -> None:
        """Prolong the leases of lanes whose deliveries are on their way."""
        lanes = sa.select(_delivery.c.lane_id).where(_delivery.c.id.in_(delivery_ids), _delivery.c.state == "sending")
        self._db.execute(
            _lane.update()
            .where(_lane.c.id.in_(lanes), _lane.c.lease_by == holder, _lane.c.ready_at.is_not(None))
            .values(ready_at=self._uow.now + timedelta(seconds=seconds))
        )

    def _has_newer(self, row: sa.Row[Any]) -> bool:
        query = sa.select(_delivery.c.id).where(
            _delivery.c.lane_id == row.lane_id,
            _delivery.c.state.in_((*UNSENT, "delivered", "dead")),
            _delivery.c.supersedes_key == row.supersedes_key,
            _delivery.c.position > row.position,
        )
        return self._db.execute(query.limit(1)).scalar() is not None

    # Every lane's one rule

    def lock_lane(self, lane_id: str) -> sa.Row[Any]:
        """Return a lane, locked until the commit."""
        return self._db.execute(LOCK_LANE, {"of": lane_id}).one()

    def refresh(self, lane_id: str) -> None:
        """Set what a lane does next from the deliveries in it; a lane that is leased stays so."""
        apply_rule(self._db, lane_id, self._uow.now)


def _delivery_from_row(row: sa.Row[Any], destination: str, attempts: int) -> Delivery:
    return Delivery(
        row.id,
        row.lane_id,
        destination,
        row.position,
        row.event_id,
        row.order_id,
        row.kind,
        row.control_id,
        row.body,
        attempts,
        row.refusals,
    )


def _joined(source: sa.Row[Any], target: sa.Row[Any]) -> dict[str, Any]:
    """What a lane does after another was joined into it: the stricter of both."""
    leased = [lane for lane in (source, target) if lane.lease_by is not None and lane.ready_at is not None]
    states = {source.state, target.state}
    state = next(state for state in ("parked", "blocked", "retrying", "open") if state in states)
    times = [lane.ready_at for lane in leased or (source, target) if lane.ready_at is not None]
    # Until the last lease ends, or the later of two retries is due, nothing more of either leaves.
    ready_at = max(times, default=None) if state in ("open", "retrying") else None
    return {"state": state, "ready_at": ready_at, "lease_by": leased[-1].lease_by if leased else None}
