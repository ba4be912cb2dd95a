"""CDS Hooks 2.0: discovery, three services that name earlier exams, and feedback on their cards.

A patient whom Hilum does not know, or whom the asker may not know of, has no cards, and both look alike. The check of a
draft order is recorded, so that it is tied to the order that follows: by placer number, else by procedure.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hilum.core.actor import Actor
from hilum.core.errors import Defect, HilumError, InvalidInput, NotAuthenticated, NotFound
from hilum.core.order import Code
from hilum.core.text import fold
from hilum.fhir import systems
from hilum.fhir.body import bounded_body
from hilum.fhir.cds_cards import Card, Viewpoint, cards_for_chart, cards_for_drafts
from hilum.fhir.cds_request import Draft, HookRequest, read_feedback, read_request
from hilum.fhir.errors import MethodNotAllowed, UnsupportedMediaType, status_of
from hilum.fhir.rest import actor_of, base_url_of
from hilum.security.audit import Read, record_read
from hilum.security.policy import Action, decide, scope_for
from hilum.settings import Configuration
from hilum.storage.fhir_queries import Connection, holders_of, survivor_of
from hilum.storage.fhir_records import patient_records
from hilum.storage.scoping import sees_patient
from hilum.storage.store import Store
from hilum.workflow.priors import CardFeedback, CheckPriors, KeepFeedback, PriorFindings, check_priors, keep_feedback
from hilum.workflow.source import Source

log = logging.getLogger(__name__)

MAX_BODY = 4 * 1024 * 1024
_PREFETCH = {"patient": "Patient/{{context.patientId}}"}
# id → hook, title, description
SERVICES = {
    "prior-imaging-order-select": (
        "order-select",
        "Prior imaging",
        "Names earlier exams that bear on the imaging order being chosen, and orders that it may repeat.",
    ),
    "prior-imaging-order-sign": (
        "order-sign",
        "Prior imaging",
        "Names earlier exams that bear on the imaging order being signed, and orders that it may repeat.",
    ),
    "prior-imaging-patient-view": (
        "patient-view",
        "Imaging of this patient",
        "Names the patient's latest exams and opens their images.",
    ),
}
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
Handler = Callable[[Request], Awaitable[Response]]


def routes(store: Store, configuration: Configuration) -> list[Route]:
    """Return everything under `/cds-services`; `request.state.actor` says who asks, except for discovery."""
    door = CdsDoor(store, configuration)
    return [
        Route("/cds-services", _guarded(door.discovery), methods=_METHODS),
        Route("/cds-services/{id}", _guarded(door.call), methods=_METHODS),
        Route("/cds-services/{id}/feedback", _guarded(door.feedback), methods=_METHODS),
    ]


class CdsDoor:
    """The handlers of one process."""

    def __init__(self, store: Store, configuration: Configuration) -> None:
        self._store = store
        self._configuration = configuration

    async def discovery(self, request: Request) -> Response:
        """Say which services there are, to whoever asks."""
        _allow(request, "GET", "HEAD")
        services = [
            {"hook": hook, "id": name, "title": title, "description": description, "prefetch": _PREFETCH}
            for name, (hook, title, description) in SERVICES.items()
        ]
        return _answer({"services": services})

    async def call(self, request: Request) -> Response:
        """Answer a hook with cards."""
        hook = SERVICES[_service(request)][0]
        _allow(request, "POST")
        actor = actor_of(request)
        asked = read_request(await _body(request), hook)
        base_url = base_url_of(request, self._configuration)
        return _answer({"cards": await run_in_threadpool(self._cards, asked, actor, base_url)})

    async def feedback(self, request: Request) -> Response:
        """Keep what clinicians did with cards."""
        service = _service(request)
        _allow(request, "POST")
        actor = actor_of(request)
        cards = tuple(CardFeedback(f.card, f.outcome, f.body) for f in read_feedback(await _body(request)))
        await run_in_threadpool(self._store.run, keep_feedback, KeepFeedback(service, cards), actor)
        return _answer({})

    def _cards(self, asked: HookRequest, actor: Actor, base_url: str) -> list[Card]:
        if not decide(actor, Action.CHECK_PRIORS).allowed:
            # Recorded, and refused, by the policy inside a transaction.
            self._store.run(record_read, Read(Action.CHECK_PRIORS), actor)
        settings = self._configuration.current
        with self._store.read() as connection:
            patient_id = find_patient(connection, asked, actor, settings.facility.default_authority)
        if patient_id is None:
            return []
        source = Source(f"CDS Hooks {asked.hook}", actor.name)
        look_back = timedelta(days=365.25 * settings.priors.look_back_years)
        view = Viewpoint(
            base_url,
            self._store.clock(),
            ZoneInfo(settings.facility.zone),
            reports=decide(actor, Action.READ_REPORT).allowed,
            images=decide(actor, Action.READ_IMAGES).allowed,
        )
        try:
            if asked.hook == "patient-view":
                chart = CheckPriors(patient_id, Code(""), "", "", look_back, source, record=False)
                return cards_for_chart(self._store.run(check_priors, chart, actor), view)
            return cards_for_drafts(self._check(asked.drafts, patient_id, look_back, source, actor), view)
        except NotFound:
            return []

    def _check(
        self, drafts: tuple[Draft, ...], patient_id: str, look_back: timedelta, source: Source, actor: Actor
    ) -> list[PriorFindings]:
        """Check all drafts of a request; handed over together, they share a commit."""
        checks = [
            CheckPriors(patient_id, d.procedure, d.section, d.placer_order_number, look_back, source) for d in drafts
        ]
        waiting = [self._store.submit(check_priors, check, actor) for check in checks]
        return [each.result() for each in waiting]


def find_patient(connection: Connection, asked: HookRequest, actor: Actor, default_authority: str) -> str | None:
    """Return the patient whom a request names, within the asker's scope; None where nobody is known.

    The EHR's own id means nothing here, unless it is ours; its identifiers do. Raises InvalidInput when the request
    names two patients.
    """
    scope = scope_for(actor, Action.CHECK_PRIORS)
    own = survivor_of(connection, asked.patient_id)
    found = {own} if own is not None else set()
    for identifier in asked.identifiers:
        authority = systems.patient_authority(identifier.system) if identifier.system else default_authority
        found.update(holders_of(connection, identifier.value, authority))
    if not found:
        found.update(_agreeing(connection, asked))
    seen = [patient_id for patient_id in found if sees_patient(connection, scope, patient_id)]
    if len(seen) > 1:
        raise InvalidInput("The request names different patients.", field="context.patientId")
    return seen[0] if seen else None


def _agreeing(connection: Connection, asked: HookRequest) -> list[str]:
    """Return the patient of a value under a system unknown here, where it is the only one and name and birth agree."""
    if not asked.family or asked.birth_date is None:
        return []
    found = []
    for identifier in asked.identifiers:
        holders = holders_of(connection, identifier.value, None)
        if len(holders) == 1 and _is_the_same(connection, holders[0], asked):
            found += holders
    return found


def _is_the_same(connection: Connection, patient_id: str, asked: HookRequest) -> bool:
    known = patient_records(connection, [patient_id])[0].patient.demographics
    return fold(known.name.family) == fold(asked.family) and known.birth_date == asked.birth_date


def _guarded(handler: Handler) -> Handler:
    """Turn every refusal into a problem (RFC 9457)."""

    async def guarded(request: Request) -> Response:
        try:
            return await handler(request)
        except HilumError as error:
            return _problem(error)
        except Exception as error:  # the edge where one request's defect becomes an answer that the asker can read
            log.error("a request failed", extra={"door": "cds"}, exc_info=error)
            return _problem(Defect())

    return guarded


def _problem(error: HilumError) -> Response:
    status = status_of(error)
    problem: dict[str, Any] = {"title": error.message, "status": status, "code": error.code}
    if error.field:
        problem["field"] = error.field
    headers = {}
    if isinstance(error, MethodNotAllowed):
        headers["allow"] = error.allowed
    if isinstance(error, NotAuthenticated):
        headers["www-authenticate"] = 'Bearer realm="hilum"'
    return Response(orjson.dumps(problem), status, headers, "application/problem+json")


def _answer(content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")


def _service(request: Request) -> str:
    name = str(request.path_params["id"])
    if name not in SERVICES:
        raise NotFound("There is no such service.")
    return name


def _allow(request: Request, *methods: str) -> None:
    if request.method not in methods:
        raise MethodNotAllowed(", ".join(methods))


async def _body(request: Request) -> bytes:
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type not in ("application/json", "application/fhir+json"):
        raise UnsupportedMediaType("A request is posted as application/json.")
    return await bounded_body(request, MAX_BODY)
