"""Who may see whom beyond the rules: labels of patients, care teams of visits, grants for a time and their reviews."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from hilum.core.actor import Actor, Identifier
from hilum.core.patient import PatientIdentifier
from hilum.core.scope import UNMATCHED, Confidentiality, GrantKind, Resource
from hilum.storage import tables
from hilum.storage.patients import identifiers_of
from hilum.storage.scoping import covers_label, in_facility, is_active, related_survivors

if TYPE_CHECKING:
    from hilum.storage.unit_of_work import UnitOfWork

_grant, _label, _team, _patient = tables.access_grant, tables.patient_label, tables.care_team, tables.patient


@dataclass(frozen=True, slots=True)
class Grant:
    """Access for a time. `patient_id` is the survivor's; it and `label` are empty for a number that is nobody's."""

    id: str
    account: str
    kind: GrantKind
    patient_id: str | None
    identifier: PatientIdentifier | None
    label: Confidentiality | None
    reason: str
    granted_by: str
    at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    reviewed_at: datetime | None
    reviewed_by: str
    review: str


def resource_of(connection: sa.Connection, actor: Actor, patient_id: str | None) -> Resource:
    """Return what the policy has to know of a patient to decide for an actor."""
    own = connection.execute(sa.select(_patient.c.survivor_id).where(_patient.c.id == patient_id)).scalar()
    if own is None:
        return UNMATCHED
    survivor = sa.literal(own)
    label = label_of(connection, own)
    related = bool(actor.identifiers) and bool(
        connection.execute(sa.select(survivor.in_(related_survivors(actor.identifiers)))).scalar()
    )
    facility = bool(actor.facilities) and bool(
        connection.execute(sa.select(in_facility(actor.facilities, survivor))).scalar()
    )
    kinds, opened = _grants_for(connection, actor.name, own, label)
    granted = next((kind for kind in GrantKind if kind.value in kinds), None)
    return Resource(
        label=label, related=related, in_facility=facility, granted=granted, label_granted=label.value in opened
    )


def _grants_for(
    connection: sa.Connection, account: str, survivor_id: str, label: Confidentiality
) -> tuple[set[str], set[str]]:
    """The kinds of an account's grants for a patient, and the labels that it was given."""
    mine = sa.select(_grant.c.kind, _grant.c.label).where(_grant.c.account == account, is_active(_grant))
    family = sa.select(_patient.c.id).where(_patient.c.survivor_id == survivor_id)
    of_patient = mine.where(_grant.c.patient_id.in_(family), _grant.c.ceiling >= label.strictness)
    rows = connection.execute(sa.union_all(of_patient, mine.where(_grant.c.label.is_not(None)))).all()
    return {row.kind for row in rows if row.label is None}, {row.label for row in rows if row.label is not None}


def label_of(connection: sa.Connection, patient_id: str) -> Confidentiality:
    """Return the strictest label of a person, whoever was merged into whom."""
    own, member = _patient.alias(), _patient.alias()
    query = (
        sa.select(_label.c.label)
        .join(member, member.c.id == _label.c.patient_id)
        .join(own, own.c.survivor_id == member.c.survivor_id)
        .where(own.c.id == patient_id)
        .order_by(_label.c.strictness.desc())
        .limit(1)
    )
    found = connection.execute(query).scalar()
    return Confidentiality(found) if found else Confidentiality.NORMAL


def patient_of(connection: sa.Connection, order_id: str | None, study_id: str | None) -> str | None:
    """Return whose an order or, without one, a study is; None where nobody knows yet."""
    table, row_id = (tables.imaging_order, order_id) if order_id else (tables.study, study_id)
    return connection.execute(sa.select(table.c.patient_id).where(table.c.id == row_id)).scalar()


def glass_broken_until(connection: sa.Connection, account: str, patient_id: str) -> datetime | None:
    """Return until when an account sees a patient by breaking the glass; None where it does not."""
    own = _patient.alias()
    survivor = sa.select(own.c.survivor_id).where(own.c.id == patient_id).scalar_subquery()
    query = (
        sa.select(sa.func.max(_grant.c.expires_at))
        .join(_patient, _patient.c.id == _grant.c.patient_id)
        .where(
            _grant.c.account == account,
            _grant.c.kind == GrantKind.BREAK_GLASS.value,
            is_active(_grant),
            _patient.c.survivor_id == survivor,
            covers_label(_patient.c.survivor_id),
        )
    )
    until: datetime | None = connection.execute(query).scalar()
    return until


def grants_of(connection: sa.Connection, account: str) -> list[Grant]:
    """Return the grants of an account that are in force for a patient or a label, newest first."""
    covered = sa.or_(_grant.c.label.is_not(None), covers_label(_patient.c.survivor_id))
    query = _grants().where(_grant.c.account == account, is_active(_grant), covered)
    named = sa.or_(_grant.c.patient_id.is_not(None), _grant.c.label.is_not(None))
    return _built(connection, query.where(named).order_by(_grant.c.id.desc()))


def all_grants(connection: sa.Connection, limit: int) -> list[Grant]:
    """Return the latest grants that are in force."""
    return _built(connection, _grants().where(is_active(_grant)).order_by(_grant.c.id.desc()).limit(limit))


def break_glass_reviews(connection: sa.Connection, *, open_only: bool, before: str, limit: int) -> list[Grant]:
    """Return how the glass was broken, newest first, before an id."""
    query = _grants().where(_grant.c.kind == GrantKind.BREAK_GLASS.value)
    if open_only:
        query = query.where(_grant.c.reviewed_at.is_(None))
    if before:
        query = query.where(_grant.c.id < before)
    return _built(connection, query.order_by(_grant.c.id.desc()).limit(limit))


def open_review_count(connection: sa.Connection, limit: int = 1000) -> int:
    """Return how many broken glasses wait for a review, up to a limit."""
    waiting = sa.select(_grant.c.id).where(
        _grant.c.kind == sa.literal_column(f"'{GrantKind.BREAK_GLASS.value}'"), _grant.c.reviewed_at.is_(None)
    )
    return int(connection.execute(sa.select(sa.func.count()).select_from(waiting.limit(limit).subquery())).scalar_one())


def _grants() -> sa.Select[Any]:
    return sa.select(_grant, _patient.c.survivor_id).outerjoin(_patient, _patient.c.id == _grant.c.patient_id)


def _built(connection: sa.Connection, query: sa.Select[Any]) -> list[Grant]:
    rows = connection.execute(query).all()
    held = identifiers_of(connection, sorted({row.survivor_id for row in rows if row.survivor_id}))
    return [_grant_from_row(row, held.get(row.survivor_id, [])) for row in rows]


def _grant_from_row(row: sa.Row[Any], identifiers: Sequence[PatientIdentifier]) -> Grant:
    first = next((i for i in identifiers if i.type_code == "MR"), next(iter(identifiers), None))
    return Grant(
        row.id, row.account, GrantKind(row.kind), row.survivor_id, first,
        Confidentiality(row.label) if row.label else None, row.reason, row.granted_by, row.at, row.expires_at,
        row.revoked_at, row.reviewed_at, row.reviewed_by, row.review,
    )  # fmt: skip


class Access:
    """Labels, care teams and grants of one transaction."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow
        self._db = uow.connection

    def label(self, patient_id: str, source: str, label: Confidentiality, set_by: str) -> bool:
        """Store what one source ("person" or "message") says of a patient; tell whether that changed anything."""
        where = (_label.c.patient_id == patient_id, _label.c.source == source)
        known = self._db.execute(sa.select(_label.c.label).where(*where)).scalar()
        if known == label.value or (known is None and label is Confidentiality.NORMAL):
            return False
        self._db.execute(_label.delete().where(*where))
        if label is not Confidentiality.NORMAL:
            self._db.execute(
                _label.insert().values(
                    patient_id=patient_id,
                    source=source,
                    label=label.value,
                    strictness=label.strictness,
                    set_by=set_by,
                    at=self._uow.now,
                )
            )
        return True

    def set_team(self, patient_id: str, visit_number: str, team: Iterable[Identifier], until: datetime | None) -> None:
        """Replace who attends a person in a visit, whoever was merged into whom."""
        self._db.execute(_team.delete().where(self._of_person(patient_id), _team.c.visit_number == visit_number))
        rows = [
            {
                "patient_id": patient_id,
                "visit_number": visit_number,
                "identifier": member.value,
                "authority": member.authority,
                "until": until,
            }
            for member in dict.fromkeys(team)
        ]
        if rows:
            self._db.execute(_team.insert(), rows)

    def end_visit(self, patient_id: str, visit_number: str, at: datetime) -> None:
        """Let the care team of a visit, or of all where none is named, see the person no longer than this."""
        where = [self._of_person(patient_id), sa.or_(_team.c.until.is_(None), _team.c.until > at)]
        if visit_number:
            where.append(_team.c.visit_number == visit_number)
        self._db.execute(_team.update().where(*where).values(until=at))

    @staticmethod
    def _of_person(patient_id: str) -> sa.ColumnElement[bool]:
        own, member = _patient.alias(), _patient.alias()
        survivor = sa.select(own.c.survivor_id).where(own.c.id == patient_id).scalar_subquery()
        return _team.c.patient_id.in_(sa.select(member.c.id).where(member.c.survivor_id == survivor))

    def grant(
        self,
        account: str,
        kind: GrantKind,
        *,
        patient_id: str | None,
        label: Confidentiality | None = None,
        reason: str,
        granted_by: str,
        expires_at: datetime,
    ) -> str:
        """Store a grant, as far as the patient's label goes now."""
        grant_id = self._uow.new_id()
        ceiling = label_of(self._db, patient_id) if patient_id else label or Confidentiality.NORMAL
        self._db.execute(
            _grant.insert().values(
                id=grant_id,
                account=account,
                kind=kind.value,
                patient_id=patient_id,
                label=label.value if label else None,
                ceiling=ceiling.strictness,
                reason=reason,
                granted_by=granted_by,
                at=self._uow.now,
                expires_at=expires_at,
            )
        )
        return grant_id

    def find(self, grant_id: str) -> Grant | None:
        """Return a grant."""
        return next(iter(_built(self._db, _grants().where(_grant.c.id == grant_id))), None)

    def revoke(self, grant_id: str) -> None:
        """End a grant now."""
        self._db.execute(_grant.update().where(_grant.c.id == grant_id).values(revoked_at=self._uow.now))

    def reviewed(self, grant_id: str, by: str, review: str) -> None:
        """Note that someone looked into why the glass was broken, and what they found."""
        self._db.execute(
            _grant.update()
            .where(_grant.c.id == grant_id)
            .values(reviewed_at=self._uow.now, reviewed_by=by, review=review)
        )

    def broken_since(self, account: str, since: datetime) -> int:
        """Return how often an account broke the glass since a moment."""
        query = sa.select(sa.func.count()).where(
            _grant.c.account == account, _grant.c.kind == GrantKind.BREAK_GLASS.value, _grant.c.at > since
        )
        return int(self._db.execute(query).scalar_one())
