"""What Hilum would not guess: the list, the search for an order to link to, and a person's decisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hilum.core.actor import Actor
from hilum.core.errors import NotFound
from hilum.core.scope import Scope
from hilum.delivery.queue import QueueTarget, replay_queue
from hilum.security.audit import Read
from hilum.security.policy import Action, require, scope_for
from hilum.storage.dead_letters import DeadLetter, dead_letter_count, dead_letters
from hilum.storage.exception_list import (
    ListedItem,
    accession_of_order,
    exception_counts,
    find_orders,
    likely_orders,
    open_exception,
    open_exceptions,
)
from hilum.web import urls
from hilum.web.exception_rows import (
    DEAD_LETTER,
    TABS,
    candidate_model,
    is_linkable,
    kinds_of,
    row_of_dead_letter,
    row_of_item,
)
from hilum.web.models import CandidateList, ExceptionRow, ExceptionsPage, StatusCount
from hilum.web.pages import Form, Pages, may, posting, see_other, version_of
from hilum.workflow.reconciliation import AssignStudy, DismissException, assign_study, dismiss_exception

PAGE_ROWS = 25
MAXIMUM_TEXT = 64
MAXIMUM_REASON = 500
NOT_OPEN = "There is no such open entry."


@dataclass(frozen=True, slots=True)
class ExceptionPages:
    """The handlers of exceptions."""

    pages: Pages

    def routes(self) -> list[Route]:
        """The paths of this subject."""
        verbs = {"link": self.link, "dismiss": self.dismiss, "replay": self.replay}
        root = urls.EXCEPTIONS
        return [
            Route(root, self.show, methods=["GET"]),
            Route(root + "/{item_id}/candidates", self.candidates, methods=["GET"]),
            *(Route(f"{root}/{{item_id}}/{verb}", posting(run), methods=["POST"]) for verb, run in verbs.items()),
        ]

    def show(self, request: Request) -> Response:
        """The list, oldest first, under one tab; or one entry alone."""
        actor: Actor = request.state.actor
        require(actor, Action.READ_EXCEPTIONS)
        scope = scope_for(actor, Action.READ_EXCEPTIONS)
        query = request.query_params
        tab = next((key for key, _ in TABS if key == query.get("kind", "")), "")
        after, before = query.get("after", "")[:26], query.get("before", "")[:26]
        with self.pages.store.read() as connection:
            if query.get("item"):
                found = open_exception(connection, scope, query["item"][:26])
                rows, more = [self._row(connection, found, scope, actor)] if found else [], False
            else:
                rows, more = self._rows(connection, scope, actor, tab, after, before)
            counts = self._counts(connection, scope, actor)
            frame = self.pages.frame(request, connection, "exceptions")
        forward = not before
        page = ExceptionsPage(
            frame=frame,
            kind=tab,
            kinds=counts,
            rows=tuple(rows),
            version=version_of(rows),
            next_cursor=rows[-1].exception_id if rows and (more or not forward) else "",
            previous_cursor=rows[0].exception_id if rows and (after or before) and (forward or more) else "",
        )
        self.pages.read_log.record(actor, Read(Action.READ_EXCEPTIONS))
        return self.pages.answer("exceptions.html", page)

    def candidates(self, request: Request) -> Response:
        """Orders that a text finds, with what speaks for and against each."""
        actor: Actor = request.state.actor
        require(actor, Action.RESOLVE_EXCEPTION)
        scope = scope_for(actor, Action.RESOLVE_EXCEPTION)
        text = request.query_params.get("text", "").strip()[:MAXIMUM_TEXT]
        with self.pages.store.read() as connection:
            listed = self._open(request, connection, scope)
            found = find_orders(connection, scope, text) if text else self._likely(connection, listed, scope)
        self.pages.read_log.record(actor, Read(Action.READ_EXCEPTIONS))
        models = tuple(candidate_model(candidate, listed.study) for candidate in found)
        return self.pages.answer("candidates.html", CandidateList(listed.item.id, text, models))

    def link(self, request: Request, form: Form) -> Response:
        """Tie a study to the chosen order, with the reason that the person gives."""
        actor: Actor = request.state.actor
        require(actor, Action.RESOLVE_EXCEPTION)
        scope = scope_for(actor, Action.RESOLVE_EXCEPTION)
        order_id = form.get("order_id", "")[:26]
        with self.pages.store.read() as connection:
            listed = self._open(request, connection, scope)
            accession = accession_of_order(connection, order_id, scope)
        if accession is None:
            raise NotFound("There is no such order.", field="order_id")
        command = AssignStudy(listed.item.id, accession, form.get("reason", "")[:MAXIMUM_REASON])
        self.pages.store.run(assign_study, command, actor)
        return see_other(urls.with_query(urls.order(order_id), done="linked"))

    def dismiss(self, request: Request, form: Form) -> Response:
        """Set an entry aside, with a reason."""
        actor: Actor = request.state.actor
        require(actor, Action.RESOLVE_EXCEPTION)
        command = DismissException(request.path_params["item_id"], form.get("reason", "")[:MAXIMUM_REASON])
        self.pages.store.run(dismiss_exception, command, actor)
        return see_other(urls.with_query(urls.EXCEPTIONS, done="dismissed"))

    def replay(self, request: Request, form: Form) -> Response:
        """Send a dead letter again, and let its lane go on."""
        actor: Actor = request.state.actor
        require(actor, Action.OPERATE_QUEUE)
        self.pages.store.run(replay_queue, QueueTarget(request.path_params["item_id"]), actor)
        return see_other(urls.with_query(urls.EXCEPTIONS, kind=form.get("kind", ""), done="replayed"))

    def _rows(
        self, connection: Any, scope: Scope, actor: Actor, tab: str, after: str, before: str
    ) -> tuple[list[ExceptionRow], bool]:
        """One page of both lists, merged by their ids, which are in the order of time."""
        items: list[ListedItem] = []
        letters: list[DeadLetter] = []
        more = more_letters = False
        if kinds := kinds_of(tab):
            items, more = open_exceptions(connection, scope, kinds, PAGE_ROWS, after=after, before=before)
        if tab in ("", DEAD_LETTER) and may(actor, Action.READ_QUEUE):
            letters, more_letters = dead_letters(connection, PAGE_ROWS, after=after, before=before)
        rows = {item.item.id: self._row(connection, item, scope, actor) for item in items}
        rows |= {letter.id: row_of_dead_letter(letter, actor) for letter in letters}
        ordered = [rows[key] for key in sorted(rows)]
        page = ordered[-PAGE_ROWS:] if before else ordered[:PAGE_ROWS]
        return page, more or more_letters or len(ordered) > PAGE_ROWS

    def _row(self, connection: Any, listed: ListedItem, scope: Scope, actor: Actor) -> ExceptionRow:
        return row_of_item(listed, self._likely(connection, listed, scope), actor)

    def _likely(self, connection: Any, listed: ListedItem, scope: Scope) -> Any:
        if listed.study is None or not is_linkable(listed):
            return []
        return likely_orders(connection, scope, listed.study)

    def _counts(self, connection: Any, scope: Scope, actor: Actor) -> tuple[StatusCount, ...]:
        by_kind = exception_counts(connection, scope)
        dead = dead_letter_count(connection) if may(actor, Action.READ_QUEUE) else 0
        counts = {tab: sum(by_kind[kind] for kind in kinds_of(tab)) for tab, _ in TABS}
        counts[DEAD_LETTER] = dead
        counts[""] += dead
        return tuple(StatusCount(tab, label, counts[tab]) for tab, label in TABS)

    def _open(self, request: Request, connection: Any, scope: Scope) -> ListedItem:
        listed = open_exception(connection, scope, request.path_params["item_id"])
        if listed is None:
            raise NotFound(NOT_OPEN)
        return listed
