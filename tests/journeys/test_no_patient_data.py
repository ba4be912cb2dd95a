"""After exams through every door, and everything that can go wrong at each, nothing says whose they were.

What is scanned: all logs, metrics, error bodies, traces, the diagnostic bundle, process titles and environments, and
the names of files in the home. What holds the data itself, the database, the archive and the journal, is not.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import socket
import unicodedata
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
from pydicom.uid import generate_uid

from fixtures.department import Department, Patient, Placed, accepted, eventually, new_department

# One department for all scans, on one worker.
pytestmark = pytest.mark.xdist_group("no-patient-data")
# Unmistakable: no word of code, log or protocol contains them.
FAMILIES = ("Quetzalfeather", "Zwölfmüller")
GIVENS = ("Xantheodora", "Yvrainé")
NUMBERS = ("MRN7310245501", "MRN7310245502")
BIRTHS = ("19370611", "19521109")
ADDRESS = "Farnsworthyallee"
DICTATED = "Perihilar-quokkaform-opacity"
PHYSICIAN = "Ottokarfield"
SECRET = "wrong-password-Jabberwockian"


@dataclass
class Heard:
    """What the outside was told without being entitled to patient data."""

    bodies: list[tuple[str, bytes]] = field(default_factory=list)
    accessions: list[str] = field(default_factory=list)

    def keep(self, where: str, answer: requests.Response) -> None:
        head = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
        self.bodies.append((f"{where} {answer.status_code}", head.encode() + answer.content))


@pytest.fixture(scope="module")
def department(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Department]:
    own = new_department(tmp_path_factory.mktemp("phi"), quiet_seconds="1")
    own.start()
    yield own
    if own.process is not None and own.process.poll() is None:
        own.stop()
    own.ehr.close()


@pytest.fixture(scope="module")
def heard(department: Department) -> Heard:
    """Do it all, once for all scans."""
    heard = Heard()
    patients = [Patient(n, f, g, b) for n, f, g, b in zip(NUMBERS, FAMILIES, GIVENS, BIRTHS, strict=True)]
    department.add_user("rad", "radiologist", "R42")
    exams = [whole_exam(department, patient) for patient in patients]
    heard.accessions = [placed.accession for placed in exams]
    wrong_tokens(department, heard, exams)
    bad_requests(department, heard, exams)
    bad_messages(department, heard, patients[0], exams[0])
    bad_images(department, exams)
    bad_sign_in(department, heard, patients[0])
    department.merge(*patients)
    metrics = department.get("/metrics", "admin")
    heard.keep("metrics", metrics)
    return heard


def whole_exam(department: Department, patient: Patient) -> Placed:
    pid = f"{patient.pid}||{ADDRESS} 12"
    now = "20260301080000"
    answer = department.send(f"{department.header('ADT^A04')}\rEVN|A04|{now}\r{pid}\rPV1|1|O\r")
    assert accepted(answer)
    placed = department.place(patient)
    department.perform(placed, images=1)
    assert accepted(department.dictate(placed, "F", DICTATED, reader=f"R42^{PHYSICIAN}^Robin"))
    eventually(lambda: department.ehr.reports(placed.accession), "the result")
    department.search("Patient", name=patient.family)
    department.search("ImagingStudy", **{"patient.identifier": patient.number})
    department.qido(PatientName=f"{patient.family}*", PatientID=patient.number)
    department.find_studies(PatientID=patient.number)
    department.get(f"/dicom-web/studies/{placed.study_uid}/metadata")
    department.get("/", "rad", text=patient.family)
    department.get("/viewer/launch", "rad", requestType="STUDY", accessionNumber=placed.accession)
    hook = {
        "hook": "patient-view", "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": {"userId": "Practitioner/1", "patientId": patient.number},
        "prefetch": {"patient": {"resourceType": "Patient", "name": [{"family": patient.family}]}},
    }  # fmt: skip
    department.post("/cds-services/prior-imaging-patient-view", hook, status=None)
    return placed


def paths_of(placed: Placed) -> list[str]:
    """Addresses that name the patient, as a careless client would write them."""
    family, number, accession = quote(placed.patient.family), placed.patient.number, placed.accession
    return [
        f"/fhir/Patient?name={family}&birthdate=1937-06-11",
        f"/fhir/Patient/{number}",
        f"/fhir/{family}/{number}",
        f"/fhir/Patient?{family}={number}",
        f"/fhir/Patient?birthdate={family}",
        f"/fhir/ServiceRequest?identifier={accession}",
        f"/dicom-web/studies?PatientName={family}&PatientID={number}&{family}={number}",
        f"/dicom-web/studies?PatientBirthDate={family}",
        f"/dicom-web/studies/{placed.study_uid}/series/{family}",
        f"/dicom-web/studies/{number}/metadata",
        f"/orders/{accession}",
        f"/studies/{number}",
        f"/viewer/launch?requestType=PATIENT&patientID={number}",
        f"/viewer/launch?requestType={family}",
        f"/nowhere/{family}/{number}",
        f"/?text={family}&status={number}&after={accession}",
        f"/exceptions?kind={family}&after={number}",
        f"/audit/patient/{number}",
    ]


def wrong_tokens(department: Department, heard: Heard, exams: list[Placed]) -> None:
    for placed in exams:
        claims = base64.urlsafe_b64encode(json.dumps({"sub": placed.patient.family}).encode()).decode().rstrip("=")
        tokens = ["", "x", placed.patient.number, f"eyJhbGciOiJub25lIn0.{claims}.", f"{claims}.{claims}.{claims}"]
        for path in paths_of(placed):
            for token in tokens:
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                answer = requests.get(department.http + path, headers=headers, timeout=30, allow_redirects=False)
                assert answer.status_code in (303, 401), path
                if answer.status_code == 401:
                    heard.keep(path, answer)


def bad_requests(department: Department, heard: Heard, exams: list[Placed]) -> None:
    """Requests of someone who may not see patients, and requests that break each form."""
    for placed in exams:
        for path in paths_of(placed):
            heard.keep(path, department.get(path, "auditor", status=None))
        name, number = placed.patient.family, placed.patient.number
        bodies: list[tuple[str, str, bytes]] = [
            (
                "/dicom-web/studies",
                'multipart/related; type="application/dicom"; boundary=b',
                f"--b\r\n\r\n{name}".encode(),
            ),
            ("/dicom-web/studies", f"multipart/{name}", name.encode()),
            (
                "/cds-services/prior-imaging-order-sign",
                "application/json",
                f'{{"hook": "{name}", "{number}": '.encode(),
            ),
            (f"/cds-services/{quote(name)}", "application/json", b"{}"),
            ("/fhir/Patient/_search", "application/x-www-form-urlencoded", f"{quote(name)}={number}%zz".encode()),
            ("/fhir/Patient", "application/fhir+json", json.dumps({"resourceType": name}).encode()),
            (
                "/exceptions/x/link",
                "application/x-www-form-urlencoded",
                f"order_id={number}&reason={quote(name)}".encode(),
            ),
            (f"/reports/{number}/sign", "application/x-www-form-urlencoded", f"findings={quote(name)}".encode()),
        ]
        for path, kind, body in bodies:
            for who in ("admin", "rad"):
                headers = {"Authorization": f"Bearer {department.token(who)}", "Content-Type": kind}
                answer = requests.post(department.http + path, data=body, headers=headers, timeout=30)
                # To whoever may see patients a refusal may repeat their own words, but the logs may not.
                assert answer.status_code != 200 or path == "/fhir/Patient/_search"


def bad_messages(department: Department, heard: Heard, patient: Patient, placed: Placed) -> None:
    """Messages that break each rule, and what makes the server fail inside."""
    head = department.header
    name, number = patient.family, patient.number
    texts = [
        f"{head('ADT^A04')}\rEVN|A04|20260101\rPID|1||{number}^^^GENHOSP||{name}^{'X' * 70000}||{name}|F\rPV1|1\r",
        f"{head('ADT^A04')}\rEVN|A04|{name}\r{patient.pid}\r",
        f"{head(f'ADT^{name}')}\r{patient.pid}\r",
        f"{head(name)}\r{patient.pid}\r",
        f"{head('ORM^O01')}\r{patient.pid}\rORC|{name}|{number}\rOBR|1\r",
        f"{head('ORU^R01', 'DICT|GENHOSP')}\r{patient.pid}\rOBR|1|{number}|{placed.accession}|||||||||||||||||||||F\r",
        f"{head('ADT^A40^ADT_A39')}\rEVN|A40|20260101\r{patient.pid}\rMRG|{name}\r",
        f"{head('ORM^O01', sender=f'{name}|{number}')}\r{patient.pid}\r",
        f"PID|{name}|{number}",
        f"{head('OMI^O23^OMI_O23')}\r{patient.pid}\rORC|NW|{number}^E\rOBR|1|{number}^E||{name}\rIPC|{'9' * 17}\r",
    ]
    for text in texts:
        with contextlib.suppress(ConnectionError):
            department.send(text)
    with socket.create_connection(("127.0.0.1", department.hl7_port), timeout=30) as connection:
        connection.sendall(b"\x0b" + f"{head('ADT^A04')}\r{patient.pid}".encode() + b"\x1c")
    department.ehr.answer = lambda message: "AE"
    department.dictate(placed, "C", f"{DICTATED} corrected")
    eventually(lambda: department.cli("queue", "list"), "a lane that waits")
    department.ehr.answer = lambda message: "AA"
    with contextlib.suppress(AssertionError):
        department.cli("trace", number, code=1)


def bad_images(department: Department, exams: list[Placed]) -> None:
    first, other = exams
    broken = department.image(first)
    broken.PatientID, broken.AccessionNumber = other.patient.number, first.accession
    department.store(broken)
    long = department.image(first)
    long.PatientBirthDate, long.StudyInstanceUID = "19370611", generate_uid()
    long.add_new(0x00100020, "LO", first.patient.number + "-" + FAMILIES[0] * 20)
    with contextlib.suppress(AssertionError):
        department.store(long)
    unnamed = department.image(first)
    del unnamed.SeriesInstanceUID
    with contextlib.suppress(AssertionError, AttributeError):
        department.store(unnamed)
    raw = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 192" + f"{FAMILIES[0]}^{NUMBERS[0]}".encode() * 40
    with socket.create_connection(("127.0.0.1", department.dicom_port), timeout=30) as connection:
        connection.sendall(b"\x01\x00" + (len(raw)).to_bytes(4, "big") + raw)
        with contextlib.suppress(OSError):
            connection.recv(100)
    department.find_studies(PatientName=f"{FAMILIES[1]}*", PatientID=NUMBERS[1])
    department.worklist(PatientName=f"{FAMILIES[0]}^*", PatientID=NUMBERS[0])


def bad_sign_in(department: Department, heard: Heard, patient: Patient) -> None:
    for name in (patient.family, patient.number, "rad"):
        form = {"name": name, "password": SECRET, "next": f"/?text={patient.family}"}
        answer = requests.post(f"{department.http}/auth/login", data=form, timeout=30, allow_redirects=False)
        assert answer.status_code >= 400 or answer.headers.get("location", "").startswith("/auth")
    department.cli("user", "add", patient.number, "--role", "nobody", code=2)


def forbidden(heard: Heard) -> dict[str, re.Pattern[bytes]]:
    """What must be nowhere, in all forms in which it might be written."""
    words = [*FAMILIES, *GIVENS, *NUMBERS, *BIRTHS, "1937-06-11", "1952-11-09", ADDRESS, DICTATED, PHYSICIAN, SECRET]
    words += heard.accessions
    found = {}
    for word in words:
        plain = unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode()
        forms = {word, word.upper(), word.lower(), plain, plain.lower(), quote(word), json.dumps(word)[1:-1]}
        encoded = {form.encode(codec, "ignore") for form in forms for codec in ("utf-8", "latin-1", "utf-16-le")}
        hidden = {base64.b64encode(word.encode())[:-2], word.encode().hex().encode()}
        found[word] = re.compile(b"|".join(re.escape(each) for each in sorted(encoded | hidden) if len(each) >= 6))
    return found


def scan(heard: Heard, where: str, content: bytes) -> list[str]:
    return [f"{where}: {word}" for word, pattern in forbidden(heard).items() if pattern.search(content)]


def test_the_scan_finds_what_it_looks_for(heard: Heard) -> None:
    for word in (*FAMILIES, NUMBERS[0], "1937-06-11"):
        for text in (word, word.lower(), quote(word), json.dumps({"x": word})):
            assert scan(heard, "x", b"before " + text.encode() + b" after"), text
    assert scan(heard, "x", b"an ordinary line of a log") == []


def test_the_exams_are_there_for_those_who_may_see_them(department: Department, heard: Heard) -> None:
    assert FAMILIES[0] in department.get("/fhir/Patient", "rad", identifier=NUMBERS[0]).text
    assert all(heard.accessions)


def test_no_log_line_says_whose_exam_it_was(department: Department, heard: Heard) -> None:
    logs = {path: path.read_bytes() for path in [department.home / "server.log", *department.home.glob("run/log/*")]}
    assert len(logs) >= 2
    lines = b"".join(logs.values()).splitlines()
    assert any(b'"event": "operation refused"' in line for line in lines), "what was refused was not logged"
    found = [each for path, content in logs.items() for each in scan(heard, path.name, content)]
    assert found == []


def test_no_metric_and_no_refusal_says_it(heard: Heard) -> None:
    assert len(heard.bodies) > 100
    found = [(where, each) for where, body in heard.bodies for each in scan(heard, "said", body)]
    assert found == []


def test_no_trace_of_another_order_and_no_queue_says_it(department: Department, heard: Heard) -> None:
    """A trace is asked for by its accession; of patient, physician and report it says nothing."""
    for accession in heard.accessions:
        said = department.cli("trace", accession).encode() + department.cli("trace", accession, "--json").encode()
        assert [each for each in scan(heard, "trace", said) if accession not in each] == []
    assert scan(heard, "queue", department.cli("queue", "list").encode()) == []
    assert scan(heard, "check", department.cli("check").encode()) == []


def test_the_diagnostic_bundle_says_it_nowhere(department: Department, heard: Heard, tmp_path: Path) -> None:
    file = tmp_path / "bundle.zip"
    department.cli("diagnose", "--output", str(file))
    with zipfile.ZipFile(file) as bundle:
        parts = {name: bundle.read(name) for name in bundle.namelist()}
    assert len(parts["log.jsonl"].splitlines()) > 10
    assert json.loads(parts["database.json"])["rows"]["patient"] >= 2
    assert [each for name, content in parts.items() for each in scan(heard, name, content)] == []
    everything = b"".join(parts.values())
    for key in (department.home / "keys").iterdir():
        for secret in json.loads(key.read_bytes()).values():
            assert len(secret) < 20 or secret.encode() not in everything, key.name
    for token in department.tokens.values():
        assert token.encode() not in everything
    assert str(department.home).encode() not in everything


def test_processes_and_files_are_not_named_after_patients(department: Department, heard: Heard) -> None:
    processes = [department.process.pid, *department.role_processes()] if department.process else []
    assert len(processes) >= 4
    for pid in processes:
        for part in ("cmdline", "environ", "comm"):
            assert scan(heard, part, Path(f"/proc/{pid}/{part}").read_bytes()) == []
    names = "\n".join(f"{folder}/{name}" for folder, below, files in os.walk(department.home) for name in below + files)
    assert scan(heard, "file names", names.encode()) == []
