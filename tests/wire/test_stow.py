"""STOW-RS: what is sent is stored part by part, what is wrong is named, nothing breaks the door."""

from __future__ import annotations

import io
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
import requests

from fixtures.dicom_files import ct_image, packaged, part10_bytes
from fixtures.dicomweb_server import Archive, open_archive, path_of
from hilum.core.errors import InvalidInput
from hilum.dicom.web import multipart
from hilum.dicom.web.multipart import MultipartReader
from hilum.storage.store import Store

DICOM = "application/dicom"


@pytest.fixture
def archive(sqlite_store: Store, tmp_path: Path) -> Iterator[Archive]:
    """The door over SQLite and files."""
    with open_archive(sqlite_store, tmp_path / "home") as opened:
        yield opened


def body_of(*contents: bytes, boundary: str = "bb", before: bytes = b"", part_type: str = DICOM) -> bytes:
    head = f"--{boundary}\r\nContent-Type: {part_type}\r\n\r\n".encode()
    return before + b"".join(head + content + b"\r\n" for content in contents) + f"--{boundary}--\r\n".encode()


def post(
    archive: Archive, body: Any, status: int, *, path: str = "/studies", who: str = "technologist",
    content_type: str = f'multipart/related; type="{DICOM}"; boundary=bb',
) -> requests.Response:  # fmt: skip
    return archive.ask("POST", f"/dicom-web{path}", who, status, data=body, headers={"Content-Type": content_type})


def reasons(answer: requests.Response) -> list[int]:
    return [item["00081197"]["Value"][0] for item in answer.json()["00081198"]["Value"]]


def test_instances_are_stored_and_named_with_where_they_are(archive: Archive) -> None:
    study = ct_image().StudyInstanceUID
    images = [ct_image(StudyInstanceUID=study, InstanceNumber=number) for number in (1, 2, 3)]
    answer = post(archive, body_of(*map(part10_bytes, images)), 200)
    assert answer.headers["content-type"] == "application/dicom+json"
    found = answer.json()
    assert found["00081190"]["Value"] == [f"{archive.dicomweb}/studies/{study}"]
    assert [item["00081155"]["Value"][0] for item in found["00081199"]["Value"]] == [i.SOPInstanceUID for i in images]
    assert [item["00081190"]["Value"][0] for item in found["00081199"]["Value"]] == [
        archive.dicomweb + path_of(image) for image in images
    ]
    assert "00081198" not in found
    assert archive.search()[0]["00201208"]["Value"] == [3]


def test_an_outside_client_stores_and_reads_back(archive: Archive) -> None:
    client = archive.client("technologist")
    image = pydicom.dcmread(packaged("CT_small.dcm"))
    answer = client.store_instances([image, ct_image()])
    assert len(answer.ReferencedSOPSequence) == 2
    assert client.retrieve_instance(image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID) == image


@pytest.mark.parametrize(
    "content_type",
    [f"multipart/related; type={DICOM}; boundary=bb", f'multipart/related;boundary="bb";type="{DICOM}"',
     "Multipart/Related; boundary=bb", f'multipart/related; type="{DICOM}"; boundary=bb; charset=utf-8'],
)  # fmt: skip
@pytest.mark.parametrize("before", [b"", b"\r\n", b"a preamble\r\n"])
def test_the_forms_that_clients_send_are_taken(archive: Archive, content_type: str, before: bytes) -> None:
    post(archive, body_of(part10_bytes(ct_image()), before=before), 200, content_type=content_type)


def test_the_same_instance_again_is_success_and_other_bytes_are_kept_with_a_warning(archive: Archive) -> None:
    image = ct_image()
    post(archive, body_of(part10_bytes(image)), 200)
    post(archive, body_of(part10_bytes(image)), 200)
    image.InstanceNumber = 7
    (item,) = post(archive, body_of(part10_bytes(image)), 202).json()["00081199"]["Value"]
    assert item["00081196"]["Value"] == [0xB000]
    assert archive.search("/instances")[0]["00200013"]["Value"] == [1]


def test_some_stored_and_some_not_is_said_per_instance(archive: Archive) -> None:
    good, wrong_study = ct_image(), ct_image()
    without_series = ct_image(SeriesInstanceUID=None)
    contents = [part10_bytes(wrong_study), part10_bytes(good), b"not dicom at all", part10_bytes(without_series)]
    answer = post(archive, body_of(*contents), 202, path=f"/studies/{good.StudyInstanceUID}")
    failed = answer.json()["00081198"]["Value"]
    assert reasons(answer) == [0xA900, 0xC000, 0xC000]
    assert failed[0]["00081155"]["Value"] == [wrong_study.SOPInstanceUID]
    assert "00081155" not in failed[1]
    assert [item["00081155"]["Value"][0] for item in answer.json()["00081199"]["Value"]] == [good.SOPInstanceUID]
    assert archive.uids() == {good.StudyInstanceUID}


def test_none_stored_is_a_conflict(archive: Archive) -> None:
    assert reasons(post(archive, body_of(b"junk"), 409)) == [0xC000]
    wrong = post(archive, body_of(part10_bytes(ct_image()), part_type="text/plain"), 409)
    assert reasons(wrong) == [0x0122]


@pytest.mark.parametrize(
    ("content_type", "status"),
    [("application/json", 415), (DICOM, 415), ("", 415), ("multipart/form-data; boundary=bb", 415),
     ('multipart/related; type="application/dicom+xml"; boundary=bb', 415),
     ('multipart/related; type="text/plain"; boundary=bb', 415),
     (f'multipart/related; type="{DICOM}"', 400),
     (f'multipart/related; type="{DICOM}"; boundary="{"x" * 71}"', 400),
     (f'multipart/related; type="{DICOM}"; boundary=other', 400)],
)  # fmt: skip
def test_what_is_no_store_request_is_refused(archive: Archive, content_type: str, status: int) -> None:
    answer = post(archive, body_of(part10_bytes(ct_image())), status, content_type=content_type)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "body",
    [b"", b"--bb--\r\n", b"--bb\r\n", b"--bb\r\nContent-Type: application/dicom\r\n\r\nabc",
     b"--bb\r\n" + b"X: " + b"y" * 9000, b"x" * 100_000],
    ids=["empty", "no parts", "head cut", "content cut", "endless head", "no boundary"],
)  # fmt: skip
def test_a_broken_body_is_refused_and_the_door_lives(archive: Archive, body: bytes) -> None:
    post(archive, body, 400)
    post(archive, body_of(part10_bytes(ct_image())), 200)


def test_what_came_before_a_body_breaks_off_stays_stored_and_is_said(archive: Archive) -> None:
    body = body_of(part10_bytes(ct_image()), part10_bytes(ct_image()))
    answer = post(archive, body[:-400], 202)
    assert len(answer.json()["00081199"]["Value"]) == 1 and reasons(answer) == [0xC000]


def test_a_body_of_a_gigabyte_that_never_comes_holds_nothing_up(archive: Archive) -> None:
    host, port = archive.root.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nX-Asker: technologist\r\nContent-Length: 1073741824\r\n"
            b'Content-Type: multipart/related; type="application/dicom"; boundary=bb\r\n\r\n'
            b"--bb\r\nContent-Type: application/dicom\r\n\r\n" + b"\0" * 1000
        )
        post(archive, body_of(part10_bytes(ct_image())), 200)


def test_a_large_body_is_never_held_in_memory(archive: Archive) -> None:
    large = ct_image(Rows=5000, Columns=4000, PixelData=bytes(5000 * 4000 * 2))
    content = part10_bytes(large)

    def pieces() -> Iterator[bytes]:
        yield b"--bb\r\nContent-Type: application/dicom\r\n\r\n" + content
        for _ in range(40):
            yield b"\r\n--bb\r\nContent-Type: application/dicom\r\n\r\njunk"
            yield bytes(4 << 20)
        yield b"\r\n--bb--\r\n"

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = post(archive, pieces(), 202)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert len(reasons(answer)) == 40
    assert grown < 130, f"{grown:.0f} MiB for a body of 200"
    (content_back,) = archive.client("radiologist").retrieve_series(large.StudyInstanceUID, large.SeriesInstanceUID)
    assert content_back == large


@pytest.mark.parametrize("who", ["auditor", "scheduler", "house"])
def test_who_may_not_store_is_denied_before_the_body_is_read(archive: Archive, who: str) -> None:
    post(archive, body_of(part10_bytes(ct_image())), 403, who=who)
    assert archive.search() == []


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_the_reader_gives_the_same_parts_whatever_the_pieces(size: int) -> None:
    contents = [b"", b"\r\n--b", b"--bb in the text", b"\r\n--bbx\r\n", bytes(range(256)) * 9, b"\r\n\r\n"]
    body = body_of(*contents, before=b"\r\n") + b"epilogue"
    reader = MultipartReader("bb", 1 << 20)
    parts = [part for at in range(0, len(body), size) for part in reader.feed(body[at : at + size])]
    assert [bytes(part.view()) for part in parts] == contents
    assert reader.ended and {part.content_type for part in parts} == {DICOM}


def test_a_part_without_header_fields_and_a_padded_boundary_line_are_read() -> None:
    reader = MultipartReader("bb", 100)
    parts = list(reader.feed(b"--bb  \r\n\r\nabc\r\n--bb\t\r\nX: y\r\n\r\n\r\n--bb--"))
    assert [bytes(part.view()) for part in parts] == [b"abc", b""] and reader.ended


def test_large_parts_go_to_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart, "SPILL", 1000)
    content = bytes(range(250)) * 20
    reader = MultipartReader("bb", 10_000)
    (part,) = reader.feed(body_of(content))
    view = part.view()
    assert isinstance(view, memoryview) and view == content
    view.release()
    part.close()
    with pytest.raises(InvalidInput):
        list(MultipartReader("bb", 100).feed(body_of(content)))


def test_what_was_stored_is_exactly_what_was_sent(archive: Archive) -> None:
    for name in ("JPEG2000.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm", "ExplVR_LitEndNoMeta.dcm"):
        content = packaged(name).read_bytes()
        image = pydicom.dcmread(io.BytesIO(content), force=True)
        post(archive, body_of(content), 200)
        back = archive.fetch(path_of(image), headers={"Accept": DICOM}).content
        assert back.endswith(content[-400:]), name
