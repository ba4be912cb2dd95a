"""Images are tied to an order only when every key that is there agrees; all else is listed, and nothing crosses."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from fixtures.stores import HL7_PEER
from fixtures.ward import EHR, TECHNOLOGIST, Ward, image, mrn, on_images, person
from hilum.core.errors import Conflict, MissingField, NotFound
from hilum.core.event import EventName
from hilum.core.identifiers import new_uid
from hilum.core.order import OrderStatus
from hilum.core.report import ReportStatus
from hilum.core.study import ExceptionKind, MatchState
from hilum.storage.store import Store
from hilum.workflow.reconciliation import AssignStudy, DismissException, assign_study, dismiss_exception
from hilum.workflow.registration import RegisterPatient, register_patient

VERIFIED, UNVERIFIED, CONFLICT = MatchState.VERIFIED, MatchState.UNVERIFIED, MatchState.CONFLICT


@pytest.fixture
def ward(sqlite_store: Store) -> Ward:
    return Ward(sqlite_store)


def test_images_are_tied_by_their_study_uid(ward: Ward) -> None:
    placed = ward.place()
    ward.send(image(on_images("1"), placed.study_instance_uid))
    study = ward.study(placed.study_instance_uid)
    assert (study.match_state, study.order_id, study.patient_id) == (VERIFIED, placed.id, placed.patient_id)


def test_images_are_tied_by_their_accession_number(ward: Ward) -> None:
    placed, uid = ward.place(), new_uid()
    ward.send(image(on_images("1"), uid, placed.accession_number))
    assert (ward.study(uid).match_state, ward.study(uid).order_id) == (VERIFIED, placed.id)


@pytest.mark.parametrize(("issuer", "state"), [("", VERIFIED), ("GENHOSP", VERIFIED), ("CLINIC", CONFLICT)])
def test_an_identifier_counts_under_its_issuer_or_without_one(ward: Ward, issuer: str, state: MatchState) -> None:
    placed = ward.place()
    ward.send(ward.image_of(placed, patient=on_images("1", issuer=issuer)))
    assert ward.study(placed.study_instance_uid).match_state is state


def test_images_of_another_patient_are_a_conflict_and_tied_to_nobody(ward: Ward) -> None:
    placed = ward.place("1")
    ward.register("2", family="ROE")
    ward.send(ward.image_of(placed, patient=on_images("2", "ROE")))
    study = ward.study(placed.study_instance_uid)
    assert (study.match_state, study.order_id, study.patient_id) == (CONFLICT, None, None)
    assert ward.order(placed).status is OrderStatus.SCHEDULED
    [item] = ward.open_items()
    assert (item.kind, item.order_id) == (ExceptionKind.IMAGES_OF_ANOTHER_PATIENT, placed.id)


def test_another_persons_name_and_birth_date_under_the_right_identifier_are_a_conflict(ward: Ward) -> None:
    placed = ward.place("1")
    ward.send(ward.image_of(placed, patient=on_images("1", "ROE", born="19550505")))
    assert ward.study(placed.study_instance_uid).match_state is CONFLICT


def test_images_of_two_patients_under_one_study_uid_stay_apart(ward: Ward) -> None:
    placed = ward.place("1")
    ward.send(ward.image_of(placed))
    ward.send(ward.image_of(placed, patient=on_images("2", "ROE")))
    right, wrong = ward.studies(placed.study_instance_uid)
    assert (right.match_state, wrong.match_state) == (VERIFIED, CONFLICT)
    assert (right.instance_count, wrong.instance_count) == (1, 1)


def test_images_that_name_nobody_are_verified_by_nothing(ward: Ward) -> None:
    placed = ward.place()
    ward.send(ward.image_of(placed, patient=on_images("", "", "", "")))
    assert ward.study(placed.study_instance_uid).match_state is UNVERIFIED
    assert ward.open_kinds() == {ExceptionKind.IMAGES_OF_UNKNOWN_PATIENT}


def test_the_study_of_one_order_with_the_accession_of_another_is_a_conflict(ward: Ward) -> None:
    one, two = ward.place(), ward.place()
    ward.send(image(on_images("1"), one.study_instance_uid, two.accession_number))
    assert ward.study(one.study_instance_uid).match_state is CONFLICT
    assert {ward.order(order).status for order in (one, two)} == {OrderStatus.SCHEDULED}
    assert ward.open_kinds() == {ExceptionKind.IMAGES_WITH_OTHER_NUMBERS}


def test_an_accession_number_that_is_none_leaves_the_study_unverified(ward: Ward) -> None:
    placed = ward.place()
    ward.send(image(on_images("1"), placed.study_instance_uid, "TYPED"))
    study = ward.study(placed.study_instance_uid)
    assert (study.match_state, study.patient_id, study.order_id) == (UNVERIFIED, placed.patient_id, None)
    assert ward.open_kinds() == {ExceptionKind.IMAGES_WITH_OTHER_NUMBERS}


def test_images_of_someone_unknown_are_kept_and_listed(ward: Ward) -> None:
    uid = new_uid()
    ward.send(image(on_images("1"), uid))
    assert (ward.study(uid).match_state, ward.study(uid).patient_id) == (UNVERIFIED, None)
    assert ward.open_kinds() == {ExceptionKind.IMAGES_OF_UNKNOWN_PATIENT}


@pytest.mark.parametrize(
    ("said", "is_known"),
    [
        ({}, True),
        ({"issuer": "GENHOSP"}, True),
        ({"issuer": "CLINIC"}, False),
        ({"born": ""}, True),
        ({"born": "19810203"}, False),
        ({"family": "ROE"}, False),
        ({"family": ""}, False),
    ],
)
def test_images_without_order_are_of_a_patient_only_if_all_agrees(
    ward: Ward, said: dict[str, Any], is_known: bool
) -> None:
    patient, uid = ward.register("1"), new_uid()
    ward.send(image(on_images("1", **said), uid))
    assert ward.study(uid).patient_id == (patient.id if is_known else None)


def test_a_number_that_two_authorities_gave_is_nobodys(ward: Ward) -> None:
    ward.register("1")
    ward.store.run(register_patient, RegisterPatient((mrn("1", "CLINIC"),), person(), None, EHR), HL7_PEER)
    uid = new_uid()
    ward.send(image(on_images("1"), uid))
    assert ward.study(uid).patient_id is None


def test_two_patients_of_one_name_and_birth_date_never_cross(ward: Ward) -> None:
    orders = {number: ward.place(number) for number in ("1", "2")}
    for number, placed in orders.items():
        ward.send(ward.image_of(placed, number))
    for number, other in (("1", orders["2"]), ("2", orders["1"])):
        ward.send(ward.image_of(other, number))
    for placed in orders.values():
        right, wrong = ward.studies(placed.study_instance_uid)
        assert (right.match_state, right.patient_id, right.order_id) == (VERIFIED, placed.patient_id, placed.id)
        assert (wrong.match_state, wrong.patient_id, wrong.order_id) == (CONFLICT, None, None)


# Images first


@pytest.mark.parametrize("by_uid", [True, False])
def test_images_that_came_first_are_tied_when_their_order_comes(ward: Ward, by_uid: bool) -> None:
    uid = new_uid()
    ward.send(image(on_images("1"), uid, "" if by_uid else "A1"))
    placed = ward.place("1", accession_number="A1", study_instance_uid=uid if by_uid else "")
    assert (ward.study(uid).match_state, ward.study(uid).order_id) == (VERIFIED, placed.id)
    assert placed.status is OrderStatus.IN_PROGRESS
    assert ward.events(EventName.STUDY_MATCHED) == 1
    assert not ward.open_items()


def test_images_that_came_first_under_another_patients_order_are_a_conflict(ward: Ward) -> None:
    uid = new_uid()
    ward.send(image(on_images("2", "ROE"), uid, "A1"))
    placed = ward.place("1", accession_number="A1")
    assert (ward.study(uid).match_state, ward.study(uid).order_id) == (CONFLICT, None)
    assert placed.status is OrderStatus.SCHEDULED
    assert ward.open_kinds() == {ExceptionKind.IMAGES_OF_ANOTHER_PATIENT}


def test_a_conflict_is_no_later_orders_images(ward: Ward) -> None:
    ward.place("1", accession_number="A1")
    uid = new_uid()
    ward.send(image(on_images("2"), uid, "A1"))
    ward.place("2", accession_number="A2", study_instance_uid=uid)
    assert ward.study(uid).match_state is CONFLICT


def test_images_that_came_first_with_another_accession_stay_unverified(ward: Ward) -> None:
    uid = new_uid()
    ward.send(image(on_images("1"), uid, "TYPED"))
    placed = ward.place("1", accession_number="A1", study_instance_uid=uid)
    assert (ward.study(uid).match_state, ward.study(uid).order_id) == (UNVERIFIED, None)
    assert ward.open_kinds() == {ExceptionKind.IMAGES_WITH_OTHER_NUMBERS}
    assert placed.status is OrderStatus.SCHEDULED


def test_images_that_name_nobody_are_tied_to_no_later_order(ward: Ward) -> None:
    uid = new_uid()
    ward.send(image(on_images("", ""), uid, "A1"))
    ward.place("1", accession_number="A1")
    assert ward.study(uid).match_state is UNVERIFIED


# A person decides


def assign(ward: Ward, accession: str, reason: str = "seen on the request form", position: int = 0) -> None:
    item = ward.open_items()[position]
    ward.store.run(assign_study, AssignStudy(item.id, accession, reason), TECHNOLOGIST)


def test_a_person_ties_a_study_to_an_order(ward: Ward) -> None:
    placed, uid = ward.place("1"), new_uid()
    ward.send(image(on_images("1", "ROE", born="19550505"), uid))
    assign(ward, placed.accession_number)
    study = ward.study(uid)
    assert (study.match_state, study.order_id, study.patient_id) == (VERIFIED, placed.id, placed.patient_id)
    assert ward.order(placed).status is OrderStatus.IN_PROGRESS
    assert not ward.open_items()


@pytest.mark.parametrize(("accession", "reason", "error"), [("own", " ", MissingField), ("NONE", "sure", NotFound)])
def test_a_person_says_which_order_and_why(ward: Ward, accession: str, reason: str, error: type[Exception]) -> None:
    placed, uid = ward.place("1"), new_uid()
    ward.send(image(on_images("9"), uid))
    with pytest.raises(error):
        assign(ward, placed.accession_number if accession == "own" else accession, reason)
    assert ward.study(uid).match_state is UNVERIFIED


def test_a_study_that_a_person_ties_after_the_report_is_listed(ward: Ward) -> None:
    placed = ward.place("1")
    ward.relay(placed, ReportStatus.FINAL)
    ward.send(image(on_images("9"), new_uid()))
    assign(ward, placed.accession_number, position=1)
    assert ExceptionKind.IMAGES_AFTER_REPORT in ward.open_kinds()


def test_two_people_tie_a_study_to_one_order_only(store: Store) -> None:
    ward = Ward(store)
    for _ in range(8):
        orders, uid = [ward.place("1"), ward.place("2")], new_uid()
        ward.send(image(on_images("9"), uid))
        item = ward.open_items()[-1]
        commands = [AssignStudy(item.id, order.accession_number, "sure") for order in orders]
        failures = [f.exception() for f in [store.submit(assign_study, each, TECHNOLOGIST) for each in commands]]
        assert [type(failure) for failure in failures if failure] == [Conflict]
        [tied] = [order for order, failure in zip(orders, failures, strict=True) if failure is None]
        assert ward.study(uid).order_id == tied.id


def test_an_entry_is_set_aside_once_and_with_a_reason(ward: Ward) -> None:
    ward.send(image(on_images("9"), new_uid()))
    [item] = ward.open_items()
    with pytest.raises(MissingField):
        ward.store.run(dismiss_exception, DismissException(item.id, " "), TECHNOLOGIST)
    ward.store.run(dismiss_exception, DismissException(item.id, "a phantom"), TECHNOLOGIST)
    with pytest.raises(Conflict):
        ward.store.run(dismiss_exception, DismissException(item.id, "again"), TECHNOLOGIST)
    with pytest.raises(NotFound):
        ward.store.run(dismiss_exception, DismissException("none", "what?"), TECHNOLOGIST)


def test_a_merge_later_does_not_untie_images(ward: Ward) -> None:
    placed = ward.place("1")
    ward.send(ward.image_of(placed))
    ward.register("2", born=date(1980, 1, 2))
    survivor = ward.merge("2", "1")
    study = ward.study(placed.study_instance_uid)
    assert study.match_state is VERIFIED
    assert ward.ask(lambda uow: uow.patients.survivor(study.patient_id or "")).id == survivor.id
    ward.send(ward.image_of(placed, "2"))
    assert [each.match_state for each in ward.studies(placed.study_instance_uid)] == [VERIFIED, VERIFIED]
