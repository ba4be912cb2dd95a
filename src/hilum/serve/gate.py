"""The one gate in front of all HTTP doors: identity, bounds, forms' tokens, correlation, timing and refusals.

Nothing passes without a token or a login except what `OPEN` names (design.md §4).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl, quote

import orjson
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hilum.core.actor import Door
from hilum.core.errors import HilumError, InvalidInput, NotAuthenticated, TooLarge
from hilum.core.identifiers import new_id
from hilum.serve.cors import preflight, share
from hilum.serve.identity import Authenticator, Identified
from hilum.serve.limits import Rates, TooManyRequests, in_time
from hilum.settings import Configuration
from hilum.telemetry import correlated, time_http
from hilum.web.refusals import error_response, wants_page

log = logging.getLogger(__name__)

OPEN_PATHS = frozenset(
    {
        "/health/live",
        "/health/ready",
        "/fhir/metadata",
        "/cds-services",
        "/auth/login",
        # These ask by themselves who asks: a client by its key, or whoever by a token.
        "/auth/token",
        "/auth/introspect",
        "/auth/revoke",
        "/fhir/.well-known/smart-configuration",
        "/.well-known/openid-configuration",
        "/favicon.ico",
    }
)
OPEN_PREFIXES = ("/static/", "/auth/oidc/")
DOORS = (
    ("/dicom-web", Door.DICOMWEB),
    ("/fhir", Door.FHIR),
    ("/cds-services", Door.CDS),
)
# What a stranger may send: a name, a password and where to go next.
MAX_SIGN_IN = 64 * 1024
MAX_FIELDS = 50
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
STATUS = {
    "unauthenticated": 401,
    "method": 405,
    "client-too-slow": 408,
    "too-many-requests": 429,
    "forbidden": 403,
    "not-found": 404,
    "too-large": 413,
    "conflict": 409,
    "duplicate": 409,
    "stale": 409,
    "rejected": 409,
    "on-hold": 409,
    "illegal-transition": 409,
    "identity-mismatch": 409,
    "unsupported": 415,
    "deadline": 503,
    "unavailable": 503,
    "out-of-space": 507,
    "defect": 500,
}


def status_of(error: HilumError) -> int:
    """Return the HTTP status of a refusal; what is not named is the sender's mistake."""
    return STATUS.get(error.code, 400)


def door_of(path: str) -> Door:
    """Return the door that a path belongs to; pages are what no other door names."""
    for prefix, door in DOORS:
        if path == prefix or path.startswith(prefix + "/"):
            return door
    return Door.PAGE


class Gate:
    """ASGI middleware around everything that answers HTTP."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator, configuration: Configuration) -> None:
        self._app = app
        self._authenticator = authenticator
        self._configuration = configuration
        self._rates = Rates(configuration.current.paths.run / "http-rates")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        settings = self._configuration.refresh()
        if (allowed := preflight(scope, settings.http)) is not None:
            await allowed(scope, receive, send)
            return
        correlation = new_id()
        started = time.perf_counter()
        status = 500
        answered = False

        async def answer(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status, answered = message["status"], True
                headers = MutableHeaders(raw=message["headers"])
                headers["x-correlation-id"] = correlation
                headers.setdefault("x-content-type-options", "nosniff")
                headers.setdefault("cache-control", "no-store")
                headers.setdefault("cross-origin-resource-policy", "same-origin")
                share(headers, scope, settings.http)
                if settings.http.tls != "off":
                    headers.setdefault("strict-transport-security", "max-age=31536000")
            await send(message)

        with correlated(correlation):
            try:
                client = scope.get("client")
                self._rates.take("address", client[0] if client else "", settings.http.requests_per_second_per_address)
                timed = in_time(receive, settings.http.body_timeout)
                bounded = _bounded(timed, scope, settings.http.max_body_bytes, settings.http.stow_max_bytes)
                await self._admit(scope, bounded, answer)
            except HilumError as error:
                if answered:
                    raise
                await self._refusal(scope, error, correlation)(scope, receive, answer)
            except Exception as error:  # the edge where one request's defect must not end the process
                log.error("a request failed", exc_info=error)
                if answered:
                    raise
                await self._refusal(scope, HilumError("An internal error."), correlation, 500)(scope, receive, answer)
            finally:
                route = getattr(scope.get("route"), "path", None) or "unrouted"
                time_http(str(route), status, time.perf_counter() - started)

    def _refusal(self, scope: Scope, error: HilumError, correlation: str, status: int | None = None) -> Response:
        """Answer a refusal as a page to a person's browser, else in the form of the door that was asked."""
        refusal = _refusal(scope, error, correlation, status)
        if door_of(scope["path"]) is not Door.PAGE or not wants_page(scope):
            return refusal
        facility = self._configuration.current.facility.name
        page = error_response(scope, refusal.status_code, error.message, correlation, facility)
        for name in ("www-authenticate", "retry-after", "connection"):
            if name in refusal.headers:
                page.headers[name] = refusal.headers[name]
        return page

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if "\x00" in path or b"%00" in scope["query_string"] or b"\x00" in scope["query_string"]:
            # No text of ours holds one, and the databases differ in what they do with it.
            raise InvalidInput("An address holds no NUL.")
        headers = Headers(scope=scope)
        client = scope.get("client")
        address = client[0] if client else ""
        try:
            identified = await asyncio.to_thread(self._authenticator.identify, dict(headers), door_of(path), address)
        except NotAuthenticated:
            if not is_open(path):
                raise
            identified = None
        if identified is not None:
            most = self._configuration.current.http.requests_per_second_per_account
            self._rates.take("account", identified.actor.name, most)
        state = scope.setdefault("state", {})
        state["identified"] = identified
        state["actor"] = identified.actor if identified else None
        state["address"] = address
        state["provider"] = identified.provider if identified else ""
        state["proved_at"] = identified.proved_at if identified else None
        state["csrf_token"] = self._authenticator.csrf_token(identified.session_id) if identified else ""
        if identified is None and not is_open(path):
            await _ask_who(scope, receive, send)
            return
        if identified is not None and identified.session_id:
            if identified.must_change_password and door_of(path) is Door.PAGE and not _may_change_password(path):
                await RedirectResponse("/auth/password", 303)(scope, receive, send)
                return
            receive = await self._check_form(scope, headers, receive, identified)
        await self._app(scope, receive, send)

    async def _check_form(self, scope: Scope, headers: Headers, receive: Receive, identified: Identified) -> Receive:
        """A cookie is sent by foreign pages too, so a change needs the token that only our pages know."""
        if scope["method"] in SAFE_METHODS:
            return receive
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise NotAuthenticated("This request comes from another site.")
        token = headers.get("x-csrf-token", "")
        if not token and headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            body = await Request(scope, receive).body()
            token = _token_in(body)
            receive = _replay(body)
        if not self._authenticator.csrf_holds(identified.session_id, token):
            raise NotAuthenticated("The page is out of date; load it again.")
        return receive


def is_open(path: str) -> bool:
    """Whether a path answers without a token or a login."""
    return path in OPEN_PATHS or path.startswith(OPEN_PREFIXES)


def _may_change_password(path: str) -> bool:
    return path.startswith(("/auth/", "/static/"))


def _token_in(body: bytes) -> str:
    """Return the token of a form; one with more fields than any page has holds none."""
    try:
        fields = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise InvalidInput("The form is not encoded as a form, or has too many fields.") from None
    if any("\x00" in value for field in fields for value in field):
        raise InvalidInput("A form holds no NUL.")
    return next((value for name, value in fields if name == "csrf_token"), "")


def _replay(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _bounded(receive: Receive, scope: Scope, limit: int, stow_limit: int) -> Receive:
    """Count what comes in, and stop reading a body that is larger than its door takes."""
    most = stow_limit if scope["method"] == "POST" and scope["path"].startswith("/dicom-web/studies") else limit
    if scope["path"].startswith("/auth/"):
        most = min(most, MAX_SIGN_IN)
    ended = False
    declared = Headers(scope=scope).get("content-length", "")
    taken = 0

    async def counted() -> Message:
        nonlocal taken, ended
        if declared.isdigit() and int(declared) > most:
            raise TooLarge(f"The body is larger than {most} bytes.")
        message = await receive()
        if message["type"] == "http.disconnect" and not ended:
            raise InvalidInput("The body was cut off.")
        ended = ended or not message.get("more_body", False)
        taken += len(message.get("body", b""))
        if taken > most:
            raise TooLarge(f"The body is larger than {most} bytes.")
        return message

    return counted


Answer = Callable[[Scope, Receive, Send], Awaitable[None]]


async def _ask_who(scope: Scope, receive: Receive, send: Send) -> None:
    if door_of(scope["path"]) is Door.PAGE and wants_page(scope):
        query = scope["query_string"].decode("latin-1")
        wanted = scope["path"] + (f"?{query}" if query else "")
        target = "/auth/login" if wanted == "/" else f"/auth/login?next={quote(wanted, safe='')}"
        await RedirectResponse(target, 303)(scope, receive, send)
        return
    raise NotAuthenticated("A bearer token or a login is needed.")


def _refusal(scope: Scope, error: HilumError, correlation: str, status: int | None = None) -> Response:
    """Build the answer to a refusal in the form of the door that was asked."""
    status = status or status_of(error)
    headers = {"www-authenticate": 'Bearer realm="hilum"'} if status == 401 else {}
    if status == 503:
        headers["retry-after"] = "2"
    if isinstance(error, TooManyRequests):
        headers["retry-after"] = str(error.retry_after)
    if status == 408:
        # The rest of the body is not waited for.
        headers["connection"] = "close"
    if door_of(scope["path"]) is Door.FHIR:
        outcome = {
            "resourceType": "OperationOutcome",
            "issue": [{"severity": "error", "code": FHIR_ISSUE.get(status, "invalid"), "diagnostics": error.message}],
        }
        return Response(orjson.dumps(outcome), status, headers, "application/fhir+json")
    problem = {"title": error.message, "status": status, "code": error.code, "correlation": correlation}
    if error.field:
        problem["field"] = error.field
    return Response(orjson.dumps(problem), status, headers, "application/problem+json")


# http://hl7.org/fhir/R4/valueset-issue-type.html
FHIR_ISSUE = {
    401: "login", 403: "forbidden", 404: "not-found", 408: "timeout", 409: "conflict", 413: "too-long",
    415: "not-supported", 429: "throttled", 500: "exception", 503: "transient", 507: "no-store",
}  # fmt: skip
