"""Lists of studies, series and instances as QIDO-RS and C-FIND ask for them: matching, scope and truth in SQL.

A key matches what is shown: the patient and accession number that are known to be true, not what the images say.
Names and descriptions are matched without case and accents. Source: PS3.4 C.2.2.2; PS3.18 10.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa

from hilum.core.errors import Stale
from hilum.core.scope import Scope
from hilum.storage.qido_keys import CONDITIONS, INSTANCE_KEYS, SERIES_KEYS, STUDY_KEYS, Key, patient_is
from hilum.storage.scoping import patient_in_scope
from hilum.storage.shown import (
    TRUTH_COLUMNS,
    WITH_TRUTH,
    ShownStudy,
    has_hidden_series,
    instance,
    instance_is_shown,
    series,
    series_is_shown,
    shown_studies,
    study,
    study_is_shown,
)

__all__ = [
    "INSTANCE_KEYS", "SERIES_KEYS", "STUDY_KEYS",
    "FoundInstance", "FoundSeries", "FoundStudy", "Key", "Page", "find_instances", "find_series", "find_studies",
]  # fmt: skip

COUNTED = 200  # how many further results are counted at most: to count costs as much as to list

_STUDY_COLUMNS = (
    # As text: a list that is asked for again needs no parsing.
    sa.type_coerce(study.c.attributes, sa.Text).label("study_attributes"),
    study.c.revision.label("study_revision"),
    has_hidden_series().label("has_hidden"),
    study.c.modalities,
    study.c.series_count,
    study.c.instance_count,
)
_SERIES_COLUMNS = (
    series.c.id.label("series_id"),
    series.c.series_instance_uid,
    series.c.instance_count.label("series_instance_count"),
    series.c.attributes.label("series_attributes"),
)
_INSTANCE_COLUMNS = (
    instance.c.id.label("instance_id"),
    instance.c.sop_instance_uid,
    instance.c.transfer_syntax_uid,
    instance.c.header,
)
_NEWEST_FIRST = (study.c.study_date.desc(), study.c.study_time.desc(), study.c.id.desc())
_SERIES_ORDER = (series.c.number, series.c.id)
_STUDIES = sa.select(*TRUTH_COLUMNS, *_STUDY_COLUMNS).select_from(WITH_TRUTH).where(study_is_shown())
_WITH_SERIES = WITH_TRUTH.join(series, series.c.study_id == study.c.id)
_SERIES = (
    sa.select(*TRUTH_COLUMNS, *_STUDY_COLUMNS, *_SERIES_COLUMNS)
    .select_from(_WITH_SERIES)
    .where(study_is_shown(), series_is_shown())
)
_INSTANCES = (
    sa.select(*TRUTH_COLUMNS, *_STUDY_COLUMNS, *_SERIES_COLUMNS, *_INSTANCE_COLUMNS)
    .select_from(_WITH_SERIES.join(instance, instance.c.series_id == series.c.id))
    .where(study_is_shown(), series_is_shown(), instance_is_shown())
)


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted."""

    limit: int
    offset: int = 0
    after: str = ""  # of studies: the id of the last one of the page before


@dataclass(frozen=True, slots=True)
class FoundStudy:
    """A study of a list; counts are of what is shown."""

    study: ShownStudy
    revision: int
    attributes_text: str
    modalities: tuple[str, ...]
    series_count: int
    instance_count: int

    @property
    def attributes(self) -> dict[str, Any]:
        """Those of the index, as received."""
        found: dict[str, Any] = orjson.loads(self.attributes_text)
        return found

    @property
    def version(self) -> tuple[Any, ...]:
        """Different whenever anything of the study that a list shows is different."""
        counts = (self.modalities, self.series_count, self.instance_count)
        return (self.study.id, self.revision, self.study.truth.revision, *counts)


@dataclass(frozen=True, slots=True)
class FoundSeries:
    """A series of a list."""

    study: FoundStudy
    series_instance_uid: str
    instance_count: int
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class FoundInstance:
    """An instance of a list; `header` is its whole header as DICOM JSON."""

    series: FoundSeries
    sop_instance_uid: str
    transfer_syntax_uid: str
    header: bytes


def find_studies(
    connection: sa.Connection, keys: Sequence[Key], scope: Scope, page: Page
) -> tuple[list[FoundStudy], int]:
    """Return the studies of a page, newest first, and how many more there are (counted up to `COUNTED`)."""
    query = _STUDIES.order_by(*_NEWEST_FIRST)
    if page.after:
        query = query.where(_behind(connection, page.after))
    rows, more = _rows(connection, query, keys, scope, page)
    return _studies(connection, rows), more


def _behind(connection: sa.Connection, study_id: str) -> sa.ColumnElement[bool]:
    """The condition of coming after a study in the list. Raises Stale where it is gone."""
    places = (study.c.study_date, study.c.study_time, study.c.id)
    last = connection.execute(sa.select(*places).where(study.c.id == study_id)).one_or_none()
    if last is None:
        raise Stale("The list has changed here; begin it again.", field="cursor")
    values = [sa.literal(value, column.type) for value, column in zip(last, places, strict=True)]
    return sa.tuple_(*places) < sa.tuple_(*values)


def find_series(
    connection: sa.Connection, keys: Sequence[Key], scope: Scope, page: Page
) -> tuple[list[FoundSeries], int]:
    """Return the series of a page, by study and number, and how many more there are."""
    rows, more = _rows(connection, _SERIES.order_by(*_NEWEST_FIRST, *_SERIES_ORDER), keys, scope, page)
    return _series_of(rows, _studies(connection, rows)), more


def find_instances(
    connection: sa.Connection, keys: Sequence[Key], scope: Scope, page: Page
) -> tuple[list[FoundInstance], int]:
    """Return the instances of a page, by series and number, and how many more there are."""
    ordered = _INSTANCES.order_by(*_NEWEST_FIRST, *_SERIES_ORDER, instance.c.number, instance.c.id)
    rows, more = _rows(connection, ordered, keys, scope, page)
    found = _series_of(rows, _studies(connection, rows))
    return [
        FoundInstance(each, row.sop_instance_uid, row.transfer_syntax_uid, row.header)
        for row, each in zip(rows, found, strict=True)
    ], more


def _rows(
    connection: sa.Connection, query: sa.Select[Any], keys: Sequence[Key], scope: Scope, page: Page
) -> tuple[Sequence[sa.Row[Any]], int]:
    wanted = query.where(patient_in_scope(scope, study.c.patient_id), *_conditions(keys))
    rows = connection.execute(wanted.limit(page.limit + 1).offset(page.offset)).all()
    if len(rows) <= page.limit:
        return rows, 0
    rest = wanted.with_only_columns(sa.literal(1)).order_by(None).limit(COUNTED).offset(page.offset + page.limit)
    more = connection.execute(sa.select(sa.func.count()).select_from(rest.subquery())).scalar_one()
    return rows[: page.limit], more


def _conditions(keys: Sequence[Key]) -> list[sa.ColumnElement[bool]]:
    """The conditions of the keys; identifier and issuer are matched together, since they belong together."""
    by_keyword = {key.keyword: key for key in keys}
    identifier, issuer = by_keyword.get("PatientID"), by_keyword.get("IssuerOfPatientID")
    conditions = [CONDITIONS[key.keyword](key) for key in keys if key.keyword in CONDITIONS]
    if identifier is not None or issuer is not None:
        conditions.append(patient_is(identifier, issuer))
    return conditions


def _studies(connection: sa.Connection, rows: Sequence[sa.Row[Any]]) -> list[FoundStudy]:
    firsts: dict[str, sa.Row[Any]] = {}
    for row in rows:
        firsts.setdefault(row.study_id, row)
    partial = [study_id for study_id, row in firsts.items() if row.has_hidden]
    hidden = _shown_of(connection, partial) if partial else {}
    shown = shown_studies(connection, list(firsts.values()))
    found = {
        each.id: FoundStudy(
            each,
            row.study_revision,
            row.study_attributes,
            *(hidden.get(each.id) or (_split(row.modalities), row.series_count, row.instance_count)),
        )
        for each, row in zip(shown, firsts.values(), strict=True)
    }
    return [found[row.study_id] for row in rows]


def _series_of(rows: Sequence[sa.Row[Any]], studies: Sequence[FoundStudy]) -> list[FoundSeries]:
    return [
        FoundSeries(each, row.series_instance_uid, row.series_instance_count, row.series_attributes)
        for row, each in zip(rows, studies, strict=True)
    ]


def _shown_of(connection: sa.Connection, study_ids: Sequence[str]) -> dict[str, tuple[tuple[str, ...], int, int]]:
    """Modalities and counts of what is shown, for studies of which a part is not."""
    columns = (series.c.study_id, series.c.modality, series.c.instance_count)
    shown: dict[str, list[Any]] = {}
    visible = sa.select(*columns).where(series.c.study_id.in_(study_ids), series_is_shown())
    for row in connection.execute(visible).all():
        shown.setdefault(row.study_id, []).append(row)
    return {
        study_id: (
            tuple(dict.fromkeys(row.modality for row in rows if row.modality)),
            len(rows),
            sum(row.instance_count for row in rows),
        )
        for study_id, rows in shown.items()
    }


def _split(modalities: str) -> tuple[str, ...]:
    return tuple(modalities.split("\\")) if modalities else ()
