"""The page of one order or of a study without one, and its parts that refresh themselves while it is open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hilum.core.actor import Actor
from hilum.core.errors import NotFound
from hilum.core.report import Report
from hilum.security.audit import Read
from hilum.security.policy import Action, require, scope_for
from hilum.storage.pages import (
    order_in_scope,
    order_of_study_uid,
    report_deliveries,
    report_of_order,
    study_shown,
)
from hilum.web import urls
from hilum.web.models import ChainUpdate, OrderPage, ReportPanel, ReportUpdate
from hilum.web.pages import Pages, may, see_other
from hilum.web.reports import panel_model
from hilum.web.subject import Subject, chain_of, has_images, images_model, priors_of, subject_of_order, subject_of_study
from hilum.workflow.rejection import MEANINGS, RejectionCode

# What a person may say; that data are past their retention is said by the rules of retention.
CODES = (RejectionCode.PATIENT_SAFETY, RejectionCode.QUALITY, RejectionCode.WRONG_WORKLIST_ENTRY)
NOT_HERE = "There is no such order or study, or you may not see it."


@dataclass(frozen=True, slots=True)
class OrderPages:
    """The handlers of orders and studies."""

    pages: Pages

    def routes(self) -> list[Route]:
        """The paths of this subject."""
        parts = (("", self.show), ("/chain", self.chain), ("/report", self.report))
        return [
            Route(prefix + path, handler, methods=["GET"])
            for prefix in ("/orders/{order_id}", "/studies/{study_instance_uid}")
            for path, handler in parts
        ]

    def show(self, request: Request) -> Response:
        """The whole page; a study that belongs to an order is shown as that order."""
        actor: Actor = request.state.actor
        require(actor, Action.READ_ORDER)
        with self.pages.store.read() as connection:
            if "study_instance_uid" in request.path_params:
                uid = request.path_params["study_instance_uid"]
                order = order_of_study_uid(connection, uid, scope_for(actor, Action.READ_ORDER))
                if order is not None:
                    return see_other(
                        urls.with_query(urls.order(order.id), beside=request.query_params.get("beside", ""))
                    )
            subject = self.subject(request, connection)
            zone = self.pages.view.zone
            chain, _ = chain_of(connection, subject)
            priors, beside = priors_of(connection, subject, zone, request.query_params.get("beside", ""), actor)
            page = OrderPage(
                frame=self.pages.frame(request, connection),
                href=subject.href,
                patient=subject.patient,
                identity=subject.identity,
                order=subject.head,
                chain=chain,
                viewer=images_model(connection, subject, actor, zone),
                report=self._panel(connection, subject, actor),
                priors=priors,
                beside=beside,
                exception_href=subject.exception_href,
                may_see_images=may(actor, Action.READ_IMAGES),
                move_href=_move_href(subject, actor),
                records_href=_records_href(subject, actor),
                reject_codes=tuple((code.value, MEANINGS[code]) for code in CODES)
                if may(actor, Action.REJECT_IMAGES)
                else (),
            )
        self.audit(actor, subject, reads_report=bool(page.report.versions))
        return self.pages.answer("order.html", page)

    def chain(self, request: Request) -> Response:
        """Chain and banner, when they changed since `seen`."""
        actor: Actor = request.state.actor
        require(actor, Action.READ_ORDER)
        with self.pages.store.read() as connection:
            subject = self.subject(request, connection)
            chain, images = chain_of(connection, subject)
        if request.query_params.get("seen") == chain.version:
            return Response(status_code=204)
        self.audit(actor, subject)
        update = ChainUpdate(
            subject.href, subject.patient, subject.identity, subject.head, chain, images, subject.exception_href
        )
        return self.pages.answer("chain_update.html", update)

    def report(self, request: Request) -> Response:
        """The report panel, when it changed since `seen`."""
        actor: Actor = request.state.actor
        require(actor, Action.READ_ORDER)
        with self.pages.store.read() as connection:
            subject = self.subject(request, connection)
            panel = self._panel(connection, subject, actor)
            if request.query_params.get("seen") == panel.version:
                return Response(status_code=204)
            update = ReportUpdate(self.pages.frame(request, connection), subject.href, panel)
        self.audit(actor, subject, reads_report=bool(panel.versions))
        return self.pages.answer("report_panel.html", update)

    def audit(self, actor: Actor, subject: Subject, *, reads_report: bool = False) -> None:
        """Write down who reads what, before a byte of it leaves."""
        patient_id = subject.person.patient.id if subject.person else None
        order_id = subject.order.id if subject.order else None
        study_id = None if subject.order else subject.studies[0].study.id
        self.pages.read_log.record(actor, Read(Action.READ_ORDER, patient_id, order_id, study_id))
        if reads_report:
            self.pages.read_log.record(actor, Read(Action.READ_REPORT, patient_id, order_id))

    def subject(self, request: Request, connection: Any) -> Subject:
        """What the path names, if the actor may see it. Raises NotFound, which tells nobody that it exists."""
        actor: Actor = request.state.actor
        scope = scope_for(actor, Action.READ_ORDER)
        if "order_id" in request.path_params:
            order = order_in_scope(connection, request.path_params["order_id"], scope)
            if order is None:
                raise NotFound(NOT_HERE)
            return subject_of_order(connection, order, actor)
        uid = request.path_params["study_instance_uid"]
        order = order_of_study_uid(connection, uid, scope)
        if order is not None:
            return subject_of_order(connection, order, actor)
        shown = study_shown(connection, uid, scope)
        if shown is None:
            raise NotFound(NOT_HERE)
        return subject_of_study(connection, shown, actor)

    def _panel(self, connection: Any, subject: Subject, actor: Actor) -> ReportPanel:
        report: Report | None = None
        if subject.order is not None:
            report = report_of_order(connection, subject.order.id)
        deliveries = report_deliveries(connection, subject.order.id) if subject.order and report else []
        return panel_model(
            report, deliveries, subject.order, actor, self.pages.store.clock(), has_images=has_images(subject)
        )


def _move_href(subject: Subject, actor: Actor) -> str:
    """Where a person says whose these images are, if they may."""
    return urls.reassign(subject.studies[0].study.id) if subject.studies and may(actor, Action.REASSIGN_STUDY) else ""


def _records_href(subject: Subject, actor: Actor) -> str:
    """The records that merges made this person, if there are several and one may be taken out."""
    person = subject.person
    merged = person is not None and len(person.family) > 1 and may(actor, Action.MERGE_PATIENTS)
    return urls.records(person.patient.id) if person is not None and merged else ""
