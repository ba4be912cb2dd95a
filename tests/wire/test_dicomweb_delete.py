"""DELETE over DICOMweb: hidden at once at every resource, by an administrator alone, and kept where a hold says so."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest
import sqlalchemy as sa

from fixtures.dicomweb_server import Archive, open_archive, path_of
from fixtures.fhir_server import ASKERS
from hilum.storage import tables
from hilum.storage.store import Store
from hilum.workflow.retention import SetHold, set_hold


@pytest.fixture
def archive(sqlite_store: Store, tmp_path: Path) -> Iterator[Archive]:
    """The door over SQLite and files."""
    with open_archive(sqlite_store, tmp_path / "home") as opened:
        yield opened


def delete(archive: Archive, path: str, status: int, who: str = "admin") -> None:
    archive.ask("DELETE", f"/dicom-web{path}", who, status)


def three(archive: Archive) -> list[pydicom.FileDataset]:
    """Two images of a series and one of another, in one study."""
    first = archive.scan(InstanceNumber=1)
    study = {"StudyInstanceUID": first.StudyInstanceUID}
    second = archive.scan(**study, SeriesInstanceUID=first.SeriesInstanceUID, InstanceNumber=2)
    return [first, second, archive.scan(**study, SeriesNumber=2)]


@pytest.mark.parametrize(("level", "left"), [("instance", 2), ("series", 1), ("study", 0)])
def test_what_is_deleted_is_gone_at_once_and_the_rest_is_there(archive: Archive, level: str, left: int) -> None:
    images = three(archive)
    delete(archive, path_of(images[0], level) + "?reason=Test%20images", 204)
    assert len(archive.search("/instances")) == left
    for what in ("", "/metadata", "/frames/1", "/rendered"):
        archive.fetch(path_of(images[0]) + what, status=404)
    if left:
        archive.fetch(path_of(images[2]))
    delete(archive, path_of(images[0], level), 404)
    with archive.store.read() as db:
        (row,) = db.execute(sa.select(tables.deletion)).all()
    assert (row.reason, row.state) == ("Test images", "marked") and row.until > datetime.now(UTC)


def test_nobody_but_an_administrator_deletes_and_the_attempt_is_audited(archive: Archive) -> None:
    image = archive.scan()
    for who in ("radiologist", "technologist", "scheduler", "auditor", "service", "house"):
        for level in ("study", "series", "instance"):
            delete(archive, path_of(image, level), 403, who)
    archive.fetch(path_of(image))
    with archive.store.read() as db:
        audit = tables.audit_event.c
        found = db.execute(sa.select(audit.outcome).where(audit.action == "delete-images")).scalars().all()
    assert found and set(found) == {"refused"}


def test_a_legal_hold_keeps_the_images_and_is_said(archive: Archive) -> None:
    image, other = archive.scan(), archive.scan()
    hold = SetHold("court order", study_instance_uid=image.StudyInstanceUID)
    archive.store.run(set_hold, hold, ASKERS["admin"])
    answer = archive.ask("DELETE", f"/dicom-web{path_of(image)}", "admin", 409)
    assert answer.json()["code"] == "on-hold"
    archive.fetch(path_of(image))
    delete(archive, path_of(other, "study"), 204)


def test_what_is_not_there_or_means_nothing_is_refused(archive: Archive) -> None:
    image = archive.scan()
    other = archive.scan()
    delete(archive, "/studies/1.2.3", 404)
    delete(archive, f"{path_of(image, 'study')}/series/{other.SeriesInstanceUID}", 404)
    delete(archive, f"{path_of(image, 'series')}/instances/{other.SOPInstanceUID}", 404)
    delete(archive, "/studies/1.2'", 400)
    delete(archive, f"{path_of(image)}?reason={'x' * 600}", 400)
    assert len(archive.search("/instances")) == 2
