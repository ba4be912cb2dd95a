"""STOW-RS of metadata and bulk data: what is described in JSON is stored as DICOM, with the values that came along."""

from __future__ import annotations

import io
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pydicom
import pytest
import requests
from pydicom.encaps import generate_frames

from fixtures.dicom_files import ct_image, packaged, part10_bytes
from fixtures.dicomweb_server import Archive, open_archive, path_of
from hilum.storage.store import Store

JSON = "application/dicom+json"
OCTETS = "application/octet-stream"


@pytest.fixture
def archive(sqlite_store: Store, tmp_path: Path) -> Iterator[Archive]:
    """The door over SQLite and files."""
    with open_archive(sqlite_store, tmp_path / "home") as opened:
        yield opened


def part(content: bytes, content_type: str, location: str = "") -> bytes:
    named = f"Content-Location: {location}\r\n" if location else ""
    return f"--bb\r\nContent-Type: {content_type}\r\n{named}\r\n".encode() + content + b"\r\n"


def described(image: pydicom.Dataset, uri: str = "pixels", **entries: Any) -> dict[str, Any]:
    """The metadata of an image as clients write it, its pixel data elsewhere."""
    plain = pydicom.Dataset({tag: element for tag, element in image.items() if tag != 0x7FE00010})
    plain.remove_private_tags()
    found: dict[str, Any] = plain.to_json_dict()
    return found | {"7FE00010": {"vr": "OW", "BulkDataURI": uri}} | entries


def post(archive: Archive, *parts: bytes, status: int = 200, who: str = "technologist", path: str = "/studies",
         end: bytes = b"--bb--\r\n") -> requests.Response:  # fmt: skip
    content_type = f'multipart/related; type="{JSON}"; boundary=bb'
    return archive.ask("POST", f"/dicom-web{path}", who, status, data=b"".join(parts) + end,
                       headers={"Content-Type": content_type, "Accept": JSON})  # fmt: skip


def metadata(*instances: Any) -> bytes:
    return part(orjson.dumps(instances), JSON)


def reasons(answer: requests.Response) -> list[int]:
    return [item["00081197"]["Value"][0] for item in answer.json()["00081198"]["Value"]]


def back(archive: Archive, image: pydicom.Dataset) -> pydicom.FileDataset:
    content = archive.fetch(path_of(image), headers={"Accept": "application/dicom; transfer-syntax=*"}).content  # type: ignore[arg-type]
    return pydicom.dcmread(io.BytesIO(content))


def test_metadata_and_pixels_become_the_instance_they_describe(archive: Archive) -> None:
    image = ct_image(PatientName="Müller^Jörg=ミュラー", StudyDescription="Schädel")
    answer = post(archive, metadata(described(image)), part(image.PixelData, OCTETS, "pixels"))
    (stored,) = answer.json()["00081199"]["Value"]
    assert stored["00081190"]["Value"] == [archive.dicomweb + path_of(image)]
    assert back(archive, image) == pydicom.dcmread(io.BytesIO(part10_bytes(image)))
    rendered = archive.fetch(f"{path_of(image)}/rendered?accept=image/png")
    assert rendered.headers["content-type"] == "image/png"


def test_several_instances_in_one_request_and_values_before_their_metadata(archive: Archive) -> None:
    study = ct_image().StudyInstanceUID
    images = [ct_image(StudyInstanceUID=study, InstanceNumber=n, PixelData=bytes([n]) * 128) for n in (1, 2, 3)]
    uris = [f"https://elsewhere.example/{n}" for n in range(3)]
    values = [part(image.PixelData, OCTETS, uri) for image, uri in zip(images, uris, strict=True)]
    post(archive, *values, metadata(*map(described, images, uris)), path=f"/studies/{study}")
    for image in images:
        assert back(archive, image) == pydicom.dcmread(io.BytesIO(part10_bytes(image)))


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("MR_small_jpeg_ls_lossless.dcm", "image/jls"),
     ("JPEG2000.dcm", "image/jp2; transfer-syntax=1.2.840.10008.1.2.4.91"),
     ("MR_small_RLE.dcm", "image/dicom-rle"), ("rtdose_rle.dcm", f"{OCTETS}; transfer-syntax=1.2.840.10008.1.2.5")],
)  # fmt: skip
def test_compressed_frames_come_in_a_part_each_and_decode_alike(archive: Archive, name: str, content_type: str) -> None:
    image = pydicom.dcmread(packaged(name))
    frames = generate_frames(image.PixelData, number_of_frames=int(image.get("NumberOfFrames", 1)))
    post(archive, metadata(described(image)), *(part(frame, content_type, "pixels") for frame in frames))
    again = back(archive, image)
    assert again.file_meta.TransferSyntaxUID == image.file_meta.TransferSyntaxUID
    assert np.array_equal(again.pixel_array, image.pixel_array)


def test_values_other_than_pixels_come_along_too(archive: Archive) -> None:
    image = ct_image(PixelData=None)
    metadata_of = described(image) | {
        "00420011": {"vr": "OB", "BulkDataURI": "document"},
        "00104000": {"vr": "LT", "BulkDataURI": "comments"},
    }
    del metadata_of["7FE00010"]
    post(
        archive, metadata(metadata_of), part(b"%PDF-1.4", OCTETS, "document"), part("grün".encode(), OCTETS, "comments")
    )
    stored = back(archive, image)
    assert stored.EncapsulatedDocument == b"%PDF-1.4" and stored.PatientComments == "grün"


def test_each_instance_has_its_own_reason(archive: Archive) -> None:
    good, other = ct_image(), ct_image()
    without_pixels, missing = described(ct_image(), "nowhere"), described(good)
    del missing["0020000E"]
    big_endian = described(ct_image(), "big")
    answer = post(
        archive, metadata(described(good), described(other), without_pixels, missing, big_endian),
        part(good.PixelData, OCTETS, "pixels"),
        part(good.PixelData, f"{OCTETS}; transfer-syntax=1.2.840.10008.1.2.2", "big"), status=202,
        path=f"/studies/{good.StudyInstanceUID}",
    )  # fmt: skip
    assert reasons(answer) == [0xA900, 0xC000, 0xC000, 0x0122]
    failed = answer.json()["00081198"]["Value"]
    assert failed[0]["00081155"]["Value"] == [other.SOPInstanceUID]
    assert archive.uids() == {good.StudyInstanceUID}
    assert reasons(post(archive, metadata(without_pixels), status=409)) == [0xC000]


HOSTILE = [
    {"00080018": "1.2.3"}, {"nonsense": {"vr": "UI"}}, {"00080018": {"vr": "UI", "Value": "1.2"}}, 7, None, "x",
    {"00080018": {"vr": "ZZ", "Value": ["1.2"]}}, {"00280010": {"vr": "US", "Value": ["many"]}},
    {"00280010": {"vr": "US", "Value": [70000]}}, {"00081140": {"vr": "SQ", "Value": ["no item"]}},
]  # fmt: skip


def test_what_is_no_dicom_json_is_refused_and_the_door_lives(archive: Archive) -> None:
    for hostile in HOSTILE:
        damaged = described(ct_image()) | hostile if isinstance(hostile, dict) else hostile
        answer = post(archive, metadata(damaged), part(bytes(128), OCTETS, "pixels"), status=409)
        assert reasons(answer) == [0xC000], hostile
    deep: dict[str, Any] = {}
    for _ in range(70):
        deep = {"00081140": {"vr": "SQ", "Value": [deep]}}
    assert reasons(post(archive, metadata(described(ct_image()) | deep), status=409)) == [0xC000]
    post(archive, part(b"{not json", JSON), status=400)
    post(archive, part(b"[" * 100_000, JSON), status=400)
    post(archive, part(b"only bulk data", OCTETS, "x"), status=400)
    post(archive, metadata(described(ct_image())), status=400, end=b"")
    post(archive, part(b"[" + b" " * (17 << 20) + b"]", JSON), status=413)
    assert archive.search() == []


@pytest.mark.parametrize("who", ["auditor", "scheduler", "house"])
def test_who_may_not_store_is_denied(archive: Archive, who: str) -> None:
    image = ct_image()
    post(archive, metadata(described(image)), part(image.PixelData, OCTETS, "pixels"), status=403, who=who)
    assert archive.search() == []


def test_a_large_value_goes_from_the_wire_to_the_disk_and_not_through_memory(archive: Archive) -> None:
    large = ct_image(Rows=5000, Columns=6000, PixelData=bytes(2))
    pixels = bytes(5000 * 6000 * 2)
    body = metadata(described(large)) + part(pixels, OCTETS, "pixels")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    post(archive, body)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    # The test itself puts the body together twice; mapped pages of the files are counted here, too.
    assert grown < 400, f"{grown:.0f} MiB for a value of 57"
    found = archive.search("/instances", includefield="00280010")
    assert found[0]["00280010"]["Value"] == [5000]
