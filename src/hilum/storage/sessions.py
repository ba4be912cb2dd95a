"""Sessions of people in browsers, and the wrong passwords that make guessing slow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from hilum.storage import tables
from hilum.storage.unit_of_work import UnitOfWork
from hilum.storage.users import User, user_from_row

_user = tables.user_account
_session = tables.session
_failure = tables.sign_in_failure

# Guesses are counted over this time; what is older is forgotten.
FAILURES_COUNT = timedelta(days=1)
KNOWN_ADDRESS = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Session:
    """An open session of someone; `id` is the digest of the cookie's secret, and opens nothing by itself."""

    id: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    address: str
    provider: str
    proved_at: datetime | None


@dataclass(frozen=True, slots=True)
class Failures:
    """Wrong passwords for a name within a day: from one address, and from everywhere."""

    here: int
    last_here: datetime | None
    everywhere: int
    last: datetime | None
    # Whether the account was signed in from this address lately.
    known_address: bool


def session_user(
    connection: sa.Connection, session_id: str, now: datetime, idle: timedelta
) -> tuple[User, Session] | None:
    """Return the user of a session that still holds, and the session."""
    query = sa.select(_session).where(_session.c.id == session_id, *_holds(now, idle))
    found = connection.execute(query).one_or_none()
    if found is None:
        return None
    user = user_from_row(connection.execute(sa.select(_user).where(_user.c.id == found.user_id)).one())
    return None if user.disabled else (user, _session_from_row(found))


def open_sessions(connection: sa.Connection, name: str, now: datetime, idle: timedelta) -> list[Session]:
    """Return the sessions of an account that still hold, the newest first."""
    query = (
        sa.select(_session)
        .join(_user, _user.c.id == _session.c.user_id)
        .where(_user.c.name == name, *_holds(now, idle))
        .order_by(_session.c.created_at.desc(), _session.c.id)
        .limit(200)
    )
    return [_session_from_row(row) for row in connection.execute(query)]


def revoke_own_session(uow: UnitOfWork, name: str, session_id: str) -> bool:
    """End one session of an account; tell whether there was such a one."""
    owner = sa.select(_user.c.id).where(_user.c.name == name).scalar_subquery()
    changed = uow.connection.execute(
        _session.update()
        .where(_session.c.id == session_id, _session.c.user_id == owner, _session.c.revoked_at.is_(None))
        .values(revoked_at=uow.now)
    )
    return bool(changed.rowcount)


def revoke_sessions_but(uow: UnitOfWork, user_id: str, kept: str) -> int:
    """End all sessions of a user except one; return how many ended."""
    changed = uow.connection.execute(
        _session.update()
        .where(_session.c.user_id == user_id, _session.c.id != kept, _session.c.revoked_at.is_(None))
        .values(revoked_at=uow.now)
    )
    return int(changed.rowcount)


def failures_of(connection: sa.Connection, name: str, address: str, now: datetime) -> Failures:
    """Return the wrong passwords for a name; they are counted whether or not there is such an account."""
    since = now - FAILURES_COUNT
    rows = connection.execute(
        sa.select(_failure.c.address, _failure.c.failures, _failure.c.last_failure_at).where(
            _failure.c.name_digest == _digest(name), _failure.c.last_failure_at > since
        )
    ).all()
    here = next((row for row in rows if row.address == address), None)
    known = connection.execute(
        sa.select(_session.c.id)
        .join(_user, _user.c.id == _session.c.user_id)
        .where(_user.c.name == name, _session.c.address == address, _session.c.created_at > now - KNOWN_ADDRESS)
        .limit(1)
    ).first()
    return Failures(
        here.failures if here else 0,
        here.last_failure_at if here else None,
        sum(row.failures for row in rows),
        max((row.last_failure_at for row in rows), default=None),
        known is not None,
    )


def count_failure(uow: UnitOfWork, name: str, address: str) -> None:
    """Count a wrong password; guesses at the same moment all count. What is out of date goes."""
    uow.connection.execute(_failure.delete().where(_failure.c.last_failure_at < uow.now - FAILURES_COUNT))
    key = {"name_digest": _digest(name), "address": address}
    changed = uow.connection.execute(
        _failure.update()
        .where(_failure.c.name_digest == key["name_digest"], _failure.c.address == address)
        .values(failures=_failure.c.failures + 1, last_failure_at=uow.now)
    )
    if not changed.rowcount:
        # A guess at the same moment makes this one run again, and count.
        uow.connection.execute(_failure.insert().values(**key, failures=1, last_failure_at=uow.now))


def forget_failures(uow: UnitOfWork, name: str, address: str | None = None) -> None:
    """Forget the wrong passwords for a name: of one address after the right one, of all after a reset."""
    where = [_failure.c.name_digest == _digest(name)]
    if address is not None:
        where.append(_failure.c.address == address)
    uow.connection.execute(_failure.delete().where(*where))


def _holds(now: datetime, idle: timedelta) -> tuple[sa.ColumnElement[bool], ...]:
    return (_session.c.revoked_at.is_(None), _session.c.expires_at > now, _session.c.seen_at > now - idle)


def _session_from_row(row: sa.Row[Any]) -> Session:
    return Session(row.id, row.created_at, row.seen_at, row.expires_at, row.address, row.provider, row.proved_at)


def _digest(name: str) -> str:
    return sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
