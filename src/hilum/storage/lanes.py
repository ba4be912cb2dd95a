"""What waits to leave: the cheap questions of router and workers, the operator's list, and the operator's hand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from hilum.core.errors import Conflict, NotFound
from hilum.storage import tables
from hilum.storage.deliveries import UNSENT, Deliveries
from hilum.storage.lane_rule import READY_LANE

if TYPE_CHECKING:
    from hilum.storage.unit_of_work import UnitOfWork

_event = tables.event
_lane = tables.lane
_delivery = tables.delivery
_before = tables.delivery_before

# What a person may have to look at: everything that has neither arrived nor been superseded.
HELD = ("waiting", "sending", "dead", "parked")
MAX_PAGE = 1_000


class ChangeProbe:
    """Tells at the price of a microsecond or two whether any process committed to a SQLite file since the last look.

    On PostgreSQL, which has no such counter, every look says yes and the question itself must be cheap.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._connection = engine.connect() if engine.dialect.name == "sqlite" else None
        self._seen: int | None = None

    @property
    def cheap(self) -> bool:
        """Tell whether it may be asked every few milliseconds."""
        return self._connection is not None

    def changed(self) -> bool:
        """Tell whether something was committed since the last look; the first look says yes."""
        if self._connection is None:
            return True
        # On the driver's own connection: a transaction of SQLAlchemy's would hold the first snapshot.
        driver = self._connection.connection.driver_connection
        assert driver is not None
        seen = int(driver.execute("PRAGMA data_version").fetchone()[0])
        changed, self._seen = seen != self._seen, seen
        return changed

    def forget(self) -> None:
        """Let the next look say yes, since what the last one found is still to be done."""
        self._seen = None

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()


def has_unrouted(connection: sa.Connection) -> bool:
    """Tell whether an event waits for its position."""
    query = sa.select(_event.c.number).where(_event.c.position.is_(None)).limit(1)
    return connection.execute(query).scalar() is not None


def has_ready_lane(connection: sa.Connection, destination: str, now: datetime) -> bool:
    """Tell whether a lane of a destination may be taken now."""
    return connection.execute(READY_LANE, {"destination": destination, "now": now}).scalar() is not None


@dataclass(frozen=True, slots=True)
class WaitingLane:
    """A lane that holds something; `state` is open, sending, retrying, blocked, parked or set-aside."""

    destination: str
    lane: str
    depth: int
    oldest_at: datetime
    state: str
    reason: str
    ready_at: datetime | None
    head: str


def waiting_lanes(
    connection: sa.Connection, *, destination: str = "", after: str = "", limit: int = 100
) -> list[WaitingLane]:
    """Return lanes that hold something, by lane id; the next page is `after` the last one's lane."""
    page = (
        sa.select(
            _delivery.c.lane_id,
            sa.func.count().label("depth"),
            sa.func.min(_delivery.c.created_at, type_=_delivery.c.created_at.type).label("oldest_at"),
        )
        .where(_delivery.c.state.in_(HELD), _delivery.c.lane_id > after)
        .group_by(_delivery.c.lane_id)
        .subquery()
    )
    head = _delivery.alias("head")
    query = (
        sa.select(
            _lane,
            page.c.depth,
            page.c.oldest_at,
            head.c.id.label("head"),
            head.c.state.label("head_state"),
            head.c.reason,
        )
        .join(page, page.c.lane_id == _lane.c.id)
        .join(head, head.c.id == _head_of(_lane.c.id))
    )
    if destination:
        query = query.where(_lane.c.destination == destination)
    # One statement, so that the list is of one moment while workers go on.
    rows = connection.execute(query.order_by(_lane.c.id).limit(min(limit, MAX_PAGE)))
    return [
        WaitingLane(
            row.destination, row.id, row.depth, row.oldest_at, _shown_state(row), row.reason, row.ready_at, row.head
        )
        for row in rows
    ]


def _head_of(lane_id: sa.ColumnElement[str]) -> sa.ScalarSelect[str]:
    """What holds a lane up: its dead letter, else its first delivery that is not set aside, else the first that is."""
    one = _delivery.alias("one")
    rank = sa.case((one.c.state == "dead", 0), (one.c.state == "parked", 2), else_=1)
    query = sa.select(one.c.id).where(one.c.lane_id == lane_id, one.c.state.in_(HELD))
    return query.order_by(rank, one.c.position, one.c.id).limit(1).correlate(_lane).scalar_subquery()


def _shown_state(row: sa.Row[Any]) -> str:
    if row.head_state == "parked" and row.state != "parked":
        return "set-aside"
    if row.head_state == "sending" and row.state in ("open", "retrying"):
        return "sending"
    return str(row.state)


@dataclass(frozen=True, slots=True)
class DeliveryVersion:
    """What a delivery carries (`replaced_at` is None) or carried before a person changed it."""

    order_id: str | None
    control_id: str
    body: bytes
    reason: str
    reply: bytes | None
    replaced_at: datetime | None = None
    replaced_by: str = ""


def delivery_versions(connection: sa.Connection, delivery_id: str) -> list[DeliveryVersion]:
    """Return what a delivery carries, and before it all that it carried, the oldest first; empty for an unknown id."""
    now = connection.execute(sa.select(_delivery).where(_delivery.c.id == delivery_id)).one_or_none()
    if now is None:
        return []
    query = sa.select(_before).where(_before.c.delivery_id == delivery_id).order_by(_before.c.number)
    earlier = [
        DeliveryVersion(now.order_id, row.control_id, row.body, row.reason, row.reply, row.replaced_at, row.replaced_by)
        for row in connection.execute(query)
    ]
    return [*earlier, DeliveryVersion(now.order_id, now.control_id, now.body, now.reason, now.reply)]


@dataclass(frozen=True, slots=True)
class Depth:
    """How much waits for a destination, and since when."""

    destination: str
    depth: int
    oldest_at: datetime


def depths(connection: sa.Connection) -> list[Depth]:
    """Return what waits for each destination, dead letters included."""
    per_lane = (
        sa.select(
            _delivery.c.lane_id,
            sa.func.count().label("depth"),
            sa.func.min(_delivery.c.created_at, type_=_delivery.c.created_at.type).label("oldest_at"),
        )
        .where(_delivery.c.state.in_((*UNSENT, "dead")))
        .group_by(_delivery.c.lane_id)
        .subquery()
    )
    query = (
        sa.select(
            _lane.c.destination,
            sa.func.sum(per_lane.c.depth).label("depth"),
            sa.func.min(per_lane.c.oldest_at, type_=_delivery.c.created_at.type).label("oldest_at"),
        )
        .join(per_lane, per_lane.c.lane_id == _lane.c.id)
        .group_by(_lane.c.destination)
    )
    return [Depth(row.destination, int(row.depth), row.oldest_at) for row in connection.execute(query)]


class OperatedLanes:
    """The operator's hand on the lanes of one transaction. A target is a destination, a lane id or a delivery id."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow
        self._db = uow.connection
        self._deliveries = Deliveries(uow)

    def replay(self, target: str) -> int:
        """Let dead letters be tried again and held lanes go on, now; return how many deliveries wait there.

        A delivery that was set aside comes back only by its own id. What a newer version superseded never does:
        Conflict says so.
        """
        one = self._deliveries.lock_delivery(target)
        if one is not None:
            self._replay_one(one)
            return 1
        named = self._lanes(target)
        in_lanes = _delivery.c.lane_id.in_(sa.select(_lane.c.id).where(named))
        self._change(in_lanes, _delivery.c.state == "dead", state="waiting", refusals=0)
        self._open(named)
        query = sa.select(sa.func.count()).where(in_lanes, _delivery.c.state.in_(UNSENT))
        return int(self._db.execute(query).scalar_one())

    def _replay_one(self, row: sa.Row[Any]) -> None:
        if row.state == "superseded":
            raise Conflict("A newer version has taken the place of this delivery.")
        if row.state not in ("dead", "parked"):
            raise Conflict(f"This delivery is {row.state}, so there is nothing to replay.")
        self._change(_delivery.c.id == row.id, state="waiting", refusals=0)
        lane = self._deliveries.lock_lane(row.lane_id)
        if lane.state != "parked":
            self._open(_lane.c.id == row.lane_id)
            self._deliveries.refresh(row.lane_id)

    def order_of(self, delivery_id: str) -> str | None:
        """Return which order a delivery is of, if it is of one."""
        query = sa.select(_delivery.c.order_id).where(_delivery.c.id == delivery_id)
        found: str | None = self._db.execute(query).scalar()
        return found

    def amend(self, delivery_id: str, changed: bytes, body: bytes, control_id: str, by: str) -> None:
        """Put another body in the place of one that waits for a person, keep the earlier, and let it be sent.

        `changed` is what the person made of it, `body` what is sent.
        """
        if self._deliveries.lock_delivery(delivery_id) is None:
            raise NotFound("There is no delivery of this id.")
        row = self._db.execute(sa.select(_delivery).where(_delivery.c.id == delivery_id)).one()
        if row.state not in ("dead", "parked"):
            raise Conflict(f"This delivery is {row.state}, and only one that waits for a person can be changed.")
        if changed == row.body:
            raise Conflict("This is the message that was refused, unchanged.")
        number = sa.select(sa.func.count()).where(_before.c.delivery_id == row.id)
        self._db.execute(
            _before.insert().values(
                delivery_id=row.id,
                number=int(self._db.execute(number).scalar_one()) + 1,
                control_id=row.control_id,
                body=row.body,
                reason=row.reason,
                reply=row.reply,
                replaced_at=self._uow.now,
                replaced_by=by,
            )
        )
        self._change(_delivery.c.id == row.id, body=body, control_id=control_id, reply=None)
        self._replay_one(row)

    def park(self, target: str) -> int:
        """Hold lanes until they are replayed, or set one delivery aside so that its lane goes on without it.

        Return how many lanes or deliveries that were.
        """
        one = self._deliveries.lock_delivery(target)
        if one is not None:
            if one.state not in ("dead", "waiting"):
                raise Conflict(f"This delivery is {one.state}, so it cannot be set aside.")
            self._change(_delivery.c.id == one.id, state="parked", reason="set-aside")
            self._deliveries.refresh(one.lane_id)
            return 1
        named = self._lanes(target)
        changed = self._db.execute(_lane.update().where(named).values(state="parked", ready_at=None))
        return int(changed.rowcount)

    def _open(self, named: sa.ColumnElement[bool]) -> None:
        """Make lanes without dead letters due now, except for those that a worker has at this moment."""
        held = sa.and_(_lane.c.lease_by.is_not(None), _lane.c.ready_at.is_not(None))
        unsent = sa.exists().where(_delivery.c.lane_id == _lane.c.id, _delivery.c.state.in_(UNSENT))
        ready_at = sa.case(
            (held, _lane.c.ready_at), (unsent, sa.literal(self._uow.now, _lane.c.ready_at.type)), else_=None
        )
        self._db.execute(_lane.update().where(named).values(state="open", ready_at=ready_at))

    def _lanes(self, target: str) -> sa.ColumnElement[bool]:
        """Lock the lanes that a destination or a lane id names, those joined into others left out."""
        named = sa.and_(sa.or_(_lane.c.destination == target, _lane.c.id == target), _lane.c.joined_into.is_(None))
        query = sa.select(_lane.c.id).where(named).order_by(_lane.c.id).with_for_update()
        if not self._db.execute(query).all():
            raise NotFound("There is no destination with lanes, no lane and no delivery of this name.")
        return named

    def _change(self, *where: sa.ColumnElement[bool], **columns: Any) -> None:
        self._db.execute(_delivery.update().where(*where).values(**columns))
