"""A merge is undone: each patient has their own again, and what came meanwhile is sorted or listed."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from fixtures.stores import HL7_PEER
from fixtures.ward import EHR, PAGE, TECHNOLOGIST, Ward, image, mrn, on_images, person
from hilum.core.actor import Actor, ActorKind, Door, Role
from hilum.core.errors import Conflict, Forbidden, MissingField, NotFound
from hilum.core.event import EventName
from hilum.core.identifiers import new_uid
from hilum.core.patient import Patient
from hilum.core.scope import Confidentiality
from hilum.core.study import ExceptionKind, MatchState
from hilum.storage import tables
from hilum.storage.access import label_of
from hilum.storage.store import Store
from hilum.workflow.registration import RegisterPatient, register_patient
from hilum.workflow.unmerging import UnmergePatients, unmerge_patients

ADMIN = Actor("ada", Role.ADMIN, ActorKind.PERSON, Door.PAGE)


@pytest.fixture
def ward(sqlite_store: Store) -> Ward:
    return Ward(sqlite_store)


def unmerge(ward: Ward, one: str, other: str, reason: str = "two persons", actor: Actor = ADMIN) -> Patient:
    return ward.store.run(unmerge_patients, UnmergePatients((mrn(one),), (mrn(other),), reason, PAGE), actor)


def test_each_has_their_own_orders_and_images_again(store: Store) -> None:
    ward = Ward(store)
    first, second = ward.register("1"), ward.register("2", family="ROE")
    order_1, order_2 = ward.place("1"), ward.place("2", demographics=person("ROE"))
    ward.send(ward.image_of(order_1))
    ward.send(ward.image_of(order_2, patient=on_images("2", family="ROE")))
    ward.merge("1", "2")
    assert ward.survivor(second).id == first.id
    separated = unmerge(ward, "1", "2")
    assert (separated.id, separated.merged_into) == (second.id, None)
    assert ward.survivor(second).demographics.name.family == "ROE"
    assert [ward.order(each).patient_id for each in (order_1, order_2)] == [first.id, second.id]
    assert ward.study(order_2.study_instance_uid).match_state is MatchState.VERIFIED
    assert ward.events(EventName.PATIENTS_UNMERGED) == 1 and not ward.open_items(ExceptionKind.ORDER_WHILE_MERGED)
    with store.read() as db:
        (link,) = db.execute(sa.select(tables.patient_merge)).all()
    assert (link.undone_by, link.undone_reason) == ("ada", "two persons") and link.undone_at is not None
    assert ward.merge("1", "2").id == first.id, "they can be merged again"
    assert ward.survivor(second).id == first.id


def test_a_link_within_a_chain_takes_those_below_it_along(ward: Ward) -> None:
    a, b, c = (ward.register(number) for number in "ABC")
    ward.merge("B", "A")
    ward.merge("C", "B")
    unmerge(ward, "C", "B")
    assert [ward.survivor(each).id for each in (a, b, c)] == [b.id, b.id, c.id]
    unmerge(ward, "A", "B")
    assert [ward.survivor(each).id for each in (a, b, c)] == [a.id, b.id, c.id]


def test_what_came_meanwhile_goes_to_whom_it_names_and_an_order_is_listed(store: Store) -> None:
    ward = Ward(store)
    first, second = ward.register("1"), ward.register("2")
    ward.merge("1", "2")
    loose = new_uid()
    ward.send(image(on_images("2"), loose))
    assert ward.study(loose).patient_id == first.id
    ordered = ward.place("1")
    ward.send(ward.image_of(ordered, patient=on_images("2")))
    unmerge(ward, "1", "2")
    assert ward.study(loose).patient_id == second.id
    proven = ward.study(ordered.study_instance_uid)
    assert (proven.match_state, proven.patient_id, proven.order_id) == (MatchState.CONFLICT, None, None)
    assert len(ward.open_items(ExceptionKind.IMAGES_OF_ANOTHER_PATIENT)) == 1
    assert [item.order_id for item in ward.open_items(ExceptionKind.ORDER_WHILE_MERGED)] == [ordered.id]


def test_the_stricter_label_stays_with_both(ward: Ward) -> None:
    first = ward.register("1")
    labelled = RegisterPatient((mrn("2"),), person(), None, EHR, Confidentiality.SENSITIVE)
    second = ward.store.run(register_patient, labelled, HL7_PEER)
    ward.merge("1", "2")
    unmerge(ward, "1", "2", actor=HL7_PEER)
    with ward.store.read() as db:
        assert {label_of(db, each.id) for each in (first, second)} == {Confidentiality.SENSITIVE}


def test_what_is_not_merged_or_not_known_or_not_reasoned_is_refused(ward: Ward) -> None:
    ward.register("1")
    ward.register("2")
    with pytest.raises(Conflict):
        unmerge(ward, "1", "2")
    with pytest.raises(NotFound):
        unmerge(ward, "1", "9")
    ward.merge("1", "2")
    with pytest.raises(MissingField):
        unmerge(ward, "1", "2", reason="  ")
    with pytest.raises(Forbidden):
        unmerge(ward, "1", "2", actor=TECHNOLOGIST)
    assert (
        ward.ask(lambda uow: uow.patients.find(mrn("2").key)).id
        == ward.ask(lambda uow: uow.patients.find(mrn("1").key)).id
    )
