"""How far the audit trail has been sent to a collector: a place in the chain of seals, and what comes after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from hilum.core.actor import Actor
from hilum.storage import tables
from hilum.storage.unit_of_work import UnitOfWork

_sent = tables.audit_sent
_seal = tables.audit_seal


@dataclass(frozen=True, slots=True)
class Position:
    """All rows under the seals up to `seal` are sent, and the first `rows` under the next one."""

    seal: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True)
class NotePosition:
    """Note how far a collector has the trail."""

    collector: str
    position: Position


def position_of(connection: sa.Connection, collector: str) -> Position:
    """Return how far a collector has the trail; its beginning for a new one."""
    query = sa.select(_sent.c.seal, _sent.c.rows).where(_sent.c.collector == collector)
    row = connection.execute(query).one_or_none()
    return Position(row.seal, row.rows) if row is not None else Position()


def note_position(uow: UnitOfWork, command: NotePosition, actor: Actor) -> None:
    """Note how far a collector has the trail; whoever was slower takes nothing back."""
    values = {"seal": command.position.seal, "rows": command.position.rows, "at": uow.now}
    if (
        uow.connection.execute(sa.select(_sent.c.seal).where(_sent.c.collector == command.collector)).scalar()
        is not None
    ):
        further = sa.or_(
            _sent.c.seal < command.position.seal,
            sa.and_(_sent.c.seal == command.position.seal, _sent.c.rows < command.position.rows),
        )
        here = _sent.update().where(_sent.c.collector == command.collector, further)
        uow.connection.execute(here.values(**values))
    else:
        uow.connection.execute(_sent.insert().values(collector=command.collector, **values))


def seal_after(connection: sa.Connection, number: int) -> Mapping[str, Any] | None:
    """Return the body of the first seal after a number; there are gaps only in a trail that was tampered with."""
    query = sa.select(_seal.c.body).where(_seal.c.number > number).order_by(_seal.c.number).limit(1)
    return connection.execute(query).scalar()
