"""A person decides about images not to be used: reject, act on a note that waits, show what is withheld."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hilum.archive.ingest import Ingest
from hilum.archive.rejecting import reject
from hilum.core.actor import Actor
from hilum.core.errors import InvalidInput, NotFound
from hilum.security.policy import Action, require, scope_for
from hilum.storage.exception_list import ListedItem, open_exception
from hilum.web import urls
from hilum.web.order_pages import CODES, OrderPages
from hilum.web.pages import Form, Pages, posting, see_other
from hilum.workflow.rejection import (
    DecideRejection,
    RejectInstances,
    ReleaseImages,
    apply_rejection,
    refuse_rejection,
    release_images,
)
from hilum.workflow.source import Source

MAXIMUM_REASON = 500


@dataclass(frozen=True, slots=True)
class RejectionPages:
    """The handlers of rejections."""

    pages: Pages
    ingest: Ingest

    def routes(self) -> list[Route]:
        """The paths of this subject."""
        verbs = {"release": self.release, "reject": self.apply, "keep": self.keep}
        subjects = ("/orders/{order_id}", "/studies/{study_instance_uid}")
        return [
            *(Route(subject + "/reject", posting(self.reject), methods=["POST"]) for subject in subjects),
            *(
                Route(f"{urls.EXCEPTIONS}/{{item_id}}/{verb}", posting(run), methods=["POST"])
                for verb, run in verbs.items()
            ),
        ]

    def reject(self, request: Request, form: Form) -> Response:
        """Put all images of an order or study, or those of one series, out of use."""
        actor: Actor = request.state.actor
        require(actor, Action.REJECT_IMAGES)
        code = next((code for code in CODES if code.value == form.get("code")), None)
        if code is None:
            raise InvalidInput("Choose why the images are not to be used.", field="code")
        series = form.get("series", "")[:64] or None
        with self.pages.store.read() as connection:
            subject = OrderPages(self.pages).subject(request, connection)
        rejected = 0
        for study_id in subject.study_ids:
            command = RejectInstances(study_id, code, form.get("reason", "")[:MAXIMUM_REASON], series)
            try:
                reject(self.ingest, command, actor, self._source(actor), self.pages.view.zone)
            except NotFound:
                continue  # the series is of another study of the order
            rejected += 1
        if not rejected:
            raise NotFound("There is nothing that could be rejected.")
        target = subject.href if subject.order is not None else urls.WORKLIST
        return see_other(urls.with_query(target, done="rejected"))

    def release(self, request: Request, form: Form) -> Response:
        """Show what is withheld."""
        actor: Actor = request.state.actor
        require(actor, Action.RESOLVE_EXCEPTION)
        item_id = request.path_params["item_id"]
        command = ReleaseImages(item_id, form.get("reason", "")[:MAXIMUM_REASON], self._source(actor))
        self.pages.store.run(release_images, command, actor)
        return see_other(urls.with_query(urls.EXCEPTIONS, done="released"))

    def apply(self, request: Request, form: Form) -> Response:
        """Let a note act that waits."""
        actor: Actor = request.state.actor
        require(actor, Action.REJECT_IMAGES)
        self.pages.store.run(apply_rejection, self._decision(request, form), actor)
        return see_other(urls.with_query(urls.EXCEPTIONS, done="rejected"))

    def keep(self, request: Request, form: Form) -> Response:
        """Set a note aside that waits."""
        actor: Actor = request.state.actor
        require(actor, Action.REJECT_IMAGES)
        self.pages.store.run(refuse_rejection, self._decision(request, form), actor)
        return see_other(urls.with_query(urls.EXCEPTIONS, done="dismissed"))

    def _decision(self, request: Request, form: Form) -> DecideRejection:
        actor: Actor = request.state.actor
        scope = scope_for(actor, Action.READ_EXCEPTIONS)
        with self.pages.store.read() as connection:
            listed: ListedItem | None = open_exception(connection, scope, request.path_params["item_id"])
        if listed is None:
            raise NotFound("There is no such open entry.")
        return DecideRejection(listed.item.note, form.get("reason", "")[:MAXIMUM_REASON], self._source(actor))

    @staticmethod
    def _source(actor: Actor) -> Source:
        return Source("Hilum page", actor.name)
