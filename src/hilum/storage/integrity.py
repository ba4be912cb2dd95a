"""What the archive has promised to keep: every indexed instance, where its bytes lie and what they must be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from hilum.core.study import ExceptionKind
from hilum.storage import tables

PAGE = 500
_instance, _series, _study, _item = tables.instance, tables.series, tables.study, tables.exception_item


_OPEN = (_item.c.resolved_at.is_(None), _item.c.kind == ExceptionKind.INSTANCE_DAMAGED.value)


@dataclass(frozen=True, slots=True)
class Kept:
    """An indexed instance, shown or not: whose it is, where its Part 10 file lies, and the digest of its data set."""

    id: str
    study_id: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    digest: str
    object_key: str
    object_offset: int
    object_length: int
    dataset_offset: int


_KEPT = sa.select(
    _instance.c.id,
    _instance.c.study_id,
    _study.c.study_instance_uid,
    _series.c.series_instance_uid,
    _instance.c.sop_instance_uid,
    _instance.c.transfer_syntax_uid,
    _instance.c.digest,
    _instance.c.object_key,
    _instance.c.object_offset,
    _instance.c.object_length,
    _instance.c.dataset_offset,
).select_from(
    _instance.join(_series, _series.c.id == _instance.c.series_id).join(_study, _study.c.id == _instance.c.study_id)
)


def kept_after(connection: sa.Connection, after: str, study_instance_uid: str = "", limit: int = PAGE) -> list[Kept]:
    """Return instances behind an id, in the order of ids, of all studies or those of one UID."""
    query = _KEPT.where(_instance.c.id > after).order_by(_instance.c.id).limit(limit)
    if study_instance_uid:
        query = query.where(_study.c.study_instance_uid == study_instance_uid)
    return [Kept(*row) for row in connection.execute(query)]


def kept_now(connection: sa.Connection, instance_id: str) -> Kept | None:
    """Return one instance as the index has it at this moment; None where it was deleted meanwhile."""
    row = connection.execute(_KEPT.where(_instance.c.id == instance_id)).one_or_none()
    return None if row is None else Kept(*row)


def kept_totals(connection: sa.Connection, study_instance_uid: str = "") -> tuple[int, int]:
    """Return how many instances are kept, and how many bytes they have."""
    query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(_instance.c.object_length), 0))
    if study_instance_uid:
        query = query.join(_study, _study.c.id == _instance.c.study_id).where(
            _study.c.study_instance_uid == study_instance_uid
        )
    count, size = connection.execute(query.select_from(_instance)).one()
    return int(count), int(size)


def damaged(connection: sa.Connection) -> set[tuple[str, str]]:
    """Return study id and SOP Instance UID of what stands on the list as damaged."""
    query = sa.select(_item.c.study_id, _item.c.note).where(*_OPEN)
    return {(row.study_id, row.note) for row in connection.execute(query)}


def put_elsewhere(connection: sa.Connection, instance_id: str, columns: Mapping[str, Any]) -> None:
    """Store where the bytes of an instance lie from now on; of `columns` only those of its place are taken."""
    place = {name: columns[name] for name in ("object_key", "object_offset", "object_length", "dataset_offset")}
    connection.execute(_instance.update().where(_instance.c.id == instance_id).values(place))


def damage_entries(connection: sa.Connection, study_id: str, sop_instance_uid: str) -> list[str]:
    """Return the ids of the open entries about one damaged instance."""
    query = sa.select(_item.c.id).where(*_OPEN, _item.c.study_id == study_id, _item.c.note == sop_instance_uid)
    return list(connection.execute(query).scalars())
