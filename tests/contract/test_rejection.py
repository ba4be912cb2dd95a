"""A rejection note hides what it names at once, whenever it comes; whoever may not reject only leaves a note."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from fixtures.dicom_files import ct_image, part10_bytes
from fixtures.rejection_notes import note_for
from fixtures.stores import MODALITY, open_store
from fixtures.ward import PAGE, RADIOLOGIST, SCANNER, Ward, naming, on_images
from hilum.archive.file_blobs import FileBlobs
from hilum.archive.ingest import Ingest
from hilum.archive.landing import open_landing
from hilum.archive.recovery import reindex
from hilum.core.actor import Actor, ActorKind, Door, Role
from hilum.core.errors import Forbidden, IllegalTransition, MissingField, NotFound, Rejected
from hilum.core.event import EventName
from hilum.core.identifiers import new_uid
from hilum.core.order import Order
from hilum.core.report import ReportStatus
from hilum.core.scope import EVERYTHING
from hilum.core.study import ExceptionKind
from hilum.security.policy import Action
from hilum.storage import tables
from hilum.storage.commitments import places_of
from hilum.storage.forwarding import images_of, shown_study
from hilum.storage.qido import Page, find_instances, find_series, find_studies
from hilum.storage.rejections import rejections
from hilum.storage.retrieval import find_study
from hilum.storage.store import Store
from hilum.workflow.deletion import MarkForDeletion, mark_for_deletion
from hilum.workflow.images import Recorded, RecordInstance, record_instance
from hilum.workflow.rejection import (
    DecideRejection,
    RejectionCode,
    RejectionNote,
    ReleaseImages,
    apply_rejection,
    refuse_rejection,
    release_images,
    revoke_rejection,
)

ADMIN = Actor("root", Role.ADMIN, ActorKind.PERSON, Door.CLI)
ENTRUSTED = replace(MODALITY, entrusted=frozenset({Action.REJECT_IMAGES}))


@pytest.fixture
def ward(store: Store) -> Ward:
    return Ward(store)


def note_of(
    ward: Ward, order: Order, *sops: str, code: str = "113037", entitled: bool = True, hides: bool = True,
    number: str = "1",
) -> RecordInstance:  # fmt: skip
    """A rejection note in the study of an order, as the archive hands it to the index."""
    references = tuple((order.study_instance_uid, sop) for sop in sops)
    note = RejectionNote(RejectionCode(code), references, "left and right", entitled, hides)
    return replace(ward.image_of(order, number, sop=new_uid()), note=note)


def reject(ward: Ward, note: RecordInstance, actor: Actor = ENTRUSTED) -> str:
    assert ward.store.run(record_instance, note, actor) is Recorded.STORED
    return str(note.instance["sop_instance_uid"])


def deciding(note_uid: str, reason: str = "by the physicist") -> DecideRejection:
    return DecideRejection(note_uid, reason, SCANNER)


def shown(ward: Ward, order: Order) -> list[str]:
    """The instances that every list and retrieve is made of, with the counts that go with them."""
    with ward.store.read() as db:
        instances, _ = find_instances(db, [], EVERYTHING, Page(100))
        series, _ = find_series(db, [], EVERYTHING, Page(100))
        studies, _ = find_studies(db, [], EVERYTHING, Page(100))
        assert (find_study(db, order.study_instance_uid, EVERYTHING) is not None) == bool(studies)
    assert sum(each.instance_count for each in series) == len(instances)
    assert sum(each.instance_count for each in studies) == len(instances)
    return [each.sop_instance_uid for each in instances]


def sent(ward: Ward, order: Order, images: int = 2, **said: Any) -> list[str]:
    sops = [new_uid() for _ in range(images)]
    series = new_uid()
    for sop in sops:
        ward.send(ward.image_of(order, sop=sop, series=series, **said))
    return sops


@pytest.mark.parametrize("code", ["113037", "113038", "113039", "113001"])
def test_a_note_hides_what_it_names_and_itself(ward: Ward, code: str) -> None:
    order = ward.place()
    gone, kept = sent(ward, order)
    reject(ward, note_of(ward, order, gone, code=code))
    assert shown(ward, order) == [kept]
    assert ward.events(EventName.INSTANCES_REJECTED) == 1
    with ward.store.read() as db:
        audited = sa.select(tables.audit_event.c.reason).where(tables.audit_event.c.action == "reject-images")
        assert list(db.execute(audited).scalars()) == [f"{code} left and right"]


def test_what_is_rejected_for_quality_is_shown_where_the_settings_say_so(ward: Ward) -> None:
    order = ward.place()
    named, other = sent(ward, order)
    note = reject(ward, note_of(ward, order, named, code="113001", hides=False))
    assert sorted(shown(ward, order)) == sorted([named, other, note])


def test_a_study_that_is_rejected_whole_is_not_found(ward: Ward) -> None:
    order = ward.place()
    reject(ward, note_of(ward, order, *sent(ward, order)))
    assert shown(ward, order) == []
    assert ward.study(order.study_instance_uid).instance_count == 0


def test_a_note_of_who_may_not_reject_is_an_ordinary_object_and_waits_for_a_person(ward: Ward) -> None:
    order = ward.place()
    images = sent(ward, order)
    note = reject(ward, note_of(ward, order, *images, entitled=False), MODALITY)
    other = reject(ward, note_of(ward, order, *images), MODALITY)  # whatever the archive believed
    assert sorted(shown(ward, order)) == sorted([*images, note, other])
    assert [item.note for item in ward.open_items(ExceptionKind.REJECTION_WAITS)] == [note, other]
    assert ward.events(EventName.INSTANCES_REJECTED) == 0


def test_a_person_applies_or_refuses_a_note_that_waits(ward: Ward) -> None:
    order = ward.place()
    one, two = sent(ward, order)
    first, second = (reject(ward, note_of(ward, order, sop, entitled=False), MODALITY) for sop in (one, two))
    with pytest.raises(Forbidden):
        ward.store.run(apply_rejection, deciding(first), replace(ADMIN, role=Role.SCHEDULER))
    with pytest.raises(MissingField):
        ward.store.run(apply_rejection, deciding(first, " "), RADIOLOGIST)
    assert len(shown(ward, order)) == 4
    ward.store.run(apply_rejection, deciding(first), RADIOLOGIST)
    assert [item.note for item in ward.open_items(ExceptionKind.REJECTION_WAITS)] == [second]
    ward.store.run(refuse_rejection, deciding(second), RADIOLOGIST)
    assert sorted(shown(ward, order)) == sorted([two, second])
    assert not ward.open_items(ExceptionKind.REJECTION_WAITS)
    with pytest.raises(IllegalTransition):
        ward.store.run(apply_rejection, deciding(second), RADIOLOGIST)


def test_images_that_come_after_their_note_are_hidden_as_they_come(ward: Ward) -> None:
    order, late = ward.place(), new_uid()
    reject(ward, note_of(ward, order, late))
    series = new_uid()
    assert ward.send(ward.image_of(order, sop=new_uid(), series=series)) is Recorded.STORED
    assert ward.send(ward.image_of(order, sop=late, series=series)) is Recorded.STORED
    assert late not in shown(ward, order) and len(shown(ward, order)) == 1


@pytest.mark.parametrize(("code", "again"), [("113037", None), ("113038", None), ("113001", "x"), ("113039", "x")])
def test_a_rejected_image_that_is_sent_again_stays_hidden(ward: Ward, code: str, again: str | None) -> None:
    order = ward.place()
    gone, kept = sent(ward, order)
    image = ward.image_of(order, sop=gone)
    reject(ward, note_of(ward, order, gone, code=code))
    for content, known in (("", Recorded.KNOWN), ("other", Recorded.BESIDE)):
        resent = ward.image_of(order, sop=gone, content=content)
        if again is None:
            with pytest.raises(Rejected):
                ward.send(resent)
        else:
            assert ward.send(resent) is known
    assert image is not None and shown(ward, order) == [kept]


def test_an_administrator_takes_a_rejection_back_and_nobody_else_does(ward: Ward) -> None:
    order = ward.place()
    images = sent(ward, order)
    note = reject(ward, note_of(ward, order, *images))
    second = reject(ward, note_of(ward, order, images[0], code="113038"))
    with pytest.raises(Forbidden):
        ward.store.run(revoke_rejection, deciding(note), RADIOLOGIST)
    assert shown(ward, order) == []
    ward.store.run(revoke_rejection, deciding(note), ADMIN)
    assert sorted(shown(ward, order)) == sorted([images[1], note]), "what another note rejects stays hidden"
    ward.store.run(revoke_rejection, deciding(second), ADMIN)
    assert sorted(shown(ward, order)) == sorted([*images, note, second])
    assert ward.send(ward.image_of(order, sop=images[0])) is Recorded.KNOWN
    with pytest.raises(NotFound):
        ward.store.run(revoke_rejection, deciding(new_uid()), ADMIN)


def test_a_note_that_names_images_of_someone_else_waits(ward: Ward) -> None:
    one, two = ward.place("1"), ward.place("2")
    [image] = sent(ward, one, 1)
    wrong = replace(note_of(ward, two, image, number="2"))
    reject(ward, wrong)
    other_study = RejectionNote(RejectionCode.PATIENT_SAFETY, ((new_uid(), image),), "", True, True)
    reject(ward, replace(ward.image_of(one, sop=new_uid()), note=other_study))
    assert image in shown(ward, one)
    assert len(ward.open_items(ExceptionKind.REJECTION_WAITS)) == 2


def test_a_note_about_a_merged_patient_acts_under_either_number(ward: Ward) -> None:
    order = ward.place("1")
    ward.register("2")
    [image] = sent(ward, order, 1)
    ward.merge("2", "1")
    reject(ward, replace(note_of(ward, order, image), patient=on_images("2")))
    assert image not in shown(ward, order)


def test_images_that_are_rejected_after_their_report_are_listed(ward: Ward) -> None:
    order = ward.place()
    [image] = sent(ward, order, 1)
    ward.sign(order, ReportStatus.FINAL)
    reject(ward, note_of(ward, order, image))
    assert ward.open_items(ExceptionKind.REJECTED_AFTER_REPORT)
    assert not ward.open_items(ExceptionKind.IMAGES_AFTER_REPORT)


def test_a_note_is_sent_on_and_what_it_names_is_not(ward: Ward) -> None:
    order = ward.place()
    one, two = sent(ward, order)
    study_id = ward.study(order.study_instance_uid).id

    def sendable() -> set[str]:
        with ward.store.read() as db:
            assert shown_study(db, study_id) is not None
            return {each.stored.sop_instance_uid for each in images_of(db, study_id, "pacs", sent=False)}

    first = reject(ward, note_of(ward, order, one))
    assert sendable() == {two, first}
    second = reject(ward, note_of(ward, order, two))
    assert sendable() == {first, second}


def test_storage_is_committed_for_what_is_rejected_but_not_for_what_is_marked(ward: Ward) -> None:
    order = ward.place()
    one, two, three = sent(ward, order, 3)
    reject(ward, note_of(ward, order, one))
    marking = MarkForDeletion(
        ward.study(order.study_instance_uid).id, "a phantom", timedelta(1), SCANNER, sop_instance_uid=two
    )
    ward.store.run(mark_for_deletion, marking, ADMIN)
    with ward.store.read() as db:
        assert {place.sop_instance_uid for place in places_of(db, [one, two, three])} == {one, three}


def test_who_may_see_rejected_images_finds_the_notes_by_study_and_state(ward: Ward) -> None:
    order = ward.place()
    images = sent(ward, order)
    note = reject(ward, note_of(ward, order, *images))
    with ward.store.read() as db:
        [(found, count)] = rejections(db, EVERYTHING, study_instance_uid=order.study_instance_uid, state="applied")
        assert (found.note_uid, found.code, found.made_by, count) == (note, "113037", "CT01", 2)
        assert rejections(db, EVERYTHING, state="waiting") == []


def test_a_person_shows_withheld_images_with_a_reason(ward: Ward) -> None:
    order = ward.place()
    ward.wrong_entry(ward.start(naming(order)))
    images = sent(ward, order)
    assert shown(ward, order) == []
    item = next(each for each in ward.open_items(ExceptionKind.WRONG_WORKLIST_ENTRY) if each.study_id)
    with pytest.raises(Forbidden):
        ward.store.run(release_images, ReleaseImages(item.id, "sure", PAGE), replace(ADMIN, role=Role.SCHEDULER))
    with pytest.raises(Forbidden):
        ward.store.run(release_images, ReleaseImages(item.id, "sure", PAGE), replace(ADMIN, kind=ActorKind.SERVICE))
    with pytest.raises(MissingField):
        ward.store.run(release_images, ReleaseImages(item.id, "", PAGE), RADIOLOGIST)
    assert shown(ward, order) == []
    ward.store.run(release_images, ReleaseImages(item.id, "the technologist chose the wrong button", PAGE), RADIOLOGIST)
    assert sorted(shown(ward, order)) == sorted(images)
    assert not [each for each in ward.open_items(ExceptionKind.WRONG_WORKLIST_ENTRY) if each.study_id]
    with pytest.raises(IllegalTransition):
        ward.store.run(release_images, ReleaseImages(item.id, "again", PAGE), RADIOLOGIST)


def test_an_index_that_is_made_anew_from_bytes_forgets_no_rejection(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path / "archive")
    landing = open_landing(blobs, "tester", segment_bytes=1 << 20)
    images = [ct_image(StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.1") for _ in range(3)]
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    first = Ingest(open_store("sqlite", tmp_path / "one"), blobs, landing)
    notes = ((note_for(images[0]), ENTRUSTED), (note_for(images[1]), MODALITY), (note_for(images[2]), RADIOLOGIST))
    for image in images:
        first.store_file(part10_bytes(image), source=SCANNER, actor=MODALITY)
    for note, actor in notes:
        first.store_file(part10_bytes(note), source=SCANNER, actor=actor)
    landing.close()
    second = Ingest(open_store("sqlite", tmp_path / "two"), blobs, landing)
    assert reindex(second).indexed == 6
    expected = {images[1].SOPInstanceUID, notes[1][0].SOPInstanceUID}
    for ingest in (first, second):
        with ingest.store.read() as db:
            assert {each.sop_instance_uid for each in find_instances(db, [], EVERYTHING, Page(100))[0]} == expected
        ingest.store.close()
