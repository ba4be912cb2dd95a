"""Pixels over DICOMweb: rendered images, decoded frames and other transfer syntaxes, Hilum beside Orthanc.

Both hold the same series of CT images with a smooth picture and noise. Each request is for another image, so nothing is
answered from what was made before; one client asks in turns. Orthanc without plugins makes JPEG-LS and uncompressed
images, so the rows of other syntaxes are Hilum's alone. Hilum decodes what it encoded and compares it, each time.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import requests
from pydicom import dcmwrite
from pydicom.uid import generate_uid

from benchmarks.reading import Server, as_row
from benchmarks.store import start_orthanc, timed_send
from benchmarks.table import show
from fixtures.department import Department, Patient, Placed, new_department

IMAGES = int(os.environ.get("HILUM_BENCH_PIXELS", "60"))
INSTANCE = 'multipart/related; type="application/dicom"; transfer-syntax='
SYNTAXES = {
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "HTJ2K": "1.2.840.10008.1.2.4.202",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
    "RLE": "1.2.840.10008.1.2.5",
}
ORTHANC_MAKES = {"JPEG-LS"}
RENDERED = {"Accept": "image/jpeg"}
FRAME = {"Accept": "multipart/related; type=application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"}


def main() -> None:
    """Fill both, then ask both in turns."""
    with tempfile.TemporaryDirectory(prefix="hilum-bench-", dir=os.environ.get("HILUM_BENCH_DIR")) as folder:
        root = Path(folder)
        department = new_department(root / "home")
        department.start()
        orthanc, orthanc_port, http_port = start_orthanc(root / "orthanc", with_web=True)
        try:
            hilum = Server("Hilum", f"{department.http}/dicom-web", requests.Session(), "HILUM", department.dicom_port)
            hilum.session.headers["Authorization"] = f"Bearer {department.token('service')}"
            web = f"http://127.0.0.1:{http_port}/dicom-web"
            servers = [hilum, Server("Orthanc", web, requests.Session(), "ORTHANC", orthanc_port)]
            servers = servers if orthanc is not None else servers[:1]
            paths = fill(root / "files", department, servers)
            rows = [rendered(servers, paths), frames(servers, paths)]
            rows += [transcoded(name, servers, paths) for name in SYNTAXES]
        finally:
            department.stop()
            if orthanc is not None:
                orthanc.terminate()
                orthanc.wait(20)
    show("pixels", f"Pixels of {IMAGES} CT images of 512 × 512; milliseconds an image, one client in turns", rows)


def fill(folder: Path, department: Department, servers: list[Server]) -> list[str]:
    """Store a series in all servers; return the paths of its images."""
    folder.mkdir()
    chance = numpy.random.default_rng(7)
    smooth = numpy.add.outer(numpy.arange(512), numpy.arange(512)) * 3
    placed, series = Placed(Patient(f"C{time.time_ns()}", "Pixels"), "", "", generate_uid()), generate_uid()
    paths = []
    for number in range(IMAGES):
        image = department.image(placed, number, series=series)
        image.Rows = image.Columns = 512
        image.PixelData = (smooth + chance.normal(0, 12, (512, 512))).clip(0, 4095).astype(numpy.uint16).tobytes()
        image.WindowCenter, image.WindowWidth = 1500, 3000
        dcmwrite(folder / f"c{number}.dcm", image, enforce_file_format=True)
        paths.append(f"/studies/{placed.study_uid}/series/{series}/instances/{image.SOPInstanceUID}")
    for server in servers:
        timed_send([folder], server.title, server.dicom_port)
    return paths


def rendered(servers: list[Server], paths: list[str]) -> dict[str, Any]:
    """A JPEG to look at."""
    return as_row("rendered as JPEG", asked(servers, [f"{path}/rendered" for path in paths], RENDERED))


def frames(servers: list[Server], paths: list[str]) -> dict[str, Any]:
    """The frame as it is stored."""
    return as_row("frame, uncompressed", asked(servers, [f"{path}/frames/1" for path in paths], FRAME))


def transcoded(name: str, servers: list[Server], paths: list[str]) -> dict[str, Any]:
    """The instance in another transfer syntax, and how much of the original is left."""
    able = servers if name in ORTHANC_MAKES else servers[:1]
    headers = {"Accept": INSTANCE + SYNTAXES[name]}
    size = len(servers[0].get(paths[0], headers)) / (512 * 512 * 2)
    return as_row(f"instance as {name} ({size:.0%} of its size)", asked(able, paths, headers))


def asked(servers: list[Server], paths: list[str], headers: dict[str, str]) -> dict[str, list[float]]:
    """Milliseconds of each path, the servers in turn; the first of each is for warming up."""
    times: dict[str, list[float]] = {server.name: [] for server in servers}
    for number, (server, path) in enumerate(in_turns(servers, paths)):
        started = time.perf_counter()
        server.get(path, headers)
        if number >= len(servers):
            times[server.name].append((time.perf_counter() - started) * 1000)
    return times


def in_turns(servers: list[Server], paths: list[str]) -> Iterator[tuple[Server, str]]:
    """Each path of each server."""
    for path in paths:
        for server in servers:
            yield server, path
