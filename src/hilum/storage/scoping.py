"""Compiles a `Scope` into SQL, so that a list, its pages and its counts contain nothing beyond it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from hilum.core.scope import Scope
from hilum.storage import tables


def patient_in_scope(scope: Scope, patient_id: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Return the condition under which a row's patient may be seen.

    A physician is related to a patient who has an order that names the physician, also through a merge. An account's
    identifier without authority stands for any authority of the same value.
    """
    if scope.everything:
        return sa.true()
    if not scope.physicians:
        return sa.false()
    named = tables.order_physician
    related, seen = tables.patient.alias(), tables.patient.alias()
    who = sa.or_(
        *(
            sa.and_(named.c.identifier == p.value, named.c.authority == p.authority)
            if p.authority
            else named.c.identifier == p.value
            for p in scope.physicians
        )
    )
    survivors = sa.select(related.c.survivor_id).join(named, named.c.patient_id == related.c.id).where(who)
    return patient_id.in_(sa.select(seen.c.id).where(seen.c.survivor_id.in_(survivors)))


def sees_patient(connection: sa.Connection, scope: Scope, patient_id: str) -> bool:
    """Tell whether one patient lies within a scope."""
    if scope.everything:
        return True
    column = tables.patient.c.id
    query = sa.select(column).where(column == patient_id, patient_in_scope(scope, column))
    return connection.execute(query).scalar() is not None
