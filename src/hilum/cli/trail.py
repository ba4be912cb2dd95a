"""`hilum audit` and `hilum reindex`: the trail that is proven, and the index that is made from bytes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import orjson
import typer

from hilum.cli.context import open_home, operator
from hilum.security.audit import Read, record_read
from hilum.security.policy import Action

audit = typer.Typer(help="The audit trail.", no_args_is_help=True)
HomeOption = Annotated[Path | None, typer.Option("--home", help="The folder of configuration, database and archive.")]


@audit.command("verify")
def audit_verify(context: typer.Context, home: HomeOption = None) -> None:
    """Verify every audit row and seal; exit 1 and name each place where something was changed, forged or cut."""
    from hilum.security.audit_trail import verify_trail

    application = open_home(context, home)
    try:
        found = verify_trail(application.store, application.keyring, application.settings.paths.seals / "latest.json")
    finally:
        application.close()
    for finding in found:
        print(f"{finding.kind.value}: {finding.message}")
    print("no findings" if not found else f"{len(found)} finding{'s' if len(found) > 1 else ''}")
    raise typer.Exit(1 if found else 0)


@audit.command("export")
def audit_export(context: typer.Context, home: HomeOption = None) -> None:
    """Print every audit row as a line of JSON, writer by writer."""
    from hilum.storage.audit_log import audit_rows

    application = open_home(context, home)
    try:
        application.store.run(record_read, Read(Action.READ_AUDIT), operator())
        with application.store.read() as db:
            for row in audit_rows(db):
                # The names of columns are a kind of text that orjson does not know.
                line = {str(name): value for name, value in row.items()} | {"mac": bytes(row["mac"]).hex()}
                sys.stdout.buffer.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
    finally:
        application.close()


@audit.command("report")
def audit_report(
    context: typer.Context,
    patient: Annotated[str, typer.Option("--patient", help="The patient's number: ID or ID^AUTHORITY.")],
    home: HomeOption = None,
) -> None:
    """Print as CSV who did what with a patient's data, under all numbers merged into the patient's."""
    from hilum.security.access_report import person_named, report_as_csv

    application = open_home(context, home)
    try:
        value, _, authority = patient.partition("^")
        patient_id = person_named(application.store, value, authority)
        for line in report_as_csv(application.store, patient_id, operator()):
            sys.stdout.write(line)
    finally:
        application.close()


def reindex(context: typer.Context, home: HomeOption = None) -> None:
    """Go over the bytes of the whole archive and index what the index lacks."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    from hilum.archive.recovery import Recovery
    from hilum.archive.recovery import reindex as run

    application = open_home(context, home)
    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("reading segments")

            def tell(found: Recovery) -> None:
                progress.update(task, description=f"{found.segments} segments, {found.instances} instances")

            found = run(application.ingest, tell)
    finally:
        application.close()
    print(
        f"{found.segments} segments, {found.instances} instances, {found.indexed} newly indexed, "
        f"{found.torn} torn, {found.refused} refused"
    )
