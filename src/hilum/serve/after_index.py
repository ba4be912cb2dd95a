"""Requests wait until the index holds what was received before them: what a modality sent is seen at every door.

A program is told when the index does not catch up; a person gets the page as it stands, and the rest when it comes.
"""

from __future__ import annotations

import asyncio
import time

from starlette.types import ASGIApp, Receive, Scope, Send

from hilum.archive.barrier import WAIT_SECONDS, IndexBarrier, still_behind
from hilum.core.actor import Door
from hilum.core.errors import Unavailable
from hilum.serve.gate import door_of

PAGE_SECONDS = 1.0
PAUSE_SECONDS = 0.002
# They show nothing of the index.
_AT_ONCE = ("/health", "/metrics", "/auth", "/static", "/viewer/")
_STORE = "/dicom-web/studies"


def _is_at_once(scope: Scope) -> bool:
    """Tell whether a request looks at nothing of the index; what is stored is looked at when its turn comes."""
    path: str = scope["path"]
    return path.startswith(_AT_ONCE) or (scope["method"] == "POST" and path.startswith(_STORE))


class AfterIndex:
    """An application whose requests wait at the barrier."""

    def __init__(self, app: ASGIApp, barrier: IndexBarrier) -> None:
        self._app = app
        self._barrier = barrier

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_at_once(scope):
            waiting = self._barrier.behind()
            if waiting:
                is_page = door_of(scope["path"]) is Door.PAGE
                deadline = time.monotonic() + (PAGE_SECONDS if is_page else WAIT_SECONDS)
                while waiting := still_behind(waiting):
                    if time.monotonic() > deadline:
                        if is_page:
                            break
                        raise Unavailable("The index has not yet taken in all that was received.")
                    await asyncio.sleep(PAUSE_SECONDS)
        await self._app(scope, receive, send)
