"""STOW-RS: instances in, part by part (PS3.18 10.5); each is durable before the answer says that it is stored.

The body is never held as a whole. One instance that is refused does not touch the others.
"""

from __future__ import annotations

import asyncio

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from hilum.archive.metadata import checked_uid, read_metadata
from hilum.archive.part10 import split
from hilum.core.actor import Actor
from hilum.core.errors import Conflict, HilumError, InvalidInput, Unsupported
from hilum.dicom.web.door import Door, actor_of, path_uid
from hilum.dicom.web.multipart import MultipartReader, Part, content_type_of
from hilum.dicom.web.stored import CANNOT_UNDERSTAND, FAILURE_REASON, Outcome, reason_of, stored_answer
from hilum.dicom.web.stow_metadata import JSON, StowMetadata
from hilum.security.policy import Action
from hilum.telemetry import count_instance
from hilum.workflow.source import Source

AT_ONCE = 4  # instances of one request that are being stored at the same time; they share syncs and commits
DICOM = "application/dicom"


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
        return stored_answer(outcomes, self._door.root(request), study_uid)

    async def _receive(self, request: Request, actor: Actor, study_uid: str) -> list[Outcome]:
        reader = self._reader(request)
        room = asyncio.Semaphore(AT_ONCE)
        tasks: list[asyncio.Task[Outcome]] = []
        broken: HilumError | None = None

        async def keep(part: Part) -> Outcome:
            try:
                return await run_in_threadpool(self._keep, part, actor, study_uid)
            finally:
                part.close()
                room.release()

        try:
            async for data in request.stream():
                for part in reader.feed(data):
                    await room.acquire()
                    tasks.append(asyncio.create_task(keep(part)))
            if not reader.ended:
                broken = InvalidInput("The multipart body ends before its last boundary.", field="multipart")
        except HilumError as error:
            broken = error
        except ClientDisconnect:
            broken = InvalidInput("The body was cut off.", field="multipart")
        finally:
            reader.close()
            outcomes = list(await asyncio.gather(*tasks))
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

    def _keep(self, part: Part, actor: Actor, study_uid: str) -> Outcome:
        view = part.view()
        try:
            part_type = content_type_of(part.content_type)[0]
            if part_type not in ("", DICOM, "application/octet-stream"):
                raise Unsupported("The part is not application/dicom.", field="Content-Type")
            if study_uid:
                _check_study(view, study_uid)
            source = Source("DICOMweb STOW-RS", actor.name)
            stored = self._door.ingest.store_file(view, source=source, actor=actor)
        except HilumError as error:
            count_instance("stow", error.code)
            return Outcome(*_uids_of(view), reason=reason_of(error))
        finally:
            if isinstance(view, memoryview):
                view.release()
        count_instance("stow", stored.recorded.value)
        return Outcome(stored.sop_class_uid, stored.sop_instance_uid, stored)


def _check_study(view: bytearray | memoryview, study_uid: str) -> None:
    part10 = split(view)
    with memoryview(view) as whole, whole[part10.dataset_offset :] as dataset:
        header = read_metadata(dataset, part10.transfer_syntax_uid).header
    if header.study_instance_uid != study_uid:
        raise Conflict("The instance is of another study than the request names.", field="StudyInstanceUID")


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
