"""Accounts, tokens and certificates on the command line."""

from __future__ import annotations

import sys
from contextlib import closing
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
    """Shut an account and end its sessions; its tokens stop at their next request."""
    from hilum.workflow.accounts import disable_user

    application = open_home(context, home)
    try:
        application.store.run(disable_user, name, operator())
    finally:
        application.close()
    print(f"user {name} disabled")


@users.command("role")
def role(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The account's name.")],
    role: Annotated[Role, typer.Option("--role", help="What the person is from now on.")],
    home: HomeOption = None,
) -> None:
    """Give an account another role; its sessions end."""
    from hilum.workflow.accounts import ChangeRole, change_role

    with closing(open_home(context, home)) as application:
        application.store.run(change_role, ChangeRole(name, role), operator())
    print(f"user {name} is now {role.value}")


@users.command("password")
def password(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The account's name.")],
    home: HomeOption = None,
) -> None:
    """Print a one-time password for an account; its sessions end, and any wait after wrong passwords too."""
    from hilum.security.passwords import hash_password, one_time_password
    from hilum.workflow.accounts import SetPassword, set_password

    made = one_time_password()
    with closing(open_home(context, home)) as application:
        application.store.run(set_password, SetPassword(name, hash_password(made), must_change=True), operator())
    print(f"user {name}, one-time password {made}")


@users.command("link")
def link(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The account's name.")],
    provider: Annotated[str, typer.Option("--provider", help="A provider of [[security.oidc]].")],
    subject: Annotated[str, typer.Option("--subject", help="Its name for the person: the claim sub.")],
    home: HomeOption = None,
) -> None:
    """Let a subject of an OpenID provider sign in to an account."""
    from hilum.workflow.accounts import LinkUser, link_user

    with closing(open_home(context, home)) as application:
        known = application.settings.security.provider_named(provider)
        if known is None:
            raise NotFound("There is no such provider in [[security.oidc]].")
        application.store.run(link_user, LinkUser(name, known.issuer, subject), operator())
    print(f"user {name} linked")


@users.command("sessions")
def sessions(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The account's name.")],
    home: HomeOption = None,
) -> None:
    """Print a line per open session: its id, since when, last use, address, and what spoke for the person."""
    from datetime import timedelta

    from hilum.storage.sessions import open_sessions
    from hilum.storage.users import find_user

    with closing(open_home(context, home)) as application:
        idle = timedelta(minutes=application.settings.security.idle_minutes)
        with application.store.read() as db:
            if find_user(db, name) is None:
                raise NotFound("There is no account of this name.")
            found = open_sessions(db, name, application.store.clock(), idle)
    for each in found:
        moments = f"{each.created_at:%Y-%m-%dT%H:%M:%SZ}\t{each.seen_at:%Y-%m-%dT%H:%M:%SZ}"
        print(f"{each.id}\t{moments}\t{each.address}\t{each.provider or 'password'}")


@users.command("revoke")
def revoke(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The account's name.")],
    session: Annotated[str, typer.Option("--session", help="One session's id; default: all of them.")] = "",
    home: HomeOption = None,
) -> None:
    """End the sessions of an account at once."""
    from hilum.workflow.accounts import EndSessions, end_sessions

    with closing(open_home(context, home)) as application:
        ended = application.store.run(end_sessions, EndSessions(name, session), operator())
    print(f"{ended} session{'' if ended == 1 else 's'} ended")


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
