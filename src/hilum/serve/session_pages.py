"""Where someone is signed in: listed, and ended one by one or all at once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from hilum.core.errors import NotAuthenticated
from hilum.security.policy import Action, require
from hilum.serve.browser import BrowserSessions
from hilum.serve.identity import Identified
from hilum.settings import Configuration
from hilum.storage.sessions import open_sessions
from hilum.storage.store import Store
from hilum.web import urls
from hilum.web.headers import PAGE_HEADERS
from hilum.web.landing import home_of
from hilum.web.models import Frame, SessionRow, SessionsPage
from hilum.web.pages import posting, see_other
from hilum.web.view import View
from hilum.workflow.accounts import EndSessions, end_sessions


class SessionPages:
    """The page of sessions; an admin sees those of others with `?user=`."""

    def __init__(self, store: Store, configuration: Configuration, view: View) -> None:
        self._store = store
        self._configuration = configuration
        self._view = view
        self._browser = BrowserSessions(store, configuration)

    def routes(self) -> list[Route]:
        """Return the routes under `/auth/sessions`."""
        return [
            Route(urls.SESSIONS, self.page, methods=["GET"]),
            Route(urls.SESSIONS, posting(self.end), methods=["POST"]),
        ]

    def page(self, request: Request) -> Response:
        """List the open sessions of someone."""
        identified = _person(request)
        actor = identified.actor
        name = request.query_params.get("user", "") or actor.name
        if name != actor.name:
            require(actor, Action.MANAGE_USERS)
        settings = self._configuration.current
        idle = timedelta(minutes=settings.security.idle_minutes)
        with self._store.read() as db:
            found = open_sessions(db, name, self._store.clock(), idle)
        rows = tuple(
            SessionRow(
                each.id, each.created_at, each.seen_at, each.expires_at, each.address, each.provider,
                each.id == identified.session_id,
            )
            for each in found
        )  # fmt: skip
        role = actor.role.value.replace("-", " ").capitalize()
        shown = actor.display or actor.name
        frame = Frame(request.state.csrf_token, settings.facility.name, shown, role, home_url=home_of(actor))
        page = SessionsPage(frame, name, name == actor.name, rows)
        return HTMLResponse(self._view.render("sessions.html", page), 200, PAGE_HEADERS)

    def end(self, request: Request, form: Mapping[str, str]) -> Response:
        """End one session, or all but this one."""
        identified = _person(request)
        name = form.get("user", "")[:128] or identified.actor.name
        chosen = form.get("session", "")[:128]
        own = name == identified.actor.name
        kept = identified.session_id if own and not chosen else ""
        self._store.run(end_sessions, EndSessions(name, chosen, kept), identified.actor)
        if own and chosen == identified.session_id:
            return self._browser.ended(urls.LOGIN)
        return see_other(urls.SESSIONS if own else urls.with_query(urls.SESSIONS, user=name))


def _person(request: Request) -> Identified:
    identified: Identified = request.state.identified
    if not identified.actor.is_person:
        raise NotAuthenticated("Sessions are of people.")
    return identified
