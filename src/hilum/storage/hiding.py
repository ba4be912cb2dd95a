"""Which instances are kept from sight: `instance.hidden` follows rejections and deletions, and the counts follow it.

The counts of series and study are of what may be shown, so a series whose instances are all hidden is not shown, nor a
study whose series are all hidden, at any door.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from hilum.storage import tables
from hilum.storage.unread import refresh_unread

if TYPE_CHECKING:
    from hilum.storage.unit_of_work import UnitOfWork

NOTE, REJECTED, DELETED = "note", "rejected", "deleted"
_AT_ONCE = 500

_study, _series, _instance = tables.study, tables.series, tables.instance
_rejection, _rejected = tables.rejection, tables.rejected_instance
_deletion, _deleted = tables.deletion, tables.deleted_instance

_in_force = sa.and_(_rejection.c.state == "applied", _rejection.c.hides)


def is_marked(table: sa.FromClause = _instance) -> sa.ColumnElement[bool]:
    """The condition under which an instance is marked for deletion."""
    return sa.exists().where(
        _deleted.c.sop_instance_uid == table.c.sop_instance_uid,
        _deleted.c.digest == table.c.digest,
        _deletion.c.id == _deleted.c.deletion_id,
        _deletion.c.state == "marked",
    )


def _is_rejected(sop_instance_uid: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    return sa.exists().where(
        _rejected.c.sop_instance_uid == sop_instance_uid, _rejection.c.id == _rejected.c.rejection_id, _in_force
    )


_CAUSE = sa.case(
    (is_marked(), DELETED),
    (_is_rejected(_instance.c.sop_instance_uid), REJECTED),
    (sa.exists().where(_rejection.c.note_uid == _instance.c.sop_instance_uid, _in_force), NOTE),
    else_=None,
)
_ROWS = (
    _instance.c.id,
    _instance.c.series_id,
    _instance.c.study_id,
    _instance.c.beside,
    _instance.c.hidden,
    _CAUSE.label("cause"),
)
_uid: sa.BindParameter[str] = sa.bindparam("uid")
_IS_REJECTED = sa.select(_is_rejected(_uid))


def hidden_on_arrival(uow: UnitOfWork, sop_instance_uid: str) -> str | None:
    """Return what an instance that arrives is hidden for: a rejection note may have come before it."""
    return REJECTED if uow.connection.execute(_IS_REJECTED, {"uid": sop_instance_uid}).scalar() else None


def ids_of(uow: UnitOfWork, sop_instance_uids: Sequence[str]) -> list[str]:
    """Return the rows that are held under SOP Instance UIDs, those kept beside others too."""
    found: list[str] = []
    for start in range(0, len(sop_instance_uids), _AT_ONCE):
        some = sop_instance_uids[start : start + _AT_ONCE]
        found += uow.connection.execute(
            sa.select(_instance.c.id).where(_instance.c.sop_instance_uid.in_(some))
        ).scalars()
    return found


def refresh_hidden(uow: UnitOfWork, instance_ids: Sequence[str]) -> int:
    """Bring instances in line with rejections and deletions; return how many images came into or out of sight."""
    series: Counter[str] = Counter()
    studies: Counter[str] = Counter()
    touched: set[str] = set()
    changed = 0
    for start in range(0, len(instance_ids), _AT_ONCE):
        query = sa.select(*_ROWS).where(_instance.c.id.in_(instance_ids[start : start + _AT_ONCE]))
        by_cause: dict[str | None, list[str]] = defaultdict(list)
        for row in uow.connection.execute(query):
            if row.hidden == row.cause:
                continue
            by_cause[row.cause].append(row.id)
            touched.add(row.study_id)
            if not row.beside and (row.hidden is None) != (row.cause is None):
                step = -1 if row.hidden is None else 1
                series[row.series_id] += step
                studies[row.study_id] += step
                changed += 1
        for cause, ids in by_cause.items():
            uow.connection.execute(_instance.update().where(_instance.c.id.in_(ids)).values(hidden=cause))
    _count(uow, series, studies, touched)
    return changed


def _count(uow: UnitOfWork, series: Counter[str], studies: Counter[str], touched: set[str]) -> None:
    for series_id, step in sorted(series.items()):
        counted: dict[str, Any] = {"instance_count": _series.c.instance_count + step}
        uow.connection.execute(_series.update().where(_series.c.id == series_id).values(**counted))
    for study_id in sorted(touched):
        counted = {"instance_count": _study.c.instance_count + studies[study_id], "revision": _study.c.revision + 1}
        uow.connection.execute(_study.update().where(_study.c.id == study_id).values(**counted))
    orders = sa.select(_study.c.order_id).where(_study.c.id.in_(touched), _study.c.order_id.is_not(None)).distinct()
    for order_id in uow.connection.execute(orders).scalars().all():
        refresh_unread(uow, order_id)
