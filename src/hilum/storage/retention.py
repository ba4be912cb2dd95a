"""Legal holds: patients and studies whose images nobody may delete."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from hilum.storage import tables

if TYPE_CHECKING:
    from hilum.storage.unit_of_work import UnitOfWork

_hold, _patient = tables.legal_hold, tables.patient


@dataclass(frozen=True, slots=True)
class LegalHold:
    """A hold: of a patient (and whoever was merged with them) or of a study by its UID."""

    id: str
    patient_id: str | None
    study_instance_uid: str | None
    reason: str
    set_by: str
    at: datetime
    released_at: datetime | None
    released_by: str
    release_reason: str


def is_held(patient_id: sa.ColumnElement[str], study_instance_uid: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """The condition under which a study, by its patient's row and its UID, is under a legal hold."""
    own, held = _patient.alias(), _patient.alias()
    of_patient = sa.exists().where(
        own.c.id == patient_id, held.c.survivor_id == own.c.survivor_id, _hold.c.patient_id == held.c.id, _in_force
    )
    of_study = sa.exists().where(_hold.c.study_instance_uid == study_instance_uid, _in_force)
    return sa.or_(of_patient, of_study)


_in_force = _hold.c.released_at.is_(None)


def study_is_held(connection: sa.Connection, study_id: str) -> bool:
    """Tell whether a study is under a legal hold."""
    study = tables.study
    held = is_held(study.c.patient_id, study.c.study_instance_uid)
    return connection.execute(sa.select(study.c.id).where(study.c.id == study_id, held)).scalar() is not None


def add_hold(uow: UnitOfWork, patient_id: str | None, study_instance_uid: str | None, reason: str, by: str) -> str:
    """Set a hold and return its id."""
    hold_id = uow.new_id()
    uow.connection.execute(
        _hold.insert().values(
            id=hold_id,
            patient_id=patient_id,
            study_instance_uid=study_instance_uid,
            reason=reason,
            set_by=by,
            at=uow.now,
            released_by="",
            release_reason="",
        )
    )
    return hold_id


def hold_of(connection: sa.Connection, hold_id: str, *, lock: bool = False) -> LegalHold | None:
    """Return a hold."""
    query = sa.select(_hold).where(_hold.c.id == hold_id)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    return None if row is None else LegalHold(*row)


def release(uow: UnitOfWork, hold_id: str, by: str, reason: str) -> None:
    """Let a hold go."""
    uow.connection.execute(
        _hold.update().where(_hold.c.id == hold_id).values(released_at=uow.now, released_by=by, release_reason=reason)
    )


def holds_in_force(connection: sa.Connection, after: str = "", limit: int = 1000) -> list[LegalHold]:
    """Return the holds that are in force, oldest first."""
    query = sa.select(_hold).where(_in_force, _hold.c.id > after).order_by(_hold.c.id).limit(limit)
    return [LegalHold(*row) for row in connection.execute(query)]
