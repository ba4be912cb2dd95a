"""Imaging orders and their scheduled steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from hilum.core.order import (
    Code,
    Filler,
    Order,
    OrderStatus,
    Physician,
    Priority,
    ScheduledStep,
    StepStatus,
)
from hilum.storage import tables
from hilum.storage.unread import refresh_unread

if TYPE_CHECKING:
    from hilum.storage.unit_of_work import UnitOfWork

_order = tables.imaging_order
_step = tables.scheduled_step
_physician = tables.order_physician
_check = tables.prior_check
_patient = tables.patient
_of: sa.BindParameter[str] = sa.bindparam("of")

_BY_ID = sa.select(_order).where(_order.c.id == _of)
_BY_ACCESSION = sa.select(_order).where(_order.c.accession_number == _of)
_BY_STUDY_UID = sa.select(_order).where(_order.c.study_instance_uid == _of)
_BY_PLACER = sa.select(_order).where(
    _order.c.placer_order_number == sa.bindparam("number"), _order.c.placer_authority == sa.bindparam("authority")
)
_STEPS = sa.select(_step).where(_step.c.order_id == _of).order_by(_step.c.id)
_SET_STATUS = (
    _order.update()
    .where(_order.c.id == _of)
    .values(status=sa.bindparam("to"), revision=_order.c.revision + 1, updated_at=sa.bindparam("at"))
)
_SET_STEP_STATUS = _step.update().where(_step.c.id == _of).values(status=sa.bindparam("to"))
# Not `order_id IS NULL`: a planner without statistics would walk every check that led to no order.
_CHECKS_OF_SURVIVOR = (
    sa.select(_check)
    .where(
        _check.c.patient_id.in_(sa.select(_patient.c.id).where(_patient.c.survivor_id == _of)),
        sa.func.coalesce(_check.c.order_id, "") == "",
    )
    .order_by(_check.c.id.desc())
    .limit(50)
)
_INSERT = _order.insert()
_INSERT_STEP = _step.insert()
_INSERT_PHYSICIAN = _physician.insert()


def order_from_row(row: sa.Row[Any]) -> Order:
    """Build an order from its row."""
    return Order(
        id=row.id,
        patient_id=row.patient_id,
        accession_number=row.accession_number,
        placer_order_number=row.placer_order_number,
        placer_authority=row.placer_authority,
        filler_order_number=row.filler_order_number,
        filler_authority=row.filler_authority,
        filler=Filler(row.filler),
        study_instance_uid=row.study_instance_uid,
        requested_procedure_id=row.requested_procedure_id,
        procedure=Code(row.procedure_code, row.procedure_scheme, row.procedure_meaning),
        modality=row.modality,
        body_region=row.body_region,
        priority=Priority(row.priority),
        status=OrderStatus(row.status),
        placed_at=row.placed_at,
        sender=row.sender,
        reason=row.reason,
        clinical_information=row.clinical_information,
        ordering_physician=Physician(
            row.ordering_identifier, row.ordering_family, row.ordering_given, row.ordering_authority
        ),
        copies_to=tuple(Physician(**physician) for physician in row.copies_to),
        visit_number=row.visit_number,
        patient_class=row.patient_class,
        scheduled_at=row.scheduled_at,
        withdrawn=row.withdrawn,
        revision=row.revision,
    )


def step_from_row(row: sa.Row[Any]) -> ScheduledStep:
    """Build a scheduled step from its row."""
    return ScheduledStep(
        id=row.id,
        order_id=row.order_id,
        step_id=row.step_id,
        modality=row.modality,
        station_ae_title=row.station_ae_title,
        station_name=row.station_name,
        location=row.location,
        start_at=row.start_at,
        description=row.description,
        protocol=tuple(Code(**code) for code in row.protocol),
        performing_physician=Physician(**row.performing_physician),
        status=StepStatus(row.status),
    )


class Orders:
    """The orders of one transaction."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow
        self._db = uow.connection

    def get(self, order_id: str) -> Order:
        """Return an order by its id."""
        return order_from_row(self._db.execute(_BY_ID, {"of": order_id}).one())

    def by_accession(self, accession_number: str) -> Order | None:
        """Return the order of an accession number."""
        return self._one(_BY_ACCESSION, of=accession_number)

    def by_placer(self, number: str, authority: str) -> Order | None:
        """Return the order that a placer knows under `number`."""
        return self._one(_BY_PLACER, number=number, authority=authority)

    def by_filler(self, number: str, authority: str | None = None) -> Order | None:
        """Return the order of a filler number, of any authority when none is given and it is the only one."""
        where = [_order.c.filler_order_number == number]
        if authority is not None:
            where.append(_order.c.filler_authority == authority)
        rows = self._db.execute(sa.select(_order).where(*where).limit(2)).all()
        return order_from_row(rows[0]) if len(rows) == 1 else None

    def by_study_uid(self, study_instance_uid: str) -> Order | None:
        """Return the order that a Study Instance UID was given to."""
        return self._one(_BY_STUDY_UID, of=study_instance_uid)

    def of_patients(self, patient_ids: Sequence[str]) -> list[Order]:
        """Return the orders of patients, newest first."""
        query = sa.select(_order).where(_order.c.patient_id.in_(patient_ids)).order_by(_order.c.id.desc())
        return [order_from_row(row) for row in self._db.execute(query)]

    def add(self, order: Order, steps: Sequence[ScheduledStep]) -> None:
        """Store a new order with its steps."""
        self._db.execute(_INSERT, {"id": order.id, "updated_at": self._uow.now, **_columns(order)})
        self._db.execute(_INSERT_STEP, [_step_columns(step) for step in steps])
        self._relate_physicians(order)

    def save(self, order: Order) -> None:
        """Store a changed order; its revision goes up by one."""
        self._db.execute(
            _order.update()
            .where(_order.c.id == order.id)
            .values(**{**_columns(order), "revision": _order.c.revision + 1}, updated_at=self._uow.now)
        )
        self._db.execute(_physician.delete().where(_physician.c.order_id == order.id))
        self._relate_physicians(order)
        refresh_unread(self._uow, order.id)

    def withdraw(self, order_id: str) -> None:
        """Store that whoever may do so ended the order, so that no exam opens it again."""
        self._db.execute(_order.update().where(_order.c.id == order_id).values(withdrawn=True))

    def set_status(self, order_id: str, status: OrderStatus) -> None:
        """Store a changed status."""
        self._db.execute(_SET_STATUS, {"of": order_id, "to": status.value, "at": self._uow.now})
        refresh_unread(self._uow, order_id)

    def steps(self, order_id: str) -> list[ScheduledStep]:
        """Return the steps of an order, in the order they were scheduled."""
        return [step_from_row(row) for row in self._db.execute(_STEPS, {"of": order_id})]

    def save_step(self, step: ScheduledStep) -> None:
        """Store a changed step."""
        columns = _step_columns(step)
        self._db.execute(_step.update().where(_step.c.id == columns.pop("id")).values(**columns))

    def set_step_status(self, step_id: str, status: StepStatus) -> None:
        """Store a changed step status."""
        self._db.execute(_SET_STEP_STATUS, {"of": step_id, "to": status.value})

    def worklist_served(self, step_ids: Sequence[str], peer: str) -> list[str]:
        """Note that a peer saw these steps; return those it sees for the first time."""
        served = tables.worklist_served
        known = set(
            self._db.execute(
                sa.select(served.c.step_id).where(served.c.step_id.in_(step_ids), served.c.peer == peer)
            ).scalars()
        )
        fresh = [step_id for step_id in step_ids if step_id not in known]
        if fresh:
            self._db.execute(
                served.insert(), [{"step_id": step_id, "peer": peer, "at": self._uow.now} for step_id in fresh]
            )
        return fresh

    def step(self, step_id: str) -> ScheduledStep:
        """Return a step by its row id."""
        return step_from_row(self._db.execute(sa.select(_step).where(_step.c.id == step_id)).one())

    def record_prior_check(self, patient_id: str, placer_number: str, procedure_code: str, cards: int) -> str:
        """Keep that the priors were checked for a draft order."""
        check_id = self._uow.new_id()
        self._db.execute(
            tables.prior_check.insert().values(
                id=check_id,
                patient_id=patient_id,
                placer_order_number=placer_number,
                procedure_code=procedure_code,
                at=self._uow.now,
                cards=cards,
            )
        )
        return check_id

    def keep_card_feedback(self, service: str, card: str, outcome: str, body: Mapping[str, Any], actor: str) -> None:
        """Keep what a clinician did with a card of a CDS service."""
        self._db.execute(
            tables.cds_feedback.insert().values(
                id=self._uow.new_id(),
                service=service,
                card=card,
                outcome=outcome,
                body=dict(body),
                at=self._uow.now,
                actor=actor,
            )
        )

    def prior_checks(self, survivor_id: str) -> list[sa.Row[Any]]:
        """Return the prior checks of a survivor and its merged patients that no order is tied to, newest first."""
        return list(self._db.execute(_CHECKS_OF_SURVIVOR, {"of": survivor_id}))

    def tie_prior_check(self, check_id: str, order_id: str) -> None:
        """Tie a prior check to the order that followed it."""
        self._db.execute(_check.update().where(_check.c.id == check_id).values(order_id=order_id))

    def _one(self, query: sa.Select[Any], **parameters: str) -> Order | None:
        row = self._db.execute(query, parameters).one_or_none()
        return None if row is None else order_from_row(row)

    def _relate_physicians(self, order: Order) -> None:
        named = {p.key for p in (order.ordering_physician, *order.copies_to) if p.identifier}
        if named:
            self._db.execute(
                _INSERT_PHYSICIAN,
                [
                    {
                        "order_id": order.id,
                        "identifier": key.value,
                        "authority": key.authority,
                        "patient_id": order.patient_id,
                    }
                    for key in sorted(named, key=lambda key: (key.value, key.authority))
                ],
            )


def _columns(order: Order) -> dict[str, Any]:
    return {
        "patient_id": order.patient_id,
        "accession_number": order.accession_number,
        "placer_order_number": order.placer_order_number,
        "placer_authority": order.placer_authority,
        "filler_order_number": order.filler_order_number,
        "filler_authority": order.filler_authority,
        "filler": order.filler.value,
        "study_instance_uid": order.study_instance_uid,
        "requested_procedure_id": order.requested_procedure_id,
        "procedure_code": order.procedure.value,
        "procedure_scheme": order.procedure.scheme,
        "procedure_meaning": order.procedure.meaning,
        "modality": order.modality,
        "body_region": order.body_region,
        "priority": order.priority.value,
        "status": order.status.value,
        "reason": order.reason,
        "clinical_information": order.clinical_information,
        "ordering_identifier": order.ordering_physician.identifier,
        "ordering_authority": order.ordering_physician.authority,
        "ordering_family": order.ordering_physician.family,
        "ordering_given": order.ordering_physician.given,
        "copies_to": [asdict(physician) for physician in order.copies_to],
        "visit_number": order.visit_number,
        "patient_class": order.patient_class,
        "sender": order.sender,
        "placed_at": order.placed_at,
        "scheduled_at": order.scheduled_at,
        "withdrawn": order.withdrawn,
        "revision": order.revision,
    }


def _step_columns(step: ScheduledStep) -> dict[str, Any]:
    return {
        "id": step.id,
        "order_id": step.order_id,
        "step_id": step.step_id,
        "modality": step.modality,
        "station_ae_title": step.station_ae_title,
        "station_name": step.station_name,
        "location": step.location,
        "start_at": step.start_at,
        "description": step.description,
        "protocol": [asdict(code) for code in step.protocol],
        "performing_physician": asdict(step.performing_physician),
        "status": step.status.value,
    }
