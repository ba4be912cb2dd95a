"""WADO-RS: rendered images and thumbnails (PS3.18 10.4.1.1.3 and .4), and PDF documents as they are.

Images are rendered in processes of their own (`archive.render_pool`), waited for in threads of their own.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64decode
from collections.abc import Callable

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from hilum.archive.landing import read_dataset
from hilum.archive.metadata import integer
from hilum.archive.render import render_job, thumbnail_job
from hilum.archive.retrieve import location_of_row
from hilum.archive.voi import Window
from hilum.core.errors import InvalidInput, NotFound, Unsupported
from hilum.dicom.web.door import STEADY, Door, cached, etag_of, not_modified, path_uid, unchanged
from hilum.dicom.web.frames import frame_numbers
from hilum.dicom.web.negotiation import MediaRange, accepted
from hilum.dicom.web.problems import NotAcceptable
from hilum.storage.retrieval import StoredInstance, headers_of, middle_instance

PDF_STORAGE = "1.2.840.10008.5.1.4.1.1.104.1"
THUMBNAIL = (256, 256)
_FORMATS = {"image/jpeg": "jpeg", "image/png": "png"}
# PS3.18 8.3.5.1.4
_FUNCTIONS = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}(?:\.[0-9]{1,9})?\Z")


class Rendered:
    """The resources that show an image instead of sending its pixels."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def rendered(self, request: Request) -> Response:
        """`…/rendered` of a study, a series (of which a middle image stands for all), an instance or a frame."""
        return await self._answer(request, thumbnail=False)

    async def thumbnail(self, request: Request) -> Response:
        """`…/thumbnail` of a study, a series, an instance or a frame."""
        return await self._answer(request, thumbnail=True)

    async def _answer(self, request: Request, *, thumbnail: bool) -> Response:
        prepared = await run_in_threadpool(self._prepare, request, thumbnail)
        if isinstance(prepared, Response):
            return prepared
        make, etag, media_type = prepared
        body = await asyncio.get_running_loop().run_in_executor(self._door.threads, make)
        return Response(body, 200, cached(etag, STEADY), media_type)

    def _prepare(self, request: Request, thumbnail: bool) -> Response | tuple[Callable[[], bytes], str, str]:
        """Permit, find and check everything; what is left is the work itself."""
        row = self._row(request)
        if row.sop_class_uid == PDF_STORAGE and not thumbnail:
            return self._pdf(request, row)
        window = window_of(request.query_params.get("window"))
        size = viewport_of(request.query_params.get("viewport"))
        quality = quality_of(request.query_params.get("quality"))
        media_type = image_type(accepted(request))
        number = self._frame(request)
        etag = etag_of(row.digest, number, window, size, quality, media_type, thumbnail)
        if unchanged(request, etag):
            return not_modified(etag, STEADY)

        def make() -> bytes:
            try:
                instance = self._door.opened(location_of_row(row))
                if thumbnail and number is None and media_type == "image/jpeg" and window is None:
                    return self._door.pool.render(thumbnail_job(instance, size or THUMBNAIL))
                job = render_job(
                    instance,
                    number or 1,
                    window=window,
                    size=size or (THUMBNAIL if thumbnail else None),
                    format=_FORMATS[media_type],
                    quality=quality,
                )
                return self._door.pool.render(job)
            except Unsupported as error:
                raise NotAcceptable(error.message, field=error.field) from error

        return make, etag, media_type

    def _row(self, request: Request) -> StoredInstance:
        study = self._door.open_study(request)
        if "instance" in request.path_params:
            return self._door.instances(request, study)[0]
        series_uid = path_uid(request, "series", "SeriesInstanceUID") if "series" in request.path_params else None
        with self._door.store.read() as connection:
            found = middle_instance(connection, study.id, series_uid)
        if found is None:
            raise NotFound("There is no image to show.")
        return found

    @staticmethod
    def _frame(request: Request) -> int | None:
        if "frames" not in request.path_params:
            return None
        numbers = frame_numbers(request.path_params["frames"])
        if len(numbers) > 1:
            raise NotAcceptable("One frame is rendered at a time.", field="frame")
        return numbers[0]

    def _pdf(self, request: Request, row: StoredInstance) -> Response:
        """The document inside an Encapsulated PDF (PS3.3 A.45.1)."""
        if not any(wish.covers("application/pdf") for wish in accepted(request)):
            raise NotAcceptable("This document is sent as application/pdf.", field="Accept")
        etag = etag_of(row.digest, "pdf")
        if unchanged(request, etag):
            return not_modified(etag, STEADY)
        with self._door.store.read() as connection:
            header = orjson.loads(headers_of(connection, [row.id])[row.id])
        document = header.get("00420011", {})
        if "InlineBinary" in document:
            data = b64decode(document["InlineBinary"])
        elif "BulkDataURI" in document:
            _, offset, length = document["BulkDataURI"].split("/")
            data = read_dataset(self._door.blobs, location_of_row(row), int(offset), int(length))
        else:
            raise NotFound("The instance holds no document.")
        stated = integer(header, "00420015")
        if stated is not None and stated == len(data) - 1:
            data = data[:stated]  # the value was padded to an even length
        # A document of a stranger's must not act in the name of this origin.
        headers = {"content-disposition": "inline", "content-security-policy": "sandbox"}
        return Response(data, 200, cached(etag, STEADY) | headers, "application/pdf")


def image_type(ranges: list[MediaRange]) -> str:
    """JPEG or PNG, whichever is accepted rather. Raises NotAcceptable."""
    for wish in ranges:
        for media_type in _FORMATS:
            if not wish.multipart and wish.covers(media_type):
                return media_type
    raise NotAcceptable("Images are rendered as image/jpeg or image/png.", field="Accept")


def window_of(text: str | None) -> Window | None:
    """`window=CENTER,WIDTH[,FUNCTION]`. Raises InvalidInput."""
    if not text:
        return None
    parts = [part.strip() for part in text.split(",")]
    function = _FUNCTIONS.get(parts[2].lower() if len(parts) == 3 else "linear")
    if len(parts) not in (2, 3) or function is None or not all(_NUMBER.match(part) for part in parts[:2]):
        raise InvalidInput("window is center, width and linear, linear-exact or sigmoid.", field="window")
    return Window(float(parts[0]), float(parts[1]), function)


def viewport_of(text: str | None) -> tuple[int, int] | None:
    """`viewport=WIDTH,HEIGHT`, the box that the image is fitted into. Raises InvalidInput."""
    if not text:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(re.fullmatch(r"[0-9]{1,5}", part) for part in parts):
        raise InvalidInput("viewport is a width and a height in pixels.", field="viewport")
    return int(parts[0]), int(parts[1])


def quality_of(text: str | None) -> int:
    """`quality=1` to `100`. Raises InvalidInput."""
    if not text:
        return 90
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= 100:
        raise InvalidInput("quality is a number from 1 to 100.", field="quality")
    return int(text)
