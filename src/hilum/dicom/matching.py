"""Attribute matching of PS3.4 C.2.2.2: single value, wildcard, range, list of UIDs, sequence; empty keys match all.

Texts are compared without case and accents, identifiers as they are. What SQL has matched already need not come here;
what comes here is matched against the values that the peer will be shown.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Any

from hilum.core.errors import InvalidInput
from hilum.core.text import fold
from hilum.dicom.encode import tag_and_vr
from hilum.dicom.identifier import Keys

# PS3.4 C.2.2.2.4: the representations in which * and ? are wildcards.
_WITH_WILDCARDS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
# Compared letter by letter: case may be the only difference between two of them.
IDENTIFIERS = frozenset(
    {
        "AccessionNumber", "AdmissionID", "FillerOrderNumberImagingServiceRequest", "IssuerOfPatientID", "PatientID",
        "PlacerOrderNumberImagingServiceRequest", "RequestedProcedureID", "ScheduledProcedureStepID",
        "ScheduledStationAETitle", "StudyID",
    }
)  # fmt: skip
_LONGEST_PATTERN = 1024
# What a database does with many of them grows with every further one.
_MOST_WILDCARDS = 12
_DATE = re.compile(r"(\d{4})[.:]?(\d{2})[.:]?(\d{2})\Z")
_TIME = re.compile(r"(\d{2}):?(?:(\d{2}):?(?:(\d{2})(?:\.(\d{1,6}))?)?)?\Z")


@dataclass(frozen=True, slots=True)
class Span:
    """A range of a DICOM date or time key; None is open."""

    first: str | None
    last: str | None


def span_of(text: str) -> Span:
    """Return the ends of "A-B", "A-", "-B" or "A" as they stand."""
    first, dash, last = text.strip().partition("-")
    first, last = first.strip(), last.strip()
    if not dash:
        return Span(first, first)
    return Span(first or None, last or None)


def date_of(text: str, keyword: str) -> date:
    """Read a DA. Raises InvalidInput."""
    if match := _DATE.match(text):
        try:
            return date(*(int(part) for part in match.groups()))
        except ValueError:
            pass
    raise InvalidInput("A date is not of the form YYYYMMDD.", field=keyword)


def time_of(text: str, keyword: str, *, latest: bool = False) -> time:
    """Read a TM; what it leaves out counts as zero, or as the greatest possible with `latest`. Raises InvalidInput."""
    match = _TIME.match(text)
    if match is None:
        raise InvalidInput("A time is not of the form HHMMSS.", field=keyword)
    hour, minute, second, fraction = match.groups()
    spare = ("59", "59", "999999") if latest else ("00", "00", "000000")
    micro = fraction.ljust(6, "9" if latest else "0") if fraction else (spare[2] if latest else "000000")
    try:
        # 60 seconds are a leap second, which Python's clock does not have.
        return time(int(hour), int(minute or spare[0]), min(59, int(second or spare[1])), int(micro))
    except ValueError:
        raise InvalidInput("A time is not of the form HHMMSS.", field=keyword) from None


def check_wildcards(keyword: str, text: str) -> str:
    """Return a pattern that is short enough to be matched, runs of `*` as one. Raises InvalidInput."""
    if len(text) > _LONGEST_PATTERN:
        raise InvalidInput("A key is longer than its value can be.", field=keyword)
    text = re.sub(r"\*+", "*", text)
    if text.count("*") > _MOST_WILDCARDS:
        raise InvalidInput("A key has more wildcards than are matched.", field=keyword)
    return text


def patterns(keys: Keys, keyword: str) -> tuple[str, ...]:
    """Return the values of a key for SQL to match; none where one of them is `*` alone. Raises InvalidInput."""
    found = keys.texts(keyword)
    return () if any(not text.strip("*") for text in found) else tuple(check_wildcards(keyword, text) for text in found)


def name_patterns(keys: Keys, keyword: str) -> tuple[str, ...]:
    """Return the component groups of a name key, of which one has to match. Raises InvalidInput."""
    groups = [group for name in patterns(keys, keyword) for group in name.split("=") if group]
    return () if any(not group.strip("*") for group in groups) else tuple(groups)


def matches(keys: Keys, values: Mapping[str, Any], *, without: Iterable[str] = ()) -> bool:
    """Tell whether an answer has what every key asks for; keys it does not know, and `without`, match all."""
    passed = frozenset(without)
    return all(
        keyword in passed or keyword not in values or _attribute(keys, keyword, values[keyword])
        for keyword in keys.keywords
    )


def _attribute(keys: Keys, keyword: str, value: Any) -> bool:
    vr = tag_and_vr(keyword)[1]
    if vr == "SQ":
        inner = keys.item(keyword)
        return not _asks(inner) or any(matches(inner, item) for item in value)
    asked = keys.texts(keyword)
    if not asked:
        return True
    held = [str(each) for each in (value if isinstance(value, list | tuple) else (value,)) if each not in (None, "")]
    return any(_value(keyword, vr, pattern, each) for pattern in asked for each in held)


def _asks(keys: Keys) -> bool:
    return any(keys.texts(keyword) or any(map(_asks, keys.items(keyword))) for keyword in keys.keywords)


def _value(keyword: str, vr: str, pattern: str, value: str) -> bool:
    if vr == "DA":
        return _within(value, span_of(pattern), lambda text, last: date_of(text, keyword))
    if vr == "TM":
        return _within(value, span_of(pattern), lambda text, last: time_of(text, keyword, latest=last))
    if vr == "PN":
        return any(_name(keyword, part, held) for part in pattern.split("=") if part for held in value.split("="))
    if vr in _WITH_WILDCARDS:
        return _text(keyword, pattern, value)
    return pattern == value


def _within(value: str, span: Span, read: Any) -> bool:
    """Whether a date or a time lies in a range; a value that is none is in no range."""
    first = read(span.first, False) if span.first else None
    last = read(span.last, True) if span.last else None
    try:
        held = read(value, False)
    except InvalidInput:
        return False
    return (first is None or first <= held) and (last is None or held <= last)


def _name(keyword: str, pattern: str, value: str) -> bool:
    """A component group of a name: by wildcard as a whole, else by components, of which missing ones match all."""
    if set("*?") & set(pattern):
        return _text(keyword, pattern, value)
    asked, held = fold(pattern).split("^"), fold(value).split("^")
    held += [""] * (len(asked) - len(held))
    return all(not part.strip() or part.strip() == each.strip() for part, each in zip(asked, held, strict=False))


def _text(keyword: str, pattern: str, value: str) -> bool:
    exact = keyword in IDENTIFIERS
    return _pattern(check_wildcards(keyword, pattern), exact).match(value if exact else fold(value)) is not None


@lru_cache(maxsize=512)
def _pattern(pattern: str, exact: bool) -> re.Pattern[str]:
    folded = (pattern if exact else fold(pattern)).replace("[", "[[]")
    return re.compile(fnmatch.translate(folded), re.DOTALL)


def moments(day: Span, hours: Span | None, date_keyword: str, time_keyword: str) -> tuple[datetime | None, ...]:
    """Return first and last local moment of date and time keys taken together (PS3.4 table K.6-1, remark).

    The first is included, the last too. Without a date the time says nothing of a moment.
    """
    first = last = None
    if day.first:
        start = time_of(hours.first, time_keyword) if hours and hours.first else time.min
        first = datetime.combine(date_of(day.first, date_keyword), start)
    if day.last:
        end = time_of(hours.last, time_keyword, latest=True) if hours and hours.last else time.max
        last = datetime.combine(date_of(day.last, date_keyword), end)
    if first and last and last < first:
        last = first - timedelta(microseconds=1)
    return first, last
