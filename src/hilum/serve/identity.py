"""Who is asking over HTTP: a bearer token or a session cookie becomes an `Actor`; nothing else does."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.cookies import CookieError, SimpleCookie

from hilum.core.actor import Actor, Door, Identifier, system_actor
from hilum.core.errors import NotAuthenticated
from hilum.security.live_keys import Keys
from hilum.storage.sessions import session_user
from hilum.storage.store import Store
from hilum.workflow.accounts import touch_session
from hilum.workflow.credentials import Bearers, actor_of

SESSION_COOKIE = "hilum_session"
# How exactly the last use of a session is known; each note is a commit.
TOUCH_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Identified:
    """Someone who proved who they are; all but `actor` only for a session, `provider` if one spoke for them."""

    actor: Actor
    session_id: str = ""
    must_change_password: bool = False
    provider: str = ""
    proved_at: datetime | None = None


def new_session_secret() -> str:
    """Return a fresh secret for a cookie: 256 random bits."""
    return secrets.token_urlsafe(32)


def session_id_of(secret: str) -> str:
    """Return what the database keeps of a cookie's secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Authenticator:
    """Checks tokens and sessions of one process."""

    def __init__(self, store: Store, keyring: Keys, idle: timedelta) -> None:
        """Takes the database, the keys and how long a session may be without a request."""
        self._store = store
        self._idle = idle
        self._keyring = keyring
        self._bearers = Bearers(store, keyring)

    def identify(self, headers: Mapping[str, str], door: Door, address: str) -> Identified | None:
        """Return who sent these headers; None for nobody. Raises NotAuthenticated for a wrong or ended token."""
        authorization = headers.get("authorization", "")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return Identified(self._bearers.actor(token.strip(), door, address))
        if authorization:
            raise NotAuthenticated("Only bearer tokens are taken here.")
        secret = cookie(headers, SESSION_COOKIE)
        return self._by_session(secret, door, address) if secret else None

    def csrf_token(self, session_id: str) -> str:
        """Return the token that each form of a session carries."""
        return hmac.new(self._keyring.session_secret, b"csrf:" + session_id.encode(), hashlib.sha256).hexdigest()

    def csrf_holds(self, session_id: str, token: str) -> bool:
        """Tell whether a form came from a page of this session."""
        return hmac.compare_digest(self.csrf_token(session_id).encode(), token.encode())

    def _by_session(self, secret: str, door: Door, address: str) -> Identified | None:
        session_id = session_id_of(secret)
        now = self._store.clock()
        with self._store.read() as db:
            found = session_user(db, session_id, now, self._idle)
        if found is None:
            return None
        user, session = found
        if now - session.seen_at > TOUCH_EVERY:
            self._store.submit(touch_session, session_id, system_actor("sessions"))
        # Who came by a provider has no password here to change.
        must_change = user.must_change_password and not session.provider
        return Identified(actor_of(user, door, address), session_id, must_change, session.provider, session.proved_at)


def cookie(headers: Mapping[str, str], name: str) -> str:
    """Return a cookie's value, or an empty text."""
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def session_cookie(secret: str, expires: datetime | None, *, secure: bool) -> str:
    """Return the Set-Cookie value of a session; an empty secret takes the cookie away."""
    parts = [f"{SESSION_COOKIE}={secret}", "Path=/", "HttpOnly", "SameSite=Lax"]
    if secure:
        parts.append("Secure")
    if not secret:
        parts.append("Max-Age=0")
    elif expires is not None:
        parts.append(expires.strftime("Expires=%a, %d %b %Y %H:%M:%S GMT"))
    return "; ".join(parts)


_IDENTIFIER = "^"


def identifier_from_text(text: str) -> Identifier:
    """Read `ID^AUTHORITY` as the command line gives it."""
    value, _, authority = text.partition(_IDENTIFIER)
    return Identifier(value, authority)
