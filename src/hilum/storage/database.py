"""Opening a database: SQLite (WAL, synced by `Committer`) or PostgreSQL, and bringing its schema up to date."""

from __future__ import annotations

import re
import sqlite3
import threading
from importlib import resources
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from hilum.core.errors import Unavailable
from hilum.storage.store import Store
from hilum.telemetry import count_database


def open_engine(url: str, path: Path, *, pool_size: int = 16, role: str = "cli") -> sa.Engine:
    """Open `postgresql://…`, or `sqlite` as the file at `path`; `role` names the process in the metrics."""
    engine = _engine(url, path, pool_size)
    _count_statements(engine, role)
    return engine


def _count_statements(engine: sa.Engine, role: str) -> None:
    """Count statements by transaction: a shared counter costs as much as a tenth of a statement."""
    own = threading.local()

    def begun(*_: Any) -> None:
        own.statements = getattr(own, "statements", 0) + 1

    def ended(_: sa.Connection) -> None:
        count_database(role, "statement", getattr(own, "statements", 0))
        own.statements = 0

    sa.event.listen(engine, "before_cursor_execute", begun)
    sa.event.listen(engine, "commit", ended)
    sa.event.listen(engine, "rollback", ended)
    sa.event.listen(engine, "commit", lambda _: count_database(role, "commit"))


def _engine(url: str, path: Path, pool_size: int) -> sa.Engine:
    if url.startswith("postgresql"):
        return sa.create_engine(
            "postgresql+psycopg" + url[url.index(":") :],
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_pre_ping=True,
            isolation_level="READ COMMITTED",
        )
    engine = sa.create_engine(
        f"sqlite:///{path}", pool_size=pool_size, max_overflow=pool_size, connect_args={"timeout": 30}
    )
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_immediate)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # pysqlite's own transaction handling commits at outer savepoints; ours begins explicitly.
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "cache_size=-65536",
        # A checkpoint syncs log and database: rarer than the default, as it holds up the commit that it follows.
        "wal_autocheckpoint=4000",
        "mmap_size=268435456",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: sa.Connection) -> None:
    reading = connection.get_execution_options().get("hilum_reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def migrate(engine: sa.Engine) -> None:
    """Bring the schema to the newest revision; safe when several processes start at once."""
    if _revision(engine) == newest_revision():
        return
    import alembic.command
    import alembic.config

    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(4873219)")
        config = alembic.config.Config()
        config.set_main_option("script_location", str(_migrations()))
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "head")


def schema_is_current(engine: sa.Engine) -> bool:
    """Tell whether the schema is at the newest migration."""
    try:
        return _revision(engine) == newest_revision()
    except sa.exc.OperationalError as error:
        raise Unavailable("The database does not answer.") from error


def newest_revision() -> str:
    """Read the revision that no other follows from the migrations themselves.

    Alembic knows it too, but takes a tenth of a second to be imported, and every process and command asks.
    """
    texts = [file.read_text("utf-8") for file in _migrations().joinpath("versions").iterdir() if file.suffix == ".py"]
    revisions = {found[1] for text in texts for found in re.finditer(r'^revision\b.*= ["\'](.+)["\']', text, re.M)}
    followed = {found[1] for text in texts for found in re.finditer(r'^down_revision\b.*= ["\'](.+)["\']', text, re.M)}
    (newest,) = revisions - followed
    return newest


def _migrations() -> Path:
    return Path(str(resources.files("hilum.storage").joinpath("migrations")))


def _revision(engine: sa.Engine) -> str | None:
    """Return the revision of a database's schema; None where it has none yet."""
    with engine.connect().execution_options(hilum_reading=True) as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def answers(store: Store) -> None:
    """Ask the database for nothing; raise `Unavailable` when it does not answer."""
    with store.read() as connection:
        connection.execute(sa.select(1))
