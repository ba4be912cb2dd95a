"""C-MOVE sends images to a configured destination for a configured peer, counts them and lists what failed."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_door import Department, department
from dicom_wire import eventually
from image_peers import (
    LITTLE,
    MPEG2,
    PATIENT_MOVE,
    STUDY_MOVE,
    SYNTAXES,
    Received,
    asked,
    counts,
    destination,
    every_syntax,
    keep,
    read_dataset,
    stored_bytes,
    unreadable,
    with_peers,
)
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE

from fixtures.dicom_files import part10_bytes
from fixtures.ports import free_ports
from hilum.core.errors import Unavailable
from hilum.dicom.dimse.move import batches
from hilum.dicom.requestor import Called, associate
from hilum.storage import tables
from hilum.storage.retrieval import StoredInstance

STUDY = "1.2.80"
IMAGES = every_syntax(STUDY)
CLASSES = sorted({str(image.SOPClassUID) for image in IMAGES.values()})
AS_STORED = [*dict.fromkeys(str(image.file_meta.TransferSyntaxUID) for image in IMAGES.values())]
WHOLE = asked("SERIES", StudyInstanceUID=STUDY, SeriesInstanceUID=f"{STUDY}.1")


(PORT,) = free_ports(1)  # of the destination WS1, in the settings from the beginning


def ws1(sop_classes: Sequence[str], syntaxes: Sequence[str] = LITTLE, **how: Any) -> AbstractContextManager[Received]:
    return destination(sop_classes, syntaxes, port=PORT, **how)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Department]:
    with department(tmp_path_factory.mktemp("archive"), with_peers(MOVER=None, WS1=PORT)) as opened:
        keep(opened, *IMAGES.values(), unreadable(STUDY))
        yield opened


def move(
    opened: Department,
    keys: Dataset,
    *,
    to: str = "WS1",
    ae: str = "MOVER",
    model: str = STUDY_MOVE,
    cancel_after: int = 0,
) -> tuple[list[Dataset], Dataset, Dataset | None]:
    """Move with pynetdicom: the pending responses, the final one and its Identifier."""
    requestor = AE(ae_title=ae)
    requestor.add_requested_context(model)
    association = requestor.associate("127.0.0.1", opened.port, ae_title="HILUM")
    assert association.is_established
    pending: list[Dataset] = []
    final, identifier = Dataset(), None
    for status, answer in association.send_c_move(keys, to, model, msg_id=77):
        if status.Status == 0xFF00:
            pending.append(status)
            if len(pending) == cancel_after:
                association.send_c_cancel(77, None, model)
        else:
            final, identifier = status, answer
    association.release()
    return pending, final, identifier


def expected_bytes() -> dict[str, tuple[str, bytes]]:
    return {
        str(image.SOPInstanceUID): (str(image.file_meta.TransferSyntaxUID), stored_bytes(part10_bytes(image)))
        for image in IMAGES.values()
    }


def test_images_arrive_as_stored_with_who_asked_and_in_which_message(archive: Department) -> None:
    with ws1(CLASSES, AS_STORED) as received:
        pending, final, identifier = move(archive, WHOLE)
    assert (final.Status, counts(final), identifier) == (0, (len(IMAGES), 0, 0, None), None)
    assert [counts(each) for each in pending] == [
        (done, 0, 0, len(IMAGES) - done) for done in range(1, len(IMAGES) + 1)
    ]
    assert {uid: (syntax, content) for uid, syntax, content in received.instances} == expected_bytes()
    assert set(received.originators) == {("MOVER", 77)}
    assert received.associations == 1


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_a_destination_with_one_uncompressed_syntax_gets_the_same_pixels(archive: Department, syntax: str) -> None:
    with ws1(CLASSES, [syntax]) as received:
        _, final, _ = move(archive, WHOLE)
    assert (final.Status, counts(final)) == (0, (len(SYNTAXES), 0, 0, None))
    contents = {uid: content for uid, used, content in received.instances if used == syntax}
    for name, image in IMAGES.items():
        read = read_dataset(contents[str(image.SOPInstanceUID)], syntax)
        assert np.array_equal(read.pixel_array, image.pixel_array), name


def test_only_what_nothing_can_rewrite_fails_and_is_listed(archive: Department) -> None:
    with ws1(CLASSES, LITTLE) as received:
        _, final, identifier = move(archive, asked(StudyInstanceUID=STUDY))
    assert (final.Status, counts(final)) == (0xB000, (len(IMAGES), 1, 0, None))
    assert identifier is not None
    assert identifier.FailedSOPInstanceUIDList == f"{STUDY}.9.1"
    with ws1(CLASSES, [MPEG2]) as received:
        keys = asked("SERIES", StudyInstanceUID=STUDY, SeriesInstanceUID=f"{STUDY}.9")
        _, final, _ = move(archive, keys)
    assert (final.Status, counts(final), received.uids) == (0, (1, 0, 0, None), [f"{STUDY}.9.1"])


def test_refusals_and_warnings_of_the_destination_are_counted(archive: Department) -> None:
    statuses = {2: 0xA700, 3: 0xB006}
    with ws1(CLASSES, AS_STORED, answer=lambda number: statuses.get(number, 0)) as received:
        _, final, identifier = move(archive, WHOLE)
    assert (final.Status, counts(final)) == (0xB000, (len(IMAGES) - 2, 1, 1, None))
    assert identifier is not None
    assert identifier.FailedSOPInstanceUIDList == received.uids[1]


def test_classes_that_the_destination_does_not_take_fail_alone(archive: Department) -> None:
    with ws1(CLASSES[:1], AS_STORED) as received:
        _, final, identifier = move(archive, WHOLE)
    refused = [str(image.SOPInstanceUID) for image in IMAGES.values() if image.SOPClassUID != CLASSES[0]]
    assert final.Status == 0xB000
    assert identifier is not None
    assert sorted(identifier.FailedSOPInstanceUIDList) == sorted(refused)
    assert len(received.instances) == len(IMAGES) - len(refused)


def test_a_destination_that_is_not_there_fails_every_image(archive: Department) -> None:
    _, final, identifier = move(archive, WHOLE)
    assert (final.Status, counts(final)) == (0xA702, (0, len(IMAGES), 0, None))
    assert identifier is not None
    assert set(identifier.FailedSOPInstanceUIDList) == {str(image.SOPInstanceUID) for image in IMAGES.values()}


def test_a_destination_that_breaks_off_keeps_what_it_has_and_the_rest_fails(archive: Department) -> None:
    with ws1(CLASSES, AS_STORED, abort_at=3) as received:
        _, final, identifier = move(archive, WHOLE)
    assert (final.Status, counts(final)) == (0xB000, (2, len(IMAGES) - 2, 0, None))
    assert identifier is not None
    assert not set(identifier.FailedSOPInstanceUIDList) & set(received.uids[:2])


def test_an_unknown_destination_is_refused(archive: Department) -> None:
    with ws1(CLASSES) as received:
        assert move(archive, WHOLE, to="NOBODY")[1].Status == 0xA801
        # A peer without an address can call, but can't be called.
        assert move(archive, WHOLE, to="MOVER")[1].Status == 0xA801
    assert received.associations == 0


def test_who_is_no_configured_peer_moves_nothing_though_it_may_call(archive: Department) -> None:
    with ws1(CLASSES) as received:
        pending, final, _ = move(archive, WHOLE, ae="STRANGER")
    assert (pending, final.Status, received.associations) == ([], 0x0124, 0)
    refused = archive.rows(tables.audit_event, tables.audit_event.c.actor == "STRANGER")
    assert [(row.action, row.outcome) for row in refused] == [("refuse-move", "refused")]


def test_each_move_is_audited_with_its_destination(archive: Department) -> None:
    sent = tables.audit_event.c.action == "send-images"
    before = len(archive.rows(tables.audit_event, sent))
    with ws1(CLASSES, AS_STORED):
        move(archive, WHOLE)
        move(archive, WHOLE)
    rows = archive.rows(tables.audit_event, sent)
    assert len(rows) == before + 2
    (study,) = archive.rows(tables.study, tables.study.c.study_instance_uid == STUDY)
    assert (rows[-1].reason, rows[-1].actor, rows[-1].study_id) == ("to WS1", "MOVER", study.id)


def test_a_cancelled_move_stops_and_says_what_remains(archive: Department) -> None:
    def slowly(number: int) -> int:
        time.sleep(0.1)
        return 0

    with ws1(CLASSES, AS_STORED, answer=slowly) as received:
        _, final, _ = move(archive, WHOLE, cancel_after=2)
        completed, failed, _, remaining = counts(final)
        assert final.Status == 0xFE00
        assert completed == len(received.instances)
    assert 2 <= len(received.instances) < len(IMAGES)
    assert (failed, remaining) == (0, len(IMAGES) - len(received.instances))


def test_a_move_by_patient_takes_all_studies_of_the_patient(archive: Department) -> None:
    with ws1(CLASSES, [*AS_STORED, MPEG2]):
        _, final, _ = move(archive, asked("PATIENT", PatientID="P1"), model=PATIENT_MOVE)
    assert (final.Status, counts(final)) == (0, (len(IMAGES) + 1, 0, 0, None))


def test_dcmtk_moves_to_dcmtk(archive: Department, tmp_path: Path) -> None:
    store = ["/usr/bin/storescp", "-aet", "WS1", "-od", str(tmp_path), "+xa", str(PORT)]
    with subprocess.Popen(store, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as receiver:
        try:
            assert eventually(lambda: _listens(PORT))
            command = ["/usr/bin/movescu", "-S", "-aet", "MOVER", "-aem", "WS1", "-aec", "HILUM"]
            keys = ["QueryRetrieveLevel=SERIES", f"StudyInstanceUID={STUDY}", f"SeriesInstanceUID={STUDY}.1"]
            arguments = [part for key in keys for part in ("-k", key)]
            done = subprocess.run(
                [*command, *arguments, "127.0.0.1", str(archive.port)], capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 0, done.stderr
        finally:
            receiver.terminate()
    written = {str(read.SOPInstanceUID): read for read in map(pydicom.dcmread, tmp_path.iterdir())}
    assert set(written) == set(expected_bytes())
    for image in IMAGES.values():
        assert np.array_equal(written[str(image.SOPInstanceUID)].pixel_array, image.pixel_array)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_many_sop_classes_are_divided_among_associations_and_none_is_left_out() -> None:
    rows = [
        StoredInstance(str(i), "1.2", f"1.2.{i}", f"1.9.{i % 70}", AS_STORED[i % 2], "", "k", 0, 1, 0)
        for i in range(210)
    ]
    divided = list(batches(rows))
    assert len(divided) == 2  # three contexts a class, 42 classes an association
    assert sorted(row.id for batch, _ in divided for row in batch) == sorted(row.id for row in rows)
    for batch, wishes in divided:
        assert len(wishes) <= 128
        assert {(row.sop_class_uid, row.transfer_syntax_uid) for row in batch} <= set(wishes)


def test_a_peer_that_refuses_or_is_silent_is_unavailable() -> None:
    with ws1(CLASSES), pytest.raises(Unavailable):
        associate(Called("127.0.0.1", PORT, "WS1", "HILUM"), [("1.2.3", ExplicitVRLittleEndian)])
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Unavailable):
        associate(
            Called("127.0.0.1", silent.getsockname()[1], "WS1", "HILUM", seconds=0.5),
            [(CLASSES[0], ExplicitVRLittleEndian)],
        )
