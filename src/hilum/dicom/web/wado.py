"""WADO-RS: instances and metadata (PS3.18 10.4), with the truth laid over both.

Instances come back byte for byte as received where they contradict nothing that is known; `original=true` asks for the
bytes as received in any case, which only some may (`export-original`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from hilum.archive.coercion import Coercion
from hilum.archive.encoders import ENCODINGS
from hilum.archive.exporting import file_set, zip_pieces
from hilum.archive.part10 import EXPLICIT_LITTLE
from hilum.archive.transcode import IN_MEMORY
from hilum.core.errors import TooLarge, Unsupported
from hilum.core.identifiers import new_uid
from hilum.dicom.exporting import exported
from hilum.dicom.overlay import Attributes
from hilum.dicom.web.door import REVALIDATED, Door, cached, etag_of, not_modified, unchanged
from hilum.dicom.web.multipart import coalesced
from hilum.dicom.web.native_xml import native_xml
from hilum.dicom.web.negotiation import XML, MediaRange, accepted, model_type, takes_gzip
from hilum.dicom.web.problems import NotAcceptable
from hilum.dicom.web.streams import Content, gzipped, multipart_response, part10_pieces, part10_place, ranged_response
from hilum.storage.retrieval import StoredInstance, headers_of
from hilum.storage.shown import ShownStudy

DICOM, ZIP = "application/dicom", "application/zip"
HEADERS_AT_ONCE = 100
_RELATIVE = b'"BulkDataURI":"bulkdata/'


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An instance, the transfer syntax to send it in, and what is to change in it."""

    row: StoredInstance
    syntax: str
    coercion: Coercion | None

    @property
    def content_type(self) -> str:
        return f"{DICOM}; transfer-syntax={self.syntax}"

    @property
    def is_in_its_syntax(self) -> bool:
        return self.syntax == self.row.transfer_syntax_uid

    @property
    def is_as_stored(self) -> bool:
        return self.is_in_its_syntax and self.coercion is None


class Wado:
    """The retrieve resources of instances and metadata, at each of the three levels."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def instances(self, request: Request) -> Response:
        """`/studies/{study}`, `…/series/{series}`, `…/instances/{instance}`"""
        study = self._door.open_study(request)
        rows = self._door.instances(request, study)
        original = self._door.export_original(request, study)
        if accepted(request)[0].media_type == ZIP:
            return self._file_set(study, rows, original)
        wishes = [wish for wish in accepted(request) if wish.covers(DICOM)]
        coercions = {} if original else self._door.coercing.of_each(study, rows)
        copies = {} if original else self._door.copies.of(rows)
        able = cache(lambda target: self._door.rewriting.able(rows, target))
        picked = ((row, self._pick(row, copies.get(row.id), wishes, able)) for row in rows)
        chosen = [_Wanted(*found, coercions.get(row.id)) for row, found in picked if found is not None]
        if not chosen:
            raise NotAcceptable("No instance can be sent in a transfer syntax that was asked for.", field="Accept")
        # What is known of a patient changes the bytes of those that contradict it, so they are asked for again.
        revision = study.truth.revision if coercions else None
        etag = etag_of(DICOM, [(each.row.digest, each.syntax) for each in chosen], revision)
        if unchanged(request, etag):
            return not_modified(etag, REVALIDATED)
        headers = cached(etag, REVALIDATED)
        if len(rows) == 1 and not wishes[0].multipart and wishes[0].media_type == DICOM:
            return self._alone(request, chosen[0], headers)
        if all(each.is_as_stored for each in chosen):
            return multipart_response([self._content(each) for each in chosen], DICOM, headers)
        # Rewritten ones are made one at a time; the first before the answer begins, so that it can still be refused.
        first = self._content(chosen[0])
        response = multipart_response(self._following(first, chosen[1:]), DICOM, headers)
        if len(chosen) < len(rows):
            response.status_code = 206  # PS3.18 10.4.1.3: what the client does not accept is not there
        return response

    def _pick(
        self,
        row: StoredInstance,
        copy: StoredInstance | None,
        wishes: list[MediaRange],
        able: Callable[[str], set[str]],
    ) -> tuple[StoredInstance, str] | None:
        """The bytes of an instance to send, and the transfer syntax to send it in; None where there is none.

        As stored or as compressed wherever that is accepted; `able` tells the ids of those that can be made in a
        transfer syntax. Implicit VR is not for the web (PS3.18 8.7.3).
        """
        for wish in wishes:
            asked, usual = wish.transfer_syntax, copy or row
            if asked in ("", "*"):
                return usual, usual.transfer_syntax_uid
            for kept in (row, copy):
                if kept is not None and kept.transfer_syntax_uid == asked:
                    return kept, asked
            if asked in ENCODINGS and not ENCODINGS[asked].lossless:
                lossy = self._door.copies.of([row], lossless=False).get(row.id)
                if lossy is not None and lossy.transfer_syntax_uid == asked:
                    return lossy, asked
            if asked == EXPLICIT_LITTLE or (asked in ENCODINGS and row.id in able(asked)):
                return row, asked
        return None

    def _file_set(self, study: ShownStudy, rows: list[StoredInstance], original: bool) -> Response:
        """What is asked for as a zip file with a DICOMDIR (PS3.18 8.7.3.4)."""
        instances = exported(self._door.coercing, study, rows, original=original)
        members = file_set(instances, new_uid())
        headers = {"cache-control": "no-store", "content-disposition": 'attachment; filename="dicom.zip"'}
        return StreamingResponse(zip_pieces(members), 200, headers, ZIP)

    def _alone(self, request: Request, wanted: _Wanted, headers: dict[str, str]) -> Response:
        """One instance as the body itself, of which ranges can be asked for."""
        row, coercing = wanted.row, self._door.coercing
        if wanted.is_as_stored:
            stored = partial(part10_pieces, self._door.blobs, row)
            return ranged_response(request, row.object_length, stored, headers, wanted.content_type)
        if wanted.coercion is not None and wanted.is_in_its_syntax:
            made = coercing.made(row, wanted.coercion)
            length = coercing.file_length(row, made)
            return ranged_response(request, length, partial(coercing.file, row, made), headers, wanted.content_type)
        content = self._content(wanted)
        if content.length is None or content.length > IN_MEMORY:
            return StreamingResponse(coalesced(content.pieces), 200, headers, wanted.content_type)
        whole = b"".join(content.pieces)
        return ranged_response(request, len(whole), lambda begin, end: [whole[begin:end]], headers, wanted.content_type)

    def _following(self, first: Content, rest: list[_Wanted]) -> Iterator[Content]:
        yield first
        for wanted in rest:
            yield self._content(wanted)

    def _content(self, wanted: _Wanted) -> Content:
        row, door = wanted.row, self._door
        if wanted.is_as_stored:
            place = part10_place(door.blobs, row)
            return Content(wanted.content_type, part10_pieces(door.blobs, row), row.object_length, place)
        made = None
        if wanted.coercion is not None:
            made = door.coercing.made(row, wanted.coercion)
            if wanted.is_in_its_syntax:
                return Content(wanted.content_type, door.coercing.file(row, made), door.coercing.file_length(row, made))
        try:
            pieces, length = door.rewriting.of(row, wanted.syntax, made).part10()
        except (Unsupported, TooLarge) as error:
            message = f"{error.message.removesuffix('.')}; ask for it as stored."
            raise NotAcceptable(message, field="Accept") from error
        return Content(wanted.content_type, pieces, length)

    def metadata(self, request: Request) -> Response:
        """`…/metadata` of a study, series or instance."""
        media_type = model_type(accepted(request))
        study = self._door.open_study(request)
        rows = self._door.instances(request, study)
        root = self._door.root(request)
        zipped = takes_gzip(request) and media_type != XML
        etag = etag_of(root, study.truth.revision, [row.id for row in rows], zipped, media_type)
        if unchanged(request, etag):
            return not_modified(etag, REVALIDATED)
        headers = cached(etag, REVALIDATED)
        found = self._attributes(study, rows, f"{root}/studies/{study.study_instance_uid}")
        if media_type == XML:
            return multipart_response((Content(XML, [native_xml(each)]) for each in found), XML, headers)
        pieces = _listed(found)
        if zipped:
            headers["content-encoding"] = "gzip"
            pieces = gzipped(pieces)
        if len(rows) <= HEADERS_AT_ONCE:
            return Response(b"".join(pieces), 200, headers, media_type)
        return StreamingResponse(coalesced(pieces), 200, headers, media_type)

    def _attributes(self, study: ShownStudy, rows: list[StoredInstance], url: str) -> Iterator[Attributes]:
        for start in range(0, len(rows), HEADERS_AT_ONCE):
            batch = rows[start : start + HEADERS_AT_ONCE]
            with self._door.store.read() as connection:
                headers = headers_of(connection, [row.id for row in batch])
            for row in batch:
                received = _linked(headers[row.id], row, url)
                yield self._door.coercing.attributes(study, row, received)


def _listed(found: Iterator[Attributes]) -> Iterator[bytes]:
    before = b"["
    for attributes in found:
        yield before + orjson.dumps(attributes)
        before = b","
    yield b"]"


def _linked(header: bytes, row: StoredInstance, url: str) -> Attributes:
    """The header of an instance with absolute links to its bulk data."""
    instance = f"{url}/series/{row.series_instance_uid}/instances/{row.sop_instance_uid}"
    # In JSON text the quotation marks of a value are escaped, so this can only be the member itself.
    linked = header.replace(_RELATIVE, f'"BulkDataURI":"{instance}/bulkdata/'.encode())
    attributes: Attributes = orjson.loads(linked)
    attributes["00083002"] = {"vr": "UI", "Value": [row.transfer_syntax_uid]}
    return attributes
