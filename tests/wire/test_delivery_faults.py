"""Delivery to a receiver that does everything wrong: nothing lost, order kept per patient, twice only what it must be.

The receiver is a socket that misbehaves by script; lanes, sender and database are the product's. What the receiver took
may come again where its answer did not get through, and then under the same control ID (MSH-10).
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from fixtures.certificates import Authority
from fixtures.outbound import TESTER, add_patient, eventually, happen
from fixtures.ports import free_ports
from hilum.core.actor import Actor, ActorKind, Door, Role
from hilum.core.event import Event
from hilum.delivery.lanes import Lanes
from hilum.delivery.ports import Encoded, EventContext, SendOutcome, Sent
from hilum.delivery.queue import QueueTarget, replay_queue
from hilum.delivery.router import Router
from hilum.delivery.tries import SettleTry, TakeDelivery, settle_try, take_delivery
from hilum.hl7.sender import MllpSender
from hilum.settings import Configuration, Destination, Settings
from hilum.storage.lanes import waiting_lanes
from hilum.storage.store import Store, utc_now

START, END = b"\x0b", b"\x1c\x0d"
TIMEOUT = 0.25
# What happens after the receiver has the message, so that it has to expect it again.
TAKEN_UNANSWERED = ("ack lost", "ack late", "wrong control id", "garbage", "slow drip")
NOT_TAKEN = ("reset mid-frame", "silence", "AE", "AR")
FAULTS = (*TAKEN_UNANSWERED, *NOT_TAKEN)
OPERATOR = Actor("anna", Role.ADMIN, ActorKind.PERSON, Door.CLI)


def encode(context: EventContext, destination: Destination, settings: Settings) -> Encoded:
    """A message of 20 KB, more than a receiver reads at once, with the text of the event in it."""
    text, control = context.event.details["text"], context.event.id
    body = f"MSH|^~\\&|HILUM|H|EHR|H|20260101||ORU^R01|{control}|P|2.5.1\rZTX|{text}|{'x' * 20_000}\r"
    return Encoded("ORU^R01", control, body.encode())


class Misbehaving:
    """An MLLP port that meets each message whose text names a fault with that fault, once, and then takes it."""

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.taken: dict[str, list[str]] = defaultdict(list)
        self.order: list[str] = []
        self._done: set[str] = set()
        self._tls = tls
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port or free_ports(1)[0]))
        self._socket.listen(16)
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._socket.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            speaking = self._tls.wrap_socket(connection, server_side=True) if self._tls else connection
            buffer = b""
            while data := speaking.recv(4096):
                buffer += data
                fault = self._fault_of(buffer)
                if fault == "reset mid-frame":
                    self._done.add(fault)
                    speaking.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                while END in buffer:
                    frame, _, buffer = buffer.partition(END)
                    if not self._meet(speaking, frame.lstrip(START)):
                        return

    def _fault_of(self, frame: bytes) -> str:
        text = frame.partition(b"ZTX|")[2].partition(b"|")[0].decode()
        fault = text.partition(":")[0]
        return fault if fault in FAULTS and fault not in self._done else ""

    def _meet(self, connection: socket.socket, message: bytes) -> bool:
        """Answer as the script says; False to close the connection."""
        text = message.partition(b"ZTX|")[2].partition(b"|")[0].decode()
        control = message.split(b"|", 10)[9].decode()
        fault = self._fault_of(message)
        self._done.add(fault)
        if fault not in NOT_TAKEN:
            self.taken[text].append(control)
            if text not in self.order:
                self.order.append(text)
        answer = framed(control, fault if fault in ("AE", "AR") else "AA")
        match fault:
            case "ack lost":
                return False
            case "silence":
                time.sleep(TIMEOUT * 2)
                return False
            case "ack late":
                time.sleep(TIMEOUT * 1.5)
                connection.sendall(answer)
            case "wrong control id":
                connection.sendall(framed("SOMEBODY-ELSE", "AA"))
            case "garbage":
                connection.sendall(os.urandom(3000).replace(START, b"z"))
            case "slow drip":
                for byte in answer:
                    connection.sendall(bytes([byte]))
                    time.sleep(TIMEOUT / 10)
            case _:
                connection.sendall(answer)
        return True


def framed(control: str, code: str) -> bytes:
    header = f"MSH|^~\\&|EHR|H|HILUM|H|20260101||ACK|{time.monotonic_ns()}|P|2.5.1"
    return START + f"{header}\rMSA|{code}|{control}\r".encode() + END


def home(folder: Path, **addresses: str) -> Configuration:
    """Destinations of these names; every change of an order goes to all of them."""
    lines = []
    for name, address in addresses.items():
        lines += ["[[destination]]", f'name = "{name}"', 'kind = "hl7"', f'address = "{address}"', 'ca = "ca.pem"']
        lines += [f"ack_timeout = {TIMEOUT}", "retry_first = 0.05", "retry_max = 0.1", "give_up = { AE = 3, AR = 2 }"]
        lines += ["maximum_age = 2"]
    lines += ["[[route]]", 'on = "OrderChanged"', f"to = {sorted(addresses)}".replace("'", '"')]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hilum.toml").write_text(
        "\n".join(line for line in lines if "mllps" in str(addresses) or "ca.pem" not in line)
    )
    return Configuration(folder)


@contextmanager
def at_work(store: Store, config: Configuration) -> Iterator[None]:
    sender = MllpSender(config.home)
    encoders = {"hl7": encode}
    lanes = Lanes(store, config, encoders, {"hl7": sender}, chance=lambda: 0.0)
    router = Router(store, config, encoders, on_routed=lanes.wake)
    lanes.start()
    router.start()
    try:
        yield
    finally:
        router.stop()
        assert lanes.stop()
        sender.close()


def nothing_waits(store: Store) -> bool:
    with store.read() as connection:
        return not waiting_lanes(connection)


def test_every_fault_costs_a_retry_and_no_message(sqlite_store: Store, tmp_path: Path) -> None:
    store, bad, good = sqlite_store, Misbehaving(), Misbehaving()
    config = home(tmp_path, ehr=f"mllp://127.0.0.1:{bad.port}", other=f"mllp://127.0.0.1:{good.port}")
    good._done.update(FAULTS)
    sent: dict[str, list[str]] = defaultdict(list)
    events: dict[str, Event] = {}
    for who in "ab":
        patient = add_patient(store, who)
        faults = FAULTS[::2] if who == "a" else FAULTS[1::2]
        for number, what in enumerate(each for fault in faults for each in (fault, "well")):
            text = f"{what}:{who}{number}"
            sent[who].append(text)
            events[text] = happen(store, patient, text)
    began = time.monotonic()
    with at_work(store, config):
        eventually(lambda: len(good.order) == len(events), "the other receiver has all")
        unhurt = time.monotonic() - began
        eventually(lambda: nothing_waits(store), "all is delivered")
    for peer in (bad, good):
        for who in "ab":
            assert [text for text in peer.order if text.partition(":")[2].startswith(who)] == sent[who]
    for text, controls in bad.taken.items():
        assert set(controls) == {events[text].id}, "what comes again has the same control ID"
        again = text.partition(":")[0] in TAKEN_UNANSWERED
        assert len(controls) == (2 if again else 1), text
    assert all(len(controls) == 1 for controls in good.taken.values())
    assert unhurt < (time.monotonic() - began) / 2, "a receiver that misbehaves slows no other"
    bad.close()
    good.close()


def test_a_receiver_that_is_down_for_an_hour_gets_all_in_order(sqlite_store: Store, tmp_path: Path) -> None:
    store, (port,) = sqlite_store, free_ports(1)
    config = home(tmp_path, ehr=f"mllp://127.0.0.1:{port}")
    patient = add_patient(store, "1")
    with at_work(store, config):
        for number in range(7):
            happen(store, patient, f"{number}")
            later(store, minutes=10)
            time.sleep(0.05)
        peer = Misbehaving(port)
        eventually(lambda: nothing_waits(store), "all is delivered")
    assert peer.order == [f"{number}" for number in range(7)]
    peer.close()


def test_what_could_not_be_delivered_for_too_long_is_a_persons_to_decide(sqlite_store: Store, tmp_path: Path) -> None:
    store = sqlite_store
    config = home(tmp_path, ehr="mllp://127.0.0.1:9")
    happen(store, add_patient(store, "1"), "old")
    router = Router(store, config, {"hl7": encode})
    while router.route_once().events:
        pass
    router.stop()
    assert try_once(store, config) == "waiting"
    later(store, minutes=121)
    assert try_once(store, config) == "dead"
    with store.read() as connection:
        (lane,) = waiting_lanes(connection)
    assert (lane.state, lane.reason) == ("blocked", "too-old")
    assert store.run(replay_queue, QueueTarget("ehr"), OPERATOR) == 1
    assert try_once(store, config, SendOutcome.ACCEPTED) == "delivered", "and then it is sent, however old"


def try_once(store: Store, config: Configuration, outcome: SendOutcome = SendOutcome.TRANSIENT) -> str | None:
    later(store, minutes=1)
    delivery = store.run(take_delivery, TakeDelivery("ehr", "w1"), TESTER)
    destination = config.current.destination_named("ehr")
    assert delivery is not None and destination is not None
    return store.run(settle_try, SettleTry(delivery, destination, Sent(outcome, "not-sent"), 0.0), TESTER).state


def later(store: Store, minutes: int) -> None:
    """Set the clock forward; it goes on from there."""
    ahead = store.clock() - utc_now() + timedelta(minutes=minutes)
    store.clock = lambda: utc_now() + ahead
    assert store._committer is not None
    store._committer._clock = store.clock


@pytest.mark.parametrize("why", ["certificate expired", "no such name"])
def test_what_is_wrong_with_a_receivers_name_or_certificate_is_mended_without_a_loss(
    sqlite_store: Store, tmp_path: Path, why: str
) -> None:
    store, authority = sqlite_store, Authority(tmp_path)
    held = authority.issue("receiver")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(held.cert, held.key)
    wrong = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    lapsed = authority.expired("lapsed")
    wrong.load_cert_chain(lapsed.cert, lapsed.key)
    peer = Misbehaving(tls=wrong if why == "certificate expired" else context)
    name = "localhost" if why == "certificate expired" else "no-such-host.invalid"
    config = home(tmp_path, ehr=f"mllps://{name}:{peer.port}")
    patient = add_patient(store, "1")
    for number in range(3):
        happen(store, patient, f"{number}")
    with at_work(store, config):
        eventually(lambda: waits_because(store) == "not-sent", "it is not sent")
        assert peer.order == []
        peer._tls = context
        home(tmp_path, ehr=f"mllps://localhost:{peer.port}")
        eventually(lambda: nothing_waits(store), "all is delivered")
    assert peer.order == ["0", "1", "2"]
    peer.close()


def waits_because(store: Store) -> str:
    with store.read() as connection:
        return next((lane.reason for lane in waiting_lanes(connection)), "")
