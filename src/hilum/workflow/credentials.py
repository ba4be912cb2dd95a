"""Who someone is by what they know or hold: a password, or one of our tokens; the same at every door.

Wrong passwords become slow for a name at an address, whether or not there is such an account, so that nothing is
learned from the wait and a stranger cannot keep a person out: elsewhere the same person still gets in. Only when a
name was guessed at a hundred times within a day is it shut from addresses it was never used at (SP 800-63B 5.2.2).
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime

from hilum.core.actor import Actor, ActorKind, Door, Role
from hilum.core.errors import Forbidden, InvalidInput, NotAuthenticated
from hilum.security.live_keys import Keys
from hilum.security.passwords import MANY_FAILURES, locked_until, verify_password
from hilum.security.tokens import Claims, TokenVerifier
from hilum.storage.sessions import Failures, failures_of
from hilum.storage.standing import StandingUser, is_taken_back, standing_client, standing_user
from hilum.storage.store import Store
from hilum.storage.users import User, find_user
from hilum.workflow.accounts import proved_again, sign_in_failed

# A modality opens an association for each image: within this time the same password is not hashed again.
PASSWORD_SECONDS = 60.0
REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of a password: the account it opens, or how many seconds to wait, or neither."""

    user: User | None
    wait_seconds: int = 0


def actor_of(user: User | StandingUser, door: Door, address: str) -> Actor:
    """Return the actor that an account stands for."""
    return Actor(
        user.name, user.role, ActorKind.PERSON, door, user.identifiers, address, user.display,
        facilities=user.facilities,
    )  # fmt: skip


def check_credentials(store: Store, name: str, password: str, door: Door, address: str) -> Checked:
    """Check a name and a password; a wrong one is counted and audited. Unknown names take as long."""
    now = store.clock()
    with store.read() as db:
        user, failures = find_user(db, name), failures_of(db, name, address, now)
    until = shut_until(failures)
    if until is not None and until > now:
        return Checked(None, int((until - now).total_seconds()) + 1)
    right = verify_password((user.password_hash or None) if user else None, password)
    if user is None or not right or user.disabled:
        stranger = Actor(name or "nobody", Role.AUDITOR, ActorKind.PERSON, door, address=address)
        store.run(sign_in_failed, name, stranger)
        return Checked(None)
    return Checked(user)


def shut_until(failures: Failures) -> datetime | None:
    """Return until when no password for a name is tried from an address, or None."""
    here = None
    if failures.last_here is not None:
        here = locked_until(min(failures.here, MANY_FAILURES - 1), failures.last_here)
    if failures.everywhere < MANY_FAILURES or failures.known_address or failures.last is None:
        return here
    everywhere = locked_until(failures.everywhere, failures.last)
    return max(until for until in (here, everywhere) if until is not None)


def confirm_password(store: Store, actor: Actor, password: str) -> None:
    """Let someone who is signed in prove again who they are; InvalidInput says in words why they did not."""
    with store.read() as db:
        user = find_user(db, actor.name)
    if user is None or not actor.is_person:
        raise Forbidden("This needs a named person.")
    if not user.password_hash:
        raise InvalidInput("This asks for a password, and your account has none here.", field="password")
    checked = check_credentials(store, actor.name, password, actor.door, actor.address)
    if checked.wait_seconds:
        raise InvalidInput(f"Too many tries. Wait {checked.wait_seconds} seconds, then try again.", field="password")
    if checked.user is None:
        raise InvalidInput("The password is wrong.", field="password")
    store.run(proved_again, None, actor)


class Bearers:
    """Turns our tokens into actors, for one process; shut accounts and tokens taken back stop at the next request."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._verifier = TokenVerifier(keys)

    def actor(self, token: str, door: Door, address: str) -> Actor:
        """Return who a token speaks for. Raises NotAuthenticated when it does not hold, or no more."""
        claims = self._verifier.verify(token, self._store.clock())
        found = standing_of(self._store, claims, door, address)
        if found is None:
            raise NotAuthenticated("The account of this token is shut, or the token was taken back.")
        return found


def standing_of(store: Store, claims: Claims, door: Door, address: str) -> Actor | None:
    """Return who a verified token speaks for at this moment; None when it was taken back or they are shut."""
    if claims.kind == "user":
        user = standing_user(store, claims.subject, claims.token_id)
        return None if user is None else actor_of(user, door, address)
    if claims.kind == "client":
        client = standing_client(store, claims.subject, claims.token_id)
        return None if client is None else Actor(*client, ActorKind.SERVICE, door, address=address)
    if is_taken_back(store, claims.token_id):
        return None
    return Actor(claims.subject, Role(claims.role), ActorKind.SERVICE, door, address=address)


class RememberedPasswords:
    """Which passwords were right a moment ago, as a keyed digest under a key that only this process has."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, name: str, password: str, door: Door, address: str) -> Checked:
        """Check as `check_credentials` does, without the slow hash when the same was right within a minute."""
        with self._store.read() as db:
            user = find_user(db, name)
        digest = self._digest(user, name, password)
        with self._lock:
            fresh = time.monotonic() - self._right.get(digest, float("-inf")) < PASSWORD_SECONDS
        if fresh and user is not None and not user.disabled:
            return Checked(user)
        checked = check_credentials(self._store, name, password, door, address)
        if checked.user is not None:
            self._store.run(proved_again, None, actor_of(checked.user, door, address))
            with self._lock:
                self._right[digest] = time.monotonic()
                while len(self._right) > REMEMBERED:
                    self._right.popitem(last=False)
        return checked

    def _digest(self, user: User | None, name: str, password: str) -> bytes:
        # Under the hash that is stored now: a new password forgets the old one.
        stored = user.password_hash if user else ""
        parts = [part.encode("utf-8", "surrogatepass") for part in (name, stored, password)]
        return hmac.digest(self._key, b"".join(len(part).to_bytes(4) + part for part in parts), "sha256")
