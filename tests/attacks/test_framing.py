"""HTTP as nobody should send it: each is refused early, and what comes behind it is never taken for a request."""

from __future__ import annotations

import socket

import pytest
from besieged import GROWTH, MIB, Besieged, status_of

pytestmark = [pytest.mark.xdist_group("attacks"), pytest.mark.timeout(300)]


def flood(target: Besieged, head: bytes, piece: bytes, times: int) -> tuple[int, bytes]:
    """Send a head and then a piece again and again; return how much was taken and what was answered."""
    sent = 0
    with socket.create_connection(("127.0.0.1", target.port), timeout=20) as connection:
        try:
            connection.sendall(head)
            for _ in range(times):
                connection.sendall(piece)
                sent += len(piece)
            answer = connection.recv(65536)
        except (BrokenPipeError, ConnectionResetError):
            return sent, b""
    return sent, answer


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"GET /health/live HTTP/1.1\r\nHost: x\r\n", b"X-Pad: " + b"a" * 8000 + b"\r\n"),
        (b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Pad: ", b"a" * 65536),
        (b"GET /health/live?", b"a" * 65536),
        (b"GET /health/live HTTP/1.1\r\nHost: x\r\nCookie: ", b"hilum_session=a; " * 4000),
        (b"", b"A" * 65536),
        (
            b"POST /auth/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            b"X-T: " + b"a" * 8000 + b"\r\n",
        ),
    ],
    ids=["many headers", "one header", "address", "cookies", "method", "trailers"],
)
def test_an_endless_head_is_cut_off(target: Besieged, head: bytes, piece: bytes) -> None:
    before = target.memory()
    sent, answer = flood(target, head, piece, 64 * MIB // len(piece))
    assert sent < 8 * MIB, "it was read to its end"
    assert status_of(answer) in (0, 400, 413, 414, 431)
    assert target.memory() - before < 32 * MIB
    target.still_works()


def test_the_head_that_clients_send_is_taken(target: Besieged) -> None:
    cookies = "; ".join(f"c{number}={'v' * 100}" for number in range(100))
    assert target.ask("GET", "/fhir/Patient?_count=1", headers={"Cookie": cookies}).status_code == 200
    values = ",".join(f"1.2.3.{number}" for number in range(900))
    assert target.ask("GET", f"/dicom-web/studies?StudyInstanceUID={values}").status_code == 204


def smuggled(target: Besieged, headers: bytes, body: bytes) -> bytes:
    inner = b"GET /health/live HTTP/1.1\r\nHost: inner\r\n\r\n"
    token = target.department.token("service").encode()
    head = b"POST /fhir/Patient/_search HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + b"\r\n"
    head += b"Content-Type: application/x-www-form-urlencoded\r\n" + headers + b"\r\n"
    return target.raw(head + body + inner)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n"),
        (b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"),
        (b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", b"0\r\n\r\n"),
        (b"Content-Length: 0\r\nContent-Length: 5\r\n", b""),
        (b"Content-Length: +0\r\n", b""),
        (b"Content-Length: 0x0\r\n", b""),
        (b"Content-Length: -1\r\n", b""),
        (b"Content-Length: 99999999999999999999999\r\n", b""),
        (b"Transfer-Encoding: chunked\r\n", b"-1\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\n", b"fffffffffffffffffff\r\n\r\n"),
        (b"X-A: b\r\n Content-Length: 0\r\n", b""),
        (b"X-A\x00: b\r\n", b""),
        (b"X A: b\r\n", b""),
    ],
)
def test_a_request_of_two_lengths_hides_no_other(target: Besieged, headers: bytes, body: bytes) -> None:
    answer = smuggled(target, headers, body)
    assert status_of(answer) in (0, 400, 413, 415)
    assert b"live\n" not in answer, "the hidden request was answered"


def test_each_method_is_the_one_of_the_request_line(target: Besieged) -> None:
    study = f"/dicom-web/studies/{target.placed.study_uid}"
    override = {"X-HTTP-Method-Override": "DELETE", "X-Method-Override": "DELETE", "X-HTTP-Method": "DELETE"}
    assert target.ask("GET", study + "/metadata", headers=override).status_code == 200
    assert target.ask(
        "POST", "/fhir/Patient/_search?_method=DELETE", headers=override, data="_count=1"
    ).status_code in (200, 400, 415)
    for method in ("DELETE", "PUT", "PATCH", "TRACE", "CONNECT", "PROPFIND"):
        for path in (study, "/fhir/Patient/x", "/orders/x", "/auth/login", "/metrics", "/cds-services"):
            answer = target.ask(method, path)
            assert answer.status_code in (400, 401, 403, 404, 405, 501), (method, path, answer.status_code)
            assert target.department.token("service") not in answer.text
    assert target.ask("GET", study + "/metadata").status_code == 200


def test_head_tells_no_more_than_get(target: Besieged) -> None:
    for path in ("/fhir/Patient", "/dicom-web/studies", "/metrics"):
        assert target.ask("HEAD", path, "auditor").status_code == 403
        assert target.raw(f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()).startswith(b"HTTP/1.1 401")
    answer = target.ask("HEAD", "/fhir/Patient")
    assert answer.status_code == 200
    assert answer.content == b""


@pytest.mark.parametrize(
    "first",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\r\n" * 5000,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET http://other.example/metrics HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET //other.example/%2e%2e/metrics HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: \xff\r\n\r\n",
        b"\x00" * 100,
    ],
)
def test_what_is_no_request_is_refused(target: Besieged, first: bytes) -> None:
    assert status_of(target.raw(first, 3)) in (0, 400, 401, 404, 405)


def test_a_websocket_is_not_opened(target: Besieged) -> None:
    answer = target.raw(
        b"GET /fhir/Patient HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert status_of(answer) in (0, 400, 401, 403, 404)
    assert GROWTH > 0
