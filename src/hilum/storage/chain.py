"""Queries behind the chain of one order: its own events, and those of its patient that led to it."""

from __future__ import annotations

import sqlalchemy as sa

from hilum.core.event import Event, EventName
from hilum.core.order import Order
from hilum.core.scope import Scope
from hilum.storage import tables
from hilum.storage.deliveries import event_from_row
from hilum.storage.orders import order_from_row
from hilum.storage.scoping import patient_in_scope

_event = tables.event
_order = tables.imaging_order


def order_by_accession(connection: sa.Connection, accession_number: str, scope: Scope) -> Order | None:
    """Return the order of an accession number, if its patient lies within the scope."""
    query = sa.select(_order).where(
        _order.c.accession_number == accession_number, patient_in_scope(scope, _order.c.patient_id)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else order_from_row(row)


def order_events(connection: sa.Connection, order: Order) -> list[Event]:
    """Return the events of an order's chain, oldest first.

    They are its own, the registrations and merges of its patient up to now, and the check of the priors that was
    tied to it.
    """
    person = tables.patient.alias()
    survivor = sa.select(tables.patient.c.survivor_id).where(tables.patient.c.id == order.patient_id).scalar_subquery()
    family = sa.select(person.c.id).where(person.c.survivor_id == survivor)
    registrations = (
        EventName.PATIENT_REGISTERED,
        EventName.PATIENT_UPDATED,
        EventName.PATIENTS_MERGED,
        EventName.PATIENTS_UNMERGED,
    )
    check = tables.prior_check
    checks = set(connection.execute(sa.select(check.c.id).where(check.c.order_id == order.id)).scalars())
    query = sa.select(_event).where(
        sa.or_(
            _event.c.order_id == order.id,
            sa.and_(
                _event.c.patient_id.in_(family),
                _event.c.name.in_([name.value for name in (*registrations, EventName.PRIORS_CHECKED)]),
            ),
        )
    )
    events = [event_from_row(row) for row in connection.execute(query.order_by(_event.c.at, _event.c.number))]
    return [
        event for event in events if event.name is not EventName.PRIORS_CHECKED or event.details.get("check") in checks
    ]
