"""The archive's index: studies, series and instances as received."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from hilum.core.study import MatchState, Study
from hilum.storage import tables
from hilum.storage.unread import refresh_unread

if TYPE_CHECKING:
    from hilum.storage.unit_of_work import UnitOfWork

_study = tables.study
_series = tables.series
_instance = tables.instance


def study_from_row(row: sa.Row[Any]) -> Study:
    """Build a study from its row."""
    return Study(
        id=row.id,
        study_instance_uid=row.study_instance_uid,
        patient_id=row.patient_id,
        order_id=row.order_id,
        match_state=MatchState(row.match_state),
        accession_number=row.accession_number,
        description=row.description,
        study_date=row.study_date,
        study_time=row.study_time,
        modalities=tuple(row.modalities.split("\\")) if row.modalities else (),
        series_count=row.series_count,
        instance_count=row.instance_count,
        first_received_at=row.first_received_at,
        last_received_at=row.last_received_at,
        completed_at=row.completed_at,
        revision=row.revision,
    )


class Studies:
    """The studies of one transaction."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow
        self._db = uow.connection

    def get(self, study_id: str, *, lock: bool = False) -> Study:
        """Return a study by its id, locked until the commit where asked for."""
        query = sa.select(_study).where(_study.c.id == study_id)
        return study_from_row(self._db.execute(query.with_for_update(key_share=True) if lock else query).one())

    def find(self, study_instance_uid: str, patient_identifier: str) -> tuple[Study, sa.Row[Any]] | None:
        """Return the study of a UID for the patient whom the images name, with its row, locked until the commit."""
        query = sa.select(_study).where(
            _study.c.study_instance_uid == study_instance_uid, _study.c.patient_identifier == patient_identifier
        )
        row = self._db.execute(query.with_for_update(key_share=True)).one_or_none()
        return None if row is None else (study_from_row(row), row)

    def row(self, study_id: str) -> Mapping[str, Any]:
        """Return all that the images themselves say of a study."""
        return dict(self._db.execute(sa.select(_study).where(_study.c.id == study_id)).mappings().one())

    def of_order(self, order_id: str) -> list[Study]:
        """Return the studies of an order, oldest first."""
        return self._many(_study.c.order_id == order_id)

    def of_patients(self, patient_ids: Sequence[str]) -> list[Study]:
        """Return the studies of patients, oldest first."""
        return self._many(_study.c.patient_id.in_(patient_ids))

    def unmatched(self, accession_number: str, study_instance_uid: str) -> list[Study]:
        """Return unverified studies without an order that name this accession number or study."""
        named = _study.c.study_instance_uid == study_instance_uid
        if accession_number:
            named = sa.or_(named, _study.c.accession_number == accession_number)
        unverified = _study.c.match_state == MatchState.UNVERIFIED.value
        return self._many(_study.c.order_id.is_(None), unverified, named)

    def series_of(self, study_ids: Sequence[str]) -> list[sa.Row[Any]]:
        """Return the series of studies: (id, study_id, series_instance_uid, withheld)."""
        columns = (_series.c.id, _series.c.study_id, _series.c.series_instance_uid, _series.c.withheld)
        return list(self._db.execute(sa.select(*columns).where(_series.c.study_id.in_(study_ids))))

    def holds_series(self, study_id: str, series_instance_uid: str) -> bool:
        """Tell whether a series of a study is known."""
        query = sa.select(_series.c.id).where(
            _series.c.series_instance_uid == series_instance_uid, _series.c.study_id == study_id
        )
        return self._db.execute(query).scalar() is not None

    def withhold_series(self, series_ids: Sequence[str], withheld: bool) -> None:
        """Store whether series are kept from sight."""
        self._db.execute(_series.update().where(_series.c.id.in_(series_ids)).values(withheld=withheld))

    def instance(self, sop_instance_uid: str) -> list[sa.Row[Any]]:
        """Return what is stored under a SOP Instance UID: (id, digest, study_id, beside)."""
        query = sa.select(_instance.c.id, _instance.c.digest, _instance.c.study_id, _instance.c.beside)
        return list(self._db.execute(query.where(_instance.c.sop_instance_uid == sop_instance_uid)))

    def add(self, columns: Mapping[str, Any]) -> str:
        """Store a new study; its counts start at zero."""
        study_id = self._uow.new_id()
        self._db.execute(
            _study.insert().values(
                id=study_id,
                series_count=0,
                instance_count=0,
                modalities="",
                first_received_at=self._uow.now,
                last_received_at=self._uow.now,
                revision=1,
                **columns,
            )
        )
        return study_id

    def add_instance(self, study: Study, series: Mapping[str, Any], instance: Mapping[str, Any]) -> str:
        """Store an instance, with its series when that is new; keep the counts. Return the instance's id."""
        row = self._db.execute(
            sa.select(_series.c.id).where(
                _series.c.series_instance_uid == series["series_instance_uid"], _series.c.study_id == study.id
            )
        ).one_or_none()
        counted = 0 if instance["beside"] else 1
        if row is None:
            series_id = self._uow.new_id()
            self._db.execute(_series.insert().values(id=series_id, study_id=study.id, instance_count=counted, **series))
            if study.order_id is not None:
                refresh_unread(self._uow, study.order_id)
        else:
            series_id = row.id
            self._db.execute(
                _series.update()
                .where(_series.c.id == series_id)
                .values(instance_count=_series.c.instance_count + counted)
            )
        instance_id = self._uow.new_id()
        self._db.execute(
            _instance.insert().values(
                {
                    "received_at": self._uow.now,
                    **instance,
                    "id": instance_id,
                    "series_id": series_id,
                    "study_id": study.id,
                }
            )
        )
        modalities = dict.fromkeys([*study.modalities, *([series["modality"]] if series["modality"] else [])])
        self._db.execute(
            _study.update()
            .where(_study.c.id == study.id)
            .values(
                series_count=_study.c.series_count + (1 if row is None else 0),
                instance_count=_study.c.instance_count + counted,
                modalities="\\".join(modalities),
                last_received_at=self._uow.now,
                completed_at=None,
                revision=_study.c.revision + 1,
            )
        )
        return instance_id

    def match(self, study_id: str, state: MatchState, patient_id: str | None, order_id: str | None) -> None:
        """Store whose study it is."""
        self._db.execute(
            _study.update()
            .where(_study.c.id == study_id)
            .values(match_state=state.value, patient_id=patient_id, order_id=order_id, revision=_study.c.revision + 1)
        )
        if order_id is not None:
            refresh_unread(self._uow, order_id)

    def complete(self, study_id: str) -> None:
        """Store that no more images are expected for now."""
        self._db.execute(
            _study.update()
            .where(_study.c.id == study_id)
            .values(completed_at=self._uow.now, revision=_study.c.revision + 1)
        )

    def _many(self, *where: sa.ColumnElement[bool]) -> list[Study]:
        query = sa.select(_study).where(*where).order_by(_study.c.id)
        return [study_from_row(row) for row in self._db.execute(query)]
