"""Signing in, choosing a password, and being told that something is not here."""

from __future__ import annotations

from dataclasses import dataclass

from hilum.web.models.frame import Frame


@dataclass(frozen=True, slots=True)
class LoginPage:
    frame: Frame
    user_name: str = ""
    next_url: str = "/"
    refused: bool = False
    wait_seconds: int = 0


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
    home_url: str = "/"
