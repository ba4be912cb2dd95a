"""What a service's answers and refusals become on the wire, and what a peer may do meanwhile."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Iterator

import pytest
from dicom_wire import (
    CT_STORAGE,
    QUICK,
    STUDY_FIND,
    BarePeer,
    accept_all,
    echo_request,
    find_request,
    finding,
    serving,
    still_serves,
    storage,
    store_request,
)

import hilum.core.errors as refusals
from hilum.dicom.dimse.dispatch import AssociationContext, OperationCancelled, Request, Response
from hilum.dicom.dimse.messages import CommandField, CommandSet, encode_command
from hilum.dicom.dimse.status import CANCEL, DIMSE_STATUS, PENDING, ServiceClass, status_of
from hilum.dicom.upper_layer.pdu import AAbort, AReleaseRP, AReleaseRQ, fragment_message


class PatientNamed(Exception):
    pass


CANCEL_REQUEST = CommandSet(command_field=CommandField.C_CANCEL_RQ, message_id_being_responded_to=1)


def all_refusals() -> list[type[refusals.HilumError]]:
    found, queue = [], [refusals.HilumError]
    while queue:
        kind = queue.pop()
        if kind.__module__ == refusals.__name__:
            found.append(kind)
        queue += kind.__subclasses__()
    return found


def test_the_status_table_names_every_refusal_for_every_service_class() -> None:
    codes = {kind.code for kind in all_refusals()}
    assert len(codes) > 10
    assert set(DIMSE_STATUS) == set(ServiceClass)
    for table in DIMSE_STATUS.values():
        assert codes <= set(table)
        assert all(status not in (0, PENDING, CANCEL) for status in table.values())


def test_a_refusal_that_the_table_does_not_name_takes_its_ancestors_status() -> None:
    class Special(refusals.OutOfSpace):
        code = "special"

    assert status_of(Special(), ServiceClass.STORAGE) == 0xA700
    assert status_of(Special(), ServiceClass.PROCEDURE_STEP) == 0x0213


def test_a_refusal_becomes_status_comment_and_offending_element() -> None:
    def refuse(context: AssociationContext, request: Request) -> Response:
        raise refusals.MissingField("Study Instance UID is missing; " + "é\\" * 60, field="StudyInstanceUID")

    with serving(storage(refuse)) as server, BarePeer(server) as peer:
        peer.associate()
        peer.send(3, store_request(9), b"data")
        command, data = peer.answer()
        assert (command.status, command.message_id_being_responded_to, data) == (0xC000, 9, None)
        assert command.affected_sop_instance_uid == "1.2.3.4"
        assert command.offending_element == (0x0020000D,)
        assert command.error_comment is not None
        assert command.error_comment.startswith("Study Instance UID is missing; ?/")
        assert len(command.error_comment) == 64
        peer.send(1, echo_request())
        assert peer.answer()[0].status == 0, "the association lives on"


def test_an_unforeseen_exception_is_0110_and_says_nothing_of_the_patient(caplog: pytest.LogCaptureFixture) -> None:
    def fail(context: AssociationContext, request: Request) -> Response:
        raise PatientNamed("Doe^Jane 4711")

    caplog.set_level(logging.DEBUG)
    with serving(storage(fail)) as server, BarePeer(server) as peer:
        peer.associate()
        peer.send(3, store_request(), b"data")
        command, _ = peer.answer()
        assert command.status == 0x0110
        assert command.error_comment == "Processing failure."
        peer.send(1, echo_request())
        assert peer.answer()[0].status == 0
    ours = [record for record in caplog.records if record.name.startswith("hilum")]
    assert [record.exc_info[0] for record in ours if record.exc_info] == [PatientNamed]  # telemetry writes its places
    for record in ours:
        said = {key: value for key, value in vars(record).items() if key not in ("exc_info", "exc_text")}
        assert "Doe" not in repr(said)
        assert "4711" not in repr(said)


def test_many_answers_are_sent_as_they_come_and_success_follows_by_itself() -> None:
    gate = threading.Event()

    def find(context: AssociationContext, request: Request) -> Iterator[Response]:
        assert request.data_set is not None
        yield Response(PENDING, request.data_set.tobytes() + b"1")
        gate.wait(30)
        yield Response(PENDING, b"2" * 50000)

    with serving(finding(find)) as server, BarePeer(server) as peer:
        peer.associate()
        peer.send(5, find_request(), b"identifier")
        command, data = peer.answer()
        assert (command.status, data) == (PENDING, b"identifier1")
        gate.set()
        command, data = peer.answer()
        assert (command.status, data) == (PENDING, b"2" * 50000)
        command, data = peer.answer()
        assert (command.status, data, command.affected_sop_class_uid) == (0, None, STUDY_FIND)


def endless(closed: list[str]) -> object:
    def find(context: AssociationContext, request: Request) -> Iterator[Response]:
        try:
            while True:
                time.sleep(0.01)
                yield Response(PENDING, b"match")
        except OperationCancelled:
            closed.append("cancelled")
            raise
        finally:
            closed.append("closed")

    return find


def last_answer(peer: BarePeer) -> CommandSet:
    while True:
        command, _ = peer.answer()
        if command.status != PENDING:
            return command


def test_a_cancel_between_answers_ends_the_find() -> None:
    closed: list[str] = []
    with serving(finding(endless(closed))) as server, BarePeer(server) as peer:  # type: ignore[arg-type]
        peer.associate()
        peer.send(5, find_request(), b"identifier")
        peer.answer()
        peer.send(5, dataclasses.replace(CANCEL_REQUEST, message_id_being_responded_to=77))
        peer.answer()
        assert closed == [], "a cancel of another message changes nothing"
        peer.send(5, CANCEL_REQUEST)
        assert last_answer(peer).status == CANCEL
        assert closed == ["cancelled", "closed"]
        peer.send(5, CANCEL_REQUEST)  # too late, and no offence
        peer.send(1, echo_request(3))
        assert peer.answer()[0].message_id_being_responded_to == 3


def test_a_handler_may_answer_a_cancel_with_its_counts() -> None:
    def find(context: AssociationContext, request: Request) -> Iterator[Response]:
        try:
            while True:
                yield Response(PENDING, b"match")
        except OperationCancelled:
            yield Response(CANCEL, fields={"number_of_completed_suboperations": 4})

    with serving(finding(find)) as server, BarePeer(server) as peer:
        peer.associate()
        peer.send(5, find_request(), b"identifier")
        peer.send(5, CANCEL_REQUEST)
        assert last_answer(peer).number_of_completed_suboperations == 4


@pytest.mark.parametrize("ending", ["abort", "close", "release", "second request"])
def test_a_peer_that_leaves_in_the_middle_ends_the_handler(ending: str) -> None:
    closed: list[str] = []
    with serving(finding(endless(closed))) as server:  # type: ignore[arg-type]
        with BarePeer(server) as peer:
            peer.associate()
            peer.send(5, find_request(), b"identifier")
            peer.answer()
            if ending == "abort":
                peer.say(AAbort(0, 0))
            elif ending == "release":
                peer.say(AReleaseRQ())
            elif ending == "second request":
                peer.send(1, echo_request(2))
            else:
                peer.socket.shutdown(2)
            heard = []
            while (pdu := peer.hear()) is not None:
                heard.append(pdu)
                if isinstance(pdu, AReleaseRP | AAbort):
                    break
            if ending == "release":
                assert heard[-1] == AReleaseRP()
            if ending == "second request":
                assert heard[-1] == AAbort(0, 0)
        deadline = time.monotonic() + 5
        while not closed and time.monotonic() < deadline:
            time.sleep(0.01)
        assert closed == ["closed"]
        assert still_serves(server)


@pytest.mark.parametrize(
    ("command", "data", "status"),
    [
        (find_request(), b"x", 0x0211),
        (dataclasses.replace(store_request(), affected_sop_instance_uid=None), b"x", 0x0212),
        (store_request(), None, 0x0212),
        (dataclasses.replace(store_request(), command_field=0x0777), None, 0x0212),
    ],
    ids=["command not served", "no instance UID", "no data set", "unknown command"],
)
def test_a_command_that_cannot_be_served_gets_a_status(command: CommandSet, data: bytes | None, status: int) -> None:
    with serving(storage(accept_all)) as server, BarePeer(server) as peer:
        peer.associate()
        peer.send(3, command, data)
        answer, _ = peer.answer()
        assert answer.status == status
        assert answer.error_comment
        peer.send(1, echo_request())
        assert peer.answer()[0].status == 0


HUGE_LENGTH = b"\0\0\2\0\0\0\0\xc0" + encode_command(echo_request(), with_data_set=False)
TWO_HUNDRED_KB = b"\0\0\1\0\x00\x0d\3\0" + bytes(200_000) + encode_command(echo_request(), with_data_set=False)


@pytest.mark.parametrize("raw", [HUGE_LENGTH, b"\xff" * 50, TWO_HUNDRED_KB], ids=["3 GB length", "garbage", "200 KB"])
def test_a_command_that_cannot_be_read_is_aborted(raw: bytes) -> None:
    with serving(storage(accept_all)) as server:
        with BarePeer(server) as peer:
            peer.associate()
            peer.say(*fragment_message(raw, None, 1, 16384))
            assert peer.hear() == AAbort(0, 0)
        assert still_serves(server)


def test_fragments_out_of_order_are_aborted() -> None:
    command = encode_command(store_request(), with_data_set=True)
    orders = (
        fragment_message(b"", b"data first", 3, 16384),
        [*fragment_message(command, None, 3, 16384), *fragment_message(command, None, 3, 16384)],
        [*fragment_message(command, None, 3, 16384), *fragment_message(b"", b"other context", 1, 16384)],
    )
    with serving(storage(accept_all)) as server:
        for order in orders:
            with BarePeer(server) as peer:
                peer.associate()
                peer.say(*order)
                assert peer.hear() == AAbort(0, 0)
        assert still_serves(server)


def test_too_large_a_data_set_gets_a_status_and_the_association_lives() -> None:
    with serving(storage(accept_all, maximum=100_000)) as server, BarePeer(server) as peer:
        peer.associate()
        peer.send(3, store_request(), bytes(500_000))
        assert peer.answer()[0].status == 0xA700
        peer.send(3, store_request(2), bytes(100_000))
        assert peer.answer()[0].status == 0


def test_a_data_set_without_end_is_aborted() -> None:
    with serving(storage(accept_all, maximum=100_000)) as server:
        with BarePeer(server) as peer:
            peer.associate()
            peer.say(*fragment_message(encode_command(store_request(), with_data_set=True), None, 3, 16384))
            piece = b"\4\0\0\1\0\6\0\1\0\2\3\0" + bytes(65536)
            peer.say(*[piece] * 300)
            assert peer.hear() == AAbort(0, 0)
        assert still_serves(server)


def test_a_handler_sends_requests_of_its_own_and_hears_the_answers() -> None:
    def find(context: AssociationContext, request: Request) -> Iterator[Response]:
        (number,) = (number for number, abstract, _, _ in context.accepted if abstract == CT_STORAGE)
        for instance in ("1.1", "1.2"):
            answer = request.invoke(number, store_request(instance=instance), b"instance " + instance.encode())
            yield Response(PENDING, fields={"number_of_completed_suboperations": 1, "error_id": answer.status})

    with serving(finding(find), storage(accept_all)) as server, BarePeer(server) as peer:
        peer.associate()
        peer.send(5, find_request(40), b"identifier")
        for instance in ("1.1", "1.2"):
            command, data = peer.answer()
            assert (command.command_field, command.affected_sop_instance_uid) == (CommandField.C_STORE_RQ, instance)
            assert data == b"instance " + instance.encode()
            response = CommandSet(
                command_field=CommandField.C_STORE_RSP, message_id_being_responded_to=command.message_id, status=0xB000
            )
            peer.send(3, response)
            assert peer.answer()[0].error_id == 0xB000
        assert peer.answer()[0].status == 0


def test_the_next_association_sees_new_services() -> None:
    with serving(storage(accept_all)) as server, BarePeer(server) as peer:
        peer.associate()
        server.reconfigure(services=[storage(lambda context, request: Response(0xB000))])
        peer.send(3, store_request(), b"old")
        assert peer.answer()[0].status == 0
        with BarePeer(server) as later:
            later.associate()
            later.send(3, store_request(), b"new")
            assert later.answer()[0].status == 0xB000


def test_an_idle_association_gives_its_memory_back() -> None:
    limits = dataclasses.replace(QUICK, memory_budget=8 << 20)
    with serving(storage(accept_all), limits=limits) as server, BarePeer(server) as peer:
        peer.associate()
        for _ in range(2):
            peer.send(3, store_request(), bytes(3 << 20), 131072)
            assert peer.answer()[0].status == 0
            deadline = time.monotonic() + 5
            while not server._budget.take(8 << 20) and time.monotonic() < deadline:
                time.sleep(0.05)
            server._budget.give(8 << 20)
        assert time.monotonic() < deadline
