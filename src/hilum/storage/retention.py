"""Legal holds, and the studies whose retention may be over."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from hilum.storage import tables
from hilum.storage.hiding import is_marked

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


def studies_of_uid(connection: sa.Connection, study_instance_uid: str) -> list[tuple[str, str | None]]:
    """Return (id, patient's id) of the studies under a UID."""
    study = tables.study
    query = sa.select(study.c.id, study.c.patient_id).where(study.c.study_instance_uid == study_instance_uid)
    return [(row.id, row.patient_id) for row in connection.execute(query.order_by(study.c.id))]


@dataclass(frozen=True, slots=True)
class AgedStudy:
    """A study with what its retention is counted from; dates are DICOM DA as the images say them, or empty."""

    id: str
    study_instance_uid: str
    modalities: tuple[str, ...]
    instance_count: int
    study_date: str
    received_at: datetime
    last_exam_date: str
    birth_date: date | None
    birth_date_on_images: str


def aged_studies(connection: sa.Connection, before: str, after: str = "", limit: int = 200) -> list[AgedStudy]:
    """Return studies that are dated before a day (DA, or received then where they have no date), by id after one.

    Left out is what is under a legal hold, not shown, or waits for a person's decision.
    """
    study, item, patient = tables.study, tables.exception_item, _patient.alias()
    survivor, member, other = _patient.alias(), _patient.alias(), tables.study.alias()
    family = sa.select(member.c.id).where(member.c.survivor_id == survivor.c.id).correlate(survivor)
    latest = (
        sa.select(sa.func.max(other.c.study_date))
        .where(
            sa.or_(
                other.c.patient_id.in_(family),
                sa.and_(study.c.patient_id.is_(None), other.c.patient_identifier == study.c.patient_identifier),
            )
        )
        .correlate(study, survivor)
        .scalar_subquery()
    )
    waits = sa.exists().where(item.c.study_id == study.c.id, item.c.resolved_at.is_(None))
    query = (
        sa.select(study, survivor.c.birth_date.label("registered_birth_date"), latest.label("last_exam_date"))
        .outerjoin(patient, patient.c.id == study.c.patient_id)
        .outerjoin(survivor, survivor.c.id == patient.c.survivor_id)
        .where(
            study.c.id > after,
            study.c.study_date < before,
            study.c.instance_count > 0,
            sa.not_(is_held(study.c.patient_id, study.c.study_instance_uid)),
            sa.not_(waits),
        )
        .order_by(study.c.id)
        .limit(limit)
    )
    return [
        AgedStudy(
            row.id,
            row.study_instance_uid,
            tuple(row.modalities.split("\\")) if row.modalities else (),
            row.instance_count,
            row.study_date,
            row.first_received_at,
            row.last_exam_date or "",
            row.registered_birth_date,
            row.patient_birth_date,
        )
        for row in connection.execute(query)
    ]


def unmarked_notes(connection: sa.Connection, code: str, limit: int = 100) -> list[str]:
    """Return the notes in force of a code whose instances are not all marked yet, without those under a legal hold."""
    rejection, rejected, instance, study = (
        tables.rejection,
        tables.rejected_instance,
        tables.instance,
        tables.study,
    )
    unmarked = sa.exists().where(
        rejected.c.rejection_id == rejection.c.id,
        instance.c.sop_instance_uid == rejected.c.sop_instance_uid,
        sa.not_(is_marked(instance)),
    )
    query = (
        sa.select(rejection.c.note_uid)
        .join(study, study.c.id == rejection.c.study_id)
        .where(
            rejection.c.code == code,
            rejection.c.state == "applied",
            unmarked,
            sa.not_(is_held(study.c.patient_id, study.c.study_instance_uid)),
        )
        .order_by(rejection.c.id)
        .limit(limit)
    )
    return list(connection.execute(query).scalars())
