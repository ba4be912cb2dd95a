"""dcmjs-dimse as a peer: it echoes, stores, finds, gets, and has images moved to itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from dicom_door import department
from dicom_wire import eventually
from forwarding_house import forwarding, to
from image_peers import keep, with_peers

from fixtures.dicom_files import ct_image, part10_bytes
from fixtures.ports import free_ports
from hilum.storage import tables

ROOT = Path(__file__).resolve().parents[2]
PEER = Path(__file__).parent / "dcmjs" / "peer.js"
NODE = shutil.which("node")
pytestmark = pytest.mark.xdist_group("dcmjs")
STUDY = "1.2.88"
PENDING, SUCCESS, CANNOT = 0xFF00, 0x0000, 0xA801


@pytest.fixture(scope="module")
def folder() -> str:
    """Where dcmjs-dimse is; fetched once per machine."""
    done = subprocess.run([str(ROOT / "scripts/dcmjs.sh")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, folder: str) -> dict[str, Any]:
    """What the peer saw of everything it did."""
    work = tmp_path_factory.mktemp("dcmjs")
    (own,) = free_ports(1)
    image = ct_image(StudyInstanceUID=STUDY, SOPInstanceUID=f"{STUDY}.2", PatientName="Müller^Jürgen", InstanceNumber=2)
    (work / "image.dcm").write_bytes(part10_bytes(image))
    (work / "home").mkdir()
    with department(work / "home", with_peers(DCMJS=own)) as opened:
        first = ct_image(StudyInstanceUID=STUDY, SOPInstanceUID=f"{STUDY}.1", PatientName="Müller^Jürgen")
        first.SeriesInstanceUID = image.SeriesInstanceUID
        keep(opened, first)
        command = [str(NODE), str(PEER), str(opened.port), str(own), str(work / "image.dcm"), STUDY]
        environment = {**os.environ, "DCMJS_FOLDER": folder}
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert len(opened.rows(tables.instance)) == 2
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_it_echoes_and_stores(told: dict[str, Any]) -> None:
    assert told["echo"]["statuses"] == [SUCCESS]
    assert told["store"]["statuses"] == [SUCCESS]


def test_it_finds_a_study_with_its_name_as_it_is_written(told: dict[str, Any]) -> None:
    assert told["find"]["statuses"] == [PENDING, SUCCESS]
    (found,) = told["find"]["datasets"]
    assert (found["StudyInstanceUID"], "Müller" in json.dumps(found, ensure_ascii=False)) == (STUDY, True)
    assert told["nothing"] == {**told["nothing"], "statuses": [SUCCESS], "datasets": []}


def test_it_gets_the_images_and_has_them_moved_to_itself_and_nowhere_else(told: dict[str, Any]) -> None:
    images = [f"{STUDY}.1", f"{STUDY}.2"]
    assert (told["get"]["statuses"][-1], sorted(told["got"])) == (SUCCESS, images)
    assert (told["move"]["statuses"][-1], sorted(told["arrived"])) == (SUCCESS, images)
    assert told["nowhere"]["statuses"] == [CANNOT]


def test_images_are_forwarded_to_it(tmp_path: Path, folder: str) -> None:
    (port,) = free_ports(1)
    settings = to("dcmjs", "dicom", f"dicom://DCMJS@127.0.0.1:{port}")
    listen = [str(NODE), str(PEER), "0", str(port), "listen", "2"]
    environment = {**os.environ, "DCMJS_FOLDER": folder}
    with (
        subprocess.Popen(listen, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder) as process,
        forwarding(tmp_path, settings) as opened,
    ):
        keep(opened.hilum, *[ct_image(StudyInstanceUID=STUDY, SOPInstanceUID=f"{STUDY}.{n}") for n in (1, 2)])
        opened.complete(STUDY)
        assert eventually(lambda: [state for state, _ in opened.states()] == ["delivered"])
        output, _ = process.communicate(timeout=30)
    assert sorted(json.loads(output.splitlines()[-1])) == [f"{STUDY}.1", f"{STUDY}.2"]
