"""What the index holds under a SOP Instance UID, before the bytes of an instance are written a second time."""

from __future__ import annotations

import sqlite3
import threading

import sqlalchemy as sa

from hilum.core.errors import Unavailable
from hilum.core.study import ExceptionKind
from hilum.storage import tables
from hilum.storage.store import Store

_instance, _item = tables.instance, tables.exception_item
# What was found damaged is not held: its bytes are written again, and `workflow.integrity` puts them in its place.
_DAMAGED = sa.exists().where(
    _item.c.resolved_at.is_(None),
    _item.c.kind == sa.literal_column(f"'{ExceptionKind.INSTANCE_DAMAGED.value}'"),
    _item.c.study_id == _instance.c.study_id,
    _item.c.note == _instance.c.sop_instance_uid,
)
_DIGESTS = sa.select(_instance.c.digest).where(_instance.c.sop_instance_uid == sa.bindparam("uid"), sa.not_(_DAMAGED))


class HeldInstances:
    """Asked for every instance that arrives, from any thread.

    On SQLite it keeps a connection of its own and the statement as text: to take a connection from the pool and build
    the statement costs ten times what the answer costs.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._text = str(_DIGESTS.compile(store.engine)) if store.engine.dialect.name == "sqlite" else ""
        self._own: sa.PoolProxiedConnection | None = None

    def digests(self, sop_instance_uid: str) -> list[str]:
        """Return the SHA-256 in hexadecimal of every data set held under this UID. Raises Unavailable."""
        if not self._text:
            with self._store.read() as connection:
                return list(connection.execute(_DIGESTS, {"uid": sop_instance_uid}).scalars())
        with self._lock:
            try:
                return [row[0] for row in self._connection().execute(self._text, (sop_instance_uid,))]
            except sqlite3.OperationalError as error:
                raise Unavailable("The database does not answer.") from error

    def _connection(self) -> sqlite3.Connection:
        if self._own is None:
            # Held for good: let go of, it would be given to others while it is used here.
            self._own = self._store.engine.raw_connection()
        connection = self._own.driver_connection
        assert isinstance(connection, sqlite3.Connection)
        return connection
