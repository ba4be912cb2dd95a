"""Links between merged patients, and what has to be looked at when one is undone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from hilum.core.patient import PatientIdentifier
from hilum.storage import tables

if TYPE_CHECKING:
    from hilum.storage.unit_of_work import UnitOfWork

_patient, _merge, _study, _order = tables.patient, tables.patient_merge, tables.study, tables.imaging_order
MOST_ORDERS = 100


@dataclass(frozen=True, slots=True)
class MergeRecord:
    """A merge that stands or, where `undone_at` says so, once stood."""

    survivor_id: str
    subsumed_id: str
    at: datetime
    undone_at: datetime | None
    undone_by: str
    undone_reason: str


def merges_of(connection: sa.Connection, patient_ids: Sequence[str]) -> list[MergeRecord]:
    """Return the merges that ever took one of these patients in or away, latest first."""
    either = sa.or_(_merge.c.survivor_id.in_(patient_ids), _merge.c.subsumed_id.in_(patient_ids))
    rows = connection.execute(sa.select(_merge).where(either).order_by(_merge.c.id.desc()).limit(MOST_ORDERS))
    return [
        MergeRecord(
            row.survivor_id, row.subsumed_id, row.at, row.undone_at, row.undone_by or "", row.undone_reason or ""
        )
        for row in rows
    ]


def below(connection: sa.Connection, patient_id: str) -> list[str]:
    """Return a patient and everyone merged into it, directly or through others."""
    top = sa.select(_patient.c.id).where(_patient.c.id == patient_id).cte("below", recursive=True)
    tree = top.union(sa.select(_patient.c.id).join(top, _patient.c.merged_into == top.c.id))
    return sorted(connection.execute(sa.select(tree.c.id)).scalars())


class Merges:
    """The links of one transaction."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow
        self._db = uow.connection

    def undo(self, subsumed_id: str, by: str, reason: str) -> datetime | None:
        """Take a patient out of the one it was merged into, with those merged into it; return since when it was in."""
        member = below(self._db, subsumed_id)
        self._db.execute(
            _patient.update()
            .where(_patient.c.id == subsumed_id)
            .values(merged_into=None, updated_at=self._uow.now, revision=_patient.c.revision + 1)
        )
        self._db.execute(_patient.update().where(_patient.c.id.in_(member)).values(survivor_id=subsumed_id))
        standing = (_merge.c.subsumed_id == subsumed_id, _merge.c.undone_at.is_(None))
        since: datetime | None = self._db.execute(
            sa.select(sa.func.max(_merge.c.at, type_=_merge.c.at.type)).where(*standing)
        ).scalar()
        self._db.execute(
            _merge.update().where(*standing).values(undone_at=self._uow.now, undone_by=by, undone_reason=reason)
        )
        return since

    def studies_naming(
        self, patient_ids: Sequence[str], identifiers: Iterable[PatientIdentifier]
    ) -> list[Mapping[str, Any]]:
        """Return the rows of studies that lie with these patients while their images name one of these identifiers."""
        named = {(each.value, each.authority) for each in identifiers}
        query = (
            sa.select(_study)
            .where(
                _study.c.patient_id.in_(patient_ids),
                _study.c.patient_identifier.in_({value for value, _ in named}),
                _study.c.reassigned_at.is_(None),
            )
            .order_by(_study.c.id)
        )
        return [
            dict(row)
            for row in self._db.execute(query).mappings()
            if not row["patient_authority"] or (row["patient_identifier"], row["patient_authority"]) in named
        ]

    def give(self, study_id: str, patient_id: str) -> None:
        """Let a study without an order be another patient's."""
        self._db.execute(
            _study.update().where(_study.c.id == study_id).values(patient_id=patient_id, revision=_study.c.revision + 1)
        )

    def orders_since(self, patient_ids: Sequence[str], since: datetime) -> list[str]:
        """Return the latest orders that were placed for these patients since a moment."""
        query = sa.select(_order.c.id).where(_order.c.patient_id.in_(patient_ids), _order.c.placed_at >= since)
        return list(self._db.execute(query.order_by(_order.c.id.desc()).limit(MOST_ORDERS)).scalars())
