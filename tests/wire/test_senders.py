"""Webhook, mail and file: what receivers really get, and how each way of failing is told, over real sockets."""

from __future__ import annotations

import hmac
import http.server
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from hilum.core.event import Event, EventName
from hilum.core.order import Code, Filler, Order, OrderStatus, Priority
from hilum.core.patient import Demographics, Patient, PatientIdentifier, PersonName
from hilum.delivery.ports import EventContext, SendOutcome
from hilum.delivery.senders import encoders, senders
from hilum.delivery.senders.file import file_name
from hilum.settings import Destination, Settings
from hilum.storage.deliveries import Delivery

NOW = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
ORDER = Order(
    "o1", "p1", "A100", "P1", "EPIC", "A100", "HILUM", Filler.HILUM, "1.2.3", "RP1", Code("CTCH"), "CT",
    Priority.STAT, OrderStatus.COMPLETED, NOW, reason="cough", clinical_information="smoker",
)  # fmt: skip
PATIENT = Patient("p1", Demographics(PersonName("DOEVICH", "JANEAN")), (PatientIdentifier("MRN77", "GENHOSP"),))
CONTEXT = EventContext(Event("e1", EventName.REPORT_SIGNED, NOW, "p1", "o1"), PATIENT, ORDER)
PRIVATE = ("DOEVICH", "JANEAN", "MRN77", "cough", "smoker")


def destination(kind: str, address: str, **extra: Any) -> Destination:
    return Destination(name="out", kind=kind, address=address, **{"ack_timeout": 2, **extra})


def delivery(body: bytes = b'{"a": 1}', control_id: str = "C1", position: int = 7, attempts: int = 1) -> Delivery:
    return Delivery("D1", "L1", "out", position, "e1", None, "ReportSigned", control_id, body, attempts, 0)


class _Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server: Any = self.server
        server.received.append((self.path, dict(self.headers), body))
        self.send_response(server.status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[Any]:
    """A receiver of webhooks."""
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hook)
    server.received, server.status = [], 204
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("kind", ["webhook", "file", "smtp"])
def test_a_notice_names_the_order_and_nothing_of_the_patient(kind: str, tmp_path: Path) -> None:
    addresses = {"webhook": "http://127.0.0.1:1/x", "file": "file:///out", "smtp": "smtp://127.0.0.1/a@example.org"}
    encoded = encoders()[kind](CONTEXT, destination(kind, addresses[kind]), Settings(home=tmp_path))
    assert encoded is not None
    assert b"A100" in encoded.body
    assert not [word for word in PRIVATE if word.encode() in encoded.body]
    assert encoded == encoders()[kind](CONTEXT, destination(kind, addresses[kind]), Settings(home=tmp_path))


def test_a_webhook_is_signed_over_its_time_and_its_bytes(hook: Any, tmp_path: Path) -> None:
    (tmp_path / "hook.secret").write_text("s3cret\n")
    target = destination("webhook", f"http://127.0.0.1:{hook.server_port}/in?a=b", password_file="hook.secret")
    assert senders(tmp_path)["webhook"].send(delivery(), target).outcome is SendOutcome.ACCEPTED
    ((path, headers, body),) = hook.received
    assert (path, body) == ("/in?a=b", b'{"a": 1}')
    expected = hmac.new(b"s3cret", headers["X-Hilum-Timestamp"].encode() + b"." + body, "sha256").hexdigest()
    assert headers["X-Hilum-Signature"] == f"v1={expected}"
    assert headers["X-Hilum-Delivery"] == "D1"
    assert abs(int(headers["X-Hilum-Timestamp"]) - time.time()) < 10


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, SendOutcome.ACCEPTED), (202, SendOutcome.ACCEPTED), (302, SendOutcome.REJECTED),
        (400, SendOutcome.REJECTED), (410, SendOutcome.REJECTED), (429, SendOutcome.TRANSIENT),
        (500, SendOutcome.ERROR), (503, SendOutcome.TRANSIENT),
    ],
)  # fmt: skip
def test_a_status_says_whether_to_try_again(hook: Any, tmp_path: Path, status: int, outcome: SendOutcome) -> None:
    hook.status = status
    target = destination("webhook", f"http://127.0.0.1:{hook.server_port}/")
    assert senders(tmp_path)["webhook"].send(delivery(), target).outcome is outcome
    assert len(hook.received) == 1, "redirects are not followed"


def test_a_webhook_that_cannot_be_reached_is_transient_and_one_that_never_answers_is_ambiguous(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        refused = senders(tmp_path)["webhook"].send(delivery(), destination("webhook", f"http://127.0.0.1:{port}/"))
        assert refused.outcome is SendOutcome.TRANSIENT
        silent.listen(1)
        started = time.monotonic()
        target = destination("webhook", f"http://127.0.0.1:{port}/", ack_timeout=0.5)
        assert senders(tmp_path)["webhook"].send(delivery(), target).outcome is SendOutcome.AMBIGUOUS
        assert time.monotonic() - started < 10


def test_a_receiver_that_answers_a_letter_at_a_time_does_not_hold_a_worker(tmp_path: Path) -> None:
    over = threading.Event()
    with socket.socket() as slow:
        slow.bind(("127.0.0.1", 0))
        slow.listen(1)

        def drip() -> None:
            connection, _ = slow.accept()
            with connection:
                for letter in b"HTTP/1.1 200 OK\r\n" + b"X-Slow: 1\r\n" * 50:
                    try:
                        connection.send(bytes([letter]))
                    except OSError:
                        return
                    if over.wait(0.1):
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        started = time.monotonic()
        target = destination("webhook", f"http://127.0.0.1:{slow.getsockname()[1]}/", ack_timeout=0.6)
        assert senders(tmp_path)["webhook"].send(delivery(), target).outcome is SendOutcome.AMBIGUOUS
        assert time.monotonic() - started < 10
        over.set()
        thread.join()


def test_a_missing_secret_sends_nothing_unsigned(hook: Any, tmp_path: Path) -> None:
    target = destination("webhook", f"http://127.0.0.1:{hook.server_port}/", password_file="not-there")
    sent = senders(tmp_path)["webhook"].send(delivery(), target)
    assert (sent.outcome, sent.reason) == (SendOutcome.TRANSIENT, "no-secret")
    assert hook.received == []


def test_files_appear_whole_sort_by_position_and_are_never_overwritten_by_another(tmp_path: Path) -> None:
    target, sender = destination("file", f"file://{tmp_path}/out"), senders(tmp_path)["file"]
    for position, body in ((12, b"MSH|^~\\&|later"), (3, b"MSH|^~\\&|first")):
        for _ in range(2):
            assert sender.send(delivery(body, "SAME", position), target).outcome is SendOutcome.ACCEPTED
    names = sorted(os.listdir(tmp_path / "out"))
    assert names == ["000000000000003-SAME.hl7", "000000000000012-SAME.hl7"]
    assert (tmp_path / "out" / names[0]).read_bytes() == b"MSH|^~\\&|first"


def test_a_hostile_control_id_stays_in_the_folder() -> None:
    assert file_name(delivery(control_id="../../etc/passwd\x00" + "x" * 500)).startswith("000000000000007-.._.._etc_pa")
    assert "/" not in file_name(delivery(control_id="a/b"))
    assert len(file_name(delivery(control_id="x" * 500))) < 120


def test_a_folder_that_is_no_folder_is_an_error_of_the_receiver(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    sent = senders(tmp_path)["file"].send(delivery(), destination("file", f"file://{tmp_path}/out"))
    assert (sent.outcome, sent.reason) == (SendOutcome.ERROR, "EEXIST")


class MailServer(threading.Thread):
    """Takes one message; `answers` overrides the code of a command."""

    def __init__(self, **answers: str) -> None:
        super().__init__(daemon=True)
        self.answers = answers
        self.message = b""
        self.recipients: list[str] = []
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(1)
        self.port = self._socket.getsockname()[1]
        self.start()

    def run(self) -> None:
        connection, _ = self._socket.accept()
        with connection, connection.makefile("rb") as lines:
            connection.sendall(b"220 mail\r\n")
            for line in lines:
                word = line[:4].strip().decode().upper()
                if word == "RCPT":
                    self.recipients.append(line.decode().split("<")[1].split(">")[0])
                if word == "DATA" and "DATA" not in self.answers:
                    connection.sendall(b"354 go\r\n")
                    while (part := lines.readline()) not in (b".\r\n", b""):
                        self.message += part
                    connection.sendall(self.answers.get("END", "250 taken").encode() + b"\r\n")
                    continue
                connection.sendall(self.answers.get(word, "250 mail").encode() + b"\r\n")
        self._socket.close()


def mail(server: MailServer, tmp_path: Path) -> tuple[SendOutcome, str]:
    target = destination("smtp", f"smtp://127.0.0.1:{server.port}/desk@example.org,night%40example.org")
    encoded = encoders()["smtp"](CONTEXT, target, Settings(home=tmp_path))
    assert encoded is not None
    sent = senders(tmp_path)["smtp"].send(delivery(encoded.body), target)
    server.join(30)
    return sent.outcome, sent.reason


def test_a_mail_reaches_its_recipients(tmp_path: Path) -> None:
    server = MailServer()
    assert mail(server, tmp_path) == (SendOutcome.ACCEPTED, "")
    assert server.recipients == ["desk@example.org", "night@example.org"]
    message = message_from_bytes(server.message)
    assert message["Subject"] == "Hilum: ReportSigned"
    assert "accessionNumber=A100" in str(message.get_payload())


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ({"RCPT": "550 unknown"}, SendOutcome.REJECTED),
        ({"RCPT": "451 later"}, SendOutcome.TRANSIENT),
        ({"END": "554 spam"}, SendOutcome.REJECTED),
        ({"END": "452 full"}, SendOutcome.TRANSIENT),
    ],
)
def test_a_mail_servers_answer_says_whether_to_try_again(
    tmp_path: Path, answers: dict[str, str], outcome: SendOutcome
) -> None:
    assert mail(MailServer(**answers), tmp_path)[0] is outcome


def test_a_mail_server_that_is_not_there_is_transient(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        target = destination("smtp", f"smtp://127.0.0.1:{nobody.getsockname()[1]}/a@example.org")
        assert senders(tmp_path)["smtp"].send(delivery(), target).outcome is SendOutcome.TRANSIENT


def test_raw_messages_keep_their_bytes_in_a_webhook_and_say_what_they_are(hook: Any, tmp_path: Path) -> None:
    raw = "MSH|^~\\&|EPIC|GENHOSP|||20260101||ADT^A04|1|P|2.3\rPID|1||\xe9".encode("latin-1")
    senders(tmp_path)["webhook"].send(delivery(raw), destination("webhook", f"http://127.0.0.1:{hook.server_port}/"))
    ((_, headers, body),) = hook.received
    assert body == raw
    assert headers["Content-Type"] == "application/hl7-v2"


def test_a_json_notice_is_json() -> None:
    encoded = encoders()["webhook"](CONTEXT, destination("webhook", "http://127.0.0.1:1/"), Settings(home=Path("/x")))
    assert encoded is not None
    notice = json.loads(encoded.body)
    assert notice["event"] == "ReportSigned"
    assert notice["order"]["reference"] == "ServiceRequest/o1"
