"""WADO-RS: frames and bulk data (PS3.18 10.4.1.1.5 and .6), each part labelled with its transfer syntax."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from hilum.archive.encoders import ENCODINGS
from hilum.archive.frames import Instance
from hilum.archive.landing import read_dataset
from hilum.archive.native import turned
from hilum.archive.part10 import DEFLATED_LITTLE, EXPLICIT_LITTLE, inflated, is_big_endian
from hilum.archive.retrieve import location_of_row
from hilum.archive.transcode import frame_as
from hilum.core.errors import InvalidInput, NotFound, Unsupported
from hilum.dicom.web.door import STEADY, Door, cached, etag_of, not_modified, unchanged
from hilum.dicom.web.multipart import CHUNK
from hilum.dicom.web.negotiation import FRAME_TYPES, OCTETS, MediaRange, accepted
from hilum.dicom.web.problems import NotAcceptable
from hilum.dicom.web.streams import Content, multipart_response, ranged_response
from hilum.dicom.web.videos import bulk_video, is_video
from hilum.storage.retrieval import StoredInstance, headers_of

MAX_FRAME_LIST = 10_000
_FRAMES = re.compile(r"[1-9][0-9]{0,6}(?:,[1-9][0-9]{0,6})*\Z")
_PLACE = re.compile(r"([0-9]{1,12})/([0-9]{1,12})\Z")
_WORDS = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}


class Frames:
    """The resources of frames and bulk data."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def frames(self, request: Request) -> Response:
        """`…/instances/{instance}/frames/{frames}`"""
        numbers = frame_numbers(request.path_params["frames"])
        row = self._row(request)
        if is_video(row):
            raise NotAcceptable("A video is sent as a whole, not by its frames.", field="frame")
        row = self._kept(row, accepted(request))
        return self._send(request, row, self._door.opened(location_of_row(row)), numbers)

    def _kept(self, row: StoredInstance, ranges: list[MediaRange]) -> StoredInstance:
        """The instance as received, or its compressed copy where that is what is asked for."""
        for lossless in (True, False):
            for copy in self._door.copies.of([row], lossless=lossless).values():
                if _asks_for(ranges, copy.transfer_syntax_uid, by_name=not lossless):
                    return copy
        return row

    def bulkdata(self, request: Request) -> Response:
        """`…/instances/{instance}/bulkdata/{place}`, as the metadata names it."""
        place = request.path_params["place"]
        row = self._row(request)
        if place == "pixeldata" and is_video(row):
            return bulk_video(self._door, request, row)
        if place == "pixeldata":
            row = self._kept(row, accepted(request))
            instance = self._door.opened(location_of_row(row))
            return self._send(request, row, instance, list(range(1, instance.table.count + 1)))
        match = _PLACE.match(place)
        vr = self._vr_of(row, f"bulkdata/{place}") if match else None
        if match is None or vr is None:
            raise NotFound("The instance has no such bulk data.")
        return self._value(request, row, int(match[1]), int(match[2]), vr)

    def _row(self, request: Request) -> StoredInstance:
        study = self._door.open_study(request)
        return self._door.instances(request, study)[0]

    def _send(self, request: Request, row: StoredInstance, instance: Instance, numbers: list[int]) -> Response:
        if max(numbers) > instance.table.count:
            raise NotFound("The instance has no frame of that number.", field="frame")
        wish, part_type, syntax = frame_form(accepted(request), instance.frame_syntax)
        etag = etag_of(row.digest, numbers, part_type, syntax, wish.multipart)
        if unchanged(request, etag):
            return not_modified(etag, STEADY)
        content_type = f"{part_type}; transfer-syntax={syntax}"
        read = partial(frame_as, instance, target=syntax, render=self._door.pool.render)
        try:
            first = read(numbers[0])  # before the answer begins, so that it can still be refused
        except Unsupported as error:
            raise NotAcceptable(error.message, field="Accept") from error
        headers = cached(etag, STEADY)
        if not wish.multipart and len(numbers) == 1 and wish.media_type == part_type:
            return Response(first, 200, headers, content_type)

        def contents() -> Iterator[Content]:
            yield Content(content_type, [first], len(first))
            for number in numbers[1:]:
                data = read(number)
                yield Content(content_type, [data], len(data))

        parts = list(contents()) if len(numbers) == 1 else contents()
        return multipart_response(parts, part_type, headers)

    def _vr_of(self, row: StoredInstance, uri: str) -> str | None:
        with self._door.store.read() as connection:
            header = headers_of(connection, [row.id])[row.id]
        return _find_uri(orjson.loads(header), uri)

    def _value(self, request: Request, row: StoredInstance, offset: int, length: int, vr: str) -> Response:
        """A value of the data set: as a part of a multipart, or alone and then also in ranges."""
        wish = next((each for each in accepted(request) if each.covers(OCTETS)), None)
        if wish is None:
            raise NotAcceptable("Bulk data is sent as application/octet-stream.", field="Accept")
        etag = etag_of(row.digest, offset, length)
        if unchanged(request, etag):
            return not_modified(etag, STEADY)
        headers = cached(etag, STEADY)
        if wish.multipart:
            pieces = self._pieces(row, offset, length, vr)
            return multipart_response([Content(OCTETS, pieces, length)], OCTETS, headers)
        width = _WORDS.get(vr, 1) if is_big_endian(row.transfer_syntax_uid) else 1

        def pieces_of(begin: int, end: int) -> Iterator[bytes]:
            first = begin - begin % width  # words are turned around as a whole
            pieces = self._pieces(row, offset + first, min(length - first, end - first + width), vr)
            return _cut(pieces, begin - first, end - begin)

        return ranged_response(request, length, pieces_of, headers, OCTETS)

    def _pieces(self, row: StoredInstance, offset: int, length: int, vr: str) -> Iterator[bytes]:
        location = location_of_row(row)
        if row.transfer_syntax_uid == DEFLATED_LITTLE:
            yield inflated(read_dataset(self._door.blobs, location))[offset : offset + length]
            return
        width = _WORDS.get(vr, 1) if is_big_endian(row.transfer_syntax_uid) else 1
        for start in range(0, length, CHUNK):
            piece = read_dataset(self._door.blobs, location, offset + start, min(CHUNK, length - start))
            yield piece if width == 1 else turned(piece, width)


def _cut(pieces: Iterator[bytes], skip: int, length: int) -> Iterator[bytes]:
    for piece in pieces:
        wanted = piece[skip : skip + length]
        skip = max(0, skip - len(piece))
        length -= len(wanted)
        if wanted:
            yield wanted


def frame_numbers(text: str) -> list[int]:
    """The frames of a path, counted from 1. Raises InvalidInput."""
    if not _FRAMES.match(text):
        raise InvalidInput("Frames are numbers from 1 on, with commas between them.", field="frame")
    numbers = [int(number) for number in text.split(",")]
    if len(numbers) > MAX_FRAME_LIST:
        raise InvalidInput("More frames are asked for than are sent at once.", field="frame")
    return numbers


def frame_form(ranges: list[MediaRange], stored: str) -> tuple[MediaRange, str, str]:
    """The range that decides, the type of each part, and the transfer syntax of the frames. Raises NotAcceptable.

    `application/octet-stream` without a transfer syntax means uncompressed (PS3.18 8.7.3.5); `*` means as stored. A
    media type of images without one means as stored, else the default of the type (PS3.18 table 8.7.3-4).
    """
    own_type = FRAME_TYPES.get(stored, OCTETS)
    for wish in ranges:
        asked = wish.transfer_syntax
        if wish.media_type == OCTETS:
            if asked in ("*", stored):
                return wish, OCTETS, stored
            if asked in ("", EXPLICIT_LITTLE) or asked in ENCODINGS:
                return wish, OCTETS, asked or EXPLICIT_LITTLE
        elif wish.covers(own_type) and asked in ("", "*", stored):
            return wish, own_type, stored
        elif wish.covers(OCTETS) and asked == EXPLICIT_LITTLE:
            return wish, OCTETS, EXPLICIT_LITTLE
        else:
            made = asked or DEFAULT_SYNTAXES.get(wish.media_type, "")
            if made in ENCODINGS and wish.covers(FRAME_TYPES[made]):
                return wish, FRAME_TYPES[made], made
    raise NotAcceptable("The frames can't be sent in a form that was asked for.", field="Accept")


def _asks_for(ranges: list[MediaRange], stored: str, *, by_name: bool) -> bool:
    """Whether frames of this transfer syntax would be sent as they are; with `by_name` only where a range names it."""
    try:
        wish, _, syntax = frame_form(ranges, stored)
    except NotAcceptable:
        return False
    return syntax == stored and (wish.transfer_syntax == stored or not by_name)


# What a media type means that names no transfer syntax, as far as frames are encoded so here; never with a loss.
DEFAULT_SYNTAXES = {
    "image/dicom-rle": "1.2.840.10008.1.2.5",
    "image/jpeg": "1.2.840.10008.1.2.4.70",
    "image/jls": "1.2.840.10008.1.2.4.80",
    "image/jp2": "1.2.840.10008.1.2.4.90",
    "image/jphc": "1.2.840.10008.1.2.4.201",
}


def _find_uri(attributes: dict[str, Any], uri: str) -> str | None:
    """The VR of the element whose value the URI names, in the data set or an item of it."""
    for entry in attributes.values():
        if entry.get("BulkDataURI") == uri:
            return str(entry["vr"])
        for item in entry.get("Value", ()) if entry.get("vr") == "SQ" else ():
            if isinstance(item, dict) and (found := _find_uri(item, uri)) is not None:
                return found
    return None
