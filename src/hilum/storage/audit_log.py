"""The audit trail as the sealer and the verification read it, and the seals beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from hilum.storage import tables

_audit = tables.audit_event
_seal = tables.audit_seal
_sealed = tables.audit_sealed

ROWS_AT_ONCE = 2_000


def audit_rows(connection: sa.Connection) -> Iterator[Mapping[str, Any]]:
    """Stream all audit rows, grouped by writer and ascending by sequence; memory does not grow with their number."""
    query = sa.select(_audit).order_by(_audit.c.writer, _audit.c.sequence)
    for row in connection.execution_options(yield_per=ROWS_AT_ONCE).execute(query):
        yield row._asdict()


def seals(connection: sa.Connection) -> Iterator[Mapping[str, Any]]:
    """Stream the bodies of all seals in the order of their numbers."""
    query = sa.select(_seal.c.body).order_by(_seal.c.number)
    yield from connection.execution_options(yield_per=ROWS_AT_ONCE).execute(query).scalars()


def latest_seal(connection: sa.Connection) -> Mapping[str, Any] | None:
    """Return the body of the last seal."""
    query = sa.select(_seal.c.body).order_by(_seal.c.number.desc()).limit(1)
    return connection.execute(query).scalar()


def has_unsealed(connection: sa.Connection, since: datetime | None) -> bool:
    """Tell whether a row written since a moment is under no seal."""
    return connection.execute(_unsealed(_audit.c.sequence, since=since).limit(1)).scalar() is not None


def unsealed_rows(connection: sa.Connection, since: datetime | None, limit: int) -> list[sa.Row[Any]]:
    """Return rows under no seal as (writer, sequence, mac, at), the oldest first.

    `since` None looks at the whole trail. A writer's rows may be written before `since` though its later ones are not:
    `unsealed_of` reads all of one.
    """
    query = _unsealed(_audit.c.writer, _audit.c.sequence, _audit.c.mac, _audit.c.at, since=since)
    return list(connection.execute(query.order_by(_audit.c.at, _audit.c.writer, _audit.c.sequence).limit(limit)))


def unsealed_of(connection: sa.Connection, writers: Sequence[str], limit: int) -> list[sa.Row[Any]]:
    """Return the rows of some writers that are under no seal, in the order of their numbers."""
    query = _unsealed(_audit.c.writer, _audit.c.sequence, _audit.c.mac, _audit.c.at, since=None)
    query = query.where(_audit.c.writer.in_(writers)).order_by(_audit.c.writer, _audit.c.sequence)
    return list(connection.execute(query.limit(limit)))


def sealed_through(connection: sa.Connection, writers: Sequence[str]) -> dict[str, int]:
    """Return the last sealed number of each writer that has one."""
    query = sa.select(_sealed).where(_sealed.c.writer.in_(writers))
    return {row.writer: row.through for row in connection.execute(query)}


def add_seal(
    connection: sa.Connection, number: int, at: datetime, body: Mapping[str, Any], through: Mapping[str, int]
) -> None:
    """Store a seal, and up to which number it seals each of its writers."""
    connection.execute(_seal.insert().values(number=number, at=at, body=dict(body)))
    known = sealed_through(connection, list(through))
    for writer, last in through.items():
        if writer in known:
            connection.execute(_sealed.update().where(_sealed.c.writer == writer).values(through=last))
        else:
            connection.execute(_sealed.insert().values(writer=writer, through=last))


def _unsealed(*columns: Any, since: datetime | None) -> sa.Select[Any]:
    query = (
        sa.select(*columns)
        .select_from(_audit.outerjoin(_sealed, _sealed.c.writer == _audit.c.writer))
        .where(_audit.c.sequence > sa.func.coalesce(_sealed.c.through, 0))
    )
    return query if since is None else query.where(_audit.c.at >= since)
