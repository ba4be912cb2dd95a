"""Where an instance that arrives belongs: its study and series, and whether it is merely one more image of them.

Of a thousand images of a study all but a few change nothing except counts; to know that takes one statement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from hilum.core.order import PerformedStatus
from hilum.core.report import AUTHORITATIVE
from hilum.core.study import Study
from hilum.storage import tables
from hilum.storage.studies import study_from_row

if TYPE_CHECKING:
    from hilum.storage.unit_of_work import UnitOfWork

_study, _series = tables.study, tables.series
_rejected = tables.rejected_instance
_order, _report = tables.imaging_order, tables.report
_performed, _scheduled, _made = tables.performed_step, tables.performed_scheduled, tables.performed_series

_series_uid: sa.BindParameter[str] = sa.bindparam("series_uid")
_performed_uid: sa.BindParameter[str] = sa.bindparam("performed_uid")
_is_named = sa.and_(
    _study.c.study_instance_uid == sa.bindparam("study_uid"),
    _study.c.patient_identifier == sa.bindparam("patient_identifier"),
)


def _may_be_wrong_entry() -> sa.ColumnElement[bool]:
    """An exam of the series or of the order was discontinued, or the series has yet to be related to the exam named."""
    discontinued = _performed.c.status == PerformedStatus.DISCONTINUED.value
    of_series = sa.exists().where(
        _made.c.series_instance_uid == _series_uid, _performed.c.id == _made.c.performed_id, discontinued
    )
    of_order = sa.exists().where(
        _scheduled.c.order_id == _study.c.order_id, _performed.c.id == _scheduled.c.performed_id, discontinued
    )
    related = sa.exists().where(_made.c.performed_id == _performed.c.id, _made.c.series_instance_uid == _series_uid)
    unrelated = sa.exists().where(_performed.c.sop_instance_uid == _performed_uid, sa.not_(related))
    return sa.or_(of_series, of_order, unrelated)


# Written out, since a list in a statement is expanded anew at each run.
_is_late = sa.or_(
    sa.func.coalesce(_order.c.withdrawn, sa.false()),
    *(sa.func.coalesce(_report.c.status, "") == status.value for status in sorted(AUTHORITATIVE)),
)
_may_be_rejected = sa.exists().where(_rejected.c.study_instance_uid == sa.bindparam("study_uid"))
_LOCK = sa.select(_study.c.id).where(_is_named).with_for_update(key_share=True)
_PLACE: sa.Select[Any] = (
    sa.select(
        *(column for column in _study.c if column.name != "attributes"),
        _series.c.id.label("series_id"),
        sa.or_(_is_late, _may_be_wrong_entry(), _may_be_rejected).label("touches_more"),
    )
    .outerjoin(_series, sa.and_(_series.c.study_id == _study.c.id, _series.c.series_instance_uid == _series_uid))
    .outerjoin(_order, _order.c.id == _study.c.order_id)
    .outerjoin(_report, _report.c.order_id == _study.c.order_id)
    .where(_is_named)
)


@dataclass(frozen=True, slots=True)
class Place:
    """The study of an instance with its row (None where it is new), and the series (None where that is new).

    `is_one_more` tells that a known series of a study under way gets a further image, whose order was neither withdrawn
    nor reported, that no exam can say that it was made under a wrong worklist entry, and that no rejection note names
    its study.
    """

    study: Study
    row: Mapping[str, Any] | None = None
    series_id: str | None = None
    is_one_more: bool = False


def find_place(
    uow: UnitOfWork, study_instance_uid: str, patient_identifier: str, series_instance_uid: str, performed_uid: str
) -> Place | None:
    """Return the place of an instance in the study of a UID for the patient whom it names, locked until the commit."""
    parameters = {
        "study_uid": study_instance_uid,
        "patient_identifier": patient_identifier,
        "series_uid": series_instance_uid,
        "performed_uid": performed_uid,
    }
    if uow.on_postgresql:
        # What is joined is as old as the statement's beginning, so the wait for the lock comes before.
        uow.connection.execute(_LOCK, parameters)
    row = uow.connection.execute(_PLACE, parameters).one_or_none()
    if row is None:
        return None
    if row.series_id is None and (moved := _moved_place(uow, row.id, series_instance_uid)) is not None:
        return moved
    is_one_more = row.series_id is not None and row.completed_at is None and not row.touches_more
    return Place(study_from_row(row), dict(row._mapping), row.series_id, is_one_more)


def _moved_place(uow: UnitOfWork, study_id: str, series_instance_uid: str) -> Place | None:
    """Return where a person moved the series of an instance to, out of the study that the instance names."""
    moved = sa.select(_series.c.id, _series.c.study_id).where(
        _series.c.series_instance_uid == series_instance_uid, _series.c.origin_study_id == study_id
    )
    series = uow.connection.execute(moved.limit(1)).one_or_none()
    if series is None:
        return None
    columns = (column for column in _study.c if column.name != "attributes")
    query = sa.select(*columns).where(_study.c.id == series.study_id).with_for_update(key_share=True)
    row = uow.connection.execute(query).one()
    return Place(study_from_row(row), dict(row._mapping), series.id)
