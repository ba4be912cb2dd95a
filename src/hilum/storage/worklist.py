"""The modality worklist: steps that may still be performed, by the keys that modalities ask with (IHE RAD TF-2 4.5).

The patient shown is the survivor of merges; a patient is found by every identifier of its family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from hilum.core.order import Order, ScheduledStep, StepStatus
from hilum.core.patient import Patient
from hilum.core.scope import Scope
from hilum.storage import tables
from hilum.storage.orders import order_from_row, step_from_row
from hilum.storage.patients import identifiers_of, patient_from_row
from hilum.storage.patterns import any_name, any_of, held_by_family
from hilum.storage.scoping import patient_in_scope

_step = tables.scheduled_step
_order = tables.imaging_order
_patient = tables.patient


@dataclass(frozen=True, slots=True)
class WorklistKeys:
    """What limits the worklist; what is empty does not. Times are UTC, the first and the last included.

    A step without time is found only with `due_now`; a step without station is found for every station. All texts but
    UIDs may hold the wildcards `*` and `?`.
    """

    statuses: frozenset[StepStatus]
    due_now: bool = True
    start_first: datetime | None = None
    start_last: datetime | None = None
    stations: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    patient_names: tuple[str, ...] = ()
    patient_ids: tuple[str, ...] = ()
    issuers: tuple[str, ...] = ()
    accession_numbers: tuple[str, ...] = ()
    study_instance_uids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorklistEntry:
    """A step with its order and the patient it is for."""

    step: ScheduledStep
    order: Order
    patient: Patient


def worklist_page(
    connection: sa.Connection, keys: WorklistKeys, scope: Scope, *, after: str, limit: int
) -> list[WorklistEntry]:
    """Return the next entries in the order their steps were scheduled; `after` is the row id of the last step seen."""
    owner, survivor = _patient.alias(), _patient.alias()
    query = (
        sa.select(_step.c.id, _step.c.order_id, survivor.c.id.label("survivor_id"))
        .join(_order, _order.c.id == _step.c.order_id)
        .join(owner, owner.c.id == _order.c.patient_id)
        .join(survivor, survivor.c.id == owner.c.survivor_id)
        .where(
            _step.c.id > after,
            _step.c.status.in_([status.value for status in keys.statuses]),
            patient_in_scope(scope, _order.c.patient_id),
            *_step_conditions(keys),
            *_order_conditions(keys),
            *_patient_conditions(keys, survivor),
        )
        .order_by(_step.c.id)
        .limit(limit)
    )
    return _entries(connection, list(connection.execute(query)))


def unserved_steps(connection: sa.Connection, step_ids: Sequence[str], peer: str) -> tuple[str, ...]:
    """Return those of the steps that a peer has not been shown yet."""
    served = tables.worklist_served
    query = sa.select(served.c.step_id).where(served.c.step_id.in_(step_ids), served.c.peer == peer)
    known = set(connection.execute(query).scalars())
    return tuple(step_id for step_id in step_ids if step_id not in known)


def _step_conditions(keys: WorklistKeys) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    start = _step.c.start_at
    timed: list[sa.ColumnElement[bool]] = [start.is_not(None)]
    if keys.start_first is not None:
        timed.append(start >= keys.start_first)
    if keys.start_last is not None:
        timed.append(start <= keys.start_last)
    if len(timed) > 1 or not keys.due_now:
        conditions.append(sa.or_(start.is_(None), sa.and_(*timed)) if keys.due_now else sa.and_(*timed))
    if keys.stations:
        conditions.append(sa.or_(_step.c.station_ae_title == "", any_of(_step.c.station_ae_title, keys.stations)))
    if keys.modalities:
        conditions.append(any_of(_step.c.modality, keys.modalities))
    return conditions


def _order_conditions(keys: WorklistKeys) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if keys.accession_numbers:
        conditions.append(any_of(_order.c.accession_number, keys.accession_numbers))
    if keys.study_instance_uids:
        conditions.append(_order.c.study_instance_uid.in_(keys.study_instance_uids))
    return conditions


def _patient_conditions(keys: WorklistKeys, survivor: Any) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if keys.patient_names:
        conditions.append(any_name(survivor.c.name_folded, keys.patient_names))
    if keys.patient_ids or keys.issuers:
        conditions.append(held_by_family(survivor, keys.patient_ids, keys.issuers))
    return conditions


def _entries(connection: sa.Connection, found: list[sa.Row[Any]]) -> list[WorklistEntry]:
    if not found:
        return []
    steps = _by_id(connection, _step, [row.id for row in found])
    orders = _by_id(connection, _order, list({row.order_id for row in found}))
    survivors = list({row.survivor_id for row in found})
    patients = _by_id(connection, _patient, survivors)
    identifiers = family_identifiers(connection, survivors)
    return [
        WorklistEntry(
            step_from_row(steps[row.id]),
            order_from_row(orders[row.order_id]),
            patient_from_row(patients[row.survivor_id], identifiers[row.survivor_id]),
        )
        for row in found
    ]


def family_identifiers(connection: sa.Connection, survivor_ids: Sequence[str]) -> dict[str, list[Any]]:
    """Return the identifiers of patients, their own first, then those of everyone merged into them."""
    found = identifiers_of(connection, survivor_ids)
    merged = sa.select(_patient.c.id, _patient.c.survivor_id).where(
        _patient.c.survivor_id.in_(survivor_ids), _patient.c.merged_into.is_not(None)
    )
    members = {row.id: row.survivor_id for row in connection.execute(merged.order_by(_patient.c.id))}
    for member, identifiers in identifiers_of(connection, list(members)).items() if members else ():
        found[members[member]].extend(identifiers)
    return found


def _by_id(connection: sa.Connection, table: sa.Table, ids: Sequence[str]) -> dict[str, sa.Row[Any]]:
    return {row.id: row for row in connection.execute(sa.select(table).where(table.c.id.in_(ids)))}
