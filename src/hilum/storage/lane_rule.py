"""The one rule of lanes: what a lane does next follows from its deliveries, and stands in `lane.ready_at`.

These statements run for every message that leaves, so they are built once.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from hilum.storage import tables

_lane = tables.lane
_delivery = tables.delivery

_OF = sa.bindparam("of", type_=_lane.c.id.type)


def _holds(*where: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    return sa.exists().where(_delivery.c.lane_id == _lane.c.id, *where)


LOCK_LANE = sa.select(_lane).where(_lane.c.id == _OF).with_for_update()
_WHAT_IT_HOLDS = sa.select(
    _lane.c.state,
    _lane.c.ready_at,
    _lane.c.lease_by,
    _holds(_delivery.c.state == "dead").label("dead"),
    _holds(_delivery.c.state == "sending").label("flying"),
    _holds(_delivery.c.state == "waiting").label("waiting"),
    _holds(_delivery.c.state == "waiting", _delivery.c.attempts > 0).label("retried"),
).where(_lane.c.id == _OF)
_SET_LANE = (
    _lane.update()
    .where(_lane.c.id == _OF)
    .values(state=sa.bindparam("to_state"), ready_at=sa.bindparam("to_ready"), lease_by=sa.bindparam("to_holder"))
)


def _first(state: str) -> sa.Select[Any]:
    query = sa.select(_delivery.c.id, _delivery.c.position).where(
        _delivery.c.lane_id == _OF, _delivery.c.state == state
    )
    return sa.select(query.order_by(_delivery.c.position, _delivery.c.id).limit(1).subquery())


# After a join two may be on their way at once, so the head is looked for among both states.
_firsts = sa.union_all(_first("sending"), _first("waiting")).subquery()
HEAD = sa.select(_delivery).where(
    _delivery.c.id == sa.select(_firsts.c.id).order_by(_firsts.c.position, _firsts.c.id).limit(1).scalar_subquery()
)

READY_LANE = (
    sa.select(_lane.c.id)
    .where(_lane.c.destination == sa.bindparam("destination"), _lane.c.ready_at <= sa.bindparam("now"))
    .order_by(_lane.c.ready_at)
    .limit(1)
)
TAKE_LANE = READY_LANE.with_for_update(skip_locked=True)


def set_lane(db: sa.Connection, lane_id: str, state: str, ready_at: datetime | None, holder: str | None) -> None:
    """Store what a lane does next and which worker has it."""
    db.execute(_SET_LANE, {"of": lane_id, "to_state": state, "to_ready": ready_at, "to_holder": holder})


def apply_rule(
    db: sa.Connection, lane_id: str, now: datetime, *, given_back: bool = False, retry_at: datetime | None = None
) -> None:
    """Set what a lane does next from the deliveries in it.

    `given_back` ends the lease of the worker that settled, unless another delivery of the lane is still on its way
    (after a join); `retry_at` is when its head is tried again.
    """
    row = db.execute(_WHAT_IT_HOLDS, {"of": lane_id}).one()
    state, ready_at, holder = row.state, row.ready_at, row.lease_by
    if given_back and not row.flying:
        state = "parked" if state == "parked" else "open" if retry_at is None else "retrying"
        ready_at, holder = retry_at or now, None
    if state == "parked":
        # Only a person lets it go on.
        ready_at = None
    elif row.dead:
        state, ready_at = "blocked", None
    elif not (row.flying or row.waiting):
        state, ready_at = "open", None
    elif holder is not None:
        state, ready_at = "open", ready_at or now
    elif state != "retrying" or not row.retried:
        state, ready_at = "open", min(ready_at or now, now)
    if (state, ready_at, holder) != (row.state, row.ready_at, row.lease_by):
        set_lane(db, lane_id, state, ready_at, holder)
