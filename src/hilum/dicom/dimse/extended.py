"""What a requestor may agree on with us beyond contexts: SOP class extended negotiation (PS3.4 C.5.3.1, C.5.2.1).

Each byte of the application information is one ability, answered by 1 where it was asked for and is there. What is not
agreed on stays as the base standard has it: hierarchical, dates and times apart, names as written, times as stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, tzinfo
from datetime import time as time_of_day
from typing import Any

from hilum.core.errors import InvalidInput
from hilum.dicom.callers import offset_of
from hilum.dicom.dimse.dispatch import AssociationContext
from hilum.dicom.identifier import Keys
from hilum.dicom.matching import date_of, moments, span_of, time_of
from hilum.storage import qido

# Relational queries, combined matching of date and time, fuzzy names, time zone adjustment; no multi-frame conversion.
FIND_ABILITIES = bytes((1, 1, 1, 1, 0))
# Of the worklist: dates with times, as always there, and time zone adjustment (PS3.4 K.4.1).
WORKLIST_ABILITIES = bytes((0, 1, 0, 1, 0))
# Relational retrieve; no multi-frame conversion.
RETRIEVE_ABILITIES = bytes((1, 0))
_DATE, _TIME, _OFFSET = "StudyDate", "StudyTime", "TimezoneOffsetFromUTC"


@dataclass(frozen=True, slots=True)
class Abilities:
    """What was agreed on for a context."""

    relational: bool = False
    date_time: bool = False
    fuzzy: bool = False
    timezone: bool = False


def find_abilities(sop_class_uid: str, asked: bytes) -> bytes:
    """Answer the application information of a query."""
    return _answer(asked, FIND_ABILITIES)


def worklist_abilities(sop_class_uid: str, asked: bytes) -> bytes:
    """Answer the application information of a worklist query."""
    return _answer(asked, WORKLIST_ABILITIES)


def retrieve_abilities(sop_class_uid: str, asked: bytes) -> bytes:
    """Answer the application information of a retrieve."""
    return _answer(asked, RETRIEVE_ABILITIES)


def _answer(asked: bytes, abilities: bytes) -> bytes:
    return bytes(min(wish, 1) & ability for wish, ability in zip(asked, abilities, strict=False))


def agreed(context: AssociationContext) -> Abilities:
    """Return what was agreed on for the SOP class of a context."""
    said = context.extended.get(context.abstract_syntax, b"").ljust(4, b"\0")
    return Abilities(*(bool(each) for each in said[:4]))


@dataclass(frozen=True, slots=True)
class StudyMoments:
    """Study date and time of a query as one span of time, and the zone in which they are asked for and answered.

    `ours` is the zone of studies whose images name none; `asked` is None where dates and times stay as stored.
    """

    first: datetime | None
    last: datetime | None
    ours: tzinfo
    asked: tzinfo | None
    combined: bool

    def keys(self, wanted: list[qido.Key]) -> list[qido.Key]:
        """The keys for SQL: days that may hold the span, however they were written."""
        others = [key for key in wanted if key.keyword not in (_DATE, _TIME)]
        spare = timedelta(days=1 if self.asked else 0)
        low = (self.first - spare).strftime("%Y%m%d") if self.first else ""
        high = (self.last + spare).strftime("%Y%m%d") if self.last else ""
        return [*others, qido.Key(_DATE, low=low, high=high)] if low or high else others

    def placed(self, values: dict[str, Any]) -> dict[str, Any] | None:
        """The values of a match in the zone that was asked for; None where it is outside of the span."""
        day, moment = _moment(values)
        if day is None:
            return None if self.first or self.last else values
        if moment is None:
            starts, ends = datetime.combine(day, time_of_day.min), datetime.combine(day, time_of_day.max)
            return values if self._meets(starts, ends) else None
        if self.asked is None:
            return values if self._meets(moment, moment) else None
        said = offset_of(_text(values.get(_OFFSET))) or self.ours
        local = moment.replace(tzinfo=said).astimezone(self.asked).replace(tzinfo=None)
        if not self._meets(local, local):
            return None
        written = _text(values.get(_TIME))
        at = local.strftime("%H%M%S") + ("." + written.partition(".")[2] if "." in written else "")
        return {**values, _DATE: [local.strftime("%Y%m%d")], _TIME: [at], _OFFSET: [_written(self.asked, local)]}

    def _meets(self, starts: datetime, ends: datetime) -> bool:
        return (self.first is None or ends >= self.first) and (self.last is None or starts <= self.last)


def asked_zone(keys: Keys, abilities: Abilities) -> tzinfo | None:
    """Return the zone of dates and times of a query; None where none was agreed on. Raises InvalidInput."""
    offset = keys.text(_OFFSET)
    if not abilities.timezone or not offset:
        return None
    zone = offset_of(offset)
    if zone is None:
        raise InvalidInput("The offset is not of the form +HHMM.", field=_OFFSET)
    return zone


def study_moments(keys: Keys, abilities: Abilities, ours: tzinfo) -> StudyMoments | None:
    """Read what a query says of date and time together; None where they are matched apart, as stored.

    Raises InvalidInput for malformed dates, times and offsets.
    """
    date_text, time_text = keys.text(_DATE), keys.text(_TIME)
    asked = asked_zone(keys, abilities)
    combined = abilities.date_time and bool(date_text) and bool(time_text)
    if asked is None and not combined:
        return None
    first = last = None
    if date_text:
        hours = span_of(time_text) if time_text and (combined or asked) else None
        first, last = moments(span_of(date_text), hours, _DATE, _TIME)
    return StudyMoments(first, last, ours, asked, combined)


def fuzzily(wanted: list[qido.Key]) -> list[qido.Key]:
    """Names of keys matched by the beginnings of their words, in any order (PS3.4 C.2.2.2.1.1)."""
    return [replace(key, fuzzy=True) if key.keyword.endswith("Name") else key for key in wanted]


def _moment(values: dict[str, Any]) -> tuple[date | None, datetime | None]:
    try:
        day = date_of(_text(values.get(_DATE)), _DATE)
    except InvalidInput:
        return None, None
    try:
        return day, datetime.combine(day, time_of(_text(values.get(_TIME)), _TIME))
    except InvalidInput:
        return day, None


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return str(value[0]) if value else ""
    return str(value or "")


def _written(zone: tzinfo, local: datetime) -> str:
    return local.replace(tzinfo=zone).strftime("%z")
