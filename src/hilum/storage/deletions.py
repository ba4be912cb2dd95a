"""Deletions: what is marked, what was deleted (the tombstones), and which bytes still have to be removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from hilum.storage import tables
from hilum.storage.hiding import is_marked

if TYPE_CHECKING:
    from hilum.storage.unit_of_work import UnitOfWork

_deletion, _deleted = tables.deletion, tables.deleted_instance
_study, _series, _instance = tables.study, tables.series, tables.instance
_item = tables.exception_item
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Deletion:
    """A deletion and where it stands; `until` is the end of its time of grace."""

    id: str
    state: str
    study_id: str
    study_instance_uid: str
    patient_id: str | None
    reason: str
    asked_by: str
    at: datetime
    until: datetime
    ended_at: datetime | None
    ended_by: str


@dataclass(frozen=True, slots=True)
class Erasure:
    """The bytes of a deleted instance that are still in the archive; columns as of the table `instance`."""

    deletion_id: str
    sop_instance_uid: str
    digest: str
    object_key: str
    object_offset: int
    object_length: int
    dataset_offset: int


def mark(
    uow: UnitOfWork,
    study_id: str,
    reason: str,
    by: str,
    until: datetime,
    series_instance_uid: str | None = None,
    sop_instance_uid: str | None = None,
    named: Sequence[str] | None = None,
) -> tuple[Deletion, list[str]]:
    """Mark the instances of a study, a series, one UID or those that are `named`; return the rows not marked before."""
    chosen = (
        sa.select(_instance.c.id, _instance.c.sop_instance_uid, _instance.c.digest, _series.c.series_instance_uid)
        .join(_series, _series.c.id == _instance.c.series_id)
        .where(sa.not_(is_marked()))
    )
    if named is None:
        chosen = chosen.where(_instance.c.study_id == study_id)
    if series_instance_uid is not None:
        chosen = chosen.where(_series.c.series_instance_uid == series_instance_uid)
    if sop_instance_uid is not None:
        chosen = chosen.where(_instance.c.sop_instance_uid == sop_instance_uid)
    parts = [named[start : start + _AT_ONCE] for start in range(0, len(named), _AT_ONCE)] if named else [()]
    rows = [
        row
        for part in parts
        for row in uow.connection.execute(chosen.where(_instance.c.sop_instance_uid.in_(part)) if named else chosen)
    ]
    study = uow.connection.execute(sa.select(_study).where(_study.c.id == study_id)).one()
    deletion_id = uow.new_id()
    uow.connection.execute(
        _deletion.insert().values(
            id=deletion_id,
            state="marked",
            study_id=study_id,
            study_instance_uid=study.study_instance_uid,
            patient_id=study.patient_id,
            reason=reason,
            asked_by=by,
            at=uow.now,
            until=until,
            ended_by="",
        )
    )
    columns = ("sop_instance_uid", "digest", "series_instance_uid")
    marked = [{"deletion_id": deletion_id, **{name: getattr(row, name) for name in columns}} for row in rows]
    if marked:
        uow.connection.execute(_deleted.insert(), marked)
    found = deletion_of(uow.connection, deletion_id)
    assert found is not None
    return found, [row.id for row in rows]


def unmark(uow: UnitOfWork, sop_instance_uid: str, digest: str) -> None:
    """Take one instance out of the deletions that it is marked by."""
    marked = sa.select(_deletion.c.id).where(_deletion.c.state == "marked")
    uow.connection.execute(
        _deleted.delete().where(
            _deleted.c.sop_instance_uid == sop_instance_uid,
            _deleted.c.digest == digest,
            _deleted.c.deletion_id.in_(marked),
        )
    )


def deletion_of(connection: sa.Connection, deletion_id: str, *, lock: bool = False) -> Deletion | None:
    """Return a deletion."""
    query = sa.select(_deletion).where(_deletion.c.id == deletion_id)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    return None if row is None else Deletion(*row)


def has_study(connection: sa.Connection, study_id: str) -> bool:
    """Tell whether a study's row is there still: it goes with its last instance."""
    return connection.execute(sa.select(_study.c.id).where(_study.c.id == study_id)).scalar() is not None


def end_deletion(uow: UnitOfWork, deletion_id: str, state: str, by: str) -> None:
    """Store that a deletion was undone or done."""
    uow.connection.execute(
        _deletion.update().where(_deletion.c.id == deletion_id).values(state=state, ended_at=uow.now, ended_by=by)
    )


def instances_of(connection: sa.Connection, deletion_id: str) -> list[str]:
    """Return the rows of a deletion that are still in the index."""
    same = sa.and_(_instance.c.sop_instance_uid == _deleted.c.sop_instance_uid, _instance.c.digest == _deleted.c.digest)
    query = sa.select(_instance.c.id).join(_deleted, same).where(_deleted.c.deletion_id == deletion_id)
    return list(connection.execute(query.order_by(_instance.c.id)).scalars())


def remove_rows(uow: UnitOfWork, deletion: Deletion) -> int:
    """Take a deletion's instances out of the index, with series and study that are empty then; note their bytes.

    Bytes that another row refers to as well are not noted. Return how many instances there were.
    """
    ids = instances_of(uow.connection, deletion.id)
    studies = {deletion.study_id}
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        rows = uow.connection.execute(sa.select(_instance).where(_instance.c.id.in_(some))).all()
        uow.connection.execute(_instance.delete().where(_instance.c.id.in_(some)))
        for row in rows:
            _note_bytes(uow, deletion.id, row)
            studies.add(row.study_id)
    for study_id in sorted(studies):
        _remove_what_is_empty(uow, study_id)
    return len(ids)


def _note_bytes(uow: UnitOfWork, deletion_id: str, row: sa.Row[Any]) -> None:
    shared = sa.select(_instance.c.id).where(
        _instance.c.object_key == row.object_key, _instance.c.object_offset == row.object_offset
    )
    if uow.connection.execute(shared.limit(1)).scalar() is not None:
        return
    uow.connection.execute(
        _deleted.update()
        .where(
            _deleted.c.deletion_id == deletion_id,
            _deleted.c.sop_instance_uid == row.sop_instance_uid,
            _deleted.c.digest == row.digest,
        )
        .values(
            object_key=row.object_key,
            object_offset=row.object_offset,
            object_length=row.object_length,
            dataset_offset=row.dataset_offset,
        )
    )


def _remove_what_is_empty(uow: UnitOfWork, study_id: str) -> None:
    has_instances = sa.exists().where(_instance.c.series_id == _series.c.id)
    empty = uow.connection.execute(_series.delete().where(_series.c.study_id == study_id, sa.not_(has_instances)))
    # A study that series were moved out of stands for those of them that are still to come.
    left = sa.select(_series.c.id).where(sa.or_(_series.c.study_id == study_id, _series.c.origin_study_id == study_id))
    if uow.connection.execute(left.limit(1)).scalar() is not None:
        counts = {"series_count": _study.c.series_count - empty.rowcount, "revision": _study.c.revision + 1}
        uow.connection.execute(_study.update().where(_study.c.id == study_id).values(**counts))
        return
    # What was listed about a study that is gone needs nobody's decision.
    uow.connection.execute(
        _item.update()
        .where(_item.c.study_id == study_id, _item.c.resolved_at.is_(None))
        .values(resolved_at=uow.now, resolved_by="hilum", resolution="the study was deleted")
    )
    uow.connection.execute(_item.update().where(_item.c.study_id == study_id).values(study_id=None))
    uow.connection.execute(_study.delete().where(_study.c.id == study_id))


def due_deletions(connection: sa.Connection, now: datetime, limit: int = 20) -> list[str]:
    """Return the deletions whose time of grace is over."""
    query = sa.select(_deletion.c.id).where(_deletion.c.state == "marked", _deletion.c.until <= now)
    return list(connection.execute(query.order_by(_deletion.c.until, _deletion.c.id).limit(limit)).scalars())


def postpone(uow: UnitOfWork, deletion_id: str, until: datetime) -> None:
    """Move the end of a deletion's time of grace."""
    uow.connection.execute(_deletion.update().where(_deletion.c.id == deletion_id).values(until=until))


def erasures(connection: sa.Connection, limit: int = 500) -> list[Erasure]:
    """Return bytes that have to be removed."""
    columns = ("deletion_id", "sop_instance_uid", "digest")
    place = ("object_key", "object_offset", "object_length", "dataset_offset")
    query = (
        sa.select(*(_deleted.c[name] for name in (*columns, *place)))
        .where(_deleted.c.object_key.is_not(None))
        .order_by(_deleted.c.deletion_id, _deleted.c.object_key, _deleted.c.object_offset)
        .limit(limit)
    )
    return [Erasure(*row) for row in connection.execute(query)]


def forget_bytes(uow: UnitOfWork, erased: Sequence[Erasure]) -> None:
    """Store that bytes are gone."""
    nowhere = dict.fromkeys(("object_key", "object_offset", "object_length", "dataset_offset"))
    for each in erased:
        uow.connection.execute(
            _deleted.update()
            .where(
                _deleted.c.deletion_id == each.deletion_id,
                _deleted.c.sop_instance_uid == each.sop_instance_uid,
                _deleted.c.digest == each.digest,
            )
            .values(**nowhere)
        )


def was_deleted(
    connection: sa.Connection, sop_instance_uid: str, digest: str = "", received_at: datetime | None = None
) -> bool:
    """Tell whether an instance was deleted: of these bytes, and after it was received, where that is given."""
    query = (
        sa.select(sa.literal(1))
        .select_from(_deleted.join(_deletion, _deletion.c.id == _deleted.c.deletion_id))
        .where(_deleted.c.sop_instance_uid == sop_instance_uid, _deletion.c.state == "done")
    )
    if digest:
        query = query.where(_deleted.c.digest == digest)
    if received_at is not None:
        query = query.where(_deletion.c.ended_at >= received_at)
    return connection.execute(query.limit(1)).scalar() is not None


def open_deletions(connection: sa.Connection, after: str = "", limit: int = 1000) -> list[tuple[Deletion, int]]:
    """Return the deletions that can still be undone, oldest first, with how many instances each has."""
    count = sa.select(sa.func.count()).where(_deleted.c.deletion_id == _deletion.c.id).scalar_subquery()
    query = sa.select(_deletion, count).where(_deletion.c.state == "marked", _deletion.c.id > after)
    rows = connection.execute(query.order_by(_deletion.c.id).limit(limit))
    return [(Deletion(*row[:-1]), int(row[-1])) for row in rows]
