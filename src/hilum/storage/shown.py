"""Which studies may be shown for a UID, and what is known to be true of them: for every door that lists images.

Withheld studies and series, rejected and deleted instances are never shown.

Of several studies under one Study Instance UID (the images name different
patients) the verified one is shown, then the unverified, then the one in conflict; the rest are for reconciliation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from hilum.core.patient import Demographics, Patient, PatientIdentifier, PersonName
from hilum.core.study import MatchState
from hilum.storage import tables
from hilum.storage.patients import identifiers_of

study = tables.study
series = tables.series
instance = tables.instance
order = tables.imaging_order
patient = tables.patient.alias("patient")
survivor = tables.patient.alias("survivor")

_better = tables.study.alias("better")
_their_series = tables.series.alias("their_series")


@dataclass(frozen=True, slots=True)
class Truth:
    """Who a study is of and which order it answers, as far as that is known.

    `identifier` and `demographics` are the surviving patient's; None where the patient is not registered.
    `accession_number` is the order's for a verified study and empty in conflict; None leaves what the images say.
    `revision` is different when any of them is. `changed_at` (UTC) is when they last may have changed, and
    `reassigned` tells that a person moved the images to where they are now.
    """

    demographics: Demographics | None
    identifier: PatientIdentifier | None
    accession_number: str | None
    revision: tuple[Any, ...]
    changed_at: datetime | None = None
    reassigned: bool = False

    @property
    def says_nothing(self) -> bool:
        """Whether the images are taken at their word in everything."""
        return self.identifier is None and self.demographics is None and self.accession_number is None


@dataclass(frozen=True, slots=True)
class ShownStudy:
    """A study that may be shown. `patient_id` is the surviving patient's."""

    id: str
    study_instance_uid: str
    match_state: MatchState
    patient_id: str | None
    order_id: str | None
    truth: Truth


# The columns that `truths_of` and `shown_study` read, and the joins they need.
TRUTH_COLUMNS: tuple[sa.ColumnElement[Any], ...] = (
    study.c.id.label("study_id"),
    study.c.study_instance_uid,
    study.c.match_state,
    study.c.order_id,
    study.c.accession_number,
    study.c.reassigned_at,
    patient.c.updated_at.label("patient_updated_at"),
    survivor.c.updated_at.label("survivor_updated_at"),
    survivor.c.id.label("survivor_id"),
    survivor.c.family,
    survivor.c.given,
    survivor.c.middle,
    survivor.c.prefix,
    survivor.c.suffix,
    survivor.c.birth_date,
    survivor.c.sex,
    survivor.c.revision.label("survivor_revision"),
    order.c.accession_number.label("order_accession_number"),
)
# Studies without a patient or order stay in the list.
WITH_TRUTH = (
    study.outerjoin(patient, patient.c.id == study.c.patient_id)
    .outerjoin(survivor, survivor.c.id == patient.c.survivor_id)
    .outerjoin(order, sa.and_(order.c.id == study.c.order_id, study.c.match_state == MatchState.VERIFIED.value))
)


def _rank(table: sa.FromClause) -> sa.ColumnElement[int]:
    states = {MatchState.VERIFIED.value: 0, MatchState.UNVERIFIED.value: 1}
    return sa.case(states, value=table.c.match_state, else_=2)


def instance_is_shown(table: sa.FromClause = instance) -> sa.ColumnElement[bool]:
    """The condition under which an instance may be shown: neither kept beside another nor rejected nor deleted.

    Of its series and study `series_is_shown` and `study_is_shown` tell; their counts are of such instances alone.
    """
    return sa.and_(sa.not_(table.c.beside), table.c.hidden.is_(None))


def series_is_shown(table: sa.FromClause = series) -> sa.ColumnElement[bool]:
    """The condition under which a series may be shown: not withheld, and with an instance that may be shown."""
    return sa.and_(sa.not_(table.c.withheld), table.c.instance_count > 0)


def has_hidden_series() -> sa.ColumnElement[bool]:
    """The condition under which a part of a row of `study` is not shown."""
    theirs = sa.select(sa.literal(1)).where(
        _their_series.c.study_id == study.c.id, sa.not_(series_is_shown(_their_series))
    )
    return theirs.correlate(study).exists()


def _has_shown_series(table: sa.FromClause) -> sa.ColumnElement[bool]:
    theirs = sa.select(sa.literal(1)).where(_their_series.c.study_id == table.c.id, series_is_shown(_their_series))
    return theirs.correlate(table).exists()


def study_is_shown() -> sa.ColumnElement[bool]:
    """The condition under which a row of `study` may be shown to whoever may see its patient."""
    # "Better" goes by state and then by age; ids are made in the order of time.
    ahead = sa.or_(_rank(_better) < _rank(study), sa.and_(_rank(_better) == _rank(study), _better.c.id < study.c.id))
    better = sa.select(sa.literal(1)).where(
        _better.c.study_instance_uid == study.c.study_instance_uid,
        _better.c.id != study.c.id,
        _better.c.match_state != MatchState.WITHHELD.value,
        ahead,
        _has_shown_series(_better),
    )
    return sa.and_(
        study.c.match_state != MatchState.WITHHELD.value,
        _has_shown_series(study),
        sa.not_(better.correlate(study).exists()),
    )


def shown_studies(connection: sa.Connection, rows: Sequence[sa.Row[Any]]) -> list[ShownStudy]:
    """Build the studies of rows that hold `TRUTH_COLUMNS`; one query for the identifiers of all their patients."""
    survivors = sorted({row.survivor_id for row in rows if row.survivor_id})
    identifiers = identifiers_of(connection, survivors) if survivors else {}
    return [
        ShownStudy(
            row.study_id,
            row.study_instance_uid,
            MatchState(row.match_state),
            row.survivor_id,
            row.order_id,
            _truth(row, identifiers.get(row.survivor_id, [])),
        )
        for row in rows
    ]


def _truth(row: sa.Row[Any], identifiers: Sequence[PatientIdentifier]) -> Truth:
    demographics: Demographics | None = None
    identifier: PatientIdentifier | None = None
    if row.survivor_id is not None:
        name = PersonName(row.family, row.given, row.middle, row.prefix, row.suffix)
        demographics = Demographics(name, row.birth_date, row.sex)
        identifier = (
            Patient(row.survivor_id, demographics, tuple(identifiers)).primary_identifier if identifiers else None
        )
    accession_number: str | None = None
    if row.match_state == MatchState.VERIFIED.value:
        # A person may have proven whose study it is although no order is behind it: then it answers none.
        accession_number = row.order_accession_number or ""
    elif row.match_state == MatchState.CONFLICT.value:
        accession_number = ""
    moments = [each for each in (row.patient_updated_at, row.survivor_updated_at, row.reassigned_at) if each]
    changed_at = max(moments, default=None)
    revision = (row.survivor_id, row.survivor_revision, row.match_state, accession_number, identifier, changed_at)
    reassigned = row.reassigned_at is not None
    return Truth(demographics, identifier, accession_number, revision, changed_at, reassigned)
