"""`hilum import`: images from folders, zip files and media into the archive."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TransferSpeedColumn

from hilum.cli.context import open_home, operator
from hilum.core.errors import InvalidInput

HomeOption = Annotated[Path | None, typer.Option("--home", help="The folder of configuration, database and archive.")]
_FLUSH_EACH = 100


def import_(
    context: typer.Context,
    paths: Annotated[list[Path], typer.Argument(help="Folders, zip files, DICOMDIR files or single files.")],
    issuer: Annotated[str, typer.Option("--issuer", help="Issuer of patient IDs that come without one.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each file.")] = False,
    home: HomeOption = None,
) -> None:
    """Import images; name each file that was not taken with its reason, and exit 1 if one of them was DICOM.

    Run it again after it was cut short: it goes on where it was, and nothing is stored twice.
    """
    from hilum.archive.importing import Became, Ledger, import_paths

    application = open_home(context, home)
    counts: Counter[Became] = Counter()
    is_ended = False
    try:
        ledger = _ledger(Ledger, application.settings.paths.run / "imports", paths)
        try:
            with _progress() as progress:
                task = progress.add_task("importing", total=None)
                for done in import_paths(
                    application.ingest, paths, operator(), ledger,
                    largest=application.settings.dicom.max_instance_bytes,
                    issuer=issuer or application.settings.facility.default_authority,
                ):  # fmt: skip
                    counts[done.became] += 1
                    progress.update(task, advance=done.size, description=_summary(counts))
                    _tell(done, as_json)
                    if not counts.total() % _FLUSH_EACH:
                        ledger.flush()
            is_ended = True
        finally:
            ledger.close(ended=is_ended)
    finally:
        application.close()
    if not as_json:
        print(f"{counts.total()} files: {_summary(counts)}")
    raise typer.Exit(1 if counts[Became.REFUSED] else 0)


def _ledger(opened: Any, folder: Path, paths: list[Path]) -> Any:
    try:
        return opened(folder, paths)
    except OSError as error:
        raise InvalidInput(f"The import's own notes can't be written: {error.strerror}.") from None


def _tell(done: Any, as_json: bool) -> None:
    if as_json:
        line = {"file": done.place, "bytes": done.size, "became": done.became.value, "reason": done.reason}
        text = orjson.dumps({**line, "file": done.place.encode("utf-8", "replace").decode()})
        sys.stdout.buffer.write(text + b"\n")
    elif done.reason:
        print(f"{done.became}: {done.place}: {done.reason}".encode("utf-8", "replace").decode())


def _summary(counts: Counter[Any]) -> str:
    return ", ".join(f"{count} {became}" for became, count in sorted(counts.items())) or "nothing there"


def _progress() -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True)
