"""The query of a QIDO-RS request, read into keys, fields to include and a page (PS3.18 8.3.4, 10.6.1).

An attribute that no dictionary knows is refused by name; one that is known but can't be matched is named in a warning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

from hilum.core.errors import InvalidInput
from hilum.dicom.web.beyond import Beyond
from hilum.storage.qido import INSTANCE_KEYS, SERIES_KEYS, STUDY_KEYS, Key, Page

MATCHABLE = {"study": STUDY_KEYS, "series": SERIES_KEYS, "instance": INSTANCE_KEYS}
DEFAULT_LIMIT = {"study": 1000, "series": 1000, "instance": 5000}
LARGEST_LIMIT = 5000
MAX_VALUE = 1024
MAX_VALUES = 1000
MAX_PARAMETERS = 200
# PS3.18 8.3.4.6 and 8.3.4.7: what they would change is not changed here, which is said in a Warning.
OPTIONS = ("emptyvaluematching", "multiplevaluematching")
CONTROL = frozenset({"limit", "offset", "cursor", "fuzzymatching", "includefield", "accept", "charset", *OPTIONS})
_CURSOR = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
# Several values, by comma or backslash: UIDs (PS3.4 C.2.2.2.2) and the codes that clients send so.
_LISTS = frozenset({"UI", "CS", "IS", "US"})
_RANGES = frozenset({"DA", "TM"})
_TAG = re.compile(r"[0-9A-Fa-f]{8}\Z")
_NAME = re.compile(r"[A-Za-z0-9.]{1,128}\Z")
_DATE = re.compile(r"[0-9]{8}\Z")
_TIME = re.compile(r"[0-9]{2}(?:[0-9]{2}(?:[0-9]{2}(?:\.[0-9]{1,6})?)?)?\Z")


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for: keys of the index and those beyond it, and tags to return besides the usual ones.

    `ignored` are options of the standard that are not obeyed.
    """

    keys: tuple[Key, ...]
    page: Page
    include: frozenset[str] = frozenset()
    everything: bool = False
    beyond: tuple[Beyond, ...] = field(default=())
    ignored: tuple[str, ...] = field(default=())


def read_query(parameters: Iterable[tuple[str, str]], level: str) -> Query:
    """Read the parameters of a request for a level. Raises InvalidInput with the name of what is wrong."""
    given: dict[str, list[str]] = {}
    for number, (name, value) in enumerate(parameters):
        if number >= MAX_PARAMETERS:
            raise InvalidInput("The query has more parameters than are taken.")
        given.setdefault(name, []).append(value)
    fuzzy = given.get("fuzzymatching", ["false"])[-1].lower() == "true"
    include, everything = _included(given.get("includefield", []))
    keys: list[Key] = []
    beyond: list[Beyond] = []
    for name, values in given.items():
        if name in CONTROL:
            continue
        tags = tags_of(name)
        include.add(tags[0])
        if not any(values):
            continue
        keyword = keyword_for_tag(tags[0])
        if len(tags) > 1 or keyword not in MATCHABLE[level]:
            beyond.append(read_beyond(tags, values))
        elif (key := read_key(keyword, values, fuzzy)) is not None:
            keys.append(key)
    ignored = tuple(name for name in OPTIONS if given.get(name, ["false"])[-1].lower() not in ("false", ""))
    return Query(tuple(keys), _page(given, level), frozenset(include), everything, tuple(beyond), ignored)


def _page(given: dict[str, list[str]], level: str) -> Page:
    limit = min(_number(given, "limit", DEFAULT_LIMIT[level]), LARGEST_LIMIT)
    after = given.get("cursor", [""])[-1]
    if after and (level != "study" or not _CURSOR.match(after)):
        raise InvalidInput("cursor is none that a list of studies has given.", field="cursor")
    return Page(limit, _number(given, "offset", 0), after)


def read_beyond(tags: list[str], values: list[str]) -> Beyond:
    """A key that the index has no column for. Raises InvalidInput with its name."""
    name = ".".join(keyword_for_tag(tag) for tag in tags)
    if any(len(value) > MAX_VALUE for value in values):
        raise InvalidInput(f"The value of {name} is too long.", field=name)
    if dictionary_VR(int(tags[-1], 16)) in _LISTS:
        values = [part.strip() for value in values for part in re.split(r"[\\,]", value) if part.strip()]
    if len(values) > MAX_VALUES:
        raise InvalidInput(f"{name} has more values than are taken.", field=name)
    return Beyond(tuple(tags), tuple(value.strip() for value in values))


def tags_of(name: str) -> list[str]:
    """The tags that an attribute's name means: a keyword or eight hexadecimal digits, dots between sequence and item.

    Raises InvalidInput with the name when no dictionary knows it.
    """
    tags: list[str] = []
    for part in name.split("."):
        number = int(part, 16) if _TAG.match(part) else tag_for_keyword(part)
        if number is None or not keyword_for_tag(number):
            shown = name if _NAME.match(name) else "one of its parameters"
            raise InvalidInput(f"There is no DICOM attribute {shown}.", field=shown)
        tags.append(f"{int(number):08X}")
    return tags


def read_key(keyword: str, values: list[str], fuzzy: bool) -> Key | None:
    """A matching key; None where `*` alone matches everything. Raises InvalidInput with the keyword."""
    vr = dictionary_VR(keyword)
    if any(len(value) > MAX_VALUE * (64 if vr == "UI" else 1) for value in values):
        raise InvalidInput(f"The value of {keyword} is too long.", field=keyword)
    if vr in _LISTS:
        values = [part.strip() for value in values for part in re.split(r"[\\,]", value) if part.strip()]
        if len(values) > MAX_VALUES:
            raise InvalidInput(f"{keyword} has more values than are taken.", field=keyword)
        if vr == "UI" and not all(re.fullmatch(r"[0-9.]{1,64}", value) for value in values):
            raise InvalidInput(f"{keyword} is not a UID.", field=keyword)
        return Key(keyword, tuple(values)) if values and "*" not in values else None
    if len(values) > 1:
        raise InvalidInput(f"{keyword} is given more than once.", field=keyword)
    value = values[0].strip()
    if vr in _RANGES:
        return _range(keyword, value, _DATE if vr == "DA" else _TIME)
    if not value.strip("*"):
        return None
    return Key(keyword, (value,), fuzzy=fuzzy and vr == "PN")


def _range(keyword: str, value: str, form: re.Pattern[str]) -> Key | None:
    """A date or time, or a range of them (PS3.4 C.2.2.2.5); `2026-01-31` and `10:15` are read too."""
    if value.strip("*") == "":
        return None
    plain = value.replace(":", "")
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", plain):
        plain = plain.replace("-", "")
    low, dash, high = (part.strip() for part in plain.partition("-"))
    if not all(form.match(bound) for bound in (low, high) if bound) or not (low or high):
        raise InvalidInput(f"The value of {keyword} is no date, time or range.", field=keyword)
    return Key(keyword, low=low, high=high) if dash else Key(keyword, (low,))


def _included(values: list[str]) -> tuple[set[str], bool]:
    names = [name.strip() for value in values for name in value.split(",") if name.strip()]
    everything = any(name.lower() == "all" for name in names)
    return {_include_tag(name) for name in names if name.lower() != "all"}, everything


def _include_tag(name: str) -> str:
    """A tag to return; private ones are no mistake here, they are only rarely there."""
    return name.upper() if _TAG.match(name) else tags_of(name)[0]


def _number(given: dict[str, list[str]], name: str, otherwise: int) -> int:
    values = given.get(name)
    if not values:
        return otherwise
    if not re.fullmatch(r"[0-9]{1,9}", values[-1]):
        raise InvalidInput(f"{name} is not a number from 0 on.", field=name)
    return int(values[-1])
