"""Sessions of browsers as HTTP sees them: the fresh secret at each sign-in, the cookie, and where to go next."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from hilum.core.actor import Actor
from hilum.serve.identity import SESSION_COOKIE, cookie, new_session_secret, session_cookie, session_id_of
from hilum.settings import Configuration
from hilum.storage.store import Store
from hilum.web.landing import home_of


@dataclass(frozen=True, slots=True)
class Opening:
    """A session about to be opened under a fresh secret; `replaces` is the one that the browser brought along."""

    secret: str = field(repr=False)
    expires_at: datetime
    replaces: str

    @property
    def session_id(self) -> str:
        """What the database keeps of the secret."""
        return session_id_of(self.secret)


class BrowserSessions:
    """Begins and ends sessions of browsers, for one process."""

    def __init__(self, store: Store, configuration: Configuration) -> None:
        self._store = store
        self._configuration = configuration

    @property
    def secure(self) -> bool:
        """Whether cookies go over https only."""
        return self._configuration.current.http.base_url.startswith("https:")

    def opening(self, request: Request) -> Opening:
        """Make the secret of a new session: never one that the browser already knows (session fixation)."""
        before = cookie(dict(request.headers), SESSION_COOKIE)
        expires = self._store.clock() + timedelta(minutes=self._configuration.current.security.session_minutes)
        return Opening(new_session_secret(), expires, session_id_of(before) if before else "")

    def opened(self, opening: Opening, next_url: str, actor: Actor) -> Response:
        """Hand out the cookie and go on: to the page that was wanted, else to where this person begins."""
        answer = RedirectResponse(home_of(actor) if next_url == "/" else next_url, 303)
        answer.headers["set-cookie"] = session_cookie(opening.secret, opening.expires_at, secure=self.secure)
        return answer

    def ended(self, next_url: str) -> Response:
        """Take the cookie away."""
        answer = RedirectResponse(next_url, 303)
        answer.headers["set-cookie"] = session_cookie("", None, secure=self.secure)
        return answer


def local_path(url: str) -> str:
    """Return a path of this server; anything else would let a link lead a person elsewhere after the sign-in."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "/"
    if parts.scheme or parts.netloc or not url.startswith("/") or url.startswith(("//", "/\\")) or len(url) > 2000:
        return "/"
    return url
