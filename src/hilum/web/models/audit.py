"""The report of who opened a patient's record."""

from __future__ import annotations

from dataclasses import dataclass

from hilum.security.access_report import AccessLine
from hilum.web.models.frame import Frame


@dataclass(frozen=True, slots=True)
class AuditSearchPage:
    """The form that asks for a patient's number; `problem` says why the last one was not found."""

    frame: Frame
    problem: str = ""
    identifier: str = ""
    authority: str = ""


@dataclass(frozen=True, slots=True)
class AccessReportPage:
    """One page of a report, the latest first, under the numbers of everyone merged into the patient."""

    frame: Frame
    patient_id: str
    numbers: tuple[str, ...]
    lines: tuple[AccessLine, ...]
    next_cursor: str = ""
