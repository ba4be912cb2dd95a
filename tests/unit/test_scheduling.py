"""Steps follow a changed order as long as nobody performed them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fixtures.ward import CT_CHEST, NOON, Ward, naming
from hilum.core.errors import Conflict, IllegalTransition, NotFound
from hilum.core.event import EventName
from hilum.core.order import Code, OrderStatus, Priority, StepStatus
from hilum.storage.store import Store
from hilum.workflow.scheduling import StepRequest

MR_BRAIN = Code("MRBRAIN", "L", "MR Brain")


@pytest.fixture
def ward(sqlite_store: Store) -> Ward:
    return Ward(sqlite_store)


def test_a_changed_order_moves_its_step(ward: Ward) -> None:
    placed = ward.place(scheduled_at=NOON)
    later = NOON + timedelta(days=1)
    ward.change(placed, procedure=MR_BRAIN, scheduled_at=later, steps=(StepRequest(station_ae_title="MR02"),))
    [step] = ward.steps(placed)
    assert (step.start_at, step.station_ae_title, step.modality) == (later, "MR02", "MR")
    assert (step.description, step.protocol) == ("MR Brain", (MR_BRAIN,))
    assert (ward.order(placed).procedure, ward.order(placed).body_region) == (MR_BRAIN, "head")
    assert ward.events(EventName.STEP_SCHEDULED) == 2


def test_a_change_that_says_nothing_new_changes_nothing(ward: Ward) -> None:
    placed = ward.place(scheduled_at=NOON, priority=Priority.STAT)
    assert ward.change(placed) == placed
    assert ward.change(placed).priority is Priority.STAT
    assert ward.events(EventName.ORDER_CHANGED) == 0


def test_a_named_step_alone_is_moved(ward: Ward) -> None:
    placed = ward.place(steps=(StepRequest(step_id="ONE"), StepRequest(step_id="TWO")))
    ward.change(placed, steps=(StepRequest(step_id="TWO", station_ae_title="CT09"),))
    assert [step.station_ae_title for step in ward.steps(placed)] == ["", "CT09"]


def test_the_one_step_of_an_order_is_meant_whatever_its_sender_calls_it(ward: Ward) -> None:
    placed = ward.place()
    ward.change(placed, steps=(StepRequest(step_id="THEIRS", station_ae_title="CT09"),))
    [step] = ward.steps(placed)
    assert (step.station_ae_title, step.step_id) == ("CT09", f"{placed.requested_procedure_id}-1")


@pytest.mark.parametrize("steps", [(StepRequest(step_id="NONE"),), (StepRequest(),) * 3])
def test_a_change_of_a_step_that_is_none_is_refused(ward: Ward, steps: tuple[StepRequest, ...]) -> None:
    placed = ward.place(steps=(StepRequest(step_id="ONE"), StepRequest(step_id="TWO")))
    with pytest.raises(NotFound):
        ward.change(placed, steps=steps)


def test_a_begun_exam_keeps_its_procedure_and_step(ward: Ward) -> None:
    placed = ward.place(scheduled_at=NOON)
    ward.start(naming(placed))
    with pytest.raises(IllegalTransition):
        ward.change(placed, procedure=MR_BRAIN)
    ward.change(placed, procedure=CT_CHEST, reason="cough", scheduled_at=NOON + timedelta(days=1))
    [step] = ward.steps(placed)
    assert (step.status, step.start_at) == (StepStatus.STARTED, NOON)
    assert (ward.order(placed).reason, ward.order(placed).status) == ("cough", OrderStatus.IN_PROGRESS)


@pytest.mark.parametrize("said", [{"study_instance_uid": "1.2.3"}, {"accession_number": "OTHER"}])
def test_a_change_of_the_numbers_is_refused(ward: Ward, said: dict[str, str]) -> None:
    with pytest.raises(Conflict):
        ward.change(ward.place(), **said)


def test_an_ended_order_is_changed_no_more(ward: Ward) -> None:
    placed = ward.place()
    ward.end(ward.start(naming(placed)))
    with pytest.raises(IllegalTransition):
        ward.change(placed, reason="late")
