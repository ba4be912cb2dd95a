"""The audit trail as people and other systems read it: rows by name, in pages, and all about one person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from hilum.storage import tables

_audit = tables.audit_event
_patient = tables.patient
_order = tables.imaging_order
_study = tables.study
_identifier = tables.patient_identifier

ROWS_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One row of the trail, and the patient whom its patient was merged into."""

    writer: str
    sequence: int
    at: datetime
    actor: str
    role: str
    door: str
    address: str
    action: str
    outcome: str
    reason: str
    purpose: str
    patient_id: str | None
    order_id: str | None
    study_id: str | None
    message_id: str | None
    survivor_id: str | None = None

    @property
    def id(self) -> str:
        """The name of the row."""
        return f"{self.writer}.{self.sequence}"

    @property
    def about_somebody(self) -> bool:
        """Whether the row is about a patient, an order or a study."""
        return bool(self.patient_id or self.order_id or self.study_id)


@dataclass(frozen=True, slots=True)
class SubjectNames:
    """The names by which other systems know whom and what an audit row is about; empty where they have none."""

    patient_identifier: str = ""
    patient_authority: str = ""
    accession_number: str = ""
    study_instance_uid: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """A person with everyone merged into them, as the trail and messages name them."""

    survivor_id: str
    members: tuple[str, ...]
    identifiers: dict[str, tuple[str, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        """All identifiers of the person, the survivor's first."""
        ordered = (self.survivor_id, *(member for member in self.members if member != self.survivor_id))
        return tuple(name for member in ordered for name in self.identifiers.get(member, ()))


_COLUMNS = tuple(_audit.c[name] for name in AuditRecord.__dataclass_fields__ if name != "survivor_id")


def audit_record(row: Any) -> AuditRecord:
    """Build a record from a row with the columns of the trail."""
    return AuditRecord(*(getattr(row, name) for name in AuditRecord.__dataclass_fields__))


def _records() -> sa.Select[Any]:
    named = _patient.alias()
    return sa.select(*_COLUMNS, named.c.survivor_id).select_from(
        _audit.outerjoin(named, named.c.id == _audit.c.patient_id)
    )


def audit_records(connection: sa.Connection, ids: Sequence[str]) -> list[AuditRecord]:
    """Return rows of the trail in the order of their names."""
    places = [(writer, int(number)) for writer, _, number in (name.rpartition(".") for name in ids)]
    if not places:
        return []
    here = sa.or_(*(sa.and_(_audit.c.writer == writer, _audit.c.sequence == number) for writer, number in places))
    found = {record.id: record for record in map(audit_record, connection.execute(_records().where(here)))}
    return [found[name] for name in ids if name in found]


def rows_of_ranges(connection: sa.Connection, ranges: Sequence[tuple[str, int, int]]) -> list[AuditRecord]:
    """Return the rows of ranges (writer, first, last), in the order of time."""
    found: list[AuditRecord] = []
    for writer, first, last in ranges:
        here = sa.and_(_audit.c.writer == writer, _audit.c.sequence.between(first, last))
        found += map(audit_record, connection.execute(_records().where(here)))
    return sorted(found, key=lambda record: (record.at, record.writer, record.sequence))


def family_of(connection: sa.Connection, patient_id: str) -> Family | None:
    """Return the person whom a patient's row stands for now, with everyone merged into them."""
    query = sa.select(_patient.c.survivor_id).where(_patient.c.id == patient_id)
    survivor = connection.execute(query).scalar()
    if survivor is None:
        return None
    members = sa.select(_patient.c.id).where(_patient.c.survivor_id == survivor).order_by(_patient.c.id)
    ids = tuple(connection.execute(members).scalars())
    named: dict[str, tuple[str, ...]] = {}
    query = sa.select(_identifier).where(_identifier.c.patient_id.in_(ids)).order_by(_identifier.c.id)
    for row in connection.execute(query):
        named[row.patient_id] = (*named.get(row.patient_id, ()), f"{row.value}^{row.authority}".rstrip("^"))
    return Family(survivor, ids, named)


def find_person(connection: sa.Connection, value: str, authority: str) -> str | None:
    """Return the surviving patient who holds an identifier; None where nobody does, or several do."""
    query = sa.select(_patient.c.survivor_id).join(_identifier, _identifier.c.patient_id == _patient.c.id)
    query = query.where(_identifier.c.value == value)
    if authority:
        query = query.where(_identifier.c.authority == authority)
    found = list(connection.execute(query.distinct().limit(2)).scalars())
    return found[0] if len(found) == 1 else None


def rows_about(
    connection: sa.Connection, members: Sequence[str], *, before: AuditRecord | None = None, limit: int
) -> list[AuditRecord]:
    """Return what was done with the data of a person, the latest first; `before` is the last row of the page before."""
    query = _about(members)
    if before is not None:
        row = query.selected_columns
        place = (row.writer < before.writer) | ((row.writer == before.writer) & (row.sequence < before.sequence))
        query = query.where((row.at < before.at) | ((row.at == before.at) & place))
    return list(map(audit_record, connection.execute(query.limit(limit))))


def every_row_about(connection: sa.Connection, members: Sequence[str]) -> Iterator[AuditRecord]:
    """Stream what was done with the data of a person, the latest first."""
    streaming = connection.execution_options(yield_per=ROWS_AT_ONCE)
    yield from map(audit_record, streaming.execute(_about(members)))


def _about(members: Sequence[str]) -> sa.Select[Any]:
    """All rows that name a person, and those about images of theirs that were nobody's yet; each by its own index."""
    named = _records().where(_audit.c.patient_id.in_(members))
    studies = sa.select(_study.c.id).where(_study.c.patient_id.in_(members))
    unnamed = _records().where(_audit.c.patient_id.is_(None), _audit.c.study_id.in_(studies))
    both = sa.union_all(named, unnamed).subquery()
    return sa.select(both).order_by(both.c.at.desc(), both.c.writer.desc(), both.c.sequence.desc())


def names_of(connection: sa.Connection, records: Sequence[AuditRecord]) -> dict[str, SubjectNames]:
    """Return the names of what rows are about, by the rows' own names."""
    patients = {record.patient_id for record in records if record.patient_id}
    orders = {record.order_id for record in records if record.order_id}
    studies = {record.study_id for record in records if record.study_id}
    numbers = sa.select(_identifier).where(_identifier.c.patient_id.in_(patients)).order_by(_identifier.c.id.desc())
    # The first identifier of each wins, since it is read last.
    persons = {row.patient_id: (row.value, row.authority) for row in connection.execute(numbers)}
    columns = (_order.c.id, _order.c.accession_number, _order.c.study_instance_uid)
    query = sa.select(*columns).where(_order.c.id.in_(orders))
    ordered = {row.id: (row.accession_number, row.study_instance_uid) for row in connection.execute(query)}
    uids = sa.select(_study.c.id, _study.c.study_instance_uid).where(_study.c.id.in_(studies))
    images = {row.id: row.study_instance_uid for row in connection.execute(uids)}
    return {
        record.id: SubjectNames(
            *persons.get(record.patient_id or "", ("", "")),
            (of_order := ordered.get(record.order_id or "", ("", "")))[0],
            images.get(record.study_id or "", of_order[1]),
        )
        for record in records
    }
