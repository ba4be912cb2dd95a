"""Patients, their identifiers and the links between merged ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from hilum.core.actor import Identifier
from hilum.core.patient import Demographics, Patient, PatientIdentifier, PersonName
from hilum.storage import tables

if TYPE_CHECKING:
    from hilum.storage.unit_of_work import UnitOfWork

_patient = tables.patient
_identifier = tables.patient_identifier
_merge = tables.patient_merge
_holder = _patient.alias("holder")
_held = _identifier.alias("held")
_of: sa.BindParameter[str] = sa.bindparam("of")

# One row per identifier of the patient, oldest first; one row where there is none.
_WHOLE = (
    sa.select(_patient, _identifier.c.value, _identifier.c.authority, _identifier.c.type_code)
    .outerjoin(_identifier, _identifier.c.patient_id == _patient.c.id)
    .order_by(_identifier.c.id)
)
_BY_ID = _WHOLE.where(_patient.c.id == _of)
_SURVIVOR = _WHOLE.where(_patient.c.id == sa.select(_holder.c.survivor_id).where(_holder.c.id == _of).scalar_subquery())
_is_held = sa.and_(_held.c.value == sa.bindparam("value"), _held.c.authority == sa.bindparam("authority"))
_HOLDER = _WHOLE.where(_patient.c.id == sa.select(_held.c.patient_id).where(_is_held).scalar_subquery())
_FOUND = _WHOLE.where(
    _patient.c.id
    == sa.select(_holder.c.survivor_id)
    .join(_held, _held.c.patient_id == _holder.c.id)
    .where(_is_held)
    .scalar_subquery()
)
_FAMILY = sa.select(_patient.c.id).where(_patient.c.survivor_id == _of).order_by(_patient.c.id)
_IDENTIFIERS_OF_FAMILY = (
    sa.select(_identifier.c.value, _identifier.c.authority, _identifier.c.type_code)
    .join(_patient, _patient.c.id == _identifier.c.patient_id)
    .where(_patient.c.survivor_id == _of)
    .order_by(_identifier.c.id)
)
_INSERT = _patient.insert()
_INSERT_IDENTIFIER = _identifier.insert()


def patient_from_row(row: sa.Row[Any], identifiers: Iterable[PatientIdentifier]) -> Patient:
    """Build a patient from its row."""
    return Patient(
        id=row.id,
        demographics=Demographics(
            PersonName(row.family, row.given, row.middle, row.prefix, row.suffix), row.birth_date, row.sex
        ),
        identifiers=tuple(identifiers),
        merged_into=row.merged_into,
        demographics_at=row.demographics_at,
        revision=row.revision,
        created_at=row.created_at,
    )


def identifiers_of(connection: sa.Connection, patient_ids: Sequence[str]) -> dict[str, list[PatientIdentifier]]:
    """Return the identifiers of patients, oldest first."""
    found: dict[str, list[PatientIdentifier]] = {patient_id: [] for patient_id in patient_ids}
    query = sa.select(_identifier).where(_identifier.c.patient_id.in_(patient_ids)).order_by(_identifier.c.id)
    for row in connection.execute(query):
        found[row.patient_id].append(PatientIdentifier(row.value, row.authority, row.type_code))
    return found


class Patients:
    """The patients of one transaction."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow
        self._db = uow.connection

    def get(self, patient_id: str) -> Patient:
        """Return a patient as stored, also one that was merged away."""
        return self._require(_BY_ID, patient_id)

    def exists(self, patient_id: str) -> bool:
        """Tell whether there is such a patient, merged or not."""
        return self._whole(_BY_ID, {"of": patient_id}) is not None

    def survivor(self, patient_id: str) -> Patient:
        """Return the patient that `patient_id` was merged into in the end, or itself."""
        return self._require(_SURVIVOR, patient_id)

    def find(self, identifier: Identifier) -> Patient | None:
        """Return the surviving patient who holds an identifier."""
        return self._whole(_FOUND, {"value": identifier.value, "authority": identifier.authority})

    def holder(self, identifier: Identifier) -> Patient | None:
        """Return the patient whose own identifier it is, also one that was merged away."""
        return self._whole(_HOLDER, {"value": identifier.value, "authority": identifier.authority})

    def merged_into(self, patient_id: str) -> list[str]:
        """Return whom a patient was merged into, one after the other up to the survivor."""
        above: list[str] = []
        patient = self.get(patient_id)
        while patient.merged_into is not None:
            above.append(patient.merged_into)
            patient = self.get(patient.merged_into)
        return above

    def holders(self, value: str) -> list[Patient]:
        """Return the surviving patients who hold `value` under any issuer."""
        query = (
            sa.select(_patient.c.survivor_id)
            .join(_identifier, _identifier.c.patient_id == _patient.c.id)
            .where(_identifier.c.value == value)
            .distinct()
            .order_by(_patient.c.survivor_id)
        )
        return [self.get(patient_id) for patient_id in self._db.execute(query).scalars().all()]

    def lock(self, *patient_ids: str | None) -> None:
        """Lock patients in id order until the commit: the patient is what serialises concurrent verbs.

        What was read before the lock may be out of date: read again what is decided on. Rows that merely refer to the
        patient may be added meanwhile (FOR NO KEY UPDATE).
        """
        if self._uow.on_postgresql:
            wanted = sorted({patient_id for patient_id in patient_ids if patient_id})
            query = sa.select(_patient.c.id).where(_patient.c.id.in_(wanted)).order_by(_patient.c.id)
            self._db.execute(query.with_for_update(key_share=True))

    def add(
        self, demographics: Demographics, identifiers: Sequence[PatientIdentifier], demographics_at: datetime | None
    ) -> Patient:
        """Register a person."""
        patient_id = self._uow.new_id()
        columns = {
            "id": patient_id,
            "survivor_id": patient_id,
            **_demographic_columns(demographics),
            "demographics_at": demographics_at,
            "created_at": self._uow.now,
            "updated_at": self._uow.now,
            "revision": 1,
        }
        self._db.execute(_INSERT, columns)
        self.add_identifiers(patient_id, identifiers)
        return Patient(patient_id, demographics, tuple(identifiers), None, demographics_at, created_at=self._uow.now)

    def add_identifiers(self, patient_id: str, identifiers: Iterable[PatientIdentifier]) -> None:
        """Give a patient further identifiers."""
        rows = [
            {
                "id": self._uow.new_id(),
                "patient_id": patient_id,
                "value": identifier.value,
                "authority": identifier.authority,
                "type_code": identifier.type_code,
            }
            for identifier in identifiers
        ]
        if rows:
            self._db.execute(_INSERT_IDENTIFIER, rows)

    def update(self, patient_id: str, demographics: Demographics, demographics_at: datetime | None) -> None:
        """Replace the demographics, as of the time that the sender gives."""
        self._db.execute(
            _patient.update()
            .where(_patient.c.id == patient_id)
            .values(
                **_demographic_columns(demographics),
                demographics_at=demographics_at,
                updated_at=self._uow.now,
                revision=_patient.c.revision + 1,
            )
        )

    def merge(self, survivor_id: str, subsumed_id: str, message_id: str | None) -> None:
        """Link one patient to the survivor; its own rows stay, so that the link can be undone."""
        self._db.execute(
            _patient.update()
            .where(_patient.c.id == subsumed_id)
            .values(merged_into=survivor_id, updated_at=self._uow.now, revision=_patient.c.revision + 1)
        )
        self._db.execute(_patient.update().where(_patient.c.survivor_id == subsumed_id).values(survivor_id=survivor_id))
        self._db.execute(
            _merge.insert().values(
                id=self._uow.new_id(),
                survivor_id=survivor_id,
                subsumed_id=subsumed_id,
                at=self._uow.now,
                message_id=message_id,
            )
        )

    def family(self, patient_id: str) -> list[str]:
        """Return the ids of a survivor and of everyone merged into it, directly or through others."""
        return list(self._db.execute(_FAMILY, {"of": patient_id}).scalars())

    def identifiers_of_family(self, patient_id: str) -> list[PatientIdentifier]:
        """Return the identifiers of a survivor and of everyone merged into it, oldest first."""
        return [PatientIdentifier(*row) for row in self._db.execute(_IDENTIFIERS_OF_FAMILY, {"of": patient_id})]

    def _whole(self, query: sa.Select[Any], parameters: Mapping[str, str]) -> Patient | None:
        rows = self._db.execute(query, parameters).all()
        if not rows:
            return None
        held = (PatientIdentifier(row.value, row.authority, row.type_code) for row in rows if row.value is not None)
        return patient_from_row(rows[0], held)

    def _require(self, query: sa.Select[Any], patient_id: str) -> Patient:
        patient = self._whole(query, {"of": patient_id})
        if patient is None:
            raise sa.exc.NoResultFound
        return patient


def _demographic_columns(demographics: Demographics) -> dict[str, Any]:
    name = demographics.name
    return {
        "family": name.family,
        "given": name.given,
        "middle": name.middle,
        "prefix": name.prefix,
        "suffix": name.suffix,
        "name_folded": name.folded,
        "birth_date": demographics.birth_date,
        "sex": demographics.sex,
    }
