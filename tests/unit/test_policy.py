"""One policy: what is not granted is denied, on every verb; a limited view holds, whatever is asked."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from fixtures.stores import HL7_PEER
from fixtures.ward import (
    CT_CHEST,
    EHR,
    PAGE,
    RADIOLOGIST,
    READER,
    TECHNOLOGIST,
    Ward,
    image,
    merge,
    mrn,
    naming,
    on_images,
    performed,
    reference,
    registration,
    request,
)
from hilum import workflow
from hilum.core.actor import Actor, ActorKind, Door, Identifier, Role, system_actor
from hilum.core.errors import Forbidden, HilumError, NotFound
from hilum.core.event import EventName
from hilum.core.identifiers import new_uid
from hilum.core.order import Order, Physician
from hilum.core.report import ReportStatus
from hilum.core.scope import EVERYTHING, NOTHING, Confidentiality
from hilum.core.study import ExceptionKind
from hilum.security.audit import WINDOW_SECONDS, Read, ReadLog, record_read
from hilum.security.policy import GRANTS, LABELS, PERSONAL, RELATED_ONLY, WITHOUT_LIMITS, Action, decide, scope_for
from hilum.storage import tables
from hilum.storage.access import grants_of
from hilum.storage.quarantine import unusable
from hilum.storage.renditions import Rendition
from hilum.storage.scoping import sees_patient
from hilum.storage.store import Store
from hilum.workflow.access import (
    BreakGlass,
    GrantAccess,
    LabelPatient,
    LimitAccount,
    ReviewAccess,
    break_glass,
    grant_access,
    label_patient,
    limit_account,
    review_access,
    revoke_access,
)
from hilum.workflow.accounts import (
    AddUser,
    ChangeRole,
    EndSessions,
    IssueToken,
    LinkUser,
    SetPassword,
    add_first_admin,
    add_user,
    change_role,
    disable_user,
    end_sessions,
    has_accounts,
    issue_token,
    link_user,
    note_key_rotation,
    set_password,
    sign_in_failed,
)
from hilum.workflow.acquisition import start_exam, update_exam
from hilum.workflow.appointments import BookAppointment, Slot, book_appointment, cancel_appointment
from hilum.workflow.clients import AddClient, add_client, change_client_keys, disable_client
from hilum.workflow.commitment import RequestCommitment, request_commitment
from hilum.workflow.compression import forget_renditions, note_rendition
from hilum.workflow.deletion import (
    BytesErased,
    FinishDeletion,
    MarkForDeletion,
    UndoDeletion,
    bytes_erased,
    finish_deletion,
    mark_for_deletion,
    undo_deletion,
)
from hilum.workflow.documents import DocumentAct, RelayDocument, relay_document
from hilum.workflow.forwarding import AskCommitment, CommitmentAnswered, ask_commitment, commitment_answered
from hilum.workflow.image_batches import RecordInstances, record_instances
from hilum.workflow.images import CompleteStudy, complete_study, record_instance
from hilum.workflow.integrity import NoteDamage, note_damage
from hilum.workflow.ordering import cancel_order, change_order, discontinue_order, place_order
from hilum.workflow.priors import CheckPriors, KeepFeedback, check_priors, keep_feedback
from hilum.workflow.quarantine import Quarantine, ResolveQuarantine, put_in_quarantine, resolve_quarantine
from hilum.workflow.reading import (
    MoveImages,
    OpenImages,
    WorklistServed,
    export_original,
    move_images,
    open_images,
    worklist_served,
)
from hilum.workflow.reassignment import (
    JoinStudies,
    ReassignStudy,
    UndoReassignment,
    Whose,
    join_studies,
    reassign_study,
    undo_reassignment,
)
from hilum.workflow.receiving import DropInstance, drop_instance
from hilum.workflow.reconciliation import AssignStudy, DismissException, assign_study, dismiss_exception
from hilum.workflow.registration import merge_patients, register_patient
from hilum.workflow.rejection import (
    DecideRejection,
    RejectInstances,
    RejectionCode,
    RejectionNote,
    ReleaseImages,
    apply_rejection,
    refuse_rejection,
    reject_instances,
    release_images,
    revoke_rejection,
)
from hilum.workflow.reporting import (
    DiscardDraft,
    DraftReport,
    RelayReport,
    SignReport,
    discard_draft,
    draft_report,
    relay_report,
    sign_report,
)
from hilum.workflow.retention import MarkExpired, ReleaseHold, SetHold, mark_expired, release_hold, set_hold
from hilum.workflow.settling import settle_instances
from hilum.workflow.unmerging import UnmergePatients, unmerge_patients


@pytest.fixture
def ward(sqlite_store: Store) -> Ward:
    return Ward(sqlite_store)


def actor_of(role: Role, kind: ActorKind = ActorKind.PERSON, *identifiers: Identifier) -> Actor:
    return Actor(role.value, role, kind, Door.PAGE, identifiers)


def physician(number: str = "77", authority: str = "") -> Actor:
    return actor_of(Role.REFERRING_PHYSICIAN, ActorKind.PERSON, Identifier(number, authority))


# The table


def test_every_role_has_its_row_and_every_action_is_somebodys() -> None:
    assert set(GRANTS) == set(Role)
    assert frozenset().union(*GRANTS.values()) == set(Action)


@pytest.mark.parametrize("action", sorted(set(Action) - {Action.ECHO}))
def test_every_action_is_denied_to_somebody(action: Action) -> None:
    assert [role for role in Role if not decide(actor_of(role), action).allowed]


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("action", Action)
def test_an_actor_may_do_what_is_granted_and_nothing_else(role: Role, action: Action) -> None:
    granted = action in GRANTS[role]
    assert decide(actor_of(role), action).allowed is granted
    for kind in (ActorKind.SERVICE, ActorKind.PEER):
        assert decide(actor_of(role, kind), action).allowed is (granted and action not in PERSONAL)
    if not granted:
        assert scope_for(actor_of(role), action) == NOTHING


def test_hilum_itself_does_all_but_what_takes_a_person() -> None:
    for action in Action:
        assert decide(system_actor("jobs"), action).allowed is (action not in PERSONAL)
    assert {Action.SIGN_REPORT, Action.RESOLVE_EXCEPTION} <= PERSONAL


def test_only_related_patients_are_shown_to_who_is_limited() -> None:
    scope = scope_for(physician(), Action.READ_IMAGES)
    assert (scope.everything, scope.related_only, scope.physicians) == (False, True, (Identifier("77"),))
    assert scope_for(actor_of(Role.REFERRING_PHYSICIAN, ActorKind.SERVICE), Action.READ_IMAGES) == NOTHING
    for role in set(Role) - RELATED_ONLY:
        for action in GRANTS[role]:
            scope = scope_for(actor_of(role), action)
            if LABELS[role] == set(Confidentiality) or action in WITHOUT_LIMITS:
                assert scope == EVERYTHING
            else:
                assert (scope.everything, scope.related_only, scope.labels) == (False, False, LABELS[role])


# The denied twin of each verb

Build = Callable[[Ward, Order], Any]


def _item(ward: Ward) -> str:
    ward.send(image(on_images("9"), new_uid()))
    return ward.open_items()[0].id


def _client(ward: Ward) -> AddClient:
    command = AddClient("app", Role.SERVICE, {"keys": []})
    ward.store.run(add_client, command, actor_of(Role.ADMIN))
    return command


def _grant() -> GrantAccess:
    return GrantAccess("someone", datetime.now(UTC) + timedelta(hours=1), "covers for a colleague", Identifier("1"))


def _emergency() -> BreakGlass:
    return BreakGlass(Identifier("1"), "unconscious in the emergency room", timedelta(hours=4), PAGE)


def _broken(ward: Ward) -> ReviewAccess:
    ward.store.run(break_glass, _emergency(), physician())
    with ward.store.read() as db:
        [grant] = grants_of(db, physician().name)
    return ReviewAccess(grant.id, "was on duty that night")


def _study(ward: Ward, order: Order) -> str:
    ward.send(ward.image_of(order))
    return ward.study(order.study_instance_uid).id


def _move(ward: Ward, order: Order) -> ReassignStudy:
    study_id = _study(ward, order)
    study = ward.study(order.study_instance_uid)
    return ReassignStudy(study_id, Whose.of(study), ward.register("7").id, None, "wrong line chosen")


def _join(ward: Ward, order: Order) -> JoinStudies:
    into_id, loose = _study(ward, order), new_uid()
    ward.send(image(on_images("1"), loose))
    study = ward.study(loose)
    return JoinStudies(study.id, Whose.of(study), into_id, "one examination")


def _undo(ward: Ward, order: Order) -> UndoReassignment:
    done = ward.store.run(reassign_study, _move(ward, order), actor_of(Role.ADMIN))
    return UndoReassignment(done.id, "it was right before")


def _unmerge(ward: Ward) -> UnmergePatients:
    ward.merge("5", "6")
    return UnmergePatients((mrn("5"),), (mrn("6"),), "two persons", PAGE)


def _note(ward: Ward, order: Order, *, entitled: bool = False) -> DecideRejection:
    note = RejectionNote(RejectionCode.QUALITY, ((order.study_instance_uid, "1.2.3"),), "blurred", entitled, True)
    image = replace(ward.image_of(order), note=note)
    ward.store.run(record_instance, image, actor_of(Role.ADMIN))
    return DecideRejection(image.instance["sop_instance_uid"], "seen by the physicist", PAGE)


def _marked(ward: Ward, order: Order, grace: timedelta = timedelta(0)) -> str:
    command = MarkForDeletion(_study(ward, order), "a phantom", grace, PAGE)
    return ward.store.run(mark_for_deletion, command, actor_of(Role.ADMIN)).id


def _answered(ward: Ward) -> CommitmentAnswered:
    uid = new_uid()
    ward.store.run(ask_commitment, AskCommitment(uid, "pacs", "PACS", "D1"), actor_of(Role.ADMIN))
    return CommitmentAnswered(uid, "PACS", ())


def _withheld(ward: Ward, order: Order) -> ReleaseImages:
    ward.wrong_entry(ward.start(naming(order)))
    ward.send(ward.image_of(order))
    item = next(item for item in ward.open_items(ExceptionKind.WRONG_WORKLIST_ENTRY) if item.study_id)
    return ReleaseImages(item.id, "the technologist was wrong about it", PAGE)


def _held(ward: Ward, order: Order) -> ReleaseHold:
    return ReleaseHold(ward.store.run(set_hold, _hold(), actor_of(Role.ADMIN)), "settled")


def _hold() -> SetHold:
    return SetHold("court order", Identifier("1"))


def _expired(ward: Ward, order: Order) -> MarkExpired:
    uid = _study(ward, order) and order.study_instance_uid
    note = RejectionNote(RejectionCode.RETENTION_EXPIRED, ((uid, "1.2.3"),), "old", True, True)
    image = replace(ward.image_of(order), note=note)
    ward.store.run(record_instance, image, actor_of(Role.ADMIN))
    return MarkExpired(image.instance["sop_instance_uid"], timedelta(1))


def _unusable(ward: Ward, order: Order) -> ResolveQuarantine:
    ward.store.run(put_in_quarantine, Quarantine("torn", "header is cut", "k", 1), actor_of(Role.ADMIN))
    with ward.store.read() as db:
        [entry] = unusable(db)
    return ResolveQuarantine(entry.id, "sent again")


VERBS: dict[Any, tuple[Action, Build]] = {
    put_in_quarantine: (Action.MANAGE_QUARANTINE, lambda w, o: Quarantine("torn", "header is cut", "k", 0)),
    resolve_quarantine: (Action.MANAGE_QUARANTINE, _unusable),
    set_hold: (Action.HOLD_IMAGES, lambda w, o: _hold()),
    release_hold: (Action.HOLD_IMAGES, _held),
    mark_expired: (Action.DELETE_IMAGES, _expired),
    reject_instances: (
        Action.REJECT_IMAGES,
        lambda w, o: RejectInstances(_study(w, o), RejectionCode.QUALITY, "blurred"),
    ),
    release_images: (Action.RESOLVE_EXCEPTION, _withheld),
    mark_for_deletion: (
        Action.DELETE_IMAGES,
        lambda w, o: MarkForDeletion(_study(w, o), "a phantom", timedelta(1), PAGE),
    ),
    undo_deletion: (Action.DELETE_IMAGES, lambda w, o: UndoDeletion(_marked(w, o), "was none", PAGE)),
    finish_deletion: (Action.DELETE_IMAGES, lambda w, o: FinishDeletion(_marked(w, o))),
    bytes_erased: (Action.DELETE_IMAGES, lambda w, o: BytesErased(())),
    note_rendition: (Action.STORE_IMAGES, lambda w, o: Rendition("1", True, "1.2", "", None, 0, 0)),
    forget_renditions: (Action.STORE_IMAGES, lambda w, o: []),
    apply_rejection: (Action.REJECT_IMAGES, _note),
    refuse_rejection: (Action.REJECT_IMAGES, _note),
    revoke_rejection: (Action.MANAGE_REJECTED, lambda w, o: _note(w, o, entitled=True)),
    register_patient: (Action.REGISTER_PATIENT, lambda w, o: registration("5")),
    merge_patients: (Action.MERGE_PATIENTS, lambda w, o: merge("5", "6")),
    reassign_study: (Action.REASSIGN_STUDY, _move),
    join_studies: (Action.REASSIGN_STUDY, _join),
    undo_reassignment: (Action.REASSIGN_STUDY, _undo),
    unmerge_patients: (Action.MERGE_PATIENTS, lambda w, o: _unmerge(w)),
    check_priors: (Action.CHECK_PRIORS, lambda w, o: CheckPriors(o.patient_id, CT_CHEST, "", "", timedelta(1), EHR)),
    place_order: (Action.PLACE_ORDER, lambda w, o: request("5", "NEW")),
    change_order: (Action.CHANGE_ORDER, lambda w, o: request("1", o.placer_order_number, reason="x")),
    cancel_order: (Action.CANCEL_ORDER, lambda w, o: reference(o)),
    discontinue_order: (Action.CANCEL_ORDER, lambda w, o: reference(o)),
    book_appointment: (Action.CHANGE_ORDER, lambda w, o: BookAppointment(reference(o), (Slot(location="Room 7"),))),
    cancel_appointment: (Action.CHANGE_ORDER, lambda w, o: reference(o)),
    worklist_served: (Action.READ_WORKLIST, lambda w, o: WorklistServed((w.steps(o)[0].id,), EHR)),
    start_exam: (Action.PERFORM_EXAM, lambda w, o: performed(new_uid(), references=(naming(o),))),
    update_exam: (Action.PERFORM_EXAM, lambda w, o: performed(w.start(naming(o)))),
    record_instance: (Action.STORE_IMAGES, lambda w, o: w.image_of(o)),
    record_instances: (Action.STORE_IMAGES, lambda w, o: RecordInstances([w.image_of(o), w.image_of(o)])),
    settle_instances: (Action.STORE_IMAGES, lambda w, o: []),
    note_damage: (Action.STORE_IMAGES, lambda w, o: NoteDamage(_study(w, o), "1.2.3", True)),
    complete_study: (Action.STORE_IMAGES, lambda w, o: CompleteStudy(_study(w, o), timedelta(0))),
    export_original: (
        Action.EXPORT_ORIGINAL,
        lambda w, o: OpenImages(_study(w, o), o.id, o.patient_id, PAGE),
    ),
    open_images: (Action.READ_IMAGES, lambda w, o: OpenImages(_study(w, o), o.id, o.patient_id, PAGE)),
    draft_report: (Action.DRAFT_REPORT, lambda w, o: DraftReport(o.id, "x", "", None)),
    discard_draft: (
        Action.DRAFT_REPORT,
        lambda w, o: DiscardDraft(
            o.id, w.store.run(draft_report, DraftReport(o.id, "x", "", None), RADIOLOGIST).revision
        ),
    ),
    sign_report: (Action.SIGN_REPORT, lambda w, o: SignReport(o.id, ReportStatus.FINAL, "x", "", None, PAGE)),
    relay_report: (
        Action.RELAY_REPORT,
        lambda w, o: RelayReport(reference(o), ReportStatus.FINAL, "x", "", READER, None),
    ),
    relay_document: (
        Action.RELAY_REPORT,
        lambda w, o: RelayDocument(
            RelayReport(reference(o), ReportStatus.FINAL, "x", "", READER, None), DocumentAct.WRITES
        ),
    ),
    assign_study: (Action.RESOLVE_EXCEPTION, lambda w, o: AssignStudy(_item(w), o.accession_number, "sure")),
    dismiss_exception: (Action.RESOLVE_EXCEPTION, lambda w, o: DismissException(_item(w), "a phantom")),
    keep_feedback: (Action.CHECK_PRIORS, lambda w, o: KeepFeedback("order-select", ())),
    add_first_admin: (Action.MANAGE_USERS, lambda w, o: AddUser("new", Role.ADMIN, "hash")),
    has_accounts: (Action.MANAGE_USERS, lambda w, o: None),
    add_user: (Action.MANAGE_USERS, lambda w, o: AddUser("new", Role.ADMIN, "hash")),
    disable_user: (Action.MANAGE_USERS, lambda w, o: "someone"),
    set_password: (Action.MANAGE_USERS, lambda w, o: SetPassword("someone", "hash")),
    issue_token: (Action.MANAGE_USERS, lambda w, o: IssueToken("someone", Role.ADMIN)),
    change_role: (Action.MANAGE_USERS, lambda w, o: ChangeRole("someone", Role.ADMIN)),
    link_user: (Action.MANAGE_USERS, lambda w, o: LinkUser("someone", "https://issuer", "subject")),
    end_sessions: (Action.MANAGE_USERS, lambda w, o: EndSessions("someone")),
    note_key_rotation: (Action.MANAGE_USERS, lambda w, o: "signing"),
    add_client: (Action.MANAGE_USERS, lambda w, o: AddClient("app", Role.SERVICE, {"keys": []})),
    change_client_keys: (Action.MANAGE_USERS, lambda w, o: _client(w)),
    disable_client: (Action.MANAGE_USERS, lambda w, o: _client(w).name),
    move_images: (
        Action.READ_IMAGES,
        lambda w, o: MoveImages(OpenImages(_study(w, o), o.id, o.patient_id, PAGE), "CT01"),
    ),
    request_commitment: (
        Action.STORE_IMAGES,
        lambda w, o: RequestCommitment("CT01", new_uid(), (), timedelta(0)),
    ),
    drop_instance: (Action.STORE_IMAGES, lambda w, o: DropInstance(0, new_uid())),
    commitment_answered: (Action.STORE_IMAGES, lambda w, o: _answered(w)),
    limit_account: (Action.MANAGE_USERS, lambda w, o: LimitAccount("someone", ("GENHOSP",))),
    label_patient: (Action.MANAGE_ACCESS, lambda w, o: LabelPatient(Identifier("1"), Confidentiality.VIP)),
    grant_access: (Action.MANAGE_ACCESS, lambda w, o: _grant()),
    revoke_access: (Action.MANAGE_ACCESS, lambda w, o: w.store.run(grant_access, _grant(), actor_of(Role.ADMIN))),
    break_glass: (Action.BREAK_GLASS, lambda w, o: _emergency()),
    review_access: (Action.REVIEW_ACCESS, lambda w, o: _broken(w)),
}


# In the name of who sent the message (test_inbound), or of someone whose password, cookie or assertion the door has
# checked; or a refusal, which takes no right; or what Hilum notes of its own work.
ASKING_OTHERWISE = {
    "receive_message", "sign_in", "sign_in_failed", "sign_in_by_provider", "sign_out", "touch_session", "proved_again",
    "refuse_client", "refuse_move", "revoke_token", "use_client_assertion", "note_attempt",
    "note_sent", "ask_commitment", "announce_instances",
}  # fmt: skip


def test_every_verb_has_its_denied_twin() -> None:
    found = set()
    for part in pkgutil.iter_modules(workflow.__path__):
        module = importlib.import_module(f"hilum.workflow.{part.name}")
        for name, verb in inspect.getmembers(module, inspect.isfunction):
            is_verb = not name.startswith("_") and [*inspect.signature(verb).parameters][::2] == ["uow", "actor"]
            if is_verb and verb.__module__ == module.__name__:
                found.add(name)
    assert found - ASKING_OTHERWISE == {verb.__name__ for verb in VERBS}


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)
def test_a_verb_runs_for_who_may_and_for_nobody_else(ward: Ward, verb: Any) -> None:
    action, build = VERBS[verb]
    placed = ward.place("1")
    ward.store.run(add_user, AddUser("someone", Role.AUDITOR, "hash"), actor_of(Role.ADMIN))
    command = build(ward, placed)
    denied = [actor_of(role) for role in Role if action not in GRANTS[role]]
    denied += [actor_of(role, ActorKind.SERVICE) for role in Role if action in PERSONAL]
    for actor in denied:
        with pytest.raises(Forbidden):
            ward.store.run(verb, command, actor)
    with ward.store.read() as db:
        refused = db.execute(sa.select(tables.audit_event.c.actor).where(tables.audit_event.c.outcome == "refused"))
        assert sorted(refused.scalars()) == sorted(actor.name for actor in denied)
    granted = next(role for role in Role if action in GRANTS[role] and role not in RELATED_ONLY)
    ward.store.run(verb, command, actor_of(granted))


def test_people_change_their_own_password_and_nobody_elses(ward: Ward) -> None:
    for name in ("one", "two"):
        ward.store.run(add_user, AddUser(name, Role.RADIOLOGIST, "hash"), actor_of(Role.ADMIN))
    one = Actor("one", Role.RADIOLOGIST, ActorKind.PERSON, Door.PAGE)
    ward.store.run(set_password, SetPassword("one", "new"), one)
    for actor, name in ((one, "two"), (replace(one, kind=ActorKind.SERVICE), "one")):
        with pytest.raises(Forbidden):
            ward.store.run(set_password, SetPassword(name, "stolen"), actor)


def test_wrong_passwords_at_the_same_moment_all_count(store: Store) -> None:
    store.run(add_user, AddUser("one", Role.RADIOLOGIST, "hash"), actor_of(Role.ADMIN))
    for future in [store.submit(sign_in_failed, "one", actor_of(Role.RADIOLOGIST)) for _ in range(12)]:
        future.result()
    user = Ward(store).ask(lambda uow: uow.users.find("one"))
    assert user is not None
    assert user.failures == 12


# Related patients


def seen_by(ward: Ward, actor: Actor, patient_id: str) -> bool:
    with ward.store.read() as db:
        return sees_patient(db, scope_for(actor, Action.READ_REPORT), patient_id)


def test_a_physician_sees_whom_they_ordered_for_or_are_copied_on(ward: Ward) -> None:
    house, wilson = Physician("77", "House", "Gregory", "GENHOSP"), Physician("88", "Wilson", "James", "GENHOSP")
    placed = ward.place("1", ordering_physician=house, copies_to=(wilson,))
    other = ward.place("2")
    assert seen_by(ward, physician("77", "GENHOSP"), placed.patient_id)
    assert seen_by(ward, physician("88"), placed.patient_id)
    assert not seen_by(ward, physician("77", "CLINIC"), placed.patient_id)
    assert not seen_by(ward, physician("99"), placed.patient_id)
    assert not seen_by(ward, physician("77", "GENHOSP"), other.patient_id)
    ward.change(placed, ordering_physician=Physician("99", "Cuddy", "Lisa", "GENHOSP"))
    assert not seen_by(ward, physician("77", "GENHOSP"), placed.patient_id)


def test_a_physician_sees_the_merged_patient_under_all_numbers(ward: Ward) -> None:
    placed = ward.place("1", ordering_physician=Physician("77", "House"))
    survivor = ward.register("2")
    assert not seen_by(ward, physician(), survivor.id)
    ward.merge("2", "1")
    ward.register("3")
    last = ward.merge("3", "2")
    for patient_id in (placed.patient_id, survivor.id, last.id):
        assert seen_by(ward, physician(), patient_id)


def test_what_is_out_of_view_is_not_found_and_the_attempt_is_kept(ward: Ward) -> None:
    other = ward.place("2")
    for read in (
        Read(Action.READ_REPORT, patient_id=other.patient_id, order_id=other.id),
        # Whose it is, is not said: it may be anybody's.
        Read(Action.READ_REPORT, order_id=other.id),
        Read(Action.READ_IMAGES, study_id=_study(ward, other)),
    ):
        with pytest.raises(NotFound):
            ward.store.run(record_read, read, physician())
        ward.store.run(record_read, read, RADIOLOGIST)
    with pytest.raises(NotFound):
        command = OpenImages("S", None, None, PAGE)
        ward.store.run(open_images, command, physician())
    with ward.store.read() as db:
        refused = db.execute(sa.select(tables.audit_event.c.reason).where(tables.audit_event.c.outcome == "refused"))
        assert list(refused.scalars()) == ["not-found"] * 4


# Reads


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def reads(ward: Ward, action: Action) -> int:
    query = sa.select(sa.func.count()).where(tables.audit_event.c.action == action.value)
    with ward.store.read() as db:
        return int(db.execute(query).scalar_one())


def test_a_read_is_kept_once_in_five_minutes_for_each_who_what_and_where(ward: Ward) -> None:
    placed, clock = ward.place("1"), Clock()
    log = ReadLog(ward.store, clock)
    read = Read(Action.READ_REPORT, placed.patient_id, placed.id)
    for _ in range(3):
        log.record(RADIOLOGIST, read)
    assert reads(ward, Action.READ_REPORT) == 1
    log.record(RADIOLOGIST, replace(read, action=Action.READ_ORDER))
    log.record(actor_of(Role.ADMIN), read)
    log.record(replace(RADIOLOGIST, address="127.0.0.9"), read)
    assert (reads(ward, Action.READ_REPORT), reads(ward, Action.READ_ORDER)) == (3, 1)
    clock.now += WINDOW_SECONDS - 1
    log.record(RADIOLOGIST, read)
    assert reads(ward, Action.READ_REPORT) == 3
    clock.now += 1
    log.record(RADIOLOGIST, read)
    assert reads(ward, Action.READ_REPORT) == 4


def test_a_refused_read_is_refused_again_and_kept_each_time(ward: Ward) -> None:
    log = ReadLog(ward.store)
    for _ in range(2):
        with pytest.raises(HilumError):
            log.record(TECHNOLOGIST, Read(Action.READ_REPORT))
    with ward.store.read() as db:
        kept = db.execute(sa.select(sa.func.count()).where(tables.audit_event.c.outcome == "refused")).scalar_one()
    assert kept == 2


def test_opening_images_is_reading_though_their_list_was_read_before(ward: Ward) -> None:
    placed = ward.place("1")
    study = _study(ward, placed)
    log = ReadLog(ward.store)
    read = Read(Action.READ_IMAGES, placed.patient_id, placed.id, study)
    log.record(RADIOLOGIST, read)
    for _ in range(2):
        log.record(RADIOLOGIST, read, open_images, OpenImages(study, placed.id, placed.patient_id, PAGE))
    log.record(RADIOLOGIST, read)
    assert ward.events(EventName.READING_STARTED) == 1
    assert reads(ward, Action.READ_IMAGES) == 2


def test_only_a_radiologist_begins_to_read(ward: Ward) -> None:
    placed = ward.place("1")
    command = OpenImages(_study(ward, placed), placed.id, placed.patient_id, PAGE)
    for actor in (TECHNOLOGIST, HL7_PEER, actor_of(Role.ADMIN)):
        ward.store.run(open_images, command, actor)
    assert ward.events(EventName.READING_STARTED) == 0
