"""Signing in, choosing a password, and being told that something is not here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from hilum.web.models.frame import Frame


@dataclass(frozen=True, slots=True)
class ProviderButton:
    """Another service that may say who someone is."""

    label: str
    href: str


@dataclass(frozen=True, slots=True)
class LoginPage:
    """`problem` is what went wrong elsewhere; `end_url` ends the session that a provider still keeps."""

    frame: Frame
    user_name: str = ""
    next_url: str = "/"
    refused: bool = False
    wait_seconds: int = 0
    providers: tuple[ProviderButton, ...] = ()
    problem: str = ""
    end_url: str = ""


@dataclass(frozen=True, slots=True)
class SessionRow:
    """An open session, as its person sees it."""

    id: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    address: str
    provider: str
    is_this: bool


@dataclass(frozen=True, slots=True)
class SessionsPage:
    """Where someone is signed in."""

    frame: Frame
    user_name: str
    is_own: bool
    sessions: tuple[SessionRow, ...]


@dataclass(frozen=True, slots=True)
class PasswordPage:
    """Choosing a password: at the first sign-in with a one-time one, or later by wish."""

    frame: Frame
    user_name: str
    one_time: bool
    minimum_length: int = 12
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ErrorPage:
    frame: Frame
    status: int
    title: str
    message: str
    correlation_id: str
