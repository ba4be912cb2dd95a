"""WADO-RS: rendered images and thumbnails (PS3.18 10.4.1.1.3 and .4); what is no image goes to `presented`.

Images are rendered in processes of their own (`archive.render_pool`), waited for in threads of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from hilum.archive.crop import cropped
from hilum.archive.render import render_job, thumbnail_job
from hilum.archive.retrieve import location_of_row
from hilum.core.errors import NotFound, Unsupported
from hilum.dicom.web.door import STEADY, Door, cached, etag_of, not_modified, path_uid, unchanged
from hilum.dicom.web.frames import frame_numbers
from hilum.dicom.web.negotiation import accepted
from hilum.dicom.web.presented import Presented
from hilum.dicom.web.problems import NotAcceptable
from hilum.dicom.web.rendering import FORMATS, Wishes, image_type, parameters_of, read_wishes
from hilum.storage.retrieval import StoredInstance, middle_instance
from hilum.storage.shown import ShownStudy

THUMBNAIL = (256, 256)


@dataclass(frozen=True, slots=True)
class Work:
    """An image to be made, and what goes with it."""

    make: Callable[[], bytes]
    headers: dict[str, str]
    media_type: str


class Rendered:
    """The resources that show an image instead of sending its pixels."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._presented = Presented(door)

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
        body = await asyncio.get_running_loop().run_in_executor(self._door.threads, prepared.make)
        return Response(body, 200, prepared.headers, prepared.media_type)

    def _prepare(self, request: Request, thumbnail: bool) -> Response | Work:
        """Permit, find and check everything; what is left is the work itself."""
        study, row = self._found(request)
        wishes = read_wishes(parameters_of(request))
        number = self._frame(request)
        present = self._presented.way_of(row)
        if present is not None:
            if number is not None:
                raise NotAcceptable("This instance is shown as a whole, not by its frames.", field="frame")
            shown = self._presented.thumbnail if thumbnail else present
            return shown(request, study, row, wishes)
        media_type = image_type(accepted(request))
        etag = etag_of(row.digest, number, wishes, media_type, thumbnail)
        if unchanged(request, etag):
            return not_modified(etag, STEADY)
        headers = cached(etag, STEADY) | wishes.warning(self._door.root(request))
        return Work(partial(self._picture, row, number, wishes, media_type, thumbnail), headers, media_type)

    def _picture(
        self, row: StoredInstance, number: int | None, wishes: Wishes, media_type: str, thumbnail: bool
    ) -> bytes:
        size = wishes.size or (THUMBNAIL if thumbnail else None)
        try:
            instance = self._door.opened(location_of_row(row))
            if number is None and thumbnail and wishes == Wishes(size=wishes.size) and media_type == "image/jpeg":
                return self._door.pool.render(thumbnail_job(instance, size or THUMBNAIL))
            if wishes.region is not None:
                whole = self._door.pool.render(render_job(instance, number or 1, window=wishes.window, format="png"))
                return cropped(whole, wishes.region, size, FORMATS[media_type], wishes.quality)
            job = render_job(
                instance, number or 1, window=wishes.window, size=size, format=FORMATS[media_type],
                quality=wishes.quality,
            )  # fmt: skip
            return self._door.pool.render(job)
        except Unsupported as error:
            raise NotAcceptable(error.message, field=error.field) from error

    def _found(self, request: Request) -> tuple[ShownStudy, StoredInstance]:
        study = self._door.open_study(request)
        if "instance" in request.path_params:
            return study, self._door.instances(request, study)[0]
        series_uid = path_uid(request, "series", "SeriesInstanceUID") if "series" in request.path_params else None
        with self._door.store.read() as connection:
            found = middle_instance(connection, study.id, series_uid)
        if found is None:
            raise NotFound("There is no image to show.")
        return study, found

    @staticmethod
    def _frame(request: Request) -> int | None:
        if "frames" not in request.path_params:
            return None
        numbers = frame_numbers(request.path_params["frames"])
        if len(numbers) > 1:
            raise NotAcceptable("One frame is rendered at a time.", field="frame")
        return numbers[0]
