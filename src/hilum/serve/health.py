"""Liveness, readiness and metrics: `live` asks nothing, `ready` asks the database, `/metrics` wants a token.

Damaged images make nobody less ready, so `ready` only adds a line that counts them.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from hilum.core.errors import HilumError
from hilum.security.policy import Action, require
from hilum.storage.database import answers
from hilum.storage.integrity import damaged
from hilum.storage.store import Store
from hilum.telemetry import METRICS_CONTENT_TYPE, metrics_page


def routes(store: Store) -> list[Route]:
    """Return the routes of operations."""

    def live(request: Request) -> Response:
        return PlainTextResponse("live\n")

    def ready(request: Request) -> Response:
        try:
            answers(store)
        except HilumError:
            return PlainTextResponse("the database does not answer\n", 503)
        with store.read() as connection:
            count = len(damaged(connection))
        return PlainTextResponse(f"ready\ndamaged images: {count}\n" if count else "ready\n")

    def metrics(request: Request) -> Response:
        require(request.state.actor, Action.READ_METRICS)
        return Response(metrics_page(), media_type=METRICS_CONTENT_TYPE)

    return [Route("/health/live", live), Route("/health/ready", ready), Route("/metrics", metrics)]
