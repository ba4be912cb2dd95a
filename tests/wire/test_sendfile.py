"""Files go to the socket by the kernel, byte for byte as a copy would; what can't be sent never looks whole."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from hilum.dicom.web.streams import Content, FilePlace, multipart_response
from hilum.serve import sendfile
from hilum.serve.sendfile import FileSender

SIZE = 9 << 20  # more than the buffers of a socket hold
SECONDS = 1.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "segment"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture
def sender() -> FileSender:
    return FileSender()


@pytest.fixture
def port(file: Path, sender: FileSender) -> Iterator[int]:
    """A server of two parts of the file; under /gone the second is not there, under /short it ends too soon."""

    def answer(request: Request) -> Response:
        missing = {"gone": file.with_name("nothing"), "short": file}.get(request.path_params["what"], file)
        begin = SIZE - 10 if request.path_params["what"] == "short" else 5
        places = [FilePlace(file, 100, 6 << 20), FilePlace(missing, begin, 2 << 20)]
        contents = [Content("application/dicom", [pieces_of(place)], place.length, place) for place in places]
        return multipart_response(contents, "application/dicom", {})

    def pieces_of(place: FilePlace) -> bytes:
        return place.path.read_bytes()[place.offset : place.offset + place.length] if place.path.exists() else b""

    app = Starlette(routes=[Route("/{what}", answer)])
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
    config.load()

    class Connection(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.app = sender.offered(self.app, transport, SECONDS)

    loop = asyncio.new_event_loop()
    state = ServerState()
    server = loop.run_until_complete(loop.create_server(lambda: Connection(config, state, {}), "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield server.sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)


def fetch(connection: http.client.HTTPConnection, method: str, path: str) -> bytes:
    connection.request(method, path)
    answer = connection.getresponse()
    body = answer.read()
    if method == "GET":
        assert len(body) == int(answer.headers["content-length"])
    return body


def parts_are(body: bytes, file: Path) -> bool:
    content = file.read_bytes()
    return body.count(content[100 : 100 + (6 << 20)]) == 1 and body.count(content[5 : 5 + (2 << 20)]) == 1


@pytest.fixture(params=["kernel", "copied"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """By the kernel, and as when all threads have slow clients."""
    if request.param == "copied":
        monkeypatch.setattr(sendfile, "THREADS", 0)
    return str(request.param)


def test_parts_come_whole_and_the_connection_goes_on(port: int, file: Path, way: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for _ in range(3):
        assert parts_are(fetch(connection, "GET", "/whole"), file)
        assert fetch(connection, "HEAD", "/whole") == b""


@pytest.mark.parametrize("what", ["/gone", "/short"])
def test_what_is_not_there_breaks_the_connection_before_the_promised_length(port: int, what: str, way: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        fetch(connection, "GET", what)


def test_a_client_that_takes_nothing_is_cut_off_and_keeps_no_thread(port: int, sender: FileSender) -> None:
    with socket.create_connection(("127.0.0.1", port)) as silent:
        silent.sendall(b"GET /whole HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: sender._busy == 1)
        until(lambda: sender._busy == 0)
        silent.settimeout(5)
        taken = 0
        with pytest.raises(ConnectionResetError):
            while piece := silent.recv(1 << 20):
                taken += len(piece)
            raise ConnectionResetError
        assert taken < 8 << 20


def until(true: Callable[[], bool]) -> None:
    for _ in range(500):
        if true():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come true")
