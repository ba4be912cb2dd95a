"""Which studies may be complete: those that have been quiet for a while, and those whose exams say that all is here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from hilum.core.order import STEP_ENDED, PerformedStatus
from hilum.storage import tables

if TYPE_CHECKING:
    from hilum.core.order import PerformedStep
    from hilum.storage.unit_of_work import UnitOfWork

_study, _series, _instance = tables.study, tables.series, tables.instance
_performed, _scheduled, _made = tables.performed_step, tables.performed_scheduled, tables.performed_series
_event, _step = tables.event, tables.scheduled_step
# Keywords of PS3.4 table F.7.2-1 by tag: the images and the other objects that a performed series lists.
_PERFORMED_SERIES, _LISTED = "00400340", ("00081140", "00400220")
_INSTANCE_UID = "00081155"
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class OpenStudy:
    """A study that is not complete."""

    id: str
    order_id: str | None
    modalities: tuple[str, ...]
    last_received_at: datetime


def quiet_studies(
    connection: sa.Connection, moment: datetime, patient_since: datetime, limit: int = 1000
) -> list[OpenStudy]:
    """Return open studies that have received nothing since a moment, the quietest first.

    One whose exam is under way is left out as long as it received something after `patient_since`.
    """
    query = _OPEN.where(_study.c.last_received_at < moment)
    waiting = sa.and_(_study.c.last_received_at > patient_since, _has_exam(PerformedStatus.IN_PROGRESS))
    return _open(connection, query.where(sa.not_(waiting)), limit)


def studies_told_complete(connection: sa.Connection, limit: int = 1000) -> list[OpenStudy]:
    """Return open studies whose exams are all over and list nothing that is not stored, the quietest first."""
    to_come = sa.exists().where(_step.c.order_id == _study.c.order_id, _step.c.status.not_in(sorted(STEP_ENDED)))
    query = _OPEN.where(
        _has_exam(PerformedStatus.COMPLETED), sa.not_(_has_exam(PerformedStatus.IN_PROGRESS)), sa.not_(to_come)
    )
    found = _open(connection, query, limit)
    return [study for study in found if holds_all_listed(connection, study.id, study.order_id)]


def unannounced_studies(connection: sa.Connection, limit: int = 500) -> list[str]:
    """Return open studies that hold images of which no `InstancesStored` has spoken, those longest quiet first."""
    query = _OPEN.where(_study.c.instance_count > _study.c.announced_count)
    return [each.id for each in _open(connection, query, limit)]


def take_unannounced(uow: UnitOfWork, study_id: str) -> int:
    """Note that all images of a study are spoken of now; return how many are new."""
    query = sa.select(_study.c.instance_count, _study.c.announced_count).where(_study.c.id == study_id)
    row = uow.connection.execute(query.with_for_update(key_share=True)).one()
    uow.connection.execute(_study.update().where(_study.c.id == study_id).values(announced_count=row.instance_count))
    return max(0, int(row.instance_count - row.announced_count))


def exams_of_study(uow: UnitOfWork, study_id: str, order_id: str | None) -> list[PerformedStep]:
    """Return the exams that made a study: those of its order and those that its series name or that name them."""
    of_series = sa.select(_performed.c.sop_instance_uid).where(_performed.c.id.in_(_exams_of_series(study_id)))
    exams = {exam.id: exam for exam in (uow.exams.of_order(order_id) if order_id else ())}
    for uid in uow.connection.execute(of_series).scalars():
        exam = uow.exams.find(uid)
        if exam is not None:
            exams.setdefault(exam.id, exam)
    return list(exams.values())


def exam_uids(connection: sa.Connection, study_id: str, order_id: str | None) -> list[str]:
    """Return the SOP Instance UIDs of the performed steps that made a study."""
    of_order = sa.select(_scheduled.c.performed_id).where(_scheduled.c.order_id == order_id)
    query = sa.select(_performed.c.sop_instance_uid).where(
        sa.or_(_performed.c.id.in_(of_order), _performed.c.id.in_(_exams_of_series(study_id)))
    )
    return list(connection.execute(query.order_by(_performed.c.id)).scalars())


def holds_all_listed(connection: sa.Connection, study_id: str, order_id: str | None) -> bool:
    """Tell whether all that the completed exams of a study list is stored; one that lists nothing proves nothing."""
    of_order = sa.select(_scheduled.c.performed_id).where(_scheduled.c.order_id == order_id)
    query = sa.select(_performed.c.attributes).where(
        _performed.c.status == PerformedStatus.COMPLETED.value,
        sa.or_(_performed.c.id.in_(of_order), _performed.c.id.in_(_exams_of_series(study_id))),
    )
    lists = [set(_listed(attributes)) for attributes in connection.execute(query).scalars()]
    if not lists or not all(lists):
        return False
    uids = sorted(set().union(*lists))
    parts = [uids[start : start + _AT_ONCE] for start in range(0, len(uids), _AT_ONCE)]
    return all(_count(connection, part) == len(part) for part in parts)


def _count(connection: sa.Connection, uids: list[str]) -> int:
    query = sa.select(sa.func.count(sa.distinct(_instance.c.sop_instance_uid))).where(
        _instance.c.sop_instance_uid.in_(uids)
    )
    return int(connection.execute(query).scalar_one())


def _exams_of_series(study_id: str) -> sa.Select[Any]:
    return (
        sa.select(_made.c.performed_id)
        .join(_series, _series.c.series_instance_uid == _made.c.series_instance_uid)
        .where(_series.c.study_id == study_id)
    )


def was_complete_before(uow: UnitOfWork, study_id: str) -> bool:
    """Tell whether a study was said to be complete once already."""
    query = sa.select(sa.literal(1)).where(_event.c.study_id == study_id, _event.c.name == "StudyCompleted").limit(1)
    return uow.connection.execute(query).scalar() is not None


_OPEN = sa.select(_study.c.id, _study.c.order_id, _study.c.modalities, _study.c.last_received_at).where(
    _study.c.completed_at.is_(None)
)


def _has_exam(status: PerformedStatus) -> sa.ColumnElement[bool]:
    """An exam of the study's order, or of one of its series, is in a state."""
    is_so = _performed.c.status == status.value
    of_order = sa.exists().where(
        _scheduled.c.order_id == _study.c.order_id, _performed.c.id == _scheduled.c.performed_id, is_so
    )
    of_series = sa.exists().where(
        _series.c.study_id == _study.c.id,
        _made.c.series_instance_uid == _series.c.series_instance_uid,
        _performed.c.id == _made.c.performed_id,
        is_so,
    )
    return sa.or_(of_order, of_series)


def _open(connection: sa.Connection, query: sa.Select[Any], limit: int) -> list[OpenStudy]:
    rows = connection.execute(query.order_by(_study.c.last_received_at).limit(limit))
    return [
        OpenStudy(row.id, row.order_id, tuple(filter(None, row.modalities.split("\\"))), row.last_received_at)
        for row in rows
    ]


def _listed(attributes: dict[str, Any]) -> Iterator[str]:
    """The SOP Instance UIDs of the Performed Series Sequence (DICOM JSON)."""
    for series in _items(attributes, _PERFORMED_SERIES):
        for tag in _LISTED:
            for item in _items(series, tag):
                yield from (str(uid) for uid in item.get(_INSTANCE_UID, {}).get("Value", []) if uid)


def _items(attributes: dict[str, Any], tag: str) -> list[dict[str, Any]]:
    return [item for item in attributes.get(tag, {}).get("Value", []) if isinstance(item, dict)]
