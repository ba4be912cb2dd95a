"""`hilum up` and `hilum run`: the server as a whole, and one role of it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hilum.app import INDEXER, ROLES, Application, run_role, supervised_environment
from hilum.cli.context import home_of
from hilum.core.actor import Role, system_actor
from hilum.settings import starter_file
from hilum.settings.paths import HomePaths

HomeOption = Annotated[Path | None, typer.Option("--home", help="The folder of configuration, database and archive.")]
RoleName = StrEnum("RoleName", {name: name for name in (*ROLES, INDEXER)})  # type: ignore[misc]  # made from the one table


def up(context: typer.Context, home: HomeOption = None) -> None:
    """Start all roles under one supervisor; print `hilum ready …` once all accept; drain on SIGTERM."""
    from hilum import telemetry
    from hilum.serve.roles import listen_on
    from hilum.serve.supervisor import Child, Supervisor

    where = home_of(context, home)
    _new_home(where)
    application = Application(where)
    settings = application.settings
    telemetry.configure("supervisor", settings.log.level, keep=settings.paths.run / "log")
    telemetry.start_metrics(settings.paths.run / "metrics", fresh=True)
    application.prepare()
    _first_admin(application)
    listening = listen_on(*settings.http.listen)
    shared = listening.fileno()
    application.close()
    children = [Child(role, ["run", role]) for role in ("worker", "dicom", "hl7")]
    children += [
        Child(f"http-{number}", ["run", "http", "--socket", str(shared)], (shared,))
        for number in range(settings.http.processes)
    ]
    supervisor = Supervisor(children, supervised_environment(where), telemetry.process_ended)

    def announce(addresses: dict[str, str]) -> None:
        http, dicom, hl7 = addresses["http-0"], addresses["dicom"], addresses["hl7"]
        print(f"hilum ready http={http} dicom={dicom} hl7={hl7}", flush=True)

    raise typer.Exit(supervisor.run(announce))


def run(
    context: typer.Context,
    role: Annotated[
        RoleName, typer.Argument(metavar="ROLE", help=f"The role to run in the foreground: {', '.join(ROLES)}.")
    ],
    home: HomeOption = None,
    socket: Annotated[int | None, typer.Option("--socket", help="An inherited listening socket.", hidden=True)] = None,
) -> None:
    """Run one role in the foreground, for systemd or Kubernetes; print `ready ADDRESS` once it accepts."""
    where = home_of(context, home)
    _new_home(where)
    run_role(role.value, where, socket)


def _new_home(home: Path) -> None:
    """Give a new home the starter configuration; an existing one is left as it is."""
    paths = HomePaths(home)
    if not paths.file.exists() and not paths.keys.exists():
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        paths.file.write_text(starter_file(), encoding="utf-8")
        paths.file.chmod(0o600)


def _first_admin(application: Application) -> None:
    """Make the first account of a new home and print its one-time password, once and nowhere else."""
    from hilum.security.passwords import hash_password, one_time_password
    from hilum.workflow.accounts import AddUser, add_first_admin, has_accounts

    actor = system_actor("setup")
    if application.store.run(has_accounts, None, actor):
        return
    password = one_time_password()
    account = AddUser("admin", Role.ADMIN, hash_password(password), must_change_password=True, display="Administrator")
    if application.store.run(add_first_admin, account, actor):
        print(f"hilum first login: user admin, one-time password {password}", flush=True)
