"""QIDO-RS: lists of studies, series and instances (PS3.18 10.6), each with the truth laid over what the images say."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

import orjson
from pydicom.datadict import dictionary_VR
from starlette.requests import Request
from starlette.responses import Response

from hilum.archive.index_columns import SERIES_ATTRIBUTES
from hilum.core.errors import TooLarge
from hilum.dicom.overlay import Attributes, overlaid
from hilum.dicom.web.beyond import Beyond, matching_all
from hilum.dicom.web.door import VARY, Door, actor_of, path_uid
from hilum.dicom.web.native_xml import native_xml
from hilum.dicom.web.negotiation import XML, accepted, model_type, takes_gzip
from hilum.dicom.web.query import LARGEST_LIMIT, Query, read_query
from hilum.dicom.web.streams import Content, gzipped, multipart_response
from hilum.security.audit import Read
from hilum.security.policy import Action, scope_for
from hilum.storage import qido as lists
from hilum.storage.qido import FoundInstance, FoundSeries, FoundStudy, Key, Page

# PS3.18 table 10.6.3-3: always there, empty where nothing is known.
STUDY_REQUIRED = ("00080020", "00080030", "00080050", "00080090", "00100010", "00100020", "00100030", "00100040",
                  "00200010")  # fmt: skip
STUDY_RETURNED = frozenset(STUDY_REQUIRED) | {"00080201", "00081030", "00100021"}
# PS3.18 table 10.6.3-4.
SERIES_REQUIRED = ("00080060", "00200011")
SERIES_RETURNED = frozenset(SERIES_REQUIRED) | {
    "00080201", "0008103E", "00080021", "00080031", "00400244", "00400245", "00400275"
}  # fmt: skip
# PS3.18 table 10.6.3-5.
INSTANCE_REQUIRED = ("00080016", "00200013")
INSTANCE_RETURNED = frozenset(INSTANCE_REQUIRED) | {"00080201", "00280008", "00280010", "00280011", "00280100"}
_VR = {tag: dictionary_VR(int(tag, 16)) for tag in (*STUDY_REQUIRED, *SERIES_REQUIRED, *INSTANCE_REQUIRED)}

# A list of some studies fits into a few packets as it is.
WORTH_ZIPPING = 16 << 10

Found = TypeVar("Found")
Finder = Callable[..., tuple[list[Found], int]]
Describer = Callable[[Found, Query, str], Attributes | orjson.Fragment]


class Qido:
    """The search resources."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._study_results = StudyResults()

    def studies(self, request: Request) -> Response:
        """`/studies`"""
        return self._answer(request, "study", lists.find_studies, self._study_results)

    def series(self, request: Request) -> Response:
        """`/series`, `/studies/{study}/series`"""
        return self._answer(request, "series", lists.find_series, series_result)

    def instances(self, request: Request) -> Response:
        """`/instances`, `/studies/{study}/instances`, `/studies/{study}/series/{series}/instances`"""
        return self._answer(request, "instance", lists.find_instances, instance_result)

    def _answer(self, request: Request, level: str, find: Finder[Found], describe: Describer[Found]) -> Response:
        actor = actor_of(request)
        # Before the query is read: a refusal of what it says would repeat words of it.
        self._door.permit(actor, Action.READ_IMAGES)
        media_type = model_type(accepted(request))
        query = read_query(request.query_params.multi_items(), level)
        keys = (*query.keys, *_keys_of_path(request))
        matched = _matched_beyond(query, level, keys)
        page = Page(LARGEST_LIMIT) if matched else query.page
        self._door.read_log.record(actor, Read(Action.READ_IMAGES))
        with self._door.store.read() as connection:
            found, more = find(connection, keys, scope_for(actor, Action.READ_IMAGES), page)
        if matched:
            found, more = _of_page(found, more, query.page, matched)
        root = self._door.root(request)
        headers = _headers(request, query, more, found, root)
        if warnings := _warnings(query, more, found, matched):
            headers["warning"] = ", ".join(f'299 {root} "{text}"' for text in warnings)
        if not found:
            return Response(status_code=204, headers=headers)
        body = orjson.dumps([describe(each, query, root) for each in found])
        if media_type == XML:
            parts = [Content(XML, [native_xml(each)]) for each in orjson.loads(body)]
            return multipart_response(parts, XML, headers)
        if len(body) > WORTH_ZIPPING and takes_gzip(request):
            headers["content-encoding"] = "gzip"
            body = b"".join(gzipped([body]))
        return Response(body, 200, headers, media_type)


def _keys_of_path(request: Request) -> Iterable[Key]:
    for name, keyword in (("study", "StudyInstanceUID"), ("series", "SeriesInstanceUID")):
        if name in request.path_params:
            yield Key(keyword, (path_uid(request, name, keyword),))


def _matched_beyond(query: Query, level: str, keys: Sequence[Key]) -> tuple[Beyond, ...]:
    """The keys that are matched on what series and instances say themselves: within one study alone."""
    if level == "study" or not any(key.keyword == "StudyInstanceUID" and len(key.values) == 1 for key in keys):
        return ()
    return tuple(key for key in query.beyond if level == "instance" or key.tags[0] in SERIES_ATTRIBUTES)


def _of_page(found: list[Found], more: int, page: Page, keys: Sequence[Beyond]) -> tuple[list[Found], int]:
    """Of all series or instances of a study those that match beyond the index, and of these a page."""
    if more:
        raise TooLarge("The study holds more than can be matched by this attribute.", field=keys[0].name)
    matching = [each for each in found if matching_all(_own_attributes(each), keys)]
    end = page.offset + page.limit
    return matching[page.offset : end], max(0, len(matching) - end)


def _own_attributes(found: Any) -> Attributes:
    attributes: Attributes = found.attributes if isinstance(found, FoundSeries) else orjson.loads(found.header)
    return attributes


def _headers(request: Request, query: Query, more: int, found: Sequence[Any], root: str) -> dict[str, str]:
    """The link to the next page and, where it is known anyway, how many results there are (PS3.18 8.3.4.4, RFC 8288).

    Studies go on behind the last of a page, so that what arrives meanwhile shifts nothing and no page costs more than
    the first; what is listed below goes on by its number.
    """
    headers = {"cache-control": "private, no-cache", "vary": VARY}
    if more < lists.COUNTED and not query.page.after:
        headers["x-total-count"] = str(query.page.offset + len(found) + more)
    if more and found:
        ours = ("limit", "offset", "cursor")
        rest = [(name, value) for name, value in request.query_params.multi_items() if name not in ours]
        last = found[-1]
        next_page = (
            ("cursor", last.study.id) if isinstance(last, FoundStudy)
            else ("offset", str(query.page.offset + len(found)))
        )  # fmt: skip
        path = request.url.path.partition("/dicom-web")[2]
        limited = [*rest, ("limit", str(query.page.limit)), next_page]
        headers["link"] = f'<{root}{path}?{urlencode(limited)}>; rel="next"'
    return headers


def _warnings(query: Query, more: int, found: Sequence[Any], matched: Sequence[Beyond]) -> Iterable[str]:
    """What the answer does not hold of what was asked (PS3.18 8.3.4.4, 8.3.4.6)."""
    said: list[str] = []
    if unmatched := [key.name for key in query.beyond if key not in matched]:
        said.append(f"These attributes can't be matched here: {', '.join(unmatched)}")
    if query.ignored:
        said.append(f"These options are not applied: {', '.join(query.ignored)}")
    if more and found:
        remaining = f"at least {more}" if more >= lists.COUNTED else str(more)
        said.append(f"There are {remaining} additional results that can be requested")
    return said


def _chosen(attributes: Attributes, returned: frozenset[str], query: Query, required: Sequence[str]) -> Attributes:
    """The attributes to return, with the required ones there in any case."""
    if query.everything:
        chosen = dict(attributes)
    else:
        chosen = {key: entry for key, entry in attributes.items() if key in returned or key in query.include}
    for key in required:
        chosen.setdefault(key, {"vr": _VR[key]})
    return chosen


def _value(vr: str, *values: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def _sorted(attributes: Attributes) -> Attributes:
    return dict(sorted(attributes.items()))


class StudyResults:
    """Finished results of studies, so that a worklist that is asked for again and again is not made again.

    Nothing is ever invalidated: the version of what is shown is part of the key.
    """

    def __init__(self, remembered: int = 5000) -> None:
        self._made: OrderedDict[Any, orjson.Fragment] = OrderedDict()
        self._remembered = remembered
        self._lock = threading.Lock()

    def __call__(self, found: FoundStudy, query: Query, root: str) -> orjson.Fragment:
        """A study as a search result, as JSON text."""
        key = (found.version, query.include, query.everything, root)
        with self._lock:
            made = self._made.get(key)
        if made is None:
            made = orjson.Fragment(orjson.dumps(study_result(found, query, root)))
            with self._lock:
                self._made[key] = made
                while len(self._made) > self._remembered:
                    self._made.popitem(last=False)
        return made


def _study_attributes(found: FoundStudy, query: Query, root: str) -> Attributes:
    uid = found.study.study_instance_uid
    chosen = _chosen(overlaid(found.attributes, found.study.truth), STUDY_RETURNED, query, STUDY_REQUIRED)
    return chosen | {
        "00080005": _value("CS", "ISO_IR 192"),
        "00080056": _value("CS", "ONLINE"),
        "00080061": _value("CS", *found.modalities),
        "00081190": _value("UR", f"{root}/studies/{uid}"),
        "0020000D": _value("UI", uid),
        "00201206": _value("IS", found.series_count),
        "00201208": _value("IS", found.instance_count),
    }


def study_result(found: FoundStudy, query: Query, root: str) -> Attributes:
    """A study as a search result."""
    return _sorted(_study_attributes(found, query, root))


def _series_attributes(found: FoundSeries, query: Query, root: str) -> Attributes:
    study = _study_attributes(found.study, query, root)
    laid = overlaid(found.attributes, found.study.study.truth)
    chosen = _chosen(laid, SERIES_RETURNED, query, SERIES_REQUIRED)
    return study | chosen | {
        "00081190": _value("UR", f"{_value_of(study)}/series/{found.series_instance_uid}"),
        "0020000E": _value("UI", found.series_instance_uid),
        "00201209": _value("IS", found.instance_count),
    }  # fmt: skip


def _value_of(attributes: Attributes) -> str:
    return str(attributes["00081190"]["Value"][0])


def series_result(found: FoundSeries, query: Query, root: str) -> Attributes:
    """A series as a search result, with what its study says."""
    return _sorted(_series_attributes(found, query, root))


def instance_result(found: FoundInstance, query: Query, root: str) -> Attributes:
    """An instance as a search result, with what its series and study say."""
    series = _series_attributes(found.series, query, root)
    header = overlaid(orjson.loads(found.header), found.series.study.study.truth)
    own = {key: entry for key, entry in header.items() if "BulkDataURI" not in entry and key not in series}
    chosen = _chosen(own, INSTANCE_RETURNED, query, INSTANCE_REQUIRED)
    return _sorted(
        series | chosen | {
            "00080018": _value("UI", found.sop_instance_uid),
            "00081190": _value("UR", f"{_value_of(series)}/instances/{found.sop_instance_uid}"),
            "00083002": _value("UI", found.transfer_syntax_uid),
        }
    )  # fmt: skip
