"""Storage commitment: what is safe is said to be, what is not is named with a reason, and the peer is told for sure."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from dicom_door import Department, department
from dicom_wire import EXPLICIT, BarePeer, eventually, request_for
from image_peers import keep, with_peers
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from fixtures.dicom_files import CT_IMAGE_STORAGE, ct_image
from fixtures.ports import free_ports
from hilum.core.actor import Actor, system_actor
from hilum.core.identifiers import new_uid
from hilum.dicom.dimse.messages import CommandField, CommandSet
from hilum.dicom.encode import encode
from hilum.storage import tables
from hilum.storage.commitments import GIVEN_UP, WAITING
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.commitment import (
    GIVE_UP_AFTER,
    LONGEST_RETRY,
    NoteAttempt,
    RequestCommitment,
    note_attempt,
    request_commitment,
)

PUSH = "1.2.840.10008.1.20.1"
WELL_KNOWN = "1.2.840.10008.1.20.1.1"
SAFE = "1.2.90.1"
MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"
US = system_actor("test")
Told = list[tuple[int, Dataset]]


@contextlib.contextmanager
def archive(folder: Path, **peers: int | None) -> Iterator[Department]:
    with department(folder, with_peers(**peers)) as opened:
        if not opened.rows(tables.instance):
            keep(opened, ct_image(StudyInstanceUID="1.2.90", SOPInstanceUID=SAFE))
        yield opened


def action(*references: tuple[str, str], transaction: str | None = None) -> Dataset:
    information = Dataset()
    information.TransactionUID = new_uid() if transaction is None else transaction
    items = []
    for sop_class, sop_instance in references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_instance
        items.append(item)
    information.ReferencedSOPSequence = items
    return information


def ask(opened: Department, information: Dataset, *, ae: str = "CT01", wait: bool = True) -> tuple[Dataset, Told]:
    """Ask for commitment with pynetdicom; what was told on the same association."""
    told: Told = []

    def on_report(event: evt.Event) -> tuple[int, None]:
        told.append((event.event_type, event.event_information))
        return 0x0000, None

    requestor = AE(ae_title=ae)
    requestor.add_requested_context(PUSH)
    association = requestor.associate(
        "127.0.0.1", opened.port, ae_title="HILUM", evt_handlers=[(evt.EVT_N_EVENT_REPORT, on_report)]
    )
    assert association.is_established
    status, _ = association.send_n_action(information, 1, PUSH, WELL_KNOWN)
    if wait:
        assert eventually(lambda: bool(told))
        assert eventually(lambda: not [row for row in opened.rows(tables.commitment_request) if row.state == WAITING])
    association.release()
    return status, told


@dataclass
class Listener:
    """A modality that takes reports on associations to it."""

    port: int = 0
    told: Told = field(default_factory=list)
    roles: list[tuple[bool | None, bool | None]] = field(default_factory=list)
    status: int = 0


@contextlib.contextmanager
def modality(port: int = 0) -> Iterator[Listener]:
    listener = Listener(port or free_ports(1)[0])

    def on_report(event: evt.Event) -> tuple[int, None]:
        listener.told.append((event.event_type, event.event_information))
        listener.roles += [(context.as_scu, context.as_scp) for context in event.assoc.accepted_contexts]
        return listener.status, None

    acceptor = AE(ae_title="CT01")
    acceptor.add_supported_context(PUSH, scu_role=False, scp_role=True)
    handlers = [(evt.EVT_N_EVENT_REPORT, on_report)]
    server = acceptor.start_server(("127.0.0.1", listener.port), block=False, evt_handlers=handlers)
    try:
        yield listener
    finally:
        server.shutdown()


def grow_old(uow: UnitOfWork, by: timedelta, actor: Actor) -> None:
    uow.connection.execute(tables.commitment_request.update().values(created_at=uow.now - by))


def requests(opened: Department) -> list[tuple[str, int]]:
    return [(row.state, row.attempts) for row in opened.rows(tables.commitment_request)]


def test_what_is_stored_is_committed_to_on_the_association_of_who_has_no_address(tmp_path: Path) -> None:
    with archive(tmp_path, CT01=None) as opened:
        information = action((CT_IMAGE_STORAGE, SAFE))
        status, told = ask(opened, information)
        assert status.Status == 0
        ((event_type, report),) = told
        assert event_type == 1
        assert report.TransactionUID == information.TransactionUID
        assert [(i.ReferencedSOPClassUID, i.ReferencedSOPInstanceUID) for i in report.ReferencedSOPSequence] == [
            (CT_IMAGE_STORAGE, SAFE)
        ]
        assert "FailedSOPSequence" not in report
        assert report.RetrieveAETitle == "HILUM"
        assert requests(opened) == [("reported", 1)]


def test_what_is_not_there_or_of_another_class_is_named_with_its_reason(tmp_path: Path) -> None:
    with archive(tmp_path) as opened:
        _, ((event_type, report),) = ask(
            opened,
            action((CT_IMAGE_STORAGE, SAFE), (CT_IMAGE_STORAGE, "1.2.90.2"), ("1.2.840.10008.5.1.4.1.1.4", SAFE)),
        )
    assert event_type == 2
    assert [item.ReferencedSOPInstanceUID for item in report.ReferencedSOPSequence] == [SAFE]
    assert [(item.ReferencedSOPInstanceUID, item.FailureReason) for item in report.FailedSOPSequence] == [
        ("1.2.90.2", 0x0112), (SAFE, 0x0119)
    ]  # fmt: skip


def test_nothing_is_promised_of_bytes_that_are_gone_or_cut(tmp_path: Path) -> None:
    with archive(tmp_path) as opened:
        (row,) = opened.rows(tables.instance)
        with (tmp_path / "archive" / row.object_key).open("r+b") as file:
            file.truncate(row.object_offset + row.object_length - 1)
        _, ((event_type, report),) = ask(opened, action((CT_IMAGE_STORAGE, SAFE)))
        assert event_type == 2
        assert "ReferencedSOPSequence" not in report
        assert report.FailedSOPSequence[0].FailureReason == 0x0112
        (tmp_path / "archive" / row.object_key).unlink()
        _, ((event_type, _),) = ask(opened, action((CT_IMAGE_STORAGE, SAFE)))
        assert event_type == 2


def test_a_peer_with_an_address_is_called_back_in_the_role_of_the_scp(tmp_path: Path) -> None:
    with modality() as listener, archive(tmp_path, CT01=listener.port) as opened:
        status, told = ask(opened, action((CT_IMAGE_STORAGE, SAFE)), wait=False)
        assert (status.Status, told) == (0, [])
        assert eventually(lambda: requests(opened) == [("reported", 1)])
        ((event_type, report),) = listener.told
        assert (event_type, report.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) == (1, SAFE)
        # The modality stays the SCU of storage commitment though it accepted the association.
        assert set(listener.roles) == {(True, False)}


def test_a_peer_that_is_away_is_told_after_a_restart(tmp_path: Path) -> None:
    with modality() as gone:
        port = gone.port
    with archive(tmp_path, CT01=port) as opened:
        ask(opened, action((CT_IMAGE_STORAGE, SAFE)), wait=False)
        assert eventually(lambda: requests(opened) == [("waiting", 1)])
    with modality(port) as listener, archive(tmp_path, CT01=port) as opened:
        assert eventually(lambda: requests(opened)[0][0] == "reported")
        assert len(listener.told) == 1


def test_a_peer_that_does_not_confirm_is_told_again(tmp_path: Path) -> None:
    with modality() as listener, archive(tmp_path, CT01=listener.port) as opened:
        listener.status = 0x0110
        ask(opened, action((CT_IMAGE_STORAGE, SAFE)), wait=False)
        assert eventually(lambda: requests(opened) == [("waiting", 1)])
        listener.status = 0
        assert eventually(lambda: requests(opened) == [("reported", 2)])
        assert len(listener.told) == 2


def test_retries_come_slower_and_end_after_a_week(tmp_path: Path) -> None:
    with archive(tmp_path) as opened:
        command = RequestCommitment("CT01", "1.2.3", ((CT_IMAGE_STORAGE, SAFE),), timedelta(days=300))
        request_id = opened.store.run(request_commitment, command, US)
        pauses = []
        for _ in range(14):
            before = opened.store.clock()
            assert opened.store.run(note_attempt, NoteAttempt(request_id, told=False), US) == WAITING
            pauses.append(opened.rows(tables.commitment_request)[0].due_at - before)
        seconds = [round(pause.total_seconds()) for pause in pauses]
        assert seconds[:4] == [5, 10, 20, 40]
        assert seconds[-1] == LONGEST_RETRY.total_seconds()
        opened.store.run(grow_old, GIVE_UP_AFTER + timedelta(seconds=1), US)
        assert opened.store.run(note_attempt, NoteAttempt(request_id, told=False), US) == GIVEN_UP
        assert requests(opened) == [("given-up", 15)]


def test_the_same_transaction_again_is_one_request_and_told_anew(tmp_path: Path) -> None:
    with archive(tmp_path) as opened:
        information = action((CT_IMAGE_STORAGE, SAFE))
        assert len(ask(opened, information)[1]) == 1
        assert len(ask(opened, information)[1]) == 1
        assert requests(opened) == [("reported", 1)]


@pytest.mark.parametrize(
    ("information", "action_type", "instance", "status"),
    [
        (action((CT_IMAGE_STORAGE, SAFE)), 2, WELL_KNOWN, 0x0123),
        (action((CT_IMAGE_STORAGE, SAFE)), 1, "1.2.3", 0x0117),
        (action((CT_IMAGE_STORAGE, SAFE), transaction=""), 1, WELL_KNOWN, 0x0120),
        (action(), 1, WELL_KNOWN, 0x0120),
        (action((CT_IMAGE_STORAGE, "")), 1, WELL_KNOWN, 0x0106),
    ],
)
def test_what_is_no_request_for_commitment_is_refused_and_not_kept(
    tmp_path: Path, information: Dataset, action_type: int, instance: str, status: int
) -> None:
    with archive(tmp_path) as opened:
        requestor = AE(ae_title="CT01")
        requestor.add_requested_context(PUSH)
        association = requestor.associate("127.0.0.1", opened.port, ae_title="HILUM")
        answer, _ = association.send_n_action(information, action_type, PUSH, instance)
        association.release()
        assert answer.Status == status
        assert requests(opened) == []


def test_the_next_request_may_cross_the_report_on_the_last(tmp_path: Path) -> None:
    with archive(tmp_path) as opened, BarePeer(opened.door.server) as peer:
        peer.associate(request_for((1, PUSH, (EXPLICIT,))))

        def ask_for(message_id: int) -> None:
            command = CommandSet(
                requested_sop_class_uid=PUSH,
                requested_sop_instance_uid=WELL_KNOWN,
                command_field=CommandField.N_ACTION_RQ,
                message_id=message_id,
                action_type_id=1,
            )
            reference = {"ReferencedSOPClassUID": CT_IMAGE_STORAGE, "ReferencedSOPInstanceUID": SAFE}
            values = {"TransactionUID": f"1.2.{message_id}", "ReferencedSOPSequence": [reference]}
            peer.send(1, command, encode(values, EXPLICIT, ""))

        def confirm(report: CommandSet) -> None:
            command = CommandSet(
                affected_sop_class_uid=PUSH,
                command_field=CommandField.N_EVENT_REPORT_RSP,
                message_id_being_responded_to=report.message_id,
                status=0,
            )
            peer.send(1, command)

        ask_for(1)
        heard = [peer.answer()[0], peer.answer()[0]]
        ask_for(2)
        confirm(heard[1])
        heard += [peer.answer()[0], peer.answer()[0]]
        confirm(heard[3])
        assert [(each.command_field, each.message_id_being_responded_to, each.status) for each in heard] == [
            (CommandField.N_ACTION_RSP, 1, 0), (CommandField.N_EVENT_REPORT_RQ, None, None),
            (CommandField.N_ACTION_RSP, 2, 0), (CommandField.N_EVENT_REPORT_RQ, None, None),
        ]  # fmt: skip
        assert eventually(lambda: requests(opened) == [("reported", 1)] * 2)
