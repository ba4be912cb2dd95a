"""WADO-URI: one instance by the parameters of an address, the same as WADO-RS says it, refused where it can't be."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import requests
import sqlalchemy as sa
from PIL import Image

from fixtures.dicom_files import packaged
from fixtures.dicomweb_server import Archive, open_archive
from fixtures.fhir_server import WILSON
from hilum.storage import tables
from hilum.storage.store import Store

EXPLICIT = "1.2.840.10008.1.2.1"


@pytest.fixture
def archive(sqlite_store: Store, tmp_path: Path) -> Iterator[Archive]:
    """The door over SQLite and files."""
    with open_archive(sqlite_store, tmp_path / "home") as opened:
        yield opened


def get(archive: Archive, image: Any, status: int = 200, who: str = "radiologist", **more: Any) -> requests.Response:
    asked = {"requestType": "WADO", "studyUID": image.StudyInstanceUID, "seriesUID": image.SeriesInstanceUID,
             "objectUID": image.SOPInstanceUID} | more  # fmt: skip
    return archive.ask("GET", "/dicom-web/wado", who, status, params={k: v for k, v in asked.items() if v is not None})


def packaged_image(archive: Archive, name: str) -> pydicom.Dataset:
    content = packaged(name).read_bytes()
    archive.keep(content)
    return pydicom.dcmread(io.BytesIO(content))


def pixels(answer: requests.Response) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)


def test_an_image_comes_as_jpeg_unless_another_type_is_asked_for(archive: Archive) -> None:
    image = packaged_image(archive, "CT_small.dcm")
    assert get(archive, image).headers["content-type"] == "image/jpeg"
    assert get(archive, image, contentType="image/png").headers["content-type"] == "image/png"
    assert get(archive, image, contentType="image/gif,image/png;q=0.3").headers["content-type"] == "image/png"
    get(archive, image, 406, contentType="image/gif")


def test_dicom_comes_in_explicit_little_endian_or_the_syntax_that_is_asked_for(archive: Archive) -> None:
    image = packaged_image(archive, "JPEG2000.dcm")
    plain = pydicom.dcmread(io.BytesIO(get(archive, image, contentType="application/dicom").content))
    assert plain.file_meta.TransferSyntaxUID == EXPLICIT and np.array_equal(plain.pixel_array, image.pixel_array)
    stored = image.file_meta.TransferSyntaxUID
    as_stored = get(archive, image, contentType="application/dicom", transferSyntax=stored)
    assert as_stored.headers["content-type"] == f"application/dicom; transfer-syntax={stored}"
    assert as_stored.content.endswith(packaged("JPEG2000.dcm").read_bytes()[-500:])
    get(archive, image, 406, contentType="application/dicom", transferSyntax="1.2.840.10008.1.2.4.100")


def test_the_default_of_many_frames_is_dicom_and_a_frame_can_be_named(archive: Archive) -> None:
    image = packaged_image(archive, "rtdose.dcm")
    assert get(archive, image).headers["content-type"].startswith("application/dicom")
    first, last = (get(archive, image, frameNumber=number) for number in (1, 15))
    assert first.headers["content-type"] == "image/jpeg" and first.content != last.content
    get(archive, image, 404, frameNumber=16)
    get(archive, image, 400, frameNumber=0)


def test_window_size_region_and_quality_mean_what_they_mean_elsewhere(archive: Archive) -> None:
    image = packaged_image(archive, "CT_small.dcm")
    whole = pixels(get(archive, image, contentType="image/png", windowCenter=40, windowWidth=400))
    path = f"/studies/{image.StudyInstanceUID}/series/{image.SeriesInstanceUID}/instances/{image.SOPInstanceUID}"
    assert np.array_equal(whole, pixels(archive.fetch(f"{path}/rendered?accept=image/png&window=40,400,linear")))
    assert pixels(get(archive, image, rows=32, columns=64)).shape == (32, 32)
    assert pixels(get(archive, image, rows=32)).shape == (32, 32)
    part = pixels(get(archive, image, contentType="image/png", region="0.25,0.5,0.75,1.0",
                      windowCenter=40, windowWidth=400))  # fmt: skip
    assert np.array_equal(part, whole[64:, 32:96])
    coarse, fine = (len(get(archive, image, imageQuality=quality).content) for quality in (5, 95))
    assert coarse < fine


def test_what_is_no_image_is_shown_as_it_is_elsewhere(archive: Archive) -> None:
    report, ecg = packaged_image(archive, "test-SR.dcm"), packaged_image(archive, "waveform_ecg.dcm")
    assert "Diagnosis" in get(archive, report).text
    assert get(archive, report, contentType="text/html").headers["content-type"].startswith("text/html")
    assert get(archive, ecg, contentType="image/png").headers["content-type"] == "image/png"
    assert get(archive, report, contentType="application/dicom").content[128:132] == b"DICM"


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"requestType": None}, 400, "requestType"), ({"requestType": "XDS"}, 400, "requestType"),
     ({"objectUID": None}, 400, "objectUID"), ({"studyUID": ""}, 400, "studyUID"),
     ({"studyUID": "../1"}, 400, "StudyInstanceUID"), ({"anonymize": "yes"}, 406, "anonymize"),
     ({"presentationUID": "1.2"}, 406, "presentationUID"), ({"windowCenter": 1}, 400, "windowCenter"),
     ({"windowCenter": "a", "windowWidth": 5}, 400, "windowCenter"), ({"rows": 0}, 400, "rows"),
     ({"columns": 9999}, 400, "columns"), ({"region": "0,0,1"}, 400, "region"),
     ({"region": "0.5,0,0.5,1"}, 400, "region"),
     ({"region": "0,0,1.5,1"}, 400, "region"), ({"imageQuality": 0}, 400, "quality"), ({"zoom": 2}, 400, "zoom"),
     ({"transferSyntax": EXPLICIT}, 400, "transferSyntax"),
     ({"contentType": "application/dicom", "windowCenter": 1, "windowWidth": 1}, 400, "windowCenter"),
     ({"contentType": "application/dicom", "rows": 5}, 400, "rows")]  # fmt: skip


def test_what_cannot_be_done_is_refused_by_name(archive: Archive) -> None:
    image = archive.scan()
    for more, status, field in REFUSED:
        assert get(archive, image, status, **more).json()["field"] == field, more


def test_who_may_not_see_is_denied_here_too_and_the_attempt_is_audited(archive: Archive) -> None:
    archive.register("100")
    archive.register("200", "Roe", "Richard")
    mine = archive.scan(archive.place("100"), PatientID="100")
    theirs = archive.scan(archive.place("200", ordering_physician=WILSON), PatientID="200", PatientName="Roe^Richard")
    get(archive, mine, 200, "house")
    get(archive, theirs, 404, "house")
    get(archive, mine, 403, "auditor")
    with archive.store.read() as db:
        audit = tables.audit_event.c
        rows = db.execute(sa.select(audit.outcome).where(audit.actor == "house")).scalars().all()
    assert set(rows) == {"allowed", "refused"}
