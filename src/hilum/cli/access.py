"""Accounts, tokens and certificates on the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from hilum.cli.context import home_of, open_home, operator
from hilum.core.actor import Role
from hilum.core.errors import InvalidInput, NotFound

users = typer.Typer(help="Accounts of people.", no_args_is_help=True)
tls = typer.Typer(help="Certificates of a first installation.", no_args_is_help=True)

USER: Literal["user"] = "user"
SERVICE: Literal["service"] = "service"
HomeOption = Annotated[Path | None, typer.Option("--home", help="The folder of configuration, database and archive.")]


def token(
    context: typer.Context,
    user: Annotated[str | None, typer.Option("--user", help="An account's name.")] = None,
    role: Annotated[Role | None, typer.Option("--role", help="A role, for a service.")] = None,
    minutes: Annotated[int, typer.Option("--minutes", min=1, max=527_040, help="How long it holds.")] = 60,
    home: HomeOption = None,
) -> None:
    """Print a bearer token for HTTP: of a named user, or of a service with a role."""
    from hilum.security.tokens import issue
    from hilum.storage.users import find_user
    from hilum.workflow.accounts import IssueToken, issue_token

    if (user is None) == (role is None):
        raise typer.BadParameter("Give either --user or --role.")
    application = open_home(context, home)
    try:
        if user is not None:
            with application.store.read() as db:
                account = find_user(db, user)
            if account is None or account.disabled:
                raise NotFound("There is no such account.")
            kind: Literal["user", "service"]
            subject, granted, kind = account.name, account.role, USER
        else:
            assert role is not None
            subject, granted, kind = f"service:{role.value}", role, SERVICE
        application.store.run(issue_token, IssueToken(subject, granted), operator())
        print(
            issue(
                application.keyring, subject=subject, role=granted.value, kind=kind, minutes=minutes,
                now=application.store.clock(),
            )
        )  # fmt: skip
    finally:
        application.close()


@users.command("add")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The name to sign in with.")],
    role: Annotated[Role, typer.Option("--role", help="What the person is.")],
    identifier: Annotated[
        list[str] | None, typer.Option("--identifier", help="ID or ID^AUTHORITY in messages; default: the name.")
    ] = None,
    display: Annotated[str, typer.Option("--display", help='The person\'s name, "Family, Given".')] = "",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    home: HomeOption = None,
) -> None:
    """Make an account; without a password a one-time one is printed."""
    from hilum.security.passwords import check_password, hash_password, one_time_password
    from hilum.serve.identity import identifier_from_text
    from hilum.workflow.accounts import AddUser, add_user

    if not 0 < len(name) <= 128 or any(not c.isprintable() for c in name):
        raise InvalidInput("A name has 1 to 128 printable characters.")
    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else one_time_password()
    check_password(password, user_name=name)
    application = open_home(context, home)
    try:
        identifiers = tuple(identifier_from_text(text) for text in identifier or ())
        account = AddUser(name, role, hash_password(password), identifiers, display, not password_stdin)
        application.store.run(add_user, account, operator())
    finally:
        application.close()
    print(f"user {name} added" + ("" if password_stdin else f", one-time password {password}"))


@users.command("list")
def list_accounts(context: typer.Context, home: HomeOption = None) -> None:
    """Print a line per account: name, role, state, identifiers."""
    from hilum.storage.users import list_users

    application = open_home(context, home)
    try:
        with application.store.read() as db:
            found = list_users(db)
    finally:
        application.close()
    for user in found:
        state = "disabled" if user.disabled else "active"
        identifiers = " ".join(f"{i.value}^{i.authority}".rstrip("^") for i in user.identifiers)
        print(f"{user.name}\t{user.role.value}\t{state}\t{identifiers}")


@users.command("disable")
def disable(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The account's name.")],
    home: HomeOption = None,
) -> None:
    """Shut an account and end its sessions; its tokens stop within seconds."""
    from hilum.workflow.accounts import disable_user

    application = open_home(context, home)
    try:
        application.store.run(disable_user, name, operator())
    finally:
        application.close()
    print(f"user {name} disabled")


@tls.command("init")
def init(
    context: typer.Context,
    host: Annotated[list[str] | None, typer.Option("--host", help="A further name or address of this server.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    home: HomeOption = None,
) -> None:
    """Make a local certificate authority, a server certificate and a client certificate."""
    from datetime import UTC, datetime

    from hilum.security import tls as certificates

    paths = certificates.init(
        home_of(context, home), now=datetime.now(UTC), hosts=tuple(host or ()), overwrite=overwrite
    )
    print(f"certificates written to {paths.ca.parent}")
