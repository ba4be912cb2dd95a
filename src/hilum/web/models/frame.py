"""What every page has: the frame around it, and the person it is about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

Theme = Literal["auto", "dark", "light"]
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
    active: Literal["", "worklist", "exceptions"] = ""
    theme: Theme = "auto"
    open_exceptions: int = 0
    may_reconcile: bool = False
    notice: Notice | None = None


@dataclass(frozen=True, slots=True)
class Patient:
    """The identifiers that let a reader know whose study this is."""

    name: str
    identifier: str
    authority: str
    birth_date: date | None
    sex: str
    other_identifiers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Identity:
    """Whether the images are proven to be this patient's; `reason` says in words why not."""

    trust: Trust = "verified"
    reason: str = ""
