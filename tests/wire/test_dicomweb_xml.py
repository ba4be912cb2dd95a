"""DICOMweb in XML for clients that read no JSON: lists, metadata and what was stored, as the Native DICOM Model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
import requests

from fixtures.dicom_files import ct_image, packaged, part10_bytes
from fixtures.dicomweb_server import JSON, Archive, open_archive, path_of
from hilum.dicom.web.native_xml import native_xml
from hilum.storage.store import Store

XML = {"Accept": 'multipart/related; type="application/dicom+xml"'}
SPACE = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"


@pytest.fixture
def archive(sqlite_store: Store, tmp_path: Path) -> Iterator[Archive]:
    """The door over SQLite and files."""
    with open_archive(sqlite_store, tmp_path / "home") as opened:
        yield opened


def models(answer: requests.Response) -> list[ElementTree.Element]:
    """The data sets of a multipart, each read as XML."""
    assert answer.headers["content-type"].startswith('multipart/related; type="application/dicom+xml"')
    boundary = re.search(r"boundary=(\w+)", answer.headers["content-type"])[1].encode()
    parts = answer.content.split(b"--" + boundary)[1:-1]
    assert all(b"Content-Type: application/dicom+xml\r\n" in part for part in parts)
    return [ElementTree.fromstring(part.partition(b"\r\n\r\n")[2].strip()) for part in parts]


def element(model: ElementTree.Element, tag: str) -> ElementTree.Element:
    found = model.find(f"{SPACE}DicomAttribute[@tag='{tag}']")
    assert found is not None, tag
    return found


def test_metadata_and_lists_say_the_same_in_xml(archive: Archive) -> None:
    images = [archive.scan(PatientName="Müller^Jörg=ミュラー", StudyDescription='<Thorax> & "more"')]
    series = {"StudyInstanceUID": images[0].StudyInstanceUID, "SeriesInstanceUID": images[0].SeriesInstanceUID}
    images.append(archive.scan(**series, InstanceNumber=2))
    path = f"{path_of(images[0], 'series')}/metadata"
    found, as_json = models(archive.fetch(path, headers=XML)), archive.fetch(path, headers=JSON).json()
    assert [{each.get("tag") for each in model} for model in found] == [set(each) for each in as_json]
    name = element(found[0], "00100010")
    assert (name.get("keyword"), name.get("vr")) == ("PatientName", "PN")
    person = name.find(f"{SPACE}PersonName")
    assert [each.text for each in person.find(f"{SPACE}Alphabetic")] == ["Müller", "Jörg"]
    assert person.find(f"{SPACE}Ideographic/{SPACE}FamilyName").text == "ミュラー"
    assert element(found[0], "00081030").find(f"{SPACE}Value").text == '<Thorax> & "more"'
    assert element(found[0], "7FE00010").find(f"{SPACE}BulkData").get("uri") == as_json[0]["7FE00010"]["BulkDataURI"]
    (study,) = models(archive.fetch("/studies", headers=XML))
    assert element(study, "0020000D").find(f"{SPACE}Value").text == images[0].StudyInstanceUID
    assert archive.fetch("/studies?PatientID=nobody", status=204, headers=XML).content == b""
    etag = archive.fetch(path, headers=XML).headers["etag"]
    archive.fetch(path, status=304, headers={**XML, "If-None-Match": etag})
    archive.fetch(path, status=200, headers={**JSON, "If-None-Match": etag})
    for what in (path, "/studies"):
        archive.fetch(what, "auditor", status=403, headers=XML)


def test_sequences_private_elements_and_binary_values_are_there(archive: Archive) -> None:
    archive.keep(packaged("waveform_ecg.dcm").read_bytes())
    (found,) = archive.search("/instances")
    url = found["00081190"]["Value"][0].removeprefix(archive.dicomweb)
    (model,) = models(archive.fetch(f"{url}/metadata", headers=XML))
    item = element(model, "54000100").find(f"{SPACE}Item[@number='1']")
    channel = element(item, "003A0200").find(f"{SPACE}Item[@number='12']")
    assert element(channel, "003A0210").find(f"{SPACE}Value").text
    assert element(model, "14551008").get("privateCreator") == "Mortara Instrument, Inc."
    assert element(model, "14551009").find(f"{SPACE}InlineBinary").text


def test_what_was_stored_is_answered_in_xml_to_who_names_only_that(archive: Archive) -> None:
    image = ct_image()
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + part10_bytes(image) + b"\r\n--b--\r\n"
    content_type = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
    sent = {**content_type, "Accept": "application/dicom+xml"}
    answer = archive.ask("POST", "/dicom-web/studies", "technologist", 200, data=body, headers=sent)
    assert answer.headers["content-type"] == "application/dicom+xml"
    item = element(ElementTree.fromstring(answer.content), "00081199").find(f"{SPACE}Item")
    assert element(item, "00081155").find(f"{SPACE}Value").text == image.SOPInstanceUID
    anything = archive.ask("POST", "/dicom-web/studies", "technologist", 200, data=body, headers=content_type)
    assert anything.headers["content-type"] == "application/dicom+json"


def test_what_xml_cannot_hold_is_replaced() -> None:
    hostile = {
        "00104000": {"vr": "LT", "Value": ["a\x00b\x1b]]>\ufffe<!--&\ud800"]},
        "00090010": {"vr": "LO", "Value": ['"><x'] },
        "00091001": {"vr": "UN", "InlineBinary": "AAE="},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "<b>^&^^^^too^many"}, None, {"Alphabetic": 7}]},
        "00081140": {"vr": "SQ", "Value": [None, {"00081155": {"vr": "UI"}}]},
    }  # fmt: skip
    model = ElementTree.fromstring(native_xml(hostile))
    assert element(model, "00104000").find(f"{SPACE}Value").text == "a\ufffdb\ufffd]]>\ufffd<!--&\ufffd"
    assert element(model, "00091001").get("privateCreator") == '"><x'
    assert len(element(model, "00081140").findall(f"{SPACE}Item")) == 2
