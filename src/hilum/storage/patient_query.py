"""Who is registered here, as other systems ask: by what is known of a person, and by a number of another domain."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import sqlalchemy as sa

from hilum.core.patient import Patient
from hilum.core.scope import Scope
from hilum.core.text import fold
from hilum.storage import tables
from hilum.storage.patients import identifiers_of, patient_from_row
from hilum.storage.scoping import patient_in_scope

_patient, _identifier = tables.patient, tables.patient_identifier


@dataclass(frozen=True, slots=True)
class PersonSought:
    """What is known of a person; empty is not asked for. Names are beginnings, in any case and with any accents."""

    identifier: str = ""
    authority: str = ""
    family: str = ""
    given: str = ""
    birth_date: date | None = None
    sex: str = ""


def people_like(connection: sa.Connection, scope: Scope, sought: PersonSought, limit: int) -> tuple[int, list[Patient]]:
    """Return how many registered persons fit, and the first of them by name with all their own identifiers."""
    where = [_patient.c.id == _patient.c.survivor_id, patient_in_scope(scope, _patient.c.id)]
    if sought.identifier or sought.authority:
        holder = _patient.alias()
        held = sa.select(holder.c.survivor_id).join(_identifier, _identifier.c.patient_id == holder.c.id)
        if sought.identifier:
            held = held.where(_identifier.c.value == sought.identifier)
        if sought.authority:
            held = held.where(_identifier.c.authority == sought.authority)
        where.append(_patient.c.id.in_(held))
    # The folded name is FAMILY^GIVEN^MIDDLE, so a name by which someone is called is found in either of the latter.
    if sought.family:
        where.append(_patient.c.name_folded.startswith(fold(sought.family), autoescape=True))
    if sought.given:
        where.append(_patient.c.name_folded.contains(f"^{fold(sought.given)}", autoescape=True))
    if sought.birth_date:
        where.append(_patient.c.birth_date == sought.birth_date)
    if sought.sex:
        where.append(_patient.c.sex == sought.sex)
    count = connection.execute(sa.select(sa.func.count()).select_from(_patient).where(*where)).scalar_one()
    query = sa.select(_patient).where(*where).order_by(_patient.c.name_folded, _patient.c.id).limit(limit)
    rows = connection.execute(query).all()
    identifiers = identifiers_of(connection, [row.id for row in rows])
    return int(count), [patient_from_row(row, identifiers[row.id]) for row in rows]


def is_known_authority(connection: sa.Connection, authority: str) -> bool:
    """Tell whether anyone has a number of this assigning authority."""
    return (
        connection.execute(sa.select(_identifier.c.id).where(_identifier.c.authority == authority).limit(1)).first()
        is not None
    )
