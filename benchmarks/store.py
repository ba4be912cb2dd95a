"""C-STORE, durable: Hilum beside Orthanc and DCMTK's storescp in the same run, alternating, same files and client.

Orthanc runs with its defaults (SyncStorageArea, SQLite), as docs of both name the settings, and with TCP_NODELAY=1:
DCMTK would otherwise wait 40 ms before each answer, a lead that says nothing of storing. storescp neither syncs nor
indexes, so it is the limit of the client and the loopback, not a rival.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import numpy
from pydicom.uid import generate_uid

from benchmarks.table import show
from fixtures.department import Department, Patient, Placed, new_department
from fixtures.ports import free_ports

REPETITIONS = int(os.environ.get("HILUM_BENCH_REPETITIONS", "3"))
CORPORA = {"0.53 MB": (512, 200), "10 KB": (64, 400)}


def main() -> None:
    """Measure every corpus with one and with four associations, in turns."""
    with tempfile.TemporaryDirectory(prefix="hilum-bench-", dir=os.environ.get("HILUM_BENCH_DIR")) as folder:
        root = Path(folder)
        department = new_department(root / "home")
        department.start()
        orthanc, orthanc_port, _ = start_orthanc(root / "orthanc")
        storescp, storescp_port = start_storescp(root / "storescp")
        rivals: dict[str, tuple[str, int]] = {"Hilum": ("HILUM", department.dicom_port)}
        if orthanc is not None:
            rivals["Orthanc"] = ("ORTHANC", orthanc_port)
        rivals["storescp (no sync, no index)"] = ("ANY", storescp_port)
        try:
            compare(root, department, rivals)
        finally:
            department.stop()
            for process in (orthanc, storescp):
                if process is not None:
                    process.terminate()
                    process.wait(20)


def compare(root: Path, department: Department, rivals: dict[str, tuple[str, int]]) -> None:
    """Send fresh files to each in turn; print medians and the ratio of medians pair by pair."""
    rows: list[dict[str, Any]] = []
    for corpus, (size, count) in CORPORA.items():
        for associations in (1, 4):
            rates: dict[str, list[float]] = {name: [] for name in rivals}
            for repetition in range(REPETITIONS):
                for name, (title, port) in rivals.items():
                    files = make_files(root / "files", department, size, count, associations)
                    rates[name].append(count / timed_send(files, title, port))
                    shutil.rmtree(root / "files")
                del repetition
            row: dict[str, Any] = {"what": f"{corpus} × {associations}"}
            row |= {f"{name} /s": statistics.median(values) for name, values in rates.items()}
            if "Orthanc" in rates:
                row["ratio to Orthanc"] = statistics.median(
                    ours / theirs for ours, theirs in zip(rates["Hilum"], rates["Orthanc"], strict=True)
                )
            rows.append(row)
    show("store", f"C-STORE, instances per second, medians of {REPETITIONS}, storescu with TCP_NODELAY=1", rows)


def make_files(folder: Path, department: Department, size: int, count: int, parts: int) -> list[Path]:
    """Write synthetic CT of fresh patients, one folder per association."""
    noise = numpy.random.default_rng(7)
    folders = [folder / str(part) for part in range(parts)]
    for part in folders:
        part.mkdir(parents=True)
    for part, target in enumerate(folders):
        placed = Placed(Patient(f"B{time.time_ns()}{part}", f"Bench{part}"), "", "", generate_uid())
        series = generate_uid()
        for number in range(count // parts):
            image = department.image(placed, number, series=series)
            image.Rows = image.Columns = size
            image.PixelData = noise.integers(0, 4096, (size, size), dtype=numpy.uint16).tobytes()
            image.save_as(target / f"{number}.dcm", enforce_file_format=True)
    return folders


def timed_send(folders: list[Path], title: str, port: int) -> float:
    """Send each folder over its own association at once; return the seconds until the last is done."""

    def send(folder: Path) -> None:
        command = ["/usr/bin/storescu", "+sd", "-R", "-aet", "CT01", "-aec", title, "127.0.0.1", str(port), str(folder)]
        environment = {**os.environ, "TCP_NODELAY": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise RuntimeError(done.stderr[-500:])

    started = time.perf_counter()
    with ThreadPoolExecutor(len(folders)) as pool:
        list(pool.map(send, folders))
    return time.perf_counter() - started


def start_orthanc(folder: Path, *, with_web: bool = False) -> tuple[subprocess.Popen[bytes] | None, int, int]:
    """Start Orthanc with its defaults on ports of ours, if it is installed; return it with its DICOM and HTTP ports."""
    program = shutil.which("Orthanc")
    if program is None:
        print("Orthanc is not installed here: no rival beside the figures")
        return None, 0, 0
    dicom, http = free_ports(2)
    folder.mkdir()
    settings: dict[str, Any] = {
        "Name": "bench", "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"),
        "DicomAet": "ORTHANC", "DicomPort": dicom, "HttpPort": http, "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False, "DicomAlwaysAllowStore": True, "DicomAlwaysAllowFind": True,
        "DicomCheckCalledAet": False, "OverwriteInstances": False, "StableAge": 1,
        "Plugins": ["/usr/share/orthanc/plugins"] if with_web else [],
    }  # fmt: skip
    if with_web:
        settings["DicomWeb"] = {"Enable": True, "Root": "/dicom-web/"}
    (folder / "orthanc.json").write_text(json.dumps(settings))
    process = subprocess.Popen(
        [program, str(folder / "orthanc.json")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "TCP_NODELAY": "1"},
    )  # fmt: skip
    wait_until(lambda: answers(dicom) and answers(http))
    return process, dicom, http


def start_storescp(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start DCMTK's receiver: it writes files, and neither syncs nor indexes."""
    (port,) = free_ports(1)
    folder.mkdir()
    process = subprocess.Popen(
        ["/usr/bin/storescp", "--fork", "+B", "+xa", "-dhl", "-od", str(folder), str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "TCP_NODELAY": "1"},
    )  # fmt: skip
    wait_until(lambda: answers(port))
    return process, port


def answers(port: int) -> bool:
    """Tell whether something listens."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def wait_until(true: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for a server."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise RuntimeError("a server did not start")
        time.sleep(0.1)
