"""Reports go by their table, keep every version, and are signed by named persons only."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from fixtures.stores import HL7_PEER
from fixtures.ward import EHR, NOON, RADIOLOGIST, READER, Ward, during, mrn, reference
from hilum.core.actor import Actor, ActorKind, Door, Role, system_actor
from hilum.core.errors import (
    Forbidden,
    IdentityMismatch,
    IllegalTransition,
    InvalidInput,
    MissingField,
    NotFound,
    Stale,
)
from hilum.core.event import EventName
from hilum.core.order import Order, Physician
from hilum.core.report import (
    OBR25_STATUS,
    REPORT_TRANSITIONS,
    SIGNED,
    SIGNED_AS,
    DraftKind,
    Report,
    ReportStatus,
    with_addendum,
)
from hilum.core.study import ExceptionKind
from hilum.storage.store import Store
from hilum.workflow.ordering import OrderReference, cancel_order
from hilum.workflow.reporting import (
    MAX_TEXT,
    DiscardDraft,
    DraftReport,
    RelayReport,
    SignReport,
    discard_draft,
    draft_report,
    relay_report,
    sign_report,
)

P, F, A, C, R = (
    ReportStatus.PRELIMINARY,
    ReportStatus.FINAL,
    ReportStatus.ADDENDED,
    ReportStatus.CORRECTED,
    ReportStatus.RETRACTED,
)
WAYS: dict[ReportStatus | None, tuple[ReportStatus, ...]] = {
    None: (),
    P: (P,),
    F: (F,),
    A: (F, A),
    C: (F, C),
    R: (F, R),
}


@pytest.fixture
def ward(sqlite_store: Store) -> Ward:
    return Ward(sqlite_store)


def sign_on(ward: Ward, order: Order, status: ReportStatus, text: str) -> Report:
    """Sign upon whatever stands."""
    standing = ward.ask(lambda uow: uow.reports.of_order(order.id))
    return ward.sign(order, status, text, revision=standing.revision if standing else None, reason="because")


def draft(ward: Ward, order: Order, text: str, revision: int | None, actor: Actor = RADIOLOGIST) -> Report:
    return ward.store.run(draft_report, DraftReport(order.id, text, "", revision), actor)


def test_every_status_has_its_row_in_the_tables() -> None:
    assert set(REPORT_TRANSITIONS) == {None, *ReportStatus}
    assert set(OBR25_STATUS) == SIGNED
    assert set(SIGNED_AS) == set(DraftKind)
    assert set().union(*SIGNED_AS.values()) <= SIGNED
    assert not any(F in REPORT_TRANSITIONS[status] or P in REPORT_TRANSITIONS[status] for status in (F, A, C, R))


@pytest.mark.parametrize("then", ReportStatus)
@pytest.mark.parametrize("before", WAYS)
def test_a_report_becomes_only_what_the_table_allows(
    ward: Ward, before: ReportStatus | None, then: ReportStatus
) -> None:
    placed = ward.place()
    for number, status in enumerate(WAYS[before]):
        sign_on(ward, placed, status, f"text {number}")
    if then in REPORT_TRANSITIONS[before] and then is not ReportStatus.DRAFT:
        report = sign_on(ward, placed, then, "new text")
        assert (report.status, report.version) == (then, len(WAYS[before]) + 1)
        assert [version.version for version in report.versions] == list(range(1, report.version + 1))
    else:
        with pytest.raises(IllegalTransition):
            sign_on(ward, placed, then, "new text")


def test_dictation_goes_from_preliminary_to_final_to_corrected(ward: Ward) -> None:
    placed = ward.place()
    for status, text in ((P, "Maybe."), (F, "Clear."), (C, "Not clear.")):
        report = ward.relay(placed, status, text)
    assert [(v.status, v.findings) for v in report.versions] == [(P, "Maybe."), (F, "Clear."), (C, "Not clear.")]
    assert {version.signed_by for version in report.versions} == {"9001"}
    assert ward.events(EventName.REPORT_SIGNED) == 3


def test_the_same_version_again_makes_no_new_one(store: Store) -> None:
    ward = Ward(store)
    placed = ward.place()
    command = RelayReport(reference(placed), F, "Clear.", "", READER, NOON)
    reports = [f.result() for f in [store.submit(relay_report, command, HL7_PEER) for _ in range(6)]]
    assert {report.version for report in reports} == {1}
    assert ward.events(EventName.REPORT_SIGNED) == 1


def test_an_earlier_version_that_comes_again_late_makes_no_new_one(ward: Ward) -> None:
    placed = ward.place()
    ward.relay(placed, P, "Maybe.", signed_at=NOON)
    ward.relay(placed, F, "Clear.", signed_at=NOON + timedelta(hours=1))
    assert ward.relay(placed, P, "Maybe.", signed_at=NOON).status is F
    assert ward.events(EventName.REPORT_SIGNED) == 2


def test_a_correction_overtakes_none_that_was_signed_later(ward: Ward) -> None:
    placed = ward.place()
    ward.relay(placed, F, "Clear.", signed_at=NOON)
    ward.store.run(
        relay_report,
        RelayReport(in_message(placed), C, "Second.", "", READER, NOON + timedelta(hours=2)),
        HL7_PEER,
    )
    with pytest.raises(Stale) as refused:
        ward.relay(placed, C, "First.", signed_at=NOON + timedelta(hours=1))
    assert refused.value.field == "OBR-22"


def in_message(placed: Order) -> OrderReference:
    return reference(placed, source=replace(EHR, message_id="0" * 26))


def test_a_second_final_of_another_text_is_refused(ward: Ward) -> None:
    placed = ward.place()
    ward.relay(placed, F, "Clear.")
    with pytest.raises(IllegalTransition) as refused:
        ward.relay(placed, F, "Not clear.")
    assert refused.value.field == "OBR-25"
    assert ward.events(EventName.REPORT_SIGNED) == 1


def test_a_report_of_another_patient_is_refused(ward: Ward) -> None:
    placed = ward.place("1")
    ward.register("2")
    with pytest.raises(IdentityMismatch):
        ward.relay(placed, F, named=reference(placed, patient_identifiers=(mrn("2"),)))


def test_a_report_that_names_no_interpreter_is_refused(ward: Ward) -> None:
    with pytest.raises(MissingField) as refused:
        ward.relay(ward.place(), F, interpreter=Physician("", "Curie"))
    assert refused.value.field == "OBR-32"


@pytest.mark.parametrize("text", ["", " \n "])
def test_a_report_without_text_is_refused(ward: Ward, text: str) -> None:
    with pytest.raises(MissingField):
        ward.relay(ward.place(), F, text)


def test_a_report_that_is_endless_is_refused(ward: Ward) -> None:
    with pytest.raises(InvalidInput):
        ward.relay(ward.place(), F, "x" * (MAX_TEXT + 1))


def test_a_report_on_a_cancelled_order_is_refused(ward: Ward) -> None:
    placed = ward.place()
    ward.cancel(placed)
    with pytest.raises(IllegalTransition):
        ward.relay(placed, F)
    with pytest.raises(IllegalTransition):
        ward.sign(placed, F)


def test_a_report_before_any_image_is_looked_at(ward: Ward) -> None:
    without, with_images = ward.place(), ward.place()
    ward.send(ward.image_of(with_images))
    ward.relay(with_images, F)
    ward.relay(without, P)
    assert not ward.open_items()
    ward.relay(without, F)
    assert [(i.kind, i.order_id) for i in ward.open_items()] == [(ExceptionKind.REPORT_BEFORE_IMAGES, without.id)]


@pytest.mark.parametrize(
    "actor",
    [
        Actor("token", Role.RADIOLOGIST, ActorKind.SERVICE, Door.FHIR),
        Actor("peer", Role.SERVICE, ActorKind.PEER, Door.HL7),
        Actor("tech", Role.TECHNOLOGIST, ActorKind.PERSON, Door.PAGE),
        Actor("root", Role.ADMIN, ActorKind.PERSON, Door.PAGE),
        system_actor("jobs"),
    ],
)
def test_only_a_radiologist_in_person_signs(ward: Ward, actor: Actor) -> None:
    placed = ward.place()
    with pytest.raises(Forbidden):
        ward.sign(placed, F, actor=actor)
    with pytest.raises(Forbidden):
        draft(ward, placed, "text", None, actor)


def test_a_signature_names_the_person(ward: Ward) -> None:
    version = ward.sign(ward.place(), F).versions[0]
    assert version.interpreter == Physician("9001", "Curie", "Marie")
    assert version.signed_by == "curie"
    assert version.signed_at is not None


def test_a_signature_on_what_someone_else_changed_is_refused(ward: Ward) -> None:
    placed = ward.place()
    first = draft(ward, placed, "mine", None)
    draft(ward, placed, "theirs", first.revision)
    with pytest.raises(Stale):
        ward.sign(placed, F, revision=first.revision)
    with pytest.raises(Stale):
        draft(ward, placed, "mine again", first.revision)
    with pytest.raises(Stale):
        ward.store.run(discard_draft, DiscardDraft(placed.id, first.revision), RADIOLOGIST)


def test_two_who_sign_at_the_same_moment_sign_once(store: Store) -> None:
    ward = Ward(store)
    for _ in range(8):
        placed = ward.place()
        commands = [SignReport(placed.id, F, f"text {n}", "", None, EHR) for n in range(2)]
        failures = [f.exception() for f in [store.submit(sign_report, each, RADIOLOGIST) for each in commands]]
        assert [type(failure) for failure in failures if failure] == [Stale]


def test_a_report_and_a_cancellation_at_the_same_moment_exclude_each_other(store: Store) -> None:
    ward = Ward(store)
    for _ in range(8):
        placed = ward.place()
        command = RelayReport(reference(placed), F, "Clear.", "", READER, None)
        futures = [
            store.submit(relay_report, command, HL7_PEER),
            store.submit(cancel_order, reference(placed), HL7_PEER),
        ]
        failures = [type(failure) for future in futures if (failure := future.exception())]
        assert failures == [IllegalTransition]


def test_a_signature_during_a_cancellation_is_refused(store: Store) -> None:
    ward = Ward(store)
    placed = ward.place()
    signing = SignReport(placed.id, F, "Clear.", "", None, EHR)
    failures = during(store, (cancel_order, reference(placed), HL7_PEER), (sign_report, signing, RADIOLOGIST))
    assert [type(failure) for failure in failures if failure] == [IllegalTransition]
    assert ward.events(EventName.REPORT_SIGNED) == 0


def test_a_draft_is_kept_and_becomes_the_signed_version(ward: Ward) -> None:
    placed = ward.place()
    report = draft(ward, placed, "half a sent", None)
    assert report.draft is not None
    assert (report.status, report.draft.findings, report.draft.signed_by) == (
        ReportStatus.DRAFT,
        "half a sent",
        "Curie, Marie",
    )
    assert ward.events(EventName.REPORT_SIGNED) == 0
    signed = ward.sign(placed, F, "A whole sentence.", revision=report.revision)
    assert (signed.draft, signed.version) == (None, 1)


def test_a_discarded_draft_leaves_what_was_signed(ward: Ward) -> None:
    placed = ward.place()
    with pytest.raises(NotFound):
        ward.store.run(discard_draft, DiscardDraft(placed.id, 1), RADIOLOGIST)
    signed = ward.sign(placed, F, "Clear.")
    drafted = draft(ward, placed, "addendum", signed.revision)
    left = ward.store.run(discard_draft, DiscardDraft(placed.id, drafted.revision), RADIOLOGIST)
    assert left.draft is None
    assert [version.findings for version in left.versions] == ["Clear."]


@pytest.mark.parametrize("status", [C, R])
def test_a_correction_or_retraction_made_here_says_why(ward: Ward, status: ReportStatus) -> None:
    placed = ward.place()
    signed = ward.sign(placed, F)
    with pytest.raises(MissingField):
        ward.sign(placed, status, revision=signed.revision, reason=" ")


def test_a_retraction_says_so_in_its_body_and_keeps_the_history(ward: Ward) -> None:
    placed = ward.place()
    signed = ward.sign(placed, F, "Clear.")
    report = ward.sign(placed, R, "", revision=signed.revision, reason="Reported on the wrong patient.")
    assert report.versions[-1].text == "THIS REPORT IS WITHDRAWN. Reported on the wrong patient."
    assert report.versions[0].text == "Clear."


def test_a_correction_says_so_in_its_body(ward: Ward) -> None:
    placed = ward.place()
    signed = ward.sign(placed, F, "Clear.")
    report = ward.sign(placed, C, "Not clear.", revision=signed.revision, reason="Nodule overlooked.")
    assert report.versions[-1].text == "CORRECTED REPORT. Nodule overlooked.\n\nNot clear."


def test_an_addendum_keeps_all_of_the_text_before_it(ward: Ward) -> None:
    signed = ward.sign(ward.place(), F, "Clear.").versions[0]
    assert with_addendum(signed, " More. ") == ("Clear.\n\nADDENDUM\nMore.", "")
    assert with_addendum(replace(signed, impression="Well."), "More.") == ("Clear.", "Well.\n\nADDENDUM\nMore.")


def test_a_report_finds_its_order_by_the_accession_as_filler_number(ward: Ward) -> None:
    placed = ward.place(filler_order_number="RIS7")
    named = reference(
        placed, placer_order_number="", filler_order_number="RIS7", accession_number=placed.accession_number
    )
    assert ward.relay(placed, F, named=named).order_id == placed.id
