"""Which exams wait to be read, kept on the order itself, so that the reading worklist is one walk along an index.

An exam waits from its start, or from its first images that are not withheld, until a final report; a retraction makes
it wait again. An order's status, its images and its report change in different verbs, so the rule stands here once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from hilum.core.order import OrderStatus
from hilum.core.report import AUTHORITATIVE, ReportStatus
from hilum.core.study import MatchState
from hilum.storage import tables

if TYPE_CHECKING:
    from hilum.storage.unit_of_work import UnitOfWork

BEGUN = (OrderStatus.IN_PROGRESS, OrderStatus.PARTIAL, OrderStatus.COMPLETED)
REPORTED = AUTHORITATIVE - {ReportStatus.RETRACTED}

_order = tables.imaging_order
_of: sa.BindParameter[str] = sa.bindparam("of")


def _refreshed() -> sa.Update:
    study, series, report = tables.study, tables.series, tables.report
    images = sa.exists().where(
        study.c.order_id == _of,
        study.c.match_state == MatchState.VERIFIED.value,
        series.c.study_id == study.c.id,
        series.c.withheld.is_(False),
    )
    reported = sa.exists().where(
        report.c.order_id == _of, report.c.status.in_(sorted(status.value for status in REPORTED))
    )
    waits = sa.or_(
        _order.c.status.in_([status.value for status in BEGUN]),
        sa.and_(_order.c.status != OrderStatus.CANCELLED.value, images),
    )
    now = sa.bindparam("now", type_=_order.c.unread_since.type)
    since = sa.case((sa.and_(waits, sa.not_(reported)), sa.func.coalesce(_order.c.unread_since, now)), else_=None)
    return _order.update().where(_order.c.id == _of).values(unread_since=since)


_REFRESHED = _refreshed()


def refresh_unread(uow: UnitOfWork, order_id: str) -> None:
    """Bring `unread_since` of an order in line with its status, images and report."""
    uow.connection.execute(_REFRESHED, {"of": order_id, "now": uow.now})
