"""All routes of the pages, for `app` to put beside the other doors."""

from __future__ import annotations

from starlette.routing import Route

from hilum.archive.ingest import Ingest
from hilum.security.audit import ReadLog
from hilum.settings import Configuration
from hilum.storage.store import Store
from hilum.web.access_pages import AccessPages
from hilum.web.assets import ROUTE, serve_asset
from hilum.web.audit_pages import AuditPages
from hilum.web.exception_pages import ExceptionPages
from hilum.web.launch import Launch
from hilum.web.ohif import Ohif
from hilum.web.order_pages import OrderPages
from hilum.web.pages import Pages
from hilum.web.reassign_pages import ReassignPages
from hilum.web.record_pages import RecordPages
from hilum.web.rejection_pages import RejectionPages
from hilum.web.report_pages import ReportPages
from hilum.web.view import View
from hilum.web.worklist_pages import WorklistPages


def routes(store: Store, configuration: Configuration, read_log: ReadLog, view: View, ingest: Ingest) -> list[Route]:
    """The pages of one process; each wants `request.state` as the gate fills it."""
    pages = Pages(store, configuration, read_log, view)
    return [
        Route(ROUTE, serve_asset, methods=["GET"]),
        *WorklistPages(pages).routes(),
        *OrderPages(pages).routes(),
        *ReportPages(pages).routes(),
        *ExceptionPages(pages).routes(),
        *ReassignPages(pages).routes(),
        *RecordPages(pages).routes(),
        *RejectionPages(pages, ingest).routes(),
        *AccessPages(pages).routes(),
        *AuditPages(pages).routes(),
        *Launch(pages).routes(),
        *Ohif(pages).routes(),
    ]
