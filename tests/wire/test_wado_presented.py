"""WADO-RS rendered of what is no image: documents, video, reports, waveforms; and the wishes of an address."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

from fixtures.dicom_files import ct_image, packaged, part10_bytes
from fixtures.dicomweb_server import Archive, open_archive, path_of
from hilum.archive.waveform import first_group
from hilum.archive.waveform_layout import lay_out
from hilum.core.errors import InvalidInput, Unsupported
from hilum.storage.store import Store

NO_PIXELS = dict.fromkeys(
    ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
     "PhotometricInterpretation", "PixelData")
)  # fmt: skip
SVG = "{http://www.w3.org/2000/svg}"
ATTACK = '<script>alert(1)</script><img src=x onerror=alert(1)>"\'><a href="javascript:alert(1)">'


@pytest.fixture
def archive(sqlite_store: Store, tmp_path: Path) -> Iterator[Archive]:
    """The door over SQLite and files."""
    with open_archive(sqlite_store, tmp_path / "home") as opened:
        yield opened


def kept(archive: Archive, image: FileDataset) -> FileDataset:
    archive.keep(part10_bytes(image))
    return image


def from_package(archive: Archive, name: str) -> pydicom.Dataset:
    content = packaged(name).read_bytes()
    archive.keep(content)
    return pydicom.dcmread(io.BytesIO(content))


def code(value: str, meaning: str, scheme: str = "DCM") -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return Sequence([item])


def content(kind: str, name: str, **values: Any) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", kind
    item.ConceptNameCodeSequence = code("1", name)
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def report(*items: Dataset, **attributes: Any) -> FileDataset:
    document = ct_image(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", Modality="SR", **NO_PIXELS, ValueType="CONTAINER",
        ConceptNameCodeSequence=code("126000", "Imaging Report"), CompletionFlag="COMPLETE",
        VerificationFlag="UNVERIFIED", **attributes,
    )  # fmt: skip
    document.ContentSequence = Sequence(items)
    return document


class Tags(HTMLParser):
    """What tags and links a page has, and whether each is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.links: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.links += [value or "" for name, value in attributes if name == "href"]
        assert not any(name.startswith("on") for name, _ in attributes)
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_report_is_a_page_of_nested_lists_with_codes_and_numbers(archive: Archive) -> None:
    image = from_package(archive, "test-SR.dcm")
    answer = archive.fetch(f"{path_of(image)}/rendered", headers={"Accept": "text/html,*/*;q=0.8"})
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page = Tags(answer.text)
    assert page.open == [] and {"html", "h1", "ul", "li", "dl"} <= page.seen and "script" not in page.seen
    for said in ("Diagnosis", "Riesmeier, Jörg", "3 cm", "Sample Code 1", "(2222, 99_OFFIS_DCMTK)", "2000-12-06",
                 'lang="en"', "complete, verified", "Not verified: no order"):  # fmt: skip
        assert said in answer.text, said
    assert page.links.count("#item-1.3.2") == 1 and 'id="item-1.3.2"' in answer.text
    archive.fetch(f"{path_of(image)}/rendered", status=406, headers={"Accept": "image/jpeg"})
    archive.fetch(f"{path_of(image)}/frames/1/rendered", status=406)
    archive.fetch(f"{path_of(image)}/thumbnail", status=406)


def test_a_report_links_what_its_evidence_names_and_nothing_else(archive: Archive) -> None:
    image = archive.scan()
    named, stranger = Dataset(), Dataset()
    named.ReferencedSOPClassUID, named.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    named.ReferencedFrameNumber = 1
    stranger.ReferencedSOPClassUID, stranger.ReferencedSOPInstanceUID = image.SOPClassUID, generate_uid()
    series, study = Dataset(), Dataset()
    series.SeriesInstanceUID, series.ReferencedSOPSequence = image.SeriesInstanceUID, Sequence([named])
    study.StudyInstanceUID, study.ReferencedSeriesSequence = image.StudyInstanceUID, Sequence([series])
    document = kept(
        archive,
        report(
            content("IMAGE", "Key image", ReferencedSOPSequence=Sequence([named])),
            content("IMAGE", "Elsewhere", ReferencedSOPSequence=Sequence([stranger])),
            CurrentRequestedProcedureEvidenceSequence=Sequence([study]),
        ),
    )
    links = Tags(archive.fetch(f"{path_of(document)}/rendered").text).links
    assert links == [f"{archive.dicomweb}{path_of(image)}/frames/1/rendered"]
    archive.fetch(links[0].removeprefix(archive.dicomweb))


def test_nothing_in_a_report_becomes_a_tag_or_a_link(archive: Archive) -> None:
    measured = Dataset()
    measured.NumericValue, measured.MeasurementUnitsCodeSequence = "1.5", code(ATTACK[:16], ATTACK[:64])
    document = report(
        content("TEXT", ATTACK[:60], TextValue=ATTACK * 3),
        content("PNAME", "Name", PersonName="<b>^&"),
        content("NUM", "Size", MeasuredValueSequence=Sequence([measured])),
        content("CODE", "Finding", ConceptCodeSequence=code('"><svg', "<svg onload=x>")),
        content("CONTAINER", "<h1>", ContentSequence=Sequence([content("UIDREF", "u", UID="1.2.3")])),
        content("<NEW>", "what a later edition brings"),
        StudyDescription="</title><script>x</script>", PatientID="<i>",
    )  # fmt: skip
    page = Tags(archive.fetch(f"{path_of(kept(archive, document))}/rendered").text)
    assert page.open == [] and page.links == []
    assert page.seen <= {"html", "head", "meta", "title", "style", "body", "main", "p", "h1", "h2", "dl", "dt", "dd",
                         "ul", "li", "span"}  # fmt: skip


def test_a_report_shows_the_truth_and_is_asked_for_again(archive: Archive) -> None:
    archive.register("100", "Duvall", "Ann")
    study = archive.place("100").study_instance_uid
    document = kept(archive, report(PatientID="100", PatientName="Duval^Anne", StudyInstanceUID=study))
    path = f"{path_of(document)}/rendered"
    before = archive.fetch(path)
    assert before.headers["cache-control"] == "private, no-cache"
    archive.fetch(path, status=304, headers={"If-None-Match": before.headers["etag"]})
    archive.register("200", "New", "Name")
    archive.merge("200", "100")
    after = archive.fetch(path, headers={"If-None-Match": before.headers["etag"]})
    assert "New, Name" in after.text and "Duval, Anne" not in after.text


def test_a_report_with_more_than_a_page_holds_says_so(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hilum.archive.sr_html.MAX_ITEMS", 3)
    document = kept(archive, report(*(content("TEXT", "Finding", TextValue=f"no. {n}") for n in range(8))))
    page = archive.fetch(f"{path_of(document)}/rendered").text
    assert "5 more items of this document are not shown here" in page and "no. 2" in page and "no. 3" not in page


def test_an_ecg_is_drawn_at_true_scale_with_its_twelve_leads(archive: Archive) -> None:
    ecg = from_package(archive, "waveform_ecg.dcm")
    answer = archive.fetch(f"{path_of(ecg)}/rendered")
    assert answer.headers["content-type"] == "image/svg+xml"
    drawing = ElementTree.fromstring(answer.content)
    words = [element.text or "" for element in drawing.iter(f"{SVG}text")]
    for lead in ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"):
        assert lead in words
    assert any("25 mm/s · 10 mm/mV" in each for each in words)
    width, box = drawing.get("width", ""), drawing.get("viewBox", "").split()
    assert width == f"{float(box[2]):.2f}mm", "a millimetre of the drawing is a millimetre when printed"
    pulse, *_ = (element.get("points", "") for element in drawing.iter(f"{SVG}polyline"))
    heights = [float(point.split(",")[1]) for point in pulse.split()]
    assert max(heights) - min(heights) == pytest.approx(10), "1 mV is 10 mm"
    rhythm = [element.get("points", "").split() for element in drawing.iter(f"{SVG}polyline")][-1]
    x = [float(point.split(",")[0]) for point in rhythm]
    assert max(x) - min(x) == pytest.approx(250, abs=0.3), "10 s are 250 mm"
    lead_two = pydicom.dcmread(packaged("waveform_ecg.dcm")).waveform_array(0)[:, 1] / 1000
    y = [float(point.split(",")[1]) for point in rhythm]
    assert max(y) - min(y) == pytest.approx(10 * (lead_two.max() - lead_two.min()), abs=0.1)


def test_an_ecg_is_a_picture_too_in_the_size_that_is_asked_for(archive: Archive) -> None:
    ecg = from_package(archive, "waveform_ecg.dcm")
    png = archive.fetch(f"{path_of(ecg)}/rendered", headers={"Accept": "image/png"})
    picture = Image.open(io.BytesIO(png.content))
    assert png.headers["content-type"] == "image/png" and picture.width > 2000
    shades = np.asarray(picture.convert("L"))
    assert 0.005 < (shades < 64).mean() < 0.2, "ink on paper"
    jpeg = archive.fetch(f"{path_of(ecg)}/rendered?accept=image/jpeg&viewport=600,600&quality=70")
    assert Image.open(io.BytesIO(jpeg.content)).width == 600
    small = Image.open(io.BytesIO(archive.fetch(f"{path_of(ecg)}/thumbnail").content))
    assert max(small.size) == 256 and small.format == "JPEG"
    archive.fetch(f"{path_of(ecg)}/rendered", status=406, headers={"Accept": "application/pdf"})


def waveform(samples: np.ndarray, **values: Any) -> dict[str, Any]:
    """A waveform sequence as DICOM JSON, its data in the bytes that the reader gives."""
    channels, count = samples.shape[1], samples.shape[0]
    definition = {"003A0203": {"vr": "SH", "Value": ["Aortic pressure"]}, "003A0210": {"vr": "DS", "Value": [0.5]},
                  "003A0211": {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["mm[Hg]"]}}]},
                  "003A0213": {"vr": "DS", "Value": [3]}}  # fmt: skip
    item = {
        "003A0005": {"vr": "US", "Value": [channels]}, "003A0010": {"vr": "UL", "Value": [count]},
        "003A001A": {"vr": "DS", "Value": [100]}, "003A0200": {"vr": "SQ", "Value": [definition] * channels},
        "54001004": {"vr": "US", "Value": [16]}, "54001006": {"vr": "CS", "Value": ["SS"]},
        "5400100A": {"vr": "OW", "InlineBinary": "AIA="},
        "54001010": {"vr": "OW", "BulkDataURI": f"bulkdata/0/{2 * samples.size}"},
    }  # fmt: skip
    return {"54000100": {"vr": "SQ", "Value": [item | values]}}


@pytest.mark.parametrize("order", ["<", ">"])
def test_samples_are_read_by_sensitivity_baseline_padding_and_byte_order(order: str) -> None:
    samples = np.array([[10, 20], [-32768, 40], [30, 60]], dtype=f"{order}i2")
    data = samples.tobytes()
    group = first_group(waveform(samples), lambda at, n: data[at : at + n], big_endian=order == ">")
    assert [c.unit for c in group.channels] == ["mm[Hg]"] * 2
    assert group.channels[1].values.tolist() == [13, 23, 33]
    assert np.isnan(group.channels[0].values[1])
    paper = lay_out(group, ["who"])
    assert any("Aortic pressure (13 to 33 mm[Hg])" in text.words for text in paper.texts)


def test_only_the_beginning_of_a_long_recording_is_read_and_that_is_said() -> None:
    samples = np.zeros((100_000, 2), dtype="<i2")
    read: list[int] = []

    def reader(at: int, length: int) -> bytes:
        read.append(length)
        return bytes(length)

    paper = lay_out(first_group(waveform(samples), reader), [])
    assert read == [60 * 100 * 2 * 2]
    assert any("first 60 s of 1000 s" in text.words for text in paper.texts)
    crowded = np.zeros((100_000, 40), dtype="<i2")
    assert "204 more lines are not shown" in lay_out(first_group(waveform(crowded), reader), []).texts[-1].words


@pytest.mark.parametrize(
    "values",
    [{"54001006": {"vr": "CS", "Value": ["MB"]}}, {"003A0005": {"vr": "US", "Value": [0]}},
     {"003A0005": {"vr": "US", "Value": [60000]}}, {"003A001A": {"vr": "DS", "Value": [0]}},
     {"54001010": {"vr": "OW"}}, {"54001004": {"vr": "US", "Value": [8]}}, {"003A001A": {"vr": "DS", "Value": [1e12]}}],
)  # fmt: skip
def test_a_waveform_that_contradicts_itself_is_refused(values: dict[str, Any]) -> None:
    samples = np.zeros((10, 2), dtype="<i2")
    with pytest.raises((InvalidInput, Unsupported)):
        first_group(waveform(samples, **values) if values else {}, lambda at, n: bytes(n))
        raise InvalidInput  # a frequency that can't be is bounded by the samples there are


def video(stream: bytes, syntax: str = "1.2.840.10008.1.2.4.102", fragments: int = 1) -> FileDataset:
    image = ct_image(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.4.1", Modality="XC", NumberOfFrames=300, SamplesPerPixel=3,
        PhotometricInterpretation="YBR_PARTIAL_420", BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=None,
    )  # fmt: skip
    image.file_meta.TransferSyntaxUID = syntax
    image.PixelData = encapsulate([stream], fragments_per_frame=fragments, has_bot=False)
    image["PixelData"].VR, image["PixelData"].is_undefined_length = "OB", True
    return image


MP4 = b"\0\0\0\x18ftypisom" + bytes(range(256)) * 5000


@pytest.mark.parametrize(
    ("stream", "syntax", "fragments", "media_type"),
    [(MP4, "1.2.840.10008.1.2.4.102", 1, "video/mp4"), (MP4, "1.2.840.10008.1.2.4.107", 5, "video/mp4"),
     (b"\0\0\x01\xb3" + MP4, "1.2.840.10008.1.2.4.100", 3, "video/mpeg"),
     ((b"\x47" + bytes(187)) * 9, "1.2.840.10008.1.2.4.103", 1, "video/mp2t")],
)  # fmt: skip
def test_a_stored_video_plays_as_what_it_is_also_in_ranges(
    archive: Archive, stream: bytes, syntax: str, fragments: int, media_type: str
) -> None:
    image = kept(archive, video(stream, syntax, fragments))
    path = f"{path_of(image)}/rendered"
    whole = archive.fetch(path, headers={"Accept": "video/*"})
    assert whole.headers["content-type"] == media_type and whole.content == stream
    begin, end = len(stream) // 3, len(stream) // 3 * 2
    part = archive.fetch(path, status=206, headers={"Range": f"bytes={begin}-{end}"})
    assert part.content == stream[begin : end + 1]
    assert part.headers["content-range"] == f"bytes {begin}-{end}/{len(stream)}"
    archive.fetch(path, status=416, headers={"Range": f"bytes={len(stream)}-"})
    archive.fetch(path, status=406, headers={"Accept": "image/jpeg"})
    archive.fetch(path, "auditor", status=403)
    archive.fetch(f"{path_of(image)}/frames/1", status=406)
    bulk = f"{path_of(image)}/bulkdata/pixeldata"
    assert archive.fetch(bulk, headers={"Accept": media_type}).content == stream
    part = archive.fetch(bulk, status=206, headers={"Accept": "application/octet-stream", "Range": "bytes=5-9"})
    assert part.content == stream[5:10]
    multipart = archive.fetch(bulk, headers={"Accept": "multipart/related; type=video/*"})
    head, _, content = multipart.content.partition(b"\r\n\r\n")
    assert f"{media_type}; transfer-syntax={syntax}".encode() in head and content.startswith(stream)
    assert multipart.headers["content-length"] == str(len(multipart.content))
    archive.fetch(bulk, status=406, headers={"Accept": "multipart/related; type=image/*"})
    archive.fetch(bulk, "auditor", status=403)


def test_documents_are_sent_as_their_class_says_and_do_nothing_here(archive: Archive) -> None:
    for number, (media_type, document) in enumerate(
        [("application/pdf", b"%PDF-1.4 odd"), ("text/xml", b"<ClinicalDocument/>"), ("model/stl", b"solid x\n" * 900)],
        1,
    ):
        image = ct_image(SOPClassUID=f"1.2.840.10008.5.1.4.1.1.104.{number}", **NO_PIXELS,
                         MIMETypeOfEncapsulatedDocument="text/html")  # fmt: skip
        image.EncapsulatedDocumentLength = len(document)
        image.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
        kept(archive, image)
        answer = archive.fetch(f"{path_of(image)}/rendered")
        assert answer.headers["content-type"].split(";")[0] == media_type and answer.content == document
        assert answer.headers["content-security-policy"] == "sandbox"
        assert answer.headers["cross-origin-embedder-policy"] == "require-corp", "OHIF embeds it"
        part = archive.fetch(f"{path_of(image)}/rendered", status=206, headers={"Range": "bytes=0-3"})
        assert part.content == document[:4]
        archive.fetch(f"{path_of(image)}/rendered", status=406, headers={"Accept": "image/png"})


def test_a_region_is_cut_out_and_flipped_as_the_viewport_says(archive: Archive) -> None:
    image = archive.scan(Rows=8, Columns=8, WindowCenter=32, WindowWidth=64)
    path = f"{path_of(image)}/rendered?accept=image/png"

    def pixels(query: str) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(archive.fetch(path + query).content))).astype(int)

    whole = pixels("")
    assert np.array_equal(pixels("&viewport=4,2,2,3,4,2"), whole[3:5, 2:6])
    assert np.array_equal(pixels("&viewport=4,2,2,3,-4,2"), whole[3:5, 2:6][:, ::-1])
    assert np.array_equal(pixels("&viewport=4,2,2,3,4,-2"), whole[3:5, 2:6][::-1])
    assert np.array_equal(pixels("&viewport=6,6,2,2"), whole[2:, 2:])
    assert pixels("&viewport=16,16,,,4,4").shape == (16, 16)


WRONG_WISHES = [("viewport=4,2,2,3,9,2", "viewport"), ("viewport=4,2,2,3,0,2", "viewport"), ("viewport=4", "viewport"),
     ("viewport=4,2,-1,0", "viewport"), ("viewport=0,2", "viewport"), ("viewport=1,2,3", "viewport"),
     ("viewport=1,2,3,4,5,6,7", "viewport"), ("window=1", "window"), ("window=1,2,cubic", "window"),
     ("quality=0", "quality"), ("quality=high", "quality"), ("gamma=2", "gamma"), ("quality=5&quality=6", "quality"),
     ("%3Cb%3E=1", "one of those given")]  # fmt: skip


def test_wishes_that_are_none_are_refused_by_name(archive: Archive) -> None:
    image = archive.scan()
    for query, field in WRONG_WISHES:
        refused = archive.fetch(f"{path_of(image)}/rendered?{query}", status=400)
        assert refused.json()["field"] == field and "<" not in refused.text, query


def test_a_wish_of_the_standard_that_is_not_heeded_is_a_warning(archive: Archive) -> None:
    image = archive.scan()
    answer = archive.fetch(f"{path_of(image)}/rendered?annotation=patient,technique&iccprofile=srgb&quality=80")
    assert re.fullmatch(
        r'299 \S+ "These parameters are not supported: annotation, iccprofile"', answer.headers["warning"]
    )
    assert "warning" not in archive.fetch(f"{path_of(image)}/rendered?iccprofile=no").headers
