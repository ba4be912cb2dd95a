"""What is past its retention is proposed, and marked where the settings say so; a legal hold keeps it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from fixtures.dicom_files import ct_image, part10_bytes
from fixtures.rejection_notes import note_for
from fixtures.stores import MODALITY
from fixtures.ward import Ward
from hilum.archive.file_blobs import FileBlobs
from hilum.archive.ingest import Ingest
from hilum.archive.landing import open_landing
from hilum.core.actor import Actor, ActorKind, Door, Identifier, Role
from hilum.core.errors import Forbidden, IllegalTransition, MissingField, NotFound
from hilum.core.scope import EVERYTHING
from hilum.jobs.retention import expired, retention
from hilum.jobs.runner import Runner
from hilum.security.policy import Action
from hilum.settings import Configuration
from hilum.storage import tables
from hilum.storage.deletions import open_deletions
from hilum.storage.qido import Page, find_studies
from hilum.storage.retention import holds_in_force
from hilum.storage.store import Store
from hilum.workflow.retention import ReleaseHold, SetHold, release_hold, set_hold
from hilum.workflow.source import Source

ADMIN = Actor("root", Role.ADMIN, ActorKind.PERSON, Door.CLI)
TODAY = date(2026, 11, 25)
SETTINGS = """
[facility]
default_authority = "GENHOSP"
[archive]
retention_marks = {marks}
deletion_grace_days = 30
[[archive.retention]]
keep_years = 10
[[archive.retention]]
modalities = ["CT"]
keep_years = 10
minors_until = 28
"""


@pytest.fixture
def ingest(store: Store, tmp_path: Path) -> Iterator[Ingest]:
    blobs = FileBlobs(tmp_path / "archive")
    landing = open_landing(blobs, "tester", segment_bytes=1 << 20)
    yield Ingest(store, blobs, landing)
    landing.close()


def configured(folder: Path, *, marks: bool) -> Configuration:
    (folder / "hilum.toml").write_text(SETTINGS.format(marks=str(marks).lower()), encoding="utf-8")
    return Configuration(folder)


def keep(ingest: Ingest, study_uid: str, **said: Any) -> Any:
    image = ct_image(StudyInstanceUID=study_uid, **said)
    ingest.store_file(part10_bytes(image), source=Source("DICOM", "CT01"), actor=MODALITY)
    return image


def three_studies(ingest: Ingest) -> None:
    Ward(ingest.store).register("P1")
    for study_uid, day, born in (
        ("1.2.1", "20100301", "19600102"), ("1.2.2", "20250301", "19600102"), ("1.2.3", "20100301", "20090607"),
    ):  # fmt: skip
        keep(ingest, study_uid, StudyDate=day, PatientID=f"X{born}", PatientBirthDate=born)
    _settle(ingest.store)


def _settle(store: Store) -> None:
    """A person has seen the studies without an order; what waits for a person is not proposed."""
    store.run(lambda uow, command, actor: uow.connection.execute(tables.exception_item.delete()), None, ADMIN)


def proposed(ingest: Ingest, configuration: Configuration) -> list[str]:
    found = expired(ingest.store, configuration.current, TODAY)
    return [each.study.study_instance_uid for each in found]


def shown(store: Store) -> set[str]:
    with store.read() as db:
        return {each.study.study_instance_uid for each in find_studies(db, [], EVERYTHING, Page(100))[0]}


def test_only_what_is_past_its_retention_is_proposed_and_nothing_changes(ingest: Ingest, tmp_path: Path) -> None:
    configuration = configured(tmp_path, marks=False)
    keep(ingest, "1.2.9", StudyDate="20100301")
    assert proposed(ingest, configuration) == [], "it waits for a person's decision"
    three_studies(ingest)
    assert proposed(ingest, configuration) == ["1.2.9", "1.2.1"]
    assert not Runner(ingest.store, []).run_once(retention(ingest, configuration))
    assert shown(ingest.store) == {"1.2.1", "1.2.2", "1.2.3", "1.2.9"}


def test_by_setting_it_is_rejected_and_marked_with_the_time_of_grace(ingest: Ingest, tmp_path: Path) -> None:
    configuration = configured(tmp_path, marks=True)
    three_studies(ingest)
    job = retention(ingest, configuration)
    runner = Runner(ingest.store, [])
    for _ in range(2):
        assert runner.run_once(job)
    assert shown(ingest.store) == {"1.2.2", "1.2.3"}
    with ingest.store.read() as db:
        [(deletion, count)] = open_deletions(db)
        assert (deletion.study_instance_uid, count, deletion.asked_by) == ("1.2.1", 2, "hilum-retention")
        assert (deletion.until - deletion.at).days == 30
        [note] = db.execute(sa.select(tables.rejection)).all()
        assert (note.code, note.state) == ("113039", "applied")


def test_a_note_of_expired_retention_from_who_may_reject_marks_too(ingest: Ingest, tmp_path: Path) -> None:
    image = keep(ingest, "1.2.2", StudyDate="20250301")
    entitled = replace(MODALITY, entrusted=frozenset({Action.REJECT_IMAGES}))
    ingest.store_file(part10_bytes(note_for(image, code="113039")), source=Source("DICOM", "PACS"), actor=entitled)
    with ingest.store.read() as db:
        assert open_deletions(db) == []
    Runner(ingest.store, []).run_once(retention(ingest, configured(tmp_path, marks=True)))
    with ingest.store.read() as db:
        [(deletion, count)] = open_deletions(db)
    assert (deletion.study_instance_uid, count, deletion.asked_by) == ("1.2.2", 2, "PACS")


def test_what_is_under_a_legal_hold_is_neither_proposed_nor_marked(ingest: Ingest, tmp_path: Path) -> None:
    configuration = configured(tmp_path, marks=True)
    three_studies(ingest)
    holding = SetHold("court order", study_instance_uid="1.2.1")
    with pytest.raises(Forbidden):
        ingest.store.run(set_hold, holding, replace(ADMIN, role=Role.RADIOLOGIST))
    with pytest.raises(MissingField):
        ingest.store.run(set_hold, replace(holding, reason=""), ADMIN)
    with pytest.raises(NotFound):
        ingest.store.run(set_hold, replace(holding, study_instance_uid="1.2.77"), ADMIN)
    assert proposed(ingest, configuration) == ["1.2.1"]
    hold_id = ingest.store.run(set_hold, holding, ADMIN)
    assert proposed(ingest, configuration) == []
    Runner(ingest.store, []).run_once(retention(ingest, configuration))
    assert "1.2.1" in shown(ingest.store)
    with ingest.store.read() as db:
        assert [hold.reason for hold in holds_in_force(db)] == ["court order"]
    ingest.store.run(release_hold, ReleaseHold(hold_id, "settled"), ADMIN)
    assert proposed(ingest, configuration) == ["1.2.1"]
    with pytest.raises(IllegalTransition):
        ingest.store.run(release_hold, ReleaseHold(hold_id, "again"), ADMIN)


def test_a_hold_of_a_patient_holds_whoever_they_were_merged_with(ingest: Ingest, tmp_path: Path) -> None:
    configuration = configured(tmp_path, marks=False)
    ward = Ward(ingest.store)
    order = ward.place("1")
    keep(
        ingest, order.study_instance_uid, StudyDate="20100301", PatientID="1", AccessionNumber=order.accession_number,
    )  # fmt: skip
    assert proposed(ingest, configuration) == [order.study_instance_uid]
    ward.register("2")
    ingest.store.run(set_hold, SetHold("complaint", Identifier("2", "GENHOSP")), ADMIN)
    assert proposed(ingest, configuration) == [order.study_instance_uid]
    ward.merge("2", "1")
    assert proposed(ingest, configuration) == []
