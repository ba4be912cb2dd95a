"""WADO-URI (PS3.18 9): one instance by the parameters of an address, for viewers from before the RESTful services.

A request is read into the WADO-RS request that means the same and answered by that, so that scope, audit, caching and
rendering are the same. What can't be done (anonymising, presentation states) is refused and not left out.
"""

from __future__ import annotations

import re
from urllib.parse import urlencode

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from hilum.archive.metadata import integer
from hilum.archive.part10 import EXPLICIT_LITTLE
from hilum.core.errors import InvalidInput, MissingField
from hilum.dicom.web.door import Door
from hilum.dicom.web.negotiation import MediaRange, media_ranges
from hilum.dicom.web.presented import Presented
from hilum.dicom.web.problems import NotAcceptable
from hilum.dicom.web.rendered import Rendered
from hilum.dicom.web.rendering import parameters_of
from hilum.dicom.web.wado import DICOM, Wado
from hilum.security.policy import Action, require
from hilum.storage.retrieval import StoredInstance, headers_of

UIDS = {"studyUID": "study", "seriesUID": "series", "objectUID": "instance"}
# PS3.18 tables 9.1.2-1 and 9.4.1-1.
KNOWN = frozenset(
    {"requestType", *UIDS, "contentType", "charset", "anonymize", "annotation", "rows", "columns", "region",
     "windowCenter", "windowWidth", "frameNumber", "imageQuality", "presentationUID", "presentationSeriesUID",
     "transferSyntax"}
)  # fmt: skip
_OF_IMAGES = ("annotation", "rows", "columns", "region", "windowCenter", "windowWidth", "frameNumber", "imageQuality")
_NAME = re.compile(r"[A-Za-z]{1,64}\Z")
_SIDE = re.compile(r"[1-9][0-9]{0,4}\Z")
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}(?:\.[0-9]{1,9})?\Z")
_SHARE = re.compile(r"(?:0|1|[01]?\.[0-9]{1,9})\Z")
_LARGEST = 8192


class WadoUri:
    """The one resource."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._wado, self._rendered, self._presented = Wado(door), Rendered(door), Presented(door)

    async def retrieve(self, request: Request) -> Response:
        """`GET /wado?requestType=WADO&studyUID=…&seriesUID=…&objectUID=…`"""
        require(request.state.actor, Action.READ_IMAGES)
        given = read_parameters(parameters_of(request))
        path = {level: given[name] for name, level in UIDS.items()}
        row, header = await run_in_threadpool(self._row, _meaning(request, path, {}))
        wishes = media_ranges(given.get("contentType", "")) or self._default(row, header, given)
        if wishes[0].covers(DICOM) and wishes[0].media_type != "*/*":
            for name in _OF_IMAGES:
                if name in given:
                    raise InvalidInput(f"{name} does not go with application/dicom.", field=name)
            syntax = given.get("transferSyntax", EXPLICIT_LITTLE)
            accept = {"accept": f"{DICOM};transfer-syntax={syntax}"}
            return await run_in_threadpool(self._wado.instances, _meaning(request, path, accept))
        if "transferSyntax" in given:
            raise InvalidInput("transferSyntax goes with application/dicom only.", field="transferSyntax")
        if "frameNumber" in given:
            path["frames"] = given["frameNumber"]
        accept = {"accept": ",".join(f"{each.media_type};q={each.quality:g}" for each in wishes)}
        return await self._rendered.rendered(_meaning(request, path, accept | rendering_of(given, header)))

    def _row(self, request: Request) -> tuple[StoredInstance, dict[str, dict[str, object]]]:
        study = self._door.open_study(request, "DICOMweb WADO-URI")
        row = self._door.instances(request, study)[0]
        with self._door.store.read() as connection:
            return row, orjson.loads(headers_of(connection, [row.id])[row.id])

    def _default(
        self, row: StoredInstance, header: dict[str, dict[str, object]], given: dict[str, str]
    ) -> list[MediaRange]:
        """What is sent where nothing is asked for (PS3.18 table 9.1.2-2): DICOM of many frames, a picture of one."""
        if self._presented.way_of(row) is not None:
            return [MediaRange("*/*")]
        many = (integer(header, "00280008") or 1) > 1 and "frameNumber" not in given
        return [MediaRange(DICOM if many or "00280010" not in header else "image/jpeg")]


def read_parameters(given: dict[str, str]) -> dict[str, str]:
    """The parameters of a request that can be answered. Raises with the name of the one that is wrong."""
    for name in given:
        if name not in KNOWN:
            shown = name if _NAME.match(name) else "one of those given"
            raise InvalidInput(f"WADO-URI has no parameter {shown}.", field=shown)
    if given.get("requestType") != "WADO":
        raise InvalidInput("requestType is to be WADO.", field="requestType")
    for name in UIDS:
        if not given.get(name):
            raise MissingField(f"{name} is missing.", field=name)
    if given.get("anonymize", "no") != "no":
        raise NotAcceptable("Instances are not anonymised here.", field="anonymize")
    for name in ("presentationUID", "presentationSeriesUID"):
        if name in given:
            raise NotAcceptable("Presentation states are not applied here.", field=name)
    return {name: value for name, value in given.items() if value}


def rendering_of(given: dict[str, str], header: dict[str, dict[str, object]]) -> dict[str, str]:
    """The WADO-RS parameters that say the same (PS3.18 8.3.5). Raises InvalidInput with the name of what is wrong."""
    meant: dict[str, str] = {}
    if "annotation" in given:
        meant["annotation"] = given["annotation"]
    if "imageQuality" in given:
        meant["quality"] = given["imageQuality"]
    window = [given.get(name, "") for name in ("windowCenter", "windowWidth")]
    if any(window):
        if not all(_NUMBER.match(number) for number in window):
            raise InvalidInput("windowCenter and windowWidth are numbers that go together.", field="windowCenter")
        meant["window"] = f"{window[0]},{window[1]},linear"
    for name in ("rows", "columns"):
        if name in given and not (_SIDE.match(given[name]) and int(given[name]) <= _LARGEST):
            raise InvalidInput(f"{name} is a number from 1 to {_LARGEST}.", field=name)
    if "region" in given:
        meant["viewport"] = _viewport(given, header)
    elif "rows" in given or "columns" in given:
        meant["viewport"] = f"{given.get('columns', _LARGEST)},{given.get('rows', _LARGEST)}"
    return meant


def _viewport(given: dict[str, str], header: dict[str, dict[str, object]]) -> str:
    """The viewport of a region given in shares of the image's sides: left, top, right, bottom."""
    shares = given["region"].split(",")
    if len(shares) != 4 or not all(_SHARE.match(share) for share in shares):
        raise InvalidInput("region is left, top, right and bottom, each from 0.0 to 1.0.", field="region")
    left, top, right, bottom = map(float, shares)
    if not (left < right <= 1 and top < bottom <= 1):
        raise InvalidInput("region ends before it begins.", field="region")
    width, height = integer(header, "00280011") or 1, integer(header, "00280010") or 1
    x, y = min(round(left * width), width - 1), min(round(top * height), height - 1)
    w, h = max(1, round(right * width) - x), max(1, round(bottom * height) - y)
    if "rows" in given or "columns" in given:
        size = given.get("columns", str(_LARGEST)), given.get("rows", str(_LARGEST))
    else:
        size = str(w), str(h)
    return f"{size[0]},{size[1]},{x},{y},{w},{h}"


def _meaning(request: Request, path: dict[str, str], query: dict[str, str]) -> Request:
    """The WADO-RS request of a path and a query, from the same asker."""
    scope = {**request.scope, "path_params": path, "query_string": urlencode(query, safe=",;=/").encode()}
    return Request(scope, request.receive)
