"""Images go on to other archives by C-STORE: all of them, once, as stored or readable, and never back."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
from dicom_door import SETTINGS
from dicom_wire import eventually
from forwarding_house import TESTER, House, forwarding, to
from image_peers import LITTLE, destination, every_syntax, keep, read_dataset, stored_bytes, unreadable, with_peers

from fixtures.dicom_files import ct_image, part10_bytes
from fixtures.ports import free_ports
from hilum.core.actor import Actor
from hilum.core.study import MatchState
from hilum.storage import tables
from hilum.storage.unit_of_work import UnitOfWork

CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY = "1.2.60"
IMAGES = every_syntax(STUDY)
CLASSES = sorted({str(image.SOPClassUID) for image in IMAGES.values()})
AS_STORED = [*dict.fromkeys(str(image.file_meta.TransferSyntaxUID) for image in IMAGES.values())]


def series(study: str, count: int, **attributes: object) -> list[pydicom.FileDataset]:
    return [
        ct_image(
            StudyInstanceUID=study,
            SeriesInstanceUID=f"{study}.1",
            SOPInstanceUID=f"{study}.1.{number}",
            InstanceNumber=number,
            **attributes,
        )
        for number in range(1, count + 1)
    ]


@contextlib.contextmanager
def house(folder: Path, port: int, *, route: str = "", more: str = "", peers: str = SETTINGS) -> Iterator[House]:
    there = to("pacs", "dicom", f"dicom://WS1@127.0.0.1:{port}", route=route, more=more)
    with forwarding(folder, there, peers) as opened:
        yield opened


def _to_conflict(uow: UnitOfWork, study_id: str, actor: Actor) -> None:
    uow.studies.match(study_id, MatchState.CONFLICT, None, None)


def delivered(opened: House, count: int = 1) -> bool:
    return eventually(lambda: [state for state, _ in opened.states()].count("delivered") == count)


def test_a_complete_study_arrives_as_stored_and_uncompressed_where_that_is_all_that_is_read(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with house(tmp_path / "hilum", port) as opened:
        keep(opened.hilum, *IMAGES.values())
        with destination(CLASSES, AS_STORED, port=port) as received:
            opened.complete(STUDY)
            assert delivered(opened)
        expected = {str(image.SOPInstanceUID): stored_bytes(part10_bytes(image)) for image in IMAGES.values()}
        assert {uid: content for uid, _, content in received.instances} == expected
        assert {row.status for row in opened.sent("pacs")} == {0}
        audited = opened.hilum.rows(tables.audit_event, tables.audit_event.c.action == "send-images")
        assert [row.reason for row in audited] == ["to pacs"]
    with house(tmp_path / "second", port) as opened:
        keep(opened.hilum, *IMAGES.values())
        with destination(CLASSES, LITTLE, port=port) as received:
            opened.complete(STUDY)
            assert delivered(opened)
        for image in IMAGES.values():
            (found,) = [each for each in received.instances if each[0] == str(image.SOPInstanceUID)]
            assert np.array_equal(read_dataset(found[2], found[1]).pixel_array, image.pixel_array)


def test_a_retry_sends_only_what_is_missing_and_a_warning_counts_as_sent(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    answers = {2: 0xB000, 4: 0xA700}  # a warning; then the receiver is full for once
    with house(tmp_path, port) as opened:
        keep(opened.hilum, *series("1.2.61", 5))
        with destination([CT], answer=lambda number: answers.get(number, 0), port=port) as received:
            opened.complete("1.2.61")
            assert delivered(opened)
        assert received.uids == [f"1.2.61.1.{number}" for number in (1, 2, 3, 4, 4, 5)]
        assert sorted(row.status for row in opened.sent("pacs")) == [0, 0, 0, 0, 0xB000]


def test_what_is_refused_for_good_becomes_a_dead_letter_while_the_rest_arrives(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with house(tmp_path, port, more="[destination.give_up]\nAE = 2") as opened:
        keep(opened.hilum, *series("1.2.62", 3), unreadable("1.2.62"))
        with destination([CT], answer=lambda number: 0xC000 if number in (2, 4) else 0, port=port) as received:
            opened.complete("1.2.62")
            assert eventually(lambda: opened.states() == [("dead", "status-C000")])
        # The second image was refused twice; the video has no syntax in common and was never sent.
        assert received.uids == ["1.2.62.1.1", "1.2.62.1.2", "1.2.62.1.3", "1.2.62.1.2"]
        assert len(opened.sent("pacs")) == 2


def test_an_image_never_goes_back_to_where_it_came_from(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    peers = with_peers(CT01=port)  # the sender of the images listens at the destination's address
    with house(tmp_path, port, peers=peers) as opened:
        keep(opened.hilum, *series("1.2.63", 2))
        with destination([CT], port=port) as received:
            opened.complete("1.2.63")
            assert delivered(opened)
        assert (received.instances, opened.sent("pacs")) == ([], [])


def test_a_route_chooses_images_by_series_source_and_any_attribute(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    only = "series.modality == 'CT' && source.peer == 'CT01' && header.KVP > 100 && instance.number < 3"
    with house(tmp_path, port, route=f'only = "{only}"') as opened:
        keep(opened.hilum, *series("1.2.64", 3, KVP="120"))
        other = ct_image(StudyInstanceUID="1.2.64", SeriesInstanceUID="1.2.64.2", KVP="80")
        keep(opened.hilum, other)
        with destination([CT], port=port) as received:
            opened.complete("1.2.64")
            assert delivered(opened)
        assert received.uids == ["1.2.64.1.1", "1.2.64.1.2"]


def test_images_in_conflict_with_their_order_wait_for_a_person(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with house(tmp_path, port) as opened:
        keep(opened.hilum, *series("1.2.65", 1))
        (row,) = opened.hilum.rows(tables.study)
        opened.hilum.store.run(_to_conflict, row.id, TESTER)
        with destination([CT], port=port) as received:
            opened.complete("1.2.65")
            assert eventually(lambda: opened.states() == [("parked", "study-in-conflict")])
        assert received.instances == []


def test_late_images_follow_alone(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with house(tmp_path, port) as opened, destination([CT], port=port) as received:
        images = series("1.2.66", 3)
        keep(opened.hilum, *images[:2])
        opened.complete("1.2.66")
        assert delivered(opened)
        keep(opened.hilum, images[2])
        opened.complete("1.2.66")
        assert delivered(opened, 2)
    assert received.uids == ["1.2.66.1.1", "1.2.66.1.2", "1.2.66.1.3"]


def test_storescp_of_dcmtk_keeps_what_it_is_sent(tmp_path: Path) -> None:
    assert shutil.which("/usr/bin/storescp")
    (port,) = free_ports(1)
    (tmp_path / "out").mkdir()
    command = ["/usr/bin/storescp", "-aet", "WS1", "-od", str(tmp_path / "out"), "+xa", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            with house(tmp_path / "hilum", port) as opened:
                keep(opened.hilum, *IMAGES.values())
                opened.complete(STUDY)
                assert delivered(opened)
        finally:
            process.terminate()
    arrived = {str(pydicom.dcmread(path).SOPInstanceUID) for path in (tmp_path / "out").iterdir()}
    assert arrived == {str(image.SOPInstanceUID) for image in IMAGES.values()}


def test_a_receiver_that_is_down_gets_everything_when_it_is_there_again(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with house(tmp_path, port) as opened:
        keep(opened.hilum, *series("1.2.67", 2))
        opened.complete("1.2.67")
        assert eventually(lambda: [reason for _, reason in opened.states()] == ["unavailable"])
        with destination([CT], port=port) as received:
            assert delivered(opened)
    assert len(received.instances) == 2


def test_archives_that_forward_in_a_ring_come_to_rest(tmp_path: Path) -> None:
    names, ports = ("A", "B", "C"), free_ports(3)
    with contextlib.ExitStack() as stack:
        ring = []
        for number, name in enumerate(names):
            following = (number + 1) % 3
            address = f"dicom://{names[following]}@127.0.0.1:{ports[following]}"
            own = f'bind = "127.0.0.1:{ports[number]}"\nae_title = "{name}"'
            settings = SETTINGS.replace('bind = "127.0.0.1:0"', own)
            ring.append(stack.enter_context(forwarding(tmp_path / name, to("next", "dicom", address), settings)))
        keep(ring[0].hilum, *series("1.2.68", 2))
        for opened in (*ring, *ring):
            opened.complete("1.2.68")
            assert eventually(lambda opened=opened: {state for state, _ in opened.states()} == {"delivered"})
        assert [len(opened.hilum.rows(tables.instance)) for opened in ring] == [2, 2, 2]
        assert [len(opened.states()) for opened in ring] == [1, 1, 1]
