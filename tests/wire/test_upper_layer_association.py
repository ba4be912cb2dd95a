"""PS3.8 9.2 over real sockets: every order of events a peer can produce, the hostile ones among them."""

from __future__ import annotations

import dataclasses
import socket
import struct
import threading
import time
from pathlib import Path

import pytest
from dicom_wire import (
    ALL_CONTEXTS,
    CT_STORAGE,
    EXPLICIT,
    IMPLICIT,
    QUICK,
    VERIFICATION,
    BarePeer,
    accept_all,
    echo_request,
    eventually,
    request_for,
    serving,
    still_serves,
    storage,
    store_request,
)

from hilum.dicom.dimse.messages import encode_command
from hilum.dicom.upper_layer.negotiation import AcceptancePolicy
from hilum.dicom.upper_layer.pdu import (
    AAbort,
    AAssociateAC,
    AAssociateRJ,
    AReleaseRP,
    AReleaseRQ,
    ContextReply,
    PDataTF,
    PresentationDataValue,
    encode_pdu,
    fragment_message,
)
from hilum.dicom.upper_layer.user_information import UserInformation

ACCEPT = AAssociateAC("HILUM", "TESTER", (ContextReply(1, 0, IMPLICIT),), UserInformation())
ECHO = encode_command(echo_request(), with_data_set=False)


def p_data(body: bytes) -> bytes:
    return struct.pack(">BxI", 4, len(body)) + body


def test_a_release_is_answered_and_the_transport_closed_by_the_peer() -> None:
    with serving() as server, BarePeer(server) as peer:
        peer.associate()
        peer.say(AReleaseRQ())
        assert peer.hear() == AReleaseRP()
        peer.socket.close()
        assert eventually(lambda: server.counts()["open-connections"] == 0)


@pytest.mark.parametrize(
    ("said", "source", "reason"),
    [
        (encode_pdu(ALL_CONTEXTS), 2, 2),
        (encode_pdu(ACCEPT), 2, 2),
        (encode_pdu(AAssociateRJ(1, 1, 1)), 2, 2),
        (encode_pdu(AReleaseRP()), 2, 2),
        (b"\x2a\0\0\0\0\4abcd", 2, 1),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 2, 1),
        (b"\5\0\0\0\0\5abcde", 2, 6),
        (b"\4\0\xff\xff\xff\xff", 2, 6),
        (p_data(b""), 2, 6),
        (p_data(b"\0\0\0\0\1\3"), 2, 6),
        (p_data(b"\0\0\0\1\1\3"), 2, 6),
        (p_data(b"\0\0\0\x63\1\3abc"), 2, 6),
        (p_data(struct.pack(">IBB", len(ECHO) + 2, 99, 3) + ECHO), 2, 6),
    ],
    ids=[
        "second A-ASSOCIATE-RQ",
        "A-ASSOCIATE-AC",
        "A-ASSOCIATE-RJ",
        "A-RELEASE-RP",
        "unknown PDU",
        "HTTP",
        "A-RELEASE-RQ of 5 bytes",
        "P-DATA of 4 GB",
        "P-DATA without a value",
        "value of length 0",
        "value of length 1",
        "value longer than its PDU",
        "context that was not accepted",
    ],
)
def test_what_may_not_come_in_an_association_is_aborted_with_its_reason(said: bytes, source: int, reason: int) -> None:
    with serving() as server:
        with BarePeer(server) as peer:
            peer.associate()
            peer.say(said)
            assert peer.hear() == AAbort(source, reason)
        assert still_serves(server)


@pytest.mark.parametrize(
    "said",
    [
        p_data(b"\0\0\0\x04\1\3ab"),
        encode_pdu(AReleaseRQ()),
        encode_pdu(ACCEPT),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
        b"\1\0\xff\xff\xff\xff",
        struct.pack(">BxI", 1, 80) + bytes(80),
        encode_pdu(ALL_CONTEXTS)[:6] + encode_pdu(ALL_CONTEXTS)[6:].replace(b"\x40\0\0\x11", b"\x40\0\xff\x11"),
    ],
    ids=["P-DATA", "release", "accept", "TLS hello", "4 GB request", "zeros", "item past its end"],
)
def test_what_is_no_request_is_aborted_before_any_association(said: bytes) -> None:
    with serving() as server:
        with BarePeer(server) as peer:
            peer.say(said)
            assert peer.hear() == AAbort(0, 0)  # AA-1 is a service-user abort
        assert still_serves(server)


def test_200_presentation_contexts_are_refused_and_128_are_not() -> None:
    with serving() as server:
        with BarePeer(server) as peer:
            peer.say(request_for(*((n % 256, VERIFICATION, (IMPLICIT,)) for n in range(1, 401, 2))))
            assert peer.hear() == AAssociateRJ(1, 3, 2)
        with BarePeer(server) as peer:
            accepted = peer.associate(request_for(*((n, VERIFICATION, (IMPLICIT,)) for n in range(1, 256, 2))))
            assert len(accepted.presentation_contexts) == 128


def test_a_connection_that_says_nothing_is_closed_by_artim() -> None:
    with serving() as server, BarePeer(server) as peer:
        begun = time.monotonic()
        assert peer.closed()
        assert time.monotonic() - begun < 20
        assert eventually(lambda: server.counts()["open-connections"] == 0)


def test_a_request_that_trickles_in_is_closed_by_artim() -> None:
    with serving() as server, BarePeer(server) as peer:
        raw = encode_pdu(ALL_CONTEXTS)
        begun = time.monotonic()
        with pytest.raises(OSError):
            for byte in raw * 4:
                peer.socket.sendall(bytes((byte,)))
                time.sleep(0.05)
        assert time.monotonic() - begun < 20
        assert still_serves(server)


def test_a_p_data_that_trickles_in_is_aborted() -> None:
    with serving() as server, BarePeer(server) as peer:
        peer.associate()
        peer.say(p_data(struct.pack(">IBB", 1002, 3, 1) + bytes(1000))[:100])
        assert peer.hear() == AAbort(0, 0)


def test_a_message_below_the_minimum_rate_is_aborted() -> None:
    limits = dataclasses.replace(QUICK, network_timeout=0.4, minimum_rate=1 << 20)
    with serving(storage(accept_all), limits=limits) as server, BarePeer(server) as peer:
        peer.associate()
        peer.say(*fragment_message(encode_command(store_request(), with_data_set=True), None, 3, 16384))
        with pytest.raises(OSError):
            for _ in range(100):
                peer.say(p_data(struct.pack(">IBB", 12, 3, 0) + bytes(10)))
                time.sleep(0.05)
        assert still_serves(server)


def test_an_idle_association_is_aborted() -> None:
    limits = dataclasses.replace(QUICK, idle_timeout=0.4)
    with serving(limits=limits) as server, BarePeer(server) as peer:
        peer.associate()
        assert peer.hear() == AAbort(0, 0)


def test_100_idle_connections_keep_nobody_out() -> None:
    limits = dataclasses.replace(QUICK, artim_timeout=30.0, maximum_connections=60)
    with serving(limits=limits) as server:
        idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
        try:
            assert eventually(lambda: server.counts()["connections"] == 100)
            assert still_serves(server)
            assert server.counts()["open-connections"] <= 60
            assert server.counts()["connections-evicted"] >= 40
        finally:
            for connection in idle:
                connection.close()


def test_an_abort_in_the_middle_of_a_data_set_stores_nothing() -> None:
    stored = []
    with serving(storage(lambda context, request: stored.append(request))) as server:  # type: ignore[arg-type, func-returns-value]
        for ending in (encode_pdu(AAbort(0, 0)), b""):
            with BarePeer(server) as peer:
                peer.associate()
                raw = b"".join(
                    fragment_message(encode_command(store_request(), with_data_set=True), bytes(50000), 3, 16384)
                )
                peer.say(raw[:40000] if not ending else raw[: len(raw) - 900] + ending)
                peer.socket.shutdown(socket.SHUT_WR)
                while peer.hear() is not None:
                    pass
        assert still_serves(server)
    assert stored == []


def test_the_called_and_the_calling_title_are_checked() -> None:
    policy = AcceptancePolicy(frozenset({"HILUM"}), lambda peer: peer.calling_ae_title == "CT01")
    with serving(policy=policy) as server:
        for request, reason in (
            (dataclasses.replace(ALL_CONTEXTS, called_ae_title="ELSE"), 7),
            (ALL_CONTEXTS, 3),
        ):
            with BarePeer(server) as peer:
                peer.say(request)
                assert peer.hear() == AAssociateRJ(1, 1, reason)
        with BarePeer(server) as peer:
            peer.associate(dataclasses.replace(ALL_CONTEXTS, calling_ae_title="CT01"))


def test_too_many_associations_are_told_to_come_back() -> None:
    limits = dataclasses.replace(QUICK, maximum_associations=3, maximum_associations_per_peer=2)
    with serving(limits=limits) as server:
        with BarePeer(server) as first, BarePeer(server) as second, BarePeer(server) as third:
            first.associate()
            second.associate()
            third.say(ALL_CONTEXTS)
            assert third.hear() == AAssociateRJ(2, 3, 2), "this peer has its share"
            with BarePeer(server) as other, BarePeer(server) as last:
                other.associate(dataclasses.replace(ALL_CONTEXTS, calling_ae_title="OTHER"))
                last.say(dataclasses.replace(ALL_CONTEXTS, calling_ae_title="LAST"))
                assert last.hear() == AAssociateRJ(2, 3, 1), "all places are taken"
        assert eventually(lambda: server.counts()["open"] == 0)
        assert still_serves(server)


def drained(server: object, timeout: float) -> tuple[threading.Thread, list[bool]]:
    result: list[bool] = []
    thread = threading.Thread(target=lambda: result.append(server.drain(timeout)))  # type: ignore[attr-defined]
    thread.start()
    return thread, result


def test_a_drain_finishes_the_message_then_releases() -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow(context: object, request: object) -> object:
        entered.set()
        leave.wait(30)
        return accept_all(context, request)

    with serving(storage(slow)) as server, BarePeer(server) as peer:  # type: ignore[arg-type]
        peer.associate()
        peer.send(3, store_request(), b"data set")
        assert entered.wait(30)
        thread, result = drained(server, 30.0)
        time.sleep(0.1)
        leave.set()
        assert peer.answer()[0].status == 0
        assert peer.hear() == AReleaseRQ()
        peer.say(AReleaseRP())
        assert peer.closed()
        thread.join(30)
        assert result == [True]
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", server.port)).close()


def test_a_release_collision_ends_in_order() -> None:
    with serving() as server, BarePeer(server) as peer:
        peer.associate()
        thread, result = drained(server, 30.0)
        assert peer.hear() == AReleaseRQ()
        peer.say(AReleaseRQ())  # AR-8: as the acceptor it waits for the requestor's response first
        peer.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            peer.hear()
        peer.socket.settimeout(30)
        peer.say(AReleaseRP())  # AR-10, then AR-4
        assert peer.hear() == AReleaseRP()
        peer.socket.close()
        thread.join(30)
        assert result == [True]


def test_a_peer_that_does_not_answer_the_release_is_aborted() -> None:
    with serving() as server, BarePeer(server) as peer:
        peer.associate()
        thread, result = drained(server, 1.0)
        assert peer.hear() == AReleaseRQ()
        assert peer.hear() == AAbort(0, 0)
        peer.socket.close()
        thread.join(30)
        assert result == [True]


def test_p_data_while_a_release_is_pending_is_not_served() -> None:
    stored = []
    with serving(storage(lambda context, request: stored.append(request))) as server, BarePeer(server) as peer:  # type: ignore[arg-type, func-returns-value]
        peer.associate()
        thread, _ = drained(server, 3.0)
        assert peer.hear() == AReleaseRQ()
        peer.send(3, store_request(), b"late")
        peer.say(AReleaseRP())
        assert peer.closed()
        thread.join(30)
    assert stored == []


def test_values_of_command_and_data_set_may_share_a_pdu() -> None:
    received = []

    def keep(context: object, request: object) -> object:
        received.append(request.data_set.tobytes())  # type: ignore[attr-defined]
        return accept_all(context, request)

    with serving(storage(keep)) as server, BarePeer(server) as peer:  # type: ignore[arg-type]
        peer.associate()
        command = memoryview(encode_command(store_request(), with_data_set=True))
        peer.say(
            PDataTF(
                (
                    PresentationDataValue(3, True, False, command[:10]),
                    PresentationDataValue(3, True, True, command[10:]),
                    PresentationDataValue(3, False, False, memoryview(b"one ")),
                )
            ),
            PDataTF((PresentationDataValue(3, False, False, memoryview(b"two ")),)),
            PDataTF(
                (
                    PresentationDataValue(3, False, False, memoryview(b"three ")),
                    PresentationDataValue(3, False, True, memoryview(b"four")),
                )
            ),
        )
        assert peer.answer()[0].status == 0
    assert received == [b"one two three four"]


def test_many_hostile_connections_leave_no_thread_and_no_descriptor_behind() -> None:
    with serving() as server:
        still_serves(server)
        threads, descriptors = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(30):
            with BarePeer(server) as peer:
                peer.say(b"\4\0\xff\xff\xff\xff garbage")
        assert eventually(lambda: server.counts()["open-connections"] == 0)
        assert eventually(lambda: threading.active_count() <= threads)
        assert eventually(lambda: len(list(Path("/proc/self/fd").iterdir())) <= descriptors)


def test_transfer_syntax_and_peer_reach_the_handler() -> None:
    seen = []

    def look(context: object, request: object) -> object:
        seen.append(context)
        return accept_all(context, request)

    with serving(storage(look)) as server, BarePeer(server) as peer:  # type: ignore[arg-type]
        peer.associate()
        peer.send(3, store_request(), b"x")
        peer.answer()
        address = peer.socket.getsockname()
    context = seen[0]
    assert (context.calling_ae_title, context.called_ae_title) == ("TESTER", "HILUM")
    assert (context.abstract_syntax, context.transfer_syntax) == (CT_STORAGE, EXPLICIT)
    assert context.peer.address == address
