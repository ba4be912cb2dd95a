"""What one client may take of a door: connections, time and requests; the others are served meanwhile."""

from __future__ import annotations

import contextlib
import http.client
import socket
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pynetdicom import AE

from fixtures.department import Department, Patient, accepted, eventually, new_department

pytestmark = [pytest.mark.xdist_group("connection-limits"), pytest.mark.timeout(240)]

VERIFICATION = "1.2.840.10008.1.1"
LIMITS = {
    "http": "header_timeout = 2\nbody_timeout = 2\nmax_connections = 500\nmax_connections_per_address = 300\n",
    "dicom": "max_associations = 20\nmax_associations_per_peer = 5\nacse_timeout = 5\n",
    "hl7": "max_connections = 40\nmax_connections_per_address = 10\nframe_timeout = 2\n",
}
GREEDY, OTHER = "127.0.0.66", "127.0.0.1"


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Department]:
    """A department with narrow limits."""
    made = new_department(tmp_path_factory.mktemp("limited"))
    file = made.home / "hilum.toml"
    text = file.read_text()
    for door, limits in LIMITS.items():
        text = text.replace(f"[{door}]\n", f"[{door}]\n{limits}")
    file.write_text(text + '[[dicom.peer]]\nae_title = "CT02"\n')
    made.start()
    yield made
    made.stop()
    made.ehr.close()


def http_port(department: Department) -> int:
    return int(department.http.rpartition(":")[2])


@contextlib.contextmanager
def connections(port: int, count: int, source: str = GREEDY) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 10, source_address=(source, 0)))
            for _ in range(count)
        ]


def is_closed(connection: socket.socket, seconds: float = 20.0) -> bool:
    """Whether the other end closes; whatever it says before is taken."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def drip(open_ones: list[socket.socket], byte: bytes) -> None:
    for each in open_ones:
        with contextlib.suppress(OSError):
            each.send(byte)


def ask(department: Department, path: str = "/health/live", source: str = OTHER, **headers: str) -> tuple[int, str]:
    """The status of a request from an address, and when to come again."""
    connection = http.client.HTTPConnection("127.0.0.1", http_port(department), timeout=30, source_address=(source, 0))
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("retry-after", "")


def refusals(department: Department) -> set[tuple[str, str, str]]:
    query = "SELECT door, reason, address FROM audit_event WHERE action = 'connect' AND outcome = 'refused'"
    with contextlib.closing(sqlite3.connect(department.home / "hilum.db")) as db:
        return set(db.execute(query).fetchall())


def test_two_hundred_clients_that_drip_their_headers_stop_nobody(limited: Department) -> None:
    with connections(http_port(limited), 200) as slow:
        drip(slow, b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        waited, began = [], time.monotonic()
        while time.monotonic() - began < 3:
            drip(slow, b"a")
            asked = time.monotonic()
            assert ask(limited)[0] == 200
            waited.append(time.monotonic() - asked)
            time.sleep(0.05)
        assert statistics.median(waited) < 1, "the others had to wait"
        assert all(map(is_closed, slow)), "a slow client still holds its connection"


def dripped_until_closed(connection: socket.socket) -> float:
    """Send a byte of a head now and then; return after how many seconds the other end closed, if within 30."""
    began = time.monotonic()
    connection.setblocking(False)
    while time.monotonic() - began < 30:
        try:
            connection.send(b"a")
            if connection.recv(65536) == b"":
                break
        except BlockingIOError:
            time.sleep(0.1)
        except OSError:
            break
    return time.monotonic() - began


def test_another_byte_buys_a_slow_head_no_time(limited: Department) -> None:
    """Slow loris on a new connection and on a kept one: what counts is from the head's first byte to its end."""
    start = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
    with connections(http_port(limited), 1) as (kept,):
        kept.sendall(start + b"\r\n")
        assert kept.recv(65536).startswith(b"HTTP/1.1 200 ")
        time.sleep(2.5)  # between two requests no head is due
        with connections(http_port(limited), 1) as (new,), ThreadPoolExecutor() as pool:
            drip([kept, new], start + b"X-Slow: ")
            lasted = list(pool.map(dripped_until_closed, (kept, new)))
    assert all(1.5 < seconds < 15 for seconds in lasted), lasted


def test_two_hundred_clients_that_drip_their_bodies_stop_nobody(limited: Department) -> None:
    head = b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n"
    head += b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    with connections(http_port(limited), 200) as slow:
        drip(slow, head + b"a")
        began = time.monotonic()
        while time.monotonic() - began < 5:
            drip(slow, b"a")
            assert ask(limited)[0] == 200
            time.sleep(0.1)
        slow[0].settimeout(20)
        assert slow[0].recv(65536).startswith(b"HTTP/1.1 408 ")
        assert all(map(is_closed, slow)), "a slow client still holds its connection"


def test_a_client_that_says_nothing_and_one_that_goes_on_after_its_refusal_are_closed(limited: Department) -> None:
    with connections(http_port(limited), 2) as (silent, refused):
        refused.sendall(b"POST /fhir/Patient/_search HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\na")
        assert refused.recv(65536).startswith(b"HTTP/1.1 401 ")
        began = time.monotonic()
        while time.monotonic() - began < 6:
            drip([refused], b"a")
            time.sleep(0.2)
        assert is_closed(silent)
        assert is_closed(refused)


def test_a_client_that_does_not_read_its_answers_is_closed(limited: Department) -> None:
    request = b"GET /fhir/metadata HTTP/1.1\r\nHost: x\r\nAccept: application/fhir+json\r\n\r\n"
    with connections(http_port(limited), 1) as (deaf,):
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(0.2)
        began = time.monotonic()
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            while time.monotonic() - began < 20:
                # The kernel holds some megabytes of answers before the server notices.
                with contextlib.suppress(TimeoutError):
                    deaf.sendall(request * 20)
                time.sleep(0.05)
        assert ask(limited)[0] == 200


def test_one_address_has_so_many_connections_and_others_have_theirs(limited: Department) -> None:
    with connections(http_port(limited), 300) as held, connections(http_port(limited), 1) as (beyond,):
        assert is_closed(beyond)
        assert ask(limited)[0] == 200
        assert held
    row = ("http", "too-many-connections-of-one-address", GREEDY)
    eventually(lambda: row in refusals(limited), "the refusal in the audit trail")
    eventually(lambda: ask(limited, source=GREEDY)[0] == 200, "room again after the others went")


def test_a_sender_has_so_many_connections_and_others_have_theirs(limited: Department) -> None:
    with connections(limited.hl7_port, 10) as held, connections(limited.hl7_port, 1) as (beyond,):
        assert is_closed(beyond)
        drip(held, b"\x0bMSH|")
        limited.register(Patient("T7"))
        assert all(map(is_closed, held)), "a message without an end holds its connection"
    row = ("hl7", "too-many-connections-of-one-address", GREEDY)
    eventually(lambda: row in refusals(limited), "the refusal in the audit trail")


def associations(port: int, title: str, count: int) -> list[object]:
    made = []
    for _ in range(count):
        ae = AE(title)
        ae.add_requested_context(VERIFICATION)
        made.append(ae.associate("127.0.0.1", port, ae_title="HILUM"))
    return made


def test_a_scanner_has_so_many_associations_and_others_have_theirs(limited: Department) -> None:
    held = associations(limited.dicom_port, "CT01", 5)
    assert all(each.is_established for each in held)
    (beyond,) = associations(limited.dicom_port, "CT01", 1)
    assert not beyond.is_established
    # transient, by the provider, local limit exceeded (PS3.8 table 9-21)
    said = beyond.acceptor.primitive
    assert (said.result, said.result_source, said.diagnostic) == (2, 3, 2)
    (other,) = associations(limited.dicom_port, "CT02", 1)
    assert other.send_c_echo().Status == 0
    for each in (*held, other):
        each.release()
    (again,) = associations(limited.dicom_port, "CT01", 1)
    assert again.is_established
    again.release()


def test_two_hundred_silent_connections_keep_no_scanner_out(limited: Department) -> None:
    with connections(limited.dicom_port, 200) as silent:
        drip(silent[:100], b"\x01\x00\x00")
        (other,) = associations(limited.dicom_port, "CT01", 1)
        assert other.send_c_echo().Status == 0
        other.release()
        assert all(map(is_closed, silent)), "a connection without a request is still open"


@contextlib.contextmanager
def at_most(department: Department, setting: str, value: int) -> Iterator[None]:
    """The department with another limit of [http], as its file says at once."""
    file = department.home / "hilum.toml"
    before = file.read_text()
    file.write_text(before.replace("[http]\n", f"[http]\n{setting} = {value}\n"))
    time.sleep(1.2)
    try:
        yield
    finally:
        file.write_text(before)
        time.sleep(1.2)
        ask(department)


def until_refused(attempt: Callable[[int], tuple[int, str]]) -> list[tuple[int, str]]:
    """The answers up to the first that is none."""
    answers: list[tuple[int, str]] = []
    while len(answers) < 300 and (not answers or answers[-1][0] == 200):
        answers.append(attempt(len(answers)))
    return answers


def test_an_address_that_asks_too_much_is_told_when_to_come_again(limited: Department) -> None:
    with at_most(limited, "requests_per_second_per_address", 1):
        answers = until_refused(lambda number: ask(limited, source=GREEDY))
        assert set(answers[:-1]) == {(200, "")}
        assert len(answers) > 10, "the burst of ten seconds' worth was not given"
        assert answers[-1] == (429, "1")
        assert ask(limited)[0] == 200, "another address pays for it"
        time.sleep(1.1)
        assert ask(limited, source=GREEDY)[0] == 200


def test_an_account_that_asks_too_much_is_told_too_wherever_it_asks_from(limited: Department) -> None:
    service, another = (f"Bearer {limited.token(role)}" for role in ("service", "admin"))
    with at_most(limited, "requests_per_second_per_account", 1):
        answers = until_refused(
            lambda number: ask(limited, "/fhir/metadata", f"127.0.0.{number % 20 + 70}", authorization=service)
        )
        assert set(answers[:-1]) == {(200, "")}
        assert answers[-1] == (429, "1")
        assert ask(limited, "/fhir/metadata", authorization=another)[0] == 200


def test_after_all_that_the_chain_works(limited: Department) -> None:
    patient = Patient("T8")
    limited.register(patient)
    placed = limited.place(patient)
    limited.perform(placed)
    assert accepted(limited.dictate(placed, "F", "No finding."))
