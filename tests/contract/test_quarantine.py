"""Bytes that are no usable instance are listed once, singly and on the exceptions page, until someone resolves them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fixtures.dicom_files import ct_image, part10_bytes
from fixtures.stores import MODALITY
from fixtures.ward import RADIOLOGIST, Ward
from hilum.archive.file_blobs import FileBlobs
from hilum.archive.ingest import Ingest
from hilum.archive.landing import Location, landed_segments, open_landing
from hilum.archive.recovery import recover, reindex, report_refused
from hilum.core.actor import Actor, ActorKind, Door, Role
from hilum.core.errors import Forbidden, IllegalTransition, MissingField, NotFound, Rejected
from hilum.core.study import ExceptionKind
from hilum.storage.quarantine import unusable
from hilum.storage.store import Store
from hilum.workflow.quarantine import ResolveQuarantine, resolve_quarantine
from hilum.workflow.reconciliation import DismissException, dismiss_exception
from hilum.workflow.source import Source

ADMIN = Actor("root", Role.ADMIN, ActorKind.PERSON, Door.CLI)


@pytest.fixture
def ingest(store: Store, tmp_path: Path) -> Iterator[Ingest]:
    blobs = FileBlobs(tmp_path / "archive")
    landing = open_landing(blobs, "tester", segment_bytes=1 << 20)
    ingest = Ingest(store, blobs, landing)
    for _ in range(2):
        ingest.store_file(part10_bytes(ct_image()), source=Source("DICOM", "CT01"), actor=MODALITY)
    landing.close()
    _tear(blobs)
    yield ingest


def _tear(blobs: FileBlobs) -> None:
    """Let a byte of each record decay."""
    [segment] = landed_segments(blobs)
    content = bytearray(blobs.get(segment.key))
    for start in range(4096, len(content), 4096):
        if content.startswith(b"HILUMREC", start):
            content[start + 400] ^= 1
    blobs.path(segment.key).write_bytes(content)


def listed(store: Store) -> list[tuple[str, str]]:
    with store.read() as db:
        return [(each.id, each.kind) for each in unusable(db)]


def test_torn_records_are_listed_once_and_resolved_one_by_one(ingest: Ingest) -> None:
    store, ward = ingest.store, Ward(ingest.store)
    for _ in range(2):
        assert reindex(ingest).torn == 2
        assert recover(ingest).torn == 2
    [(first, kind), (second, _)] = listed(store)
    assert kind == "torn"
    assert len(ward.open_items(ExceptionKind.BYTES_UNUSABLE)) == 1, "one for the object"
    resolving = ResolveQuarantine(first, "sent again by CT01")
    with pytest.raises(Forbidden):
        store.run(resolve_quarantine, resolving, RADIOLOGIST)
    with pytest.raises(MissingField):
        store.run(resolve_quarantine, replace(resolving, resolution=" "), ADMIN)
    with pytest.raises(NotFound):
        store.run(resolve_quarantine, replace(resolving, item_id="0"), ADMIN)
    store.run(resolve_quarantine, resolving, ADMIN)
    with pytest.raises(IllegalTransition):
        store.run(resolve_quarantine, resolving, ADMIN)
    assert [item for item, _ in listed(store)] == [second]
    assert ward.open_items(ExceptionKind.BYTES_UNUSABLE)
    store.run(resolve_quarantine, replace(resolving, item_id=second), ADMIN)
    assert listed(store) == [] and not ward.open_items(ExceptionKind.BYTES_UNUSABLE)
    reindex(ingest)
    assert listed(store) == [], "what was seen to does not come back"


def test_setting_the_entry_of_an_object_aside_resolves_all_of_it(ingest: Ingest) -> None:
    reindex(ingest)
    [item] = Ward(ingest.store).open_items(ExceptionKind.BYTES_UNUSABLE)
    ingest.store.run(dismiss_exception, DismissException(item.id, "all sent again"), RADIOLOGIST)
    assert listed(ingest.store) == []


def test_what_the_index_refuses_is_listed_and_what_was_rejected_before_is_not(ingest: Ingest) -> None:
    place = Location("landing/x.seg", 4176, 100, 10)
    report_refused(ingest, place, Rejected())
    assert listed(ingest.store) == []
    report_refused(ingest, place, MissingField("It has no study.", field="StudyInstanceUID"), "CT01", "2026-01-01")
    with ingest.store.read() as db:
        [entry] = unusable(db)
    assert (entry.kind, entry.reason, entry.peer) == ("refused", "missing", "CT01")
