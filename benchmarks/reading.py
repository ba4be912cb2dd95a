"""What a viewer waits for: lists, metadata, images and C-FIND, Hilum beside Orthanc with its DICOMweb plugin.

Both hold the same files, sent by the same client: many small studies and one series of CT images. One client asks in
turns, on one connection. The lists are asked again after the index has grown a hundredfold, for Hilum alone: to fill
Orthanc as far would take hours.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import numpy
import requests
from pydicom import Dataset, dcmwrite
from pydicom.uid import generate_uid
from pynetdicom import AE

from benchmarks.store import start_orthanc, timed_send
from benchmarks.table import percentile, show
from fixtures.department import Department, Patient, Placed, new_department

STUDIES = int(os.environ.get("HILUM_BENCH_STUDIES", "2000"))
GROWN = int(os.environ.get("HILUM_BENCH_GROWN", "200000"))
SERIES = int(os.environ.get("HILUM_BENCH_SERIES", "300"))
ROUNDS = int(os.environ.get("HILUM_BENCH_REPETITIONS", "3")) * 20
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
DICOM_JSON = {"Accept": "application/dicom+json"}
MULTIPART = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}


@dataclass(frozen=True)
class Server:
    """One of the two, as a client sees it."""

    name: str
    root: str
    session: requests.Session
    title: str
    dicom_port: int

    def get(self, path: str, headers: dict[str, str]) -> bytes:
        """Return the body of an answer."""
        answer = self.session.get(self.root + path, headers=headers, timeout=300)
        answer.raise_for_status()
        return answer.content

    def take(self, path: str, headers: dict[str, str]) -> int:
        """Take an answer and let it go, and say how long it was; faster than any library, so the server is measured."""
        address = urlsplit(self.root + path)
        fields = {"Host": address.netloc, "Connection": "close", **headers}
        if authorization := self.session.headers.get("Authorization"):
            fields["Authorization"] = str(authorization)
        lines = [f"GET {address.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        with socket.create_connection((address.hostname or "", address.port or 80), timeout=300) as connection:
            connection.sendall("\r\n".join(lines).encode())
            taken = drained(connection)
        assert taken > SERIES * 512 * 512 * 2, "the answer was not whole"
        return taken


def drained(connection: socket.socket) -> int:
    """Read to the end and say how many bytes came."""
    buffer, total = bytearray(4 << 20), 0
    while received := connection.recv_into(buffer):
        total += received
    return total


@dataclass(frozen=True)
class Corpus:
    """The files, and what of them is asked for."""

    folder: Path
    patient: str
    study: str
    series: str
    instance: str


def main() -> None:
    """Fill both, then ask both in turns."""
    with tempfile.TemporaryDirectory(prefix="hilum-bench-", dir=os.environ.get("HILUM_BENCH_DIR")) as folder:
        root = Path(folder)
        department = new_department(root / "home")
        department.start()
        orthanc, orthanc_port, http_port = start_orthanc(root / "orthanc", with_web=True)
        try:
            corpus = make_corpus(root / "files", department)
            hilum = Server("Hilum", f"{department.http}/dicom-web", requests.Session(), "HILUM", department.dicom_port)
            hilum.session.headers["Authorization"] = f"Bearer {department.token('service')}"
            web = f"http://127.0.0.1:{http_port}/dicom-web"
            servers = [hilum, Server("Orthanc", web, requests.Session(), "ORTHANC", orthanc_port)]
            for server in servers if orthanc is not None else servers[:1]:
                timed_send([corpus.folder], server.title, server.dicom_port)
            rows = compare(servers if orthanc is not None else servers[:1], corpus)
            rows += growth(servers[0], corpus, department)
        finally:
            department.stop()
            if orthanc is not None:
                orthanc.terminate()
                orthanc.wait(20)
    show("reading", f"Reading, {STUDIES} studies and a series of {SERIES}; milliseconds, one client in turns", rows)


def make_corpus(folder: Path, department: Department) -> Corpus:
    """Write small studies of fresh patients, and one series of CT images."""
    folder.mkdir()
    noise = numpy.random.default_rng(11)
    patient = ""
    for number in range(STUDIES):
        patient = f"R{time.time_ns()}"
        image = department.image(Placed(Patient(patient, f"Reader{number}"), "", "", generate_uid()), 1)
        image.AccessionNumber = f"R{number}"
        image.save_as(folder / f"s{number}.dcm", enforce_file_format=True)
    placed, series = Placed(Patient(f"C{time.time_ns()}", "Series"), "", "", generate_uid()), generate_uid()
    for number in range(SERIES):
        image = department.image(placed, number, series=series)
        image.Rows = image.Columns = 512
        image.PixelData = noise.integers(0, 4096, (512, 512), dtype=numpy.uint16).tobytes()
        dcmwrite(folder / f"c{number}.dcm", image, enforce_file_format=True)
    return Corpus(folder, patient, placed.study_uid, series, str(image.SOPInstanceUID))


def compare(servers: list[Server], corpus: Corpus) -> list[dict[str, Any]]:
    """Ask all servers the same, in turns."""
    of_series = f"/studies/{corpus.study}/series/{corpus.series}"
    one = f"{of_series}/instances/{corpus.instance}"
    return [
        row_of("QIDO study list, 100 of all", servers, lambda s: s.get("/studies?limit=100", DICOM_JSON), ROUNDS),
        row_of("QIDO by patient", servers, lambda s: s.get(f"/studies?PatientID={corpus.patient}", DICOM_JSON), ROUNDS),
        row_of(f"metadata of {SERIES} images", servers, lambda s: s.get(f"{of_series}/metadata", DICOM_JSON), 10),
        row_of(f"WADO-RS series of {SERIES}", servers, lambda s: s.take(of_series, MULTIPART), 8),
        loopback_row(SERIES * 512 * 512 * 2),
        row_of("WADO-RS one image", servers, lambda s: s.get(one, MULTIPART), ROUNDS),
        find_row(servers, corpus),
        stow_row(servers, corpus),
    ]


def row_of(what: str, servers: list[Server], ask: Callable[[Server], Any], rounds: int) -> dict[str, Any]:
    """Time a question, each server in turn; the ratio is of the medians."""
    times: dict[str, list[float]] = {server.name: [] for server in servers}
    for server in servers:
        ask(server)
    for _ in range(rounds):
        for server in servers:
            started = time.perf_counter()
            ask(server)
            times[server.name].append((time.perf_counter() - started) * 1000)
    return as_row(what, times)


def loopback_row(size: int) -> dict[str, Any]:
    """The same number of bytes from a file to a client by a process that does nothing else: what the machine allows."""
    with tempfile.TemporaryFile() as file, socket.create_server(("127.0.0.1", 0)) as listening:
        file.write(os.urandom(size))
        file.flush()

        def serve() -> None:
            for _ in range(8):
                connection, _ = listening.accept()
                with connection:
                    connection.sendfile(file)

        threading.Thread(target=serve, daemon=True).start()
        times = []
        for _ in range(8):
            started = time.perf_counter()
            with socket.create_connection(listening.getsockname()) as connection:
                assert drained(connection) == size
            times.append((time.perf_counter() - started) * 1000)
    return as_row("as many bytes by sendfile alone (limit)", {"Hilum": times})


def as_row(what: str, times: dict[str, list[float]]) -> dict[str, Any]:
    """Medians and 95th percentiles, in milliseconds."""
    row: dict[str, Any] = {"what": what}
    for name in ("Hilum", "Orthanc"):
        values = times.get(name, [])
        row[f"{name} p50"] = round(statistics.median(values), 2) if values else "–"
        row[f"{name} p95"] = round(percentile(values, 0.95), 2) if values else "–"
    both = times.get("Hilum") and times.get("Orthanc")
    row["Hilum ÷ Orthanc"] = (
        f"{statistics.median(times['Hilum']) / statistics.median(times['Orthanc']):.2f}" if both else "–"
    )
    return row


def find_row(servers: list[Server], corpus: Corpus) -> dict[str, Any]:
    """C-FIND of the studies of a patient, on one association."""
    query = Dataset()
    query.QueryRetrieveLevel, query.PatientID = "STUDY", corpus.patient
    query.StudyInstanceUID = query.StudyDate = query.PatientName = query.ModalitiesInStudy = ""
    associations = {}
    for server in servers:
        entity = AE(ae_title="CT01")
        entity.add_requested_context(STUDY_FIND)
        associations[server.name] = entity.associate("127.0.0.1", server.dicom_port, ae_title=server.title)

    def ask(server: Server) -> None:
        found = [found for _, found in associations[server.name].send_c_find(query, STUDY_FIND) if found is not None]
        assert len(found) == 1, f"{server.name} found {len(found)}"

    row = row_of("C-FIND by patient", servers, ask, ROUNDS)
    for association in associations.values():
        association.release()
    return row


def stow_row(servers: list[Server], corpus: Corpus) -> dict[str, Any]:
    """STOW-RS of a hundred small instances in one request, new ones each time."""
    files = [path.read_bytes() for path in sorted(corpus.folder.glob("s*.dcm"))[:100]]

    def ask(server: Server) -> None:
        fresh = []
        for content in files:
            image = read_again(content)
            fresh.append(image)
        body = b"".join(b"--b\r\nContent-Type: application/dicom\r\n\r\n" + each + b"\r\n" for each in fresh) + b"--b--"
        started = time.perf_counter()
        answer = server.session.post(
            f"{server.root}/studies",
            data=body,
            headers={"Content-Type": 'multipart/related; type="application/dicom"; boundary=b', **DICOM_JSON},
            timeout=300,
        )
        answer.raise_for_status()
        taken[server.name].append((time.perf_counter() - started) * 1000)

    taken: dict[str, list[float]] = {server.name: [] for server in servers}
    for _ in range(5):
        for server in servers:
            ask(server)
    return as_row("STOW-RS, 100 small instances in one request", taken)


def read_again(content: bytes) -> bytes:
    """The same file as another instance of another study."""
    from io import BytesIO

    from pydicom import dcmread

    image = dcmread(BytesIO(content))
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.PatientID = f"N{time.time_ns()}"
    out = BytesIO()
    image.save_as(out, enforce_file_format=True)
    return out.getvalue()


def growth(hilum: Server, corpus: Corpus, department: Department) -> list[dict[str, Any]]:
    """Ask for the lists again when the index holds a hundred times as many studies."""
    grow(department.home / "hilum.db", GROWN)
    title = f"QIDO study list, 100 of {GROWN:,}"
    return [
        row_of(title, [hilum], lambda s: s.get("/studies?limit=100", DICOM_JSON), ROUNDS),
        row_of(
            f"QIDO by patient, {GROWN:,} studies",
            [hilum],
            lambda s: s.get(f"/studies?PatientID={corpus.patient}", DICOM_JSON),
            ROUNDS,
        ),
    ]


def grow(database: Path, studies: int) -> None:
    """Copy the rows of small studies under other keys until there are so many; their bytes stay what they are."""
    with sqlite3.connect(database, timeout=60) as db:
        db.row_factory = sqlite3.Row
        patterns = db.execute("SELECT * FROM study WHERE instance_count = 1 LIMIT 500").fetchall()
        for table, of in (("study", "id"), ("series", "study_id")):
            names = [column[1] for column in db.execute(f"PRAGMA table_info({table})")]
            marks = ",".join("?" * len(names))
            rows = []
            for number in range(studies):
                pattern = patterns[number % len(patterns)]
                source = (
                    dict(pattern)
                    if table == "study"
                    else dict(db.execute("SELECT * FROM series WHERE study_id = ?", (pattern["id"],)).fetchone())
                )
                rows.append(tuple(other(source, number, of)[name] for name in names))
                if len(rows) == 5000 or number == studies - 1:
                    db.executemany(f"INSERT INTO {table} ({','.join(names)}) VALUES ({marks})", rows)
                    rows.clear()


def other(row: dict[str, Any], number: int, of: str) -> dict[str, Any]:
    """A row as that of another study: keys and identifiers differ, the text stays."""
    changed = dict(row)
    suffix = f"G{number}"
    if of == "id":
        changed["id"] = changed["id"][: 26 - len(suffix)] + suffix
        changed["study_instance_uid"] = f"2.25.{10**20 + number}"
        changed["patient_identifier"] = f"G{number}"
        changed["accession_number"] = f"G{number}"
        changed["completed_at"] = changed["last_received_at"]  # else the server would complete them all meanwhile
        changed["study_date"] = f"{2000 + number % 26:04d}{1 + number % 12:02d}{1 + number % 28:02d}"
    else:
        changed["id"] = changed["id"][: 26 - len(suffix)] + suffix
        changed["study_id"] = changed["study_id"][: 26 - len(suffix)] + suffix
        changed["series_instance_uid"] = f"2.25.{2 * 10**20 + number}"
    return changed


if __name__ == "__main__":
    print(json.dumps({"studies": STUDIES}), shutil.which("Orthanc"))
    main()
