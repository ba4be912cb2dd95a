"""Whose data someone sees: relation, facility, label and grant, in lists and for single patients, on both databases."""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import hilum.storage
from fixtures.stores import HL7_PEER
from fixtures.ward import EHR, PAGE, RADIOLOGIST, Ward, image, mrn, on_images, registration, request
from hilum.core.actor import Actor, ActorKind, Door, Identifier, Role, system_actor
from hilum.core.errors import Conflict, Forbidden, MissingField, NotFound
from hilum.core.event import EventName
from hilum.core.identifiers import new_uid
from hilum.core.order import Physician
from hilum.core.scope import Confidentiality, GrantKind, Scope
from hilum.core.study import ExceptionKind
from hilum.security.audit import Read, record_read
from hilum.security.policy import LABELS, RELATED_ONLY, SEES_UNMATCHED, Action, decide, scope_for
from hilum.storage import tables
from hilum.storage.access import break_glass_reviews, grants_of, open_review_count, resource_of
from hilum.storage.exception_list import open_exception_count, open_exceptions
from hilum.storage.fhir_queries import count_matches, find_page
from hilum.storage.fhir_values import Kind
from hilum.storage.qido import Page, find_studies
from hilum.storage.reading_list import Listing, Wanted, reading_counts, reading_page
from hilum.storage.scoping import sees_patient
from hilum.storage.store import Store
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.access import (
    MOST_BROKEN_PER_HOUR,
    BreakGlass,
    GrantAccess,
    LabelPatient,
    ReviewAccess,
    Visit,
    break_glass,
    grant_access,
    label_patient,
    review_access,
    revoke_access,
)
from hilum.workflow.accounts import AddUser, add_user
from hilum.workflow.ordering import place_order
from hilum.workflow.reconciliation import AssignStudy, assign_study
from hilum.workflow.registration import RegisterPatient, register_patient
from hilum.workflow.source import Source

ADMIN = Actor("root", Role.ADMIN, ActorKind.PERSON, Door.PAGE)
AUDITOR = Actor("argus", Role.AUDITOR, ActorKind.PERSON, Door.PAGE)
HOUSE = Physician("D77", "House", "Gregory", "GENHOSP")
LASTING = timedelta(hours=4)
WHY = "unconscious in the emergency room"
VIP, EMPLOYEE, SENSITIVE, NORMAL = (
    Confidentiality.VIP,
    Confidentiality.EMPLOYEE,
    Confidentiality.SENSITIVE,
    Confidentiality.NORMAL,
)


@pytest.fixture
def ward(store: Store) -> Ward:
    return Ward(store)


def person(role: Role, name: str = "", facilities: tuple[str, ...] = ()) -> Actor:
    name = name or role.value
    return Actor(name, role, ActorKind.PERSON, Door.PAGE, (Identifier("D77"),), facilities=facilities)


PHYSICIAN = person(Role.REFERRING_PHYSICIAN)


def account(ward: Ward, actor: Actor) -> None:
    ward.store.run(add_user, AddUser(actor.name, actor.role, "hash"), system_actor("tests"))


def label(ward: Ward, number: str, confidentiality: Confidentiality) -> None:
    ward.store.run(label_patient, LabelPatient(Identifier(number), confidentiality), ADMIN)


def give(ward: Ward, actor: Actor, number: str = "", opened: Confidentiality | None = None, hours: float = 1) -> str:
    until = ward.store.clock() + timedelta(hours=hours)
    identifier = Identifier(number) if number else None
    command = GrantAccess(actor.name, until, "covers for a colleague", identifier, opened)
    return ward.store.run(grant_access, command, ADMIN)


def broken(number: str, reason: str = WHY) -> BreakGlass:
    return BreakGlass(Identifier(number), reason, LASTING, PAGE)


def sees(ward: Ward, actor: Actor, patient_id: str) -> bool:
    """What a list shows and what a single read is permitted must agree, always."""
    with ward.store.read() as db:
        listed = sees_patient(db, scope_for(actor, Action.READ_ORDER), patient_id)
        decision = decide(actor, Action.READ_ORDER, resource_of(db, actor, patient_id))
    assert decision.allowed is listed, (actor, decision)
    return listed


def visiting(number: str, visit: Visit | None, at: datetime | None = None, **said: Any) -> RegisterPatient:
    known = registration(number)
    return RegisterPatient(known.identifiers, known.demographics, at, EHR, visit=visit, **said)


# The rules together


@dataclass(frozen=True)
class Case:
    """A patient of a label and an authority, related to D77 or not."""

    confidentiality: Confidentiality
    related: bool
    authority: str

    def is_seen(self, role: Role, variant: str, facilities: tuple[str, ...]) -> bool:
        """The rules of docs/security-policy.md once more, in words of their own."""
        labels = LABELS[role] | ({SENSITIVE} if variant == "label" else set())
        related = self.related or role not in RELATED_ONLY
        here = self.authority in facilities or not facilities
        return variant in ("given", "break-glass") or (related and here and self.confidentiality in labels)


CASES = [Case(*each) for each in itertools.product(Confidentiality, (True, False), ("GENHOSP", "CLINIC"))]


def populated(ward: Ward) -> dict[Case, str]:
    """A patient for each case."""
    patients = {}
    for number, case in enumerate(CASES):
        team = (Identifier("D77", "GENHOSP"),) if case.related else ()
        said = visiting(str(number), Visit("V", team, stay=True), label=case.confidentiality)
        said = replace(said, identifiers=(mrn(str(number), case.authority),))
        patients[case] = ward.store.run(register_patient, said, HL7_PEER).id
    return patients


def grant_all(ward: Ward, name: str, variant: str, patients: list[str]) -> None:
    """Grants of one kind for an account, in one go."""

    def grant(uow: UnitOfWork, command: None, actor: Actor) -> None:
        kind = GrantKind.GIVEN if variant == "label" else GrantKind(variant)
        wanted = [(None, SENSITIVE)] if variant == "label" else [(patient_id, None) for patient_id in patients]
        for patient_id, opened in wanted:
            uow.access.grant(
                name, kind, patient_id=patient_id, label=opened, reason=WHY, granted_by="root",
                expires_at=uow.now + LASTING,
            )  # fmt: skip

    ward.store.run(grant, None, system_actor("tests"))


@pytest.mark.parametrize("role", list(Role))
def test_a_list_and_a_single_read_agree_whatever_role_label_facility_relation_and_grant(
    sqlite_store: Store, role: Role
) -> None:
    ward = Ward(sqlite_store)
    patients = populated(ward)
    for variant in ("none", "given", "break-glass", "label"):
        name = f"{role.value}-{variant}"
        if variant != "none":
            grant_all(ward, name, variant, list(patients.values()))
        for facilities in ((), ("ELSEWHERE", "CLINIC")):
            actor = person(role, name, facilities)
            may = decide(actor, Action.READ_ORDER).allowed
            for case, patient_id in patients.items():
                expected = may and case.is_seen(role, variant, facilities)
                assert sees(ward, actor, patient_id) is expected, (variant, facilities, case)


# Labels


def test_the_stricter_label_of_merged_patients_wins_whichever_survives(ward: Ward) -> None:
    for survivor, subsumed in (("1", "2"), ("4", "3")):
        mine = ward.place(survivor if survivor == "1" else subsumed, ordering_physician=HOUSE)
        other = ward.register(subsumed if survivor == "1" else survivor)
        label(ward, subsumed if survivor == "1" else survivor, SENSITIVE)
        assert sees(ward, PHYSICIAN, mine.patient_id)
        ward.merge(survivor, subsumed)
        for patient_id in (mine.patient_id, other.id):
            assert not sees(ward, PHYSICIAN, patient_id)
            assert not sees(ward, person(Role.TECHNOLOGIST), patient_id)
            assert sees(ward, RADIOLOGIST, patient_id)


def test_a_label_of_a_message_and_of_a_person_stand_beside_each_other(ward: Ward) -> None:
    clerk = person(Role.SCHEDULER)
    patient = ward.store.run(register_patient, visiting("1", None, label=EMPLOYEE), HL7_PEER)
    assert not sees(ward, clerk, patient.id)
    label(ward, "1", SENSITIVE)
    ward.store.run(register_patient, visiting("1", None, label=NORMAL), HL7_PEER)
    assert not sees(ward, clerk, patient.id)
    label(ward, "1", NORMAL)
    assert sees(ward, clerk, patient.id)


def test_a_message_speaks_for_the_record_that_it_names_only(ward: Ward) -> None:
    clerk = person(Role.SCHEDULER)
    ward.store.run(register_patient, visiting("1", None, label=EMPLOYEE), HL7_PEER)
    ward.register("2")
    survivor = ward.merge("2", "1")
    ward.store.run(register_patient, visiting("2", None, label=NORMAL), HL7_PEER)
    assert not sees(ward, clerk, survivor.id)
    ward.store.run(register_patient, visiting("1", None, label=NORMAL), HL7_PEER)
    assert sees(ward, clerk, survivor.id)


def test_a_stale_message_changes_neither_label_nor_team(ward: Ward) -> None:
    new, old = datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
    team = Visit("V1", (Identifier("D77"),), stay=True)
    patient = ward.store.run(register_patient, visiting("1", None, new), HL7_PEER)
    ward.store.run(register_patient, visiting("1", team, old, label=SENSITIVE), HL7_PEER)
    assert not sees(ward, PHYSICIAN, patient.id)
    assert sees(ward, person(Role.SCHEDULER), patient.id)


# The care team


def test_who_attends_a_patient_sees_them_until_the_visit_ends(ward: Ward) -> None:
    team = Visit("V1", (Identifier("D77", "GENHOSP"),), stay=True)
    patient = ward.store.run(register_patient, visiting("1", team), HL7_PEER)
    other = person(Role.REFERRING_PHYSICIAN, "other")
    stranger = Actor(other.name, other.role, other.kind, other.door, (Identifier("D99"),))
    assert sees(ward, PHYSICIAN, patient.id) and not sees(ward, stranger, patient.id)
    merged = ward.register("2")
    ward.merge("2", "1")
    assert sees(ward, PHYSICIAN, merged.id)
    ward.store.run(register_patient, visiting("1", Visit("V1", ended=True)), HL7_PEER)
    assert not sees(ward, PHYSICIAN, patient.id)


def test_another_physician_takes_over_and_an_outpatient_visit_ends_by_itself(ward: Ward) -> None:
    first = Visit("V1", (Identifier("D77"),), stay=True)
    patient = ward.store.run(register_patient, visiting("1", first), HL7_PEER)
    ward.store.run(register_patient, visiting("1", Visit("V1", (Identifier("D88"),), stay=True)), HL7_PEER)
    assert not sees(ward, PHYSICIAN, patient.id)
    long_ago = datetime.now(UTC) - timedelta(days=31)
    past = ward.store.run(register_patient, visiting("2", Visit("", (Identifier("D77"),)), long_ago), HL7_PEER)
    lately = datetime.now(UTC) - timedelta(days=29)
    recent = ward.store.run(register_patient, visiting("3", Visit("", (Identifier("D77"),)), lately), HL7_PEER)
    assert not sees(ward, PHYSICIAN, past.id) and sees(ward, PHYSICIAN, recent.id)


# Facilities


def test_a_patient_is_of_the_facility_that_issued_a_number_or_sent_an_order(ward: Ward) -> None:
    tech = person(Role.TECHNOLOGIST, "tech", ("CLINIC",))
    here = ward.place("1")
    assert not sees(ward, tech, here.patient_id)
    for sender, expected in (("HIS|OTHERCLINIC", False), ("HIS|CLINIC", True)):
        command = request("2", uuid.uuid4().hex[:8])
        placed = ward.store.run(place_order, replace(command, source=Source("HL7", sender)), HL7_PEER)
        assert sees(ward, tech, placed.patient_id) is expected
    issued = RegisterPatient((mrn("3", "CLINIC"),), registration("3").demographics, None, EHR)
    patient = ward.store.run(register_patient, issued, HL7_PEER)
    assert sees(ward, tech, patient.id)


# Grants


def test_a_grant_opens_one_patient_for_a_time_and_can_be_taken_back(ward: Ward) -> None:
    account(ward, PHYSICIAN)
    one, other = ward.register("1"), ward.register("2")
    grant_id = give(ward, PHYSICIAN, "1")
    assert sees(ward, PHYSICIAN, one.id) and not sees(ward, PHYSICIAN, other.id)
    assert not sees(ward, person(Role.REFERRING_PHYSICIAN, "another"), one.id)
    ward.store.run(revoke_access, grant_id, ADMIN)
    assert not sees(ward, PHYSICIAN, one.id)
    give(ward, PHYSICIAN, "1")
    _let_pass(ward, timedelta(hours=2))
    assert not sees(ward, PHYSICIAN, one.id)


def _let_pass(ward: Ward, span: timedelta) -> None:
    """Let all grants end as if that time had passed."""
    grant = tables.access_grant

    def age(uow: Any, command: None, actor: Actor) -> None:
        rows = uow.connection.execute(sa.select(grant.c.id, grant.c.expires_at, grant.c.at)).all()
        for row in rows:
            values = {"expires_at": row.expires_at - span, "at": row.at - span}
            uow.connection.execute(grant.update().where(grant.c.id == row.id).values(values))

    ward.store.run(age, None, system_actor("tests"))


def test_a_grant_does_not_outlive_a_stricter_label(ward: Ward) -> None:
    account(ward, PHYSICIAN)
    patient = ward.register("1")
    give(ward, PHYSICIAN, "1")
    label(ward, "1", SENSITIVE)
    assert not sees(ward, PHYSICIAN, patient.id)
    give(ward, PHYSICIAN, "1")
    assert sees(ward, PHYSICIAN, patient.id)


def test_a_grant_for_one_patient_does_not_open_a_more_strictly_kept_one_by_a_merge(ward: Ward) -> None:
    account(ward, PHYSICIAN)
    ward.register("1"), ward.register("2")
    label(ward, "2", VIP)
    give(ward, PHYSICIAN, "1")
    survivor = ward.merge("2", "1")
    assert not sees(ward, PHYSICIAN, survivor.id)


def test_a_grant_of_a_label_opens_the_label_and_nothing_else(ward: Ward) -> None:
    tech = person(Role.TECHNOLOGIST)
    account(ward, tech), account(ward, PHYSICIAN)
    patient = ward.register("1")
    label(ward, "1", SENSITIVE)
    give(ward, tech, opened=SENSITIVE)
    give(ward, PHYSICIAN, opened=SENSITIVE)
    assert sees(ward, tech, patient.id)
    assert not sees(ward, PHYSICIAN, patient.id), "not related"


def test_nobody_gives_access_but_who_may_and_only_within_bounds(ward: Ward) -> None:
    account(ward, PHYSICIAN)
    ward.register("1")
    with pytest.raises(Forbidden):
        ward.store.run(label_patient, LabelPatient(Identifier("1"), VIP), RADIOLOGIST)
    for hours in (-1, 24 * 400):
        with pytest.raises(Exception, match="A grant ends"):
            give(ward, PHYSICIAN, "1", hours=hours)
    with pytest.raises(NotFound):
        give(ward, PHYSICIAN, "unknown")
    with pytest.raises(NotFound):
        give(ward, person(Role.SERVICE, "nobody"), "1")


# Breaking the glass


def test_breaking_the_glass_opens_the_patient_and_is_told_audited_and_reviewed(ward: Ward) -> None:
    order = ward.place("1")
    assert not sees(ward, PHYSICIAN, order.patient_id)
    ward.store.run(break_glass, broken("1"), PHYSICIAN)
    assert sees(ward, PHYSICIAN, order.patient_id)
    ward.store.run(record_read, Read(Action.READ_ORDER, order.patient_id, order.id), PHYSICIAN)
    assert ward.events(EventName.GLASS_BROKEN) == 1
    event = tables.audit_event
    with ward.store.read() as db:
        rows = db.execute(sa.select(event).where(event.c.actor == PHYSICIAN.name).order_by(event.c.sequence)).all()
        waiting = open_review_count(db)
        [review] = break_glass_reviews(db, open_only=True, before="", limit=10)
    assert [(row.action, row.purpose, row.patient_id) for row in rows] == [
        ("break-glass", "BTG", order.patient_id),
        ("break-glass-reason", "BTG", order.patient_id),
        ("read-order", "BTG", order.patient_id),
    ]
    assert rows[1].reason == WHY
    assert (waiting, review.account, review.reason, review.patient_id) == (1, PHYSICIAN.name, WHY, order.patient_id)
    ward.store.run(review_access, ReviewAccess(review.id, "was on duty that night"), AUDITOR)
    with ward.store.read() as db:
        assert open_review_count(db) == 0
    with pytest.raises(Conflict):
        ward.store.run(review_access, ReviewAccess(review.id, "was on duty that night"), AUDITOR)
    _let_pass(ward, LASTING)
    assert not sees(ward, PHYSICIAN, order.patient_id)


def test_who_sees_a_patient_anyway_is_not_audited_as_having_broken_the_glass(ward: Ward) -> None:
    order = ward.place("1", ordering_physician=HOUSE)
    ward.store.run(break_glass, broken("1"), PHYSICIAN)
    ward.store.run(record_read, Read(Action.READ_ORDER, order.patient_id, order.id), PHYSICIAN)
    event = tables.audit_event
    with ward.store.read() as db:
        purposes = set(db.execute(sa.select(event.c.purpose).where(event.c.action == "read-order")).scalars())
    assert purposes == {"TREAT"}


def test_a_number_that_is_nobodys_is_answered_told_and_reviewed_like_any_other(ward: Ward) -> None:
    ward.register("1")
    known = ward.store.run(break_glass, broken("1"), PHYSICIAN)
    unknown = ward.store.run(break_glass, broken("no such number"), PHYSICIAN)
    assert known is unknown is None
    assert ward.events(EventName.GLASS_BROKEN) == 2
    with ward.store.read() as db:
        reviews = break_glass_reviews(db, open_only=True, before="", limit=9)
        assert [review.patient_id is None for review in reviews] == [True, False]
        assert len(grants_of(db, PHYSICIAN.name)) == 1


def test_a_number_that_several_patients_have_opens_none_of_them(ward: Ward) -> None:
    first = ward.register("1")
    twin = RegisterPatient((mrn("1", "CLINIC"),), registration("1").demographics, None, EHR)
    second = ward.store.run(register_patient, twin, HL7_PEER)
    ward.store.run(break_glass, broken("1"), PHYSICIAN)
    assert not sees(ward, PHYSICIAN, first.id) and not sees(ward, PHYSICIAN, second.id)


def test_only_a_person_who_treats_breaks_the_glass_with_a_reason_and_not_without_end(ward: Ward) -> None:
    ward.register("1")
    for role in Role:
        service = Actor("s", role, ActorKind.SERVICE, Door.PAGE)
        with pytest.raises(Forbidden):
            ward.store.run(break_glass, broken("1"), service)
    for role in (Role.ADMIN, Role.AUDITOR, Role.SCHEDULER, Role.AI_AGENT):
        with pytest.raises(Forbidden):
            ward.store.run(break_glass, broken("1"), person(role))
    with pytest.raises(MissingField):
        ward.store.run(break_glass, broken("1", "   why     "), PHYSICIAN)
    for number in range(MOST_BROKEN_PER_HOUR):
        ward.store.run(break_glass, broken(f"guess {number}"), PHYSICIAN)
    with pytest.raises(Forbidden):
        ward.store.run(break_glass, broken("1"), PHYSICIAN)
    with ward.store.read() as db:
        assert grants_of(db, PHYSICIAN.name) == []


def test_nobody_reviews_their_own_access(ward: Ward) -> None:
    ward.register("1")
    ward.store.run(break_glass, broken("1"), PHYSICIAN)
    with ward.store.read() as db:
        [review] = break_glass_reviews(db, open_only=True, before="", limit=10)
    turned = Actor(PHYSICIAN.name, Role.AUDITOR, ActorKind.PERSON, Door.PAGE)
    with pytest.raises(Conflict):
        ward.store.run(review_access, ReviewAccess(review.id, "I was on duty that night"), turned)


def test_a_purpose_that_the_role_has_not_is_refused() -> None:
    service = Actor("s", Role.SERVICE, ActorKind.SERVICE, Door.FHIR, purpose="BTG")
    assert not decide(service, Action.READ_IMAGES).allowed
    assert not decide(person(Role.SCHEDULER), Action.READ_ORDER, purpose="BTG").allowed
    assert decide(PHYSICIAN, Action.READ_ORDER, purpose="BTG").allowed


# Every list


def test_no_list_count_or_total_shows_whom_the_scope_hides(ward: Ward) -> None:
    """One patient may be seen, one not: every list and its count know of one only, before and after a merge."""
    tech = person(Role.TECHNOLOGIST)
    shown, hidden = ward.place("1"), ward.place("2")
    for order, number in ((shown, "1"), (hidden, "2")):
        ward.send(ward.image_of(order, number))
        # Images of an unknown accession wait on the list of exceptions, tied to their patient.
        ward.send(image(on_images(number, issuer="GENHOSP"), new_uid()))
    everything = {name: ask(ward, scope_for(RADIOLOGIST, Action.READ_ORDER)) for name, ask in LISTS.items()}
    assert all(count == (4 if name in TWO_EACH else 2) for name, count in everything.items()), everything
    label(ward, "2", SENSITIVE)
    scope = scope_for(tech, Action.READ_ORDER)
    assert {name: ask(ward, scope) for name, ask in LISTS.items()} == {
        name: count // 2 for name, count in everything.items()
    }
    ward.merge("1", "2")
    assert {name: ask(ward, scope) for name, ask in LISTS.items()} == dict.fromkeys(LISTS, 0)


def reading(ward: Ward, scope: Scope) -> int:
    with ward.store.read() as db:
        page, _ = reading_page(db, scope, Wanted(Listing.ALL, "", "", ""), 50)
        [count] = reading_counts(db, scope, Wanted(Listing.ALL, "", "", ""), [Listing.ALL])[:1]
    assert len(page) == count
    return count


def images(ward: Ward, scope: Scope) -> int:
    with ward.store.read() as db:
        first, more = find_studies(db, [], scope, Page(1))
    return len(first) + more


def waiting(ward: Ward, scope: Scope) -> int:
    with ward.store.read() as db:
        listed, _ = open_exceptions(db, scope, tuple(ExceptionKind), 50)
        count = open_exception_count(db, scope)
    assert len(listed) == count
    return count


def resources(kind: Kind) -> Callable[[Ward, Scope], int]:
    def ask(ward: Ward, scope: Scope) -> int:
        with ward.store.read() as db:
            page = find_page(db, kind, (), scope, limit=50)
            total = count_matches(db, kind, (), scope)
        assert len(page.ids) == total
        return total

    return ask


LISTS: dict[str, Callable[[Ward, Scope], int]] = {
    "the reading list": reading,
    "QIDO and C-FIND": images,
    "exceptions": waiting,
    "Patient": resources(Kind.PATIENT),
    "ServiceRequest": resources(Kind.ORDER),
    "ImagingStudy": resources(Kind.STUDY),
}
TWO_EACH = {"the reading list", "QIDO and C-FIND", "ImagingStudy"}


def test_what_belongs_to_nobody_yet_is_seen_by_those_who_reconcile_it_only(ward: Ward) -> None:
    ward.send(image(on_images("stranger"), new_uid()))
    for role in Role:
        actor = person(role)
        if not decide(actor, Action.READ_IMAGES).allowed:
            continue
        expected = 1 if role in SEES_UNMATCHED else 0
        assert images(ward, scope_for(actor, Action.READ_IMAGES)) == expected, role
        assert waiting(ward, scope_for(actor, Action.READ_IMAGES)) == expected, role
    limited = person(Role.RADIOLOGIST, "limited", ("GENHOSP",))
    assert images(ward, scope_for(limited, Action.READ_IMAGES)) == 0


def test_every_list_of_the_storage_compiles_the_scope() -> None:
    """A function of the storage that takes a scope hands it on or compiles it; `scoping` alone looks into one."""
    for file in Path(hilum.storage.__file__).parent.glob("*.py"):
        source = file.read_text(encoding="utf-8")
        if file.name != "scoping.py":
            assert not re.search(r"scope\.(physicians|labels|facilities|related_only|account|unmatched)", source), file
        for function in re.split(r"\n(?=def |    def |class )", source):
            head, _, _ = function.partition("):")
            if re.search(r"\bscope: Scope", function) and "scope" not in function.split("scope: Scope", 1)[1]:
                raise AssertionError(f"{file.name}: a scope is taken and not used: {head[:60]}")


def test_an_entry_of_the_list_shows_no_order_of_somebody_hidden(ward: Ward) -> None:
    """Images of one patient under the numbers of another one: whose numbers these are may be secret."""
    tech = person(Role.TECHNOLOGIST)
    shown, hidden = ward.place("1"), ward.place("2")
    ward.send(image(on_images("1", issuer="GENHOSP"), hidden.study_instance_uid, hidden.accession_number))
    label(ward, "2", SENSITIVE)
    kinds = tuple(ExceptionKind)
    with ward.store.read() as db:
        full, _ = open_exceptions(db, scope_for(RADIOLOGIST, Action.READ_EXCEPTIONS), kinds, 50)
        limited, _ = open_exceptions(db, scope_for(tech, Action.READ_EXCEPTIONS), kinds, 50)
    assert {listed.order.patient_id for listed in full if listed.order} == {hidden.patient_id}
    assert [listed.order for listed in limited] == [None] * len(limited)
    assert shown.patient_id != hidden.patient_id


def test_trying_accession_numbers_tells_nothing(ward: Ward) -> None:
    tech = person(Role.TECHNOLOGIST)
    hidden = ward.place("2")
    label(ward, "2", SENSITIVE)
    ward.send(image(on_images("stranger"), new_uid()))
    [item] = ward.open_items()
    told = set()
    for number in (hidden.accession_number, "NOSUCH"):
        with pytest.raises(NotFound) as refused:
            ward.store.run(assign_study, AssignStudy(item.id, number, "by the wrist band"), tech)
        told.add((refused.value.message, refused.value.field))
    assert len(told) == 1
