"""The migrations end in exactly the schema that the code uses, on both databases."""

from __future__ import annotations

from pathlib import Path

import alembic.autogenerate
import pytest
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import hilum.storage
from hilum.storage.database import migrate, newest_revision, open_engine, schema_is_current
from hilum.storage.tables import metadata


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_the_schema_equals_its_migrations(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = "sqlite" if backend == "sqlite" else request.getfixturevalue("postgres_url")
    engine = open_engine(url, tmp_path / "hilum.db")
    migrate(engine)
    migrate(engine)
    assert schema_is_current(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        differences = alembic.autogenerate.compare_metadata(context, metadata)
    engine.dispose()
    assert differences == []


def test_the_newest_revision_is_read_as_alembic_reads_it() -> None:
    scripts = ScriptDirectory(str(Path(hilum.storage.__file__).parent / "migrations"))
    assert newest_revision() == scripts.get_current_head()


def test_a_database_before_its_migrations_is_not_current(tmp_path: Path) -> None:
    engine = open_engine("sqlite", tmp_path / "hilum.db")
    assert not schema_is_current(engine)
    engine.dispose()
