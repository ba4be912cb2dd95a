"""Emergency access ("break the glass") and its review.

The answer to the form is the same whether the number is a patient's or nobody's; both are kept and reviewed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hilum.core.actor import Actor, Identifier
from hilum.core.errors import InvalidInput
from hilum.core.scope import GrantKind
from hilum.security.audit import Read
from hilum.security.policy import Action, require
from hilum.storage.access import Grant, break_glass_reviews, grants_of
from hilum.web import urls
from hilum.web.models import BreakGlassPage, OpenAccess, ReviewRow, ReviewsPage
from hilum.web.pages import Form, Pages, may, posting, see_other
from hilum.workflow.access import LONGEST_REASON, BreakGlass, ReviewAccess, break_glass, review_access
from hilum.workflow.source import Source

PAGE_ROWS = 50
LONGEST_NUMBER = 64
LONGEST_AUTHORITY = 227


@dataclass(frozen=True, slots=True)
class AccessPages:
    """The handlers of emergency access."""

    pages: Pages

    def routes(self) -> list[Route]:
        """The paths of this subject."""
        return [
            Route(urls.BREAK_GLASS, self.form, methods=["GET"]),
            Route(urls.BREAK_GLASS, posting(self.break_glass), methods=["POST"]),
            Route(urls.ACCESS_REVIEWS, self.reviews, methods=["GET"]),
            Route(urls.ACCESS_REVIEWS + "/{grant_id}", posting(self.review), methods=["POST"]),
        ]

    def form(self, request: Request) -> Response:
        """The form, with what is open to the person already."""
        require(request.state.actor, Action.BREAK_GLASS)
        return self._form(request, {}, "")

    def break_glass(self, request: Request, form: Form) -> Response:
        """Open a patient to the person for some hours."""
        actor: Actor = request.state.actor
        require(actor, Action.BREAK_GLASS)
        number, authority = form.get("identifier", "").strip(), form.get("authority", "").strip()
        if not number or len(number) > LONGEST_NUMBER or len(authority) > LONGEST_AUTHORITY:
            return self._form(request, form, "Give the patient's number.", 400)
        hours = timedelta(hours=self.pages.configuration.current.security.break_glass_hours)
        command = BreakGlass(
            Identifier(number, authority), form.get("reason", ""), hours, Source("Hilum page", actor.name)
        )
        try:
            self.pages.store.run(break_glass, command, actor)
        except InvalidInput as error:
            return self._form(request, form, error.message, 400)
        return see_other(urls.with_query(urls.BREAK_GLASS, done="asked"))

    def reviews(self, request: Request) -> Response:
        """Who broke the glass, newest first."""
        actor: Actor = request.state.actor
        require(actor, Action.READ_ACCESS_REVIEWS)
        shows_all = request.query_params.get("all", "") == "1"
        before = request.query_params.get("before", "")[:26]
        with self.pages.store.read() as connection:
            found = break_glass_reviews(connection, open_only=not shows_all, before=before, limit=PAGE_ROWS + 1)
            frame = self.pages.frame(request, connection, "reviews")
        page = ReviewsPage(
            frame=frame,
            rows=tuple(_review_row(grant, actor) for grant in found[:PAGE_ROWS]),
            shows_all=shows_all,
            next_cursor=found[PAGE_ROWS - 1].id if len(found) > PAGE_ROWS else "",
        )
        self.pages.read_log.record(actor, Read(Action.READ_ACCESS_REVIEWS))
        return self.pages.answer("access_reviews.html", page)

    def review(self, request: Request, form: Form) -> Response:
        """Settle one review with what was found."""
        command = ReviewAccess(request.path_params["grant_id"][:26], form.get("finding", "")[: LONGEST_REASON + 1])
        self.pages.store.run(review_access, command, request.state.actor)
        return see_other(urls.with_query(urls.ACCESS_REVIEWS, done="reviewed"))

    def _form(self, request: Request, form: Form, problem: str, status: int = 200) -> Response:
        actor: Actor = request.state.actor
        with self.pages.store.read() as connection:
            mine = grants_of(connection, actor.name)
            frame = self.pages.frame(request, connection, "access")
        page = BreakGlassPage(
            frame=frame,
            hours=self.pages.configuration.current.security.break_glass_hours,
            open=tuple(_open_access(grant) for grant in mine if grant.kind is GrantKind.BREAK_GLASS),
            problem=problem,
            identifier=form.get("identifier", "")[:LONGEST_NUMBER],
            authority=form.get("authority", "")[:LONGEST_AUTHORITY],
            reason=form.get("reason", "")[:LONGEST_REASON],
        )
        return self.pages.answer("break_glass.html", page, status)


def _open_access(grant: Grant) -> OpenAccess:
    number = grant.identifier
    return OpenAccess(
        number.value if number else "",
        number.authority if number else "",
        grant.expires_at,
        urls.patient_studies(grant.patient_id or ""),
    )


def _review_row(grant: Grant, actor: Actor) -> ReviewRow:
    number = grant.identifier
    return ReviewRow(
        grant.id,
        grant.account,
        grant.at,
        grant.revoked_at or grant.expires_at,
        number.value if number else "",
        number.authority if number else "",
        grant.reason,
        grant.reviewed_at,
        grant.reviewed_by,
        grant.review,
        grant.reviewed_at is None and grant.account != actor.name and may(actor, Action.REVIEW_ACCESS),
    )
