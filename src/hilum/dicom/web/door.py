"""What all resources of the DICOMweb door share: who asks, what they may open, where links point, what is cached."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import wraps
from hashlib import blake2b
from inspect import iscoroutinefunction
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from hilum.archive.blobs import BlobStore
from hilum.archive.frames import Instance, instance_opener
from hilum.archive.ingest import Ingest
from hilum.archive.landing import Location
from hilum.archive.metadata import checked_uid
from hilum.archive.render_pool import WORKERS, RenderPool
from hilum.core.actor import Actor
from hilum.core.errors import HilumError, NotFound
from hilum.core.scope import EVERYTHING
from hilum.dicom.coercing import Coercing
from hilum.dicom.copies import Copies
from hilum.dicom.rewriting import Rewriting
from hilum.dicom.web.origin import public_root
from hilum.dicom.web.problems import problem
from hilum.security.audit import Read, ReadLog
from hilum.security.policy import Action, decide, scope_for
from hilum.settings import Configuration
from hilum.storage.retrieval import StoredInstance, find_instances, find_study
from hilum.storage.shown import ShownStudy
from hilum.storage.store import Store
from hilum.workflow.reading import OpenImages, export_original, open_images
from hilum.workflow.source import Source

ROOT = "/dicom-web"
# Private to one login, and asked again with its ETag: what may be seen can change while a page is open.
REVALIDATED = "private, no-cache"
# Stored bytes never change under their UID, so nothing is asked again while they are fresh (RFC 8246). Not for longer:
# what is withdrawn must go from a browser, too.
STEADY = "private, max-age=600, immutable"
VARY = "Accept, Accept-Encoding, Authorization, Cookie"


@dataclass
class Door:
    """The parts of Hilum that the resources work with."""

    store: Store
    configuration: Configuration
    read_log: ReadLog
    ingest: Ingest
    blobs: BlobStore
    pool: RenderPool = field(default_factory=RenderPool)
    # Rendering waits for its processes in threads of its own, so that lists and metadata never wait behind it.
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2 * WORKERS, "render"))
    opened: Callable[[Location], Instance] = field(init=False)
    coercing: Coercing = field(init=False)
    rewriting: Rewriting = field(init=False)
    copies: Copies = field(init=False)

    def __post_init__(self) -> None:
        # Few: the header of an enhanced multi-frame image alone can be many megabytes.
        self.opened = instance_opener(self.blobs, cached=8)
        self.coercing = Coercing(self.store, self.blobs, self.configuration)
        self.copies = Copies(self.store, self.configuration)
        self.rewriting = Rewriting(self.coercing, self.opened, self.pool.render)

    def open_study(self, request: Request, standard: str = "DICOMweb WADO-RS") -> ShownStudy:
        """The study of the path, permitted and audited. Raises NotFound (also out of scope), Forbidden."""
        uid = path_uid(request, "study", "StudyInstanceUID")
        actor = actor_of(request)
        self.permit(actor, Action.READ_IMAGES)
        scope = scope_for(actor, Action.READ_IMAGES)
        with self.store.read() as connection:
            found = find_study(connection, uid, scope)
            beyond = find_study(connection, uid, EVERYTHING) if found is None and not scope.everything else None
        if found is None:
            if beyond is not None and beyond.patient_id is not None:
                self._record(actor, beyond, standard)  # refuses, and leaves a trace of the attempt
            raise NotFound("There is no such study.")
        self._record(actor, found, standard)
        return found

    def _record(self, actor: Actor, study: ShownStudy, standard: str) -> None:
        read = Read(Action.READ_IMAGES, study.patient_id, study.order_id, study.id)
        command = OpenImages(study.id, study.order_id, study.patient_id, Source(standard, actor.name))
        self.read_log.record(actor, read, open_images, command)

    def export_original(self, request: Request, study: ShownStudy) -> bool:
        """Whether the bytes as received are asked for (`original=true`). Raises Forbidden for who may not have them."""
        if request.query_params.get("original", "").lower() != "true":
            return False
        actor = actor_of(request)
        source = Source("DICOMweb WADO-RS", actor.name)
        self.store.run(export_original, OpenImages(study.id, study.order_id, study.patient_id, source), actor)
        return True

    def permit(self, actor: Actor, action: Action) -> None:
        """Raise Forbidden, audited, where the actor may not do this at all."""
        if not decide(actor, action).allowed:
            self.read_log.record(actor, Read(action))

    def instances(self, request: Request, study: ShownStudy) -> list[StoredInstance]:
        """The instances of the path: of the study, its series or the one. Raises NotFound when there are none."""
        series_uid = path_uid(request, "series", "SeriesInstanceUID") if "series" in request.path_params else None
        sop_uid = path_uid(request, "instance", "SOPInstanceUID") if "instance" in request.path_params else None
        with self.store.read() as connection:
            found = find_instances(connection, study.id, series_uid, sop_uid)
        if not found:
            raise NotFound("There is no such instance." if sop_uid else "There is no such series.")
        return found

    def root(self, request: Request) -> str:
        """The absolute URL of the DICOMweb root as the client reaches it."""
        return public_root(request, self.configuration.current.http) + ROOT


def actor_of(request: Request) -> Actor:
    """Who asks, as the authentication in front of this door has found out."""
    actor: Actor = request.state.actor
    return actor


def path_uid(request: Request, name: str, keyword: str) -> str:
    """A UID of the path. Raises InvalidInput where it is none."""
    return checked_uid(request.path_params[name], keyword)


def etag_of(*parts: object) -> str:
    """An ETag over everything that the answer depends on."""
    return '"' + blake2b(repr(parts).encode(), digest_size=16).hexdigest() + '"'


def unchanged(request: Request, etag: str) -> bool:
    """Tell whether the client holds this version already (RFC 9110 13.1.2)."""
    held = request.headers.get("if-none-match", "")
    return held.strip() == "*" or etag in [each.strip().removeprefix("W/") for each in held.split(",")]


def cached(etag: str, control: str) -> dict[str, str]:
    """The headers of an answer that the client may keep."""
    return {"etag": etag, "cache-control": control, "vary": VARY}


def not_modified(etag: str, control: str) -> Response:
    """Say that what the client holds is still right."""
    return Response(status_code=304, headers=cached(etag, control))


Endpoint = Callable[[Request], Response] | Callable[[Request], Awaitable[Response]]


def guarded(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint with refusals turned into answers; plain functions run in a thread, and HEAD sends no body."""

    @wraps(endpoint)
    async def answer(request: Request) -> Response:
        try:
            if iscoroutinefunction(endpoint):
                response: Any = await endpoint(request)
            else:
                response = await run_in_threadpool(endpoint, request)
        except HilumError as error:
            return problem(error)
        if request.method == "HEAD":
            bare = Response(status_code=response.status_code)
            bare.raw_headers = response.raw_headers
            return bare
        answered: Response = response
        return answered

    return answer
