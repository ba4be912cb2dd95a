"""Which studies may be complete: those that have been quiet for a while."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from hilum.storage import tables

_study = tables.study


def quiet_study_ids(connection: sa.Connection, moment: datetime, limit: int = 100) -> list[str]:
    """Return studies that are not complete and have received nothing since a moment, the quietest first."""
    query = sa.select(_study.c.id).where(_study.c.completed_at.is_(None), _study.c.last_received_at < moment)
    return list(connection.execute(query.order_by(_study.c.last_received_at).limit(limit)).scalars())
