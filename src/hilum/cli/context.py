"""What every command needs: the home that was chosen, and who acts on the command line."""

from __future__ import annotations

import getpass
from pathlib import Path

import typer

from hilum.app import Application
from hilum.core.actor import Actor, ActorKind, Door, Role
from hilum.core.errors import NotFound
from hilum.settings import home_directory
from hilum.settings.paths import HomePaths


def home_of(context: typer.Context, given: Path | None) -> Path:
    """Return the home: named after the command, before it, by HILUM_HOME, or ./hilum-home."""
    return home_directory(given or context.find_root().obj)


def open_home(context: typer.Context, given: Path | None) -> Application:
    """Open an existing home and bring its database up to date."""
    home = home_of(context, given)
    if not HomePaths(home).file.exists() and not HomePaths(home).keys.exists():
        raise NotFound(f"There is no Hilum home at {home}; `hilum up` makes one.")
    application = Application(home)
    application.prepare()
    return application


def operator() -> Actor:
    """Return who works on this machine's command line: whoever may read the keys may operate the home."""
    return Actor(f"cli:{_login()}", Role.ADMIN, ActorKind.SYSTEM, Door.CLI)


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
