"""HL7 v2 times (TS, DTM: v2.5.1 ch. 2A.22) to and from UTC: a time without offset is read in the zone that is given."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Final, Literal

from hilum.core.errors import InvalidInput

_TIME: Final = re.compile(
    r"(?P<year>[0-9]{4})(?:(?P<month>[0-9]{2})(?:(?P<day>[0-9]{2})(?:(?P<hour>[0-9]{2})(?:(?P<minute>[0-9]{2})"
    r"(?:(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]{1,6}))?)?)?)?)?)?"
    r"(?:(?P<sign>[+-])(?P<offset_hours>[0-9]{2})(?P<offset_minutes>[0-9]{2}))?"
)


def timestamp_from_hl7(text: str, zone: tzinfo, *, field: str | None = None) -> datetime:
    """The instant in UTC, the earliest that the precision allows: `2026` is the start of that year.

    An hour that a change of clocks repeats is read as its first passage. Raises InvalidInput that names `field`.
    """
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise InvalidInput("This is not an HL7 date and time.", field=field)
    number = {name: int(digits) for name, digits in found.groupdict("0").items() if name not in ("sign", "fraction")}
    try:
        local = datetime(
            number["year"],
            number["month"] if found["month"] else 1,
            number["day"] if found["day"] else 1,
            number["hour"],
            number["minute"],
            number["second"],
            int((found["fraction"] or "").ljust(6, "0")),
            tzinfo=_offset(found["sign"], number["offset_hours"], number["offset_minutes"]) or zone,
        )
        return local.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidInput("There is no such date and time.", field=field) from None


def _offset(sign: str | None, hours: int, minutes: int) -> tzinfo | None:
    if sign is None:
        return None
    if minutes > 59:
        raise ValueError("an offset has at most 59 minutes")
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if sign == "-" else offset)


def date_from_hl7(text: str, *, field: str | None = None) -> date:
    """The calendar date as written, no zone applied: a birth date is no instant. Raises InvalidInput without a day."""
    found = _TIME.fullmatch(text.strip())
    if found is None or not found["day"]:
        raise InvalidInput("This is not a complete HL7 date.", field=field)
    try:
        return date(int(found["year"]), int(found["month"]), int(found["day"]))
    except ValueError:
        raise InvalidInput("There is no such date.", field=field) from None


def hl7_timestamp(moment: datetime, zone: tzinfo, precision: Literal["second", "millisecond"] = "second") -> str:
    """Writes an instant as local time of `zone` with its offset, as in `20260131235959+0100`."""
    if moment.tzinfo is None:
        raise ValueError("a moment without zone can't be written")
    local = moment.astimezone(zone)
    # Local mean times of the nineteenth century have offsets with seconds, for which HL7 has no place.
    minutes = round((local.utcoffset() or timedelta()).total_seconds() / 60)
    local = local.astimezone(timezone(timedelta(minutes=minutes)))
    text = f"{local.year:04d}{local:%m%d%H%M%S}"
    if precision == "millisecond":
        text += f".{local.microsecond // 1000:03d}"
    sign = "-" if minutes < 0 else "+"
    return f"{text}{sign}{abs(minutes) // 60:02d}{abs(minutes) % 60:02d}"
