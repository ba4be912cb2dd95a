"""Orthanc as a receiver: images by C-STORE with its commitment, and by its STOW-RS."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dicom_wire import eventually
from forwarding_house import forwarding, to
from image_peers import every_syntax, keep, with_peers

from fixtures.ports import free_ports
from hilum.storage import tables

ORTHANC = shutil.which("Orthanc")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
pytestmark = [
    pytest.mark.skipif(ORTHANC is None, reason="Orthanc is not installed"),
    pytest.mark.xdist_group("orthanc"),
]
STUDY = "1.2.75"
IMAGES = every_syntax(STUDY)


@dataclass
class Orthanc:
    web: int
    dicom: int
    ours: int  # where it expects us to listen

    def ask(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.web}{path}", timeout=30) as answer:
            return json.load(answer)

    def forget(self) -> None:
        for known in self.ask("/studies"):
            request = urllib.request.Request(f"http://127.0.0.1:{self.web}/studies/{known}", method="DELETE")
            urllib.request.urlopen(request, timeout=30).close()


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    folder = tmp_path_factory.mktemp("orthanc")
    web, dicom, ours = free_ports(3)
    settings = {
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": web,
        "DicomPort": dicom,
        "DicomAet": "ORTHANC",
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [str(PLUGIN)] if PLUGIN.exists() else [],
        "DicomModalities": {"hilum": ["HILUM", "127.0.0.1", ours]},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
    command = [str(ORTHANC), str(folder / "orthanc.json")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            assert eventually(lambda: _listens(web) and _listens(dicom))
            yield Orthanc(web, dicom, ours)
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_orthanc_takes_a_study_and_commits_itself_before_it_counts_as_delivered(
    orthanc: Orthanc, tmp_path: Path
) -> None:
    there = to("pacs", "dicom", f"dicom://ORTHANC@127.0.0.1:{orthanc.dicom}", more="commitment = true")
    peers = with_peers(ORTHANC=None).replace('bind = "127.0.0.1:0"', f'bind = "127.0.0.1:{orthanc.ours}"')
    orthanc.forget()
    with forwarding(tmp_path, there, peers) as opened:
        keep(opened.hilum, *IMAGES.values())
        opened.complete(STUDY)
        assert eventually(lambda: opened.states() == [("delivered", "committed")])
        (asked,) = opened.hilum.rows(tables.commitment_asked)
    assert (asked.answered_at is not None, asked.failed) == (True, [])
    assert len(orthanc.ask("/instances")) == len(IMAGES)


@pytest.mark.skipif(not PLUGIN.exists(), reason="the DICOMweb plugin of Orthanc is not installed")
def test_orthanc_takes_a_study_by_stow(orthanc: Orthanc, tmp_path: Path) -> None:
    orthanc.forget()
    with forwarding(tmp_path, to("web", "stow", f"http://127.0.0.1:{orthanc.web}/dicom-web")) as opened:
        keep(opened.hilum, *IMAGES.values())
        opened.complete(STUDY)
        assert eventually(lambda: [state for state, _ in opened.states()] == ["delivered"])
        assert len(opened.sent("web")) == len(IMAGES)
    held = {each["MainDicomTags"]["SOPInstanceUID"] for each in orthanc.ask("/instances?expand")}
    assert held == {str(image.SOPInstanceUID) for image in IMAGES.values()}
