"""STOW-RS: instances in, part by part (PS3.18 10.5); each is durable before the answer says that it is stored.

The body is never held as a whole. One instance that is refused does not touch the others.
"""

from __future__ import annotations

import asyncio

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from hilum.archive.ingest import Ingested
from hilum.archive.metadata import checked_uid
from hilum.archive.part10 import split
from hilum.core.actor import Actor
from hilum.core.errors import HilumError, InvalidInput, Unsupported
from hilum.dicom.web.door import Door, actor_of, path_uid
from hilum.dicom.web.multipart import MultipartReader, Part, content_type_of
from hilum.dicom.web.negotiation import accepted, prefers_xml
from hilum.dicom.web.stored import CANNOT_UNDERSTAND, FAILURE_REASON, Outcome, reason_of, stored_answer
from hilum.dicom.web.stow_metadata import JSON, StowMetadata
from hilum.security.policy import Action
from hilum.telemetry import count_instance
from hilum.workflow.source import Source

# Instances that come in one request are stored in batches: each shares a sync and a transaction.
BATCH_PARTS = 64
BATCH_BYTES = 8 << 20
AT_ONCE = 2  # batches of one request
DICOM = "application/dicom"
TAKEN_TYPES = ("", DICOM, "application/octet-stream")


class Stow:
    """The store resource."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._metadata = StowMetadata(door)

    async def store(self, request: Request) -> Response:
        """`POST /studies`, `POST /studies/{study}`"""
        actor = actor_of(request)
        study_uid = path_uid(request, "study", "StudyInstanceUID") if "study" in request.path_params else ""
        await run_in_threadpool(self._door.permit, actor, Action.STORE_IMAGES)
        media_type, parameters = content_type_of(request.headers.get("content-type", ""))
        if media_type == "multipart/related" and parameters.get("type", "").lower() == JSON:
            outcomes = await self._metadata.receive(request, actor, study_uid, parameters.get("boundary", ""))
        else:
            outcomes = await self._receive(request, actor, study_uid)
        return stored_answer(outcomes, self._door.root(request), study_uid, as_xml=prefers_xml(accepted(request)))

    async def _receive(self, request: Request, actor: Actor, study_uid: str) -> list[Outcome]:
        reader = self._reader(request)
        room = asyncio.Semaphore(AT_ONCE)
        tasks: list[asyncio.Task[list[Outcome]]] = []
        batch = Batch()
        broken: HilumError | None = None

        async def keep(parts: list[Part]) -> list[Outcome]:
            try:
                return await run_in_threadpool(self._keep, parts, actor, study_uid)
            finally:
                for part in parts:
                    part.close()
                room.release()

        try:
            async for data in request.stream():
                for part in reader.feed(data):
                    if batch.add(part):
                        await room.acquire()
                        tasks.append(asyncio.create_task(keep(batch.take())))
            if not reader.ended:
                broken = InvalidInput("The multipart body ends before its last boundary.", field="multipart")
        except HilumError as error:
            broken = error
        except ClientDisconnect:
            broken = InvalidInput("The body was cut off.", field="multipart")
        finally:
            reader.close()
            if batch.parts:
                await room.acquire()
                tasks.append(asyncio.create_task(keep(batch.take())))
            outcomes = [outcome for stored in await asyncio.gather(*tasks) for outcome in stored]
        if broken is not None:
            if not any(outcome.stored for outcome in outcomes):
                raise broken
            outcomes.append(Outcome(reason=FAILURE_REASON.get(broken.code, CANNOT_UNDERSTAND)))
        if not outcomes:
            raise InvalidInput("The body holds no instance.", field="multipart")
        return outcomes

    def _reader(self, request: Request) -> MultipartReader:
        media_type, parameters = content_type_of(request.headers.get("content-type", ""))
        if media_type != "multipart/related":
            raise Unsupported("Instances are sent as multipart/related.", field="Content-Type")
        part_type = parameters.get("type", DICOM).lower()
        if part_type != DICOM:
            raise Unsupported("The parts are to be application/dicom or application/dicom+json.", field="Content-Type")
        largest = self._door.configuration.current.dicom.max_instance_bytes
        return MultipartReader(parameters.get("boundary", ""), largest)

    def _keep(self, parts: list[Part], actor: Actor, study_uid: str) -> list[Outcome]:
        views = [part.view() for part in parts]
        try:
            typed = [content_type_of(part.content_type)[0] in TAKEN_TYPES for part in parts]
            source = Source("DICOMweb STOW-RS", actor.name)
            taken = [view for view, is_taken in zip(views, typed, strict=True) if is_taken]
            stored = iter(
                self._door.ingest.store_files(taken, source=source, actor=actor, study_instance_uid=study_uid)
            )
            untaken = Unsupported("The part is not application/dicom.", field="Content-Type")
            became = [next(stored) if is_taken else untaken for is_taken in typed]
            return [_outcome(view, what) for view, what in zip(views, became, strict=True)]
        finally:
            for view in views:
                if isinstance(view, memoryview):
                    view.release()


class Batch:
    """The parts that are stored together next."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self._bytes = 0

    def add(self, part: Part) -> bool:
        """Take a part; tell whether it is enough."""
        self.parts.append(part)
        self._bytes += part.size
        return len(self.parts) >= BATCH_PARTS or self._bytes >= BATCH_BYTES

    def take(self) -> list[Part]:
        """Give the parts away and begin anew."""
        parts, self.parts, self._bytes = self.parts, [], 0
        return parts


def _outcome(view: bytearray | memoryview, became: Ingested | HilumError) -> Outcome:
    if isinstance(became, HilumError):
        count_instance("stow", became.code)
        return Outcome(*_uids_of(view), reason=reason_of(became))
    count_instance("stow", became.recorded.value)
    return Outcome(became.sop_class_uid, became.sop_instance_uid, became)


def _uids_of(view: bytearray | memoryview) -> tuple[str, str]:
    """SOP class and instance of a refused part, as far as its group 0002 says them."""
    try:
        part10 = split(view)
        return (
            checked_uid(part10.sop_class_uid or "", "SOPClassUID"),
            checked_uid(part10.sop_instance_uid or "", "SOPInstanceUID"),
        )
    except HilumError:
        return "", ""
