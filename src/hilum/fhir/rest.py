"""The FHIR door over HTTP: metadata, read and search, with negotiation, versions and an OperationOutcome for errors.

Source: http://hl7.org/fhir/R4/http.html. Writing is not offered here.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from email.utils import format_datetime
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hilum.core.actor import Actor
from hilum.core.errors import Defect, HilumError, InvalidInput, NotAuthenticated, NotFound, TooLarge
from hilum.fhir.body import bounded_body
from hilum.fhir.capability import capability_statement
from hilum.fhir.elements import Resource
from hilum.fhir.errors import (
    MethodNotAllowed,
    NotAcceptable,
    UnsupportedMediaType,
    issue_of,
    operation_outcome,
    status_of,
)
from hilum.fhir.reading import Reading
from hilum.fhir.search import ID, read_search
from hilum.fhir.search_parameters import SEARCHABLE
from hilum.security.audit import ReadLog
from hilum.settings import Configuration
from hilum.storage.store import Store

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/fhir+json"
_FORM = "application/x-www-form-urlencoded"
# What a client may ask for and gets as MEDIA_TYPE, in `Accept` and in `_format`.
_JSON = frozenset({MEDIA_TYPE, "application/json", "application/json+fhir", "text/json", "json"})
_ANY = frozenset({"*/*", "application/*"})
# Far more than 40 parameters of 1000 characters need.
MAX_QUERY = 64 * 1024
MAX_FIELDS = 100
KINDS = frozenset({*SEARCHABLE, "Endpoint"})
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


Handler = Callable[[Request], Awaitable[Response]]


class FhirDoor:
    """The handlers of one process."""

    def __init__(self, store: Store, configuration: Configuration, read_log: ReadLog) -> None:
        self._store = store
        self._configuration = configuration
        self._read_log = read_log

    def routes(self) -> list[Route]:
        """Return the routes under `/fhir`; they answer every method, so that refusals are OperationOutcomes too."""
        return [
            Route("/fhir/metadata", _guarded(self.metadata), methods=_METHODS),
            Route("/fhir/{type}/_search", _guarded(self.search_by_post), methods=_METHODS),
            Route("/fhir/{type}/{id}", _guarded(self.read), methods=_METHODS),
            Route("/fhir/{type}", _guarded(self.search_by_get), methods=_METHODS),
            Route("/fhir/{rest:path}", _guarded(_nothing_here), methods=_METHODS),
            Route("/fhir", _guarded(_nothing_here), methods=_METHODS),
        ]

    async def metadata(self, request: Request) -> Response:
        """Answer the CapabilityStatement, to whoever asks."""
        _allow(request, "GET", "HEAD")
        return _answer(capability_statement(base_url_of(request, self._configuration)))

    async def read(self, request: Request) -> Response:
        """Answer one resource, or 304 where the asker has this version."""
        kind = _kind(request)
        _allow(request, "GET", "HEAD")
        row_id = request.path_params["id"]
        if not ID.fullmatch(row_id):
            raise NotFound
        resource = await run_in_threadpool(self._reading(request).read, kind, row_id)
        meta = resource["meta"]
        etag = f'W/"{meta["versionId"]}"'
        changed = datetime.fromisoformat(meta["lastUpdated"])
        headers = {"etag": etag, "last-modified": format_datetime(changed, usegmt=True)}
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        if "*" in known or etag.removeprefix("W/") in known:
            return Response(status_code=304, headers=headers)
        return _answer(resource, headers=headers)

    async def search_by_get(self, request: Request) -> Response:
        """Answer a search by its query string."""
        kind = _kind(request)
        _allow(request, "GET", "HEAD")
        return await self._search(request, kind, _fields(request.scope["query_string"]))

    async def search_by_post(self, request: Request) -> Response:
        """Answer a search by a form, which keeps what is searched for out of addresses."""
        kind = _kind(request)
        _allow(request, "POST")
        media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if media_type != _FORM:
            raise UnsupportedMediaType(f"A search is posted as {_FORM}.")
        body = await bounded_body(request, MAX_QUERY)
        return await self._search(request, kind, [*_fields(request.scope["query_string"]), *_fields(body)])

    async def _search(self, request: Request, kind: str, fields: list[tuple[str, str]]) -> Response:
        reading = self._reading(request)
        lenient = "handling=lenient" in request.headers.get("prefer", "").replace(" ", "").lower()

        def run() -> Resource:
            if kind == "Endpoint":
                return reading.endpoints(fields, lenient=lenient)
            searchable = SEARCHABLE[kind]
            # Whoever may not search hears that, and nothing about what they asked.
            reading.admit(searchable)
            return reading.search(searchable, read_search(searchable, fields, reading.zone, lenient=lenient))

        return _answer(await run_in_threadpool(run))

    def _reading(self, request: Request) -> Reading:
        zone = ZoneInfo(self._configuration.current.facility.zone)
        base_url = base_url_of(request, self._configuration)
        site = self._configuration.current.facility.name
        return Reading(self._store, self._read_log, actor_of(request), base_url, zone, site)


def actor_of(request: Request) -> Actor:
    """Return who asks, as the gate found out; NotAuthenticated where it did not."""
    actor: Actor | None = getattr(request.state, "actor", None)
    if actor is None:
        raise NotAuthenticated("A bearer token is needed.")
    return actor


def base_url_of(request: Request, configuration: Configuration) -> str:
    """Return the root of absolute links: the configured one, or the bound address where the port was left open.

    The Host header is the sender's text, so it is never used.
    """
    http = configuration.current.http
    host, port = http.listen
    server = request.scope.get("server")
    if not http.public_url and port == 0 and server:
        scheme = "http" if http.tls == "off" else "https"
        return f"{scheme}://{host}:{server[1]}"
    return http.base_url


def _guarded(handler: Handler) -> Handler:
    """Check what kind of answer is wanted, and turn every refusal into an OperationOutcome."""

    async def guarded(request: Request) -> Response:
        try:
            _negotiate(request)
            return await handler(request)
        except HilumError as error:
            return _refusal(error)
        except Exception as error:  # the edge where one request's defect becomes an answer that the asker can read
            log.error("a request failed", extra={"door": "fhir"}, exc_info=error)
            return _refusal(Defect())

    return guarded


def _refusal(error: HilumError) -> Response:
    headers = {}
    if isinstance(error, MethodNotAllowed):
        headers["allow"] = error.allowed
    if isinstance(error, NotAuthenticated):
        headers["www-authenticate"] = 'Bearer realm="hilum"'
    if error.retryable:
        headers["retry-after"] = "2"
    return _answer(operation_outcome(issue_of(error)), status_of(error), headers)


def _answer(resource: Resource, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(resource), status, headers, MEDIA_TYPE)


async def _nothing_here(request: Request) -> Response:
    raise NotFound("There is nothing at this address.")


def _kind(request: Request) -> str:
    kind = str(request.path_params["type"])
    if kind not in KINDS:
        raise NotFound("This type of resource is not served here.")
    return kind


def _allow(request: Request, *methods: str) -> None:
    if request.method not in methods:
        raise MethodNotAllowed(", ".join(methods))


def _negotiate(request: Request) -> None:
    """`_format` stands above `Accept` (http://hl7.org/fhir/R4/http.html#parameters)."""
    wanted = request.query_params.get("_format")
    if wanted is not None:
        # A plus sign that was not escaped arrives as a blank.
        if _media_type(wanted.replace(" ", "+")) not in _JSON:
            raise NotAcceptable
        return
    accepted = [_media_type(part) for part in request.headers.get("accept", "*/*").split(",") if part.strip()]
    if accepted and not any(media_type in _JSON or media_type in _ANY for media_type in accepted):
        raise NotAcceptable


def _media_type(text: str) -> str:
    return text.split(";")[0].strip().lower()


def _fields(encoded: bytes) -> list[tuple[str, str]]:
    if len(encoded) > MAX_QUERY:
        raise TooLarge("The search is too long.")
    try:
        return parse_qsl(encoded.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise InvalidInput("The search is not encoded as a form in UTF-8.") from None
