"""From a refusal to an HTTP answer, in one table, as application/problem+json (RFC 9457); never with patient data."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response

from hilum.core.errors import HilumError, InvalidInput

HTTP_STATUS: dict[str, int] = {
    "error": 400,
    "invalid": 400,
    "missing": 400,
    "too-large": 413,
    "unsupported": 415,
    "not-found": 404,
    "conflict": 409,
    "duplicate": 409,
    "illegal-transition": 409,
    "identity-mismatch": 409,
    "stale": 409,
    "rejected": 409,
    "on-hold": 409,
    "unauthenticated": 401,
    "forbidden": 403,
    "deadline": 503,
    "unavailable": 503,
    "out-of-space": 507,
    "defect": 500,
    "not-acceptable": 406,
    "range-not-satisfiable": 416,
}


class NotAcceptable(HilumError):
    """The resource can't be sent in a form that was asked for."""

    code = "not-acceptable"


class RangeNotSatisfiable(InvalidInput):
    """The asked bytes lie outside the resource."""

    code = "range-not-satisfiable"

    def __init__(self, total: int) -> None:
        super().__init__(field="Range")
        self.total = total


def http_status(error: HilumError) -> int:
    """The status of a refusal; the nearest ancestor of the error that the table names decides."""
    for kind in type(error).__mro__:
        code = kind.__dict__.get("code")
        if code in HTTP_STATUS:
            return HTTP_STATUS[code]
    return 400


def problem(error: HilumError) -> Response:
    """The answer to a refusal."""
    status = http_status(error)
    body: dict[str, Any] = {"title": error.message, "status": status, "code": error.code}
    if error.field:
        body["field"] = error.field
    headers = {"retry-after": "2"} if error.retryable else {}
    if isinstance(error, RangeNotSatisfiable):
        headers["content-range"] = f"bytes */{error.total}"  # RFC 9110 15.5.17
    return Response(orjson.dumps(body), status, headers, "application/problem+json")
