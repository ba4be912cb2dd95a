"""Reports with all their signed versions, and the draft beside them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from hilum.core.order import Physician
from hilum.core.report import DraftKind, Report, ReportStatus, ReportVersion
from hilum.storage import tables
from hilum.storage.unread import refresh_unread

if TYPE_CHECKING:
    from hilum.storage.unit_of_work import UnitOfWork

_report = tables.report
_version = tables.report_version

_STATUS_OF = sa.select(_report.c.status).where(_report.c.order_id == sa.bindparam("of"))

NO_DRAFT: dict[str, None] = dict.fromkeys(
    ("draft_kind", "draft_findings", "draft_impression", "draft_reason", "draft_by", "draft_at")
)


def version_from_row(row: sa.Row[Any]) -> ReportVersion:
    """Build a signed version from its row."""
    return ReportVersion(
        report_id=row.report_id,
        version=row.version,
        status=ReportStatus(row.status),
        findings=row.findings,
        impression=row.impression,
        interpreter=Physician(**row.interpreter),
        recorded_at=row.recorded_at,
        signed_at=row.signed_at,
        signed_by=row.signed_by,
        source=row.source,
        message_id=row.message_id,
        reason=row.reason,
    )


def load_report(connection: sa.Connection, where: sa.ColumnElement[bool]) -> Report | None:
    """Return the report that a condition picks, with its versions oldest first."""
    row = connection.execute(sa.select(_report).where(where)).one_or_none()
    if row is None:
        return None
    rows = connection.execute(
        sa.select(_version).where(_version.c.report_id == row.id).order_by(_version.c.version)
    ).all()
    draft = None
    if row.draft_at is not None:
        draft = ReportVersion(
            row.id,
            row.version + 1,
            ReportStatus.DRAFT,
            row.draft_findings,
            row.draft_impression,
            Physician(),
            row.draft_at,
            signed_by=row.draft_by,
            reason=row.draft_reason or "",
        )
    return Report(
        id=row.id,
        order_id=row.order_id,
        patient_id=row.patient_id,
        status=ReportStatus(row.status),
        version=row.version,
        versions=tuple(version_from_row(version) for version in rows),
        revision=row.revision,
        draft=draft,
        draft_kind=DraftKind(row.draft_kind or DraftKind.REPORT),
    )


class Reports:
    """The reports of one transaction."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow
        self._db = uow.connection

    def get(self, report_id: str) -> Report | None:
        """Return a report by its id."""
        return load_report(self._db, _report.c.id == report_id)

    def of_order(self, order_id: str) -> Report | None:
        """Return the report of an order, its row locked until the commit."""
        if self._uow.on_postgresql:
            row = sa.select(_report.c.id).where(_report.c.order_id == order_id)
            self._db.execute(row.with_for_update(key_share=True))
        return load_report(self._db, _report.c.order_id == order_id)

    def seen_of_order(self, order_id: str) -> Report | None:
        """Return the report of an order for one who only looks at it."""
        return load_report(self._db, _report.c.order_id == order_id)

    def status_of(self, order_id: str) -> ReportStatus | None:
        """Return where the report of an order stands, without locking it."""
        status = self._db.execute(_STATUS_OF, {"of": order_id}).scalar()
        return None if status is None else ReportStatus(status)

    def add(self, order_id: str, patient_id: str) -> Report:
        """Begin the report of an order; version 0 says that nothing is signed yet."""
        report_id = self._uow.new_id()
        self._db.execute(
            _report.insert().values(
                id=report_id,
                order_id=order_id,
                patient_id=patient_id,
                status=ReportStatus.DRAFT.value,
                version=0,
                updated_at=self._uow.now,
                revision=1,
            )
        )
        return Report(report_id, order_id, patient_id, ReportStatus.DRAFT, 0)

    def save_draft(self, report_id: str, kind: DraftKind, findings: str, impression: str, reason: str, by: str) -> int:
        """Store the draft; return the report's new revision."""
        return self._set_draft(
            report_id,
            draft_kind=kind.value,
            draft_findings=findings,
            draft_impression=impression,
            draft_reason=reason,
            draft_by=by,
            draft_at=self._uow.now,
        )

    def discard_draft(self, report_id: str) -> int:
        """Forget the draft; return the report's new revision."""
        return self._set_draft(report_id, **NO_DRAFT)

    def _set_draft(self, report_id: str, **columns: Any) -> int:
        return int(
            self._db.execute(
                _report.update()
                .where(_report.c.id == report_id)
                .values(updated_at=self._uow.now, revision=_report.c.revision + 1, **columns)
                .returning(_report.c.revision)
            ).scalar_one()
        )

    def add_version(self, order_id: str, version: ReportVersion) -> None:
        """Store a signed version; the draft has become it."""
        columns = asdict(version)
        columns["status"] = version.status.value
        self._db.execute(_version.insert().values(**columns))
        self._db.execute(
            _report.update()
            .where(_report.c.id == version.report_id)
            .values(
                status=version.status.value,
                version=version.version,
                updated_at=self._uow.now,
                revision=_report.c.revision + 1,
                **NO_DRAFT,
            )
        )
        refresh_unread(self._uow, order_id)
