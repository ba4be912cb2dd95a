"""Access beyond the rules: asking for it in an emergency, and the review of who did."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from hilum.web.models.frame import Frame


@dataclass(frozen=True, slots=True)
class OpenAccess:
    """A patient who is open to the person until a time; `href` leads to their studies."""

    identifier: str
    authority: str
    until: datetime
    href: str


@dataclass(frozen=True, slots=True)
class BreakGlassPage:
    """The form, and what is open already. What was typed comes back only beside a `problem`."""

    frame: Frame
    hours: int
    open: tuple[OpenAccess, ...]
    problem: str = ""
    identifier: str = ""
    authority: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ReviewRow:
    """One broken glass; without an identifier the number was nobody's."""

    grant_id: str
    account: str
    at: datetime
    until: datetime
    identifier: str
    authority: str
    reason: str
    reviewed_at: datetime | None
    reviewed_by: str
    review: str
    may_review: bool


@dataclass(frozen=True, slots=True)
class ReviewsPage:
    """Who broke the glass, newest first: what waits for a review, or all."""

    frame: Frame
    rows: tuple[ReviewRow, ...]
    shows_all: bool
    next_cursor: str = ""
