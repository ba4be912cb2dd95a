"""Leases: one holder of a job among many processes, for a limited time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from hilum.core.actor import Actor
from hilum.storage.tables import lease
from hilum.storage.unit_of_work import UnitOfWork


@dataclass(frozen=True, slots=True)
class TakeLease:
    """Ask for a job's lease, or for more time with it."""

    name: str
    holder: str
    seconds: float


def take_lease(uow: UnitOfWork, command: TakeLease, actor: Actor) -> bool:
    """Take or keep a lease; tell whether it is now held."""
    until = uow.now + timedelta(seconds=command.seconds)
    changed = uow.connection.execute(
        lease.update()
        .where(lease.c.name == command.name, sa.or_(lease.c.holder == command.holder, lease.c.until < uow.now))
        .values(holder=command.holder, until=until)
    )
    if changed.rowcount:
        return True
    known = uow.connection.execute(sa.select(lease.c.holder).where(lease.c.name == command.name)).scalar()
    if known is None:
        uow.connection.execute(lease.insert().values(name=command.name, holder=command.holder, until=until))
        return True
    return False


def give_back(uow: UnitOfWork, command: TakeLease, actor: Actor) -> None:
    """Let go of a lease, so that another need not wait for its end."""
    uow.connection.execute(lease.delete().where(lease.c.name == command.name, lease.c.holder == command.holder))
