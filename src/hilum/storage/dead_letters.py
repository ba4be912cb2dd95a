"""Query behind what could not be delivered, for the people who may send it again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from hilum.storage import tables
from hilum.storage.reading_list import COUNTED

_delivery, _lane, _order = tables.delivery, tables.lane, tables.imaging_order


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A delivery whose receiver will not take it; what comes after it in its lane waits."""

    id: str
    destination: str
    kind: str
    control_id: str
    reason: str
    attempts: int
    created_at: datetime
    sent_at: datetime | None
    order_id: str | None
    accession_number: str | None


def dead_letters(
    connection: sa.Connection, limit: int, *, after: str = "", before: str = ""
) -> tuple[list[DeadLetter], bool]:
    """Return dead letters, oldest first, after (or before) an id, and whether there are more."""
    columns = ("id", "kind", "control_id", "reason", "attempts", "created_at", "sent_at", "order_id")
    query = (
        sa.select(_lane.c.destination, _order.c.accession_number, *(_delivery.c[name] for name in columns))
        .select_from(
            _delivery.join(_lane, _lane.c.id == _delivery.c.lane_id).outerjoin(
                _order, _order.c.id == _delivery.c.order_id
            )
        )
        .where(_delivery.c.state == "dead")
    )
    if before:
        query = query.where(_delivery.c.id < before).order_by(_delivery.c.id.desc())
    else:
        query = query.where(_delivery.c.id > after).order_by(_delivery.c.id)
    found = [DeadLetter(**row._mapping) for row in connection.execute(query.limit(limit + 1))]
    page = found[:limit]
    return (page[::-1] if before else page), len(found) > limit


def dead_letter_count(connection: sa.Connection) -> int:
    """Return how many deliveries are dead, up to `COUNTED`."""
    dead = sa.select(_delivery.c.id).where(_delivery.c.state == "dead").limit(COUNTED).subquery()
    return int(connection.execute(sa.select(sa.func.count()).select_from(dead)).scalar_one())
