"""Programs that get tokens by their own keys, and our own keys."""

from __future__ import annotations

from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hilum.cli.context import open_home, operator
from hilum.core.actor import Role
from hilum.core.errors import InvalidInput

clients = typer.Typer(help="Programs that get tokens by their own keys.", no_args_is_help=True)
keys = typer.Typer(help="The keys of this home.", no_args_is_help=True)
HomeOption = Annotated[Path | None, typer.Option("--home", help="The folder of configuration, database and archive.")]
JwksOption = Annotated[Path, typer.Option("--jwks", help="File with its public keys (RFC 7517).")]


class KeyKind(StrEnum):
    """The keys that are replaced from time to time."""

    TOKEN_SIGNING = "token-signing"  # noqa: S105 - a name
    AUDIT = "audit"


@clients.command("add")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Its client id.")],
    role: Annotated[Role, typer.Option("--role", help="What it may do.")],
    jwks: JwksOption,
    replace: Annotated[bool, typer.Option("--replace", help="Give a known client these keys and this role.")] = False,
    home: HomeOption = None,
) -> None:
    """Let a program ask for tokens at /auth/token, proving itself by its own key (private_key_jwt)."""
    from hilum.security.client_assertions import public_jwks
    from hilum.workflow.clients import AddClient, add_client, change_client_keys

    try:
        data = jwks.read_bytes()
    except OSError as error:
        raise InvalidInput("The file with the keys cannot be read.") from error
    command = AddClient(name, role, public_jwks(data))
    with closing(open_home(context, home)) as application:
        if replace:
            application.store.run(change_client_keys, command, operator())
        else:
            application.store.run(add_client, command, operator())
    print(f"client {name} {'changed' if replace else 'added'}")


@clients.command("list")
def list_all(context: typer.Context, home: HomeOption = None) -> None:
    """Print a line per client: name, role, state, identifiers of its keys."""
    from hilum.storage.clients import list_clients

    with closing(open_home(context, home)) as application, application.store.read() as db:
        found = list_clients(db)
    for each in found:
        names = " ".join(str(jwk.get("kid", "-")) for jwk in each.jwks["keys"])
        print(f"{each.name}\t{each.role.value}\t{'disabled' if each.disabled else 'active'}\t{names}")


@clients.command("disable")
def disable(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Its client id.")],
    home: HomeOption = None,
) -> None:
    """Give a client no more tokens; those that it has stop at their next request."""
    from hilum.workflow.clients import disable_client

    with closing(open_home(context, home)) as application:
        application.store.run(disable_client, name, operator())
    print(f"client {name} disabled")


@keys.command("list")
def list_keys(context: typer.Context, home: HomeOption = None) -> None:
    """Print a line per key: what it is for, its identifier, whether it is current or retired."""
    with closing(open_home(context, home)) as application:
        ring = application.keyring.current
    for kind, current, known in (
        (KeyKind.TOKEN_SIGNING, ring.signing.kid, ring.verification),
        (KeyKind.AUDIT, ring.audit.key_id, ring.audit_keys),
    ):
        for identifier in known:
            print(f"{kind.value}\t{identifier}\t{'current' if identifier == current else 'retired'}")


@keys.command("rotate")
def rotate_key(
    context: typer.Context,
    kind: Annotated[KeyKind, typer.Argument(help="Which key to replace.")],
    home: HomeOption = None,
) -> None:
    """Replace a key while Hilum runs: all processes take it within seconds, and what the old one made stays good."""
    from hilum.security.keys import rotate
    from hilum.workflow.accounts import note_key_rotation

    with closing(open_home(context, home)) as application:
        application.store.run(note_key_rotation, kind.value, operator())
        ring = rotate(application.home, "audit" if kind is KeyKind.AUDIT else "token-signing")
    print(f"{kind.value} key is now {ring.audit.key_id if kind is KeyKind.AUDIT else ring.signing.kid}")
