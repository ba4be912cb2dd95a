"""What every handler needs: the store, the settings, the audit of reads, the view; and the frame around a page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, get_args
from urllib.parse import unquote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from hilum.core.actor import Actor
from hilum.security.audit import ReadLog
from hilum.security.policy import Action, decide, scope_for
from hilum.settings import Configuration
from hilum.storage.access import open_review_count
from hilum.storage.exception_list import open_exception_count
from hilum.storage.store import Store
from hilum.web.headers import PAGE_HEADERS
from hilum.web.landing import home_of
from hilum.web.models import Active, Frame, Notice, Theme
from hilum.web.ohif_files import installed
from hilum.web.proof import proof_wanted
from hilum.web.view import View

Form = Mapping[str, str]
Handler = Callable[[Request, Form], Response]

THEME_COOKIE = "hilum_theme"
# What a page says after an action; the address carries the key alone.
NOTICES = {
    "signed": Notice("Signed. The report is on its way to its receivers.", "good"),
    "retracted": Notice("The report is withdrawn; its receivers are told.", "warn"),
    "discarded": Notice("The draft is gone."),
    "linked": Notice("Linked to the order.", "good"),
    "dismissed": Notice("Set aside."),
    "rejected": Notice("Rejected. The images are hidden everywhere.", "warn"),
    "released": Notice("The images are shown again.", "good"),
    "moved": Notice("The images are shown where they belong, at every door.", "good"),
    "moved-back": Notice("Taken back: the images are where they were.", "warn"),
    "unmerged": Notice("The merge is undone: two patients again.", "warn"),
    "replayed": Notice("Sent again.", "good"),
    "asked": Notice("Your request is kept and the auditors are told. What is open to you is listed below.", "warn"),
    "reviewed": Notice("Reviewed.", "good"),
}


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages of one process."""

    store: Store
    configuration: Configuration
    read_log: ReadLog
    view: View

    def frame(self, request: Request, connection: Any, active: str = "") -> Frame:
        """The frame around a page for whoever asks."""
        actor: Actor = request.state.actor
        reconciles = may(actor, Action.READ_EXCEPTIONS) and may(actor, Action.RESOLVE_EXCEPTION)
        return Frame(
            csrf_token=request.state.csrf_token,
            facility=self.configuration.current.facility.name,
            user_name=actor.display or actor.name,
            role=actor.role.value.replace("-", " ").capitalize(),
            active=next((name for name in get_args(Active) if name == active), ""),
            theme=theme_of(request.cookies.get(THEME_COOKIE, "")),
            open_exceptions=open_exception_count(connection, scope_for(actor, Action.READ_EXCEPTIONS))
            if reconciles
            else 0,
            may_reconcile=reconciles,
            notice=NOTICES.get(request.query_params.get("done", "")),
            proof=proof_wanted(request, self.configuration.current),
            provider=request.state.provider,
            may_break_glass=may(actor, Action.BREAK_GLASS),
            may_audit=may(actor, Action.READ_AUDIT),
            may_see_reviews=may(actor, Action.READ_ACCESS_REVIEWS),
            open_reviews=open_review_count(connection) if may(actor, Action.READ_ACCESS_REVIEWS) else 0,
            has_ohif=may(actor, Action.READ_IMAGES) and installed(self.configuration.current.viewer) is not None,
            home_url=home_of(actor),
        )

    def answer(self, template: str, model: object, status: int = 200) -> Response:
        """A page or a part of one."""
        return HTMLResponse(self.view.render(template, model), status, PAGE_HEADERS)


def theme_of(text: str) -> Theme:
    """The colours that a cookie asks for."""
    return next((theme for theme in get_args(Theme) if theme == unquote(text)), "auto")


def may(actor: Actor, action: Action) -> bool:
    """Whether an actor may do something at all."""
    return decide(actor, action).allowed


def see_other(url: str) -> Response:
    """After a change, the page that shows it (RFC 9110 15.4.4)."""
    return RedirectResponse(url, 303, {"cache-control": "no-store"})


def version_of(*parts: object) -> str:
    """A short digest of frozen models: equal exactly when they are."""
    return sha256(repr(parts).encode()).hexdigest()[:16]


def posting(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Read the form, then run the handler where it may wait for the database."""

    async def endpoint(request: Request) -> Response:
        form = await request.form(max_files=0, max_fields=50)
        return await run_in_threadpool(handler, request, {name: str(value) for name, value in form.items()})

    return endpoint
