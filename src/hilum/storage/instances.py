"""Whether the index holds an instance already, before its bytes are written a second time."""

from __future__ import annotations

import sqlalchemy as sa

from hilum.storage import tables

_instance = tables.instance


def holds_instance(connection: sa.Connection, sop_instance_uid: str, digest: str) -> bool:
    """Tell whether exactly these bytes are indexed under this SOP Instance UID (by the unique index on both)."""
    query = sa.select(sa.literal(1)).where(
        _instance.c.sop_instance_uid == sop_instance_uid, _instance.c.digest == digest
    )
    return connection.execute(query).scalar() is not None
