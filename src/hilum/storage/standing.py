"""How a token's holder stands at this moment: one prepared statement, asked before every request of a stranger.

It is handed to the driver as it is, outside of a transaction of ours: one statement needs no snapshot, and the toolkit
around it would cost five times as much.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson
import sqlalchemy as sa

from hilum.core.actor import Identifier, Role
from hilum.core.errors import Unavailable
from hilum.storage import tables
from hilum.storage.store import Store

_user = tables.user_account
_client = tables.service_client
_revoked = tables.revoked_token

_TAKEN_BACK = sa.exists().where(_revoked.c.token_id == sa.bindparam("token", type_=sa.Text))
_NAMED = sa.bindparam("name", type_=sa.Text)
_OF_USER = sa.select(
    _user.c.name, _user.c.display, _user.c.role, _user.c.identifiers, _user.c.facilities,
).where(_user.c.name == _NAMED, sa.not_(_user.c.disabled), sa.not_(_TAKEN_BACK))  # fmt: skip
_OF_CLIENT = sa.select(_client.c.name, _client.c.role).where(
    _client.c.name == _NAMED, sa.not_(_client.c.disabled), sa.not_(_TAKEN_BACK)
)
_OF_TOKEN = sa.select(_TAKEN_BACK)


@dataclass(frozen=True, slots=True)
class StandingUser:
    """An open account, as far as it says who someone is."""

    name: str
    display: str
    role: Role
    identifiers: tuple[Identifier, ...]
    facilities: tuple[str, ...]


def standing_user(store: Store, name: str, token_id: str) -> StandingUser | None:
    """Return the open account of a token that was not taken back; None where either is not so."""
    row = _one(store, _OF_USER, name=name, token=token_id)
    if row is None:
        return None
    identifiers = tuple(Identifier(**identifier) for identifier in orjson.loads(row[3]))
    return StandingUser(row[0], row[1], Role(row[2]), identifiers, tuple(orjson.loads(row[4])))


def standing_client(store: Store, name: str, token_id: str) -> tuple[str, Role] | None:
    """Return name and role of the open client of a token that was not taken back; None where either is not so."""
    row = _one(store, _OF_CLIENT, name=name, token=token_id)
    return None if row is None else (row[0], Role(row[1]))


def is_taken_back(store: Store, token_id: str) -> bool:
    """Tell whether a token was taken back."""
    row = _one(store, _OF_TOKEN, token=token_id)
    return row is not None and bool(row[0])


def _one(store: Store, query: sa.Select[Any], **values: str) -> Any:
    """The first row as the driver gives it. Raises Unavailable."""
    engine = store.engine
    text, arranged = _prepared(query, engine.dialect)
    # No name that is stored holds NUL, which PostgreSQL cannot compare with.
    given = {name: value.replace("\x00", "") for name, value in values.items()}
    try:
        with closing(engine.raw_connection()) as connection:
            cursor = connection.cursor()
            cursor.execute(text, arranged(given))
            row = cursor.fetchone()
            cursor.close()
            return row
    except (sa.exc.DBAPIError, sa.exc.TimeoutError, engine.dialect.loaded_dbapi.Error) as error:
        raise Unavailable("The database does not answer.") from error


@cache
def _prepared(query: sa.Select[Any], dialect: sa.Dialect) -> tuple[str, Callable[[dict[str, str]], Any]]:
    """The text of a query for a driver, and what puts its values into the driver's order."""
    compiled: Any = query.compile(dialect=dialect)
    order: list[str] | None = compiled.positiontup
    if order is None:
        return compiled.string, lambda given: given
    return compiled.string, lambda given: tuple(given[name] for name in order)
