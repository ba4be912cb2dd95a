"""The reading worklist: rows, filters, counts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from hilum.web.models.frame import Frame, Identity, Patient, Priority, ReportState

ImagesState = Literal["none", "arriving", "complete", "late"]


@dataclass(frozen=True, slots=True)
class Images:
    state: ImagesState
    arrived: int = 0
    expected: int | None = None
    last_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReportMark:
    """The report as a worklist row shows it; `by` is the author or the one who holds the lock."""

    state: ReportState
    by: str = ""
    locked: bool = False


@dataclass(frozen=True, slots=True)
class WorklistRow:
    """One study or order that waits; `row_id` stays the same between refreshes and is safe in an HTML id."""

    row_id: str
    href: str
    priority: Priority
    patient: Patient
    identity: Identity
    waiting_since: datetime
    procedure: str
    modality: str
    accession_number: str
    images: Images
    report: ReportMark
    station: str = ""
    ordered_by: str = ""
    assigned_to: str = ""
    flag: str = ""
    ohif_href: str = ""


@dataclass(frozen=True, slots=True)
class StatusCount:
    """A status one can filter by, and how many rows the actor would see under it, counted up to a thousand."""

    key: str
    label: str
    count: int


@dataclass(frozen=True, slots=True)
class WorklistFilter:
    text: str = ""
    modality: str = ""
    status: str = ""
    cursor: str = ""
    patient: str = ""


@dataclass(frozen=True, slots=True)
class WorklistPage:
    """`version` changes exactly when a row would: a poll that brings it back is answered 204."""

    frame: Frame
    filter: WorklistFilter
    statuses: tuple[StatusCount, ...]
    modalities: tuple[str, ...]
    rows: tuple[WorklistRow, ...]
    total: int
    stat_total: int
    refreshed_at: datetime
    version: str
    next_cursor: str = ""
    previous_cursor: str = ""
    refresh_seconds: int = 5
    patient: Patient | None = None
