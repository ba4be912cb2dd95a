"""What the pages of reassignment show: a study by its row, its series, whom it might belong to, and merged records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from hilum.core.order import Order
from hilum.core.patient import Patient
from hilum.core.scope import Scope
from hilum.core.text import fold
from hilum.storage import tables
from hilum.storage.orders import order_from_row
from hilum.storage.pages import StudyShown, shown_from_row, studies_query
from hilum.storage.patients import identifiers_of, patient_from_row
from hilum.storage.scoping import patient_in_scope

_study, _series, _instance = tables.study, tables.series, tables.instance
_patient, _identifier, _order = tables.patient, tables.patient_identifier, tables.imaging_order
MOST_FOUND = 10
MOST_SERIES = 500
MOST_WORDS = 6


@dataclass(frozen=True, slots=True)
class SeriesListed:
    """A series with how many of its images may be shown."""

    series_instance_uid: str
    modality: str
    number: int | None
    description: str
    images: int
    withheld: bool


def study_by_id(connection: sa.Connection, study_id: str, scope: Scope) -> StudyShown | None:
    """Return a study by its row, also one that stands behind another of its UID, if it lies within the scope."""
    query = studies_query().where(_study.c.id == study_id, patient_in_scope(scope, _study.c.patient_id))
    row = connection.execute(query).one_or_none()
    return None if row is None else shown_from_row(row)


def studies_of_person(connection: sa.Connection, patient_id: str, without: str) -> list[StudyShown]:
    """Return the other studies of a person, newest first."""
    own, member = _patient.alias(), _patient.alias()
    family = sa.select(member.c.id).join(own, own.c.survivor_id == member.c.survivor_id).where(own.c.id == patient_id)
    query = studies_query().where(_study.c.patient_id.in_(family), _study.c.id != without)
    rows = connection.execute(query.order_by(_study.c.id.desc()).limit(MOST_FOUND))
    return [shown for shown in map(shown_from_row, rows) if shown.study.instance_count]


def series_of(connection: sa.Connection, study_id: str) -> list[SeriesListed]:
    """Return the series of a study that hold anything."""
    holds = sa.exists().where(_instance.c.series_id == _series.c.id)
    columns = ("series_instance_uid", "modality", "number", "description", "instance_count", "withheld")
    query = sa.select(*(_series.c[name] for name in columns)).where(_series.c.study_id == study_id, holds)
    rows = connection.execute(query.order_by(_series.c.number, _series.c.id).limit(MOST_SERIES))
    return [SeriesListed(*row) for row in rows]


def find_patients(connection: sa.Connection, scope: Scope, text: str) -> list[Patient]:
    """Return patients who hold an identifier, or whose name has all words of a text."""
    words = [fold(word) for word in text.split()[:MOST_WORDS]]
    if not words:
        return []
    holder = _patient.alias()
    held = (
        sa.select(holder.c.survivor_id)
        .join(_identifier, _identifier.c.patient_id == holder.c.id)
        .where(_identifier.c.value == text.strip())
    )
    named = [_patient.c.name_folded.contains(word, autoescape=True) for word in words]
    query = sa.select(_patient).where(
        _patient.c.id == _patient.c.survivor_id,
        patient_in_scope(scope, _patient.c.id),
        sa.or_(_patient.c.id.in_(held), sa.and_(*named)),
    )
    return _patients(connection, query.order_by(_patient.c.id.desc()).limit(MOST_FOUND))


def family_of(connection: sa.Connection, patient_id: str, scope: Scope) -> list[Patient]:
    """Return the records of a person, the survivor first; none out of scope."""
    own = _patient.alias()
    survivor = sa.select(own.c.survivor_id).where(own.c.id == patient_id, patient_in_scope(scope, own.c.id))
    query = sa.select(_patient).where(_patient.c.survivor_id == survivor.scalar_subquery())
    found = _patients(connection, query.order_by(_patient.c.id))
    return sorted(found, key=lambda patient: patient.merged_into is not None)


def order_by_id(connection: sa.Connection, order_id: str, scope: Scope) -> Order | None:
    """Return an order whose patient lies within the scope."""
    query = sa.select(_order).where(_order.c.id == order_id, patient_in_scope(scope, _order.c.patient_id))
    row = connection.execute(query).one_or_none()
    return None if row is None else order_from_row(row)


def _patients(connection: sa.Connection, query: sa.Select[Any]) -> list[Patient]:
    rows: Sequence[sa.Row[Any]] = connection.execute(query).all()
    identifiers = identifiers_of(connection, [row.id for row in rows])
    return [patient_from_row(row, identifiers[row.id]) for row in rows]
