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
_of: sa.BindParameter[str] = sa.bindparam("of")

_BY_ID = sa.select(_study).where(_study.c.id == _of)
_BY_ID_LOCKED = _BY_ID.with_for_update(key_share=True)
_OF_ORDER = sa.select(_study).where(_study.c.order_id == _of).order_by(_study.c.id)
# Nothing else in the condition: a planner without statistics would walk all unverified studies rather than these two.
_NAMED = (
    sa.select(_study)
    .where(
        sa.or_(
            _study.c.study_instance_uid == sa.bindparam("study_uid"),
            sa.and_(_study.c.accession_number == sa.bindparam("accession"), sa.bindparam("accession") != ""),
        )
    )
    .order_by(_study.c.id)
)
_HELD = sa.select(
    _instance.c.id, _instance.c.digest, _instance.c.study_id, _instance.c.beside, _instance.c.hidden
).where(_instance.c.sop_instance_uid == _of)
_HELD_OF = sa.select(_instance.c.sop_instance_uid).where(
    _instance.c.sop_instance_uid.in_(sa.bindparam("uids", expanding=True))
)
_ADD = _study.insert()
_ADD_SERIES = _series.insert()
_ADD_INSTANCE = _instance.insert()
_counted: sa.BindParameter[int] = sa.bindparam("counted", type_=sa.Integer)
_COUNT_IN_SERIES = (
    _series.update().where(_series.c.id == _of).values(instance_count=_series.c.instance_count + _counted)
)
_COUNT_IN_STUDY = (
    _study.update()
    .where(_study.c.id == _of)
    .values(
        series_count=_study.c.series_count + sa.bindparam("new_series", type_=sa.Integer),
        instance_count=_study.c.instance_count + _counted,
        modalities=sa.bindparam("seen_modalities"),
        last_received_at=sa.bindparam("now"),
        completed_at=None,
        revision=_study.c.revision + 1,
    )
)


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
        query = _BY_ID_LOCKED if lock else _BY_ID
        return study_from_row(self._db.execute(query, {"of": study_id}).one())

    def find(self, study_id: str, *, lock: bool = False) -> Study | None:
        """Return a study as `get` does, or None where it was deleted since."""
        row = self._db.execute(_BY_ID_LOCKED if lock else _BY_ID, {"of": study_id}).one_or_none()
        return None if row is None else study_from_row(row)

    def row(self, study_id: str) -> Mapping[str, Any]:
        """Return all that the images themselves say of a study."""
        return dict(self._db.execute(sa.select(_study).where(_study.c.id == study_id)).mappings().one())

    def of_order(self, order_id: str) -> list[Study]:
        """Return the studies of an order, oldest first."""
        return [study_from_row(row) for row in self._db.execute(_OF_ORDER, {"of": order_id})]

    def of_patients(self, patient_ids: Sequence[str]) -> list[Study]:
        """Return the studies of patients, oldest first."""
        query = sa.select(_study).where(_study.c.patient_id.in_(patient_ids)).order_by(_study.c.id)
        return [study_from_row(row) for row in self._db.execute(query)]

    def unmatched(self, accession_number: str, study_instance_uid: str) -> list[Study]:
        """Return unverified studies without an order that name this accession number or study."""
        named = {"study_uid": study_instance_uid, "accession": accession_number}
        found = [study_from_row(row) for row in self._db.execute(_NAMED, named)]
        return [study for study in found if study.order_id is None and study.match_state is MatchState.UNVERIFIED]

    def series_of(self, study_ids: Sequence[str]) -> list[sa.Row[Any]]:
        """Return the series of studies: (id, study_id, series_instance_uid, withheld)."""
        columns = (_series.c.id, _series.c.study_id, _series.c.series_instance_uid, _series.c.withheld)
        return list(self._db.execute(sa.select(*columns).where(_series.c.study_id.in_(study_ids))))

    def withhold_series(self, series_ids: Sequence[str], withheld: bool) -> None:
        """Store whether series are kept from sight."""
        self._db.execute(_series.update().where(_series.c.id.in_(series_ids)).values(withheld=withheld))

    def release_series(self, study: Study, series_ids: Sequence[str]) -> None:
        """Show series again that were kept from sight; what is known of the study is new then."""
        self.withhold_series(series_ids, False)
        self._db.execute(_study.update().where(_study.c.id == study.id).values(revision=_study.c.revision + 1))
        if study.order_id is not None:
            refresh_unread(self._uow, study.order_id)

    def instance(self, sop_instance_uid: str) -> list[sa.Row[Any]]:
        """Return what is stored under a SOP Instance UID: (id, digest, study_id, beside, hidden)."""
        return list(self._db.execute(_HELD, {"of": sop_instance_uid}))

    def held_of(self, sop_instance_uids: Sequence[str]) -> set[str]:
        """Return those of these SOP Instance UIDs under which something is stored."""
        return set(self._db.execute(_HELD_OF, {"uids": list(sop_instance_uids)}).scalars())

    def add(self, columns: Mapping[str, Any]) -> str:
        """Store a new study; its counts start at zero."""
        study_id = self._uow.new_id()
        self._db.execute(
            _ADD,
            {
                **columns,
                "id": study_id,
                "series_count": 0,
                "instance_count": 0,
                "modalities": "",
                "first_received_at": self._uow.now,
                "last_received_at": self._uow.now,
                "revision": 1,
            },
        )
        return study_id

    def add_instance(
        self, study: Study, series_id: str | None, series: Mapping[str, Any], instance: Mapping[str, Any]
    ) -> str:
        """Store an instance, with its series where that is new (None); keep the counts. Return the instance's id."""
        counted = 0 if instance["beside"] or instance.get("hidden") else 1
        is_new = series_id is None
        if series_id is None:
            series_id = self._uow.new_id()
            columns = {**series, "id": series_id, "study_id": study.id, "instance_count": counted}
            self._db.execute(_ADD_SERIES, columns)
            if study.order_id is not None:
                refresh_unread(self._uow, study.order_id)
        else:
            self._db.execute(_COUNT_IN_SERIES, {"of": series_id, "counted": counted})
        instance_id = self._uow.new_id()
        self._db.execute(
            _ADD_INSTANCE,
            {
                "received_at": self._uow.now,
                **instance,
                "id": instance_id,
                "series_id": series_id,
                "study_id": study.id,
            },
        )
        modalities = dict.fromkeys([*study.modalities, *([series["modality"]] if series["modality"] else [])])
        counts = {
            "of": study.id,
            "new_series": int(is_new),
            "counted": counted,
            "seen_modalities": "\\".join(modalities),
            "now": self._uow.now,
        }
        self._db.execute(_COUNT_IN_STUDY, counts)
        return instance_id

    def add_more(self, study: Study, series_id: str, modality: str, instances: Sequence[Mapping[str, Any]]) -> None:
        """Store further instances of a known series, none of them beside another or hidden; keep the counts."""
        own = {"series_id": series_id, "study_id": study.id, "beside": False, "hidden": None}
        rows = [{"received_at": self._uow.now, **each, **own, "id": self._uow.new_id()} for each in instances]
        self._db.execute(_ADD_INSTANCE, rows)
        self._db.execute(_COUNT_IN_SERIES, {"of": series_id, "counted": len(rows)})
        modalities = dict.fromkeys([*study.modalities, *([modality] if modality else [])])
        counts = {
            "of": study.id,
            "new_series": 0,
            "counted": len(rows),
            "seen_modalities": "\\".join(modalities),
            "now": self._uow.now,
        }
        self._db.execute(_COUNT_IN_STUDY, counts)

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
