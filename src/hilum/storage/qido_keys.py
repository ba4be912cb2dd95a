"""What each matching key of a query on images means in SQL: one table of keyword and condition.

Source: PS3.4 C.2.2.2 (matching), C.6.1.1 (keys of the levels); PS3.18 table 10.6.1-5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from hilum.core.study import MatchState
from hilum.core.text import fold, like_pattern
from hilum.storage import tables
from hilum.storage.shown import instance, order, series, series_is_shown, study, survivor

_member = tables.patient.alias("member")
_holder = tables.patient.alias("holder")
_held = tables.patient_identifier.alias("held")
_inner_series = tables.series.alias("inner_series")
_WILD = frozenset("*?")
Column = sa.ColumnElement[Any]


@dataclass(frozen=True, slots=True)
class Key:
    """A key to match: any of `values`, which may hold `*` and `?`, or a closed range of dates or times.

    An empty `low` or `high` leaves the range open. `fuzzy` matches the words of a name by their beginnings.
    """

    keyword: str
    values: tuple[str, ...] = ()
    low: str = ""
    high: str = ""
    fuzzy: bool = False


Condition = Callable[[Key], sa.ColumnElement[bool]]


def _wild(value: str) -> bool:
    return not _WILD.isdisjoint(value)


def _pattern(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%").replace("?", "_")


def _like(column: Column, pattern: str) -> sa.ColumnElement[bool]:
    return column.like(pattern, escape="\\")


def _exact(column: Column) -> Condition:
    """UIDs: a list of values, no wildcards (PS3.4 C.2.2.2.2)."""
    return lambda key: column.in_(key.values)


def _plain(column: Column) -> Condition:
    def condition(key: Key) -> sa.ColumnElement[bool]:
        return sa.or_(*(_like(column, _pattern(v)) if _wild(v) else column == v for v in key.values))

    return condition


def _folded(column: Column) -> Condition:
    def condition(key: Key) -> sa.ColumnElement[bool]:
        return sa.or_(*(_like(column, like_pattern(v)) if _wild(v) else column == fold(v) for v in key.values))

    return condition


def _name(column: Column, key: Key) -> sa.ColumnElement[bool]:
    """A folded PN: by wildcard as a whole, else by its components from the first; missing ones match anything."""
    return sa.or_(*(_one_name(column, value, key.fuzzy) for value in key.values))


def _one_name(column: Column, value: str, fuzzy: bool) -> sa.ColumnElement[bool]:
    if _wild(value):
        return _like(column, like_pattern(value))
    if fuzzy:
        words = fold(value.replace("^", " ").replace("=", " ").replace(",", " ")).split()
        return sa.and_(*(_begins_word(column, word) for word in words))
    bare = like_pattern("^".join(part or "*" for part in value.strip().rstrip("^").split("^")))
    # The name is the first component group or a later one (ideographic, phonetic; PS3.5 6.2.1.1).
    return sa.or_(
        *(_like(column, before + bare + after) for before in ("", "%=") for after in ("", "^%", "=%", "^%=%"))
    )


def _begins_word(column: Column, word: str) -> sa.ColumnElement[bool]:
    start = _pattern(word)
    return sa.or_(*(_like(column, before + start + "%") for before in ("", "%^", "% ", "%=", "%-")))


def _patient_name(key: Key) -> sa.ColumnElement[bool]:
    received = study.c.patient_name_folded
    # Other scripts of the images are shown where their first group is the registered name.
    same_name = received.like(survivor.c.name_folded + "=%")
    return sa.or_(
        _name(survivor.c.name_folded, key),
        sa.and_(sa.or_(study.c.patient_id.is_(None), survivor.c.name_folded == "", same_name), _name(received, key)),
    )


def patient_is(identifier: Key | None, issuer: Key | None) -> sa.ColumnElement[bool]:
    """The condition that a study's patient has this identifier; an identifier from before a merge finds them too."""
    registered: list[sa.ColumnElement[bool]] = []
    received: list[sa.ColumnElement[bool]] = [study.c.patient_id.is_(None)]
    if identifier is not None:
        registered.append(_plain(_held.c.value)(identifier))
        received.append(_plain(study.c.patient_identifier)(identifier))
    if issuer is not None:
        registered.append(_plain(_held.c.authority)(issuer))
        received.append(_plain(study.c.patient_authority)(issuer))
    survivors = sa.select(_holder.c.survivor_id).join(_held, _held.c.patient_id == _holder.c.id).where(*registered)
    members = sa.select(_member.c.id).where(_member.c.survivor_id.in_(survivors))
    return sa.or_(study.c.patient_id.in_(members), sa.and_(*received))


def _accession_number(key: Key) -> sa.ColumnElement[bool]:
    """The order's number of a verified study, the images' of an unverified one; a contradicted one matches nothing."""
    orders = sa.select(order.c.id).where(_plain(order.c.accession_number)(key)).correlate(None)
    return sa.or_(
        sa.and_(study.c.match_state == MatchState.VERIFIED.value, study.c.order_id.in_(orders)),
        sa.and_(study.c.match_state == MatchState.UNVERIFIED.value, _plain(study.c.accession_number)(key)),
    )


def _range(column: Column) -> Condition:
    """Dates as DICOM writes them, which sort as text."""

    def condition(key: Key) -> sa.ColumnElement[bool]:
        if key.values:
            return _plain(column)(key)
        bounds = [column >= key.low] if key.low else [column != ""]
        return sa.and_(*bounds, *([column <= key.high] if key.high else []))

    return condition


def _time(column: Column) -> Condition:
    """Times, of which either side may leave out minutes, seconds and fractions."""

    def condition(key: Key) -> sa.ColumnElement[bool]:
        if key.values:
            return sa.or_(*(_between(column, value, value) for value in key.values))
        return _between(column, key.low, key.high)

    return condition


def _between(column: Column, low: str, high: str) -> sa.ColumnElement[bool]:
    bounds = [column >= low] if low else [column != ""]
    if high:
        last = high if len(high) > 6 else high + "235959"[len(high) : 6] + ".999999"
        bounds.append(column <= last)
    return sa.and_(*bounds)


def _birth_date(key: Key) -> sa.ColumnElement[bool]:
    received = sa.and_(survivor.c.birth_date.is_(None), _range(study.c.patient_birth_date)(key))
    known = survivor.c.birth_date
    if key.values:
        days = [day for value in key.values if (day := _day(value)) is not None]
        return sa.or_(known.in_(days), received)
    low, high = _day(key.low), _day(key.high)
    bounds = [*([known >= low] if low else []), *([known <= high] if high else [])]
    return sa.or_(sa.and_(known.is_not(None), *bounds), received)


def _day(text: str) -> date | None:
    try:
        return datetime.strptime(text, "%Y%m%d").date()  # a DICOM DA has no zone
    except ValueError:
        return None


def _sex(key: Key) -> sa.ColumnElement[bool]:
    shown = sa.case((sa.func.coalesce(survivor.c.sex, "") != "", survivor.c.sex), else_=study.c.patient_sex)
    return _plain(shown)(key)


def _modalities(key: Key) -> sa.ColumnElement[bool]:
    theirs = sa.select(sa.literal(1)).where(
        _inner_series.c.study_id == study.c.id, series_is_shown(_inner_series), _plain(_inner_series.c.modality)(key)
    )
    return theirs.correlate(study).exists()


def _number(column: Column) -> Condition:
    def condition(key: Key) -> sa.ColumnElement[bool]:
        return column.in_([int(v) for v in key.values if v.strip().lstrip("+-").isdecimal() and len(v) < 11])

    return condition


def _text_name(column: Column) -> Condition:
    return lambda key: _name(column, key)


STUDY_CONDITIONS: dict[str, Condition] = {
    "StudyInstanceUID": _exact(study.c.study_instance_uid),
    "StudyDate": _range(study.c.study_date),
    "StudyTime": _time(study.c.study_time),
    "StudyID": _plain(study.c.study_identifier),
    "StudyDescription": _folded(study.c.description_folded),
    "ReferringPhysicianName": _text_name(study.c.referring_physician_folded),
    "AccessionNumber": _accession_number,
    "ModalitiesInStudy": _modalities,
    "PatientName": _patient_name,
    "PatientBirthDate": _birth_date,
    "PatientSex": _sex,
}
SERIES_CONDITIONS: dict[str, Condition] = {
    "SeriesInstanceUID": _exact(series.c.series_instance_uid),
    "Modality": _plain(series.c.modality),
    "SeriesNumber": _number(series.c.number),
    "SeriesDescription": _folded(series.c.description_folded),
    "SeriesDate": _range(series.c.series_date),
    "SeriesTime": _time(series.c.series_time),
    "BodyPartExamined": _plain(series.c.body_part),
    "StationName": _plain(series.c.station_name),
}
INSTANCE_CONDITIONS: dict[str, Condition] = {
    "SOPInstanceUID": _exact(instance.c.sop_instance_uid),
    "SOPClassUID": _exact(instance.c.sop_class_uid),
    "InstanceNumber": _number(instance.c.number),
    "Rows": _number(instance.c.rows),
    "Columns": _number(instance.c.columns),
    "NumberOfFrames": _number(instance.c.frames),
}
CONDITIONS = STUDY_CONDITIONS | SERIES_CONDITIONS | INSTANCE_CONDITIONS

# Identifier and issuer have one condition between them (`patient_is`).
STUDY_KEYS = frozenset(STUDY_CONDITIONS) | {"PatientID", "IssuerOfPatientID"}
SERIES_KEYS = STUDY_KEYS | frozenset(SERIES_CONDITIONS)
INSTANCE_KEYS = SERIES_KEYS | frozenset(INSTANCE_CONDITIONS)
