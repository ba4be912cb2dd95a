"""Bytes of stored instances as answers: whole Part 10 files in a multipart, parts of data sets by range.

Nothing of a study is held in memory but the piece of about 1 MiB that is being sent.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from hilum.archive.blobs import BlobStore
from hilum.archive.retrieve import place_of
from hilum.dicom.web.multipart import CHUNK, coalesced, end_of, new_boundary, part_head
from hilum.dicom.web.problems import RangeNotSatisfiable
from hilum.storage.retrieval import StoredInstance

_RANGE = re.compile(r"\s*bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*\Z")


SENDFILE = "hilum.sendfile"  # the extension of ASGI by which a connection says that it takes files (serve/sendfile.py)


@dataclass(frozen=True, slots=True)
class FilePlace:
    """Bytes of a file: `length` of them from `offset`."""

    path: Path
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Content:
    """What a part holds: its type, its pieces and, where it is known before, its length and the file it lies in."""

    content_type: str
    pieces: Iterable[bytes]
    length: int | None = None
    place: FilePlace | None = None


class FilesResponse(StreamingResponse):
    """A body that lies in files but for a few bytes, sent by the kernel where the connection can."""

    def __init__(
        self, places: list[bytes | FilePlace], pieces: Iterable[bytes], headers: dict[str, str], media_type: str
    ) -> None:
        super().__init__(pieces, headers=headers, media_type=media_type)
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if SENDFILE not in scope.get("extensions", {}):
            await super().__call__(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": SENDFILE, "pieces": self._places})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def multipart_response(contents: Iterable[Content], part_type: str, headers: dict[str, str]) -> Response:
    """Send parts one after the other; the length goes ahead where every part knows its own."""
    boundary = new_boundary()
    headers = dict(headers)
    if isinstance(contents, list) and all(content.length is not None for content in contents):
        headers["content-length"] = str(_length(contents, boundary))
    media_type = f'multipart/related; type="{part_type}"; boundary={boundary}'
    pieces = coalesced(_pieces(contents, boundary))
    if isinstance(contents, list) and all(content.place is not None for content in contents):
        return FilesResponse(list(_places(contents, boundary)), pieces, headers, media_type)
    return StreamingResponse(pieces, headers=headers, media_type=media_type)


def _places(contents: list[Content], boundary: str) -> Iterator[bytes | FilePlace]:
    for number, content in enumerate(contents):
        yield part_head(boundary, content.content_type, first=number == 0)
        if content.place is not None:
            yield content.place
    yield end_of(boundary)


def _pieces(contents: Iterable[Content], boundary: str) -> Iterator[bytes]:
    first = True
    for content in contents:
        yield part_head(boundary, content.content_type, first=first)
        yield from content.pieces
        first = False
    yield end_of(boundary)


def _length(contents: list[Content], boundary: str) -> int:
    total = len(end_of(boundary))
    for number, content in enumerate(contents):
        total += len(part_head(boundary, content.content_type, first=number == 0)) + (content.length or 0)
    return total


def gzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes as gzip, at the level that costs least time."""
    compressor = zlib.compressobj(1, wbits=31)
    for piece in coalesced(pieces):
        for start in range(0, len(piece), CHUNK):
            yield compressor.compress(piece[start : start + CHUNK])
    yield compressor.flush()


def part10_place(blobs: BlobStore, row: StoredInstance) -> FilePlace | None:
    """Where the Part 10 file of an instance lies; None where the archive is no directory."""
    place = place_of(blobs, row)
    return None if place is None else FilePlace(*place)


def part10_pieces(blobs: BlobStore, row: StoredInstance, begin: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The Part 10 file of an instance, or bytes of it; nothing is opened before the first piece is asked for."""
    length = (row.object_length if end is None else end) - begin
    if length <= CHUNK:
        yield blobs.get_range(row.object_key, row.object_offset + begin, length)
    else:
        yield from blobs.stream(row.object_key, row.object_offset + begin, length)


def ranged_response(
    request: Request,
    total: int,
    pieces: Callable[[int, int], Iterable[bytes]],
    headers: dict[str, str],
    content_type: str,
) -> Response:
    """Send what `pieces` gives from a begin to an end: all `total` bytes, or the range that is asked for (206).

    A range whose `If-Range` names another version is answered with everything (RFC 9110 13.1.5).
    Raises RangeNotSatisfiable.
    """
    headers = {**headers, "accept-ranges": "bytes"}
    current = request.headers.get("if-range", headers.get("etag", "")) == headers.get("etag", "")
    part = asked_range(request, total) if current else None
    begin, end = part or (0, total)
    headers["content-length"] = str(end - begin)
    if part is not None:
        headers["content-range"] = f"bytes {begin}-{end - 1}/{total}"
    return StreamingResponse(pieces(begin, end), 200 if part is None else 206, headers, content_type)


def asked_range(request: Request, total: int) -> tuple[int, int] | None:
    """Begin and end of the bytes a request asks for (RFC 9110 14.1.2); None for all. Raises RangeNotSatisfiable.

    Several ranges, other units and malformed headers are answered with everything, as the RFC allows.
    """
    match = _RANGE.match(request.headers.get("range", ""))
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        begin, end = max(0, total - int(match[2])), total
    else:
        begin, end = int(match[1]), min(total, int(match[2]) + 1 if match[2] else total)
    if begin >= end:
        raise RangeNotSatisfiable(total)
    return begin, end
