"""Bytes in the archive that are no usable instance, listed until a person has seen to them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from hilum.storage import tables

if TYPE_CHECKING:
    from hilum.storage.unit_of_work import UnitOfWork

_quarantine = tables.quarantine


@dataclass(frozen=True, slots=True)
class Unusable:
    """Bytes that are torn, or that the index refused; `peer` and `received_at` as far as their record says them."""

    id: str
    kind: str
    reason: str
    object_key: str
    object_offset: int
    peer: str
    received_at: str
    found_at: datetime
    resolved_at: datetime | None
    resolved_by: str
    resolution: str


def add_unusable(uow: UnitOfWork, columns: dict[str, Any]) -> bool:
    """List bytes once, whether or not someone has seen to them; tell whether they are new."""
    place = sa.and_(
        _quarantine.c.object_key == columns["object_key"], _quarantine.c.object_offset == columns["object_offset"]
    )
    if uow.connection.execute(sa.select(_quarantine.c.id).where(place)).scalar() is not None:
        return False
    row = {"id": uow.new_id(), "found_at": uow.now, "resolved_by": "", "resolution": "", **columns}
    uow.connection.execute(_quarantine.insert().values(**row))
    return True


def unusable(connection: sa.Connection, after: str = "", limit: int = 1000) -> list[Unusable]:
    """Return what nobody has seen to, oldest first."""
    query = sa.select(_quarantine).where(_quarantine.c.resolved_at.is_(None), _quarantine.c.id > after)
    return [Unusable(*row) for row in connection.execute(query.order_by(_quarantine.c.id).limit(limit))]


def open_of_object(connection: sa.Connection, object_key: str) -> list[str]:
    """Return the ids of what nobody has seen to in an object."""
    query = sa.select(_quarantine.c.id).where(
        _quarantine.c.object_key == object_key, _quarantine.c.resolved_at.is_(None)
    )
    return list(connection.execute(query).scalars())


def unusable_of(connection: sa.Connection, item_id: str) -> Unusable | None:
    """Return one entry."""
    row = connection.execute(sa.select(_quarantine).where(_quarantine.c.id == item_id)).one_or_none()
    return None if row is None else Unusable(*row)


def resolve_unusable(uow: UnitOfWork, ids: list[str], by: str, resolution: str) -> None:
    """Take entries off the list."""
    uow.connection.execute(
        _quarantine.update()
        .where(_quarantine.c.id.in_(ids))
        .values(resolved_at=uow.now, resolved_by=by, resolution=resolution)
    )
