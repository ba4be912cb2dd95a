"""All HTTP doors and pages as one application behind the gate."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from hilum.core.errors import HilumError, NotFound
from hilum.serve.gate import Gate
from hilum.serve.identity import Authenticator
from hilum.settings import Configuration

__all__ = ["ASGIApp", "compose"]


def compose(routes: Sequence[BaseRoute], authenticator: Authenticator, configuration: Configuration) -> ASGIApp:
    """Put the routes behind the gate; what no route answers is a refusal like any other."""

    def unrouted(request: Request, error: Exception) -> Response:
        raise NotFound("There is nothing at this address.")

    def wrong_method(request: Request, error: Exception) -> Response:
        raise MethodNotAllowed

    def refused(request: Request, error: Exception) -> Response:
        # Starlette would answer 500 itself before the gate sees why.
        raise error

    handlers = {404: unrouted, 405: wrong_method, Exception: refused}
    application = Starlette(routes=routes, exception_handlers=handlers)
    return Gate(application, authenticator, configuration)


class MethodNotAllowed(HilumError):
    """This method is not for this address."""

    code = "method"
