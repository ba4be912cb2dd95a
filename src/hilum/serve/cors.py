"""Which pages of other origins may read what the doors answer (Fetch standard, CORS): those that the settings name.

Only the doors for programs are shared, never the pages. Without a setting no origin is named, and a browser keeps every
answer from the page that asked. A preflight carries no login and is answered here; what follows is asked for as ever.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import Scope

from hilum.settings.sections import HttpSettings

SHARED = ("/dicom-web", "/fhir", "/cds-services")
METHODS = "GET, HEAD, POST, PUT, DELETE"
# What viewers and SMART apps send beyond what needs no permission.
REQUEST_HEADERS = (
    "accept, accept-language, authorization, content-type, if-match, if-modified-since, if-none-exist, if-none-match, "
    "if-range, prefer, range"
)
RESPONSE_HEADERS = (
    "content-location, content-range, etag, last-modified, link, location, retry-after, warning, www-authenticate, "
    "x-correlation-id, x-total-count"
)
REMEMBERED_SECONDS = 600


def is_shared(path: str) -> bool:
    """Whether a path may be read by pages of other origins at all."""
    return any(path == door or path.startswith(door + "/") for door in SHARED)


def allowed_origin(scope: Scope, http: HttpSettings) -> str:
    """The origin that asks, where the settings name it for this path; empty where they do not."""
    origin = Headers(scope=scope).get("origin", "")
    return origin if origin in http.cors_origins and is_shared(scope["path"]) else ""


def preflight(scope: Scope, http: HttpSettings) -> Response | None:
    """The answer to a browser that asks before it asks (Fetch 4.8); None for every other request."""
    headers = Headers(scope=scope)
    if scope["method"] != "OPTIONS" or "access-control-request-method" not in headers:
        return None
    origin = allowed_origin(scope, http)
    if not origin:
        return None
    answer = {
        **_sharing(origin, http),
        "access-control-allow-methods": METHODS,
        "access-control-allow-headers": REQUEST_HEADERS,
        "access-control-max-age": str(REMEMBERED_SECONDS),
        "vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    }
    return Response(status_code=204, headers=answer)


def share(headers: MutableHeaders, scope: Scope, http: HttpSettings) -> None:
    """Add to an answer that the origin which asks may read it; where any may, a cache is told to tell them apart."""
    if not http.cors_origins or not is_shared(scope["path"]):
        return
    headers.add_vary_header("Origin")
    if origin := allowed_origin(scope, http):
        headers.update(_sharing(origin, http))
        headers["access-control-expose-headers"] = RESPONSE_HEADERS
        headers["cross-origin-resource-policy"] = "cross-origin"


def _sharing(origin: str, http: HttpSettings) -> dict[str, str]:
    shared = {"access-control-allow-origin": origin}
    if http.cors_credentials:
        shared["access-control-allow-credentials"] = "true"
    return shared
