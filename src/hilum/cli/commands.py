"""The table of contents of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hilum.cli import (
    access,
    backup,
    demo,
    diagnose,
    exporting,
    importing,
    interfaces,
    keys,
    lifecycle,
    operate,
    quarantine,
    queue,
    rejected,
    routes,
    running,
    seeing,
    trail,
    verify,
)

cli = typer.Typer(
    name="hilum",
    help="Connected radiology: archive, workflow and EHR integration in one system.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Home = Annotated[
    Path | None,
    typer.Option("--home", envvar="HILUM_HOME", help="The folder of configuration, database, archive and keys."),
]


@cli.callback()
def chosen_home(context: typer.Context, home: Home = None) -> None:
    """Connected radiology: archive, workflow and EHR integration in one system."""
    context.obj = home


cli.command("up")(running.up)
cli.command("run")(running.run)
cli.command("demo")(demo.demo)
cli.command("token")(access.token)
cli.add_typer(access.users, name="user")
cli.add_typer(seeing.patients, name="patient")
cli.add_typer(seeing.grants, name="access")
cli.add_typer(access.tls, name="tls")
cli.add_typer(keys.clients, name="client")
cli.add_typer(keys.keys, name="keys")
cli.command("check")(operate.check)
cli.command("learn")(interfaces.learn)
cli.command("conformance")(interfaces.conformance)
cli.command("diagnose")(diagnose.diagnose)
cli.command("trace")(operate.trace)
cli.add_typer(queue.queue, name="queue")
cli.add_typer(routes.route, name="route")
cli.add_typer(rejected.rejected, name="rejected")
cli.add_typer(quarantine.quarantine, name="quarantine")
cli.add_typer(lifecycle.deletions, name="deletion")
cli.add_typer(lifecycle.holds, name="hold")
cli.add_typer(lifecycle.retention, name="retention")
cli.add_typer(operate.messages, name="messages")
cli.add_typer(trail.audit, name="audit")
cli.command("reindex")(trail.reindex)
cli.command("verify")(verify.verify)
cli.command("backup")(backup.backup)
cli.command("restore")(backup.restore)
cli.command("import")(importing.import_)
cli.command("export")(exporting.export)
