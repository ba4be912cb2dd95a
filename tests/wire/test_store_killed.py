"""Killed in the middle of receiving: every instance that was acknowledged is there, byte for byte, after a restart."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from dicom_door import SETTINGS, department
from dicom_wire import CT_STORAGE, BarePeer, request_for, store_request

from fixtures.dicom_files import ct_image, dataset_bytes
from hilum.archive.retrieve import read_instance
from hilum.storage import tables

EXPLICIT = "1.2.840.10008.1.2.1"
# The door as a process of its own, which says its port and then serves until it is killed.
SERVE = """
import sys, time
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from dicom_door import department
with department(Path(sys.argv[1])) as opened:
    print(opened.port, flush=True)
    time.sleep(60)
"""


class _Server:
    def __init__(self, port: int) -> None:
        self.port = port


def _send_until_cut_off(port: int, images: list[tuple[str, bytes]], acknowledged: dict[str, bytes]) -> None:
    with BarePeer(_Server(port)) as peer:  # type: ignore[arg-type]
        peer.associate(request_for((1, CT_STORAGE, (EXPLICIT,))))
        for number, (uid, dataset) in enumerate(images, 1):
            try:
                peer.send(1, store_request(number, uid), dataset)
                command, _ = peer.answer()
            except (OSError, AssertionError):
                return
            if command.status == 0:
                acknowledged[uid] = dataset


@pytest.mark.parametrize("round_number", range(3))
def test_what_was_acknowledged_survives_a_kill(tmp_path: Path, round_number: int) -> None:
    (tmp_path / "hilum.toml").write_text(SETTINGS, encoding="utf-8")
    here = Path(__file__).parent
    command = [sys.executable, "-c", SERVE, str(tmp_path), str(here), str(here.parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        acknowledged: dict[str, bytes] = {}
        images = [ct_image() for _ in range(400)]
        instances = [(str(image.SOPInstanceUID), dataset_bytes(image)) for image in images]
        batches = [instances[:200], instances[200:]]
        senders = [threading.Thread(target=_send_until_cut_off, args=(port, batch, acknowledged)) for batch in batches]
        for sender in senders:
            sender.start()
        end = time.monotonic() + 20
        wanted = 10 + random.randrange(40)
        while len(acknowledged) < wanted and time.monotonic() < end:
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()
    for sender in senders:
        sender.join(20)
    assert len(acknowledged) >= wanted
    with department(tmp_path) as opened:
        rows = {row.sop_instance_uid: row for row in opened.rows(tables.instance)}
        lost = [uid for uid, dataset in acknowledged.items() if not _is_there(opened.blobs, rows.get(uid), dataset)]
    assert lost == []


def _is_there(blobs: object, row: object, dataset: bytes) -> bool:
    return row is not None and read_instance(blobs, row).endswith(dataset)  # type: ignore[arg-type]
