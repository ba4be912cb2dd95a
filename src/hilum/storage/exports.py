"""Which studies a patient has, for who takes them out of the archive."""

from __future__ import annotations

import sqlalchemy as sa

from hilum.core.scope import Scope
from hilum.storage import tables
from hilum.storage.scoping import patient_in_scope
from hilum.storage.shown import TRUTH_COLUMNS, WITH_TRUTH, ShownStudy, shown_studies, study, study_is_shown, survivor

_holder, _identifier = tables.patient.alias("holder"), tables.patient_identifier


def studies_of_number(connection: sa.Connection, value: str, authority: str, scope: Scope) -> list[ShownStudy]:
    """Return the shown studies of whoever holds an identifier, under all numbers merged into theirs, oldest first.

    Studies of nobody who is registered are found by the number that their images name.
    """
    held = (
        sa.select(_holder.c.survivor_id)
        .join(_identifier, _identifier.c.patient_id == _holder.c.id)
        .where(_identifier.c.value == value)
    )
    named = sa.and_(study.c.patient_id.is_(None), study.c.patient_identifier == value)
    if authority:
        held = held.where(_identifier.c.authority == authority)
        named = sa.and_(named, study.c.patient_authority == authority)
    query = (
        sa.select(*TRUTH_COLUMNS)
        .select_from(WITH_TRUTH)
        .where(sa.or_(survivor.c.id.in_(held), named), study_is_shown(), patient_in_scope(scope, study.c.patient_id))
        .order_by(study.c.id)
    )
    return shown_studies(connection, connection.execute(query).all())
