"""One row of the reading worklist from what is stored of an exam."""

from __future__ import annotations

from datetime import datetime

from hilum.core.order import OrderStatus
from hilum.storage.reading_rows import ImagesArrived, ReadingRow, ReportLine
from hilum.web import urls
from hilum.web.models import Identity, Images, ReportMark, WorklistRow
from hilum.web.people import patient_from_images, patient_from_registered
from hilum.web.reports import FINAL, IDLE, state_of
from hilum.web.subject import TRUST, UNMATCHED

FLAGS = {
    OrderStatus.CANCELLED: "Cancelled",
    OrderStatus.DISCONTINUED: "Discontinued",
    OrderStatus.PARTIAL: "More steps to come",
}


def row_model(row: ReadingRow, now: datetime) -> WorklistRow:
    """The row of an order, or of a study without one."""
    return _study_row(row) if row.study is not None else _order_row(row, now)


def _order_row(row: ReadingRow, now: datetime) -> WorklistRow:
    order, patient = row.order, row.patient
    assert order is not None
    assert patient is not None
    return WorklistRow(
        row_id=order.id,
        href=urls.order(order.id),
        priority=order.priority.value,
        patient=patient_from_registered(patient),
        identity=Identity(),
        waiting_since=row.unread_since or order.scheduled_at or order.placed_at,
        procedure=order.procedure.meaning or order.procedure.value,
        modality=order.modality,
        accession_number=order.accession_number,
        images=_images(row.images, row.report),
        report=_mark(row.report, now),
        station=row.station,
        ordered_by=order.ordering_physician.display,
        flag=FLAGS.get(order.status, ""),
        ohif_href=urls.launch_ohif(order.accession_number) if order.accession_number else "",
    )


def _study_row(row: ReadingRow) -> WorklistRow:
    shown = row.study
    assert shown is not None
    study = shown.study
    trust = TRUST[study.match_state]
    return WorklistRow(
        row_id=study.id,
        href=urls.study(study.study_instance_uid),
        priority="routine",
        patient=patient_from_registered(row.patient) if row.patient else patient_from_images(shown.sent),
        identity=Identity(trust, UNMATCHED),
        waiting_since=study.first_received_at,
        procedure=study.description or "Study without an order",
        modality="/".join(study.modalities),
        accession_number=study.accession_number if trust == "unverified" else "",
        images=Images("complete" if study.completed_at else "arriving", shown.images, None, study.last_received_at),
        report=ReportMark("none"),
    )


def _images(images: ImagesArrived | None, report: ReportLine | None) -> Images:
    if images is None or not images.count:
        return Images("none")
    final_at = report.signed_at if report is not None and report.status in FINAL else None
    if final_at is not None and images.last_at > final_at:
        return Images("late", images.count, None, images.last_at)
    return Images("complete" if images.complete else "arriving", images.count, None, images.last_at)


def _mark(report: ReportLine | None, now: datetime) -> ReportMark:
    if report is None:
        return ReportMark("none")
    writing = bool(report.draft_by)
    locked = writing and report.draft_at is not None and now - report.draft_at <= IDLE
    state = state_of(report.status, report.version, drafted=writing)
    return ReportMark(state, report.draft_by or report.by, locked)
