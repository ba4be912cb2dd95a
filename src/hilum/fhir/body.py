"""Reading a request's body up to a bound, so that what is larger is refused before it is held."""

from __future__ import annotations

from starlette.requests import Request

from hilum.core.errors import TooLarge


async def bounded_body(request: Request, limit: int) -> bytes:
    """Return the body; TooLarge as soon as more than `limit` bytes are announced or have come."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise TooLarge(f"The body is larger than {limit} bytes.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise TooLarge(f"The body is larger than {limit} bytes.")
    return bytes(body)
