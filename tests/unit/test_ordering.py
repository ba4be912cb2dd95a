"""Orders: numbers given or adopted, the same order once, nothing that contradicts, and an end by the table."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from fixtures.stores import HL7_PEER, MODALITY
from fixtures.ward import (
    AUTHORITY,
    EHR,
    NOON,
    Ward,
    image,
    mrn,
    naming,
    on_images,
    performed,
    person,
    reference,
    request,
)
from hilum.core.errors import (
    Conflict,
    Duplicate,
    HilumError,
    IdentityMismatch,
    IllegalTransition,
    InvalidInput,
    MissingField,
    NotFound,
    TooLarge,
)
from hilum.core.event import EventName
from hilum.core.identifiers import new_uid
from hilum.core.order import Code, Filler, Order, OrderStatus, PerformedStatus, Priority, StepStatus
from hilum.core.report import ReportStatus
from hilum.core.study import ExceptionKind, MatchState
from hilum.storage.store import Store
from hilum.workflow.acquisition import start_exam
from hilum.workflow.images import record_instance
from hilum.workflow.ordering import (
    OrderReference,
    cancel_order,
    change_order,
    find_order,
    place_order,
)
from hilum.workflow.scheduling import StepRequest


@pytest.fixture
def ward(sqlite_store: Store) -> Ward:
    return Ward(sqlite_store)


def external(number: str = "1", placer: str = "P1", **said: Any) -> Any:
    numbers = {
        "filler_order_number": "F1",
        "filler_authority": "RIS",
        "accession_number": "A1",
        "study_instance_uid": "1.2.3",
    }
    return request(number, placer, filler=Filler.EXTERNAL, **{**numbers, **said})


# Placing


def test_hilum_gives_an_order_its_numbers(ward: Ward) -> None:
    first, second = ward.place(), ward.place()
    assert first.accession_number != second.accession_number
    assert first.study_instance_uid != second.study_instance_uid
    assert len(first.accession_number) <= 16
    assert (first.filler_order_number, first.filler_authority) == (first.accession_number, "HILUM")
    assert (first.status, first.modality, first.body_region) == (OrderStatus.SCHEDULED, "CT", "chest")
    [step] = ward.steps(first)
    assert step.step_id == f"{first.requested_procedure_id}-1"


def test_numbers_of_an_external_filler_are_adopted(ward: Ward) -> None:
    placed = ward.store.run(place_order, external(requested_procedure_id="R1"), HL7_PEER)
    assert (placed.accession_number, placed.study_instance_uid, placed.filler_order_number) == ("A1", "1.2.3", "F1")
    assert placed.requested_procedure_id == "R1"


def test_a_given_accession_number_is_passed_over_by_hilums_own(ward: Ward) -> None:
    ward.place()
    taken = f"H{ward.order(ward.place()).placed_at:%y}{3:07}"
    ward.store.run(place_order, external(accession_number=taken), HL7_PEER)
    assert ward.place().accession_number != taken


def test_the_same_order_again_is_not_a_second_exam(store: Store) -> None:
    ward = Ward(store)
    commands = [request("1", "P1", priority=Priority.STAT) for _ in range(8)]
    placed = [future.result() for future in [store.submit(place_order, each, HL7_PEER) for each in commands]]
    assert len({order.id for order in placed}) == 1
    assert ward.events(EventName.ORDER_PLACED) == 1


def test_an_external_order_without_placer_number_again_is_not_a_second_exam(ward: Ward) -> None:
    command = external(placer="", filler_authority="")
    first = ward.store.run(place_order, command, HL7_PEER)
    assert ward.store.run(place_order, command, HL7_PEER).id == first.id


@pytest.mark.parametrize(
    "other",
    [
        {"procedure": Code("MRBRAIN", "L", "MR Brain")},
        {"accession_number": "OTHER"},
        {"study_instance_uid": "1.2.3.4"},
        {"priority": Priority.STAT},
    ],
)
def test_another_order_under_a_known_placer_number_is_refused(ward: Ward, other: dict[str, Any]) -> None:
    ward.place(placer="P1")
    with pytest.raises(Duplicate):
        ward.place(placer="P1", **other)


def test_an_order_of_another_patient_under_a_known_placer_number_is_refused(ward: Ward) -> None:
    ward.place("1", "P1")
    with pytest.raises(Duplicate):
        ward.place("2", "P1")


def test_an_order_that_ended_cannot_be_placed_again(ward: Ward) -> None:
    ward.cancel(ward.place(placer="P1"))
    ward.discontinue(ward.place(placer="P2"))
    for placer in ("P1", "P2"):
        with pytest.raises(Duplicate):
            ward.place(placer=placer)


def test_two_procedures_without_code_are_told_apart_by_their_words(ward: Ward) -> None:
    ward.place(placer="P1", procedure=Code("", "", "CT of the chest"))
    assert ward.place(placer="P1", procedure=Code("", "", "ct of  the CHEST"))
    with pytest.raises(Duplicate):
        ward.place(placer="P1", procedure=Code("", "", "MR of the brain"))


@pytest.mark.parametrize(
    ("said", "place"),
    [
        ({"accession_number": "A" * 17}, "OBR-18"),
        ({"requested_procedure_id": "R" * 17}, "OBR-19"),
        ({"study_instance_uid": "not-a-uid"}, "ZDS-1"),
        ({"steps": (StepRequest(step_id="S" * 17),)}, "OBR-20"),
        ({"steps": (StepRequest(step_id="S"), StepRequest(step_id="S"))}, "OBR-20"),
        ({"patient_class": "EMERGENCY"}, "PV1-2"),
    ],
)
def test_what_does_not_fit_its_field_is_refused_with_its_place(ward: Ward, said: dict[str, Any], place: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        ward.place(**said)
    assert refused.value.field == place
    assert ward.events(EventName.ORDER_PLACED) == 0


def test_an_order_of_too_many_steps_is_refused(ward: Ward) -> None:
    assert len(ward.steps(ward.place(steps=(StepRequest(),) * 99, accession_number="A" * 16))) == 99
    with pytest.raises(TooLarge):
        ward.place(steps=(StepRequest(),) * 100)


@pytest.mark.parametrize("said", [{"placer_order_number": ""}, {"procedure": Code("")}])
def test_an_order_without_number_or_procedure_is_refused(ward: Ward, said: dict[str, Any]) -> None:
    with pytest.raises(MissingField):
        ward.store.run(place_order, replace(request("1", "P1"), **said), HL7_PEER)


@pytest.mark.parametrize("same", ["accession_number", "study_instance_uid"])
def test_an_external_number_that_another_order_has_is_refused(store: Store, same: str) -> None:
    ward = Ward(store)
    first = ward.store.run(place_order, external(), HL7_PEER)
    second = external("2", "P2", filler_order_number="F2", accession_number="A2", study_instance_uid="1.2.4")
    with pytest.raises(Duplicate):
        ward.store.run(place_order, replace(second, **{same: getattr(first, same)}), HL7_PEER)


def test_another_persons_name_and_birth_date_under_a_known_identifier_are_refused(ward: Ward) -> None:
    ward.register("1")
    with pytest.raises(IdentityMismatch) as refused:
        ward.place("1", demographics=person("ROE", born=date(1955, 5, 5)))
    assert refused.value.field == "PID-3"


def test_a_patient_nobody_knows_is_registered_by_the_order(ward: Ward) -> None:
    placed = ward.place("NEW", demographics=person("ROE"))
    assert ward.register("NEW", family="ROE").id == placed.patient_id
    assert ward.events(EventName.PATIENT_REGISTERED) == 1


def test_an_order_has_the_steps_it_asks_for(ward: Ward) -> None:
    placed = ward.place(steps=(StepRequest(modality="CT", start_at=NOON), StepRequest(step_id="OWN", modality="PT")))
    one, two = ward.steps(placed)
    assert (one.modality, one.start_at, two.step_id, two.modality) == ("CT", NOON, "OWN", "PT")


# Finding


def test_an_order_is_found_by_each_of_its_numbers(ward: Ward) -> None:
    placed = ward.place(placer="P1")
    accession = placed.accession_number
    for named in (
        OrderReference("P1", AUTHORITY, "", EHR),
        OrderReference("", "", accession, EHR),
        OrderReference("", "", "", EHR, accession),
        OrderReference("P1", AUTHORITY, accession, EHR, accession, (mrn("1"),)),
    ):
        assert ward.ask(lambda uow, named=named: find_order(uow, named)).id == placed.id


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"filler_order_number": "another's"}, Conflict),
        ({"accession_number": "another's"}, Conflict),
        ({"filler_order_number": "nobody's"}, Conflict),
        ({"accession_number": "nobody's"}, Conflict),
        ({"placer_order_number": "nobody's", "accession_number": "own"}, Conflict),
        ({"placer_order_number": "nobody's"}, NotFound),
        ({"patient_identifiers": (mrn("2"),)}, IdentityMismatch),
        ({"patient_identifiers": (mrn("unknown"),)}, IdentityMismatch),
        ({"patient_identifiers": (mrn("1"), mrn("2"))}, Conflict),
    ],
)
def test_a_reference_that_contradicts_itself_is_refused(
    ward: Ward, said: dict[str, Any], error: type[HilumError]
) -> None:
    own, another = ward.place("1"), ward.place("2")
    numbers = {"own": own.accession_number, "another's": another.accession_number}
    said = {key: numbers.get(value, value) if isinstance(value, str) else value for key, value in said.items()}
    with pytest.raises(error):
        ward.ask(lambda uow: find_order(uow, reference(own, **said)))


def test_an_order_is_found_under_the_number_its_patient_was_merged_to(ward: Ward) -> None:
    placed = ward.place("1")
    ward.register("2")
    ward.merge("2", "1")
    for number in ("1", "2"):
        named = reference(placed, patient_identifiers=(mrn(number),))
        assert ward.ask(lambda uow, named=named: find_order(uow, named)).id == placed.id


# Ending


def ended(ward: Ward, status: OrderStatus) -> Order:
    """An order in a state, by the verbs."""
    steps = (StepRequest(), StepRequest()) if status is OrderStatus.PARTIAL else ()
    placed = ward.place(steps=steps)
    if status is OrderStatus.CANCELLED:
        ward.cancel(placed)
    elif status is not OrderStatus.SCHEDULED:
        uid = ward.start(naming(placed, ward.steps(placed)[0]))
        if status is OrderStatus.DISCONTINUED:
            ward.end(uid, PerformedStatus.DISCONTINUED)
        elif status is not OrderStatus.IN_PROGRESS:
            ward.end(uid)
    assert ward.order(placed).status is status
    return placed


CANCEL = {OrderStatus.SCHEDULED, OrderStatus.CANCELLED}
DISCONTINUE = {OrderStatus.SCHEDULED, OrderStatus.IN_PROGRESS, OrderStatus.PARTIAL, OrderStatus.DISCONTINUED}
CHANGE = {OrderStatus.SCHEDULED, OrderStatus.IN_PROGRESS, OrderStatus.PARTIAL}


@pytest.mark.parametrize("status", OrderStatus)
def test_each_state_may_be_cancelled_discontinued_or_changed_by_the_table(ward: Ward, status: OrderStatus) -> None:
    for verb, legal, after in (
        (ward.cancel, CANCEL, {OrderStatus.CANCELLED}),
        (ward.discontinue, DISCONTINUE, {OrderStatus.DISCONTINUED}),
        (lambda order: ward.change(order, reason="new"), CHANGE, {status}),
    ):
        placed = ended(ward, status)
        if status in legal:
            assert verb(placed).status in after
        else:
            with pytest.raises(IllegalTransition):
                verb(placed)
            assert ward.order(placed).status is status


def test_a_cancelled_order_leaves_the_worklist(ward: Ward) -> None:
    placed = ward.place()
    assert ward.cancel(placed).status is OrderStatus.CANCELLED
    assert ward.step_statuses(placed) == [StepStatus.CANCELLED]
    ward.cancel(placed)
    assert ward.events(EventName.ORDER_CANCELLED) == 1


def test_a_discontinued_order_keeps_what_was_performed(ward: Ward) -> None:
    placed = ended(ward, OrderStatus.PARTIAL)
    ward.discontinue(placed)
    assert ward.step_statuses(placed) == [StepStatus.COMPLETED, StepStatus.DISCONTINUED]


def test_an_order_that_is_reported_cannot_be_cancelled(ward: Ward) -> None:
    placed = ward.place()
    ward.relay(placed, ReportStatus.PRELIMINARY)
    with pytest.raises(IllegalTransition):
        ward.cancel(placed)


def test_cancelling_an_order_whose_images_are_here_is_looked_at(ward: Ward) -> None:
    placed = ward.place(steps=(StepRequest(), StepRequest()))
    ward.send(ward.image_of(placed))
    assert ward.order(placed).status is OrderStatus.SCHEDULED
    ward.cancel(placed)
    assert ward.open_kinds() == {ExceptionKind.IMAGES_AFTER_CANCELLATION}


def test_an_order_that_broke_off_at_the_modality_is_completed_by_a_second_exam(ward: Ward) -> None:
    placed = ended(ward, OrderStatus.DISCONTINUED)
    ward.end(ward.start(naming(placed)))
    assert ward.order(placed).status is OrderStatus.COMPLETED
    assert not ward.open_items()


def test_an_order_that_was_discontinued_by_its_placer_is_opened_by_no_exam(ward: Ward) -> None:
    placed = ended(ward, OrderStatus.DISCONTINUED)
    ward.discontinue(placed)
    ward.end(ward.start(naming(placed)))
    assert ward.order(placed).status is OrderStatus.DISCONTINUED
    assert ward.open_kinds() == {ExceptionKind.IMAGES_AFTER_CANCELLATION}


# At the same moment


def test_a_cancellation_and_an_exam_at_the_same_moment_agree_in_the_end(store: Store) -> None:
    ward = Ward(store)
    for _ in range(12):
        placed = ward.place()
        cancelling = store.submit(cancel_order, reference(placed), HL7_PEER)
        starting = store.submit(start_exam, performed(new_uid(), references=(naming(placed),)), MODALITY)
        starting.result()
        refused = cancelling.exception()
        if refused is None:
            assert ward.order(placed).status is OrderStatus.CANCELLED
            assert placed.id in {item.order_id for item in ward.open_items(ExceptionKind.IMAGES_AFTER_CANCELLATION)}
        else:
            assert isinstance(refused, IllegalTransition)
            assert ward.order(placed).status is OrderStatus.IN_PROGRESS


def test_a_change_and_an_exam_at_the_same_moment_lose_neither(store: Store) -> None:
    ward = Ward(store)
    for _ in range(12):
        placed = ward.place()
        change = request("1", placed.placer_order_number, procedure=Code(""), reason="cough")
        changing = store.submit(change_order, change, HL7_PEER)
        starting = store.submit(start_exam, performed(new_uid(), references=(naming(placed),)), MODALITY)
        starting.result()
        changing.result()
        after = ward.order(placed)
        assert (after.status, after.reason) == (OrderStatus.IN_PROGRESS, "cough")


def test_an_order_and_its_first_image_at_the_same_moment_find_each_other(store: Store) -> None:
    ward = Ward(store)
    for number in range(12):
        who, uid, accession = f"N{number}", new_uid(), f"A{number}"
        if number % 2:
            ward.register(who)
        command = external(
            who, f"P{number}", filler_order_number=f"F{number}", accession_number=accession, study_instance_uid=uid
        )
        futures = [
            store.submit(record_instance, image(on_images(who), uid, accession), MODALITY),
            store.submit(place_order, command, HL7_PEER),
        ]
        for future in futures[:: 1 if number % 3 else -1]:
            future.result()
        study = ward.study(uid)
        assert study.match_state is MatchState.VERIFIED, number
        placed = futures[1].result()
        assert study.order_id == placed.id
        assert ward.ask(lambda uow, placed=placed: uow.orders.get(placed.id)).status is OrderStatus.IN_PROGRESS
    assert not ward.open_items()
