"""From a signed report to the EHR's socket and to FHIR, and what each link costs in statements and commits.

There is no rival that does the whole chain here; the limit beside the figures is a bare commit and a bare answer.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import requests
from pydicom.uid import generate_uid

from benchmarks.table import percentile, show
from fixtures.department import Department, Patient, accepted, new_department, next_numbers

REPORTS = 40


def main(reports: int = REPORTS) -> None:
    """Run the chain on a fresh home and print both tables."""
    with tempfile.TemporaryDirectory(prefix="hilum-bench-") as folder:
        department = new_department(Path(folder) / "home")
        department.start()
        try:
            result_latency(department, reports)
            cost_per_link(department)
        finally:
            department.stop()
            department.ehr.close()


def result_latency(department: Department, reports: int) -> None:
    """Time from the dictation's AA to the result at the EHR's socket and to a readable DiagnosticReport."""
    arrived: dict[str, float] = {}
    department.ehr.answer = lambda message: arrived.setdefault(_accession(message), time.perf_counter()) and "AA"
    headers = {"Authorization": f"Bearer {department.token('service')}"}
    session = requests.Session()
    to_socket, to_fhir, to_aa = [], [], []
    for _ in range(reports):
        patient = Patient(next_numbers(1)[0])
        department.register(patient)
        placed = department.place(patient)
        department.store(department.image(placed))
        arrived.clear()
        sent = time.perf_counter()
        assert accepted(department.dictate(placed, "F", "Signed."))
        signed = time.perf_counter()
        url = f"{department.http}/fhir/DiagnosticReport?identifier={placed.accession}"
        while not session.get(url, headers=headers, timeout=10).json().get("entry"):
            time.sleep(0.002)
        to_fhir.append((time.perf_counter() - sent) * 1000)
        while placed.accession not in arrived:
            time.sleep(0.001)
        to_aa.append((signed - sent) * 1000)
        to_socket.append((arrived[placed.accession] - sent) * 1000)
    show(
        "chain-latency",
        f"Report signed → EHR, {reports} reports, milliseconds from the first byte of the dictation's ORU",
        [
            {"what": what, "p50": percentile(v, 0.5), "p95": percentile(v, 0.95), "max": max(v), "goal p95": goal}
            for what, v, goal in (
                ("accepted (AA, durable)", to_aa, "–"),
                ("ORU^R01 at the EHR's socket", to_socket, 500),
                ("FHIR DiagnosticReport readable", to_fhir, 500),
            )
        ],
    )


def cost_per_link(department: Department) -> None:
    """Count statements and commits of the role that does each link."""
    patient = Patient(next_numbers(1)[0])
    placed: Any = None
    rows = []

    def measure(link: str, role: str, action: Callable[[], Any]) -> Any:
        before = counters(department, role)
        result = action()
        time.sleep(0.3)
        after = counters(department, role)
        rows.append({"what": link, "role": role, "statements": after[0] - before[0], "commits": after[1] - before[1]})
        return result

    measure("1 Registration (ADT^A04)", "hl7", lambda: department.register(patient))
    placer = f"PL{patient.number}"
    answer = measure(
        "3, 4 Order, schedule (ORM^O01)", "hl7", lambda: department.send(department.order_message(patient, placer))
    )
    accession = re.search(rb"ORC\|OK\|[^|]*\|([^|^]+)", answer)[1].decode()  # type: ignore[index]
    item = measure("5 Worklist (C-FIND, first time)", "dicom", lambda: department.worklist_item(accession))
    _, uid = measure("6 Exam starts (N-CREATE)", "dicom", lambda: department.start_exam(item))
    from fixtures.department import Placed

    placed = Placed(patient, placer, accession, str(item.StudyInstanceUID))
    series = generate_uid()
    measure("7 First image (C-STORE)", "dicom", lambda: department.store(department.image(placed, 1, series=series)))
    measure("7 Next image (C-STORE)", "dicom", lambda: department.store(department.image(placed, 2, series=series)))
    measure("6 Exam ends (N-SET)", "dicom", lambda: department.end_exam(uid, series=(series,)))
    measure("9 Report (ORU^R01 in)", "hl7", lambda: department.dictate(placed, "F", "Signed."))
    measure(
        "10 FHIR DiagnosticReport search", "http", lambda: department.search("DiagnosticReport", identifier=accession)
    )
    show("chain-cost", "Statements and commits per link (reads are statements, too)", rows)


def counters(department: Department, role: str) -> tuple[int, int]:
    """Statements and commits of a role so far."""
    page = department.get("/metrics").text
    found = {}
    for kind in ("statement", "commit"):
        pattern = rf'^hilum_statements_total{{kind="{kind}",role="{role}"}} ([0-9.e+]+)$'
        match = re.search(pattern, page, re.MULTILINE)
        found[kind] = int(float(match[1])) if match else 0
    return found["statement"], found["commit"]


def _accession(message: bytes) -> str:
    found = re.search(rb"\rOBR\|[^|]*\|[^|]*\|([^|^]+)", message) if b"ORU^R01" in message else None
    return found[1].decode() if found else "-"
