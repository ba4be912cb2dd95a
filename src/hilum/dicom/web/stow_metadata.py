"""STOW-RS of metadata and bulk data (PS3.18 10.5.1.1.2): instances as DICOM JSON, their values as parts of their own.

A value's part is named by its Content-Location, which is the BulkDataURI in the metadata; compressed frames come in a
part each, under the same name, in their order. Values wait in one unlinked file until the body has ended, since the
metadata may come before or after them.
"""

from __future__ import annotations

import asyncio
import mmap
import tempfile
from collections.abc import Callable
from typing import Any, BinaryIO

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from hilum.archive.json_instance import Bulk, Lookup, write_dataset
from hilum.archive.metadata import checked_uid, text
from hilum.core.actor import Actor
from hilum.core.errors import Conflict, HilumError, InvalidInput, TooLarge
from hilum.dicom.web.door import Door
from hilum.dicom.web.multipart import CHUNK, MultipartReader, Part, content_type_of
from hilum.dicom.web.negotiation import FRAME_TYPES
from hilum.dicom.web.stored import Outcome, reason_of
from hilum.telemetry import count_instance
from hilum.workflow.source import Source

JSON = "application/dicom+json"
MAX_METADATA = 16 << 20  # of all instances of a request
AT_ONCE = 2
# PS3.18 tables 8.7.3-2 to 8.7.3-5: what a media type means where its part names no transfer syntax.
DEFAULTS: dict[str, str] = {
    "image/jpeg": "1.2.840.10008.1.2.4.70",
    "image/jls": "1.2.840.10008.1.2.4.80",
    "image/jp2": "1.2.840.10008.1.2.4.90",
    "image/jpx": "1.2.840.10008.1.2.4.92",
    **{kind: syntax for syntax, kind in reversed(FRAME_TYPES.items()) if kind not in ("image/jpeg", "image/jls",
                                                                                      "image/jp2", "image/jpx")},
}  # fmt: skip


class Values:
    """The values that came along, in a file, by the names that the metadata calls them."""

    def __init__(self) -> None:
        self._file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the request
        self._places: dict[str, list[tuple[int, int, str, str]]] = {}
        self._end = 0

    def add(self, part: Part) -> None:
        """Keep a part under its location."""
        media_type, parameters = content_type_of(part.content_type)
        view = part.view()
        try:
            for start in range(0, part.size, CHUNK):
                self._file.write(view[start : start + CHUNK])
        finally:
            if isinstance(view, memoryview):
                view.release()
        place = (self._end, part.size, media_type, parameters.get("transfer-syntax", ""))
        self._places.setdefault(part.location, []).append(place)
        self._end += part.size

    def lookup(self) -> Callable[[str], list[Bulk]]:
        """The function that finds what came along under a name; a mapping of the file goes with its last view."""
        self._file.flush()
        whole = memoryview(mmap.mmap(self._file.fileno(), self._end, access=mmap.ACCESS_READ) if self._end else b"")

        def found(uri: str) -> list[Bulk]:
            return [Bulk(kind, syntax, whole[at : at + size]) for at, size, kind, syntax in self._places.get(uri, [])]

        return found

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


class StowMetadata:
    """Takes the requests whose parts are metadata and bulk data."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def receive(self, request: Request, actor: Actor, study_uid: str, boundary: str) -> list[Outcome]:
        """Read the body to its end, then store each instance that it describes. Raises InvalidInput, TooLarge."""
        reader = MultipartReader(boundary, self._door.configuration.current.dicom.max_instance_bytes)
        values = Values()
        instances: list[dict[str, Any]] = []
        size = 0
        try:
            async for data in request.stream():
                for part in reader.feed(data):
                    size += await run_in_threadpool(_take, part, values, instances)
                    if size > MAX_METADATA:
                        raise TooLarge("The metadata of a request is larger than is taken.")
            if not reader.ended:
                raise InvalidInput("The multipart body ends before its last boundary.", field="multipart")
            if not instances:
                raise InvalidInput("The body holds no metadata of an instance.", field="multipart")
            return await self._store(instances, values, actor, study_uid)
        except ClientDisconnect:
            raise InvalidInput("The body was cut off.", field="multipart") from None
        finally:
            reader.close()
            values.close()

    async def _store(
        self, instances: list[dict[str, Any]], values: Values, actor: Actor, study_uid: str
    ) -> list[Outcome]:
        room = asyncio.Semaphore(AT_ONCE)
        lookup = values.lookup()

        async def keep(attributes: dict[str, Any]) -> Outcome:
            async with room:
                return await run_in_threadpool(self._keep, attributes, lookup, actor, study_uid)

        return list(await asyncio.gather(*map(keep, instances)))

    def _keep(self, attributes: dict[str, Any], lookup: Lookup, actor: Actor, study_uid: str) -> Outcome:
        try:
            with tempfile.TemporaryFile() as file:
                syntax = write_dataset(attributes, lookup, DEFAULTS, file)
                if study_uid and text(attributes, "0020000D") != study_uid:
                    raise Conflict("The instance is of another study than the request names.", field="StudyInstanceUID")
                file.flush()
                source = Source("DICOMweb STOW-RS", actor.name)
                view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
                stored = self._door.ingest.store_dataset(view, syntax, source=source, actor=actor)
        except HilumError as error:
            count_instance("stow", error.code)
            return Outcome(*_uids_of(attributes), reason=reason_of(error))
        count_instance("stow", stored.recorded.value)
        return Outcome(stored.sop_class_uid, stored.sop_instance_uid, stored)


def _take(part: Part, values: Values, instances: list[dict[str, Any]]) -> int:
    """Put a part where it belongs; the size of what it adds to the metadata."""
    try:
        if content_type_of(part.content_type)[0] not in (JSON, "application/json"):
            values.add(part)
            return 0
        if part.size > MAX_METADATA:
            return part.size
        try:
            read = orjson.loads(bytes(part.view()))
        except orjson.JSONDecodeError:
            raise InvalidInput("The metadata is not JSON.", field="multipart") from None
        instances += read if isinstance(read, list) else [read]
        return part.size
    finally:
        part.close()


def _uids_of(attributes: Any) -> tuple[str, str]:
    """SOP class and instance of metadata that was refused, as far as it says them."""
    try:
        return (checked_uid(text(attributes, "00080016"), "SOPClassUID"),
                checked_uid(text(attributes, "00080018"), "SOPInstanceUID"))  # fmt: skip
    except (HilumError, AttributeError, TypeError):
        return "", ""
