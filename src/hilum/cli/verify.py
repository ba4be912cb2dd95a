"""`hilum verify`: whether the archive still holds, byte for byte, what it has acknowledged."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from hilum.cli.context import open_home, operator

HomeOption = Annotated[Path | None, typer.Option("--home", help="The folder of configuration, database and archive.")]
MB = 1_000_000


def verify(
    context: typer.Context,
    study: Annotated[str, typer.Option("--study", help="A Study Instance UID; without one the whole archive.")] = "",
    rate: Annotated[float, typer.Option("--rate", min=0, help="MB a second to read at most; 0 for no limit.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    home: HomeOption = None,
) -> None:
    """Read every stored instance and compare it with its digest; exit 1 and name each that is damaged."""
    from hilum.archive.integrity import Looked, Pace
    from hilum.archive.integrity import verify as run
    from hilum.storage.integrity import kept_totals

    application = open_home(context, home)
    pace = Pace(rate * MB, time.monotonic, time.sleep) if rate else None
    found: list[Looked] = []
    instances = size = 0
    try:
        with application.store.read() as connection:
            _, total = kept_totals(connection, study)
        with _progress() as progress:
            task = progress.add_task("verifying", total=total)
            for looked in run(application.store, application.blobs, operator(), study=study):
                instances, size = instances + 1, size + looked.kept.object_length
                progress.update(task, completed=size, description=f"verified {instances}, damaged {len(found)}")
                if looked.damage is not None:
                    found.append(looked)
                if pace is not None:
                    pace.took(looked.kept.object_length)
    finally:
        application.close()
    lines = [_as_dict(looked) for looked in found]
    if as_json:
        report = {"instances": instances, "bytes": size, "damaged": lines}
        sys.stdout.buffer.write(orjson.dumps(report, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_INDENT_2))
    else:
        for line in lines:
            print(
                f"{line['damage']}: study {line['study']} series {line['series']} instance {line['instance']} "
                f"at {line['object']} {line['offset']}+{line['length']}"
            )
        print(f"{instances} instances, {size} bytes, {len(found)} damaged")
    raise typer.Exit(1 if found else 0)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)


def _as_dict(looked: Any) -> dict[str, Any]:
    kept = looked.kept
    return {
        "damage": looked.damage.value,
        "study": kept.study_instance_uid,
        "series": kept.series_instance_uid,
        "instance": kept.sop_instance_uid,
        "object": kept.object_key,
        "offset": kept.object_offset,
        "length": kept.object_length,
    }
