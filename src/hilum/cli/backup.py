"""`hilum backup` and `hilum restore`: everything of a home but the images, of one moment, and proven at its return."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import orjson
import typer

from hilum.app import Application
from hilum.cli.context import home_of, open_home, operator
from hilum.core.errors import Conflict, InvalidInput, NotFound
from hilum.security.audit import Read, record_read
from hilum.security.audit_trail import verify_trail
from hilum.security.policy import Action
from hilum.storage.backup import POSTGRESQL, SQLITE, archive_objects, copy_database, restore_postgresql, restore_sqlite

HomeOption = Annotated[Path | None, typer.Option("--home", help="The folder of configuration, database and archive.")]
HOME, OBJECTS, MANIFEST = "home", "archive.jsonl", "manifest.json"
# Of running processes, or too large: images are copied by other means.
_NOT_COPIED = frozenset({"archive", "run", "hilum.db", "hilum.db-wal", "hilum.db-shm"})
_LARGEST = 64 << 20


def backup(
    context: typer.Context,
    to: Annotated[Path, typer.Option("--to", help="A folder, which must not exist.")],
    home: HomeOption = None,
) -> None:
    """Copy database, keys and configuration of one moment into a folder, with a list of the objects of the archive.

    Hilum may run meanwhile. Copy the archive itself afterwards: what it has more than the database, reindex finds.
    """
    application = open_home(context, home)
    part = to.with_name(to.name + ".part")
    try:
        if to.exists() or part.exists():
            raise Conflict("There is something of this name already.")
        application.store.run(record_read, Read(Action.EXPORT_ORIGINAL), operator())
        os.umask(0o077)
        part.mkdir(parents=True)
        try:
            copy_database(application.store.engine, part)
            with application.store.read() as connection:
                lines = [orjson.dumps({"key": key, "size": size}) for key, size in archive_objects(connection)]
            (part / OBJECTS).write_bytes(b"".join(line + b"\n" for line in lines))
            _copy_home(application.home, part / HOME)
            files = {name: _digest(part / name) for name in _names(part)}
            (part / MANIFEST).write_bytes(orjson.dumps({"version": 1, "files": files}, option=orjson.OPT_INDENT_2))
            part.rename(to)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    finally:
        application.close()
    print(f"{to}: {len(files)} files; the archive has {len(lines)} objects to be copied by themselves")


def restore(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="BACKUP", help="A folder that `hilum backup` has written.")],
    home: HomeOption = None,
) -> None:
    """Make a home of a backup; exit 1 where objects of the archive are missing or the audit trail has findings.

    The home must not have a database or keys. Put the archive's bytes in their place before, or after and verify then.
    """
    target = home_of(context, home)
    _check_whole(source)
    for name in ("hilum.db", "keys"):
        if (target / name).exists():
            raise Conflict(f"There is a home at {target} already.")
    os.umask(0o077)
    shutil.copytree(source / HOME, target, dirs_exist_ok=True)
    application = Application(target)
    try:
        _restore_database(application, source)
        application.prepare()
        absent = list(_absent(application, source / OBJECTS))
        found = verify_trail(application.store, application.keyring, application.settings.paths.seals / "latest.json")
    finally:
        application.close()
    for key in absent:
        print(f"missing in the archive: {key}")
    for finding in found:
        print(f"{finding.kind.value}: {finding.message}")
    print(f"{target}: restored; {len(absent)} objects of the archive missing, {len(found)} findings in the audit trail")
    raise typer.Exit(1 if absent or found else 0)


def _restore_database(application: Application, source: Path) -> None:
    is_sqlite = application.settings.database.url == "sqlite"
    copy = source / (SQLITE if is_sqlite else POSTGRESQL)
    if not copy.exists():
        raise InvalidInput("The backup is not of the kind of database that its configuration names.")
    if is_sqlite:
        restore_sqlite(copy, application.settings.paths.database)
    else:
        restore_postgresql(copy, application.store.engine)


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _copy_home(home: Path, target: Path) -> None:
    target.mkdir()
    for path in sorted(home.iterdir()):
        if path.name in _NOT_COPIED or path.is_symlink():
            continue
        if path.is_dir():
            shutil.copytree(path, target / path.name, symlinks=False)
        elif path.is_file() and path.stat().st_size <= _LARGEST:
            shutil.copyfile(path, target / path.name)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_whole(source: Path) -> None:
    """Raise InvalidInput where a file of the backup is not what was written, NotFound where there is no backup."""
    try:
        files = orjson.loads((source / MANIFEST).read_bytes())["files"]
    except OSError:
        raise NotFound("There is no backup in this folder.") from None
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise InvalidInput("The manifest of the backup is damaged.") from None
    present = [name for name in _names(source) if name != MANIFEST]
    if sorted(files) != present or any(_digest(source / name) != files[name] for name in present):
        raise InvalidInput("The backup is damaged: its files are not those that were written.")


def _absent(application: Application, objects: Path) -> Iterator[str]:
    for line in objects.read_bytes().splitlines():
        wanted = orjson.loads(line)
        try:
            whole = application.blobs.head(wanted["key"]).size >= wanted["size"]
        except NotFound:
            whole = False
        if not whole:
            yield str(wanted["key"])
