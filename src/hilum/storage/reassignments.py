"""What a person moved to another patient, order or study; the rows that move, and how they go back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from hilum.storage import tables
from hilum.storage.shown import instance_is_shown

if TYPE_CHECKING:
    from hilum.storage.unit_of_work import UnitOfWork

_study, _series, _instance, _done = tables.study, tables.series, tables.instance, tables.reassignment
_AT_ONCE = 500
MOST_LISTED = 50


@dataclass(frozen=True, slots=True)
class Reassignment:
    """What was moved, from where, and by whom. `before` holds patient, order and state of the study,
    and which of its series were withheld.

    `series_ids` are series that moved whole; `instance_ids` says of each instance that moved alone in which series it
    was.
    """

    id: str
    kind: str
    study_id: str
    into_study_id: str
    before: Mapping[str, Any]
    series_ids: tuple[str, ...]
    instance_ids: Mapping[str, str]
    reason: str
    by: str
    at: datetime
    undone_at: datetime | None
    undone_by: str
    undone_reason: str


def reassignments_of(connection: sa.Connection, study_ids: Sequence[str]) -> list[Reassignment]:
    """Return what was done with studies, latest first."""
    either = sa.or_(_done.c.study_id.in_(study_ids), _done.c.into_study_id.in_(study_ids))
    rows = connection.execute(sa.select(_done).where(either).order_by(_done.c.id.desc()).limit(MOST_LISTED))
    return [_from_row(row) for row in rows]


def _from_row(row: sa.Row[Any]) -> Reassignment:
    return Reassignment(
        row.id, row.kind, row.study_id, row.into_study_id, row.before, tuple(row.series_ids),
        row.instance_ids, row.reason, row.by, row.at, row.undone_at, row.undone_by or "", row.undone_reason or "",
    )  # fmt: skip


class Reassignments:
    """Moves of one transaction."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow
        self._db = uow.connection

    def get(self, reassignment_id: str) -> Reassignment | None:
        """Return what was done."""
        row = self._db.execute(sa.select(_done).where(_done.c.id == reassignment_id)).one_or_none()
        return None if row is None else _from_row(row)

    def add(self, **columns: Any) -> Reassignment:
        """Put on record what was done."""
        values = {**columns, "id": self._uow.new_id(), "at": self._uow.now}
        self._db.execute(_done.insert().values(values))
        return _from_row(self._db.execute(sa.select(_done).where(_done.c.id == values["id"])).one())

    def note_undone(self, reassignment_id: str, by: str, reason: str) -> None:
        """Put on record that it was taken back."""
        self._db.execute(
            _done.update()
            .where(_done.c.id == reassignment_id)
            .values(undone_at=self._uow.now, undone_by=by, undone_reason=reason)
        )

    def standing(self, study_ids: Sequence[str]) -> list[Reassignment]:
        """Return what was done with studies and not taken back, latest first."""
        return [each for each in reassignments_of(self._db, study_ids) if each.undone_at is None]

    def was_moved(self, study_id: str) -> bool:
        """Tell whether a person moved a study as a whole."""
        return any(each.kind == "move" for each in self.standing([study_id]))

    def others_under(self, study_instance_uid: str, study_id: str) -> bool:
        """Tell whether images of somebody else lie under the same Study Instance UID."""
        query = sa.select(_study.c.id).where(_study.c.study_instance_uid == study_instance_uid, _study.c.id != study_id)
        return self._db.execute(query.limit(1)).scalar() is not None

    def has_images(self, order_id: str) -> bool:
        """Tell whether an order has proven images that may be shown."""
        proven = (_study.c.order_id == order_id, _study.c.match_state == "verified", _study.c.instance_count > 0)
        return self._db.execute(sa.select(_study.c.id).where(*proven).limit(1)).scalar() is not None

    def mark(self, study_id: str, at: datetime | None) -> None:
        """Store that a person moved the study to where it is, or that nobody did."""
        values = {"reassigned_at": at, "revision": _study.c.revision + 1}
        self._db.execute(_study.update().where(_study.c.id == study_id).values(**values))

    def series(self, study_id: str) -> list[sa.Row[Any]]:
        """Return the series of a study that hold anything: (id, series_instance_uid, withheld)."""
        holds = sa.exists().where(_instance.c.series_id == _series.c.id)
        columns = (_series.c.id, _series.c.series_instance_uid, _series.c.withheld)
        return list(
            self._db.execute(sa.select(*columns).where(_series.c.study_id == study_id, holds).order_by(_series.c.id))
        )

    def instances(self, study_id: str, sop_instance_uids: Sequence[str]) -> dict[str, str]:
        """Return the series of instances of a study by the ids of the instances, those kept beside them too."""
        found: dict[str, str] = {}
        for start in range(0, len(sop_instance_uids), _AT_ONCE):
            query = sa.select(_instance.c.id, _instance.c.series_id).where(
                _instance.c.study_id == study_id,
                _instance.c.sop_instance_uid.in_(sop_instance_uids[start : start + _AT_ONCE]),
            )
            found |= {row.id: row.series_id for row in self._db.execute(query)}
        return found

    def all_of_series(self, series_id: str) -> dict[str, str]:
        """Return all instances of a series by their ids, each with the id of the series."""
        ids = self._db.execute(sa.select(_instance.c.id).where(_instance.c.series_id == series_id)).scalars()
        return dict.fromkeys(ids, series_id)

    def copy_study(self, study_id: str, study_instance_uid: str) -> str:
        """Make a study that says of itself what another one does, but for its UID, and holds nothing yet."""
        row = dict(self._db.execute(sa.select(_study).where(_study.c.id == study_id)).mappings().one())
        empty = {"series_count": 0, "instance_count": 0, "announced_count": 0, "modalities": "", "revision": 1}
        new_id = self._uow.new_id()
        self._db.execute(
            _study.insert().values({**row, **empty, "id": new_id, "study_instance_uid": study_instance_uid})
        )
        return new_id

    def copy_series(self, series_id: str, study_id: str, series_instance_uid: str) -> str:
        """Make a series in a study that says of itself what another one does, but for its UID, and holds nothing."""
        row = dict(self._db.execute(sa.select(_series).where(_series.c.id == series_id)).mappings().one())
        new_id = self._uow.new_id()
        new = {"id": new_id, "study_id": study_id, "series_instance_uid": series_instance_uid, "instance_count": 0}
        self._db.execute(_series.insert().values({**row, **new, "origin_study_id": None}))
        return new_id

    def are_series(self, series_ids: Sequence[str]) -> bool:
        """Tell whether all of these series are still there."""
        query = sa.select(sa.func.count()).where(_series.c.id.in_(series_ids))
        return self._db.execute(query).scalar_one() == len(set(series_ids))

    def withheld(self, study_id: str) -> list[str]:
        """Return the series of a study that are withheld."""
        return [row.id for row in self.series(study_id) if row.withheld]

    def withhold(self, series_ids: Sequence[str], withheld: bool) -> None:
        """Store whether series are kept from sight."""
        self._db.execute(_series.update().where(_series.c.id.in_(series_ids)).values(withheld=withheld))

    def move_series(self, series_ids: Sequence[str], study_id: str, origin_study_id: str | None) -> None:
        """Put series into a study; more images of theirs that come for the study of their origin will follow them."""
        these = _series.c.id.in_(series_ids)
        self._db.execute(_series.update().where(these).values(study_id=study_id, origin_study_id=origin_study_id))
        self._db.execute(_instance.update().where(_instance.c.series_id.in_(series_ids)).values(study_id=study_id))

    def move_instances(self, instance_ids: Sequence[str], series_id: str, study_id: str) -> None:
        """Put instances into a series of a study."""
        for start in range(0, len(instance_ids), _AT_ONCE):
            these = _instance.c.id.in_(instance_ids[start : start + _AT_ONCE])
            self._db.execute(_instance.update().where(these).values(series_id=series_id, study_id=study_id))

    def recount(self, *study_ids: str) -> None:
        """Bring counts and modalities of studies in line with what lies in them.

        A series that is empty now stays, unseen, for what may come back to it.
        """
        for study_id in sorted(set(study_ids)):
            counted = (
                sa.select(sa.func.count())
                .where(_instance.c.series_id == _series.c.id, instance_is_shown())
                .scalar_subquery()
            )
            self._db.execute(_series.update().where(_series.c.study_id == study_id).values(instance_count=counted))
            query = sa.select(_series.c.modality, _series.c.instance_count).where(_series.c.study_id == study_id)
            rows = self._db.execute(query.order_by(_series.c.id)).all()
            self._db.execute(
                _study.update()
                .where(_study.c.id == study_id)
                .values(
                    series_count=len(rows),
                    instance_count=sum(row.instance_count for row in rows),
                    modalities="\\".join(
                        dict.fromkeys(row.modality for row in rows if row.modality and row.instance_count)
                    ),
                    revision=_study.c.revision + 1,
                )
            )
