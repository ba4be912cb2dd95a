"""Which instances still lie where they landed, and which segments nothing lies in any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from hilum.storage import tables
from hilum.storage.unit_of_work import UnitOfWork

_instance, _study, _deleted = tables.instance, tables.study, tables.deleted_instance
# What is marked for deletion is about to be erased where it lies, so it is not copied anywhere.
_STAYS = sa.or_(_instance.c.hidden.is_(None), _instance.c.hidden != "deleted")
# Looked through in the order of the index on the place, oldest segments first.
LOOKED_THROUGH = 2000


@dataclass(frozen=True, slots=True)
class Unsettled:
    """An instance of a finished study that lies in a landing segment."""

    id: str
    series_id: str
    sop_instance_uid: str
    digest: str
    object_key: str
    object_offset: int
    object_length: int
    dataset_offset: int


def unsettled_series(connection: sa.Connection, folder: str, before: datetime, limit: int) -> list[str]:
    """Return series of studies that were complete before a moment and have instances in objects of a folder."""
    oldest = (
        sa.select(_instance.c.series_id, _instance.c.study_id)
        .where(_instance.c.object_key >= f"{folder}/", _instance.c.object_key < f"{folder}0", _STAYS)
        .order_by(_instance.c.object_key, _instance.c.object_offset)
        .limit(LOOKED_THROUGH)
        .subquery()
    )
    query = (
        sa.select(oldest.c.series_id)
        .join(_study, _study.c.id == oldest.c.study_id)
        .where(_study.c.completed_at < before)
        .distinct()
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def unsettled_instances(connection: sa.Connection, series_id: str, folder: str) -> list[Unsettled]:
    """Return what of a series lies in objects of a folder, in the order of its numbers."""
    c = _instance.c
    columns = (c.id, c.series_id, c.sop_instance_uid, c.digest)
    place = (c.object_key, c.object_offset, c.object_length, c.dataset_offset)
    query = (
        sa.select(*columns, *place)
        .where(c.series_id == series_id, c.object_key >= f"{folder}/", c.object_key < f"{folder}0", _STAYS)
        .order_by(c.number, c.id)
    )
    return [Unsettled(*row) for row in connection.execute(query)]


def holds_anything(connection: sa.Connection, object_key: str) -> bool:
    """Tell whether an object is the place of an instance, or of bytes that are yet to be erased."""
    held = sa.select(sa.literal(1)).where(_instance.c.object_key == object_key).limit(1)
    erased = sa.select(sa.literal(1)).where(_deleted.c.object_key == object_key).limit(1)
    return any(connection.execute(query).scalar() is not None for query in (held, erased))


def move_instance(uow: UnitOfWork, instance_id: str, from_key: str, place: Mapping[str, Any]) -> bool:
    """Store another place of an instance's bytes, unless it has been moved or removed meanwhile."""
    moved = uow.connection.execute(
        _instance.update().where(_instance.c.id == instance_id, _instance.c.object_key == from_key).values(**place)
    )
    return bool(moved.rowcount)
