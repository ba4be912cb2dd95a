"""Stored video over the web: the stream as it is, alone and then in ranges, or as a part (PS3.18 8.7.3.3.3, 8.7.4).

A video is one stream whatever its number of frames, so single frames of it are not sent.
"""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from hilum.archive.landing import read_dataset
from hilum.archive.retrieve import location_of_row, pixels_of
from hilum.archive.video import SYNTAXES, Video, video_of
from hilum.core.errors import NotFound
from hilum.dicom.web.door import STEADY, Door, cached, etag_of, not_modified, unchanged
from hilum.dicom.web.negotiation import OCTETS, accepted
from hilum.dicom.web.problems import NotAcceptable
from hilum.dicom.web.streams import Content, multipart_response, ranged_response
from hilum.storage.retrieval import StoredInstance, pixels_of_instance


def is_video(row: StoredInstance) -> bool:
    """Whether an instance is stored as a video."""
    return row.transfer_syntax_uid in SYNTAXES


def rendered_video(door: Door, request: Request, row: StoredInstance) -> Response:
    """The stream as a player takes it. Raises NotAcceptable where its type is not asked for."""
    video = _video(door, row)
    if not any(wish.covers(video.media_type) and not wish.multipart for wish in accepted(request)):
        raise NotAcceptable(f"This instance is sent as {video.media_type}.", field="Accept")
    return _sent(request, row, video, video.media_type)


def bulk_video(door: Door, request: Request, row: StoredInstance) -> Response:
    """The stream as bulk data: a part of a multipart, or alone where one type is asked for. Raises NotAcceptable."""
    video = _video(door, row)
    for wish in accepted(request):
        if wish.transfer_syntax not in ("", "*", row.transfer_syntax_uid):
            continue
        kind = OCTETS if wish.media_type == OCTETS else video.media_type
        if not wish.covers(kind):
            continue
        if not wish.multipart and wish.media_type == kind:
            return _sent(request, row, video, kind)
        etag = etag_of(row.digest, "video", kind)
        if unchanged(request, etag):
            return not_modified(etag, STEADY)
        content_type = f"{kind}; transfer-syntax={row.transfer_syntax_uid}"
        part = Content(content_type, video.pieces(0, video.size), video.size)
        return multipart_response([part], kind, cached(etag, STEADY))
    raise NotAcceptable(f"This instance is sent as {video.media_type}.", field="Accept")


def _sent(request: Request, row: StoredInstance, video: Video, media_type: str) -> Response:
    etag = etag_of(row.digest, "video")
    if unchanged(request, etag):
        return not_modified(etag, STEADY)
    return ranged_response(request, video.size, video.pieces, cached(etag, STEADY), media_type)


def _video(door: Door, row: StoredInstance) -> Video:
    with door.store.read() as connection:
        pixels = pixels_of(pixels_of_instance(connection, row.id))
    if pixels is None:
        raise NotFound("The instance holds no video.")
    return video_of(pixels, partial(read_dataset, door.blobs, location_of_row(row)))
