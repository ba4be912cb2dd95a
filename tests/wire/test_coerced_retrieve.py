"""Instances leave with what is known of them where they say something else, and untouched where they do not."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from dicom_door import department, order
from image_peers import keep
from pydicom.dataset import FileDataset

from fixtures.dicom_files import ct_image, packaged, part10_bytes
from fixtures.dicomweb_server import JSON, Archive, open_archive, path_of
from hilum.storage import tables
from hilum.storage.store import Store

ALONE = {"Accept": "application/dicom"}
AS_STORED = {"Accept": "application/dicom; transfer-syntax=*"}


@pytest.fixture
def archive(store: Store, tmp_path: Path) -> Iterator[Archive]:
    """The door over each database."""
    with open_archive(store, tmp_path / "home") as opened:
        yield opened


def got(archive: Archive, image: FileDataset, headers: dict[str, str] = ALONE) -> pydicom.FileDataset:
    return pydicom.dcmread(io.BytesIO(archive.fetch(path_of(image), headers=headers).content))


def data_set(content: bytes, image: FileDataset) -> bool:
    """Whether a file ends with exactly the data set that was stored."""
    stored = part10_bytes(image)
    return content.endswith(stored[stored.index(b"\x08\x00\x05\x00") :])


def errors_of(content: bytes, folder: Path) -> list[str]:
    path = folder / "checked.dcm"
    path.write_bytes(content)
    said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False).stderr
    return sorted(line for line in said.splitlines() if line.startswith("Error"))


def test_images_that_say_what_is_known_leave_byte_for_byte(archive: Archive) -> None:
    archive.register("100", "Doe", "Jane")
    placed = archive.place("100")
    image = archive.scan(placed, PatientID="100", PatientName="DOE^JANE^^^")  # no issuer, in capitals
    answer = archive.fetch(path_of(image), headers=ALONE)
    assert data_set(answer.content, image)
    unsaid = archive.scan(placed, PatientID="100", PatientBirthDate="", PatientSex="")
    assert data_set(archive.fetch(path_of(unsaid), headers=ALONE).content, unsaid)
    nobody = archive.scan(PatientID="", PatientName="Unknown")
    assert data_set(archive.fetch(path_of(nobody), headers=ALONE).content, nobody)


def test_a_merge_reaches_the_bytes_and_their_etag_at_once(archive: Archive, tmp_path: Path) -> None:
    archive.register("100", "Duvall", "Ann")
    archive.register("200", "Łukasz", "Ann")
    placed = archive.place("100")
    image = archive.scan(
        placed, PatientID="100", PatientName="Duvall^Ann", SpecificCharacterSet="ISO_IR 100", StudyDescription="Schädel"
    )
    before = archive.fetch(path_of(image), headers=ALONE)
    assert data_set(before.content, image)
    archive.merge("200", "100")
    after = archive.fetch(path_of(image), headers={**ALONE, "If-None-Match": before.headers["etag"]})
    read = pydicom.dcmread(io.BytesIO(after.content))
    assert (read.PatientID, read.IssuerOfPatientID, read.PatientName) == ("200", "GENHOSP", "Łukasz^Ann")
    assert (read.SpecificCharacterSet, read.StudyDescription) == ("ISO_IR 192", "Schädel")
    assert (read.AccessionNumber, read.PixelData) == (placed.accession_number, image.PixelData)
    (item,) = read.OriginalAttributesSequence
    assert item.ModifiedAttributesSequence[0].PatientID == "100"
    assert (item.ReasonForTheAttributeModification, item.SourceOfPreviousValues) == ("COERCE", "CT01")
    if shutil.which("dciodvfy"):
        assert set(errors_of(after.content, tmp_path)) <= set(errors_of(before.content, tmp_path))
    (metadata,) = archive.fetch(f"{path_of(image)}/metadata", headers=JSON).json()
    assert metadata["04000561"] == read.to_json_dict()["04000561"], "metadata say the same as the bytes"
    part = archive.fetch(path_of(image), status=206, headers={**ALONE, "Range": "bytes=100-1499"})
    assert part.content == after.content[100:1500]
    archive.fetch(path_of(image), status=304, headers={**ALONE, "If-None-Match": after.headers["etag"]})
    assert archive.fetch(path_of(image, "study")).content.count(b"Duvall") == 1  # as it was, in the original attributes


def test_an_accession_number_that_is_missing_comes_from_the_order(archive: Archive) -> None:
    archive.register("100", "Doe", "Jane")
    placed = archive.place("100")
    image = archive.scan(placed, PatientID="100", AccessionNumber="")
    assert got(archive, image).AccessionNumber == placed.accession_number


@pytest.mark.parametrize(
    "name", ["MR_small_RLE.dcm", "image_dfl.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm"]
)
def test_every_syntax_is_kept_and_the_pixels_with_it(sqlite_store: Store, tmp_path: Path, name: str) -> None:
    with open_archive(sqlite_store, tmp_path / "home") as archive:
        image = pydicom.dcmread(packaged(name))
        archive.register("100", "Doe", "Jane")
        placed = archive.place("100")
        image.StudyInstanceUID, image.PatientID, image.PatientName = placed.study_instance_uid, "100", "Dough^Jane"
        image.PatientBirthDate, image.PatientSex = "19800102", "F"
        archive.keep(part10_bytes(image))
        read = got(archive, image, AS_STORED)
        assert read.file_meta.TransferSyntaxUID == image.file_meta.TransferSyntaxUID
        assert read.PatientName == "Doe^Jane" and read.PixelData == image.PixelData
        plain = got(archive, image, {"Accept": "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"})
        assert plain.PatientName == "Doe^Jane" and (plain.pixel_array == image.pixel_array).all()


def test_who_may_export_originals_has_the_bytes_as_received_and_leaves_a_trace(archive: Archive) -> None:
    archive.register("100", "Doe", "Jane")
    placed = archive.place("100")
    image = archive.scan(placed, PatientID="100", PatientName="Dough^Jane")
    coerced = archive.fetch(path_of(image), headers=ALONE)
    original = archive.fetch(f"{path_of(image)}?original=true", "admin", headers=ALONE)
    assert data_set(original.content, image) and not data_set(coerced.content, image)
    assert original.headers["etag"] != coerced.headers["etag"]
    for who in ("radiologist", "technologist", "service"):
        archive.fetch(f"{path_of(image)}?original=true", who, 403, headers=ALONE)
    with archive.store.read() as db:
        trail = [row for row in db.execute(tables.audit_event.select()) if row.action == "export-original"]
    assert sorted(row.outcome for row in trail) == ["allowed", "refused", "refused", "refused"]


def test_coercion_can_be_switched_off(sqlite_store: Store, tmp_path: Path) -> None:
    settings = "[archive]\ncoerce_on_retrieve = false\n"
    with open_archive(sqlite_store, tmp_path / "home", settings) as archive:
        archive.register("100", "Doe", "Jane")
        image = archive.scan(archive.place("100"), PatientID="100", PatientName="Dough^Jane")
        assert data_set(archive.fetch(path_of(image), headers=ALONE).content, image)


def test_images_got_by_cget_say_the_same_as_those_of_the_web(tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "out"
    home.mkdir()
    out.mkdir()
    with department(home) as opened:
        placed = order(opened.store, "100")
        other = ct_image(
            StudyInstanceUID=placed.study_instance_uid, AccessionNumber=placed.accession_number,
            PatientID="P1", PatientName="Dough^Wrong", PatientBirthDate="", SOPInstanceUID="1.2.99.1",
        )  # fmt: skip
        keep(opened, other)
        asked = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={placed.study_instance_uid}"]
        call = [
            "/usr/bin/getscu",
            "-S",
            "-aet",
            "CT01",
            "-aec",
            "HILUM",
            "-od",
            str(out),
            "127.0.0.1",
            str(opened.port),
        ]
        subprocess.run([*call, *asked], check=True, capture_output=True, timeout=60)
    (file,) = out.iterdir()
    read = pydicom.dcmread(file)
    assert read.PatientName == "Doe^Jane" and read.PatientID == "P1" and read.PixelData == other.PixelData
    assert read.OriginalAttributesSequence[0].ModifiedAttributesSequence[0].PatientName == "Dough^Wrong"
