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

    @property
    def text(self) -> str:
        """The body as plain text, sections under their headings."""
        parts = []
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

    @property
    def current(self) -> ReportVersion | None:
        """The latest signed version."""
        return self.versions[-1] if self.versions else None
