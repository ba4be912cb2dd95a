"""Whether the index holds an instance already, before its bytes are written a second time."""

from __future__ import annotations

import sqlalchemy as sa

from hilum.storage import tables

_instance = tables.instance
# Run for every instance that arrives, so it is built once.
_HOLDS = sa.select(sa.literal(1)).where(
    _instance.c.sop_instance_uid == sa.bindparam("uid"), _instance.c.digest == sa.bindparam("of_digest")
)


def holds_instance(connection: sa.Connection, sop_instance_uid: str, digest: str) -> bool:
    """Tell whether exactly these bytes are indexed under this SOP Instance UID (by the unique index on both)."""
    return connection.execute(_HOLDS, {"uid": sop_instance_uid, "of_digest": digest}).scalar() is not None
