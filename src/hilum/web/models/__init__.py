"""What each page needs, and nothing it does not: the frozen view models between handlers and templates.

Times are aware UTC datetimes; the pages show them in the facility's zone. Names come formatted for display.
A handler builds one of these inside the actor's scope, so a template cannot show what the policy withheld.
"""

from __future__ import annotations

from hilum.web.models.access import BreakGlassPage, OpenAccess, ReviewRow, ReviewsPage
from hilum.web.models.audit import AccessReportPage, AuditSearchPage
from hilum.web.models.chain import Chain, ChainLink, LinkState
from hilum.web.models.exceptions import Candidate, CandidateList, ExceptionRow, ExceptionsPage
from hilum.web.models.frame import Active, Frame, Identity, Notice, Patient, Priority, ReportState, Theme, Tone, Trust
from hilum.web.models.images import Edges, ViewerInstance, ViewerModel, ViewerSeries, Window
from hilum.web.models.order import (
    ChainUpdate,
    Delivery,
    Draft,
    DraftConflict,
    EditKind,
    EditorPage,
    OrderHead,
    OrderPage,
    Prior,
    ReportPanel,
    ReportUpdate,
    ReportVersion,
    Saved,
    Section,
)
from hilum.web.models.signing_in import (
    ErrorPage,
    LoginPage,
    PasswordPage,
    ProviderButton,
    SessionRow,
    SessionsPage,
)
from hilum.web.models.worklist import (
    Images,
    ImagesState,
    ReportMark,
    StatusCount,
    WorklistFilter,
    WorklistPage,
    WorklistRow,
)

__all__ = [
    "AccessReportPage",
    "Active",
    "AuditSearchPage",
    "BreakGlassPage",
    "Candidate",
    "CandidateList",
    "Chain",
    "ChainLink",
    "ChainUpdate",
    "Delivery",
    "Draft",
    "DraftConflict",
    "Edges",
    "EditKind",
    "EditorPage",
    "ErrorPage",
    "ExceptionRow",
    "ExceptionsPage",
    "Frame",
    "Identity",
    "Images",
    "ImagesState",
    "LinkState",
    "LoginPage",
    "Notice",
    "OpenAccess",
    "OrderHead",
    "OrderPage",
    "PasswordPage",
    "Patient",
    "Prior",
    "Priority",
    "ProviderButton",
    "ReportMark",
    "ReportPanel",
    "ReportState",
    "ReportUpdate",
    "ReportVersion",
    "ReviewRow",
    "ReviewsPage",
    "Saved",
    "Section",
    "SessionRow",
    "SessionsPage",
    "StatusCount",
    "Theme",
    "Tone",
    "Trust",
    "ViewerInstance",
    "ViewerModel",
    "ViewerSeries",
    "Window",
    "WorklistFilter",
    "WorklistPage",
    "WorklistRow",
]
