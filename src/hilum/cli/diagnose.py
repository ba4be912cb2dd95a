"""`hilum diagnose`: one file that helps to find a fault, and that may be sent to a stranger.

Everything in it is counted, named by us, or taken from an allow-list: versions, settings without secrets and
credentials, the schema's revision, numbers of rows, what waits to be sent, the findings of `hilum check`, and the last
lines of the logs, each held to the list of `telemetry` once more. There is nothing of patients, orders, images, people.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import ssl
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from hilum.app import Application
from hilum.cli.context import home_of, operator
from hilum.core.errors import HilumError, InvalidInput
from hilum.security.audit import Read, record_read
from hilum.security.policy import Action

HomeOption = Annotated[Path | None, typer.Option("--home", help="The folder of configuration, database and archive.")]
LONGEST_LINE = 16 * 1024
ABOUT = """A diagnosis of Hilum, made by `hilum diagnose`. It holds no patient data, no names of people, and no secrets:
docs/security.md says what is left out and how that is tested. Look before you send it: every part is plain JSON.
"""


def diagnose(
    context: typer.Context,
    output: Annotated[Path, typer.Option("--output", help="The file to write, which must not exist.")],
    lines: Annotated[int, typer.Option("--lines", min=0, max=100_000, help="How many lines of the logs.")] = 2_000,
    home: HomeOption = None,
) -> None:
    """Write a file that helps to find a fault and holds nothing that a stranger may not see."""
    application = Application(home_of(context, home))
    try:
        parts = _parts(application, lines)
    finally:
        application.close()
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise InvalidInput(f"The file cannot be written: {error.strerror}.", field="output") from None
    with os.fdopen(descriptor, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("README.txt", ABOUT)
        for name, content in parts.items():
            bundle.writestr(name, content)
    print(f"{output} written, {output.stat().st_size} bytes")


def _parts(application: Application, lines: int) -> dict[str, bytes]:
    """Make each part by itself: a fault in one of them is a finding, not the end of the others."""
    makers: dict[str, Callable[[], Any]] = {
        "versions.json": lambda: _versions(application.home),
        "settings.json": lambda: _settings(application),
        "database.json": lambda: _database(application),
        "lanes.json": lambda: _lanes(application),
        "findings.json": lambda: _findings(application),
    }
    made: dict[str, bytes] = {}
    for name, make in makers.items():
        try:
            value = make()
        except HilumError as error:
            value = {"failed": error.code}
        made[name] = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS, default=str)
    made["log.jsonl"] = b"".join(_log_lines(application, lines))
    return made


def _versions(home: Path) -> dict[str, Any]:
    needed = importlib.metadata.requires("hilum") or []
    names = sorted({re.split(r"[\[<>=!~; ]", need)[0] for need in needed if "extra ==" not in need})
    usage = shutil.disk_usage(home)
    return {
        "hilum": importlib.metadata.version("hilum"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "openssl": ssl.OPENSSL_VERSION,
        "processors": os.cpu_count(),
        "disk": {"total": usage.total, "free": usage.free},
        "packages": {name: importlib.metadata.version(name) for name in names},
    }


def _settings(application: Application) -> dict[str, Any]:
    from hilum.settings.shareable import shareable

    return {"revision": application.configuration.revision[:12], "settings": shareable(application.settings)}


def _database(application: Application) -> dict[str, Any]:
    from hilum.storage.diagnosis import audit_facts, database_facts

    application.settings.paths.run.mkdir(parents=True, exist_ok=True)
    application.store.run(record_read, Read(Action.READ_METRICS), operator())
    with application.store.read() as db:
        return {**database_facts(db), "audit": audit_facts(db)}


def _lanes(application: Application) -> list[dict[str, Any]]:
    from hilum.storage.lanes import depths

    with application.store.read() as db:
        return [{"destination": d.destination, "depth": d.depth, "oldest_at": d.oldest_at} for d in depths(db)]


def _findings(application: Application) -> list[dict[str, str]]:
    from hilum.cli.checking import findings
    from hilum.settings.shareable import address_shown

    home = str(application.home)
    return [
        {
            "weight": found.weight,
            "text": re.sub(r"\S+://\S+", lambda m: address_shown(m[0]), found.text.replace(home, "HOME")),
        }
        for found in findings(application)
    ]


def _log_lines(application: Application, most: int) -> list[bytes]:
    """Return the last lines of all processes by time; what is no line of ours is left out."""
    from hilum.telemetry import shareable_line

    found: list[dict[str, Any]] = []
    for path in sorted((application.settings.paths.run / "log").glob("*.jsonl*")):
        with path.open("rb") as file:
            entries = (shareable_line(line) for line in file if len(line) <= LONGEST_LINE)
            found += [entry for entry in entries if entry is not None]
    found.sort(key=lambda entry: str(entry.get("timestamp", "")))
    latest = found[max(0, len(found) - most) :]
    return [orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE) for entry in latest]
