"""Column types that behave alike on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """A moment in UTC: `timestamptz` on PostgreSQL, ISO text on SQLite. Naive values are refused."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class PlainText(sa.types.TypeDecorator[str]):
    """Text as a sender gave it, of any length; NUL, which PostgreSQL cannot hold, is left out."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return value.replace("\x00", "") if value and "\x00" in value else value


class Json(sa.types.TypeDecorator[Any]):
    """A JSON document kept as text, so that it reads back exactly as it was written."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        return None if value is None else orjson.dumps(value).decode()

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:
        return None if value is None else orjson.loads(value)


Id = sa.String(26)
Uid = sa.String(64)


class database_now(sa.sql.functions.FunctionElement[datetime]):
    """The moment by the clock of the database, which is one for all nodes; in the form that `UtcDateTime` stores."""

    type = sa.DateTime(timezone=True)
    inherit_cache = True


@compiles(database_now, "postgresql")
def _now_on_postgresql(element: database_now, compiler: sa.Compiled, **details: Any) -> str:
    return "clock_timestamp()"


@compiles(database_now, "sqlite")
def _now_on_sqlite(element: database_now, compiler: sa.Compiled, **details: Any) -> str:
    return "strftime('%Y-%m-%d %H:%M:%f', 'now')"
