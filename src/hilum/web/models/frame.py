"""What every page has: the frame around it, and the person it is about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

Theme = Literal["auto", "dark", "light"]
Active = Literal["", "worklist", "exceptions", "access", "reviews", "audit"]
Tone = Literal["quiet", "good", "warn", "bad"]
Trust = Literal["verified", "unverified", "conflict"]
Priority = Literal["stat", "urgent", "routine"]
ReportState = Literal["none", "draft", "preliminary", "final", "addended", "corrected", "retracted"]


@dataclass(frozen=True, slots=True)
class Notice:
    """One sentence told at the top of the page after an action."""

    text: str
    tone: Tone = "quiet"


@dataclass(frozen=True, slots=True)
class Frame:
    """What surrounds every page: who is here, where, and the token each form carries."""

    csrf_token: str
    facility: str
    user_name: str | None = None
    role: str = ""
    active: Active = ""
    theme: Theme = "auto"
    open_exceptions: int = 0
    may_reconcile: bool = False
    notice: Notice | None = None
    # What signing asks for again: nothing, the password, or a fresh sign-in at `provider`.
    proof: Literal["", "password", "sign-in"] = ""
    provider: str = ""
    may_break_glass: bool = False
    may_see_reviews: bool = False
    open_reviews: int = 0
    may_audit: bool = False
    has_ohif: bool = False
    # Where this person begins; the worklist for whoever has one.
    home_url: str = "/"


@dataclass(frozen=True, slots=True)
class Patient:
    """The identifiers that let a reader know whose study this is.

    `emergency_until` is set where the reader sees this patient by breaking the glass.
    """

    name: str
    identifier: str
    authority: str
    birth_date: date | None
    sex: str
    other_identifiers: tuple[str, ...] = ()
    emergency_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Whether the images are proven to be this patient's; `reason` says in words why not."""

    trust: Trust = "verified"
    reason: str = ""
