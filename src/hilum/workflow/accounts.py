"""User accounts: who may sign in, under which role, and which identifiers in messages are theirs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from hilum.core.actor import Actor, Identifier, Role
from hilum.core.errors import Duplicate, InvalidInput, NotFound
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.sessions import count_failure, forget_failures, revoke_own_session, revoke_sessions_but
from hilum.storage.unit_of_work import UnitOfWork
from hilum.storage.users import User, linked_user


@dataclass(frozen=True, slots=True)
class AddUser:
    """A new account; the password is hashed before it comes here."""

    name: str
    role: Role
    password_hash: str
    identifiers: tuple[Identifier, ...] = ()
    display: str = ""
    must_change_password: bool = False


@dataclass(frozen=True, slots=True)
class SetPassword:
    """A new password of an account, hashed; one for a single sign-in `must_change`."""

    name: str
    password_hash: str
    must_change: bool = False


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session of someone whose password was right; `session_id` is the digest of the cookie's secret."""

    name: str
    session_id: str
    expires_at: datetime
    address: str
    # What the browser brought along: it ends, so that a session is never carried over a sign-in.
    replaces: str = ""


@dataclass(frozen=True, slots=True)
class ChangeRole:
    """Another role for an account."""

    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class EndSessions:
    """End one session of an account, or all but the one that is `kept`."""

    name: str
    session_id: str = ""
    kept: str = ""


@dataclass(frozen=True, slots=True)
class LinkUser:
    """Let a subject of an OpenID provider stand for an account."""

    name: str
    issuer: str
    subject: str


@dataclass(frozen=True, slots=True)
class IssueToken:
    """A bearer token that is about to be handed out."""

    subject: str
    role: Role


def note_key_rotation(uow: UnitOfWork, name: str, actor: Actor) -> None:
    """Audit that a key is replaced; its row carries the key before."""
    permit(uow, actor, Action.MANAGE_USERS)
    uow.audit(actor, "rotate-key", reason=name)


def issue_token(uow: UnitOfWork, command: IssueToken, actor: Actor) -> None:
    """Audit that a token is handed out; the token itself is kept nowhere."""
    permit(uow, actor, Action.MANAGE_USERS)
    uow.audit(actor, "issue-token", reason=command.role.value)


def add_user(uow: UnitOfWork, command: AddUser, actor: Actor) -> str:
    """Make an account; without identifiers its name stands for it in messages."""
    permit(uow, actor, Action.MANAGE_USERS)
    if uow.users.find(command.name) is not None:
        raise Duplicate("There is already an account of this name.")
    return uow.users.add(
        command.name,
        command.role,
        command.password_hash,
        command.identifiers or (Identifier(command.name),),
        display=command.display,
        must_change_password=command.must_change_password,
    )


def add_first_admin(uow: UnitOfWork, command: AddUser, actor: Actor) -> bool:
    """Make the first account when there is none; tell whether it was made."""
    permit(uow, actor, Action.MANAGE_USERS)
    if uow.users.count():
        return False
    add_user(uow, command, actor)
    return True


def disable_user(uow: UnitOfWork, name: str, actor: Actor) -> None:
    """Shut an account and end its sessions."""
    permit(uow, actor, Action.MANAGE_USERS)
    user = _user(uow, name)
    uow.users.update(name, disabled=True)
    uow.users.revoke_sessions(user.id)


def change_role(uow: UnitOfWork, command: ChangeRole, actor: Actor) -> None:
    """Give an account another role and end its sessions: under another privilege a person signs in anew."""
    permit(uow, actor, Action.MANAGE_USERS)
    user = _user(uow, command.name)
    if user.role is not command.role:
        uow.users.update(command.name, role=command.role.value)
        uow.users.revoke_sessions(user.id)


def link_user(uow: UnitOfWork, command: LinkUser, actor: Actor) -> None:
    """Let a provider's subject stand for an account from its next sign-in on."""
    permit(uow, actor, Action.MANAGE_USERS)
    if not 0 < len(command.subject) <= 255:
        raise InvalidInput("A subject has 1 to 255 characters.", field="subject")
    user = _user(uow, command.name)
    if linked_user(uow.connection, command.issuer, command.subject) is not None:
        raise Duplicate("This subject stands for an account already.")
    uow.users.link(user.id, command.issuer, command.subject)


def set_password(uow: UnitOfWork, command: SetPassword, actor: Actor) -> None:
    """Store a new password and end all sessions; people change their own, an admin anyone's."""
    if actor.name != command.name or not actor.is_person:
        permit(uow, actor, Action.MANAGE_USERS)
    else:
        uow.audit(actor, "change-password")
    user = _user(uow, command.name)
    uow.users.update(
        command.name,
        password_hash=command.password_hash,
        must_change_password=command.must_change,
        failures=0,
        last_failure_at=None,
    )
    uow.users.revoke_sessions(user.id)
    forget_failures(uow, command.name)


def sign_in(uow: UnitOfWork, command: OpenSession, actor: Actor) -> None:
    """Open a session after the right password."""
    user = _user(uow, command.name)
    uow.audit(actor, "sign-in")
    uow.users.update(command.name, failures=0, last_failure_at=None)
    forget_failures(uow, command.name, command.address)
    if command.replaces:
        uow.users.revoke_session(command.replaces)
    uow.users.open_session(command.session_id, user.id, command.expires_at, command.address, proved_at=uow.now)


def proved_again(uow: UnitOfWork, command: None, actor: Actor) -> None:
    """Audit that someone gave the right password where no session begins: before signing, or on an association."""
    uow.audit(actor, "prove-identity")
    forget_failures(uow, actor.name, actor.address)


def sign_in_failed(uow: UnitOfWork, name: str, actor: Actor) -> None:
    """Count a wrong password, so that guessing becomes slow."""
    uow.audit(actor, "sign-in", outcome="refused", reason="password")
    uow.users.count_failure(name)
    count_failure(uow, name, actor.address)


def end_sessions(uow: UnitOfWork, command: EndSessions, actor: Actor) -> int:
    """End sessions of an account and tell how many; people end their own, an admin anyone's."""
    if actor.name != command.name or not actor.is_person:
        permit(uow, actor, Action.MANAGE_USERS)
    else:
        uow.audit(actor, "end-session")
    user = _user(uow, command.name)
    if not command.session_id:
        return revoke_sessions_but(uow, user.id, command.kept)
    if not revoke_own_session(uow, command.name, command.session_id):
        raise NotFound("There is no such session, or it has ended.")
    return 1


def touch_session(uow: UnitOfWork, session_id: str, actor: Actor) -> None:
    """Note that a session is in use, so that it does not end as idle."""
    uow.users.touch_session(session_id)


def sign_out(uow: UnitOfWork, session_id: str, actor: Actor) -> None:
    """End a session."""
    uow.audit(actor, "sign-out")
    uow.users.revoke_session(session_id)


def _user(uow: UnitOfWork, name: str) -> User:
    user = uow.users.find(name)
    if user is None:
        raise NotFound("There is no account of this name.")
    return user


def has_accounts(uow: UnitOfWork, command: None, actor: Actor) -> bool:
    """Tell whether anyone can sign in yet."""
    permit(uow, actor, Action.MANAGE_USERS)
    return uow.users.count() > 0
