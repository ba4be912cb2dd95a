"""Times as people read them: the facility's zone, relative ages, durations. Everything inside stays UTC-aware."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

MINUTE, HOUR, DAY = 60, 3600, 86_400


def in_zone(moment: datetime, zone: ZoneInfo) -> datetime:
    """`moment` on the facility's clock; a naive time is a defect of the caller, not a guess for us."""
    if moment.tzinfo is None:
        raise ValueError("pages take aware times only")
    return moment.astimezone(zone)


def clock(moment: datetime, zone: ZoneInfo) -> str:
    return in_zone(moment, zone).strftime("%H:%M:%S")


def moment_text(moment: datetime, zone: ZoneInfo, now: datetime) -> str:
    """The time alone if it is today, else the date with it."""
    local = in_zone(moment, zone)
    if local.date() == in_zone(now, zone).date():
        return local.strftime("%H:%M")
    return local.strftime("%Y-%m-%d %H:%M")


def full_text(moment: datetime, zone: ZoneInfo) -> str:
    return in_zone(moment, zone).strftime("%Y-%m-%d %H:%M:%S %Z")


def duration_text(span: timedelta) -> str:
    """Two units at most: `840 ms`, `12 s`, `4 min`, `3 h 12 min`, `2 d 5 h`."""
    seconds = abs(span.total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    if seconds < HOUR:
        return f"{seconds // MINUTE:.0f} min"
    if seconds < DAY:
        hours, minutes = divmod(int(seconds) // MINUTE, 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(int(seconds) // HOUR, 24)
    return f"{days} d {hours} h" if hours and days < 7 else f"{days} d"


def ago_text(moment: datetime, now: datetime) -> str:
    """How long ago in the largest unit of which two have passed: `14 months ago`, not `1 year ago`."""
    days = (now - moment).days
    if days < 1:
        return f"{duration_text(now - moment)} ago"
    for unit, length in (("years", 365.25), ("months", 30.44), ("weeks", 7.0), ("days", 1.0)):
        if (count := int(days / length)) >= 2:
            return f"{count} {unit} ago"
    return "1 day ago"


def age_text(born: date | None, today: date) -> str:
    """The patient's age as radiology writes it: days and weeks for the newborn, months for infants, else years."""
    if born is None or born > today:
        return ""
    days = (today - born).days
    if days < 28:
        return f"{days} d"
    months = (today.year - born.year) * 12 + today.month - born.month - (today.day < born.day)
    if months < 3:
        return f"{days // 7} wk"
    return f"{months} mo" if months < 24 else f"{months // 12} y"
