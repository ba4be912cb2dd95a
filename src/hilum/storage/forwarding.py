"""Which images of a study a destination has yet to get, and what it has taken or committed itself to.

What is withheld, rejected, deleted or kept beside another instance is never sent, as on every other way out; the note
that rejects images is, so that whoever has them hears of it (IHE RAD TF-2 RAD-66).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from hilum.storage import tables
from hilum.storage.hiding import NOTE
from hilum.storage.retrieval import PLACE, StoredInstance
from hilum.storage.shown import (
    TRUTH_COLUMNS,
    WITH_TRUTH,
    ShownStudy,
    instance,
    instance_is_shown,
    series,
    series_is_shown,
    shown_studies,
    study,
    study_is_shown,
)
from hilum.storage.unit_of_work import UnitOfWork

_sent, _asked = tables.image_sent, tables.commitment_asked
_AT_ONCE = 500
_IS_NOTE = sa.and_(instance.c.hidden == NOTE, sa.not_(instance.c.beside))
_SERIES = (series.c.modality, series.c.number, series.c.description, series.c.body_part, series.c.station_name)
_INSTANCE = (instance.c.number, instance.c.rows, instance.c.columns, instance.c.frames, instance.c.peer)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image that may go to a destination: where it lies, and what conditions may ask of it."""

    stored: StoredInstance
    modality: str
    series_number: int | None
    series_description: str
    body_part: str
    station_name: str
    number: int | None
    rows: int | None
    columns: int | None
    frames: int
    peer: str


@dataclass(frozen=True, slots=True)
class AskedCommitment:
    """What a destination was asked to commit itself to; `failed` is what it does not hold, once it has answered."""

    transaction_uid: str
    asked_at: datetime
    answered_at: datetime | None
    failed: tuple[str, ...]


def shown_study(connection: sa.Connection, study_id: str) -> ShownStudy | None:
    """Return a study with the truth of its patient and order; None where nothing of it may be sent."""
    sendable = sa.or_(study_is_shown(), sa.exists().where(instance.c.study_id == study.c.id, _IS_NOTE))
    query = sa.select(*TRUTH_COLUMNS).select_from(WITH_TRUTH).where(study.c.id == study_id, sendable)
    return next(iter(shown_studies(connection, connection.execute(query).all())), None)


def images_of(connection: sa.Connection, study_id: str, destination: str, *, sent: bool) -> list[Candidate]:
    """Return the images of a study that a destination has taken already, or those that it has not, in their order."""
    taken = sa.exists().where(_sent.c.destination == destination, _sent.c.instance_id == instance.c.id)
    query = (
        sa.select(*PLACE, *_SERIES, *_INSTANCE)
        .join(series, series.c.id == instance.c.series_id)
        .where(instance.c.study_id == study_id, sa.or_(sa.and_(series_is_shown(), instance_is_shown()), _IS_NOTE))
        .where(taken if sent else sa.not_(taken))
        .order_by(series.c.number, series.c.id, instance.c.number, instance.c.id)
    )
    size = len(PLACE)
    return [Candidate(StoredInstance(*row[:size]), *row[size:]) for row in connection.execute(query)]


def commitment_for(connection: sa.Connection, delivery_id: str) -> AskedCommitment | None:
    """Return what was last asked of a destination for a delivery."""
    query = sa.select(_asked).where(_asked.c.delivery_id == delivery_id).order_by(_asked.c.asked_at.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    return AskedCommitment(row.transaction_uid, row.asked_at, row.answered_at, tuple(row.failed))


class Forwarded:
    """What destinations have taken, in one transaction."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow
        self._db = uow.connection

    def note(self, destination: str, statuses: Mapping[str, int]) -> None:
        """Note that a destination has taken images, by their ids; what is noted already stays."""
        known = self._known(destination, sorted(statuses))
        fresh = [
            {"destination": destination, "instance_id": each, "status": status, "at": self._uow.now}
            for each, status in sorted(statuses.items())
            if each not in known
        ]
        if fresh:
            self._db.execute(_sent.insert(), fresh)

    def _known(self, destination: str, instance_ids: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for start in range(0, len(instance_ids), _AT_ONCE):
            part = instance_ids[start : start + _AT_ONCE]
            query = sa.select(_sent.c.instance_id).where(
                _sent.c.destination == destination, _sent.c.instance_id.in_(part)
            )
            found |= set(self._db.execute(query).scalars())
        return found

    def ask(self, transaction_uid: str, destination: str, ae_title: str, delivery_id: str) -> None:
        """Note that a destination is being asked to commit itself."""
        values: dict[str, Any] = {
            "transaction_uid": transaction_uid,
            "destination": destination,
            "ae_title": ae_title,
            "delivery_id": delivery_id,
            "asked_at": self._uow.now,
            "answered_at": None,
            "failed": [],
        }
        self._db.execute(_asked.insert().values(values))

    def answer(self, transaction_uid: str, ae_title: str, failed: Sequence[str]) -> bool:
        """Note what a destination answered; tell whether it was asked. What it lacks counts as not sent."""
        query = sa.select(_asked.c.destination).where(
            _asked.c.transaction_uid == transaction_uid, _asked.c.ae_title == ae_title
        )
        destination = self._db.execute(query.with_for_update()).scalar()
        if destination is None:
            return False
        self._db.execute(
            _asked.update()
            .where(_asked.c.transaction_uid == transaction_uid)
            .values(answered_at=self._uow.now, failed=list(failed))
        )
        for start in range(0, len(failed), _AT_ONCE):
            uids = failed[start : start + _AT_ONCE]
            ids = sa.select(instance.c.id).where(instance.c.sop_instance_uid.in_(uids))
            self._db.execute(_sent.delete().where(_sent.c.destination == destination, _sent.c.instance_id.in_(ids)))
        return True
