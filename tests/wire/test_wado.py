"""WADO-RS as viewers and scripts ask it: bytes as received, truth over metadata, frames, rendered images, bulk data."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pydicom
import pytest
import requests
import sqlalchemy as sa
from PIL import Image

from fixtures.dicom_files import ct_image, packaged, part10_bytes
from fixtures.dicomweb_server import JSON, Archive, counted_statements, open_archive, path_of
from fixtures.fhir_server import WILSON
from hilum.storage import tables
from hilum.storage.store import Store

EXPLICIT = "1.2.840.10008.1.2.1"
AS_STORED = {"Accept": "multipart/related; type=application/octet-stream; transfer-syntax=*"}
INSTANCES = 'multipart/related; type="application/dicom"'


@pytest.fixture
def archive(sqlite_store: Store, tmp_path: Path) -> Iterator[Archive]:
    """The door over SQLite and files."""
    with open_archive(sqlite_store, tmp_path / "home") as opened:
        yield opened


def parts_of(answer: requests.Response) -> list[tuple[str, bytes]]:
    """Content type and content of each part, read strictly."""
    boundary = re.search(r'boundary="?([^";]+)', answer.headers["content-type"])[1].encode()
    assert answer.content.startswith(b"--" + boundary + b"\r\n")
    assert answer.content.endswith(b"\r\n--" + boundary + b"--\r\n")
    parts = []
    for chunk in answer.content[len(boundary) + 4 : -(len(boundary) + 8)].split(b"\r\n--" + boundary + b"\r\n"):
        head, _, content = chunk.partition(b"\r\n\r\n")
        parts.append((re.search(rb"(?i)content-type: ([^\r]+)", head)[1].decode(), content))
    return parts


def stored(archive: Archive, name: str) -> pydicom.Dataset:
    """Store one of pydicom's files."""
    content = packaged(name).read_bytes()
    archive.keep(content)
    return pydicom.dcmread(io.BytesIO(content))


def test_an_instance_comes_back_with_its_data_set_as_received(archive: Archive) -> None:
    image = stored(archive, "CT_small.dcm")
    received = packaged("CT_small.dcm").read_bytes()
    answer = archive.fetch(path_of(image), headers={"Accept": INSTANCES})
    ((content_type, content),) = parts_of(answer)
    assert content_type == f"application/dicom; transfer-syntax={EXPLICIT}"
    assert content.endswith(received[-30000:])
    assert pydicom.dcmread(io.BytesIO(content)) == image
    assert answer.headers["content-length"] == str(len(answer.content))
    single = archive.fetch(path_of(image), headers={"Accept": "application/dicom"})
    assert single.content == content and single.headers["content-type"] == content_type


def test_a_series_and_a_study_are_sent_whole_and_in_order(archive: Archive) -> None:
    first = archive.scan(InstanceNumber=2)
    series = {"StudyInstanceUID": first.StudyInstanceUID, "SeriesInstanceUID": first.SeriesInstanceUID}
    archive.scan(**series, InstanceNumber=1)
    archive.scan(StudyInstanceUID=first.StudyInstanceUID, SeriesNumber=9)
    got = [pydicom.dcmread(io.BytesIO(content)) for _, content in parts_of(archive.fetch(path_of(first, "series")))]
    assert [each.InstanceNumber for each in got] == [1, 2]
    assert len(parts_of(archive.fetch(path_of(first, "study")))) == 3
    client = archive.client()
    assert client.retrieve_instance(first.StudyInstanceUID, first.SeriesInstanceUID, first.SOPInstanceUID) == first
    assert len(client.retrieve_series(first.StudyInstanceUID, first.SeriesInstanceUID)) == 2


@pytest.mark.parametrize(
    ("name", "photometric"),
    [("MR_small_implicit.dcm", "MONOCHROME2"), ("MR_small_bigendian.dcm", "MONOCHROME2"),
     ("JPEG2000.dcm", "MONOCHROME2"), ("MR_small_RLE.dcm", "MONOCHROME2"), ("SC_rgb_jpeg_dcmtk.dcm", "RGB"),
     ("MR_small_jpeg_ls_lossless.dcm", "MONOCHROME2"), ("rtdose_rle.dcm", "MONOCHROME2"),
     ("image_dfl.dcm", "MONOCHROME2")],
)  # fmt: skip
def test_an_instance_is_rewritten_in_explicit_little_endian_on_wish(
    archive: Archive, name: str, photometric: str
) -> None:
    image = stored(archive, name)
    answer = archive.fetch(path_of(image), headers={"Accept": f"{INSTANCES}; transfer-syntax={EXPLICIT}"})
    ((content_type, content),) = parts_of(answer)
    assert content_type.endswith(EXPLICIT)
    rewritten = pydicom.dcmread(io.BytesIO(content))
    assert rewritten.file_meta.TransferSyntaxUID == EXPLICIT
    assert rewritten.PhotometricInterpretation == photometric
    assert rewritten.get("PatientName") == image.get("PatientName")
    if name != "SC_rgb_jpeg_dcmtk.dcm":
        assert np.array_equal(rewritten.pixel_array, image.pixel_array)


def test_another_transfer_syntax_is_not_acceptable_but_a_second_choice_is(archive: Archive) -> None:
    image = archive.scan()
    wish = f"{INSTANCES}; transfer-syntax=1.2.840.10008.1.2.4.102"
    refused = archive.fetch(path_of(image), status=406, headers={"Accept": wish})
    assert refused.headers["content-type"] == "application/problem+json"
    archive.fetch(path_of(image), headers={"Accept": f"{wish}, {INSTANCES}; transfer-syntax=*;q=0.5"})
    archive.fetch(path_of(image), status=406, headers={"Accept": "image/jpeg"})


def test_metadata_is_complete_linked_and_compressed(archive: Archive) -> None:
    image = stored(archive, "CT_small.dcm")
    answer = archive.fetch(f"{path_of(image, 'series')}/metadata", headers=JSON)
    assert answer.headers["content-type"] == "application/dicom+json"
    assert answer.headers["content-encoding"] == "gzip"
    (found,) = answer.json()
    assert found["00280010"]["Value"] == [128]
    assert found["7FE00010"]["BulkDataURI"] == f"{archive.dicomweb}{path_of(image)}/bulkdata/pixeldata"
    plain = archive.fetch(f"{path_of(image)}/metadata", headers={**JSON, "Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers and plain.json() == [found]


def test_metadata_carries_the_truth_and_its_etag_follows_it(archive: Archive) -> None:
    archive.register("100", "Duvall", "Ann")
    archive.register("200", "New", "Name")
    order = archive.place("100")
    image = archive.scan(order, PatientID="100", PatientName="Duvall^Anne", AccessionNumber="")
    path = f"{path_of(image)}/metadata"
    answer = archive.fetch(path, headers=JSON)
    (found,) = answer.json()
    assert found["00100010"]["Value"] == [{"Alphabetic": "Duvall^Ann"}]
    assert found["00080050"]["Value"] == [order.accession_number]
    etag = answer.headers["etag"]
    archive.fetch(path, status=304, headers={**JSON, "If-None-Match": f'"other", {etag}'})
    archive.merge("200", "100")
    answer = archive.fetch(path, headers={**JSON, "If-None-Match": etag})
    assert answer.json()[0]["00100020"]["Value"] == ["200"] and answer.headers["etag"] != etag
    ((_, content),) = parts_of(archive.fetch(path_of(image)))
    assert pydicom.dcmread(io.BytesIO(content)).PatientID == "200", "the bytes say the same"


def test_frames_come_as_stored_and_say_their_transfer_syntax(archive: Archive) -> None:
    image = stored(archive, "MR_small_jpeg_ls_lossless.dcm")
    for accept in (AS_STORED["Accept"], 'multipart/related; type="application/octet-stream"; transfer-syntax="*"'):
        ((content_type, frame),) = parts_of(archive.fetch(f"{path_of(image)}/frames/1", headers={"Accept": accept}))
        assert content_type == "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.4.80"
        assert frame.startswith(b"\xff\xd8") and frame.rstrip(b"\0").endswith(b"\xff\xd9")
    jls = archive.fetch(f"{path_of(image)}/frames/1", headers={"Accept": "multipart/related; type=image/jls"})
    assert parts_of(jls) == [("image/jls; transfer-syntax=1.2.840.10008.1.2.4.80", frame)]
    assert parts_of(archive.fetch(f"{path_of(image)}/frames/1", headers={"Accept": "*/*"}))[0][1] == frame
    alone = archive.fetch(f"{path_of(image)}/frames/1", headers={"Accept": "image/jls"})
    assert alone.content == frame and alone.headers["content-type"].startswith("image/jls")
    archive.fetch(f"{path_of(image)}/frames/1", status=406, headers={"Accept": "multipart/related; type=image/jxl"})


LOSSLESS = {
    "1.2.840.10008.1.2.5": "image/dicom-rle",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
}


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_instances_and_frames_are_made_in_the_lossless_syntax_that_is_asked_for(archive: Archive, syntax: str) -> None:
    image = stored(archive, "examples_jpeg2k.dcm" if syntax == "1.2.840.10008.1.2.5" else "MR_small_bigendian.dcm")
    answer = archive.fetch(path_of(image), headers={"Accept": f"{INSTANCES}; transfer-syntax={syntax}"})
    ((content_type, content),) = parts_of(answer)
    assert content_type == f"application/dicom; transfer-syntax={syntax}"
    made = pydicom.dcmread(io.BytesIO(content))
    assert (made.file_meta.TransferSyntaxUID, made.SOPInstanceUID) == (syntax, image.SOPInstanceUID)
    assert np.array_equal(made.pixel_array, image.pixel_array)
    single = archive.fetch(path_of(image), headers={"Accept": f"application/dicom; transfer-syntax={syntax}"})
    assert single.content == content
    wish = f"multipart/related; type={LOSSLESS[syntax]}; transfer-syntax={syntax}"
    ((frame_type, frame),) = parts_of(archive.fetch(f"{path_of(image)}/frames/1", headers={"Accept": wish}))
    assert frame_type == f"{LOSSLESS[syntax]}; transfer-syntax={syntax}"
    assert frame in content


def test_of_a_study_what_can_not_be_made_is_left_out_and_said_so(archive: Archive) -> None:
    image = stored(archive, "CT_small.dcm")
    document = archive.scan(StudyInstanceUID=image.StudyInstanceUID, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11",
                            SOPInstanceUID="1.2.3.88", PatientID=image.PatientID, PatientName=image.PatientName,
                            PixelData=None)  # fmt: skip
    wish = {"Accept": f"{INSTANCES}; transfer-syntax=1.2.840.10008.1.2.4.80"}
    answer = archive.fetch(path_of(image, "study"), status=206, headers=wish)
    assert [pydicom.dcmread(io.BytesIO(content)).SOPInstanceUID for _, content in parts_of(answer)] == [
        image.SOPInstanceUID
    ]
    archive.fetch(path_of(document), status=406, headers=wish)


def test_baseline_jpeg_is_made_on_explicit_wish_only_and_is_another_instance(archive: Archive) -> None:
    image = stored(archive, "examples_rgb_color.dcm")
    baseline = "1.2.840.10008.1.2.4.50"
    answer = archive.fetch(path_of(image), headers={"Accept": f"{INSTANCES}; transfer-syntax={baseline}"})
    made = pydicom.dcmread(io.BytesIO(parts_of(answer)[0][1]))
    assert (made.LossyImageCompression, made.LossyImageCompressionMethod) == ("01", "ISO_10918_1")
    assert made.SOPInstanceUID != image.SOPInstanceUID
    frame = f"multipart/related; type=image/jpeg; transfer-syntax={baseline}"
    ((kind, _),) = parts_of(archive.fetch(f"{path_of(image)}/frames/1", headers={"Accept": frame}))
    assert kind == f"image/jpeg; transfer-syntax={baseline}"
    by_default = {"Accept": "multipart/related; type=image/jpeg"}  # means JPEG Lossless
    ((kind, _),) = parts_of(archive.fetch(f"{path_of(image)}/frames/1", headers=by_default))
    assert kind == "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.70"
    archive.fetch(f"{path_of(image)}/frames/1", status=406, headers={"Accept": "multipart/related; type=image/*"})
    grey = stored(archive, "MR_small_implicit.dcm")  # 16 bits
    archive.fetch(path_of(grey), status=406, headers={"Accept": f"{INSTANCES}; transfer-syntax={baseline}"})


def test_several_frames_come_in_the_order_they_are_asked_for(archive: Archive) -> None:
    image = stored(archive, "rtdose_rle.dcm")
    accept = {"Accept": 'multipart/related; type="application/octet-stream"'}
    parts = parts_of(archive.fetch(f"{path_of(image)}/frames/15,1,7", headers=accept))
    assert {content_type for content_type, _ in parts} == {f"application/octet-stream; transfer-syntax={EXPLICIT}"}
    for number, (_, frame) in zip((15, 1, 7), parts, strict=True):
        assert np.array_equal(np.frombuffer(frame, "<u4").reshape(10, 10), image.pixel_array[number - 1])
    rle = parts_of(archive.fetch(f"{path_of(image)}/frames/1,2", headers={"Accept": "multipart/related; type=image/*"}))
    assert [content_type for content_type, _ in rle] == ["image/dicom-rle; transfer-syntax=1.2.840.10008.1.2.5"] * 2


def test_big_endian_frames_are_turned_around(archive: Archive) -> None:
    big = stored(archive, "MR_small_bigendian.dcm")
    ((_, frame),) = parts_of(archive.fetch(f"{path_of(big)}/frames/1", headers=AS_STORED))
    assert np.array_equal(np.frombuffer(frame, "<i2").reshape(big.Rows, big.Columns), big.pixel_array)
    client = archive.client()
    (frame,) = client.retrieve_instance_frames(big.StudyInstanceUID, big.SeriesInstanceUID, big.SOPInstanceUID, [1])
    assert frame == big.pixel_array.astype("<i2").tobytes()


@pytest.mark.parametrize(("frames", "status"), [("0", 400), ("a", 400), ("1,,2", 400), ("2", 404), ("99999999", 400)])
def test_frames_that_are_not_there_are_refused(archive: Archive, frames: str, status: int) -> None:
    image = archive.scan()
    archive.fetch(f"{path_of(image)}/frames/{frames}", status=status, headers=AS_STORED)


def picture(answer: requests.Response) -> Image.Image:
    return Image.open(io.BytesIO(answer.content))


@pytest.mark.parametrize(
    ("name", "mode", "size"),
    [("CT_small.dcm", "L", (128, 128)), ("SC_rgb_jpeg_dcmtk.dcm", "RGB", (100, 100)),
     ("rtdose.dcm", "L", (10, 10)), ("examples_palette.dcm", "RGB", (800, 350))],
)  # fmt: skip
def test_images_are_rendered_as_png_and_jpeg(archive: Archive, name: str, mode: str, size: tuple[int, int]) -> None:
    image = stored(archive, name)
    png = archive.fetch(f"{path_of(image)}/rendered", headers={"Accept": "image/png"})
    assert png.headers["content-type"] == "image/png"
    assert (picture(png).mode, picture(png).size) == (mode, size)
    assert np.asarray(picture(png)).std() > 5, "there is something to see"
    jpeg = archive.fetch(f"{path_of(image)}/rendered?accept=image/jpeg")
    assert jpeg.headers["content-type"] == "image/jpeg" and picture(jpeg).format == "JPEG"


def test_window_viewport_and_quality_are_obeyed(archive: Archive) -> None:
    image = stored(archive, "CT_small.dcm")
    rendered = f"{path_of(image)}/rendered?accept=image/png"
    wide = np.asarray(picture(archive.fetch(f"{rendered}&window=0,4000,linear")))
    narrow = np.asarray(picture(archive.fetch(f"{rendered}&window=0,1,linear")))
    assert set(np.unique(narrow)) <= {0, 255} and len(np.unique(wide)) > 50
    assert picture(archive.fetch(f"{rendered}&viewport=64,32")).size == (32, 32)
    small = archive.fetch(f"{path_of(image)}/rendered?quality=10")
    assert len(small.content) < len(archive.fetch(f"{path_of(image)}/rendered?quality=95").content)
    for wrong in ("window=1", "window=0,0,linear", "window=0,1,gamma", "window=nan,1", "viewport=0,5",
                  "viewport=99999,1", "viewport=a,b", "quality=0", "quality=101"):  # fmt: skip
        archive.fetch(f"{rendered}&{wrong}", status=400)


def test_each_frame_is_rendered_and_kept_by_the_browser(archive: Archive) -> None:
    image = stored(archive, "rtdose.dcm")
    answers = [archive.fetch(f"{path_of(image)}/frames/{number}/rendered") for number in (1, 8)]
    assert answers[0].content != answers[1].content
    assert answers[0].headers["cache-control"].startswith("private, max-age=")
    held = {"If-None-Match": answers[0].headers["etag"]}
    archive.fetch(f"{path_of(image)}/frames/1/rendered", status=304, headers=held)
    archive.fetch(f"{path_of(image)}/frames/2/rendered", headers=held)
    archive.fetch(f"{path_of(image)}/frames/16/rendered", status=404)
    archive.fetch(f"{path_of(image)}/rendered", status=406, headers={"Accept": "image/gif"})


def test_thumbnails_stand_for_study_series_and_instance(archive: Archive) -> None:
    image = stored(archive, "rtdose.dcm")
    for level in ("study", "series", "instance"):
        small = picture(archive.fetch(f"{path_of(image, level)}/thumbnail"))
        assert small.format == "JPEG" and max(small.size) == 256
    assert picture(archive.fetch(f"{path_of(image, 'series')}/rendered")).size == (10, 10)


def encapsulated_pdf(document: bytes) -> pydicom.FileDataset:
    image = ct_image(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1", Modality="DOC", Rows=None, Columns=None, PixelData=None,
        SamplesPerPixel=None, BitsAllocated=None, BitsStored=None, HighBit=None, PixelRepresentation=None,
        PhotometricInterpretation=None, MIMETypeOfEncapsulatedDocument="application/pdf",
    )  # fmt: skip
    image.EncapsulatedDocumentLength = len(document)
    image.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    return image


def test_a_document_is_shown_as_pdf_and_what_has_no_picture_is_refused(archive: Archive) -> None:
    for document in (b"%PDF-1.4 tiny", b"%PDF-1.4 " + b"x" * 5000):
        image = encapsulated_pdf(document)
        archive.keep(part10_bytes(image))
        answer = archive.fetch(f"{path_of(image)}/rendered", headers={"Accept": "text/html,*/*;q=0.8"})
        assert answer.headers["content-type"] == "application/pdf" and answer.content == document
    archive.fetch(f"{path_of(image)}/thumbnail", status=406)
    archive.fetch(f"{path_of(image, 'series')}/thumbnail", status=404)


def test_bulk_data_is_sent_as_the_metadata_names_it_also_in_ranges(archive: Archive) -> None:
    image = stored(archive, "examples_palette.dcm")
    (found,) = archive.fetch(f"{path_of(image)}/metadata", headers=JSON).json()
    uri = found["00281201"].get("BulkDataURI")
    if uri is None:  # small palettes stand in the metadata itself
        document = encapsulated_pdf(b"%PDF" + bytes(range(256)) * 8)
        archive.keep(part10_bytes(document))
        (found,) = archive.fetch(f"{path_of(document)}/metadata", headers=JSON).json()
        uri, expected = found["00420011"]["BulkDataURI"], document.EncapsulatedDocument
    else:
        expected = image.RedPaletteColorLookupTableData
    path = uri.removeprefix(archive.dicomweb)
    assert archive.fetch(path).content == expected
    part = archive.fetch(path, status=206, headers={"Range": "bytes=10-19"})
    assert part.content == expected[10:20]
    assert part.headers["content-range"] == f"bytes 10-19/{len(expected)}"
    assert archive.fetch(path, status=206, headers={"Range": "bytes=-4"}).content == expected[-4:]
    archive.fetch(path, status=416, headers={"Range": "bytes=9999999-"})
    multipart = archive.fetch(path, headers={"Accept": "multipart/related; type=application/octet-stream"})
    assert parts_of(multipart)[0][1] == expected
    assert archive.client().retrieve_bulkdata(uri)[0] == expected
    for wrong in ("bulkdata/0/999999999", "bulkdata/1/2", "bulkdata/-1/5", "bulkdata/..%2f..%2fmetadata", "bulkdata/x"):
        archive.fetch(f"{path.partition('/bulkdata/')[0]}/{wrong}", status=404)


def test_pixel_data_by_its_uri_is_all_frames(archive: Archive) -> None:
    image = stored(archive, "rtdose.dcm")
    parts = parts_of(archive.fetch(f"{path_of(image)}/bulkdata/pixeldata", headers=AS_STORED))
    assert b"".join(content for _, content in parts) == image.PixelData


@pytest.mark.parametrize("who", ["auditor", "scheduler"])
@pytest.mark.parametrize("what", ["", "/metadata", "/frames/1", "/rendered", "/thumbnail", "/bulkdata/pixeldata"])
def test_a_role_without_images_is_denied_everything(archive: Archive, who: str, what: str) -> None:
    image = archive.scan()
    archive.fetch(path_of(image) + what, who, status=403)


def test_a_referring_physician_opens_only_their_patients_and_the_attempt_leaves_a_trace(archive: Archive) -> None:
    archive.register("100")
    archive.register("200", "Roe", "Richard")
    mine = archive.scan(archive.place("100"), PatientID="100")
    theirs = archive.scan(archive.place("200", ordering_physician=WILSON), PatientID="200", PatientName="Roe^Richard")
    nobodys = archive.scan(PatientID="unknown", PatientName="No^Body")
    for what in ("", "/metadata", "/frames/1", "/rendered", "/thumbnail", "/bulkdata/pixeldata"):
        archive.fetch(path_of(mine) + what, "house")
        archive.fetch(path_of(theirs) + what, "house", status=404)
        archive.fetch(path_of(nobodys) + what, "house", status=404)
    with archive.store.read() as db:
        audit = tables.audit_event.c
        rows = db.execute(sa.select(audit.outcome, audit.actor).where(audit.actor == "house")).all()
    assert {row.outcome for row in rows} == {"allowed", "refused"}, "refused attempts are audited besides the reads"


def test_a_read_is_audited_once_and_begins_the_radiologists_reading(archive: Archive) -> None:
    archive.register("100")
    order = archive.place("100")
    image = archive.scan(order, PatientID="100", AccessionNumber="")
    for _ in range(3):
        archive.fetch(f"{path_of(image)}/frames/1")
    with archive.store.read() as db:
        where = tables.event.c.name == "ReadingStarted"
        assert len(db.execute(sa.select(tables.event).where(where)).all()) == 1
        where = (tables.audit_event.c.action == "read-images") & (tables.audit_event.c.actor == "rad1")
        (row,) = db.execute(sa.select(tables.audit_event).where(where)).all()
    assert row.study_id is not None and row.order_id == order.id


def test_what_is_withheld_or_beside_is_never_sent(archive: Archive) -> None:
    image = archive.scan()
    hidden = archive.scan(StudyInstanceUID=image.StudyInstanceUID)
    other = ct_image(**{k: image[k].value for k in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")},
                     InstanceNumber=9)  # fmt: skip
    archive.keep(part10_bytes(other))
    with archive.store.engine.begin() as db:
        where = tables.series.c.series_instance_uid == hidden.SeriesInstanceUID
        db.execute(sa.update(tables.series).where(where).values(withheld=True))
    archive.fetch(path_of(hidden), status=404)
    archive.fetch(f"{path_of(hidden)}/rendered", status=404)
    ((_, content),) = parts_of(archive.fetch(path_of(image, "study")))
    assert pydicom.dcmread(io.BytesIO(content)).InstanceNumber == 1


@pytest.mark.parametrize(
    ("path", "status"),
    [("/studies/1.2.3", 404), ("/studies/..%2F..%2Fetc", 404), ("/studies/%2e%2e", 400), ("/studies/1.2.3'", 400),
     ("/studies/" + "1" * 65, 400), ("/studies/1.2/series/1%20OR%201/metadata", 404), ("/studies/1.2%00", 400)],
)  # fmt: skip
def test_uids_that_are_none_are_refused(archive: Archive, path: str, status: int) -> None:
    archive.scan()
    answer = archive.fetch(path, status=status)
    assert b"Traceback" not in answer.content


def test_a_large_series_is_streamed_and_costs_few_statements(archive: Archive) -> None:
    first = archive.scan(PixelData=bytes(128), InstanceNumber=1)
    series = {"StudyInstanceUID": first.StudyInstanceUID, "SeriesInstanceUID": first.SeriesInstanceUID}
    for number in range(2, 121):
        archive.scan(**series, InstanceNumber=number)
    archive.fetch(path_of(first, "series"))
    with counted_statements(archive.store) as sent:
        answer = archive.fetch(path_of(first, "series"))
    assert len(parts_of(answer)) == 120
    assert answer.headers["content-length"] == str(len(answer.content))
    assert len([each for each in sent if each.startswith("SELECT")]) <= 3
    with counted_statements(archive.store) as sent:
        metadata: list[Any] = archive.fetch(f"{path_of(first, 'series')}/metadata", headers=JSON).json()
    assert [each["00200013"]["Value"][0] for each in metadata] == list(range(1, 121))
    assert len([each for each in sent if each.startswith("SELECT")]) <= 5


def test_the_door_describes_itself_and_head_sends_no_body(archive: Archive) -> None:
    image = archive.scan()
    described = archive.fetch("", headers={"Accept": "application/json"}).json()
    resources = {each["name"]: each for each in described["resources"]}
    assert resources["RetrieveStudyMetadata"]["path"] == "/studies/{study}/metadata"
    assert "PatientName" in resources["SearchForStudies"]["parameters"]
    assert "Modality" in resources["SearchForStudySeriesInstances"]["parameters"]
    assert "viewport" in resources["RetrieveRenderedInstance"]["parameters"]
    assert 'multipart/related; type="application/dicom+json"' in resources["StoreInstances"]["accepts"]
    wadl = archive.ask("OPTIONS", "/dicom-web/", "radiologist")
    assert wadl.headers["content-type"].startswith("application/vnd.sun.wadl+xml") and b"RetrieveFrames" in wadl.content
    space = {"w": "http://wadl.dev.java.net/2009/02"}
    methods = ElementTree.fromstring(wadl.content).findall(".//w:method", space)
    searching = next(each for each in methods if each.get("id") == "SearchForStudies")
    assert "limit" in {each.get("name") for each in searching.findall("w:request/w:param", space)}
    for each in methods:
        assert each.findall("w:response/w:representation", space) or each.get("name") == "DELETE"
    head = archive.ask("HEAD", f"/dicom-web{path_of(image)}", "radiologist")
    assert head.content == b"" and int(head.headers["content-length"]) > 1000
