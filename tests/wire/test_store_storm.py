"""Many at once into one study, some breaking off or stalling: what is acknowledged is there, once, and whole."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from dicom_wire import CT_STORAGE, EXPLICIT, BarePeer, eventually, request_for, store_request

from fixtures.dicom_files import ct_image, dataset_bytes
from hilum.app import Application
from hilum.archive.retrieve import read_instance
from hilum.dicom.door import DicomDoor
from hilum.dicom.upper_layer.pdu import AAbort
from hilum.storage import tables

ASSOCIATIONS = 64
EACH = 3
STUDY = "1.2.77"
SETTINGS = """
[dicom]
bind = "127.0.0.1:0"
accept_unknown = "loopback"
max_associations = 200
max_associations_per_peer = 200
dimse_timeout = 2
"""
Sent = dict[str, bytes]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Application, DicomDoor]]:
    """The door as the role runs it, the index behind its answers."""
    home = tmp_path_factory.mktemp("home")
    (home / "hilum.toml").write_text(SETTINGS)
    application = Application(home, "dicom")
    application.prepare()
    application.ingest.index_behind(application.queue)
    door = DicomDoor(application.store, application.configuration, application.ingest, barrier=application.barrier)
    door.start()
    yield application, door
    door.drain(1.0)
    application.close()


def image(number: int, series: int = 1) -> tuple[str, bytes]:
    one = ct_image()
    one.StudyInstanceUID, one.SeriesInstanceUID = STUDY, f"{STUDY}.{series}"
    one.SOPInstanceUID, one.PatientID, one.PatientName = f"{STUDY}.{series}.{number}", "STORM", "Storm^All"
    return str(one.SOPInstanceUID), dataset_bytes(one)


def send(port: int, images: list[tuple[str, bytes]], acknowledged: Sent) -> None:
    with BarePeer(_At(port)) as peer:  # type: ignore[arg-type]
        peer.associate(request_for((1, CT_STORAGE, (EXPLICIT,))))
        for number, (uid, dataset) in enumerate(images, 1):
            peer.send(1, store_request(number, uid), dataset)
            if peer.answer()[0].status == 0:
                acknowledged[uid] = dataset


class _At:
    def __init__(self, port: int) -> None:
        self.port = port


def all_at_once(work: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()


def breaks_off(port: int, number: int) -> None:
    """Send two thirds of an instance and go."""
    uid, dataset = image(number, series=9)
    with contextlib.suppress(OSError), BarePeer(_At(port)) as peer:  # type: ignore[arg-type]
        peer.associate(request_for((1, CT_STORAGE, (EXPLICIT,))))
        whole: list[bytes] = []
        peer.say = lambda *what: whole.extend(bytes(part) for part in what)  # type: ignore[method-assign, arg-type]
        peer.send(1, store_request(1, uid), dataset)
        content = b"".join(whole)
        peer.socket.sendall(content[: len(content) * 2 // 3])


def test_a_storm_of_associations_leaves_one_study_whole(opened: tuple[Application, DicomDoor]) -> None:
    application, door = opened
    acknowledged: Sent = {}
    uid, same = image(9999)
    work: list[Callable[[], None]] = [
        lambda start=start: send(door.port, [image(start * EACH + n) for n in range(EACH)], acknowledged)  # type: ignore[misc]
        for start in range(ASSOCIATIONS)
    ]
    work += [lambda: send(door.port, [(uid, same)], acknowledged) for _ in range(20)]
    work += [lambda number=number: breaks_off(door.port, number) for number in range(12)]  # type: ignore[misc]
    all_at_once(work)
    application.barrier.wait(60)
    assert len(acknowledged) == ASSOCIATIONS * EACH + 1
    with application.store.read() as db:
        rows = {row.sop_instance_uid: row for row in db.execute(sa.select(tables.instance))}
        assert db.execute(sa.select(sa.func.count()).select_from(tables.instance)).scalar() == len(acknowledged)
        study = db.execute(sa.select(tables.study)).one()
        counts = db.execute(sa.select(tables.series.c.series_instance_uid, tables.series.c.instance_count)).all()
    assert set(rows) == set(acknowledged)
    assert (study.series_count, study.instance_count) == (1, len(acknowledged))
    assert [tuple(each) for each in counts] == [(f"{STUDY}.1", len(acknowledged))]
    for each, dataset in acknowledged.items():
        assert read_instance(application.blobs, rows[each]).endswith(dataset)


def test_a_peer_that_stalls_is_given_up_and_holds_nobody_up(opened: tuple[Application, DicomDoor]) -> None:
    _, door = opened
    uid, dataset = image(1, series=5)
    with BarePeer(_At(door.port)) as stalled:  # type: ignore[arg-type]
        stalled.associate(request_for((1, CT_STORAGE, (EXPLICIT,))))
        stalled.socket.sendall(b"\x04\x00\x00\x00\xff\xff\x00\x00\xff\xfb\x01\x03" + b"\x00" * 10)
        acknowledged: Sent = {}
        send(door.port, [(uid, dataset)], acknowledged)
        assert set(acknowledged) == {uid}
        assert isinstance(stalled.hear(), AAbort)
    assert eventually(lambda: door.server.counts()["open"] == 0, 20.0)
