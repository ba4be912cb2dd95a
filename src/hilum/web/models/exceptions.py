"""What waits for a person to decide."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from hilum.web.models.frame import Frame, Patient
from hilum.web.models.worklist import StatusCount


@dataclass(frozen=True, slots=True)
class Candidate:
    """An order that something might belong to, with what agrees and what contradicts."""

    order_id: str
    label: str
    patient: Patient
    accession_number: str
    ordered_at: datetime
    agrees: tuple[str, ...] = ()
    contradicts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExceptionRow:
    """One thing that waits for a person. `facts` are (name, value) pairs as they came in."""

    exception_id: str
    kind: Literal["unmatched", "conflict", "check", "dead-letter", "recovery"]
    title: str
    why: str
    since: datetime
    patient: Patient | None = None
    facts: tuple[tuple[str, str], ...] = ()
    candidates: tuple[Candidate, ...] = ()
    href: str = ""
    move_href: str = ""
    may_link: bool = False
    may_dismiss: bool = False
    may_replay: bool = False
    may_release: bool = False
    may_reject: bool = False


@dataclass(frozen=True, slots=True)
class ExceptionsPage:
    frame: Frame
    kind: str
    kinds: tuple[StatusCount, ...]
    rows: tuple[ExceptionRow, ...]
    version: str
    next_cursor: str = ""
    previous_cursor: str = ""
    refresh_seconds: int = 15


@dataclass(frozen=True, slots=True)
class CandidateList:
    """The answer to a search for an order to link to."""

    exception_id: str
    text: str
    candidates: tuple[Candidate, ...] = field(default=())
