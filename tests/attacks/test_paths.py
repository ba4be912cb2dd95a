"""Paths that try to leave their folder: in addresses, identifiers of images, messages and files."""

from __future__ import annotations

import io
import uuid
from pathlib import Path

import pytest
from besieged import Besieged
from pydicom import dcmwrite
from pydicom.dataset import Dataset

from fixtures.department import Department, Patient, next_numbers

pytestmark = [pytest.mark.xdist_group("attacks"), pytest.mark.timeout(300)]

OUT = [
    "..",
    "../..",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/hilum.toml",
    "..%5c..%5chilum.toml",
    "....//....//etc/passwd",
    "%00",
    "/etc/passwd",
    "..%c0%af..%c0%afetc/passwd",
    "%252e%252e%252fhilum.toml",
    "~root",
    "C:%5cboot.ini",
    "file:///etc/passwd",
    "1.2.3/../../../../hilum.toml",
    ".",
]
SECRETS = (b"root:", b"[facility]", b"PRIVATE KEY", b"ae_title")


@pytest.mark.parametrize("way", OUT)
def test_no_address_leads_out(target: Besieged, way: str) -> None:
    uid = target.placed.study_uid
    for path in (
        f"/static/{way}",
        f"/static/x/{way}",
        f"/static/x/../{way}",
        f"/dicom-web/studies/{way}",
        f"/dicom-web/studies/{uid}/series/{way}",
        f"/dicom-web/studies/{uid}/series/1.2/instances/{way}",
        f"/dicom-web/studies/{uid}/series/1.2/instances/1.2/bulkdata/{way}",
        f"/dicom-web/studies/{uid}/series/1.2/instances/1.2/frames/{way}",
        f"/dicom-web/studies/{way}/metadata",
        f"/dicom-web/{way}",
        f"/fhir/Patient/{way}",
        f"/fhir/{way}",
        f"/fhir/ImagingStudy/{way}",
        f"/orders/{way}",
        f"/studies/{way}",
        f"/studies/{way}/chain",
        f"/cds-services/{way}",
        f"/{way}",
        f"/reports/{way}/edit",
        f"/exceptions/{way}/candidates",
    ):
        answer = target.ask("GET", path, "radiologist")
        assert answer.status_code < 500, (path, answer.text)
        assert not any(secret in answer.content for secret in SECRETS), path


def test_bulk_data_stays_in_its_instance(target: Besieged) -> None:
    (study,) = target.department.qido(StudyInstanceUID=target.placed.study_uid)
    instance, *_ = target.department.qido(f"/studies/{study['0020000D']['Value'][0]}/instances")
    root = "/dicom-web/studies/{}/series/{}/instances/{}".format(
        *(instance[k]["Value"][0] for k in ("0020000D", "0020000E", "00080018"))
    )
    for place in (
        "0/99999999",
        "99999999999999999999/1",
        "-1/10",
        "0/-1",
        "0/0",
        "1e3/5",
        "0x10/5",
        "4294967296/4294967296",
        "pixeldata/x",
        "0/1/2",
        "0",
        "",
        "/",
        "%00/1",
        "9" * 400 + "/1",
        "pixeldata?x",
    ):
        answer = target.ask("GET", f"{root}/bulkdata/{place}")
        assert answer.status_code < 500, place
        assert len(answer.content) < 1_000_000
    for frames in (
        "0",
        "-1",
        "99999999999",
        "1,1,1," * 100 + "1",
        "1," * 60_000,
        "1-5",
        "*",
        "%00",
        "1e9",
        "١",
        "9" * 5000,
    ):
        for tail in ("", "/rendered", "/thumbnail"):
            assert target.ask("GET", f"{root}/frames/{frames}{tail}").status_code < 500, (frames, tail)
    for query in (
        "viewport=99999,99999",
        "viewport=0,0",
        "viewport=1,99999",
        "window=1e9,1",
        "window=0,0,sigmoid",
        "window=999999999,0.000000001,sigmoid",
        "window=-999999999.999999999,-1",
        "quality=0",
        "window=nan,1",
        "viewport=99999,1&quality=100",
        "window=١,١",
        "viewport=-1,-1",
    ):
        for tail in ("/rendered", "/thumbnail", "/frames/1/rendered"):
            for accept in ("image/png", "image/jpeg"):
                answer = target.ask("GET", f"{root}{tail}?{query}", headers={"Accept": accept})
                assert answer.status_code < 500, (query, tail, answer.text)
                assert len(answer.content) < 30_000_000
    for wanted in (
        "bytes=0-",
        "bytes=-1",
        "bytes=" + "0-1," * 5000 + "0-1",
        "bytes=9-1",
        "bytes=99999999999999999999-",
        "lines=1-2",
        "bytes=0-0,0-0",
        "bytes=\xb2-",
    ):
        answer = target.ask("GET", f"{root}/bulkdata/pixeldata", headers={"Range": wanted.encode("latin-1")})
        assert answer.status_code < 500, wanted
        assert len(answer.content) < 1_000_000


def part10(image: Dataset) -> bytes:
    whole = io.BytesIO()
    dcmwrite(whole, image, enforce_file_format=True)
    return whole.getvalue()


def stow(target: Besieged, *parts: bytes, path: str = "/dicom-web/studies") -> int:
    body = b"".join(b"--x\r\nContent-Type: application/dicom\r\n\r\n" + part + b"\r\n" for part in parts) + b"--x--\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary=x'
    return target.ask("POST", path, data=body, headers={"Content-Type": kind}).status_code


def files_of(department: Department) -> set[Path]:
    return {
        path
        for path in department.home.parent.rglob("*")
        if path.is_file() and not path.is_relative_to(department.home)
    }


@pytest.mark.filterwarnings("ignore")
def test_identifiers_of_images_name_no_files(target: Besieged) -> None:
    before = files_of(target.department)
    for name in (
        "../../../../tmp/" + uuid.uuid4().hex,
        "/tmp/" + uuid.uuid4().hex,
        "..",
        "1.2.3\\..\\x",
        "1.2.3/../4",
        "a" * 64,
        "1..2",
        "1.2.3\x00",
        "1" * 65,
        "",
        "1.2.3 OR 1=1",
        "é",
        "1.2\r\n3",
    ):
        for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID"):
            image = target.department.image(target.placed)
            setattr(image, keyword, name)
            raw = part10(target.department.image(target.placed))
            good = str(getattr(target.department.image(target.placed), keyword))
            try:
                raw = part10(image)
            except Exception:
                raw = raw.replace(good.encode(), name.encode()[: len(good)].ljust(len(good), b"x"))
            assert stow(target, raw) in (200, 202, 400, 409), (keyword, name)
    assert files_of(target.department) == before
    target.still_works()


def test_control_ids_name_no_files_elsewhere(tmp_path: Path) -> None:
    """What leaves as a file is named by its position and by letters that no file system takes for a path."""
    from hilum.delivery.senders.file import file_name
    from hilum.storage.deliveries import Delivery

    for control in ("../../etc/passwd", "/etc/passwd", "a\x00b", "..", "con", "a\nb", "é" * 500, ""):
        delivery = object.__new__(Delivery)
        for name, value in {"control_id": control, "id": "01", "position": 7, "body": b"MSH|"}.items():
            object.__setattr__(delivery, name, value)
        name = file_name(delivery)
        assert (tmp_path / name).resolve().parent == tmp_path.resolve()
        assert name.isascii()
        assert len(name) < 110


def test_identifiers_of_patients_name_no_files(target: Besieged) -> None:
    before = files_of(target.department)
    for way in ("../../../tmp/x", "/etc/passwd", "..\\E\\..\\E\\x", "a&b&c", "x\\X00\\y", "x\\X0D\\EVN|A40"):
        patient = Patient(way.replace("N", next_numbers(1)[0]))
        now = "20260101"
        answer = target.department.send(
            f"{target.department.header('ADT^A04')}\rEVN|A04|{now}\r{patient.pid}\rPV1|1|O\r"
        )
        assert answer.count(b"MSA|") == 1
    assert files_of(target.department) == before
