"""Text that tries to become structure: header lines, segments, log lines; and links that nobody is to follow."""

from __future__ import annotations

import json
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import pytest
import requests
from besieged import Besieged, full_size

from fixtures.department import DICTATION, Department, Patient, accepted, eventually, fields, next_numbers

pytestmark = [pytest.mark.xdist_group("attacks"), pytest.mark.timeout(300)]

LINE = "%0d%0aX-Injected:%20yes%0d%0a%0d%0a<script>alert(1)</script>"


def test_no_address_becomes_a_header_line(target: Besieged) -> None:
    person = target.person("injector")
    uid = target.placed.study_uid
    for path in (
        f"/auth/login?next=/{LINE}",
        f"/viewer/launch?requestType=STUDY&studyUID={LINE}",
        f"/viewer/launch?requestType=PATIENT&patientID={LINE}",
        f"/viewer/launch?requestType=STUDY&studyUID={uid}&beside={LINE}",
        f"/studies/{uid}?beside={LINE}",
        f"/exceptions?kind={LINE}",
        f"/{LINE}",
        f"/?done={LINE}",
        f"/dicom-web/studies?PatientName={LINE}&limit=1",
        f"/dicom-web/studies?{LINE}=a",
        f"/dicom-web/studies?00091001={LINE}",
        f"/fhir/Patient?{LINE}=a",
        f"/fhir/Patient?_format={LINE}",
        f"/dicom-web/studies/{uid}?accept={LINE}",
        f"/dicom-web/studies?limit=1&includefield=all&StudyDate={LINE}",
    ):
        for answer in (
            person.get(path, allow_redirects=False),
            target.ask("GET", path, "radiologist"),
            requests.get(target.http + path, headers={"Accept": "text/html"}, timeout=30, allow_redirects=False),
        ):
            assert answer.status_code < 500, path
            assert "x-injected" not in answer.headers, path
            if "json" not in answer.headers.get("content-type", ""):  # nosniff: no browser shows it as a page
                assert "<script>alert(1)" not in answer.text, path


def test_hosts_that_a_sender_names_are_not_believed(target: Besieged) -> None:
    for headers in (
        {"Host": "evil.example"},
        {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"},
        {"Forwarded": 'host="evil.example";proto=https'},
        {"Host": "evil.example:99999"},
        {"Host": "a b"},
        {"Host": '"><script>'},
        {"X-Original-URL": "/metrics", "X-Rewrite-URL": "/metrics"},
    ):
        for path in ("/fhir/metadata", "/fhir/Patient?_count=1"):
            answer = target.ask("GET", path, headers=headers)
            assert answer.status_code in (200, 400), (headers, path)
            assert "evil.example" not in answer.text
            assert "evil.example" not in str(answer.headers)
        answer = requests.get(
            f"{target.http}/orders/x", headers={**headers, "Accept": "text/html"}, timeout=30, allow_redirects=False
        )
        assert "evil.example" not in answer.headers.get("location", "")
        session = target.person("injector").session
        for where in ("/", f"/viewer/launch?requestType=STUDY&studyUID={target.placed.study_uid}"):
            answer = session.get(target.http + where, headers=headers, timeout=30, allow_redirects=False)
            assert "evil.example" not in answer.text + str(answer.headers)


@pytest.mark.soak
def test_odd_header_values_are_no_defects(target: Besieged) -> None:
    odd = [
        "\xff",
        "a" * 20_000,
        "*/*;q=x",
        "," * 5000,
        ";" * 5000,
        "application/json;q=0",
        '"',
        "multipart/related; type=" + "a" * 5000,
        "*/*;" * 2000,
        "%s%n",
        "W/" * 5000,
        "image/jpeg;q=1e999",
        "application/dicom+json;q=nan",
        'multipart/related;type="application/octet-stream";transfer-syntax=../x',
        "utf-7",
    ]
    uid = target.placed.study_uid
    paths = ("/fhir/Patient?_count=1", f"/dicom-web/studies/{uid}/metadata", f"/dicom-web/studies/{uid}/rendered", "/")
    number = 0
    for name in (
        "Accept",
        "Accept-Charset",
        "Accept-Language",
        "If-None-Match",
        "If-Modified-Since",
        "Range",
        "Content-Type",
        "Cookie",
        "Prefer",
        "Origin",
        "Referer",
        "Sec-Fetch-Site",
        "X-CSRF-Token",
        "HX-Request",
        "Forwarded",
        "User-Agent",
        "Expect",
        "TE",
    ):
        for value in odd:
            number += 1
            for path in paths if full_size() else (paths[number % len(paths)],):
                answer = target.ask("GET", path, "radiologist", headers={name: value.encode("latin-1")})
                assert answer.status_code < 500, (name, value[:40], path, answer.text[:200])


@contextmanager
def bait() -> Iterator[tuple[int, list[bytes]]]:
    """A port that nobody has a reason to speak to, and what was said there."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def listen() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(1)
                    try:
                        heard.append(connection.recv(1000))
                    except TimeoutError:
                        heard.append(b"")

        threading.Thread(target=listen, daemon=True).start()
        yield listening.getsockname()[1], heard


def test_links_in_requests_are_not_followed(target: Besieged) -> None:
    with bait() as (port, heard):
        url = f"http://127.0.0.1:{port}"
        hook = {
            "hook": "order-sign",
            "hookInstance": str(uuid.uuid4()),
            "fhirServer": url,
            "fhirAuthorization": {"access_token": "x", "token_type": "Bearer"},
            "context": {
                "userId": f"{url}/Practitioner/1",
                "patientId": f"{url}/Patient/1",
                "draftOrders": {
                    "resourceType": "Bundle",
                    "entry": [
                        {
                            "fullUrl": url,
                            "resource": {
                                "resourceType": "ServiceRequest",
                                "id": url,
                                "subject": {"reference": f"{url}/Patient/1"},
                                "instantiatesUri": [url],
                                "code": {"coding": [{"system": url, "code": "CTCHEST"}]},
                                "basedOn": [{"reference": f"{url}/x"}],
                            },
                        }
                    ],
                },
            },
            "prefetch": {
                "patient": {
                    "resourceType": "Patient",
                    "link": [{"other": {"reference": url}}],
                    "photo": [{"url": url}],
                    "identifier": [{"system": url, "value": "1"}],
                }
            },
        }
        assert target.ask("POST", "/cds-services/prior-imaging-order-sign", json=hook).status_code == 200
        for path in (
            f"/fhir/Patient?_id={url}",
            f"/fhir/ImagingStudy?endpoint={url}",
            f"/fhir/Patient?identifier={url}|1",
            f"/fhir/DiagnosticReport?based-on={url}/x",
            f"/fhir/{quote(url, safe='')}",
            f"/viewer/launch?requestType=STUDY&studyUID={url}",
            f"/auth/login?next={url}",
            f"/dicom-web/studies?RetrieveURL={url}",
        ):
            assert target.ask("GET", path, "radiologist").status_code < 500
        patient = Patient(next_numbers(1)[0], "Link", url)
        target.department.register(patient)
        placed = target.department.place(patient)
        now = "20260101"
        report = (
            f"{target.department.header('ORU^R01', DICTATION)}\r{patient.pid}\r"
            f"ORC|RE|{placed.placer}^EPIC|{placed.accession}^HILUM\r"
            f"OBR|1|{placed.placer}^EPIC|{placed.accession}^HILUM|CTCHEST^CT Chest^L|||{now}|||||||||||"
            f"{placed.accession}|||||||F|||||||R42&Reed&Robin\r"
            f"OBX|1|TX|&GDT^Report^L||{url} <img src={url}>||||||F\rOBX|2|RP|url^{url}^L||{url}^x^y^z||||||F\r"
            f"OBX|3|ED|x||{url}^TEXT^HTML^Base64^AAAA||||||F\r"
        )
        target.department.send(report)
        image = target.department.image(placed)
        image.RetrieveURL = url
        image.PixelDataProviderURL = url
        target.department.store(image, code=0)
        target.ask("GET", f"/dicom-web/studies/{image.StudyInstanceUID}/rendered")
        target.ask("GET", f"/dicom-web/studies/{image.StudyInstanceUID}/metadata")
        assert heard == []


FORGED = (
    "a\\.br\\OBX|9|TX|x||FORGED\\X0D\\OBX|8|TX|x||FORGED\\X0D0A\\MSH|^~\\E\\&|FORGED\\X1C0D\\\\X0B\\MSH|FORGED".replace(
        "|", "\\F\\"
    )
)


def test_a_report_forges_no_segment_of_the_result(target: Besieged) -> None:
    department: Department = target.department
    patient = Patient(
        next_numbers(1)[0],
        "Doe\\X0D\\OBX\\F\\7\\F\\TX\\F\\x\\F\\\\F\\FORGED",
        "J\\F\\\\S\\\\T\\\\R\\\\E\\X0D\\\\X0D\\ZZZ\\F\\FORGED",
    )
    department.register(patient)
    placed = department.place(patient, procedure="CTCHEST^CT\\X0D\\ZZY\\F\\FORGED^L")
    assert accepted(department.dictate(placed, "F", FORGED + "\\X00\\\\X0B\\"))
    (result,) = eventually(lambda: department.ehr.reports(placed.accession), "the result arrives")
    names = [line.split("|")[0] for line in result.decode().split("\r") if line]
    assert set(names) <= {"MSH", "PID", "PV1", "ORC", "OBR", "OBX", "NTE", "ZDS"}
    assert names.count("MSH") == 1
    assert b"\x0b" not in result
    assert b"\x1c" not in result
    assert all("FORGED" not in segment[3] for segment in fields(result, "OBX")), "a text became a field"
    assert not any(segment[0] == "OBX" and segment[1] in ("7", "8", "9") for segment in fields(result, "OBX"))
    (person,) = department.search("Patient", identifier=patient.number)
    assert "\r" not in json.dumps(person)


def test_a_signed_text_of_the_editor_forges_no_segment(target: Besieged) -> None:
    person = target.person("injector")
    patient = Patient(next_numbers(1)[0])
    target.department.register(patient)
    placed = target.department.place(patient)
    target.department.perform(placed, images=1)
    launched = person.get(f"/viewer/launch?requestType=STUDY&accessionNumber={placed.accession}", allow_redirects=False)
    order = launched.headers["location"]
    edit = person.post(f"{order}/report/start", {"kind": "report"}).headers["location"]
    page = person.get(edit).text
    revision = page.split('name="revision" value="')[1].split('"')[0]
    trust = page.split('name="trust" value="')[1].split('"')[0] if 'name="trust"' in page else "verified"
    text = "fine\rOBX|9|TX|x||FORGED||||||F\nMSH|^~\\&|FORGED\x0b\x1c\r|^~\\&"
    signed = person.post(
        edit.replace("/edit", "/sign"),
        {"revision": revision, "trust": trust, "state": "final", "section.findings": text, "section.impression": text},
    )
    assert signed.status_code == 303, signed.text[:500]
    (result,) = eventually(lambda: target.department.ehr.reports(placed.accession), "the result arrives")
    assert result.count(b"\rMSH") == 0
    assert b"\x0b" not in result and b"\x1c" not in result
    assert all(segment[1] != "9" or "FORGED" not in "".join(segment[5:6]) for segment in fields(result, "OBX"))
    assert all(len(segment) < 30 for segment in fields(result, "OBX"))


@pytest.mark.parametrize(
    "control",
    [
        "a\\X0D\\ERR|FORGED",
        "A" * 5000,
        "a\\.br\\MSA|AA|x",
        "\\X1C0D\\",
        "é",
        "<script>",
        "a^b&c~d",
        "\\",
        "\\X\\",
        "\\XZZ\\",
        "\\H\\\\N\\",
        "\\C1\\" * 500,
    ],
)
def test_an_acknowledgement_forges_no_segment(target: Besieged, control: str) -> None:
    answer = target.department.send(f"{target.department.header('ADT^A99', control=control)}\rPID|1||1\r")
    names = [line.split("|")[0] for line in answer.decode("utf-8", "replace").split("\r") if line]
    assert set(names) <= {"MSH", "MSA", "ERR", "SFT"}
    assert names.count("MSA") == names.count("MSH") == 1
    assert b"\x0b" not in answer


def test_messages_of_odd_shape_are_answered_quickly(target: Besieged) -> None:
    head = target.department.header("ADT^A04")
    for body in (
        "PID|" + "|" * 100_000,
        "PID|1||" + "~".join(f"{n}^^^X^MR" for n in range(20_000)),
        "PID|1||1^^^" + "&" * 50_000,
        "PID|1||1||" + "^" * 50_000,
        "\\" * 100_000,
        "PID|1||1||" + "\\X" * 30_000 + "\\",
        "ZZZ|1\r" * 50_000,
        "PID|1||" + "\\.br\\" * 20_000 + "^^^X",
        "PID\r" * 20_000,
        "PID|1||a\x00b^^^GENHOSP^MR||a\x00b^c",
        "PID|1||1^^^GENHOSP^MR||D^J||99999999|F",
        "PID|1||1^^^GENHOSP^MR||D^J||1980010" + "1" * 5000 + "|F",
        "PID|1||" + "9" * 300 + "^^^GENHOSP||A^B",
        "PID|1||1^^^GENHOSP||A^B||00000101",
        "PID|1||1^^^GENHOSP||A^B||20260101+9999",
        "PID|1||%^^^_||%^_",
    ):
        with socket.create_connection(("127.0.0.1", target.department.hl7_port), timeout=20) as connection:
            connection.sendall(b"\x0b" + f"{head}\rEVN|A04|20260101\r{body}\rPV1|1|O\r".encode() + b"\x1c\r")
            answer = b""
            while b"\x1c\r" not in answer:
                more = connection.recv(65536)
                assert more, body[:40]
                answer += more
        assert b"MSA|A" in answer, body[:40]
    target.still_works()


def test_nul_and_odd_text_in_messages_are_no_defect_of_either_database(either: Besieged) -> None:
    for way in (
        "a\\X00\\b",
        "\\X00\\",
        "é\u202e\ufeff",
        "\U0001f4a9" * 50,
        "' OR 1=1 --",
        "\\XD800\\",
        "\ufffe",
        "%s%n{}",
        "\\X7F80\\",
    ):
        patient = Patient(next_numbers(1)[0], way, way)
        for who in (patient, Patient(way, "Doe", "Jane")):
            answer = either.department.send(
                f"{either.department.header('ADT^A04')}\rEVN|A04|20260101\r{who.pid}\rPV1|1|O\r"
            )
            assert fields(answer, "MSA")[0][1] in ("AA", "AE", "AR"), way
        answer = either.department.send(either.department.order_message(patient, f"P{way}"))
        assert fields(answer, "MSA")[0][1] in ("AA", "AE", "AR"), way
    head = f"{either.department.header('ADT^A04')}\rEVN|A04|20260101\r"
    raw = f"{head}PID|1||77^^^GENHOSP^MR||D\x00E^J\x00||19800101|F\rPV1|1|O\r".encode()
    assert fields(either.department.send(raw), "MSA")[0][1] in ("AA", "AE", "AR")
    bad = raw.replace(b"D\x00E", b"\xc0\xaf\xed\xa0\x80\xff").replace(b"\x00", b"")
    assert fields(either.department.send(bad), "MSA")[0][1] in ("AA", "AE", "AR")


def test_nothing_forges_a_line_of_the_log(target: Besieged) -> None:
    before = len(target.log())
    forged = 'x\r\n{"level":"info","event":"FORGED"}\n\x1b[2J\u2028'
    requests.get(f"{target.http}/{quote(forged)}", headers={"User-Agent": "x", "Referer": quote(forged)}, timeout=30)
    session = requests.Session()
    token = (
        session.get(f"{target.http}/auth/login", timeout=30).text.split('name="csrf_token" value="')[1].split('"')[0]
    )
    session.post(
        f"{target.http}/auth/login", data={"csrf_token": token, "user_name": forged, "password": forged}, timeout=10
    )
    target.department.send(target.department.header("ADT^A04", control="x\\X0D0A\\FORGED") + "\rPID|1||FORGED\\X0A\\\r")
    target.ask("GET", f"/fhir/Patient?family={quote(forged)}")
    for line in target.log()[before:].splitlines():
        assert json.loads(line).get("event") != "FORGED"
        assert "FORGED" not in line, "a value of a stranger is in the log"
