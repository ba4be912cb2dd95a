"""Studies leave as a File-set that other programs read, by command and over HTTP, and say nothing of anyone by name."""

from __future__ import annotations

import io
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
import sqlalchemy as sa
from pydicom.fileset import FileSet
from pydicom.uid import ExplicitVRLittleEndian

from fixtures.command_line import hilum
from fixtures.dicom_files import ct_image, packaged, part10_bytes
from fixtures.dicomweb_server import Archive, open_archive, path_of
from hilum.app import Application
from hilum.archive.dicomdir import record_type
from hilum.core.actor import system_actor
from hilum.storage import tables
from hilum.workflow.source import Source

TOOLS = {name: shutil.which(name, path="/usr/bin") for name in ("dciodvfy", "dcentvfy", "dcmdump", "dcmmkdir")}
# One of each kind of record that pydicom's files have, of several patients.
NAMES = (
    "CT_small.dcm", "rtplan.dcm", "rtstruct.dcm", "rtdose.dcm", "test-SR.dcm", "waveform_ecg.dcm", "liver_1frame.dcm",
    "MR_small_jp2klossless.dcm",
)  # fmt: skip
YAMADA = "Yamada^Tarou=山田^太郎"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("home")
    (home / "hilum.toml").write_text("[archive]\nsegment_bytes = 1048576\n")
    application = Application(home)
    application.prepare()
    assert application.keyring
    images = [packaged(name).read_bytes() for name in NAMES]
    images += [
        part10_bytes(ct_image(PatientID="J1", PatientName=YAMADA, StudyInstanceUID="1.2.3", **more))
        for more in ({"SeriesInstanceUID": "1.2.3.1"}, {"SeriesInstanceUID": "1.2.3.1", "InstanceNumber": 2},
                     {"SeriesInstanceUID": "1.2.3.2", "StudyDate": None, "StudyID": None, "InstanceNumber": None})
    ]  # fmt: skip
    images.append(part10_bytes(ct_image(PatientID="J1", PatientName=YAMADA, StudyInstanceUID="1.2.4")))
    for image in images:
        application.ingest.store_file(image, source=Source("DICOM C-STORE", "CT01"), actor=system_actor("test"))
    application.close()
    return home


def command(home: Path, *arguments: str, code: int = 0) -> str:
    done = hilum("--home", str(home), "export", *arguments)
    said = (done.out + done.err).decode()
    assert done.code == code, said
    return said


def studies(home: Path) -> list[str]:
    application = Application(home)
    with application.store.read() as db:
        found = list(db.execute(sa.select(tables.study.c.study_instance_uid)).scalars())
    application.close()
    return found


def bodies(files: dict[str, bytes]) -> dict[str, bytes]:
    """The data sets by SOP Instance UID."""
    found = {}
    for content in files.values():
        file = io.BytesIO(content)
        pydicom.filereader.read_preamble(file, force=False)
        pydicom.filereader._read_file_meta_info(file)
        body = file.read()
        found[str(pydicom.dcmread(io.BytesIO(content)).SOPInstanceUID)] = body
    return found


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def images_of(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if name.startswith("DICOM/")}


def test_every_kind_of_instance_leaves_under_names_that_say_nothing_and_is_listed(home: Path, tmp_path: Path) -> None:
    target = tmp_path / "media"
    each = [argument for uid in studies(home) for argument in ("--study", uid)]
    assert "files" in command(home, *each, "--to", str(target))
    files = files_of(target)
    assert len(images_of(files)) == len(NAMES) + 4
    parts = [part for name in images_of(files) for part in name.split("/")]
    assert all(len(part) <= 8 and part.isalnum() and part.upper() == part for part in parts)
    originals = bodies({name: packaged(name).read_bytes() for name in NAMES if name != "rtstruct.dcm"})
    exported = bodies(images_of(files))
    assert originals.items() <= exported.items()
    # Who reads media finds all of them by the DICOMDIR, and their names in Unicode.
    listed = FileSet(target / "DICOMDIR")
    assert {str(one.SOPInstanceUID) for one in listed} == exported.keys()
    assert all(Path(one.path).read_bytes() == files[str(Path(one.path).relative_to(target))] for one in listed)
    assert YAMADA in {str(name) for name in listed.find_values("PatientName")}
    kinds = {record.DirectoryRecordType for record in pydicom.dcmread(target / "DICOMDIR").DirectoryRecordSequence}
    assert kinds >= {"PATIENT", "STUDY", "SERIES", "IMAGE", "RT PLAN", "RT DOSE", "RT STRUCTURE SET", "SR DOCUMENT",
                     "WAVEFORM"}  # fmt: skip
    command(home, "--study", "1.2.3", "--to", str(target), code=1)  # nothing is overwritten


@pytest.mark.skipif(not all(TOOLS.values()), reason="needs DCMTK and dicom3tools")
def test_a_dicomdir_has_no_errors_to_other_programs(home: Path, tmp_path: Path) -> None:
    target = tmp_path / "media"
    command(home, "--patient", "J1", "--to", str(target))

    def run(tool: str, *arguments: str) -> str:
        done = subprocess.run([str(TOOLS[tool]), *arguments], capture_output=True, text=True, cwd=target, check=False)
        return done.stdout + done.stderr

    assert "Error" not in run("dciodvfy", "DICOMDIR")
    assert "Error" not in run("dcentvfy", *images_of(files_of(target)))
    assert "E:" not in run("dcmdump", "DICOMDIR")
    # Adding to it takes reading all of it, every link included.
    (target / "MORE").write_bytes(part10_bytes(ct_image(PatientID="J1", StudyInstanceUID="1.2.3")))
    said = run("dcmmkdir", "+A", "+D", "DICOMDIR", "-Pgp", "+I", "MORE")
    assert "E:" not in said, said
    assert len(list(FileSet(target / "DICOMDIR"))) == 5


def test_a_patient_leaves_as_a_zip_file_and_a_number_of_nobody_does_not(home: Path, tmp_path: Path) -> None:
    said = command(home, "--patient", "J1", "--no-dicomdir", "--to", str(tmp_path / "all.zip"))
    assert "2 studies, 5 files" in said
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        content = b"".join(archive.read(name) for name in names if not name.startswith("DICOM/"))
    assert sorted(names)[-1] == "README.TXT"
    assert b"Yamada" not in content
    assert "DICOM/P0000001/S0000001/E0000001/I0000002" in names
    command(home, "--patient", "J2", "--to", str(tmp_path / "none"), code=1)
    command(home, "--to", str(tmp_path / "none"), code=1)
    assert not (tmp_path / "none").exists()


def test_a_viewer_that_reads_nothing_compressed_is_served_too(home: Path, tmp_path: Path) -> None:
    source = pydicom.dcmread(packaged("MR_small_jp2klossless.dcm"))
    command(home, "--study", source.StudyInstanceUID, "--uncompressed", "--to", str(tmp_path / "cd"))
    (listed,) = FileSet(tmp_path / "cd/DICOMDIR")
    image = listed.load()
    assert image.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert listed["ReferencedTransferSyntaxUIDInFile"].value == ExplicitVRLittleEndian
    assert (image.pixel_array == source.pixel_array).all()
    command(home, "--study", "1.2.3", "--original", "--uncompressed", "--to", str(tmp_path / "no"), code=1)


def test_records_are_of_the_kind_of_their_class() -> None:
    from pydicom.fileset import _FOUR_LEVEL_SOP_CLASSES as theirs

    assert {uid: record_type(uid) for uid in theirs} == {str(uid): kind for uid, kind in theirs.items()}
    assert record_type("1.2.840.10008.5.1.4.1.1.2") == record_type("1.2.840.10008.5.1.4.1.1.481.1") == "IMAGE"
    assert record_type("1.2.840.10008.5.1.4.1.1.104.1") == "ENCAP DOC"
    assert record_type("1.3.6.1.4.1.1") == "PRIVATE"


@pytest.fixture
def archive(tmp_path: Path, sqlite_store: Any) -> Iterator[Archive]:
    with open_archive(sqlite_store, tmp_path / "home") as opened:
        yield opened


def test_a_study_is_fetched_as_a_zip_file_by_whoever_may_see_it_and_the_fetch_is_audited(archive: Archive) -> None:
    image = archive.scan()
    path = path_of(image, "study")
    answer = archive.fetch(path, headers={"Accept": "application/zip"})
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["cache-control"] == "no-store"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as found:
        assert found.testzip() is None
        assert found.namelist() == ["DICOM/P0000001/S0000001/E0000001/I0000001", "DICOMDIR", "README.TXT"]
        assert bodies({"": found.read(found.namelist()[0])}) == bodies({"": part10_bytes(image)})
    with archive.store.read() as db:
        rows = db.execute(sa.select(tables.audit_event).where(tables.audit_event.c.action == "read-images")).all()
    assert {row.outcome for row in rows} == {"allowed"}
    archive.fetch(path, "auditor", 403, headers={"Accept": "application/zip"})
    archive.fetch("/studies/1.2.3.4.5", status=404, headers={"Accept": "application/zip"})
    # Whoever takes anything gets the multipart that DICOMweb has always had.
    assert archive.fetch(path, headers={"Accept": "*/*"}).headers["content-type"].startswith("multipart/related")
