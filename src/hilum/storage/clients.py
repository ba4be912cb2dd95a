"""Programs that get tokens by their own keys, what they have used up, and tokens that were taken back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from hilum.core.actor import Role
from hilum.storage import tables
from hilum.storage.unit_of_work import UnitOfWork

_client = tables.service_client
_assertion = tables.client_assertion
_revoked = tables.revoked_token


@dataclass(frozen=True, slots=True)
class ServiceClient:
    """A program that is known here; `jwks` holds its public keys."""

    id: str
    name: str
    role: Role
    jwks: dict[str, Any]
    disabled: bool


def find_client(connection: sa.Connection, name: str) -> ServiceClient | None:
    """Return the client of a name."""
    row = connection.execute(sa.select(_client).where(_client.c.name == name)).one_or_none()
    return None if row is None else _from_row(row)


def list_clients(connection: sa.Connection) -> list[ServiceClient]:
    """Return all clients by name."""
    return [_from_row(row) for row in connection.execute(sa.select(_client).order_by(_client.c.name))]


def add_client_row(uow: UnitOfWork, name: str, role: Role, jwks: dict[str, Any]) -> str:
    """Store a new client."""
    client_id = uow.new_id()
    uow.connection.execute(
        _client.insert().values(id=client_id, name=name, role=role.value, jwks=jwks, disabled=False, created_at=uow.now)
    )
    return client_id


def update_client(uow: UnitOfWork, name: str, **columns: Any) -> bool:
    """Store changed columns of a client; tell whether there is such a one."""
    return bool(uow.connection.execute(_client.update().where(_client.c.name == name).values(**columns)).rowcount)


def use_assertion(uow: UnitOfWork, client_id: str, jti: str, expires_at: datetime) -> bool:
    """Note that an assertion was taken; tell whether it is the first time. What has ended is forgotten."""
    uow.connection.execute(_assertion.delete().where(_assertion.c.expires_at < uow.now))
    digest = sha256(jti.encode("utf-8", "surrogatepass")).hexdigest()
    known = uow.connection.execute(
        sa.select(_assertion.c.jti_digest).where(_assertion.c.client_id == client_id, _assertion.c.jti_digest == digest)
    ).first()
    if known is not None:
        return False
    # The same one at the same moment meets the primary key, is run again, and is then known.
    uow.connection.execute(_assertion.insert().values(client_id=client_id, jti_digest=digest, expires_at=expires_at))
    return True


def revoke_token_row(uow: UnitOfWork, token_id: str, expires_at: datetime) -> None:
    """Note that a token is good no more; what has ended by itself is forgotten."""
    uow.connection.execute(_revoked.delete().where(_revoked.c.expires_at < uow.now))
    known = uow.connection.execute(sa.select(_revoked.c.token_id).where(_revoked.c.token_id == token_id)).first()
    if known is None:
        uow.connection.execute(_revoked.insert().values(token_id=token_id, expires_at=expires_at))


def _from_row(row: sa.Row[Any]) -> ServiceClient:
    return ServiceClient(row.id, row.name, Role(row.role), dict(row.jwks), row.disabled)
