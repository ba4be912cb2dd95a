"""A refusal as a page, for people whose browser asked for one; it says nothing of what it refused to show."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Scope

from hilum.core.actor import Actor
from hilum.web.headers import PAGE_HEADERS
from hilum.web.landing import home_of
from hilum.web.models import ErrorPage, Frame
from hilum.web.pages import THEME_COOKIE, theme_of
from hilum.web.view import View

TITLES = {
    400: "That did not work",
    401: "Sign in again",
    403: "Not for your role",
    404: "Not here",
    405: "Not possible here",
    409: "Changed in the meantime",
    413: "Too large",
    503: "Not available now",
}


def wants_page(scope: Scope) -> bool:
    """Whether a browser asked for a page to show, and not a script for a part of one."""
    headers = Request(scope).headers
    return "text/html" in headers.get("accept", "") and "hx-request" not in headers


def error_response(scope: Scope, status: int, message: str, correlation: str, facility: str) -> Response:
    """The page of a refusal; headers of the protocol are the caller's to add."""
    request = Request(scope)
    state = scope.get("state", {})
    actor: Actor | None = state.get("actor")
    frame = Frame(
        state.get("csrf_token", ""),
        facility,
        (actor.display or actor.name) if actor else None,
        actor.role.value.replace("-", " ").capitalize() if actor else "",
        theme=theme_of(request.cookies.get(THEME_COOKIE, "")),
        home_url=home_of(actor) if actor else "/",
    )
    page = ErrorPage(frame, status, TITLES.get(status, "Something went wrong"), message, correlation)
    return HTMLResponse(_view().render("error.html", page), status, PAGE_HEADERS)


@lru_cache(1)
def _view() -> View:
    return View(ZoneInfo("UTC"), lambda: datetime.now(UTC))
