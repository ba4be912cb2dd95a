"""MLLP over real sockets: framing however the bytes arrive, bounds that hold, and answers that are credited rightly."""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
import subprocess
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fixtures.ports import free_ports
from hilum.core.errors import HilumError, InvalidInput, TooLarge
from hilum.hl7.mllp import CutFrame, Deframer, MllpServer, PeerInfo, framed
from hilum.hl7.mllp_client import BlockingMllpClient, MllpClient, NotSent, Unanswered, answers, control_id_of

MLLP_SEND = Path(sysconfig.get_path("scripts")) / "mllp_send"


def message(control_id: str, text: str = "") -> bytes:
    return f"MSH|^~\\&|RIS|GEN|HILUM|IMG|20260101||ORU^R01|{control_id}|P|2.5\rOBX|1|TX|||{text}\r".encode()


def ack(control_id: str | bytes, code: str = "AA") -> bytes:
    known = control_id.decode() if isinstance(control_id, bytes) else control_id
    return f"MSH|^~\\&|HILUM|IMG|RIS|GEN|20260101||ACK|A{known}|P|2.5\rMSA|{code}|{known}\r".encode()


async def acknowledging(received: bytes, peer: PeerInfo) -> list[bytes]:
    return [ack(control_id_of(received))]


def refusing(reason: HilumError, prefix: bytes) -> bytes:
    return f"MSH|^~\\&|HILUM\rMSA|AR||{reason.code}|{len(prefix)}\r".encode()


class Peer:
    """A plain socket that speaks to the server."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.sock = socket.create_connection(address, 10)
        self.deframer = Deframer()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def receive(self) -> bytes | None:
        """The next frame, or None when the server closed."""
        while (frame := self.deframer.next()) is None:
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self.deframer.feed(data)
        return frame


async def in_thread(function: Callable[..., object], *args: object) -> object:
    return await asyncio.wait_for(asyncio.to_thread(function, *args), 30)


def with_server(play: Callable[[MllpServer], object], handle=acknowledging, **options) -> MllpServer:
    """Starts a server, lets `play` run in a thread beside it, drains it."""

    async def run() -> MllpServer:
        server = MllpServer("127.0.0.1", 0, handle, refuse=refusing, **options)
        await server.start()
        try:
            await in_thread(play, server)
        finally:
            await server.drain(grace=5)
        return server

    return asyncio.run(run())


def test_the_client_of_another_library_is_answered(tmp_path):
    source = tmp_path / "orders.hl7"
    source.write_bytes(message("1") + b"\n" + message("2"))

    def play(server: MllpServer) -> None:
        port = str(server.address[1])
        done = subprocess.run(
            [MLLP_SEND, "--loose", "--file", source, "-p", port, "127.0.0.1"], capture_output=True, timeout=20
        )
        assert done.returncode == 0
        assert b"MSA|AA|1" in done.stdout
        assert b"MSA|AA|2" in done.stdout

    assert with_server(play).counters.frames == 2


def test_a_frame_may_be_split_at_every_byte():
    def play(server: MllpServer) -> None:
        peer = Peer(server.address)
        frame = framed(message("7"))
        for cut in range(1, len(frame)):
            peer.send(frame[:cut])
            time.sleep(0.0005)
            peer.send(frame[cut:])
            assert peer.receive() == ack("7")

    with_server(play)


def test_coalesced_frames_are_answered_one_by_one_in_order():
    running = 0

    async def slowly(received: bytes, peer: PeerInfo) -> list[bytes]:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0.002 if control_id_of(received) != b"1" else 0.03)
        running -= 1
        return [ack(control_id_of(received))]

    def play(server: MllpServer) -> None:
        peer = Peer(server.address)
        peer.send(b"".join(framed(message(str(number))) for number in range(1, 21)))
        assert [peer.receive() for _ in range(20)] == [ack(str(number)) for number in range(1, 21)]

    with_server(play, slowly)


def test_a_commit_and_an_application_answer_both_arrive_or_none():
    async def handle(received: bytes, peer: PeerInfo) -> list[bytes]:
        return [] if control_id_of(received) == b"silent" else [ack("1", "CA"), ack("1", "AA")]

    def play(server: MllpServer) -> None:
        peer = Peer(server.address)
        peer.send(framed(message("silent")) + framed(message("1")))
        assert [peer.receive(), peer.receive()] == [ack("1", "CA"), ack("1", "AA")]

    with_server(play, handle)


def test_a_missing_carriage_return_and_stray_bytes_between_frames_are_tolerated():
    def play(server: MllpServer) -> None:
        peer = Peer(server.address)
        peer.send(b"\x0b" + message("1") + b"\x1c")
        assert peer.receive() == ack("1")
        peer.send(b"\r\nstray" + framed(message("2")))
        assert peer.receive() == ack("2")
        peer.sock.close()
        while server.open_connections:
            time.sleep(0.005)

    assert with_server(play).counters.skipped_bytes == len("stray")


def test_a_peer_that_does_not_speak_mllp_is_refused_and_closed():
    def play(server: MllpServer) -> None:
        peer = Peer(server.address)
        peer.send(b"GET / HTTP/1.1\r\n" * 1000)
        assert b"MSA|AR||invalid" in peer.receive()
        assert peer.receive() is None

    with_server(play)


def test_a_message_cut_by_the_next_one_is_refused_and_the_next_one_taken():
    seen: list[bytes] = []

    async def handle(received: bytes, peer: PeerInfo) -> list[bytes]:
        seen.append(received)
        return [ack(control_id_of(received))]

    def play(server: MllpServer) -> None:
        peer = Peer(server.address)
        peer.send(b"\x0b" + message("1")[:70] + framed(message("2")))
        assert b"MSA|AR||invalid" in peer.receive()
        assert peer.receive() == ack("2")

    assert with_server(play, handle).counters.frames_refused == 1
    assert seen == [message("2")]


def test_a_vertical_tab_in_a_report_does_not_cut_it():
    deframer = Deframer()
    deframer.feed(framed(message("1", "line\x0bline")))
    assert deframer.next() == message("1", "line\x0bline")


def test_a_frame_without_end_is_refused_and_memory_stays_bounded():
    largest = 0
    size = 50 * 1024 * 1024

    def play(server: MllpServer) -> None:
        nonlocal largest
        peer = Peer(server.address)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        chunk, sent = b"x" * 65536, 0
        try:
            peer.send(b"\x0b" + message("1"))
            while sent < size:
                peer.send(chunk)
                sent += len(chunk)
                for connection in list(server._connections.values()):
                    largest = max(largest, len(connection.deframer))
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024

    server = with_server(play, max_frame_bytes=1024 * 1024)
    assert 512 * 1024 < largest <= 1024 * 1024 + 65536
    assert (server.counters.frames, server.counters.frames_refused) == (0, 1)


def test_the_refusal_of_a_frame_too_large_reaches_its_sender():
    def play(server: MllpServer) -> None:
        peer = Peer(server.address)
        peer.send(b"\x0b" + message("1") + b"x" * 4000)
        seen = len(message("1")) + 4000
        assert peer.receive() == f"MSH|^~\\&|HILUM\rMSA|AR||too-large|{seen}\r".encode()
        assert peer.receive() is None

    with_server(play, max_frame_bytes=2000)


def test_a_frame_of_exactly_the_largest_size_is_taken():
    whole = message("1")

    def play(server: MllpServer) -> None:
        peer = Peer(server.address)
        peer.send(framed(whole))
        assert peer.receive() == ack("1")
        peer.send(framed(whole + b"x"))
        assert b"MSA|AR||too-large" in peer.receive()

    with_server(play, max_frame_bytes=len(whole))


def test_a_connection_reset_within_a_frame_hurts_nobody():
    def play(server: MllpServer) -> None:
        other, peer = Peer(server.address), Peer(server.address)
        peer.send(b"\x0b" + message("1")[:40])
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        peer.sock.close()
        other.send(framed(message("2")))
        assert other.receive() == ack("2")
        while server.open_connections > 1:
            time.sleep(0.005)

    server = with_server(play)
    assert (server.counters.frames, server.counters.failures) == (1, 0)


def test_a_half_closed_connection_with_half_a_message_is_told_so():
    def play(server: MllpServer) -> None:
        peer = Peer(server.address)
        peer.send(b"\x0b" + message("1")[:40])
        peer.sock.shutdown(socket.SHUT_WR)
        assert b"MSA|AR||invalid|40" in peer.receive()

    assert with_server(play).counters.frames == 0


def test_silent_and_dripping_connections_are_closed_in_time():
    def play(server: MllpServer) -> None:
        silent, dripping = Peer(server.address), Peer(server.address)
        began = time.monotonic()
        dripping.send(b"\x0bMSH|")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while time.monotonic() - began < 30:
                dripping.send(b"x")
                time.sleep(0.03)
        assert b"MSA|AR||deadline" in dripping.receive()
        assert silent.receive() is None
        assert time.monotonic() - began < 20

    assert with_server(play, idle_timeout=0.4, frame_timeout=0.4).counters.timeouts == 2


def test_connections_above_the_cap_are_closed_at_once():
    def play(server: MllpServer) -> None:
        peers = [Peer(server.address) for _ in range(3)]
        for number, peer in enumerate(peers):
            peer.send(framed(message(str(number))))
            assert peer.receive() == ack(str(number))
        assert Peer(server.address).receive() is None
        peers[0].sock.close()
        while server.open_connections > 2:
            time.sleep(0.005)
        again = Peer(server.address)
        again.send(framed(message("9")))
        assert again.receive() == ack("9")

    assert with_server(play, max_connections=3).counters.connections_refused == 1


def test_a_slow_message_of_one_peer_does_not_hold_up_another():
    release = threading.Event()

    async def handle(received: bytes, peer: PeerInfo) -> list[bytes]:
        if control_id_of(received) == b"slow":
            await asyncio.to_thread(release.wait, 20)
        return [ack(control_id_of(received))]

    def play(server: MllpServer) -> None:
        slow, quick = Peer(server.address), Peer(server.address)
        slow.send(framed(message("slow")))
        for number in range(5):
            quick.send(framed(message(str(number))))
            assert quick.receive() == ack(str(number))
        release.set()
        assert slow.receive() == ack("slow")

    with_server(play, handle)


@pytest.mark.parametrize("error", [RuntimeError, TimeoutError, ConnectionError, InvalidInput])
def test_a_handler_that_fails_leaves_its_message_unanswered_and_the_server_up(error):
    async def handle(received: bytes, peer: PeerInfo) -> list[bytes]:
        if control_id_of(received) == b"bad":
            raise error("no")
        return [ack(control_id_of(received))]

    def play(server: MllpServer) -> None:
        bad, good = Peer(server.address), Peer(server.address)
        bad.send(framed(message("bad")))
        assert bad.receive() is None
        good.send(framed(message("1")))
        assert good.receive() == ack("1")

    assert with_server(play, handle).counters.failures == 1


def test_a_peer_that_never_reads_its_answers_is_dropped():
    async def handle(received: bytes, peer: PeerInfo) -> list[bytes]:
        return [b"MSH|" + b"y" * 8_000_000]

    def play(server: MllpServer) -> None:
        peer = Peer(server.address)
        peer.send(framed(message("1")))
        deadline = time.monotonic() + 10
        while server.open_connections and time.monotonic() < deadline:
            time.sleep(0.02)
        assert server.open_connections == 0

    with_server(play, handle, frame_timeout=0.3)


def _certificates(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts for server and client that trust one certificate, made now and used by both ends."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ris.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "both.pem"
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    pem.write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain) + certificate.public_bytes(encoding)
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pem))
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=str(pem))
    for context in (server, client):
        context.load_cert_chain(pem)
    return server, client


def test_over_tls_the_peer_is_known_by_its_certificate_and_others_get_nowhere(connect, tmp_path):
    server_context, client_context = _certificates(tmp_path)
    subjects: list[str] = []

    async def handle(received: bytes, peer: PeerInfo) -> list[bytes]:
        subjects.append(peer.certificate.common_name if peer.certificate else "")
        return [ack(control_id_of(received))]

    def play(server: MllpServer) -> None:
        port = server.address[1]
        client = connect(port, ssl=client_context)
        for number in range(3):
            assert client.send(message(str(number)), 30) == ack(str(number))
        with pytest.raises(NotSent):
            connect(port, ssl=ssl.create_default_context()).send(message("8"), 30)
        with pytest.raises(Unanswered):
            connect(port).send(message("9"), 30)

    assert with_server(play, handle, ssl=server_context).counters.frames == 3
    assert subjects == ["ris.example"] * 3


def test_draining_finishes_the_message_in_hand_and_takes_no_other():
    async def run() -> None:
        taken, release = asyncio.Event(), asyncio.Event()
        handled: list[bytes] = []

        async def handle(received: bytes, peer: PeerInfo) -> list[bytes]:
            handled.append(control_id_of(received))
            taken.set()
            await release.wait()
            return [ack(control_id_of(received))]

        server = MllpServer("127.0.0.1", 0, handle)
        address = await server.start()
        busy, idle = await in_thread(lambda: (Peer(address), Peer(address)))
        busy.send(framed(message("1")) + framed(message("2")))
        await taken.wait()
        draining = asyncio.create_task(server.drain())
        assert await in_thread(idle.receive) is None
        with pytest.raises(ConnectionError):
            await in_thread(Peer, address)
        assert not draining.done()
        release.set()
        assert await draining == 0
        assert [await in_thread(busy.receive), await in_thread(busy.receive)] == [ack("1"), None]
        assert handled == [b"1"]

    asyncio.run(run())


def test_draining_ends_though_a_message_does_not():
    async def run() -> None:
        async def handle(received: bytes, peer: PeerInfo) -> list[bytes]:
            await asyncio.sleep(60)
            return []

        server = MllpServer("127.0.0.1", 0, handle)
        peer = await in_thread(Peer, await server.start())
        peer.send(framed(message("1")))
        while not server.counters.frames:
            await asyncio.sleep(0.005)
        assert await server.drain(grace=0.1) == 1
        assert await in_thread(peer.receive) is None

    asyncio.run(run())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_the_deframer_gives_the_same_messages_for_any_chunks(size):
    stream = b"\r\n" + framed(message("1")) + b"\x0b\x1c" + framed(message("2")) + b"\x0bMSH|\x0bMSH|cut" + b"\x1c\r"
    deframer, found = Deframer(), []
    for start in range(0, len(stream), size):
        deframer.feed(stream[start : start + size])
        while True:
            try:
                whole = deframer.next()
            except CutFrame as cut:
                found.append((b"cut", cut.prefix))
                continue
            if whole is None:
                break
            found.append(whole)
    assert found == [message("1"), b"", message("2"), (b"cut", b"MSH|"), b"MSH|cut"]
    assert (deframer.inside, len(deframer), deframer.skipped_bytes) == (False, 0, 0)


def test_the_deframer_never_holds_more_than_a_message_and_a_chunk():
    deframer = Deframer(1000)
    deframer.feed(b"\x0b" + b"x" * 999)
    assert deframer.next() is None
    deframer.feed(b"xx")
    with pytest.raises(TooLarge):
        deframer.next()


# What the other end of a client does, once per connection: it gets the socket and the frames that arrive on it.
Script = Callable[[socket.socket, Iterator[bytes]], None]


class Receiver:
    """A receiver that follows a script for each connection it accepts, the last one again and again."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = scripts
        self.frames: list[bytes] = []
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            script = self.scripts[min(self.connections, len(self.scripts) - 1)]
            self.connections += 1
            with sock:
                sock.settimeout(10)
                try:
                    script(sock, self._arriving(sock))
                except OSError:
                    continue

    def _arriving(self, sock: socket.socket) -> Iterator[bytes]:
        deframer = Deframer()
        while data := sock.recv(65536):
            deframer.feed(data)
            while (frame := deframer.next()) is not None:
                self.frames.append(frame)
                yield frame


@contextmanager
def receiver(*scripts: Script) -> Iterator[Receiver]:
    found = Receiver(*scripts)
    found.thread.start()
    try:
        yield found
    finally:
        found.listener.close()


def obliging(sock: socket.socket, frames: Iterator[bytes]) -> None:
    for frame in frames:
        sock.sendall(framed(ack(control_id_of(frame))))


class AsyncInDisguise:
    """The asyncio client behind the interface of the blocking one, so that both are held to the same tests."""

    def __init__(self, host: str, port: int, **options: object) -> None:
        self.loop = asyncio.new_event_loop()
        self.client = MllpClient(host, port, **options)

    def send(self, sent: bytes, timeout: float) -> bytes:
        return self.loop.run_until_complete(self.client.send(sent, timeout))

    @property
    def late_answers(self) -> int:
        return self.client.late_answers

    def close(self) -> None:
        self.loop.run_until_complete(self.client.close())
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()


@pytest.fixture(params=[BlockingMllpClient, AsyncInDisguise], ids=["blocking", "asyncio"])
def connect(request):
    opened = []

    def client(port: int, **options: object):
        opened.append(request.param("127.0.0.1", port, **options))
        return opened[-1]

    yield client
    for each in opened:
        each.close()


def test_a_client_keeps_its_connection(connect):
    with receiver(obliging) as peer:
        client = connect(peer.port)
        for number in range(5):
            assert client.send(message(str(number)), 30) == ack(str(number))
        assert peer.connections == 1


def test_a_client_takes_only_the_answer_to_its_own_message(connect):
    def wrong_first(sock, frames):
        for frame in frames:
            sock.sendall(framed(ack("other")) + framed(b"MSH|^~\\&|\rPID|1"))
            time.sleep(0.02)
            sock.sendall(framed(ack(control_id_of(frame))))

    with receiver(wrong_first) as peer:
        client = connect(peer.port)
        assert client.send(message("1"), 30) == ack("1")
        assert client.late_answers == 2


def test_an_answer_that_names_another_message_only_is_no_answer(connect):
    def wrong(sock, frames):
        for _ in frames:
            sock.sendall(framed(ack("other")))

    with receiver(wrong) as peer, pytest.raises(Unanswered) as ambiguous:
        connect(peer.port).send(message("1"), 0.3)
    assert ambiguous.value.retryable


def test_a_late_answer_is_never_credited_to_the_next_message(connect):
    def late(sock, frames):
        next(frames)
        time.sleep(0.4)
        sock.sendall(framed(ack("1")) + framed(ack("2")))
        time.sleep(0.1)

    with receiver(late, obliging) as peer:
        client = connect(peer.port)
        with pytest.raises(Unanswered):
            client.send(message("1"), 0.2)
        assert client.send(message("2"), 30) == ack("2")
        assert peer.connections == 2
        assert peer.frames == [message("1"), message("2")]


def test_a_second_answer_to_an_earlier_message_is_discarded(connect):
    def twice(sock, frames):
        for frame in frames:
            sock.sendall(framed(ack(control_id_of(frame), "CA")) + framed(ack(control_id_of(frame), "AA")))

    with receiver(twice) as peer:
        client = connect(peer.port)
        assert client.send(message("1"), 30) == ack("1", "CA")
        assert client.send(message("2"), 30) == ack("2", "CA")
        assert client.late_answers >= 1


def test_a_refusal_by_a_receiver_that_could_not_read_the_header_is_taken(connect):
    def refuse(sock, frames):
        for _ in frames:
            sock.sendall(framed(ack("", "AR")))

    with receiver(refuse) as peer:
        assert connect(peer.port).send(message("1"), 30) == ack("", "AR")
    assert not answers(ack("", "AA"), b"1")


def test_nothing_listening_means_not_sent(connect):
    (port,) = free_ports(1)
    with pytest.raises(NotSent) as transient:
        connect(port).send(message("1"), 30)
    assert transient.value.retryable


def test_a_connection_closed_between_messages_is_opened_again_before_writing(connect):
    def once(sock, frames):
        sock.sendall(framed(ack(control_id_of(next(frames)))))

    with receiver(once, obliging) as peer:
        client = connect(peer.port)
        assert client.send(message("1"), 30) == ack("1")
        time.sleep(0.1)
        assert client.send(message("2"), 30) == ack("2")
        assert peer.connections == 2


def test_a_connection_reset_while_waiting_is_ambiguous(connect):
    def reset(sock, frames):
        next(frames)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    with receiver(reset, obliging) as peer:
        client = connect(peer.port)
        with pytest.raises(Unanswered):
            client.send(message("1"), 30)
        assert client.send(message("1"), 30) == ack("1")
        assert peer.frames == [message("1")] * 2


def test_a_receiver_that_answers_with_an_endless_frame_is_cut_off(connect):
    def endless(sock, frames):
        next(frames)
        sock.sendall(b"\x0b")
        for _ in range(200):
            sock.sendall(b"x" * 65536)

    with receiver(endless) as peer, pytest.raises(Unanswered):
        connect(peer.port).send(message("1"), 10)


def test_a_message_without_control_id_is_not_sent(connect):
    with receiver(obliging) as peer:
        for bad in (b"", b"PID|1", b"MSH|^~\\&|A", message("")):
            with pytest.raises(ValueError, match="control ID"):
                connect(peer.port).send(bad, 1)


def test_concurrent_messages_go_one_after_the_other():
    async def run(port: int) -> list[bytes]:
        client = MllpClient("127.0.0.1", port)
        sent = await asyncio.gather(*[client.send(message(str(number)), 10) for number in range(20)])
        await client.close()
        return sent

    with receiver(obliging) as peer:
        assert asyncio.run(run(peer.port)) == [ack(str(number)) for number in range(20)]
        assert peer.connections == 1


def test_a_cancelled_message_closes_its_connection():
    def never_the_first(sock, frames):
        next(frames)
        time.sleep(0.3)
        sock.sendall(framed(ack("2")))

    async def run(port: int) -> bytes:
        client = MllpClient("127.0.0.1", port)
        task = asyncio.create_task(client.send(message("1"), 10))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        answer = await client.send(message("2"), 10)
        await client.close()
        return answer

    with receiver(never_the_first, obliging) as peer:
        assert asyncio.run(run(peer.port)) == ack("2")
        assert peer.connections == 2
