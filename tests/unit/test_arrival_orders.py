"""Whatever the order in which things arrive: nothing of one patient reaches another, and every state is a legal one."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import sqlalchemy as sa

from fixtures.stores import HL7_PEER
from fixtures.ward import Ward, image, on_images, request
from hilum.core.errors import HilumError
from hilum.core.event import EventName
from hilum.core.identifiers import new_uid
from hilum.core.order import ORDER_TRANSITIONS, WORKLIST_STATUSES, Order, OrderStatus, PerformedStatus
from hilum.core.report import REPORT_TRANSITIONS, ReportStatus
from hilum.core.study import MatchState
from hilum.storage import tables
from hilum.storage.store import Store
from hilum.workflow.acquisition import ScheduledReference
from hilum.workflow.ordering import place_order

RUNS, STEPS = 150, 14
SIGNABLE = (ReportStatus.PRELIMINARY, ReportStatus.FINAL, ReportStatus.CORRECTED)


@dataclass
class Life:
    """One patient's order in the outside world, which knows its numbers before Hilum does."""

    number: str
    placer: str
    accession: str = field(default_factory=lambda: new_uid()[-14:])
    study_uid: str = field(default_factory=new_uid)
    exam: str = field(default_factory=new_uid)
    orders: list[Order] = field(default_factory=list)


class World:
    """Two patients of one name and birth date, and what may happen to them at any moment."""

    def __init__(self, ward: Ward, chance: random.Random, run: int) -> None:
        self.ward, self.chance = ward, chance
        self.lives = [Life(f"{run}-{n}", f"P{run}-{n}") for n in range(2)]
        self.deeds: list[Callable[[Life], object]] = [
            self.place, self.start, self.end, self.image, self.image, self.complete, self.report, self.cancel,
            self.discontinue, self.mixed_up_image,
        ]  # fmt: skip

    def happen(self) -> None:
        life = self.chance.choice(self.lives)
        try:
            self.chance.choice(self.deeds)(life)
        except HilumError:
            # Refused is a legal outcome of any moment; what it leaves behind is checked at the end.
            return

    def place(self, life: Life) -> None:
        command = request(life.number, life.placer, accession_number=life.accession, study_instance_uid=life.study_uid)
        life.orders.append(self.ward.store.run(place_order, command, HL7_PEER))

    def start(self, life: Life) -> None:
        named = ScheduledReference(life.study_uid, life.accession, "", "")
        self.ward.start(named, uid=life.exam, patient_identifier=life.number)

    def end(self, life: Life) -> None:
        status = self.chance.choice(list(PerformedStatus))
        if self.chance.random() < 0.3:
            self.ward.wrong_entry(life.exam)
        else:
            self.ward.end(life.exam, status)

    def image(self, life: Life) -> None:
        accession = self.chance.choice(["", life.accession])
        performed = self.chance.choice(["", life.exam])
        self.ward.send(image(on_images(life.number), life.study_uid, accession, performed_uid=performed))

    def mixed_up_image(self, life: Life) -> None:
        other = next(each for each in self.lives if each is not life)
        self.ward.send(image(on_images(life.number), other.study_uid, self.chance.choice(["", other.accession])))

    def complete(self, life: Life) -> None:
        for study in self.ward.studies(life.study_uid):
            self.ward.complete(study)

    def report(self, life: Life) -> None:
        if life.orders:
            self.ward.relay(life.orders[0], self.chance.choice(SIGNABLE), self.chance.choice(["One.", "Two."]))

    def cancel(self, life: Life) -> None:
        if life.orders:
            self.ward.cancel(life.orders[0])

    def discontinue(self, life: Life) -> None:
        if life.orders:
            self.ward.discontinue(life.orders[0])

    def check(self) -> None:
        for life in self.lives:
            if not life.orders:
                continue
            order = self.ward.order(life.orders[0])
            self.check_images(life, order)
            self.check_states(order)

    def check_images(self, life: Life, order: Order) -> None:
        for study in self.ward.studies(life.study_uid):
            row = self.ward.ask(lambda uow, study=study: uow.studies.row(study.id))
            is_own = row["patient_identifier"] == life.number
            if study.order_id is not None:
                assert is_own
                assert (study.order_id, study.patient_id) == (order.id, order.patient_id)
            # Own images of a placed order are always tied, another's never.
            assert study.match_state is (MatchState.VERIFIED if is_own else MatchState.CONFLICT)
        for exam in self.ward.ask(lambda uow: uow.exams.of_order(order.id)):
            assert exam.sop_instance_uid == life.exam
            assert exam.patient_id == order.patient_id

    def check_states(self, order: Order) -> None:
        ward = self.ward
        steps = ward.step_statuses(order)
        if order.withdrawn:
            assert order.status in (OrderStatus.CANCELLED, OrderStatus.DISCONTINUED)
        if order.status in (OrderStatus.CANCELLED, OrderStatus.DISCONTINUED, OrderStatus.COMPLETED):
            assert not set(steps) & WORKLIST_STATUSES
        report = ward.ask(lambda uow: uow.reports.of_order(order.id))
        statuses = [None, *(version.status for version in report.versions)] if report else []
        for before, after in itertools.pairwise(statuses):
            assert after in REPORT_TRANSITIONS[before]
        if order.status is OrderStatus.CANCELLED:
            assert not statuses

    def check_moves(self) -> None:
        """Each change of an order's status that was ever told is one of the table."""
        event = tables.event
        query = sa.select(event.c.details).where(event.c.name == EventName.ORDER_STATUS_CHANGED.value)
        with self.ward.store.read() as db:
            told = list(db.execute(query).scalars())
        for details in told:
            if details["from"]:
                assert OrderStatus(details["status"]) in ORDER_TRANSITIONS[OrderStatus(details["from"])], details


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_cross_linked_and_states_stay_legal_in_any_order_of_arrival(sqlite_store: Store, seed: int) -> None:
    ward = Ward(sqlite_store)
    for run in range(RUNS // 3):
        world = World(ward, random.Random(seed * 10_000 + run), run)
        for _ in range(STEPS):
            world.happen()
        world.check()
    world.check_moves()
    with ward.store.read() as db:
        assert db.execute(sa.select(sa.func.count()).select_from(tables.report)).scalar_one() > 0
