"""A consistent copy of the database while it is in use, and the way back into an empty one.

SQLite by its own backup interface. PostgreSQL by `pg_dump` and `pg_restore`, which have to be installed and as new as
the server; without them the refusal says so, and the database's own backups are the way.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from hilum.core.errors import Conflict, InvalidInput, Unavailable
from hilum.storage import tables

SQLITE, POSTGRESQL = "database.sqlite", "database.pgdump"
_instance = tables.instance


def copy_database(engine: sa.Engine, folder: Path) -> Path:
    """Write a copy as of one moment into a folder, proven whole, and return its file. Raises Unavailable."""
    if engine.dialect.name != "sqlite":
        target = folder / POSTGRESQL
        _run(engine, "pg_dump", "--format=custom", "--no-owner", f"--file={target}")
        return target
    target = folder / SQLITE
    with closing(engine.raw_connection()) as pooled, closing(sqlite3.connect(target)) as copy:
        source = pooled.driver_connection
        assert isinstance(source, sqlite3.Connection)
        source.backup(copy)
    check_sqlite(target)
    return target


def restore_sqlite(copy: Path, path: Path) -> None:
    """Put a copy back as the file at `path`, which nobody may have opened yet. Raises InvalidInput."""
    check_sqlite(copy)
    shutil.copyfile(copy, path)


def restore_postgresql(copy: Path, engine: sa.Engine) -> None:
    """Put a copy back into an empty database. Raises Conflict, Unavailable."""
    if sa.inspect(engine).get_table_names():
        raise Conflict("The database is not empty.")
    _run(engine, "pg_restore", "--no-owner", "--exit-on-error", f"--dbname={engine.url.database}", str(copy))


def check_sqlite(path: Path) -> None:
    """Raise InvalidInput for a file that is no whole SQLite database."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            said = connection.execute("PRAGMA integrity_check").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise InvalidInput("The copy of the database is damaged.") from error
    if said != "ok":
        raise InvalidInput("The copy of the database is damaged.")


def archive_objects(connection: sa.Connection) -> Iterator[tuple[str, int]]:
    """Return every object of the archive that the index refers to, and how many bytes it must have at least."""
    end = sa.func.max(_instance.c.object_offset + _instance.c.object_length)
    query = sa.select(_instance.c.object_key, end).group_by(_instance.c.object_key).order_by(_instance.c.object_key)
    for key, size in connection.execution_options(yield_per=1000).execute(query):
        yield str(key), int(size)


def _run(engine: sa.Engine, tool: str, *arguments: str) -> None:
    program = shutil.which(tool)
    if program is None:
        raise Unavailable(f"{tool} is not installed; back PostgreSQL up by its own means.")
    url = engine.url
    # The password goes by the environment: every process may read what others were started with.
    said = {"PGHOST": url.host, "PGPORT": str(url.port or ""), "PGUSER": url.username, "PGDATABASE": url.database}
    environment = {**os.environ, **{name: value for name, value in said.items() if value}}
    environment |= {"PGPASSWORD": url.password} if url.password else {}
    environment |= {f"PG{name.upper()}": value for name, value in url.query.items() if isinstance(value, str)}
    done = subprocess.run([program, *arguments], capture_output=True, env=environment, check=False)
    if done.returncode:
        raise Unavailable(f"{tool} failed ({done.returncode}): is it as new as the server, and the database reachable?")
