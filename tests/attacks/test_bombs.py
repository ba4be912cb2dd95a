"""Small things that would unfold into large ones: archives, pixels, entities, sequences, parts."""

from __future__ import annotations

import gzip
import io
import struct
import time
import zlib
from typing import Any

import pytest
import requests
from besieged import MIB, Besieged, full_size
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.sequence import Sequence
from pydicom.uid import UID, CTImageStorage, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless, generate_uid
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE
from test_paths import part10, stow

pytestmark = [pytest.mark.xdist_group("attacks"), pytest.mark.timeout(300)]

BOMB = """<?xml version="1.0"?><!DOCTYPE a [
<!ENTITY x SYSTEM "file:///etc/passwd"><!ENTITY b "&x;&x;&x;&x;"><!ENTITY c "&b;&b;&b;&b;">]>
<NativeDicomModel>&c;</NativeDicomModel>"""
DEFLATED = UID("1.2.840.10008.1.2.1.99")


@pytest.mark.parametrize(
    "kind",
    [
        "application/xml",
        "text/xml",
        "application/fhir+xml",
        "application/dicom+xml",
        'multipart/related; type="application/dicom+xml"; boundary=x',
        "image/svg+xml",
        "application/soap+xml",
        "application/xhtml+xml",
    ],
)
def test_xml_is_taken_nowhere(target: Besieged, kind: str) -> None:
    body = BOMB if "multipart" not in kind else f"--x\r\nContent-Type: application/dicom+xml\r\n\r\n{BOMB}\r\n--x--\r\n"
    for path in (
        "/dicom-web/studies",
        "/fhir/Patient/_search",
        "/cds-services/prior-imaging-order-sign",
        "/cds-services/prior-imaging-order-sign/feedback",
    ):
        answer = target.ask("POST", path, data=body, headers={"Content-Type": kind})
        assert answer.status_code == 415, (path, answer.text)
        assert "root:" not in answer.text
    assert target.ask("PUT", "/fhir/Patient/x", data=body, headers={"Content-Type": kind}).status_code in (404, 405)
    # Given out it is, as DICOMweb has it, but nothing else of its kind.
    given = 200 if "dicom+xml" in kind else 406
    assert target.ask("GET", "/dicom-web/studies", headers={"Accept": kind}).status_code == given


def test_packed_request_bodies_are_not_unpacked(target: Besieged) -> None:
    bomb = gzip.compress(b'{"hook":"order-sign","x":"' + b"a" * 100 * MIB + b'"}')
    for encoding in ("gzip", "deflate", "br", "zstd", "gzip, gzip", "identity, gzip"):
        for path, kind in (
            ("/cds-services/prior-imaging-order-sign", "application/json"),
            ("/fhir/Patient/_search", "application/x-www-form-urlencoded"),
            ("/dicom-web/studies", 'multipart/related; type="application/dicom"; boundary=x'),
        ):
            answer = target.ask("POST", path, data=bomb, headers={"Content-Type": kind, "Content-Encoding": encoding})
            assert answer.status_code in (400, 413, 415), (path, answer.status_code)
    with requests.get(
        f"{target.http}/dicom-web/studies",
        headers={
            "Accept-Encoding": "gzip;q=1e9, *;q=0",
            "Authorization": f"Bearer {target.department.token('service')}",
        },
        timeout=30,
    ) as answer:
        assert answer.status_code == 200


def deflated(image: Dataset, padding: int) -> tuple[bytes, bytes]:
    """A group 0002, and a data set that unfolds into `padding` bytes of zeros beyond its own."""
    raw = io.BytesIO()
    target = DicomIO(raw)
    target.is_implicit_VR, target.is_little_endian = False, True
    write_dataset(target, image)
    whole = raw.getvalue()
    whole += struct.pack("<HH2sHI", 0x7FE1, 0x1010, b"OB", 0, padding)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(whole)
    for _ in range(padding // MIB):
        packed += packer.compress(bytes(MIB))
    packed += packer.flush()
    image.file_meta.TransferSyntaxUID = DEFLATED
    head = io.BytesIO()
    head.write(bytes(128) + b"DICM")
    write_file_meta_info(head, image.file_meta)
    return head.getvalue(), packed


def c_store(target: Besieged, dataset: bytes, uid: str, syntax: str) -> int | None:
    """Send bytes as they are in a C-STORE; the status, None where the syntax is not taken at all."""
    ae = AE("CT01")
    ae.add_requested_context(CTImageStorage, syntax)
    association = ae.associate("127.0.0.1", target.department.dicom_port, ae_title="HILUM")
    if not association.is_established:
        return None
    request = C_STORE()
    request.MessageID, request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = 1, CTImageStorage, uid
    request.Priority, request.DataSet = 2, io.BytesIO(dataset)
    association._reactor_checkpoint.clear()  # its own thread would take the response away
    while not association._is_paused:
        time.sleep(0.01)
    association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
    _, response = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.release()
    assert isinstance(response, C_STORE)
    return int(response.Status)


def test_a_deflated_data_set_unfolds_to_its_bound_only(target: Besieged) -> None:
    target.allowed = 400 * MIB
    image = target.department.image(target.placed)
    del image.PixelData
    head, packed = deflated(image, 500 * MIB)
    bomb = head + packed
    assert len(bomb) < 4 * MIB
    started = time.perf_counter()
    assert stow(target, bomb) in (400, 409, 413)
    assert stow(target, bomb, bomb, bomb) in (400, 409, 413)
    assert time.perf_counter() - started < 60
    status = c_store(target, packed, image.SOPInstanceUID, DEFLATED)
    assert status is None or status & 0xF000 in (0xA000, 0xC000)


def pictured(target: Besieged, syntax: str, frame: bytes, **changes: Any) -> tuple[int, list[int]]:
    """Store an image of one encapsulated frame; the status of the storing, and those of showing it."""
    image = target.department.image(target.placed, series=generate_uid())
    image.file_meta.TransferSyntaxUID = syntax
    for keyword, value in changes.items():
        setattr(image, keyword, value)
    image.PixelData = encapsulate([frame])
    image["PixelData"].is_undefined_length = True
    image["PixelData"].VR = "OB"
    stored = stow(target, part10(image))
    root = (
        f"/dicom-web/studies/{image.StudyInstanceUID}/series/{image.SeriesInstanceUID}/instances/{image.SOPInstanceUID}"
    )
    return stored, [
        target.ask("GET", root + tail).status_code
        for tail in ("/rendered", "/thumbnail", "/frames/1", "/frames/1/rendered", "/metadata")
    ]


def jpeg2000(width: int, height: int) -> bytes:
    """The head of a codestream that says how large it would be."""
    size = struct.pack(">HHHIIIIIIIIH", 0xFF51, 41, 0, width, height, 0, 0, width, height, 0, 0, 1) + b"\x07\x01\x01"
    return (
        b"\xff\x4f"
        + size
        + b"\xff\x52\x00\x0c\x00\x00\x00\x01\x00\x05\x04\x04\x00\x00"
        + b"\xff\x5c\x00\x13"
        + bytes(17)
        + b"\xff\x90\x00\x0a\x00\x00\x00\x00\x00\x00\x00\x01\xff\x93"
        + bytes(20)
        + b"\xff\xd9"
    )


def jpeg(width: int, height: int) -> bytes:
    return (
        b"\xff\xd8\xff\xc0\x00\x0b\x08"
        + struct.pack(">HH", height, width)
        + b"\x01\x01\x11\x00"
        + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
        + bytes(10)
        + b"\xff\xd9"
    )


@pytest.mark.filterwarnings("ignore")
def test_pictures_that_say_they_are_vast_are_not_unfolded(target: Besieged) -> None:
    tries = [
        (JPEG2000Lossless, jpeg2000(65535, 65535), {}),
        (JPEG2000Lossless, jpeg2000(2**31 - 1, 2**31 - 1), {}),
        (JPEG2000Lossless, jpeg2000(64, 64), {}),
        (JPEGBaseline8Bit, jpeg(65535, 65535), {}),
        (JPEGBaseline8Bit, jpeg(64, 64), {"Rows": 65535, "Columns": 65535}),
        (RLELossless, struct.pack("<16I", 15, *[64] * 15) + b"\x81\x00" * 1000, {}),
        (RLELossless, struct.pack("<16I", 2**32 - 1, *[2**32 - 1] * 15), {}),
        (
            JPEG2000Lossless,
            jpeg2000(65535, 65535),
            {"Rows": 65535, "Columns": 65535, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7},
        ),
        (JPEG2000Lossless, b"\xff\x4f", {"NumberOfFrames": "2147483647"}),
        (JPEG2000Lossless, b"\x89PNG\r\n\x1a\n" + bytes(100), {}),
    ]
    for syntax, frame, changes in tries:
        stored, shown = pictured(target, syntax, frame, **changes)
        assert stored in (200, 202, 409)
        assert all(status < 500 for status in shown), (syntax, changes, shown)
    vast = target.department.image(target.placed, series=generate_uid())
    vast.Rows = vast.Columns = 65535
    vast.NumberOfFrames = "999999999"
    assert stow(target, part10(vast)) in (200, 202, 409)
    root = f"/dicom-web/studies/{vast.StudyInstanceUID}/series/{vast.SeriesInstanceUID}/instances/{vast.SOPInstanceUID}"
    for tail in ("/rendered", "/thumbnail", "/frames/1", "/frames/999999999", "/frames/2/rendered"):
        assert target.ask("GET", root + tail).status_code < 500, tail
    page = target.person("bombs").get(f"/studies/{vast.StudyInstanceUID}")
    assert page.status_code < 500
    target.still_works()


def nested(depth: int) -> bytes:
    """ReferencedStudySequence in itself, each of undefined length."""
    begin = struct.pack("<HH2sHI", 0x0008, 0x1110, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return begin * depth + end * depth


def spliced(image: Dataset, tag: bytes, more: bytes) -> bytes:
    """The file with raw elements put before a tag."""
    raw = part10(image)
    place = raw.index(tag, 200)
    return raw[:place] + more + raw[place:]


def test_sequences_in_sequences_end_somewhere(target: Besieged) -> None:
    for depth in (10, 1000, 100_000):
        image = target.department.image(target.placed)
        started = time.perf_counter()
        assert stow(target, spliced(image, b"\x10\x00\x10\x00PN", nested(depth))) in (200, 409), depth
        assert time.perf_counter() - started < 20
    unknown = b"".join(struct.pack("<HH2sHI", 0x0009, 0x1000 + n % 0xEFFF, b"UN", 0, 0xFFFFFFFF) for n in range(5000))
    assert stow(target, spliced(target.department.image(target.placed), b"\x10\x00\x10\x00PN", unknown)) == 409


@pytest.mark.filterwarnings("ignore")
def test_countless_elements_are_refused_or_bounded(target: Besieged) -> None:
    before = target.memory()
    many = b"".join(struct.pack("<HH2sH", 0x0009, n & 0xFFFF, b"LO", 0) for n in range(0x10, 0x10000)) * 20
    items = (
        struct.pack("<HH2sHI", 0x0008, 0x1110, b"SQ", 0, 8 * 1_000_000)
        + struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 1_000_000
    )
    values = struct.pack("<HH2sHI", 0x0008, 0x2112, b"UT", 0, 60 * MIB) + b"\\" * 60 * MIB
    numbers = struct.pack("<HH2sHI", 0x0009, 0x1101, b"OB", 0, 60 * MIB) + bytes(60 * MIB)
    for more in (many, items, values, numbers):
        started = time.perf_counter()
        assert stow(target, spliced(target.department.image(target.placed), b"\x10\x00\x10\x00PN", more)) in (
            200,
            202,
            409,
        )
        assert time.perf_counter() - started < 30
    creators = Dataset()
    creators.update(target.department.image(target.placed))
    creators.file_meta = target.department.image(target.placed).file_meta
    for number in range(0x10, 0x100):
        creators.add_new((0x0009, number), "LO", "<script>alert(9)</script>"[:64])
    creators.ReferencedStudySequence = Sequence([Dataset() for _ in range(500)])
    creators.file_meta.MediaStorageSOPInstanceUID = creators.SOPInstanceUID
    assert stow(target, part10(creators)) in (200, 202, 409)
    assert target.memory() - before < 500 * MIB
    target.still_works()


@pytest.mark.filterwarnings("ignore")
def test_wrong_character_sets_and_values_are_kept_as_text(target: Besieged) -> None:
    for charset in (
        "ISO_IR 999",
        "\\ISO 2022 IR 87\\ISO 2022 IR 149\\x",
        "utf-16",
        "../../x",
        "ISO_IR 192\\" * 500,
        "GBK",
        "\x00",
        "unicode_escape",
        "idna",
        "rot13",
        "zlib",
    ):
        image = target.department.image(target.placed)
        raw = (
            part10(image)
            .replace(b"ISO_IR 192", charset.encode("latin-1")[:10].ljust(10), 1)
            .replace(b"Doe^Jane", b"\x1b$B\xff\xfe\x00\x1b\\")
        )
        assert stow(target, raw) in (200, 202, 409), charset
    for keyword, value in (
        ("InstanceNumber", "9" * 12),
        ("Rows", 0),
        ("WindowCenter", "1e400"),
        ("StudyDate", "99999999"),
        ("StudyTime", "999999"),
        ("PatientBirthDate", "00000000"),
        ("RescaleSlope", "0"),
        ("WindowWidth", "-1e308"),
        ("NumberOfFrames", "-1"),
        ("PixelSpacing", "nan\\nan"),
        ("SeriesNumber", "-99999999999"),
        ("PatientName", "^" * 60),
        ("Modality", "x" * 16),
        ("AccessionNumber", "' OR 1=1"),
    ):
        image = target.department.image(target.placed, series=generate_uid())
        try:
            setattr(image, keyword, value)
            raw = part10(image)
        except Exception:
            continue
        assert stow(target, raw) in (200, 202, 409), (keyword, value)
        root = f"/dicom-web/studies/{image.StudyInstanceUID}/series/{image.SeriesInstanceUID}"
        for tail in ("/metadata", "/rendered", "/thumbnail", "/instances"):
            assert target.ask("GET", root + tail).status_code < 500, (keyword, tail)
    for path in ("/", "/exceptions", f"/studies/{target.placed.study_uid}"):
        assert target.person("bombs").get(path).status_code < 500


@pytest.mark.soak
def test_countless_and_broken_parts_are_bounded(target: Besieged) -> None:
    before = target.memory()
    times = 1 if full_size() else 4
    kind = 'multipart/related; type="application/dicom"; boundary=x'
    bodies = [
        b"--x\r\n\r\n\r\n" * (120_000 // times) + b"--x--",
        b"--x\r\n" + b"A: b\r\n" * (100_000 // times),
        b"--x\r\nContent-Type: application/dicom\r\n\r\n" + b"\r\n--" * (1_000_000 // times),
        b"x" * MIB,
        b"--x" + b" " * MIB,
        b"--x\r\n\r\n" + b"\r\n--y" * (MIB // times),
        b"--x\r\n\r\n",
        b"--x--",
        b"",
        b"\r\n" * MIB,
    ]
    for body in bodies:
        started = time.perf_counter()
        answer = target.ask("POST", "/dicom-web/studies", data=body, headers={"Content-Type": kind})
        assert answer.status_code in (400, 409, 413, 415), (body[:20], answer.status_code)
        assert time.perf_counter() - started < 60, body[:20]
    for boundary in ("", "x" * 71, '"', "\xe9", "x y ", "a;b", "(" * 70):
        answer = target.ask(
            "POST",
            "/dicom-web/studies",
            data=b"--x--",
            headers={
                "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}'.encode("latin-1")
            },
        )
        assert answer.status_code in (400, 415), boundary
    assert target.memory() - before < 250 * MIB
