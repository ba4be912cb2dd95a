"""Programs with keys of their own: who is known, what they are given, and what is taken back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hilum.core.actor import Actor, Role
from hilum.core.errors import Duplicate, InvalidInput, NotAuthenticated, NotFound
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.clients import add_client_row, find_client, revoke_token_row, update_client, use_assertion
from hilum.storage.unit_of_work import UnitOfWork


@dataclass(frozen=True, slots=True)
class AddClient:
    """A program that may ask for tokens; its public keys were checked before."""

    name: str
    role: Role
    jwks: dict[str, Any]


@dataclass(frozen=True, slots=True)
class UseAssertion:
    """A client's statement of who it is, whose signature holds; for a `purpose` of ours."""

    client: str
    token_id: str
    expires_at: datetime
    purpose: str


@dataclass(frozen=True, slots=True)
class RevokeToken:
    """A token that is good no more."""

    token_id: str
    expires_at: datetime


def add_client(uow: UnitOfWork, command: AddClient, actor: Actor) -> str:
    """Let a program ask for tokens of a role."""
    permit(uow, actor, Action.MANAGE_USERS)
    if not 0 < len(command.name) <= 128 or any(not letter.isprintable() for letter in command.name):
        raise InvalidInput("A name has 1 to 128 printable characters.", field="name")
    if find_client(uow.connection, command.name) is not None:
        raise Duplicate("There is already a client of this name.")
    return add_client_row(uow, command.name, command.role, command.jwks)


def change_client_keys(uow: UnitOfWork, command: AddClient, actor: Actor) -> None:
    """Give a client other keys, and its role; tokens that it has stay good until they end."""
    permit(uow, actor, Action.MANAGE_USERS)
    if not update_client(uow, command.name, jwks=command.jwks, role=command.role.value):
        raise NotFound("There is no client of this name.")


def disable_client(uow: UnitOfWork, name: str, actor: Actor) -> None:
    """Give a client no more tokens; those that it has stop at their next request."""
    permit(uow, actor, Action.MANAGE_USERS)
    if not update_client(uow, name, disabled=True):
        raise NotFound("There is no client of this name.")


def use_client_assertion(uow: UnitOfWork, command: UseAssertion, actor: Actor) -> None:
    """Take a client's statement, once, and audit what for. Raises NotAuthenticated for a repeated one."""
    client = find_client(uow.connection, command.client)
    if client is None or client.disabled:
        raise NotAuthenticated("The client is not known here.")
    if not use_assertion(uow, client.id, command.token_id, command.expires_at):
        raise NotAuthenticated("The assertion was used before.")
    uow.audit(actor, command.purpose, reason=client.role.value)


def refuse_client(uow: UnitOfWork, command: str, actor: Actor) -> None:
    """Audit that a client could not prove who it is."""
    uow.audit(actor, "issue-token", outcome="refused", reason=command)


def revoke_token(uow: UnitOfWork, command: RevokeToken, actor: Actor) -> None:
    """Take a token back; it stops in every process, at its next request."""
    uow.audit(actor, "revoke-token")
    revoke_token_row(uow, command.token_id, command.expires_at)
