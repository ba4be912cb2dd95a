"""All HTTP doors and pages as one application behind the gate."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from hilum.archive.barrier import IndexBarrier
from hilum.core.errors import HilumError, NotFound
from hilum.serve.after_index import AfterIndex
from hilum.serve.gate import Gate
from hilum.serve.identity import Authenticator
from hilum.settings import Configuration

__all__ = ["ASGIApp", "compose"]


def compose(
    routes: Sequence[BaseRoute],
    authenticator: Authenticator,
    configuration: Configuration,
    barrier: IndexBarrier | None = None,
) -> ASGIApp:
    """Put the routes behind the gate; what no route answers is a refusal like any other.

    `barrier` is where readers wait for the index, where that follows behind the answers of a receiver.
    """

    def unrouted(request: Request, error: Exception) -> Response:
        raise NotFound("There is nothing at this address.")

    def wrong_method(request: Request, error: Exception) -> Response:
        raise MethodNotAllowed

    def refused(request: Request, error: Exception) -> Response:
        # Starlette would answer 500 itself before the gate sees why.
        raise error

    handlers = {404: unrouted, 405: wrong_method, Exception: refused}
    application = Starlette(routes=routes, exception_handlers=handlers)
    reading = application if barrier is None else AfterIndex(application, barrier)
    return Gate(reading, authenticator, configuration)


class MethodNotAllowed(HilumError):
    """This method is not for this address."""

    code = "method"
