"""Writing a report: begin or resume a draft, save it as it is typed, sign it, give it up, withdraw what was signed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hilum.core.actor import Actor
from hilum.core.errors import Conflict, IllegalTransition, InvalidInput, NotFound, Stale
from hilum.core.order import Order
from hilum.core.report import SIGNED_AS, DraftKind, Report, ReportStatus, with_addendum
from hilum.security.audit import Read
from hilum.security.policy import Action, require, scope_for
from hilum.storage.pages import order_in_scope, report_in_scope, report_of_order
from hilum.web import urls
from hilum.web.models import DraftConflict, EditorPage, Saved
from hilum.web.order_pages import NOT_HERE
from hilum.web.pages import Form, Pages, may, posting, see_other
from hilum.web.proof import prove
from hilum.web.reports import MAXIMUM_CHARACTERS, draft_model, draft_sections, last_with_text
from hilum.web.subject import TRUST_RANK, Subject, chain_of, images_model, priors_of, subject_of_order
from hilum.workflow.reporting import DiscardDraft, DraftReport, SignReport, discard_draft, draft_report, sign_report
from hilum.workflow.source import Source

STANDARD = "Hilum page"
MAXIMUM_REASON = 1_000
# What a report must be for a draft of each kind to begin; None is a report without a signed version.
BEGINS_AFTER = {
    DraftKind.REPORT: frozenset({None, ReportStatus.PRELIMINARY}),
    DraftKind.ADDENDUM: frozenset({ReportStatus.FINAL, ReportStatus.ADDENDED, ReportStatus.CORRECTED}),
    DraftKind.CORRECTION: frozenset(
        {ReportStatus.FINAL, ReportStatus.ADDENDED, ReportStatus.CORRECTED, ReportStatus.RETRACTED}
    ),
}


@dataclass(frozen=True, slots=True)
class ReportPages:
    """The handlers of reports."""

    pages: Pages

    def routes(self) -> list[Route]:
        """The paths of this subject."""
        verbs = {
            "draft": self.save,
            "sign": self.sign,
            "discard": self.discard,
            "retract": self.retract,
        }
        return [
            Route("/orders/{order_id}/report/start", posting(self.start), methods=["POST"]),
            Route("/reports/{report_id}/edit", self.edit, methods=["GET"]),
            *(Route(f"/reports/{{report_id}}/{verb}", posting(run), methods=["POST"]) for verb, run in verbs.items()),
        ]

    def start(self, request: Request, form: Form) -> Response:
        """Open the draft of an order's report, or go on with the one that there is."""
        actor: Actor = request.state.actor
        require(actor, Action.DRAFT_REPORT)
        kind = _kind(form.get("kind", ""))
        with self.pages.store.read() as connection:
            order = order_in_scope(connection, request.path_params["order_id"], scope_for(actor, Action.READ_ORDER))
            if order is None:
                raise NotFound(NOT_HERE)
            report = report_of_order(connection, order.id)
        if report is None or report.draft is None:
            report = self.pages.store.run(draft_report, _beginning(order, report, kind), actor)
        return see_other(urls.edit_report(report.id))

    def edit(self, request: Request) -> Response:
        """The order's page with its report open for writing."""
        actor: Actor = request.state.actor
        require(actor, Action.DRAFT_REPORT)
        with self.pages.store.read() as connection:
            report, order = self._report(request, connection)
            if report.draft is None:
                return see_other(urls.order(order.id))
            subject = subject_of_order(connection, order, actor)
            zone = self.pages.view.zone
            priors, beside = priors_of(connection, subject, zone, request.query_params.get("beside", ""), actor)
            page = EditorPage(
                frame=self.pages.frame(request, connection),
                href=subject.href,
                patient=subject.patient,
                identity=subject.identity,
                order=subject.head,
                chain=chain_of(connection, subject)[0],
                viewer=images_model(connection, subject, actor, zone),
                draft=draft_model(report),
                priors=priors,
                beside=beside,
                may_sign=may(actor, Action.SIGN_REPORT),
                may_sign_preliminary=may(actor, Action.SIGN_REPORT),
                signer=actor.display or actor.name,
                exception_href=subject.exception_href,
                may_see_images=may(actor, Action.READ_IMAGES),
            )
        self._audit(actor, order)
        return self.pages.answer("editor.html", page)

    def save(self, request: Request, form: Form) -> Response:
        """Keep the draft; a stale text is answered with both texts unless they are the same."""
        actor: Actor = request.state.actor
        require(actor, Action.DRAFT_REPORT)
        with self.pages.store.read() as connection:
            report, order = self._report(request, connection)
        if report.draft is None:
            raise Conflict("The draft was signed or given up in the meantime.")
        findings, impression, reason = _texts(report.draft_kind, form)
        if max(len(findings), len(impression)) > MAXIMUM_CHARACTERS or len(reason) > MAXIMUM_REASON:
            return Response(f"A section holds {MAXIMUM_CHARACTERS} characters.", 422, media_type="text/plain")
        command = DraftReport(order.id, findings, impression, _revision(form), report.draft_kind, reason)
        try:
            saved = self.pages.store.run(draft_report, command, actor)
        except Stale:
            return self._stale(request, command)
        assert saved.draft is not None
        return self.pages.answer("draft_saved.html", Saved(saved.revision, saved.draft.recorded_at))

    def sign(self, request: Request, form: Form) -> Response:
        """Sign the text that was shown, unless whose images these are has become doubtful since."""
        actor: Actor = request.state.actor
        require(actor, Action.SIGN_REPORT)
        with self.pages.store.read() as connection:
            report, order = self._report(request, connection)
            subject = subject_of_order(connection, order, actor)
        _check_identity(subject, form.get("trust", ""))
        if report.draft is None or _revision(form) != report.revision:
            raise Stale("Someone else changed the report in the meantime. Nothing was signed; open it again.")
        status = _status(report.draft_kind, form.get("state", ""))
        findings, impression, reason = _texts(report.draft_kind, form)
        if report.draft_kind is DraftKind.ADDENDUM:
            base = last_with_text(report)
            if base is None or not impression.strip():
                raise InvalidInput("The addendum has no text.", field="section.addendum")
            findings, impression = with_addendum(base, impression)
        prove(request, form, self.pages.configuration.current, self.pages.store)
        command = SignReport(
            order.id, status, findings, impression, report.revision, Source(STANDARD, actor.name), reason
        )
        self.pages.store.run(sign_report, command, actor)
        return see_other(urls.with_query(urls.order(order.id), done="signed"))

    def discard(self, request: Request, form: Form) -> Response:
        """Give the draft up."""
        actor: Actor = request.state.actor
        require(actor, Action.DRAFT_REPORT)
        with self.pages.store.read() as connection:
            _, order = self._report(request, connection)
        self.pages.store.run(discard_draft, DiscardDraft(order.id, _revision(form)), actor)
        return see_other(urls.with_query(urls.order(order.id), done="discarded"))

    def retract(self, request: Request, form: Form) -> Response:
        """Withdraw a signed report; an open draft has to be finished or given up first."""
        actor: Actor = request.state.actor
        require(actor, Action.SIGN_REPORT)
        with self.pages.store.read() as connection:
            report, order = self._report(request, connection)
        if report.draft is not None:
            raise Conflict("Someone is writing on this report: sign or discard that draft first.")
        prove(request, form, self.pages.configuration.current, self.pages.store)
        command = SignReport(
            order.id,
            ReportStatus.RETRACTED,
            "",
            "",
            report.revision,
            Source(STANDARD, actor.name),
            form.get("reason", "")[:MAXIMUM_REASON],
        )
        self.pages.store.run(sign_report, command, actor)
        return see_other(urls.with_query(urls.order(order.id), done="retracted"))

    def _stale(self, request: Request, command: DraftReport) -> Response:
        with self.pages.store.read() as connection:
            report, _ = self._report(request, connection)
        draft = report.draft
        if draft is None:
            raise Conflict("The draft was signed or given up in the meantime.")
        stored = (report.draft_kind, draft.findings, draft.impression, draft.reason)
        if stored == (command.kind, command.findings, command.impression, command.reason):
            return self.pages.answer("draft_saved.html", Saved(report.revision, draft.recorded_at))
        conflict = DraftConflict(
            report.revision,
            draft_sections(report.draft_kind, draft.findings, draft.impression),
            draft_sections(command.kind, command.findings, command.impression),
            draft.signed_by,
            draft.recorded_at,
        )
        return self.pages.answer("draft_conflict.html", conflict, 409)

    def _report(self, request: Request, connection: Any) -> tuple[Report, Order]:
        actor: Actor = request.state.actor
        found = report_in_scope(connection, request.path_params["report_id"], scope_for(actor, Action.READ_ORDER))
        if found is None:
            raise NotFound(NOT_HERE)
        return found

    def _audit(self, actor: Actor, order: Order) -> None:
        for action in (Action.READ_ORDER, Action.READ_REPORT):
            self.pages.read_log.record(actor, Read(action, order.patient_id, order.id))


def _beginning(order: Order, report: Report | None, kind: DraftKind) -> DraftReport:
    """The first draft of a kind: a report goes on from its preliminary text, a correction from what it corrects."""
    status = report.status if report and report.versions else None
    if status not in BEGINS_AFTER[kind]:
        raise IllegalTransition(f"A {kind.value} cannot be written on a {status.value if status else 'new'} report.")
    revision = report.revision if report else None
    base = last_with_text(report) if report and kind is not DraftKind.ADDENDUM else None
    if base is None:
        return DraftReport(order.id, "", "", revision, kind)
    return DraftReport(order.id, base.findings, base.impression, revision, kind)


def _check_identity(subject: Subject, seen: str) -> None:
    """Refuse a signature made in another belief about whose images these are (docs/hazards.md)."""
    if TRUST_RANK[subject.identity.trust] > TRUST_RANK.get(seen, 0):
        raise Conflict("Whose images these are has become doubtful since you opened the report. Nothing was signed.")


def _kind(text: str) -> DraftKind:
    try:
        return DraftKind(text or DraftKind.REPORT)
    except ValueError:
        raise InvalidInput("There is no such kind of report.", field="kind") from None


def _status(kind: DraftKind, state: str) -> ReportStatus:
    """What is signed: a report as final or preliminary by wish, the others as what they are."""
    if kind is DraftKind.REPORT:
        wanted = {"final": ReportStatus.FINAL, "preliminary": ReportStatus.PRELIMINARY}.get(state)
        if wanted is None:
            raise InvalidInput("A report is signed as final or preliminary.", field="state")
        return wanted
    (only,) = SIGNED_AS[kind]
    return only


def _texts(kind: DraftKind, form: Form) -> tuple[str, str, str]:
    """Findings, impression and reason; browsers send line ends as CR LF, which is one more character each."""
    sections = {
        key: form.get(f"section.{key}", "").replace("\r\n", "\n") for key in ("findings", "impression", "addendum")
    }
    reason = form.get("reason", "").strip()
    if kind is DraftKind.ADDENDUM:
        return "", sections["addendum"], reason
    return sections["findings"], sections["impression"], reason


def _revision(form: Form) -> int:
    try:
        return int(form.get("revision", ""))
    except ValueError:
        raise InvalidInput("The revision is no number.", field="revision") from None
