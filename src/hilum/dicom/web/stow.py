"""STOW-RS: instances in, part by part (PS3.18 10.5); each is durable before the answer says that it is stored.

The body is never held as a whole. One instance that is refused does not touch the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from hilum.archive.ingest import Ingested
from hilum.archive.metadata import checked_uid, read_metadata
from hilum.archive.part10 import split
from hilum.core.actor import Actor
from hilum.core.errors import Conflict, HilumError, InvalidInput, Unsupported
from hilum.dicom.web.door import Door, actor_of, path_uid
from hilum.dicom.web.multipart import MultipartReader, Part, content_type_of
from hilum.security.policy import Action
from hilum.telemetry import count_instance
from hilum.workflow.images import Recorded
from hilum.workflow.source import Source

AT_ONCE = 4  # instances of one request that are being stored at the same time; they share syncs and commits
DICOM = "application/dicom"
# PS3.18 table 10.5.3-2 and PS3.4 B.2.3.
OUT_OF_RESOURCES = 0xA700
REJECTED_BEFORE = 0xA771  # named by a rejection note, as dcm4chee answers it
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
PROCESSING_FAILURE = 0x0110
DUPLICATE_INSTANCE = 0x0111
# PS3.18 table 10.5.3-3: the instance is kept, but what is served under its UID are the bytes that came first.
KEPT_BESIDE = 0xB000
NOT_SUPPORTED = 0x0122
NOT_AUTHORIZED = 0x0124
FAILURE_REASON: dict[str, int] = {
    "error": PROCESSING_FAILURE,
    "invalid": CANNOT_UNDERSTAND,
    "missing": CANNOT_UNDERSTAND,
    "too-large": OUT_OF_RESOURCES,
    "unsupported": NOT_SUPPORTED,
    "conflict": DOES_NOT_MATCH,
    "duplicate": DUPLICATE_INSTANCE,
    "rejected": REJECTED_BEFORE,
    "forbidden": NOT_AUTHORIZED,
    "not-found": NOT_AUTHORIZED,
    "deadline": OUT_OF_RESOURCES,
    "unavailable": OUT_OF_RESOURCES,
    "out-of-space": OUT_OF_RESOURCES,
    "defect": PROCESSING_FAILURE,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one part: `stored`, or the reason of its failure. The UIDs are empty where they can't be read."""

    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    stored: Ingested | None = None
    reason: int = 0

    @property
    def beside(self) -> bool:
        """Whether it is kept beside another instance of its UID."""
        return self.stored is not None and self.stored.recorded is Recorded.BESIDE


class Stow:
    """The store resource."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def store(self, request: Request) -> Response:
        """`POST /studies`, `POST /studies/{study}`"""
        actor = actor_of(request)
        study_uid = path_uid(request, "study", "StudyInstanceUID") if "study" in request.path_params else ""
        await run_in_threadpool(self._door.permit, actor, Action.STORE_IMAGES)
        outcomes = await self._receive(request, actor, study_uid)
        return _answer(outcomes, self._door.root(request), study_uid)

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
        if part_type in ("application/dicom+json", "application/dicom+xml"):
            raise Unsupported(
                "Metadata with bulk data is not taken here; send each instance as application/dicom.",
                field="Content-Type",
            )
        if part_type != DICOM:
            raise Unsupported("The parts are to be application/dicom.", field="Content-Type")
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
            return Outcome(*_uids_of(view), reason=_reason(error))
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


def _reason(error: HilumError) -> int:
    for kind in type(error).__mro__:
        code = kind.__dict__.get("code")
        if code in FAILURE_REASON:
            return FAILURE_REASON[code]
    return PROCESSING_FAILURE


def _answer(outcomes: list[Outcome], root: str, study_uid: str) -> Response:
    """The store instances response (PS3.18 10.5.3): 200 all stored, 202 some or with a warning, 409 none."""
    stored = [outcome for outcome in outcomes if outcome.stored is not None]
    failed = [outcome for outcome in outcomes if outcome.stored is None]
    studies = {outcome.stored.study_instance_uid for outcome in stored if outcome.stored} | {study_uid} - {""}
    body: dict[str, Any] = {}
    if len(studies) == 1:
        body["00081190"] = _element("UR", f"{root}/studies/{next(iter(studies))}")
    if failed:
        body["00081198"] = {"vr": "SQ", "Value": [_failed(outcome) for outcome in failed]}
    if stored:
        body["00081199"] = {"vr": "SQ", "Value": list(_referenced(stored, root))}
    if not stored:
        status = 409
    else:
        status = 202 if failed or any(outcome.beside for outcome in stored) else 200
    return Response(orjson.dumps(body), status, media_type="application/dicom+json")


def _failed(outcome: Outcome) -> dict[str, Any]:
    return _names(outcome) | {"00081197": _element("US", outcome.reason)}


def _referenced(outcomes: Iterable[Outcome], root: str) -> Iterable[dict[str, Any]]:
    for outcome in outcomes:
        if outcome.stored is not None:
            it = outcome.stored
            url = (
                f"{root}/studies/{it.study_instance_uid}/series/{it.series_instance_uid}"
                f"/instances/{it.sop_instance_uid}"
            )
            warning = {"00081196": _element("US", KEPT_BESIDE)} if outcome.beside else {}
            yield _names(outcome) | {"00081190": _element("UR", url)} | warning


def _names(outcome: Outcome) -> dict[str, Any]:
    named = {"00081150": outcome.sop_class_uid, "00081155": outcome.sop_instance_uid}
    return {tag: _element("UI", uid) for tag, uid in named.items() if uid}


def _element(vr: str, value: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]}
