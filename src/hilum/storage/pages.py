"""Queries behind the page of one order or study: the person, the images, the report and where it went, the priors.

Withheld series and instances kept beside others are in none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from hilum.core.order import Order
from hilum.core.patient import Patient
from hilum.core.report import Report, ReportStatus
from hilum.core.scope import Scope
from hilum.core.study import ExceptionItem, MatchState, Study
from hilum.storage import tables
from hilum.storage.exceptions import exception_from_row
from hilum.storage.orders import order_from_row
from hilum.storage.patients import identifiers_of, patient_from_row
from hilum.storage.reports import load_report
from hilum.storage.scoping import patient_in_scope, sees_patient
from hilum.storage.shown import instance_is_shown, series_is_shown
from hilum.storage.studies import study_from_row

MAXIMUM_INSTANCES = 20_000
MAXIMUM_PRIORS = 100
# For one Study Instance UID the proven study is the one that is shown (docs/architecture.md).
SHOWN_FIRST = (MatchState.VERIFIED, MatchState.UNVERIFIED, MatchState.CONFLICT)

_order, _study, _series, _instance = tables.imaging_order, tables.study, tables.series, tables.instance
_patient, _item, _report = tables.patient, tables.exception_item, tables.report


@dataclass(frozen=True, slots=True)
class Person:
    """A patient at the end of all merges, with the row ids and the identifiers of everyone merged into them."""

    patient: Patient
    family: tuple[str, ...]
    other_identifiers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SentPatient:
    """The patient as images name them; `birth_date` is a DICOM DA, `name` a PN."""

    identifier: str
    authority: str
    name: str
    birth_date: str
    sex: str


@dataclass(frozen=True, slots=True)
class StudyShown:
    """A study with what its images say of the patient, and how many of its images may be shown."""

    study: Study
    sent: SentPatient
    images: int


@dataclass(frozen=True, slots=True)
class PriorExam:
    """Another study of the same patient, with its order and the status of its report where there are any."""

    shown: StudyShown
    order: Order | None
    report_status: ReportStatus | None


@dataclass(frozen=True, slots=True)
class ReportDelivery:
    """Where a version of a report went; `state` as in the table `delivery`."""

    version: int
    destination: str
    state: str
    at: datetime | None


def order_in_scope(connection: sa.Connection, order_id: str, scope: Scope) -> Order | None:
    """Return an order whose patient lies within the scope."""
    return _one_order(connection, scope, _order.c.id == order_id)


def order_of_study_uid(connection: sa.Connection, study_instance_uid: str, scope: Scope) -> Order | None:
    """Return the order that verified images under a Study Instance UID belong to, else the one the UID was given to.

    Images that a person moved are not of the order that their UID was given to, so what they are shown as goes first.
    """
    verified = (
        _study.c.study_instance_uid == study_instance_uid,
        _study.c.match_state == MatchState.VERIFIED.value,
        _study.c.instance_count > 0,
    )
    orders = connection.execute(sa.select(_study.c.order_id).where(*verified).order_by(_study.c.id)).scalars().all()
    if not orders:
        return _one_order(connection, scope, _order.c.study_instance_uid == study_instance_uid)
    return _one_order(connection, scope, _order.c.id == orders[0]) if orders[0] is not None else None


def report_in_scope(connection: sa.Connection, report_id: str, scope: Scope) -> tuple[Report, Order] | None:
    """Return a report with its order, if its patient lies within the scope."""
    report = load_report(connection, _report.c.id == report_id)
    order = order_in_scope(connection, report.order_id, scope) if report else None
    return (report, order) if report and order else None


def report_of_order(connection: sa.Connection, order_id: str) -> Report | None:
    """Return the report of an order with its versions and its draft."""
    return load_report(connection, _report.c.order_id == order_id)


def person_of(connection: sa.Connection, patient_id: str) -> Person:
    """Return the person that a patient row stands for in the end."""
    survivor_id = sa.select(_patient.c.survivor_id).where(_patient.c.id == patient_id).scalar_subquery()
    family = tuple(
        connection.execute(
            sa.select(_patient.c.id).where(_patient.c.survivor_id == survivor_id).order_by(_patient.c.id)
        ).scalars()
    )
    row = connection.execute(sa.select(_patient).where(_patient.c.id == survivor_id)).one()
    identifiers = identifiers_of(connection, family)
    patient = patient_from_row(row, identifiers[row.id])
    first = patient.primary_identifier if patient.identifiers else None
    others = tuple(
        f"{identifier.value} {identifier.authority}".rstrip()
        for member in (row.id, *(other for other in family if other != row.id))
        for identifier in identifiers[member]
        if identifier != first
    )
    return Person(patient, family, others)


def person_in_scope(connection: sa.Connection, patient_id: str, scope: Scope) -> Person | None:
    """Return the person that a patient row stands for, if it lies within the scope."""
    query = sa.select(_patient.c.id).where(_patient.c.id == patient_id, patient_in_scope(scope, _patient.c.id))
    return person_of(connection, patient_id) if connection.execute(query).scalar() else None


def person_by_identifier(connection: sa.Connection, value: str, authority: str, scope: Scope) -> Person | None:
    """Return the one person within the scope who holds an identifier; none when several do."""
    identifier = tables.patient_identifier
    where = [identifier.c.value == value, identifier.c.patient_id == _patient.c.id]
    if authority:
        where.append(identifier.c.authority == authority)
    query = sa.select(_patient.c.survivor_id).where(*where).distinct().limit(2)
    found = list(connection.execute(query).scalars())
    if len(found) != 1 or not sees_patient(connection, scope, found[0]):
        return None
    return person_of(connection, found[0])


def studies_of_order(connection: sa.Connection, order_id: str) -> list[StudyShown]:
    """Return the proven studies of an order that have images to show, oldest first."""
    query = studies_query().where(_study.c.order_id == order_id, _study.c.match_state == MatchState.VERIFIED.value)
    return [shown for shown in map(shown_from_row, connection.execute(query.order_by(_study.c.id))) if shown.images]


def study_shown(connection: sa.Connection, study_instance_uid: str, scope: Scope) -> StudyShown | None:
    """Return the study that stands for a Study Instance UID, if it may be shown and lies within the scope."""
    query = studies_query().where(
        _study.c.study_instance_uid == study_instance_uid,
        _study.c.match_state.in_([state.value for state in SHOWN_FIRST]),
        patient_in_scope(scope, _study.c.patient_id),
    )
    found = [shown_from_row(row) for row in connection.execute(query.order_by(_study.c.id))]
    return min(found, key=lambda shown: SHOWN_FIRST.index(shown.study.match_state), default=None)


def images_of(connection: sa.Connection, study_ids: Sequence[str]) -> tuple[list[sa.Row[Any]], list[sa.Row[Any]]]:
    """Return series and instances of studies in display order, with each instance's header as DICOM JSON."""
    series = list(
        connection.execute(
            sa.select(_series)
            .where(_series.c.study_id.in_(study_ids), series_is_shown(_series))
            .order_by(_series.c.number, _series.c.series_instance_uid)
        )
    )
    columns = ("series_id", "sop_instance_uid", "sop_class_uid", "number", "rows", "columns", "frames", "header")
    query = (
        sa.select(*(_instance.c[name] for name in columns))
        .where(
            _instance.c.study_id.in_(study_ids),
            _instance.c.series_id.in_([row.id for row in series]),
            instance_is_shown(_instance),
            _instance.c.rows.is_not(None),
        )
        .order_by(_instance.c.series_id, _instance.c.number, _instance.c.sop_instance_uid)
        .limit(MAXIMUM_INSTANCES)
    )
    return series, list(connection.execute(query))


def image_count(connection: sa.Connection, study_ids: Sequence[str]) -> int:
    """Return how many instances with pixels `images_of` would show."""
    query = (
        sa.select(sa.func.count())
        .select_from(_instance.join(_series, _series.c.id == _instance.c.series_id))
        .where(
            _instance.c.study_id.in_(study_ids),
            _series.c.withheld.is_(False),
            instance_is_shown(_instance),
            _instance.c.rows.is_not(None),
        )
    )
    return int(connection.execute(query).scalar_one())


def other_exams(connection: sa.Connection, family: Sequence[str], without: Sequence[str]) -> list[PriorExam]:
    """Return the studies of a person that have images, newest first, leaving out those with the ids `without`."""
    query = (
        studies_query()
        .where(
            _study.c.patient_id.in_(family),
            _study.c.id.not_in(without),
            _study.c.match_state.in_([MatchState.VERIFIED.value, MatchState.UNVERIFIED.value]),
        )
        .order_by(_study.c.id.desc())
        .limit(MAXIMUM_PRIORS)
    )
    found = [shown for shown in map(shown_from_row, connection.execute(query)) if shown.images]
    order_ids = [shown.study.order_id for shown in found if shown.study.order_id]
    orders = {
        row.id: order_from_row(row) for row in connection.execute(_order.select().where(_order.c.id.in_(order_ids)))
    }
    states = sa.select(_report.c.order_id, _report.c.status).where(_report.c.order_id.in_(order_ids))
    statuses = {row.order_id: ReportStatus(row.status) for row in connection.execute(states)}
    return [
        PriorExam(shown, orders.get(shown.study.order_id or ""), statuses.get(shown.study.order_id or ""))
        for shown in found
    ]


def report_deliveries(connection: sa.Connection, order_id: str) -> list[ReportDelivery]:
    """Return where the versions of an order's report went, in the order they were to leave."""
    delivery, lane, event = tables.delivery, tables.lane, tables.event
    query = (
        sa.select(event.c.report_version, lane.c.destination, delivery.c.state, delivery.c.delivered_at)
        .select_from(
            delivery.join(lane, lane.c.id == delivery.c.lane_id).join(event, event.c.id == delivery.c.event_id)
        )
        .where(delivery.c.order_id == order_id, event.c.report_version.is_not(None), delivery.c.state != "superseded")
        .order_by(delivery.c.position, delivery.c.id)
    )
    return [ReportDelivery(*row) for row in connection.execute(query)]


def open_items_of_order(connection: sa.Connection, order_id: str) -> list[ExceptionItem]:
    """Return what of an order waits for a person's decision."""
    return _items(connection, _item.c.order_id == order_id)


def open_items_of_study(connection: sa.Connection, study_id: str) -> list[ExceptionItem]:
    """Return what of a study waits for a person's decision."""
    return _items(connection, _item.c.study_id == study_id)


def _items(connection: sa.Connection, where: sa.ColumnElement[bool]) -> list[ExceptionItem]:
    query = sa.select(_item).where(where, _item.c.resolved_at.is_(None)).order_by(_item.c.id)
    return [exception_from_row(row) for row in connection.execute(query)]


def _one_order(connection: sa.Connection, scope: Scope, where: sa.ColumnElement[bool]) -> Order | None:
    query = sa.select(_order).where(where, patient_in_scope(scope, _order.c.patient_id)).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else order_from_row(row)


def studies_query() -> sa.Select[Any]:
    """Select studies with the number of their instances that may be shown, for `shown_from_row`."""
    images = (
        sa.select(sa.func.coalesce(sa.func.sum(_series.c.instance_count), 0))
        .where(_series.c.study_id == _study.c.id, _series.c.withheld.is_(False))
        .scalar_subquery()
    )
    return sa.select(_study, images.label("images"))


def shown_from_row(row: sa.Row[Any]) -> StudyShown:
    """Build a study from a row of `studies_query`."""
    sent = SentPatient(
        row.patient_identifier, row.patient_authority, row.patient_name, row.patient_birth_date, row.patient_sex
    )
    return StudyShown(study_from_row(row), sent, int(row.images))
