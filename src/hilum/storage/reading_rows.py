"""What the reading worklist shows of each exam on a page: fetched together for all rows, never row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from hilum.core.order import Order
from hilum.core.patient import Patient
from hilum.core.report import ReportStatus
from hilum.storage import tables
from hilum.storage.orders import order_from_row
from hilum.storage.pages import StudyShown, shown_from_row, studies_query
from hilum.storage.patients import identifiers_of, patient_from_row
from hilum.storage.reading_list import Entry

_order, _study, _series, _report = tables.imaging_order, tables.study, tables.series, tables.report


@dataclass(frozen=True, slots=True)
class ImagesArrived:
    """How many images of an order may be shown, when the last came, and whether more are expected."""

    count: int
    last_at: datetime
    complete: bool


@dataclass(frozen=True, slots=True)
class ReportLine:
    """A report in one line. `by` signed the current version at `signed_at`; `draft_by` is writing."""

    status: ReportStatus
    version: int
    by: str
    signed_at: datetime | None
    draft_by: str
    draft_at: datetime | None


@dataclass(frozen=True, slots=True)
class ReadingRow:
    """An exam on the list: `order` is empty for a study without one, `study` for an order."""

    entry: Entry
    patient: Patient | None
    order: Order | None = None
    unread_since: datetime | None = None
    station: str = ""
    images: ImagesArrived | None = None
    report: ReportLine | None = None
    study: StudyShown | None = None


def reading_rows(connection: sa.Connection, entries: Sequence[Entry]) -> list[ReadingRow]:
    """Return the rows of a page in the order of its entries."""
    order_ids = [entry.key.id for entry in entries if entry.kind == "order"]
    raw = {row.id: row for row in connection.execute(sa.select(_order).where(_order.c.id.in_(order_ids)))}
    study_ids = [entry.key.id for entry in entries if entry.kind == "study"]
    studies = {
        shown.study.id: shown
        for shown in map(shown_from_row, connection.execute(studies_query().where(_study.c.id.in_(study_ids))))
    }
    known = [row.patient_id for row in raw.values()] + [
        shown.study.patient_id for shown in studies.values() if shown.study.patient_id
    ]
    patients = _survivors(connection, known)
    images, reports = _images(connection, order_ids), _reports(connection, order_ids)
    stations = _stations(connection, order_ids)
    rows: list[ReadingRow] = []
    for entry in entries:
        if entry.kind == "study":
            shown = studies[entry.key.id]
            rows.append(ReadingRow(entry, patients.get(shown.study.patient_id or ""), study=shown))
            continue
        order_id = entry.key.id
        rows.append(
            ReadingRow(
                entry,
                patients[raw[order_id].patient_id],
                order_from_row(raw[order_id]),
                raw[order_id].unread_since,
                stations.get(order_id, ""),
                images.get(order_id),
                reports.get(order_id),
            )
        )
    return rows


def _survivors(connection: sa.Connection, patient_ids: Sequence[str]) -> dict[str, Patient]:
    own, survivor = tables.patient.alias(), tables.patient.alias()
    query = (
        sa.select(own.c.id.label("own_id"), survivor)
        .join(survivor, survivor.c.id == own.c.survivor_id)
        .where(own.c.id.in_(set(patient_ids)))
    )
    rows = connection.execute(query).all()
    identifiers = identifiers_of(connection, sorted({row.id for row in rows}))
    return {row.own_id: patient_from_row(row, identifiers[row.id]) for row in rows}


def _images(connection: sa.Connection, order_ids: Sequence[str]) -> dict[str, ImagesArrived]:
    query = (
        sa.select(
            _study.c.order_id,
            sa.func.sum(_series.c.instance_count).label("images"),
            sa.func.max(_study.c.last_received_at, type_=_study.c.last_received_at.type).label("last_at"),
            sa.func.count(sa.distinct(_study.c.id)).label("studies"),
            sa.func.count(sa.distinct(sa.case((_study.c.completed_at.is_not(None), _study.c.id)))).label("completed"),
        )
        .join(_series, _series.c.study_id == _study.c.id)
        .where(_study.c.order_id.in_(order_ids), _series.c.withheld.is_(False))
        .group_by(_study.c.order_id)
    )
    return {
        row.order_id: ImagesArrived(int(row.images), row.last_at, row.completed == row.studies)
        for row in connection.execute(query)
    }


def _reports(connection: sa.Connection, order_ids: Sequence[str]) -> dict[str, ReportLine]:
    version = tables.report_version
    current = sa.and_(version.c.report_id == _report.c.id, version.c.version == _report.c.version)
    query = (
        sa.select(_report, version.c.interpreter, version.c.signed_at)
        .outerjoin(version, current)
        .where(_report.c.order_id.in_(order_ids))
    )
    return {row.order_id: _report_line(row) for row in connection.execute(query)}


def _report_line(row: sa.Row[Any]) -> ReportLine:
    who: dict[str, str] = row.interpreter or {}
    name = ", ".join(part for part in (who.get("family", ""), who.get("given", "")) if part)
    return ReportLine(
        ReportStatus(row.status),
        row.version,
        name or who.get("identifier", ""),
        row.signed_at,
        row.draft_by or "",
        row.draft_at,
    )


def _stations(connection: sa.Connection, order_ids: Sequence[str]) -> dict[str, str]:
    step = tables.scheduled_step
    query = sa.select(step.c.order_id, step.c.station_name, step.c.station_ae_title)
    query = query.where(step.c.order_id.in_(order_ids)).order_by(step.c.id.desc())
    return {row.order_id: row.station_name or row.station_ae_title for row in connection.execute(query)}
