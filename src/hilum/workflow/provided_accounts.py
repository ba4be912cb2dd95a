"""Sign-in by the word of an OpenID provider: which account it means, under which role, and whether one is made."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from hilum.core.actor import Actor, ActorKind, Door, Identifier, Role
from hilum.core.errors import Forbidden
from hilum.storage.unit_of_work import UnitOfWork
from hilum.storage.users import User, linked_user


@dataclass(frozen=True, slots=True)
class ProvidedPerson:
    """What a provider says of someone; `role` is None where the account's own role stays."""

    provider: str
    issuer: str
    subject: str
    name: str
    display: str
    role: Role | None
    identifiers: tuple[Identifier, ...] = ()
    may_create: bool = False
    may_link_by_name: bool = False


@dataclass(frozen=True, slots=True)
class SignInByProvider:
    """Open a session for someone a provider has vouched for; `replaces` is the session the browser brought along."""

    person: ProvidedPerson
    session_id: str
    expires_at: datetime
    address: str
    replaces: str = ""
    proved_at: datetime | None = None


NO_ACCOUNT = "There is no account here for you; ask an administrator."


def sign_in_by_provider(uow: UnitOfWork, command: SignInByProvider, actor: Actor) -> Actor:
    """Open a session, having made or updated the account as the settings allow. Raises Forbidden without one."""
    person = command.person
    user = _account(uow, person)
    if user.disabled:
        raise Forbidden("This account is shut.")
    _follow_groups(uow, user, person)
    current = uow.users.find(user.name)
    assert current is not None
    signed_in = Actor(
        current.name, current.role, ActorKind.PERSON, Door.PAGE, current.identifiers, command.address, current.display
    )
    uow.audit(signed_in, "sign-in", reason=f"provider {person.provider}")
    if command.replaces:
        uow.users.revoke_session(command.replaces)
    uow.users.open_session(
        command.session_id,
        user.id,
        command.expires_at,
        command.address,
        provider=person.provider,
        proved_at=command.proved_at,
    )
    return signed_in


def _account(uow: UnitOfWork, person: ProvidedPerson) -> User:
    linked = linked_user(uow.connection, person.issuer, person.subject)
    if linked is not None:
        return linked
    if not 0 < len(person.name) <= 128 or any(not letter.isprintable() for letter in person.name):
        raise Forbidden("The sign-in service gives you no name that an account could have.")
    known = uow.users.find(person.name)
    if known is not None:
        # Another sign-in of the same person may have made it between the two questions.
        linked = linked_user(uow.connection, person.issuer, person.subject)
        if linked is not None:
            return linked
        # Who may choose a name at the provider could otherwise take over an account of that name here.
        if not person.may_link_by_name or uow.users.is_linked(known.id, person.issuer):
            raise Forbidden("An account of your name is not tied to your sign-in; ask an administrator.")
        uow.users.link(known.id, person.issuer, person.subject)
        return known
    if not person.may_create or person.role is None:
        raise Forbidden(NO_ACCOUNT)
    identifiers = person.identifiers or (Identifier(person.name),)
    user_id = uow.users.add(person.name, person.role, "", identifiers, display=person.display)
    uow.users.link(user_id, person.issuer, person.subject)
    made = uow.users.find(person.name)
    assert made is not None
    return made


def _follow_groups(uow: UnitOfWork, user: User, person: ProvidedPerson) -> None:
    """Take over what the provider says today; with another role no session of the old one goes on."""
    changed: dict[str, object] = {}
    if person.role is not None and person.role is not user.role:
        changed["role"] = person.role.value
        uow.users.revoke_sessions(user.id)
    if person.display and person.display != user.display:
        changed["display"] = person.display
    if person.identifiers and person.identifiers != user.identifiers:
        changed["identifiers"] = [{"value": i.value, "authority": i.authority} for i in person.identifiers]
    if changed:
        uow.users.update(user.name, **changed)
