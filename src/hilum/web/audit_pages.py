"""Who opened this record: found by a patient's number, shown page by page, given away as CSV.

The number is posted and never stands in an address; neither page shows more of the patient than the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from hilum.core.actor import Actor
from hilum.core.errors import NotFound
from hilum.security.access_report import access_line, person_named, report_as_csv
from hilum.security.audit import Read
from hilum.security.policy import Action, require
from hilum.storage.audit_records import audit_records, family_of, rows_about
from hilum.web import urls
from hilum.web.headers import PAGE_HEADERS
from hilum.web.models import AccessReportPage, AuditSearchPage, Frame
from hilum.web.pages import Form, Pages, posting, see_other

PAGE_ROWS = 100
LONGEST_NUMBER = 64
LONGEST_AUTHORITY = 227


@dataclass(frozen=True, slots=True)
class AuditPages:
    """The handlers of the audit trail."""

    pages: Pages

    def routes(self) -> list[Route]:
        """The paths of this subject."""
        return [
            Route(urls.AUDIT, self.form, methods=["GET"]),
            Route(urls.AUDIT, posting(self.find), methods=["POST"]),
            Route(urls.AUDIT + "/patient/{patient_id}", self.report, methods=["GET"]),
            Route(urls.AUDIT + "/patient/{patient_id}/report.csv", self.download, methods=["GET"]),
        ]

    def form(self, request: Request) -> Response:
        """The form that asks for a number."""
        require(request.state.actor, Action.READ_AUDIT)
        return self._form(request, AuditSearchPage(self._frame(request)))

    def find(self, request: Request, form: Form) -> Response:
        """Lead to the report of the patient who holds the number."""
        require(request.state.actor, Action.READ_AUDIT)
        number, authority = form.get("identifier", "").strip(), form.get("authority", "").strip()
        try:
            if not number or len(number) > LONGEST_NUMBER or len(authority) > LONGEST_AUTHORITY:
                raise NotFound("Give the patient's number.")
            patient_id = person_named(self.pages.store, number, authority)
        except NotFound as error:
            page = AuditSearchPage(
                self._frame(request), error.message, number[:LONGEST_NUMBER], authority[:LONGEST_AUTHORITY]
            )
            return self._form(request, page, 404)
        return see_other(urls.access_report(patient_id))

    def report(self, request: Request) -> Response:
        """One page of the report."""
        actor: Actor = request.state.actor
        require(actor, Action.READ_AUDIT)
        cursor = request.query_params.get("before", "")[:64]
        with self.pages.store.read() as connection:
            family = family_of(connection, request.path_params["patient_id"][:26])
            if family is None:
                raise NotFound("There is no such patient.")
            last = next(iter(audit_records(connection, [cursor])), None) if _is_row(cursor) else None
            found = rows_about(connection, family.members, before=last, limit=PAGE_ROWS + 1)
        self.pages.read_log.record(actor, Read(Action.READ_AUDIT, patient_id=family.survivor_id))
        page = AccessReportPage(
            self._frame(request),
            family.survivor_id,
            family.names,
            tuple(access_line(record, family) for record in found[:PAGE_ROWS]),
            found[PAGE_ROWS - 1].id if len(found) > PAGE_ROWS else "",
        )
        return self.pages.answer("access_report.html", page)

    async def download(self, request: Request) -> Response:
        """The whole report as CSV."""
        actor: Actor = request.state.actor
        require(actor, Action.READ_AUDIT)
        patient_id = request.path_params["patient_id"][:26]
        lines = await run_in_threadpool(report_as_csv, self.pages.store, patient_id, actor)
        headers = {**PAGE_HEADERS, "content-disposition": 'attachment; filename="access-report.csv"'}
        return StreamingResponse(iterate_in_threadpool(lines), headers=headers, media_type="text/csv; charset=utf-8")

    def _frame(self, request: Request) -> Frame:
        with self.pages.store.read() as connection:
            return self.pages.frame(request, connection, "audit")

    def _form(self, request: Request, page: AuditSearchPage, status: int = 200) -> Response:
        return self.pages.answer("audit.html", page, status)


def _is_row(text: str) -> bool:
    writer, _, number = text.rpartition(".")
    return bool(writer) and number.isascii() and number.isdigit() and len(number) < 19
