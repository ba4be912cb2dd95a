"""Lanes and deliveries: what is to leave, in order per (destination, subject)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from hilum.core.event import Event, EventName
from hilum.storage import tables

if TYPE_CHECKING:
    from hilum.storage.unit_of_work import UnitOfWork

_event = tables.event
_lane = tables.lane
_delivery = tables.delivery


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
    """One body for one destination. `refusals` counts the receiver's AE/AR answers, `attempts` every try."""

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


class Deliveries:
    """The outbound side of one transaction."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow
        self._db = uow.connection

    # The router

    def unrouted(self, limit: int) -> list[Event]:
        """Return events that have no position yet, oldest first."""
        query = sa.select(_event).where(_event.c.position.is_(None)).order_by(_event.c.id).limit(limit)
        return [event_from_row(row) for row in self._db.execute(query)]

    def place(self, event_id: str) -> int:
        """Give an event the next position and return it."""
        position = self._uow.next_number("position")
        self._db.execute(_event.update().where(_event.c.id == event_id).values(position=position))
        return position

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
        """Let everything of a merged patient wait in the survivor's lanes, in the order of events."""
        query = sa.select(_lane).where(_lane.c.subject == subject, _lane.c.joined_into.is_(None))
        for row in self._db.execute(query).all():
            target = self.lane(row.destination, survivor)
            if target == row.id:
                continue
            self._db.execute(_delivery.update().where(_delivery.c.lane_id == row.id).values(lane_id=target))
            self._db.execute(_lane.update().where(_lane.c.id == row.id).values(joined_into=target))
            if row.state in ("blocked", "retrying"):
                self._db.execute(
                    _lane.update().where(_lane.c.id == target).values(state=row.state, next_at=row.next_at)
                )

    def enqueue(
        self,
        lane_id: str,
        event: Event,
        position: int,
        *,
        kind: str,
        control_id: str,
        body: bytes,
        supersedes_key: str,
    ) -> str:
        """Put a body at the end of a lane; an older one of the same key that was not tried yet is superseded."""
        if supersedes_key:
            self._db.execute(
                _delivery.update()
                .where(
                    _delivery.c.lane_id == lane_id,
                    _delivery.c.supersedes_key == supersedes_key,
                    _delivery.c.state == "waiting",
                    _delivery.c.attempts == 0,
                )
                .values(state="superseded", delivered_at=self._uow.now)
            )
        delivery_id = self._uow.new_id()
        self._db.execute(
            _delivery.insert().values(
                id=delivery_id,
                lane_id=lane_id,
                position=position,
                event_id=event.id,
                order_id=event.order_id,
                kind=kind,
                supersedes_key=supersedes_key,
                control_id=control_id,
                body=body,
                state="waiting",
                attempts=0,
                refusals=0,
                reason="",
                created_at=self._uow.now,
            )
        )
        return delivery_id

    # The workers

    def take(self, destinations: Sequence[str], holder: str, lease_seconds: float) -> Delivery | None:
        """Lease a lane whose turn it is and return the delivery at its head."""
        now = self._uow.now
        head = (
            sa.select(_delivery.c.lane_id)
            .where(_delivery.c.state.in_(("waiting", "sending")))
            .group_by(_delivery.c.lane_id)
            .order_by(sa.func.min(_delivery.c.position))
            .subquery()
        )
        query = (
            sa.select(_lane)
            .where(
                _lane.c.id.in_(sa.select(head.c.lane_id)),
                _lane.c.destination.in_(destinations),
                _lane.c.state.in_(("open", "retrying")),
                sa.or_(_lane.c.next_at.is_(None), _lane.c.next_at <= now),
                sa.or_(_lane.c.lease_until.is_(None), _lane.c.lease_until < now),
            )
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        lane = self._db.execute(query).first()
        if lane is None:
            return None
        self._db.execute(
            _lane.update()
            .where(_lane.c.id == lane.id)
            .values(lease_by=holder, lease_until=now + timedelta(seconds=lease_seconds))
        )
        return self._head(lane)

    def _head(self, lane: sa.Row[Any]) -> Delivery | None:
        query = (
            sa.select(_delivery)
            .where(_delivery.c.lane_id == lane.id, _delivery.c.state.in_(("waiting", "sending")))
            .order_by(_delivery.c.position, _delivery.c.id)
            .limit(1)
        )
        row = self._db.execute(query).first()
        if row is None:
            return None
        self._db.execute(
            _delivery.update()
            .where(_delivery.c.id == row.id)
            .values(state="sending", attempts=_delivery.c.attempts + 1, sent_at=self._uow.now)
        )
        return Delivery(
            row.id,
            lane.id,
            lane.destination,
            row.position,
            row.event_id,
            row.order_id,
            row.kind,
            row.control_id,
            row.body,
            row.attempts + 1,
            row.refusals,
        )

    def still_held(self, lane_id: str, holder: str) -> bool:
        """Tell whether a worker still holds a lane's lease."""
        query = sa.select(_lane.c.lease_by).where(_lane.c.id == lane_id).with_for_update()
        return self._db.execute(query).scalar() == holder

    def settle(
        self,
        delivery_id: str,
        lane_id: str,
        *,
        state: str,
        lane_state: str,
        next_at: datetime | None = None,
        reason: str = "",
        refused: bool = False,
        reply: bytes | None = None,
    ) -> None:
        """Store how a try ended and what the lane does next; the lease is given back."""
        self._db.execute(
            _delivery.update()
            .where(_delivery.c.id == delivery_id)
            .values(
                state=state,
                reason=reason,
                reply=reply,
                refusals=_delivery.c.refusals + (1 if refused else 0),
                delivered_at=self._uow.now if state == "delivered" else None,
            )
        )
        self._db.execute(
            _lane.update()
            .where(_lane.c.id == lane_id)
            .values(state=lane_state, next_at=next_at, lease_by=None, lease_until=None)
        )

    def event(self, event_id: str) -> Event:
        """Return the event that a delivery came from."""
        return event_from_row(self._db.execute(sa.select(_event).where(_event.c.id == event_id)).one())

    # The operator

    def replay(self, lane_ids: Sequence[str]) -> int:
        """Send what these lanes hold again, dead letters first; return how many deliveries wait now."""
        changed = self._db.execute(
            _delivery.update()
            .where(_delivery.c.lane_id.in_(lane_ids), _delivery.c.state.in_(("dead", "parked")))
            .values(state="waiting", refusals=0, reason="")
        )
        self._db.execute(_lane.update().where(_lane.c.id.in_(lane_ids)).values(state="open", next_at=None))
        return int(changed.rowcount)

    def park(self, lane_ids: Sequence[str]) -> None:
        """Hold lanes until a person lets them go on."""
        self._db.execute(_lane.update().where(_lane.c.id.in_(lane_ids)).values(state="parked"))

    def set_aside(self, delivery_id: str) -> None:
        """Park one dead letter, so that its lane goes on without it."""
        self._db.execute(
            _delivery.update()
            .where(_delivery.c.id == delivery_id, _delivery.c.state.in_(("dead", "waiting")))
            .values(state="parked", reason="set aside")
        )
        lane_id = self._db.execute(sa.select(_delivery.c.lane_id).where(_delivery.c.id == delivery_id)).scalar_one()
        self._db.execute(_lane.update().where(_lane.c.id == lane_id).values(state="open", next_at=None))

    def lanes_matching(self, target: str) -> list[str]:
        """Return the lanes that a destination, a lane id or a delivery id names."""
        by_delivery = sa.select(_delivery.c.lane_id).where(_delivery.c.id == target)
        query = sa.select(_lane.c.id).where(
            sa.or_(_lane.c.destination == target, _lane.c.id == target, _lane.c.id.in_(by_delivery))
        )
        return list(self._db.execute(query).scalars())
