"""Compiles a `Scope` into SQL, so that a list, its pages and its counts contain nothing beyond it.

This is the one place where that happens. A patient is seen who satisfies relation, label and facility together, or for
whom the account has a grant. All of them hold for a person, whoever was merged into whom: relations of one row count
for all, and so does the strictest label.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from hilum.core.actor import Identifier
from hilum.core.scope import EVERY_LABEL, Scope
from hilum.storage import tables
from hilum.storage.columns import database_now

_grant, _label = tables.access_grant, tables.patient_label


def patient_in_scope(scope: Scope, patient_id: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Return the condition under which a row's patient may be seen.

    A row without a patient is seen only where the scope has `unmatched`.
    """
    if scope.everything:
        return sa.true()
    seen: list[sa.ColumnElement[bool]] = []
    if scope.physicians or not scope.related_only:
        # An absent patient is in no set, and so would not be in that of the hidden ones either.
        seen.append(sa.and_(patient_id.is_not(None), *_rules(scope, patient_id)))
    if scope.account:
        seen.append(patient_id.in_(_rows_of(_granted(scope.account))))
    if scope.unmatched:
        seen.append(patient_id.is_(None))
    return sa.or_(*seen) if seen else sa.false()


def sees_patient(connection: sa.Connection, scope: Scope, patient_id: str) -> bool:
    """Tell whether one patient lies within a scope."""
    if scope.everything:
        return True
    column = tables.patient.c.id
    query = sa.select(column).where(column == patient_id, patient_in_scope(scope, column))
    return connection.execute(query).scalar() is not None


def related_survivors(physicians: tuple[Identifier, ...]) -> sa.SelectBase:
    """Select the surviving patients whom one of these physicians ordered for, is copied on or attends now.

    An account's identifier without authority stands for any authority of the same value.
    """
    person, named, team = tables.patient.alias(), tables.order_physician.alias(), tables.care_team.alias()
    by_order = (
        sa.select(person.c.survivor_id).join(named, named.c.patient_id == person.c.id).where(_is(named, physicians))
    )
    attended = tables.patient.alias()
    by_visit = (
        sa.select(attended.c.survivor_id)
        .join(team, team.c.patient_id == attended.c.id)
        .where(_is(team, physicians), sa.or_(team.c.until.is_(None), team.c.until > database_now()))
    )
    return sa.union_all(by_order, by_visit)


def is_active(grant: sa.Table) -> sa.ColumnElement[bool]:
    """The condition under which a grant is in force now."""
    return sa.and_(grant.c.revoked_at.is_(None), grant.c.expires_at > database_now())


def covers_label(survivor_id: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """The condition under which a grant still covers how the person is labelled by now."""
    member = tables.patient.alias()
    return ~sa.exists().where(
        member.c.survivor_id == survivor_id,
        _label.c.patient_id == member.c.id,
        _label.c.strictness > _grant.c.ceiling,
    )


def in_facility(facilities: tuple[str, ...], patient_id: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """The condition under which a patient is one of these facilities'.

    A facility is named as it names itself: the authority of an identifier of the patient, or MSH-4 of the sender of an
    order.
    """
    own, member = tables.patient.alias(), tables.patient.alias()
    held, order = tables.patient_identifier.alias(), tables.imaging_order.alias()
    family = (own.c.id == patient_id, member.c.survivor_id == own.c.survivor_id)
    sent_by = sa.or_(*(_ends_with(order.c.sender, f"|{facility}") for facility in facilities))
    by_identifier = sa.exists().where(*family, held.c.patient_id == member.c.id, held.c.authority.in_(facilities))
    by_order = sa.exists().where(*family, order.c.patient_id == member.c.id, sent_by)
    return sa.or_(by_identifier, by_order)


def _rules(scope: Scope, patient_id: sa.ColumnElement[Any]) -> list[sa.ColumnElement[bool]]:
    rules: list[sa.ColumnElement[bool]] = []
    if scope.related_only:
        rules.append(patient_id.in_(_rows_of(related_survivors(scope.physicians))))
    if hidden := EVERY_LABEL - scope.labels:
        person = tables.patient.alias()
        labelled = (
            sa.select(person.c.survivor_id)
            .join(_label, _label.c.patient_id == person.c.id)
            .where(_label.c.label.in_(sorted(hidden)), *_not_granted(scope.account))
        )
        rules.append(patient_id.not_in(_rows_of(labelled)))
    if scope.facilities:
        rules.append(in_facility(scope.facilities, patient_id))
    return rules


def _not_granted(account: str) -> list[sa.ColumnElement[bool]]:
    """Labels that a grant opens are hidden no more."""
    if not account:
        return []
    granted = sa.select(_grant.c.label).where(
        _grant.c.account == account, _grant.c.label.is_not(None), is_active(_grant)
    )
    return [_label.c.label.not_in(granted)]


def _granted(account: str) -> sa.SelectBase:
    person = tables.patient.alias()
    return (
        sa.select(person.c.survivor_id)
        .join(_grant, _grant.c.patient_id == person.c.id)
        .where(_grant.c.account == account, is_active(_grant), covers_label(person.c.survivor_id))
    )


def _rows_of(survivors: sa.SelectBase) -> sa.Select[Any]:
    """All rows of the persons who survive under these ids."""
    row = tables.patient.alias()
    return sa.select(row.c.id).where(row.c.survivor_id.in_(survivors))


def _is(table: sa.FromClause, physicians: tuple[Identifier, ...]) -> sa.ColumnElement[bool]:
    return sa.or_(
        *(
            sa.and_(table.c.identifier == p.value, table.c.authority == p.authority)
            if p.authority
            else table.c.identifier == p.value
            for p in physicians
        )
    )


def _ends_with(column: sa.ColumnElement[str], ending: str) -> sa.ColumnElement[bool]:
    return sa.func.substr(column, sa.func.length(column) - len(ending) + 1) == ending
