"""WADO-RS rendered: what is no image, in the form that people can look at (PS3.18 8.7.4, 10.4.1.1.3).

Documents as they were put in, stored video as it is, structured reports as a page, waveforms as drawings on paper.
Pages and drawings name the patient, so they show the truth and are asked for again; the rest are stored bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from hilum.archive.encapsulated import MEDIA_TYPES, document_of
from hilum.archive.landing import read_dataset
from hilum.archive.metadata import person_name, text
from hilum.archive.part10 import DEFLATED_LITTLE, inflated, is_big_endian
from hilum.archive.retrieve import location_of_row
from hilum.archive.sr_html import POLICY, Reference, report_page
from hilum.archive.waveform import first_group
from hilum.archive.waveform_image import paper_picture, paper_svg
from hilum.archive.waveform_layout import lay_out
from hilum.core.errors import Unsupported
from hilum.core.study import MatchState
from hilum.dicom.overlay import overlaid
from hilum.dicom.web.door import REVALIDATED, STEADY, Door, cached, etag_of, not_modified, unchanged
from hilum.dicom.web.negotiation import accepted
from hilum.dicom.web.problems import NotAcceptable
from hilum.dicom.web.rendering import FORMATS, Wishes, image_type
from hilum.dicom.web.streams import ranged_response
from hilum.dicom.web.videos import is_video, rendered_video
from hilum.storage.retrieval import StoredInstance, headers_of
from hilum.storage.shown import ShownStudy

REPORTS = "1.2.840.10008.5.1.4.1.1.88."
WAVEFORMS = "1.2.840.10008.5.1.4.1.1.9."
DRAWINGS = ("image/svg+xml", "image/png", "image/jpeg")
NOTES = {
    MatchState.UNVERIFIED: "Not verified: no order says whose examination this is.",
    MatchState.CONFLICT: "In conflict: this examination contradicts the order that it names.",
}
# A page that shares memory, as OHIF's does, lets in only frames that say the same of themselves (HTML, COEP).
EMBEDDED = {"cross-origin-embedder-policy": "require-corp"}
# A document of a stranger's must not act in the name of this origin.
HARMLESS = {"content-disposition": "inline", "content-security-policy": "sandbox", **EMBEDDED}
Present = Callable[[Request, ShownStudy, StoredInstance, Wishes], Response]


class Presented:
    """Answers for instances that are no images."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def way_of(self, row: StoredInstance) -> Present | None:
        """What presents an instance; None for images."""
        if row.sop_class_uid in MEDIA_TYPES:
            return self._document
        if is_video(row):
            return self._video
        if row.sop_class_uid.startswith(REPORTS):
            return self._report
        return self._waveform if row.sop_class_uid.startswith(WAVEFORMS) else None

    def thumbnail(self, request: Request, study: ShownStudy, row: StoredInstance, wishes: Wishes) -> Response:
        """A small picture, of what can be drawn as one. Raises NotAcceptable of anything else."""
        if not row.sop_class_uid.startswith(WAVEFORMS):
            raise NotAcceptable("There is no picture of this kind of instance.")
        return self._drawn(request, study, row, wishes, ("image/jpeg", "image/png"), (256, 256))

    def _document(self, request: Request, study: ShownStudy, row: StoredInstance, wishes: Wishes) -> Response:
        media_type = _accepted_type(request, MEDIA_TYPES[row.sop_class_uid])
        etag = etag_of(row.digest, "document")
        if unchanged(request, etag):
            return not_modified(etag, STEADY)
        document = document_of(self._header(row))
        if document.inline is not None:
            data = document.inline
        else:
            data = _read(self._door, row, document.offset, document.length)
        headers = cached(etag, STEADY) | HARMLESS
        return ranged_response(
            request, document.length, lambda begin, end: [data[begin:end]], headers, media_type
        )  # fmt: skip

    def _video(self, request: Request, study: ShownStudy, row: StoredInstance, wishes: Wishes) -> Response:
        return rendered_video(self._door, request, row)

    def _report(self, request: Request, study: ShownStudy, row: StoredInstance, wishes: Wishes) -> Response:
        _accepted_type(request, "text/html")
        root = self._door.root(request)
        etag = etag_of(row.digest, study.truth.revision, study.match_state, root, "report")
        if unchanged(request, etag):
            return not_modified(etag, REVALIDATED)

        def link(reference: Reference) -> str:
            if not (reference.study_instance_uid and reference.series_instance_uid):
                return ""
            frame = f"/frames/{reference.frame}" if reference.frame else ""
            return _address(root, reference.study_instance_uid, reference.series_instance_uid,
                            reference.sop_instance_uid) + f"{frame}/rendered"  # fmt: skip

        base = _address(root, study.study_instance_uid, row.series_instance_uid, row.sop_instance_uid)
        note = NOTES.get(study.match_state)
        page = report_page(overlaid(self._header(row), study.truth), link, (note,) if note else (), base)
        headers = cached(etag, REVALIDATED) | EMBEDDED | {"content-security-policy": POLICY}
        return Response(page, 200, headers, "text/html; charset=utf-8")

    def _waveform(self, request: Request, study: ShownStudy, row: StoredInstance, wishes: Wishes) -> Response:
        return self._drawn(request, study, row, wishes, DRAWINGS)

    def _drawn(
        self,
        request: Request,
        study: ShownStudy,
        row: StoredInstance,
        wishes: Wishes,
        offered: tuple[str, ...],
        size: tuple[int, int] | None = None,
    ) -> Response:
        media_type = image_type(accepted(request), offered)
        size = wishes.size or size
        etag = etag_of(row.digest, study.truth.revision, study.match_state, media_type, size, wishes.quality, "paper")
        if unchanged(request, etag):
            return not_modified(etag, REVALIDATED)
        attributes = overlaid(self._header(row), study.truth)
        reader = partial(_read, self._door, row)
        try:
            group = first_group(attributes, reader, big_endian=is_big_endian(row.transfer_syntax_uid))
        except Unsupported as error:
            raise NotAcceptable(error.message, field=error.field) from error
        paper = lay_out(group, _heading(attributes, study))
        headers = cached(etag, REVALIDATED)
        if media_type == "image/svg+xml":
            drawing = paper_svg(paper, text(attributes, "00081030") or "Waveform")
            return Response(drawing, 200, headers | HARMLESS, media_type)
        picture = paper_picture(paper, format=FORMATS[media_type], size=size, quality=wishes.quality)
        return Response(picture, 200, headers, media_type)

    def _header(self, row: StoredInstance) -> dict[str, dict[str, Any]]:
        with self._door.store.read() as connection:
            header: dict[str, dict[str, Any]] = orjson.loads(headers_of(connection, [row.id])[row.id])
        return header


def _read(door: Door, row: StoredInstance, offset: int, length: int) -> bytes:
    """Bytes of the data set, inflated where it is deflated."""
    location = location_of_row(row)
    if row.transfer_syntax_uid == DEFLATED_LITTLE:
        return inflated(read_dataset(door.blobs, location))[offset : offset + length]
    return read_dataset(door.blobs, location, offset, length)


def _accepted_type(request: Request, media_type: str) -> str:
    if not any(wish.covers(media_type) and not wish.multipart for wish in accepted(request)):
        raise NotAcceptable(f"This instance is sent as {media_type}.", field="Accept")
    return media_type


def _address(root: str, study: str, series: str, instance: str) -> str:
    return f"{root}/studies/{study}/series/{series}/instances/{instance}"


def _heading(attributes: dict[str, dict[str, Any]], study: ShownStudy) -> list[str]:
    name = person_name(attributes, "00100010").split("=")[0].replace("^", " ").strip()
    born = text(attributes, "00100030")
    birth = f"{born[:4]}-{born[4:6]}-{born[6:]}" if len(born) == 8 else born
    whose = (name, text(attributes, "00100020"), birth, text(attributes, "00100040"))
    acquired = text(attributes, "0008002A") or text(attributes, "00080020") + text(attributes, "00080030")
    when = (f"{acquired[:4]}-{acquired[4:6]}-{acquired[6:8]} {acquired[8:10]}:{acquired[10:12]}".strip(" -:"),
            text(attributes, "00081030"))  # fmt: skip
    lines = [" · ".join(part for part in line if part) for line in (whose, when)]
    note = NOTES.get(study.match_state)
    return [line for line in (note, *lines) if line]
