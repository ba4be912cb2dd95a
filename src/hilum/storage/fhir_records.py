"""What a page of FHIR resources is made of, read in a handful of queries whatever the number of resources.

Demographics are the surviving patient's, accession numbers and procedures the order's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from hilum.core.order import Order
from hilum.core.patient import Patient, PatientIdentifier, PersonName
from hilum.core.report import ReportVersion
from hilum.core.study import MatchState, Study
from hilum.storage import tables
from hilum.storage.orders import order_from_row
from hilum.storage.patients import identifiers_of, patient_from_row
from hilum.storage.reports import version_from_row
from hilum.storage.shown import instance_is_shown
from hilum.storage.studies import study_from_row

_patient = tables.patient
_order = tables.imaging_order
_study = tables.study
_series = tables.series
_instance = tables.instance
_report = tables.report
_version = tables.report_version
_VERIFIED = MatchState.VERIFIED.value


@dataclass(frozen=True, slots=True)
class PatientRecord:
    """A patient under the survivor's demographics; `replaces` are those merged into it, with their identifiers."""

    patient: Patient
    survivor_id: str
    replaces: tuple[str, ...]
    old_identifiers: tuple[PatientIdentifier, ...]
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class PatientReference:
    """The surviving patient that a row is of."""

    id: str
    display: str


@dataclass(frozen=True, slots=True)
class OrderRecord:
    """An order and whose it is."""

    order: Order
    subject: PatientReference
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """An instance of a series."""

    sop_instance_uid: str
    sop_class_uid: str
    number: int | None


@dataclass(frozen=True, slots=True)
class SeriesRecord:
    """A series that is shown; `instances` is None where they were too many to list here."""

    series_instance_uid: str
    number: int | None
    modality: str
    description: str
    body_part: str
    instance_count: int
    instances: tuple[InstanceRecord, ...] | None


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """A study, whose it is, and the order behind it where that is proven."""

    study: Study
    subject: PatientReference
    order: Order | None
    series: tuple[SeriesRecord, ...]
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ReportRecord:
    """A report's current signed version, its order and that order's images."""

    version: ReportVersion
    order: Order
    subject: PatientReference
    studies: tuple[Study, ...]


def patient_records(connection: sa.Connection, ids: Sequence[str]) -> list[PatientRecord]:
    """Return patients in the order of `ids`."""
    survivor = tables.patient.alias()
    query = (
        sa.select(survivor, _patient.c.id.label("own_id"), _patient.c.survivor_id.label("own_survivor"))
        .add_columns(_patient.c.merged_into.label("own_merged_into"), _patient.c.revision.label("own_revision"))
        .add_columns(_patient.c.updated_at.label("own_updated_at"))
        .join(survivor, survivor.c.id == _patient.c.survivor_id)
        .where(_patient.c.id.in_(ids))
    )
    rows = {row.own_id: row for row in connection.execute(query)}
    members = tables.patient.alias()
    family: dict[str, list[str]] = defaultdict(list)
    pairs = sa.select(members.c.id, members.c.survivor_id).where(members.c.survivor_id.in_(ids)).order_by(members.c.id)
    for member in connection.execute(pairs):
        if member.id != member.survivor_id:
            family[member.survivor_id].append(member.id)
    everyone = [*rows, *(member for merged in family.values() for member in merged)]
    identifiers = identifiers_of(connection, list(dict.fromkeys(everyone)))
    return [_patient_record(rows[row_id], identifiers, family[row_id]) for row_id in ids if row_id in rows]


def _patient_record(
    row: sa.Row[Any], identifiers: dict[str, list[PatientIdentifier]], merged: list[str]
) -> PatientRecord:
    person = replace(
        patient_from_row(row, identifiers[row.own_id]),
        id=row.own_id,
        merged_into=row.own_merged_into,
        revision=row.own_revision,
    )
    old = tuple(identifier for member in merged for identifier in identifiers[member])
    return PatientRecord(person, row.own_survivor, tuple(merged), old, max(row.updated_at, row.own_updated_at))


def order_records(connection: sa.Connection, ids: Sequence[str]) -> list[OrderRecord]:
    """Return orders in the order of `ids`."""
    rows = {row.id: row for row in connection.execute(sa.select(_order).where(_order.c.id.in_(ids)))}
    people = patient_references(connection, (row.patient_id for row in rows.values()))
    return [
        OrderRecord(order_from_row(row), people[row.patient_id], row.updated_at)
        for row in (rows[row_id] for row_id in ids if row_id in rows)
    ]


def study_records(connection: sa.Connection, ids: Sequence[str], *, instance_budget: int) -> list[StudyRecord]:
    """Return studies in the order of `ids`, with the instances of the first ones until the budget is used up."""
    rows = {row.id: row for row in connection.execute(sa.select(_study).where(_study.c.id.in_(ids)))}
    found = [rows[row_id] for row_id in ids if row_id in rows]
    people = patient_references(connection, (row.patient_id for row in found))
    orders = _orders(connection, (row.order_id for row in found if row.match_state == _VERIFIED))
    series = _series_of(connection, found)
    listed = _within_budget(found, series, instance_budget)
    instances = _instances_of(connection, [row.id for study_id in listed for row in series[study_id]])
    return [
        StudyRecord(
            study_from_row(row),
            people[row.patient_id],
            orders.get(row.order_id),
            tuple(_series_record(each, instances if row.id in listed else None) for each in series[row.id]),
            row.completed_at or row.last_received_at,
        )
        for row in found
    ]


def report_records(connection: sa.Connection, ids: Sequence[str]) -> list[ReportRecord]:
    """Return the current versions of reports in the order of `ids`."""
    query = (
        sa.select(_version, _report.c.order_id, _report.c.patient_id)
        .join(_report, sa.and_(_report.c.id == _version.c.report_id, _report.c.version == _version.c.version))
        .where(_report.c.id.in_(ids))
    )
    rows = {row.report_id: row for row in connection.execute(query)}
    people = patient_references(connection, (row.patient_id for row in rows.values()))
    orders = _orders(connection, (row.order_id for row in rows.values()))
    studies = _studies_of(connection, list(orders))
    return [
        ReportRecord(version_from_row(row), orders[row.order_id], people[row.patient_id], tuple(studies[row.order_id]))
        for row in (rows[row_id] for row_id in ids if row_id in rows)
    ]


def patient_references(connection: sa.Connection, ids: Iterable[str]) -> dict[str, PatientReference]:
    """Return the survivors of patients, by the patients' ids."""
    survivor = tables.patient.alias()
    query = (
        sa.select(_patient.c.id.label("of"), survivor)
        .join(survivor, survivor.c.id == _patient.c.survivor_id)
        .where(_patient.c.id.in_(set(ids)))
    )
    return {
        row.of: PatientReference(row.id, PersonName(row.family, row.given, row.middle, row.prefix, row.suffix).display)
        for row in connection.execute(query)
    }


def _orders(connection: sa.Connection, ids: Iterable[str]) -> dict[str, Order]:
    query = sa.select(_order).where(_order.c.id.in_(set(ids)))
    return {row.id: order_from_row(row) for row in connection.execute(query)}


def _studies_of(connection: sa.Connection, order_ids: Sequence[str]) -> dict[str, list[Study]]:
    """Return the studies that are shown for orders, one for each Study Instance UID, oldest first."""
    shown = sa.exists().where(
        _series.c.study_id == _study.c.id, _series.c.withheld.is_(False), _series.c.instance_count > 0
    )
    query = sa.select(_study).where(_study.c.order_id.in_(order_ids), _study.c.match_state == _VERIFIED, shown)
    found: dict[str, list[Study]] = defaultdict(list)
    for row in connection.execute(query.order_by(_study.c.id)):
        if all(row.study_instance_uid != known.study_instance_uid for known in found[row.order_id]):
            found[row.order_id].append(study_from_row(row))
    return found


def _series_of(connection: sa.Connection, studies: Sequence[sa.Row[Any]]) -> dict[str, list[sa.Row[Any]]]:
    """Return the series that are shown, by study.

    Images of one study that name their patient by two identifiers lie in two rows; once both are tied to the order,
    they are one study again.
    """
    standing = {(row.study_instance_uid, row.order_id): row.id for row in studies if row.match_state == _VERIFIED}
    query = (
        sa.select(_series, _study.c.study_instance_uid, _study.c.order_id, _study.c.match_state)
        .join(_study, _study.c.id == _series.c.study_id)
        .where(
            sa.or_(
                _study.c.id.in_([row.id for row in studies]),
                sa.and_(
                    _study.c.study_instance_uid.in_([uid for uid, _ in standing]), _study.c.match_state == _VERIFIED
                ),
            ),
            _series.c.withheld.is_(False),
            _series.c.instance_count > 0,
        )
        .order_by(_series.c.number, _series.c.id)
    )
    wanted = {row.id for row in studies}
    found: dict[str, list[sa.Row[Any]]] = defaultdict(list)
    for row in connection.execute(query):
        study_id = row.study_id
        if row.match_state == _VERIFIED:
            study_id = standing.get((row.study_instance_uid, row.order_id), study_id)
        if study_id in wanted:
            found[study_id].append(row)
    return found


def _within_budget(
    studies: Sequence[sa.Row[Any]], series: dict[str, list[sa.Row[Any]]], instance_budget: int
) -> frozenset[str]:
    listed = set()
    for row in studies:
        instance_budget -= sum(each.instance_count for each in series[row.id])
        if instance_budget < 0:
            break
        listed.add(row.id)
    return frozenset(listed)


def _instances_of(connection: sa.Connection, series_ids: Sequence[str]) -> dict[str, list[InstanceRecord]]:
    columns = (_instance.c.series_id, _instance.c.sop_instance_uid, _instance.c.sop_class_uid, _instance.c.number)
    query = sa.select(*columns).where(_instance.c.series_id.in_(series_ids), instance_is_shown(_instance))
    found: dict[str, list[InstanceRecord]] = defaultdict(list)
    for row in connection.execute(query.order_by(_instance.c.number, _instance.c.id)):
        found[row.series_id].append(InstanceRecord(row.sop_instance_uid, row.sop_class_uid, row.number))
    return found


def _series_record(row: sa.Row[Any], instances: dict[str, list[InstanceRecord]] | None) -> SeriesRecord:
    return SeriesRecord(
        row.series_instance_uid,
        row.number,
        row.modality,
        row.description,
        row.body_part,
        row.instance_count,
        None if instances is None else tuple(instances[row.id]),
    )
