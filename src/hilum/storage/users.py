"""User accounts and their sessions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from hilum.core.actor import Identifier, Role
from hilum.storage import tables

if TYPE_CHECKING:
    from hilum.storage.unit_of_work import UnitOfWork

_user = tables.user_account
_session = tables.session
_link = tables.user_link


@dataclass(frozen=True, slots=True)
class User:
    """A person with an account; `identifiers` tie it to XCN.1 of messages, `facilities` limit it if there are any."""

    id: str
    name: str
    display: str
    role: Role
    password_hash: str
    must_change_password: bool
    identifiers: tuple[Identifier, ...]
    disabled: bool
    failures: int
    last_failure_at: datetime | None
    facilities: tuple[str, ...] = ()


def user_from_row(row: sa.Row[Any]) -> User:
    """Build a user from its row."""
    return User(
        row.id,
        row.name,
        row.display,
        Role(row.role),
        row.password_hash,
        row.must_change_password,
        tuple(Identifier(**identifier) for identifier in row.identifiers),
        row.disabled,
        row.failures,
        row.last_failure_at,
        tuple(row.facilities),
    )


def find_user(connection: sa.Connection, name: str) -> User | None:
    """Return the account of a name."""
    row = connection.execute(sa.select(_user).where(_user.c.name == name)).one_or_none()
    return None if row is None else user_from_row(row)


def linked_user(connection: sa.Connection, issuer: str, subject: str) -> User | None:
    """Return the account that a provider's subject stands for."""
    query = (
        sa.select(_user)
        .join(_link, _link.c.user_id == _user.c.id)
        .where(_link.c.issuer == issuer, _link.c.subject == subject)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else user_from_row(row)


def list_users(connection: sa.Connection) -> list[User]:
    """Return all accounts by name."""
    return [user_from_row(row) for row in connection.execute(sa.select(_user).order_by(_user.c.name))]


class Users:
    """The accounts of one transaction."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow
        self._db = uow.connection

    def find(self, name: str) -> User | None:
        """Return the account of a name."""
        return find_user(self._db, name)

    def count(self) -> int:
        """Return how many accounts there are."""
        return int(self._db.execute(sa.select(sa.func.count()).select_from(_user)).scalar_one())

    def add(
        self,
        name: str,
        role: Role,
        password_hash: str,
        identifiers: Sequence[Identifier],
        *,
        display: str = "",
        must_change_password: bool = False,
    ) -> str:
        """Store a new account."""
        user_id = self._uow.new_id()
        self._db.execute(
            _user.insert().values(
                id=user_id,
                name=name,
                display=display or name,
                role=role.value,
                password_hash=password_hash,
                must_change_password=must_change_password,
                identifiers=[asdict(identifier) for identifier in identifiers],
                disabled=False,
                failures=0,
                created_at=self._uow.now,
            )
        )
        return user_id

    def update(self, name: str, **columns: Any) -> None:
        """Store changed columns of an account."""
        self._db.execute(_user.update().where(_user.c.name == name).values(**columns))

    def count_failure(self, name: str) -> None:
        """Count a wrong password; guesses at the same moment all count."""
        self.update(name, failures=_user.c.failures + 1, last_failure_at=self._uow.now)

    def link(self, user_id: str, issuer: str, subject: str) -> None:
        """Let a provider's subject stand for an account."""
        self._db.execute(
            _link.insert().values(issuer=issuer, subject=subject, user_id=user_id, created_at=self._uow.now)
        )

    def is_linked(self, user_id: str, issuer: str) -> bool:
        """Tell whether a subject of this issuer stands for an account already."""
        query = sa.select(_link.c.subject).where(_link.c.user_id == user_id, _link.c.issuer == issuer)
        return self._db.execute(query).first() is not None

    def open_session(
        self,
        session_id: str,
        user_id: str,
        expires_at: datetime,
        address: str,
        *,
        provider: str = "",
        proved_at: datetime | None = None,
    ) -> None:
        """Store a new session under the digest of its secret."""
        self._db.execute(
            _session.insert().values(
                id=session_id,
                user_id=user_id,
                created_at=self._uow.now,
                seen_at=self._uow.now,
                expires_at=expires_at,
                address=address,
                provider=provider,
                proved_at=proved_at,
            )
        )

    def touch_session(self, session_id: str) -> None:
        """Note that a session is in use."""
        self._db.execute(_session.update().where(_session.c.id == session_id).values(seen_at=self._uow.now))

    def revoke_session(self, session_id: str) -> None:
        """End a session."""
        self._db.execute(_session.update().where(_session.c.id == session_id).values(revoked_at=self._uow.now))

    def revoke_sessions(self, user_id: str) -> None:
        """End all sessions of a user."""
        self._db.execute(
            _session.update()
            .where(_session.c.user_id == user_id, _session.c.revoked_at.is_(None))
            .values(revoked_at=self._uow.now)
        )
