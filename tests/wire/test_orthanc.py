"""Orthanc as a peer: it is moved to, it moves from us to itself, and it asks whether we hold its images for good."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from dicom_door import Department, department
from dicom_wire import eventually
from image_peers import STUDY_MOVE, asked, counts, every_syntax, keep, stored_bytes, with_peers
from pynetdicom import AE

from fixtures.dicom_files import part10_bytes
from fixtures.ports import free_ports
from fixtures.stores import open_store
from hilum.archive.file_blobs import FileBlobs
from hilum.archive.importing import Became, Ledger, import_paths
from hilum.archive.ingest import Ingest
from hilum.archive.landing import open_landing
from hilum.core.actor import system_actor
from hilum.storage import tables

ORTHANC = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
pytestmark = [
    pytest.mark.xdist_group("orthanc"),
]
STUDY = "1.2.95"
IMAGES = every_syntax(STUDY)


@dataclass
class Orthanc:
    web: str
    hilum: Department
    storage: Path

    def ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.web + path, data), timeout=30) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    folder = tmp_path_factory.mktemp("orthanc")
    web, dicom = free_ports(2)
    (folder / "hilum").mkdir()
    with department(folder / "hilum", with_peers(ORTHANC=dicom)) as hilum:
        keep(hilum, *IMAGES.values())
        settings = {
            "StorageDirectory": str(folder / "db"),
            "IndexDirectory": str(folder / "db"),
            "HttpPort": web,
            "DicomPort": dicom,
            "DicomAet": "ORTHANC",
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomModalities": {"hilum": ["HILUM", "127.0.0.1", hilum.port]},
        }
        (folder / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
        command = [str(ORTHANC), str(folder / "orthanc.json")]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            peer = Orthanc(f"http://127.0.0.1:{web}", hilum, folder / "db")
            try:
                assert eventually(lambda: _listens(web), within=30)
                yield peer
            finally:
                process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_images_are_moved_to_orthanc(orthanc: Orthanc) -> None:
    requestor = AE(ae_title="ORTHANC")
    requestor.add_requested_context(STUDY_MOVE)
    association = requestor.associate("127.0.0.1", orthanc.hilum.port, ae_title="HILUM")
    answers = list(association.send_c_move(asked(StudyInstanceUID=STUDY), "ORTHANC", STUDY_MOVE))
    final = answers[-1][0]
    association.release()
    assert (final.Status, counts(final)) == (0, (len(IMAGES), 0, 0, None))
    assert len(orthanc.ask("/instances")) == len(IMAGES)


def test_orthanc_finds_a_study_and_has_it_sent_to_itself(orthanc: Orthanc) -> None:
    for known in orthanc.ask("/studies"):
        urllib.request.urlopen(
            urllib.request.Request(f"{orthanc.web}/studies/{known}", method="DELETE"), timeout=30
        ).close()
    query = orthanc.ask("/modalities/hilum/query", {"Level": "Study", "Query": {"StudyInstanceUID": STUDY}})
    orthanc.ask(f"/queries/{query['ID']}/retrieve", {"TargetAet": "ORTHANC", "Synchronous": True})
    assert eventually(lambda: len(orthanc.ask("/instances")) == len(IMAGES))


def test_orthanc_is_assured_of_what_we_hold_and_told_what_we_do_not(orthanc: Orthanc) -> None:
    held = [[str(image.SOPClassUID), str(image.SOPInstanceUID)] for image in IMAGES.values()]
    missing = ["1.2.840.10008.5.1.4.1.1.2", "1.2.95.404"]
    asked_for = orthanc.ask("/modalities/hilum/storage-commitment", {"DicomInstances": [*held, missing]})
    path = asked_for["Path"]
    assert eventually(lambda: orthanc.ask(path)["Status"] != "Pending")
    report = orthanc.ask(path)
    assert report["Status"] == "Failure"
    assert sorted(each["SOPInstanceUID"] for each in report["Success"]) == sorted(uid for _, uid in held)
    assert [each["SOPInstanceUID"] for each in report["Failures"]] == [missing[1]]
    # Orthanc has the report before its answer to it is written down here.
    assert eventually(
        lambda: {row.state for row in orthanc.hilum.rows(tables.commitment_request)} == {"reported"}, 20.0
    )


def test_the_folder_of_orthanc_is_imported_byte_for_byte(orthanc: Orthanc, tmp_path: Path) -> None:
    for image in IMAGES.values():
        sent = urllib.request.Request(f"{orthanc.web}/instances", part10_bytes(image), method="POST")
        urllib.request.urlopen(sent, timeout=30).close()
    assert orthanc.ask("/statistics")["CountInstances"] == len(IMAGES)
    blobs = FileBlobs(tmp_path / "archive")
    landing, store = open_landing(blobs, "tester"), open_store("sqlite", tmp_path)
    ledger = Ledger(tmp_path / "ledger", [orthanc.storage])
    became = Counter(
        done.became
        for done in import_paths(
            Ingest(store, blobs, landing), [orthanc.storage], system_actor("test"), ledger, largest=1 << 30
        )
    )
    assert became[Became.STORED] == len(IMAGES)
    assert not became[Became.REFUSED]
    theirs = set()
    for known in orthanc.ask("/instances"):
        with urllib.request.urlopen(f"{orthanc.web}/instances/{known}/file", timeout=30) as answer:
            theirs.add(hashlib.sha256(stored_bytes(answer.read())).hexdigest())
    with store.read() as db:
        assert set(db.execute(sa.select(tables.instance.c.digest)).scalars()) == theirs
    ledger.close(ended=True)
    landing.close()
    store.close()
