"""Performed procedure steps (MPPS) and which scheduled steps they performed (n:m)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from hilum.core.identifiers import made_at
from hilum.core.order import Code, PerformedStatus, PerformedStep
from hilum.storage import tables

if TYPE_CHECKING:
    from hilum.storage.unit_of_work import UnitOfWork

_performed = tables.performed_step
_link = tables.performed_scheduled
_series = tables.performed_series
_of: sa.BindParameter[str] = sa.bindparam("of")

_BY_UID = sa.select(_performed).where(_performed.c.sop_instance_uid == _of)
_BY_UID_LOCKED = _BY_UID.with_for_update(key_share=True)
_OF_ORDER = (
    sa.select(_performed)
    .where(_performed.c.id.in_(sa.select(_link.c.performed_id).where(_link.c.order_id == _of)))
    .order_by(_performed.c.id)
)
_OF_SCHEDULED = (
    sa.select(_performed)
    .join(_link, _link.c.performed_id == _performed.c.id)
    .where(_link.c.step_id == _of)
    .order_by(_performed.c.id)
)
_OF_SERIES = (
    sa.select(_performed)
    .join(_series, _series.c.performed_id == _performed.c.id)
    .where(_series.c.series_instance_uid == _of)
)
_LINKS = sa.select(_link.c.step_id, _link.c.order_id).where(_link.c.performed_id == _of).order_by(_link.c.step_id)


@dataclass(frozen=True, slots=True)
class ExamTold:
    """When a modality said that an exam began, and when it told of it."""

    peer: str
    started_at: datetime
    told_at: datetime


def latest_exams(connection: sa.Connection, limit: int) -> list[ExamTold]:
    """Return the newest performed steps, by when they were first told of."""
    query = sa.select(_performed.c.id, _performed.c.peer, _performed.c.started_at)
    rows = connection.execute(query.order_by(_performed.c.id.desc()).limit(limit))
    return [ExamTold(row.peer, row.started_at, made_at(row.id)) for row in rows]


class Exams:
    """The performed steps of one transaction."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow
        self._db = uow.connection

    def find(self, sop_instance_uid: str, *, lock: bool = False) -> PerformedStep | None:
        """Return the performed step of a SOP Instance UID, locked until the commit where asked for."""
        row = self._db.execute(_BY_UID_LOCKED if lock else _BY_UID, {"of": sop_instance_uid}).one_or_none()
        return None if row is None else self._build(row)

    def attributes(self, performed_id: str) -> dict[str, Any]:
        """Return the attributes as the modality sent them so far (DICOM JSON)."""
        query = sa.select(_performed.c.attributes).where(_performed.c.id == performed_id)
        return dict(self._db.execute(query).scalar_one())

    def of_order(self, order_id: str) -> list[PerformedStep]:
        """Return the performed steps of an order, oldest first."""
        return [self._build(row) for row in self._db.execute(_OF_ORDER, {"of": order_id})]

    def of_scheduled(self, step_id: str) -> list[PerformedStep]:
        """Return the performed steps of a scheduled step, oldest first."""
        return [self._build(row) for row in self._db.execute(_OF_SCHEDULED, {"of": step_id})]

    def of_series(self, series_instance_uid: str) -> PerformedStep | None:
        """Return the performed step that produced a series."""
        row = self._db.execute(_OF_SERIES, {"of": series_instance_uid}).first()
        return None if row is None else self._build(row)

    def add(self, step: PerformedStep, links: Sequence[tuple[str, str]], attributes: dict[str, Any], peer: str) -> None:
        """Store a new performed step; `links` are (scheduled step id, order id)."""
        self._db.execute(_performed.insert().values(id=step.id, attributes=attributes, peer=peer, **_columns(step)))
        if links:
            self._db.execute(
                _link.insert(),
                [{"performed_id": step.id, "step_id": step_id, "order_id": order_id} for step_id, order_id in links],
            )
        self._relate_series(step)

    def relate_series(self, performed_id: str, series_instance_uid: str) -> None:
        """Note that a series names this performed step (PS3.3 C.7.3.1, 0008,1111)."""
        known = sa.select(_series.c.performed_id).where(
            _series.c.performed_id == performed_id, _series.c.series_instance_uid == series_instance_uid
        )
        if self._db.execute(known).scalar() is None:
            self._db.execute(
                _series.insert().values(performed_id=performed_id, series_instance_uid=series_instance_uid)
            )

    def series_of(self, performed_id: str) -> list[str]:
        """Return the series that a performed step named or that named it."""
        query = sa.select(_series.c.series_instance_uid).where(_series.c.performed_id == performed_id)
        return list(self._db.execute(query).scalars())

    def save(self, step: PerformedStep, attributes: dict[str, Any]) -> None:
        """Store a changed performed step."""
        self._db.execute(
            _performed.update().where(_performed.c.id == step.id).values(attributes=attributes, **_columns(step))
        )
        self._relate_series(step)

    def _relate_series(self, step: PerformedStep) -> None:
        for uid in step.series_instance_uids:
            self.relate_series(step.id, uid)

    def _build(self, row: sa.Row[Any]) -> PerformedStep:
        links = self._db.execute(_LINKS, {"of": row.id}).all()
        return PerformedStep(
            id=row.id,
            sop_instance_uid=row.sop_instance_uid,
            status=PerformedStatus(row.status),
            patient_id=row.patient_id,
            order_ids=tuple(dict.fromkeys(link.order_id for link in links)),
            step_ids=tuple(link.step_id for link in links),
            station_ae_title=row.station_ae_title,
            modality=row.modality,
            started_at=row.started_at,
            ended_at=row.ended_at,
            discontinuation=None if row.discontinuation is None else Code(**row.discontinuation),
            series_instance_uids=tuple(row.series_instance_uids),
            study_instance_uids=tuple(row.study_instance_uids),
        )


def _columns(step: PerformedStep) -> dict[str, Any]:
    return {
        "sop_instance_uid": step.sop_instance_uid,
        "status": step.status.value,
        "patient_id": step.patient_id,
        "station_ae_title": step.station_ae_title,
        "modality": step.modality,
        "started_at": step.started_at,
        "ended_at": step.ended_at,
        "discontinuation": None if step.discontinuation is None else asdict(step.discontinuation),
        "series_instance_uids": list(step.series_instance_uids),
        "study_instance_uids": list(step.study_instance_uids),
    }
