"""FHIR searches over patients, orders, studies and reports: one keyset-paged query and one count for all of them.

Every query takes a `Scope`, so pages and counts hold nothing beyond it. What a resource never shows (drafts, studies
in conflict or withheld, studies of nobody registered) is left out here, in one place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from hilum.core.report import ReportStatus
from hilum.core.scope import Scope
from hilum.core.study import MatchState
from hilum.storage import tables
from hilum.storage.fhir_criteria import (
    SORT_KEYS,
    Condition,
    Criterion,
    Kind,
    audit,
    audit_id,
    compiled,
    order,
    patient,
    report,
    study,
    version,
)
from hilum.storage.scoping import patient_in_scope

Connection = sa.Connection

# Said by what is left out: SQLite would walk the index of states for what is shown, and sort nearly all studies.
_HIDDEN_STUDIES = tuple(
    state.value for state in MatchState if state not in (MatchState.VERIFIED, MatchState.UNVERIFIED)
)

# Where each resource's rows come from, which column is its id, and whose patient it is of.
_TABLES: dict[Kind, sa.FromClause] = {
    Kind.PATIENT: patient,
    Kind.ORDER: order,
    Kind.STUDY: study.outerjoin(order, order.c.id == study.c.order_id),
    Kind.REPORT: report.join(
        version, sa.and_(version.c.report_id == report.c.id, version.c.version == report.c.version)
    ).join(order, order.c.id == report.c.order_id),
    Kind.AUDIT: audit,
}
_IDS: dict[Kind, sa.ColumnElement[Any]] = {
    Kind.PATIENT: patient.c.id,
    Kind.ORDER: order.c.id,
    Kind.STUDY: study.c.id,
    Kind.REPORT: report.c.id,
    Kind.AUDIT: audit_id,
}
_PATIENTS = {
    Kind.PATIENT: patient.c.id,
    Kind.ORDER: order.c.patient_id,
    Kind.STUDY: study.c.patient_id,
    Kind.REPORT: report.c.patient_id,
    Kind.AUDIT: audit.c.patient_id,
}


@dataclass(frozen=True, slots=True)
class Sorting:
    """By which key a list is sorted; no key is by id, which is the order in which rows were made."""

    key: str | None = None
    descending: bool = True


@dataclass(frozen=True, slots=True)
class After:
    """The last row of the page before: its id and, where a key sorts, the key's value."""

    id: str
    key: str | datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Ids in the order asked for; `more` is where the next page begins, None at the end."""

    ids: tuple[str, ...]
    more: After | None


@dataclass(frozen=True, slots=True)
class Subject:
    """What a read concerns, for its audit row."""

    patient_id: str
    order_id: str | None = None
    study_id: str | None = None


def find_page(
    connection: sa.Connection,
    kind: Kind,
    criteria: tuple[Criterion, ...],
    scope: Scope,
    *,
    sorting: Sorting = Sorting(),
    after: After | None = None,
    limit: int,
) -> Page:
    """Return one page of the ids that match."""
    row_id = _IDS[kind]
    key = SORT_KEYS[kind][sorting.key] if sorting.key else row_id
    query = sa.select(row_id.label("row_id"), key.label("sort_key")).select_from(_TABLES[kind])
    query = query.where(*_visible(kind, scope), *compiled(kind, criteria))
    if after is not None:
        query = query.where(_beyond(key, row_id, sorting, after))
    ordered = [column.desc() if sorting.descending else column.asc() for column in _unique(key, row_id)]
    rows = connection.execute(query.order_by(*ordered).limit(limit + 1)).all()
    page, more = rows[:limit], rows[limit:]
    last = After(page[-1].row_id, page[-1].sort_key if sorting.key else None) if more and page else None
    return Page(tuple(row.row_id for row in page), last)


def count_matches(connection: sa.Connection, kind: Kind, criteria: tuple[Criterion, ...], scope: Scope) -> int:
    """Return how many match within the scope."""
    query = sa.select(sa.func.count()).select_from(_TABLES[kind])
    return int(connection.execute(query.where(*_visible(kind, scope), *compiled(kind, criteria))).scalar_one())


def subject_of(connection: sa.Connection, kind: Kind, row_id: str) -> Subject | None:
    """Return whom and what a row concerns, whoever asks, so that a read that is refused is audited too."""
    if kind is Kind.AUDIT:
        return None
    columns: dict[Kind, tuple[Any, ...]] = {
        Kind.PATIENT: (patient.c.survivor_id.label("patient_id"),),
        Kind.ORDER: (order.c.patient_id, order.c.id.label("order_id")),
        Kind.STUDY: (study.c.patient_id, study.c.order_id, study.c.id.label("study_id")),
        Kind.REPORT: (report.c.patient_id, report.c.order_id),
    }
    table = {Kind.PATIENT: patient, Kind.ORDER: order, Kind.STUDY: study, Kind.REPORT: report}[kind]
    query = sa.select(*columns[kind]).select_from(table).where(_IDS[kind] == row_id)
    row = connection.execute(query).mappings().one_or_none()
    return Subject(**row) if row is not None and row["patient_id"] is not None else None


def referring(
    connection: sa.Connection, kind: Kind, field: str, targets: Sequence[str], scope: Scope, limit: int
) -> list[str]:
    """Return the ids of rows whose `patient` or order (`based-on`) is one of `targets`, newest first."""
    if field == "patient":
        member = tables.patient.alias()
        family = sa.select(member.c.id).where(member.c.survivor_id.in_(targets))
        condition: Condition = _PATIENTS[kind].in_(family)
    else:
        condition = (study.c.order_id if kind is Kind.STUDY else report.c.order_id).in_(targets)
    query = sa.select(_IDS[kind]).select_from(_TABLES[kind]).where(*_visible(kind, scope), condition)
    return list(connection.execute(query.order_by(_IDS[kind].desc()).limit(limit)).scalars())


def holders_of(connection: sa.Connection, value: str, authority: str | None) -> list[str]:
    """Return the surviving patients who hold an identifier, of any authority when None is given."""
    held, holder = tables.patient_identifier, tables.patient.alias()
    query = sa.select(holder.c.survivor_id).join(held, held.c.patient_id == holder.c.id).where(held.c.value == value)
    if authority is not None:
        query = query.where(held.c.authority == authority)
    return list(connection.execute(query.distinct().limit(2)).scalars())


def survivor_of(connection: sa.Connection, patient_id: str) -> str | None:
    """Return whom a patient's row was merged into in the end, or None where there is no such row."""
    return connection.execute(sa.select(patient.c.survivor_id).where(patient.c.id == patient_id)).scalar()


def _visible(kind: Kind, scope: Scope) -> list[Condition]:
    conditions = [patient_in_scope(scope, _PATIENTS[kind])]
    if kind is Kind.STUDY:
        shown = tables.series
        conditions += [
            study.c.patient_id.is_not(None),
            study.c.match_state.not_in(_HIDDEN_STUDIES),
            sa.exists().where(shown.c.study_id == study.c.id, shown.c.withheld.is_(False), shown.c.instance_count > 0),
            sa.not_(_outranked()),
        ]
    if kind is Kind.REPORT:
        conditions.append(version.c.status != ReportStatus.DRAFT.value)
    return conditions


def _outranked() -> Condition:
    """Of the rows under one Study Instance UID the verified one stands for it, then the first one."""
    other = tables.study.alias()
    verified = MatchState.VERIFIED.value
    better = sa.or_(
        sa.and_(other.c.match_state == verified, study.c.match_state != verified),
        sa.and_(other.c.match_state == study.c.match_state, other.c.id < study.c.id),
    )
    return sa.exists().where(other.c.study_instance_uid == study.c.study_instance_uid, other.c.id != study.c.id, better)


def _unique(key: sa.ColumnElement[Any], row_id: sa.ColumnElement[Any]) -> list[sa.ColumnElement[Any]]:
    return [row_id] if key is row_id else [key, row_id]


def _beyond(
    key: sa.ColumnElement[Any], row_id: sa.ColumnElement[Any], sorting: Sorting, after: After
) -> sa.ColumnElement[bool]:
    if sorting.key is None:
        return row_id < after.id if sorting.descending else row_id > after.id
    further = key < after.key if sorting.descending else key > after.key
    same = row_id < after.id if sorting.descending else row_id > after.id
    # The first condition says nothing new, but lets an index on the key begin where the page does.
    begin = key <= after.key if sorting.descending else key >= after.key
    return sa.and_(begin, sa.or_(further, sa.and_(key == after.key, same)))
