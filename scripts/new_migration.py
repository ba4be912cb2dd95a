"""Write the next migration from what the tables have and the migrations lack: `python scripts/new_migration.py WHY`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import alembic.command
import alembic.config

from hilum.storage.database import migrate, open_engine


def main(message: str) -> None:
    """Bring an empty SQLite database up to date and let Alembic compare it with the tables."""
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine("sqlite", Path(folder) / "empty.db")
        versions = sorted(Path("src/hilum/storage/migrations/versions").glob("*.py"))
        if versions:
            migrate(engine)
        with engine.begin() as connection:
            config = alembic.config.Config()
            config.set_main_option("script_location", "src/hilum/storage/migrations")
            config.attributes["connection"] = connection
            alembic.command.revision(config, message, autogenerate=True, rev_id=f"{len(versions) + 1:04}")


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]))
