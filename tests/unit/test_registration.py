"""One person per identifier; merges are links that hold everywhere; old news changes nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

import pytest
import sqlalchemy as sa

from fixtures.stores import HL7_PEER
from fixtures.ward import BORN, EHR, NOON, Ward, merge, mrn, on_images, registration
from hilum.core.actor import Actor, ActorKind, Door, Identifier, Role
from hilum.core.errors import Conflict, InvalidInput, MissingField
from hilum.core.event import EventName
from hilum.core.order import Physician
from hilum.core.patient import PersonName
from hilum.core.report import ReportStatus
from hilum.core.study import ExceptionKind, MatchState
from hilum.security.policy import Action, scope_for
from hilum.storage import tables
from hilum.storage.scoping import sees_patient
from hilum.storage.store import Store
from hilum.workflow.registration import (
    DemographicsSaid,
    MergePatients,
    RegisterPatient,
    merge_patients,
    register_patient,
)


@pytest.fixture
def ward(sqlite_store: Store) -> Ward:
    return Ward(sqlite_store)


def test_an_older_update_changes_nothing(ward: Ward) -> None:
    ward.register("1", NOON, family="NEW")
    stale = RegisterPatient((mrn("1"), mrn("OLD")), DemographicsSaid(PersonName("OLD")), NOON - timedelta(hours=1), EHR)
    after = ward.store.run(register_patient, stale, HL7_PEER)
    assert after.demographics.name.family == "NEW"
    assert after.demographics_at == NOON
    assert [identifier.value for identifier in after.identifiers] == ["1"]
    assert ward.events(EventName.PATIENT_UPDATED) == 0


def test_an_update_that_comes_before_the_registration_stands(ward: Ward) -> None:
    ward.register("1", NOON, family="MARRIED")
    assert ward.register("1", NOON - timedelta(days=1), family="MAIDEN").demographics.name.family == "MARRIED"


def test_a_newer_update_replaces_what_it_says_and_keeps_what_it_leaves_out(ward: Ward) -> None:
    ward.register("1", NOON)
    said = RegisterPatient((mrn("1"),), DemographicsSaid(PersonName("ROE", "JANE")), NOON + timedelta(hours=1), EHR)
    after = ward.store.run(register_patient, said, HL7_PEER).demographics
    assert (after.name.family, after.birth_date, after.sex) == ("ROE", BORN, "F")


def test_an_hl7_null_deletes(ward: Ward) -> None:
    ward.register("1", NOON)
    nulls = DemographicsSaid(PersonName(), None, birth_date_deleted=True, sex="")
    command = RegisterPatient((mrn("1"),), nulls, NOON + timedelta(hours=1), EHR)
    after = ward.store.run(register_patient, command, HL7_PEER).demographics
    assert (after.name, after.birth_date, after.sex) == (PersonName(), None, "")


def test_the_same_number_of_another_authority_is_another_person(ward: Ward) -> None:
    first = ward.register("1")
    other = RegisterPatient((mrn("1", "CLINIC"),), DemographicsSaid(PersonName("ROE")), None, EHR)
    assert ward.store.run(register_patient, other, HL7_PEER).id != first.id


def test_identifiers_of_two_patients_in_one_message_are_refused(ward: Ward) -> None:
    ward.register("1")
    ward.register("2", family="ROE")
    both = RegisterPatient((mrn("1"), mrn("2")), DemographicsSaid(), None, EHR)
    with pytest.raises(Conflict) as refused:
        ward.store.run(register_patient, both, HL7_PEER)
    assert refused.value.field == "PID-3"


def test_a_registration_without_identifier_is_refused(ward: Ward) -> None:
    with pytest.raises(MissingField):
        ward.store.run(register_patient, RegisterPatient((), DemographicsSaid(), None, EHR), HL7_PEER)


def test_a_person_whose_name_and_birth_date_change_at_once_is_looked_at(ward: Ward) -> None:
    ward.register("1", NOON)
    ward.register("1", NOON + timedelta(hours=1), family="DOE", born=date(1980, 2, 1))
    assert not ward.open_items()
    ward.register("1", NOON + timedelta(hours=2), family="ROE", born=date(1955, 5, 5))
    [item] = ward.open_items(ExceptionKind.DEMOGRAPHICS_DIFFER)
    assert item.patient_id == ward.register("1").id


def test_a_merge_into_itself_is_refused(ward: Ward) -> None:
    ward.register("1")
    with pytest.raises(InvalidInput) as refused:
        ward.merge("1", "1")
    assert refused.value.field == "MRG-1"


def test_merged_patients_are_one_and_the_subsumed_row_stays(ward: Ward) -> None:
    one, two = ward.register("1"), ward.register("2")
    assert ward.merge("1", "2").id == one.id
    assert ward.survivor(two).id == one.id
    assert ward.ask(lambda uow: uow.patients.get(two.id)).merged_into == one.id
    assert ward.ask(lambda uow: [i.value for i in uow.patients.get(two.id).identifiers]) == ["2"]


def test_a_merge_of_someone_unknown_keeps_the_link_for_later(ward: Ward) -> None:
    one = ward.register("1")
    ward.merge("1", "LATER")
    assert ward.register("LATER", family="DOE").id == one.id


def test_a_merge_into_someone_unknown_makes_the_survivor(ward: Ward) -> None:
    two = ward.register("2")
    survivor = ward.merge("NEW", "2")
    assert survivor.id != two.id
    assert ward.survivor(two).id == survivor.id


def test_a_repeated_merge_changes_nothing(ward: Ward) -> None:
    ward.register("1")
    ward.register("2")
    ward.merge("1", "2")
    ward.merge("1", "2")
    assert ward.events(EventName.PATIENTS_MERGED) == 1
    with ward.store.read() as db:
        assert db.execute(sa.select(sa.func.count()).select_from(tables.patient_merge)).scalar_one() == 1


def test_a_merge_turned_round_is_refused(ward: Ward) -> None:
    ward.register("1")
    ward.register("2")
    ward.merge("1", "2")
    with pytest.raises(Conflict, match="other way round"):
        ward.merge("2", "1")


def test_an_old_merge_repeated_after_its_survivor_was_merged_on_is_taken_as_done(ward: Ward) -> None:
    for number in "ABC":
        ward.register(number)
    ward.merge("B", "A")
    last = ward.merge("C", "B")
    assert ward.merge("B", "A").id == last.id
    assert ward.merge("C", "A").id == last.id
    with pytest.raises(Conflict):
        ward.merge("A", "C")


def test_a_merge_of_someone_who_was_merged_elsewhere_joins_nobody_else(ward: Ward) -> None:
    _, b, c = (ward.register(number) for number in "ABC")
    ward.merge("B", "A")
    with pytest.raises(Conflict):
        ward.merge("C", "A")
    assert ward.survivor(b).id == b.id != ward.survivor(c).id


def test_a_chain_of_merges_holds_for_orders_studies_reports_and_scope(store: Store) -> None:
    ward = Ward(store)
    physician = Actor("house", Role.REFERRING_PHYSICIAN, ActorKind.PERSON, Door.PAGE, (Identifier("77", "GENHOSP"),))
    ward.register("A")
    ordered = ward.place("A", ordering_physician=Physician("77", "House", "Gregory", "GENHOSP"))
    ward.register("B")
    ward.register("C")
    ward.merge("B", "A")
    last = ward.merge("C", "B")
    assert ward.ask(lambda uow: len(uow.patients.family(last.id))) == 3
    # Images and a report under any of the three numbers are of this one order.
    ward.send(ward.image_of(ordered, "C"))
    assert ward.study(ordered.study_instance_uid).match_state is MatchState.VERIFIED
    report = ward.relay(ordered, ReportStatus.FINAL)
    assert report.order_id == ordered.id
    scope = scope_for(physician, Action.READ_REPORT)
    with ward.store.read() as db:
        assert all(
            sees_patient(db, scope, member.id)
            for member in (last, ward.ask(lambda u: u.patients.get(ordered.patient_id)))
        )
    # Another placer number of the first identifier is an order of the survivor.
    assert ward.place("A").patient_id == last.id


def test_images_under_a_merged_number_are_of_the_survivor(ward: Ward) -> None:
    ward.register("1")
    ward.register("2")
    ward.merge("1", "2")
    ordered = ward.place("1")
    ward.send(ward.image_of(ordered, patient=on_images("2")))
    assert ward.study(ordered.study_instance_uid).match_state is MatchState.VERIFIED


@pytest.mark.parametrize("round_number", range(3))
def test_merges_at_the_same_moment_end_in_one_survivor(store: Store, round_number: int) -> None:
    ward = Ward(store)
    people = {number: ward.register(number) for number in "ABCDEF"}
    pairs = ["AB", "BC", "CD", "DE", "EF"]
    with ThreadPoolExecutor(5) as pool:
        done = list(pool.map(lambda pair: store.submit(merge_patients, merge(pair[1], pair[0]), HL7_PEER), pairs))
    for future in done:
        future.result()
    assert {ward.survivor(patient).id for patient in people.values()} == {people["F"].id}


def test_opposite_merges_at_the_same_moment_refuse_one(store: Store) -> None:
    ward = Ward(store)
    for number in range(0, 20, 2):
        one, two = ward.register(str(number)), ward.register(str(number + 1))
        futures = [
            store.submit(merge_patients, merge(a, b), HL7_PEER)
            for a, b in ((str(number), str(number + 1)), (str(number + 1), str(number)))
        ]
        failures = [future.exception() for future in futures]
        assert sorted(type(failure) for failure in failures if failure) == [Conflict]
        assert ward.survivor(one).id == ward.survivor(two).id


def test_updates_at_the_same_moment_leave_the_newest(store: Store) -> None:
    ward = Ward(store)
    ward.register("1", NOON)
    commands = [registration("1", NOON + timedelta(minutes=n), family=f"N{n}") for n in (5, 3, 8, 1, 7, 2, 6, 4)]
    for future in [store.submit(register_patient, command, HL7_PEER) for command in commands]:
        future.result()
    assert ward.register("1", NOON).demographics.name.family == "N8"


def test_a_merge_names_who_was_subsumed_and_by_which_message(ward: Ward) -> None:
    ward.register("1")
    two = ward.register("2")
    command = MergePatients((mrn("1"),), (mrn("2"),), DemographicsSaid(), None, EHR)
    ward.store.run(merge_patients, command, HL7_PEER)
    with ward.store.read() as db:
        details = db.execute(
            sa.select(tables.event.c.details).where(tables.event.c.name == EventName.PATIENTS_MERGED.value)
        ).scalar_one()
    assert details == {"subsumed": two.id}
