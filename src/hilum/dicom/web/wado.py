"""WADO-RS: instances and metadata (PS3.18 10.4), the bytes as received and the truth laid over the metadata."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from hilum.archive.part10 import EXPLICIT_LITTLE
from hilum.dicom.overlay import overlaid
from hilum.dicom.web.door import REVALIDATED, STEADY, Door, cached, etag_of, not_modified, unchanged
from hilum.dicom.web.multipart import coalesced
from hilum.dicom.web.negotiation import MediaRange, accepted, json_type, takes_gzip
from hilum.dicom.web.problems import NotAcceptable
from hilum.dicom.web.streams import Content, gzipped, multipart_response, part10_pieces, ranged_response
from hilum.dicom.web.transcode import explicit_little_endian
from hilum.storage.retrieval import StoredInstance, headers_of
from hilum.storage.shown import ShownStudy

DICOM = "application/dicom"
HEADERS_AT_ONCE = 100
_RELATIVE = b'"BulkDataURI":"bulkdata/'


class Wado:
    """The retrieve resources of instances and metadata, at each of the three levels."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def instances(self, request: Request) -> Response:
        """`/studies/{study}`, `…/series/{series}`, `…/instances/{instance}`"""
        study = self._door.open_study(request)
        rows = self._door.instances(request, study)
        wishes = [wish for wish in accepted(request) if wish.covers(DICOM)]
        chosen = [(row, _syntax_for(row, wishes)) for row in rows]
        etag = etag_of(DICOM, [(row.digest, syntax) for row, syntax in chosen])
        if unchanged(request, etag):
            return not_modified(etag, STEADY)
        headers = cached(etag, STEADY)
        if len(rows) == 1 and not wishes[0].multipart and wishes[0].media_type == DICOM:
            return self._alone(request, *chosen[0], headers)
        if all(syntax == row.transfer_syntax_uid for row, syntax in chosen):
            return multipart_response([self._content(*each) for each in chosen], DICOM, headers)
        # Rewritten ones are made one at a time; the first before the answer begins, so that it can still be refused.
        first = self._content(*chosen[0])
        return multipart_response(self._following(first, chosen[1:]), DICOM, headers)

    def _alone(self, request: Request, row: StoredInstance, syntax: str, headers: dict[str, str]) -> Response:
        """One instance as the body itself, of which ranges can be asked for."""
        content_type = f"{DICOM}; transfer-syntax={syntax}"
        if syntax == row.transfer_syntax_uid:
            stored = partial(part10_pieces, self._door.blobs, row)
            return ranged_response(request, row.object_length, stored, headers, content_type)
        made = b"".join(self._content(row, syntax).pieces)
        return ranged_response(request, len(made), lambda begin, end: [made[begin:end]], headers, content_type)

    def _following(self, first: Content, rest: list[tuple[StoredInstance, str]]) -> Iterator[Content]:
        yield first
        for row, syntax in rest:
            yield self._content(row, syntax)

    def _content(self, row: StoredInstance, syntax: str) -> Content:
        content_type = f"{DICOM}; transfer-syntax={syntax}"
        if syntax == row.transfer_syntax_uid:
            return Content(content_type, part10_pieces(self._door.blobs, row), row.object_length)
        rewritten = explicit_little_endian(self._door.blobs, row, self._door.opened, self._door.pool.render)
        return Content(content_type, [rewritten], len(rewritten))

    def metadata(self, request: Request) -> Response:
        """`…/metadata` of a study, series or instance."""
        media_type = json_type(accepted(request))
        study = self._door.open_study(request)
        rows = self._door.instances(request, study)
        root = self._door.root(request)
        zipped = takes_gzip(request)
        etag = etag_of(root, study.truth.revision, [row.id for row in rows], zipped)
        if unchanged(request, etag):
            return not_modified(etag, REVALIDATED)
        headers = cached(etag, REVALIDATED)
        pieces = self._metadata(study, rows, f"{root}/studies/{study.study_instance_uid}")
        if zipped:
            headers["content-encoding"] = "gzip"
            pieces = gzipped(pieces)
        if len(rows) <= HEADERS_AT_ONCE:
            return Response(b"".join(pieces), 200, headers, media_type)
        return StreamingResponse(coalesced(pieces), 200, headers, media_type)

    def _metadata(self, study: ShownStudy, rows: list[StoredInstance], url: str) -> Iterator[bytes]:
        before = b"["
        for start in range(0, len(rows), HEADERS_AT_ONCE):
            batch = rows[start : start + HEADERS_AT_ONCE]
            with self._door.store.read() as connection:
                headers = headers_of(connection, [row.id for row in batch])
            for row in batch:
                yield before + _with_truth(headers[row.id], row, study, url)
                before = b","
        yield b"]"


def _syntax_for(row: StoredInstance, wishes: list[MediaRange]) -> str:
    """The transfer syntax to send an instance in: as stored wherever that is accepted. Raises NotAcceptable."""
    for wish in wishes:
        if wish.transfer_syntax in ("", "*", row.transfer_syntax_uid):
            return row.transfer_syntax_uid
        if wish.transfer_syntax == EXPLICIT_LITTLE:
            return EXPLICIT_LITTLE
    raise NotAcceptable("Instances are sent as stored or in Explicit VR Little Endian.", field="Accept")


def _with_truth(header: bytes, row: StoredInstance, study: ShownStudy, url: str) -> bytes:
    instance = f"{url}/series/{row.series_instance_uid}/instances/{row.sop_instance_uid}"
    # In JSON text the quotation marks of a value are escaped, so this can only be the member itself.
    linked = header.replace(_RELATIVE, f'"BulkDataURI":"{instance}/bulkdata/'.encode())
    attributes = orjson.loads(linked)
    attributes["00083002"] = {"vr": "UI", "Value": [row.transfer_syntax_uid]}
    return orjson.dumps(overlaid(attributes, study.truth))
