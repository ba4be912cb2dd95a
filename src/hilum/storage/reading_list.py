"""The reading worklist: which exams wait, most pressing first, paged by key along an index.

A list is a row of bands (STAT, urgent, routine), each served by one or two sources that are walked in the order of
their index and merged. Studies without an order stand in the routine band, since nothing says how urgent they are.
Counts stop at `COUNTED`, so that a list's tabs cost the same in a year as today.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from heapq import merge
from itertools import islice
from typing import Any, Literal

import sqlalchemy as sa

from hilum.core.errors import InvalidInput
from hilum.core.order import OrderStatus, Priority
from hilum.core.report import ReportStatus
from hilum.core.scope import Scope
from hilum.core.study import MatchState
from hilum.core.text import fold, like_pattern
from hilum.storage import tables
from hilum.storage.scoping import patient_in_scope
from hilum.storage.unread import REPORTED

COUNTED = 1000
MAXIMUM_WORDS = 6
BANDS = (Priority.STAT, Priority.URGENT, Priority.ROUTINE)

_order, _study, _report, _patient = tables.imaging_order, tables.study, tables.report, tables.patient

Kind = Literal["order", "study"]


class Listing(StrEnum):
    """Which exams are listed."""

    WAITING = "waiting"
    PRELIMINARY = "preliminary"
    UNVERIFIED = "unverified"
    SCHEDULED = "scheduled"
    REPORTED = "reported"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for; `patient_id` limits to one person, also through merges."""

    listing: Listing = Listing.WAITING
    text: str = ""
    modality: str = ""
    patient_id: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """The place of a row in its list."""

    band: int
    at: datetime | None
    id: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the list: an order, or a study without one."""

    key: Key
    kind: Kind


@dataclass(frozen=True, slots=True)
class _Source:
    band: int
    kind: Kind
    id: sa.ColumnElement[str]
    at: sa.ColumnElement[datetime] | None
    joined: sa.FromClause
    where: tuple[sa.ColumnElement[bool], ...]
    sort_id: sa.ColumnElement[str] | None = None


def reading_page(
    connection: sa.Connection,
    scope: Scope,
    wanted: Wanted,
    limit: int,
    *,
    after: Key | None = None,
    before: Key | None = None,
) -> tuple[list[Entry], bool]:
    """Return up to `limit` entries after (or before) a key, in the order of the list, and whether there are more."""
    newest_first = wanted.listing in (Listing.REPORTED, Listing.ALL)
    backwards = before is not None
    start = before or after
    bands = sorted({source.band for source in _sources(wanted, scope)}, reverse=backwards)
    found: list[Entry] = []
    for band in bands:
        if start is not None and (band > start.band if backwards else band < start.band):
            continue
        within = start if start is not None and band == start.band else None
        sources = [source for source in _sources(wanted, scope) if source.band == band]
        descending = newest_first != backwards
        walks = [_walk(connection, source, within, descending, limit + 1) for source in sources]
        found += islice(merge(*walks, key=lambda entry: entry.key, reverse=descending), limit + 1 - len(found))
        if len(found) > limit:
            break
    page = found[:limit]
    return (page[::-1] if backwards else page), len(found) > limit


def reading_counts(connection: sa.Connection, scope: Scope, wanted: Wanted, listings: Sequence[Listing]) -> list[int]:
    """Return how many rows each listing has under the same filter, and last how many STAT exams wait, in one query."""
    columns = []
    for listing in listings:
        sources = _sources(Wanted(listing, wanted.text, wanted.modality, wanted.patient_id), scope)
        columns.append(_counted(sources))
    waiting = _sources(Wanted(Listing.WAITING, wanted.text, wanted.modality, wanted.patient_id), scope)
    columns.append(_counted([source for source in waiting if source.band == 0]))
    return [int(count) for count in connection.execute(sa.select(*columns)).one()]


def _counted(sources: Sequence[_Source]) -> sa.ColumnElement[int]:
    counts = [
        sa.select(sa.func.count())
        .select_from(sa.select(source.id).select_from(source.joined).where(*source.where).limit(COUNTED).subquery())
        .scalar_subquery()
        for source in sources
    ]
    total: sa.ColumnElement[Any] = sa.literal(0)
    for count in counts:
        total = total + count
    return total


def _walk(
    connection: sa.Connection, source: _Source, start: Key | None, descending: bool, limit: int
) -> Iterator[Entry]:
    sort_id = source.id if source.sort_id is None else source.sort_id
    columns: list[sa.ColumnElement[Any]] = [sort_id] if source.at is None else [source.at, sort_id]
    query = sa.select(source.id.label("id"), (sa.null() if source.at is None else source.at).label("at"))
    query = query.select_from(source.joined).where(*source.where)
    if start is not None:
        if (start.at is None) != (source.at is None):
            raise InvalidInput("There is no such page of the list.", field="cursor")
        values: list[Any] = [start.id] if start.at is None else [start.at, start.id]
        place = (
            sa.tuple_(*columns),
            sa.tuple_(*(sa.literal(value, column.type) for value, column in zip(values, columns, strict=True))),
        )
        query = query.where(place[0] < place[1] if descending else place[0] > place[1])
    query = query.order_by(*(column.desc() if descending else column.asc() for column in columns)).limit(limit)
    for row in connection.execute(query).all():
        yield Entry(Key(source.band, row.at, row.id), source.kind)


def _sources(wanted: Wanted, scope: Scope) -> list[_Source]:
    """Where each listing's rows come from; each source is walked along one index."""
    orders, studies = _order_filter(wanted, scope), _study_filter(wanted, scope)
    unread = _order.c.unread_since.is_not(None)
    match wanted.listing:
        case Listing.WAITING:
            bands = [_band(band, _order.c.unread_since, (unread, *orders)) for band in range(len(BANDS))]
            return [*bands, _studies(2, studies)]
        case Listing.PRELIMINARY:
            preliminary = _order.c.id.in_(
                sa.select(_report.c.order_id).where(_report.c.status == ReportStatus.PRELIMINARY.value)
            )
            return [_band(band, _order.c.unread_since, (unread, preliminary, *orders)) for band in range(len(BANDS))]
        case Listing.UNVERIFIED:
            return [_studies(0, studies)]
        case Listing.SCHEDULED:
            scheduled = _order.c.status == OrderStatus.SCHEDULED.value
            return [_band(band, None, (scheduled, *orders)) for band in range(len(BANDS))]
        case Listing.REPORTED:
            reported = _report.c.status.in_(sorted(status.value for status in REPORTED))
            joined = _report.join(_order, _order.c.id == _report.c.order_id)
            where = (reported, *orders)
            return [_Source(0, "order", _order.c.id, _report.c.updated_at, joined, where, _report.c.order_id)]
        case Listing.ALL:
            return [
                _Source(0, "order", _order.c.id, None, _order, tuple(orders)),
                _Source(0, "study", _study.c.id, None, _study, tuple(studies)),
            ]


def _band(band: int, at: sa.Column[datetime] | None, where: tuple[sa.ColumnElement[bool], ...]) -> _Source:
    return _Source(band, "order", _order.c.id, at, _order, (_order.c.priority == BANDS[band].value, *where))


def _studies(band: int, where: Sequence[sa.ColumnElement[bool]]) -> _Source:
    return _Source(band, "study", _study.c.id, _study.c.first_received_at, _study, tuple(where))


def _order_filter(wanted: Wanted, scope: Scope) -> list[sa.ColumnElement[bool]]:
    where = [patient_in_scope(scope, _order.c.patient_id)]
    if wanted.modality:
        where.append(_order.c.modality == wanted.modality)
    if wanted.patient_id:
        where.append(_order.c.patient_id.in_(_family(wanted.patient_id)))
    return where + order_has_words(wanted.text)


def _study_filter(wanted: Wanted, scope: Scope) -> list[sa.ColumnElement[bool]]:
    """Studies without an order that a person has not set aside; a contradicting accession number is not searched."""
    item = tables.exception_item
    where = [
        _study.c.order_id.is_(None),
        _study.c.match_state.in_([MatchState.UNVERIFIED.value, MatchState.CONFLICT.value]),
        sa.exists().where(item.c.study_id == _study.c.id, item.c.resolved_at.is_(None)),
        patient_in_scope(scope, _study.c.patient_id),
    ]
    if wanted.modality:
        where.append(_study.c.modalities.contains(wanted.modality, autoescape=True))
    if wanted.patient_id:
        where.append(_study.c.patient_id.in_(_family(wanted.patient_id)))
    return where + [_study_has(word) for word in _words(wanted.text)]


def _family(patient_id: str) -> sa.Select[tuple[str]]:
    one, other = _patient.alias(), _patient.alias()
    survivor = sa.select(one.c.survivor_id).where(one.c.id == patient_id).scalar_subquery()
    return sa.select(other.c.id).where(other.c.survivor_id == survivor)


def _words(text: str) -> list[str]:
    return [word for word in fold(text.replace(",", " ").replace("^", " ")).split() if word][:MAXIMUM_WORDS]


def order_has_words(text: str) -> list[sa.ColumnElement[bool]]:
    """Return the conditions under which an order has each word of a text; none for a text without words."""
    return [_order_has(word) for word in _words(text)]


def _order_has(word: str) -> sa.ColumnElement[bool]:
    """Tell whether the surviving patient's name, an identifier of theirs, accession number or procedure has a word."""
    inside, start = f"%{like_pattern(word)}%", f"{like_pattern(word)}%"
    identifier = tables.patient_identifier
    own, survivor, member = _patient.alias(), _patient.alias(), _patient.alias()
    return sa.or_(
        sa.exists().where(
            own.c.id == _order.c.patient_id,
            survivor.c.id == own.c.survivor_id,
            survivor.c.name_folded.like(inside, escape="\\"),
        ),
        sa.func.lower(_order.c.accession_number).like(start, escape="\\"),
        sa.func.lower(_order.c.procedure_meaning).like(inside, escape="\\"),
        sa.exists().where(
            own.c.id == _order.c.patient_id,
            member.c.survivor_id == own.c.survivor_id,
            identifier.c.patient_id == member.c.id,
            sa.func.lower(identifier.c.value).like(start, escape="\\"),
        ),
    )


def _study_has(word: str) -> sa.ColumnElement[bool]:
    inside, start = f"%{like_pattern(word)}%", f"{like_pattern(word)}%"
    unverified = _study.c.match_state == MatchState.UNVERIFIED.value
    return sa.or_(
        _study.c.patient_name_folded.like(inside, escape="\\"),
        sa.func.lower(_study.c.patient_identifier).like(start, escape="\\"),
        _study.c.description_folded.like(inside, escape="\\"),
        sa.and_(unverified, sa.func.lower(_study.c.accession_number).like(start, escape="\\")),
    )
