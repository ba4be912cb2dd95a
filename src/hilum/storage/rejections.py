"""Rejection notes and the instances they name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from hilum.core.scope import Scope
from hilum.storage import tables
from hilum.storage.scoping import patient_in_scope
from hilum.storage.shown import instance_is_shown, series, series_is_shown

if TYPE_CHECKING:
    from hilum.storage.unit_of_work import UnitOfWork

_rejection, _rejected = tables.rejection, tables.rejected_instance
_study, _instance = tables.study, tables.instance
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Rejection:
    """A rejection note and what became of it. `code` is of CID 7011 (DCM); `state` as in the table."""

    id: str
    note_uid: str
    code: str
    state: str
    hides: bool
    study_id: str
    study_instance_uid: str
    patient_identifier: str
    made_by: str
    reason: str
    at: datetime
    decided_at: datetime | None
    decided_by: str
    decision: str


@dataclass(frozen=True, slots=True)
class HeldInstance:
    """An instance that a rejection names, as it is held here."""

    id: str
    study_id: str
    study_instance_uid: str
    patient_id: str | None
    patient_identifier: str


def add_rejection(uow: UnitOfWork, columns: dict[str, Any], references: Sequence[tuple[str, str]]) -> Rejection:
    """Keep a note with the (Study, SOP Instance) UIDs that it names."""
    rejection_id = uow.new_id()
    uow.connection.execute(
        _rejection.insert().values(id=rejection_id, at=uow.now, decided_by="", decision="", **columns)
    )
    rows = [
        {"rejection_id": rejection_id, "sop_instance_uid": sop, "study_instance_uid": study}
        for sop, study in {sop: study for study, sop in references}.items()
    ]
    if rows:
        uow.connection.execute(_rejected.insert(), rows)
    found = rejection_of_note(uow.connection, columns["note_uid"])
    assert found is not None
    return found


def decide_rejection(uow: UnitOfWork, rejection_id: str, state: str, by: str, decision: str) -> None:
    """Store what a person decided about a note."""
    uow.connection.execute(
        _rejection.update()
        .where(_rejection.c.id == rejection_id)
        .values(state=state, decided_at=uow.now, decided_by=by, decision=decision)
    )


def rejection_of_note(connection: sa.Connection, note_uid: str, *, lock: bool = False) -> Rejection | None:
    """Return the rejection that a note stands for."""
    query = sa.select(_rejection).where(_rejection.c.note_uid == note_uid)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    return None if row is None else Rejection(*row)


def held_instances(connection: sa.Connection, sop_instance_uids: Sequence[str]) -> list[HeldInstance]:
    """Return what is held under SOP Instance UIDs, by study."""
    found: list[HeldInstance] = []
    for start in range(0, len(sop_instance_uids), _AT_ONCE):
        query = (
            sa.select(
                _instance.c.id,
                _study.c.id,
                _study.c.study_instance_uid,
                _study.c.patient_id,
                _study.c.patient_identifier,
            )
            .join(_study, _study.c.id == _instance.c.study_id)
            .where(_instance.c.sop_instance_uid.in_(sop_instance_uids[start : start + _AT_ONCE]))
            .order_by(_study.c.id, _instance.c.id)
        )
        found += [HeldInstance(*row) for row in connection.execute(query)]
    return found


def rejected_uids(connection: sa.Connection, rejection_id: str) -> list[str]:
    """Return the SOP Instance UIDs that a note names."""
    query = sa.select(_rejected.c.sop_instance_uid).where(_rejected.c.rejection_id == rejection_id)
    return list(connection.execute(query.order_by(_rejected.c.sop_instance_uid)).scalars())


def codes_in_force(connection: sa.Connection, sop_instance_uid: str) -> set[str]:
    """Return the codes of the notes in force that name an instance."""
    query = (
        sa.select(_rejection.c.code)
        .join(_rejected, _rejected.c.rejection_id == _rejection.c.id)
        .where(_rejected.c.sop_instance_uid == sop_instance_uid, _rejection.c.state == "applied")
    )
    return set(connection.execute(query).scalars())


def rejections(
    connection: sa.Connection, scope: Scope, *, study_instance_uid: str = "", state: str = "", after: str = "",
    limit: int = 100,
) -> list[tuple[Rejection, int]]:  # fmt: skip
    """Return notes within the scope, oldest first, with how many instances each names."""
    count = sa.select(sa.func.count()).where(_rejected.c.rejection_id == _rejection.c.id).scalar_subquery()
    query = (
        sa.select(_rejection, count.label("instances"))
        .join(_study, _study.c.id == _rejection.c.study_id)
        .where(_rejection.c.id > after, patient_in_scope(scope, _study.c.patient_id))
        .order_by(_rejection.c.id)
        .limit(limit)
    )
    if study_instance_uid:
        query = query.where(_rejection.c.study_instance_uid == study_instance_uid)
    if state:
        query = query.where(_rejection.c.state == state)
    return [(Rejection(*row[:-1]), int(row[-1])) for row in connection.execute(query)]


@dataclass(frozen=True, slots=True)
class RejectableInstance:
    """An instance that is shown now."""

    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    is_image: bool


def rejectable(
    connection: sa.Connection, study_id: str, series_instance_uid: str | None, sop_instance_uid: str | None
) -> list[RejectableInstance]:
    """Return the instances of a study, a series or one UID that are shown now."""
    columns = (series.c.series_instance_uid, _instance.c.sop_class_uid, _instance.c.sop_instance_uid)
    query = (
        sa.select(*columns, _instance.c.rows.is_not(None))
        .join(series, series.c.id == _instance.c.series_id)
        .where(_instance.c.study_id == study_id, instance_is_shown(), series_is_shown())
        .order_by(series.c.series_instance_uid, _instance.c.number, _instance.c.id)
    )
    if series_instance_uid is not None:
        query = query.where(series.c.series_instance_uid == series_instance_uid)
    if sop_instance_uid is not None:
        query = query.where(_instance.c.sop_instance_uid == sop_instance_uid)
    return [RejectableInstance(row[0], row[1], row[2], bool(row[3])) for row in connection.execute(query)]


def hidden_instance(connection: sa.Connection, sop_instance_uid: str) -> Any:
    """Return an instance that is hidden: the columns of its place, with `patient_id` and `study_id`."""
    place = ("object_key", "object_offset", "object_length", "dataset_offset", "study_id")
    query = (
        sa.select(*(_instance.c[name] for name in place), _study.c.patient_id)
        .join(_study, _study.c.id == _instance.c.study_id)
        .where(
            _instance.c.sop_instance_uid == sop_instance_uid,
            _instance.c.hidden.is_not(None),
            sa.not_(_instance.c.beside),
        )
    )
    return connection.execute(query).one_or_none()
