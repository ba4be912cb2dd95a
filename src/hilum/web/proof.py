"""Who signs proves again who they are, where the settings ask for it: by the password, or fresh from their provider."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Literal

from starlette.requests import Request

from hilum.core.actor import Actor
from hilum.core.errors import InvalidInput
from hilum.settings import Settings
from hilum.storage.store import Store
from hilum.workflow.credentials import confirm_password

Proof = Literal["", "password", "sign-in"]

FRESH = timedelta(minutes=5)


def proof_wanted(request: Request, settings: Settings) -> Proof:
    """What signing asks of whoever is at this browser."""
    if not settings.security.password_again:
        return ""
    return "sign-in" if request.state.provider else "password"


def prove(request: Request, form: Mapping[str, str], settings: Settings, store: Store) -> None:
    """Let a signature go on; InvalidInput says in words what is missing."""
    actor: Actor = request.state.actor
    match proof_wanted(request, settings):
        case "password":
            confirm_password(store, actor, form.get("password", "")[:1024])
        case "sign-in":
            proved_at = request.state.proved_at
            if proved_at is None or proved_at < store.clock() - FRESH:
                raise InvalidInput("Sign in again first: a signature needs a sign-in of the last five minutes.")
