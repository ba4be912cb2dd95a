"""A radiology report: one per order, all its versions kept; signed by a named person, never by a role or a service."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from hilum.core.order import Physician


class ReportStatus(StrEnum):
    """Where a version stands (FHIR DiagnosticReport.status; HL7 table 0123 in `OBR25_STATUS`)."""

    DRAFT = "draft"
    PRELIMINARY = "preliminary"
    FINAL = "final"
    ADDENDED = "addended"
    CORRECTED = "corrected"
    RETRACTED = "retracted"


class DraftKind(StrEnum):
    """What a draft is to become."""

    REPORT = "report"
    ADDENDUM = "addendum"
    CORRECTION = "correction"


# Which statuses a draft of each kind may be signed as.
SIGNED_AS = {
    DraftKind.REPORT: frozenset({ReportStatus.PRELIMINARY, ReportStatus.FINAL}),
    DraftKind.ADDENDUM: frozenset({ReportStatus.ADDENDED}),
    DraftKind.CORRECTION: frozenset({ReportStatus.CORRECTED}),
}

# Which status a next version may have. After a final, only an addendum, a correction or a retraction.
REPORT_TRANSITIONS: dict[ReportStatus | None, frozenset[ReportStatus]] = {
    None: frozenset({ReportStatus.DRAFT, ReportStatus.PRELIMINARY, ReportStatus.FINAL, ReportStatus.CORRECTED}),
    ReportStatus.DRAFT: frozenset({ReportStatus.DRAFT, ReportStatus.PRELIMINARY, ReportStatus.FINAL}),
    ReportStatus.PRELIMINARY: frozenset(
        {ReportStatus.PRELIMINARY, ReportStatus.FINAL, ReportStatus.CORRECTED, ReportStatus.RETRACTED}
    ),
    ReportStatus.FINAL: frozenset({ReportStatus.ADDENDED, ReportStatus.CORRECTED, ReportStatus.RETRACTED}),
    ReportStatus.ADDENDED: frozenset({ReportStatus.ADDENDED, ReportStatus.CORRECTED, ReportStatus.RETRACTED}),
    ReportStatus.CORRECTED: frozenset({ReportStatus.ADDENDED, ReportStatus.CORRECTED, ReportStatus.RETRACTED}),
    ReportStatus.RETRACTED: frozenset({ReportStatus.CORRECTED}),
}

# OBR-25 / OBX-11, HL7 table 0123/0085. A retraction goes out as a correction whose body says so: X would cancel the
# order at many receivers.
OBR25_STATUS = {
    ReportStatus.PRELIMINARY: "P",
    ReportStatus.FINAL: "F",
    ReportStatus.ADDENDED: "C",
    ReportStatus.CORRECTED: "C",
    ReportStatus.RETRACTED: "C",
}

# What the body of a version says before its text, so that no receiver takes it for the first report.
BODY_HEADS = {
    ReportStatus.RETRACTED: "THIS REPORT IS WITHDRAWN.",
    ReportStatus.CORRECTED: "CORRECTED REPORT.",
}

SIGNED = frozenset(ReportStatus) - {ReportStatus.DRAFT}
AUTHORITATIVE = SIGNED - {ReportStatus.PRELIMINARY}


@dataclass(frozen=True, slots=True)
class ReportVersion:
    """One version of a report's text. `signed_at` is UTC; a draft has none."""

    report_id: str
    version: int
    status: ReportStatus
    findings: str
    impression: str
    interpreter: Physician
    recorded_at: datetime
    signed_at: datetime | None = None
    signed_by: str = ""
    source: str = ""
    message_id: str | None = None
    reason: str = ""

    @property
    def text(self) -> str:
        """The body as plain text, sections under their headings; a correction or retraction made here says so first."""
        parts = []
        head = BODY_HEADS.get(self.status, "") if self.reason or self.status is ReportStatus.RETRACTED else ""
        if head:
            parts.append(f"{head} {self.reason}".rstrip())
        if self.findings:
            parts.append(self.findings if not self.impression else f"FINDINGS\n{self.findings}")
        if self.impression:
            parts.append(f"IMPRESSION\n{self.impression}")
        return "\n\n".join(parts)


@dataclass(frozen=True, slots=True)
class Report:
    """A report with its signed history and, beside it, a draft that someone may be writing."""

    id: str
    order_id: str
    patient_id: str
    status: ReportStatus
    version: int
    versions: tuple[ReportVersion, ...] = ()
    revision: int = 1
    draft: ReportVersion | None = field(default=None)
    draft_kind: DraftKind = DraftKind.REPORT

    @property
    def current(self) -> ReportVersion | None:
        """The latest signed version."""
        return self.versions[-1] if self.versions else None


def with_addendum(base: ReportVersion, addendum: str) -> tuple[str, str]:
    """Return findings and impression of a version with an addendum below its last section.

    Receivers replace the whole report (OBR-25 C), so a version always holds all of its text.
    """
    added = f"ADDENDUM\n{addendum.strip()}"
    if base.impression:
        return base.findings, f"{base.impression}\n\n{added}"
    return f"{base.findings}\n\n{added}".lstrip(), ""
