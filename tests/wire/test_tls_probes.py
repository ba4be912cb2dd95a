"""What each door agrees to under TLS (RFC 9325, PS3.15 B.12): probed from outside, by openssl and by bare sockets.

A probe of an old protocol is made of bytes, since the libraries of today no longer speak it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from dicom_door import department

from fixtures.certificates import Authority, Held
from fixtures.stores import open_store
from hilum.hl7.door import Hl7Door
from hilum.security.accepting import Caps, LocalConnections
from hilum.security.connections import ConnectionLog
from hilum.security.live_tls import LiveContext, door_context
from hilum.serve.http_server import Bounds, HttpServer
from hilum.settings import Configuration

pytestmark = pytest.mark.xdist_group("tls-probes")

DOORS = ("dicom", "hl7", "http")
# RFC 9325 4.2: ECDHE with AES-GCM or ChaCha20; all of TLS 1.3.
GOOD = [
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-CHACHA20-POLY1305",
]
# No forward secrecy, no authenticated encryption, or neither. Code points of the TLS registry.
WEAK = {
    "TLS_RSA_WITH_NULL_SHA": 0x0002,
    "TLS_RSA_WITH_RC4_128_SHA": 0x0005,
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA": 0x000A,
    "TLS_DH_anon_WITH_AES_128_CBC_SHA": 0x0034,
    "TLS_RSA_WITH_AES_128_CBC_SHA": 0x002F,
    "TLS_RSA_WITH_AES_256_GCM_SHA384": 0x009D,
    "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256": 0x009E,
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": 0xC013,
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384": 0xC028,
    "TLS_RSA_EXPORT_WITH_RC4_40_MD5": 0x0003,
}
VERSIONS = {"SSL 3.0": 0x0300, "TLS 1.0": 0x0301, "TLS 1.1": 0x0302}


@dataclass
class Doors:
    """The ports of the three doors and who may vouch for them."""

    ports: dict[str, int]
    authority: Authority
    server: Held


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """The three doors under TLS, in this process."""
    folder = tmp_path_factory.mktemp("doors")
    authority = Authority(folder / "authority")
    server = authority.issue("hilum")
    text = "".join(
        f'[{door}]\nbind = "127.0.0.1:0"\ntls = "server"\ncert = "{server.cert}"\nkey = "{server.key}"\n'
        for door in DOORS
    )
    (folder / "dicom").mkdir()
    (folder / "loop").mkdir()
    (folder / "loop" / "hilum.toml").write_text(text)
    with department(folder / "dicom", text) as dicom, on_a_loop(folder / "loop") as ports:
        yield Doors({"dicom": dicom.port, **ports}, authority, server)


@contextlib.contextmanager
def on_a_loop(home: Path) -> Iterator[dict[str, int]]:
    """The doors of HL7 and HTTP on an event loop of their own."""
    import uvicorn

    configuration, store = Configuration(home), open_store("sqlite", home)
    listening = socket.create_server(("127.0.0.1", 0))
    ports = {"http": listening.getsockname()[1]}
    ready, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def app(scope: dict[str, object], receive: object, send: object) -> None:
        raise AssertionError("no request is sent")

    async def run() -> None:
        hl7 = Hl7Door(store, configuration, ssl=door_context(configuration, "hl7"))
        _, ports["hl7"] = await hl7.start()
        config = uvicorn.Config(app, lifespan="off", ws="none")  # type: ignore[arg-type]
        context = door_context(configuration, "http")
        connections = LocalConnections(Caps(100, 100))
        http = HttpServer(config, listening, context, "", Bounds(100, 100, 10, 10), ConnectionLog(store), connections)
        serving = loop.create_task(http.serve([]))
        ready.set()
        await stop.wait()
        http.should_exit = True
        await serving
        await hl7.drain(1)

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield ports
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        store.close()


def s_client(doors: Doors, door: str, *options: str) -> str:
    """What openssl says of a connection."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{doors.ports[door]}", "-CAfile", str(doors.authority.ca)]
    done = subprocess.run(
        [*command, "-verify_return_error", *options], input="", capture_output=True, text=True, timeout=30
    )
    return done.stdout + done.stderr


def hello(version: int, suites: list[int]) -> bytes:
    """A ClientHello of `version` at most, without the extension by which TLS 1.3 is asked for."""
    curves = struct.pack("!HHHHH", 10, 6, 4, 0x001D, 0x0017)
    points = struct.pack("!HHBB", 11, 2, 1, 0)
    signatures = struct.pack("!HHHHHH", 13, 8, 6, 0x0401, 0x0804, 0x0201)
    extensions = curves + points + signatures
    offered = b"".join(suite.to_bytes(2, "big") for suite in suites)
    body = struct.pack("!H", version) + os.urandom(32) + b"\0"
    body += len(offered).to_bytes(2, "big") + offered + b"\x01\0" + len(extensions).to_bytes(2, "big") + extensions
    handshake = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16" + struct.pack("!HH", min(version, 0x0301), len(handshake)) + handshake


def answered(port: int, greeting: bytes) -> int | None:
    """The version of a ServerHello to this ClientHello; None where the door refuses."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(greeting)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while len(answer) < 11 and (more := connection.recv(4096)):
                answer += more
    if len(answer) < 11 or answer[0] != 0x16 or answer[5] != 2:
        return None
    return int.from_bytes(answer[9:11], "big")


@pytest.mark.parametrize("door", DOORS)
def test_the_probe_itself_gets_an_answer_where_it_asks_for_what_is_good(doors: Doors, door: str) -> None:
    assert answered(doors.ports[door], hello(0x0303, [0xC02F, 0xC030])) == 0x0303


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("version", VERSIONS)
def test_older_protocols_are_refused(doors: Doors, door: str, version: str) -> None:
    suites = [0xC02F, 0xC030, 0xC013, 0xC014, 0x002F, 0x0035, 0x000A]
    assert answered(doors.ports[door], hello(VERSIONS[version], suites)) is None


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("suite", WEAK)
def test_weak_suites_are_refused(doors: Doors, door: str, suite: str) -> None:
    assert answered(doors.ports[door], hello(0x0303, [WEAK[suite]])) is None


@pytest.mark.parametrize("door", DOORS)
def test_a_downgrade_that_the_client_noticed_is_refused(doors: Doors, door: str) -> None:
    fallback = 0x5600  # TLS_FALLBACK_SCSV, RFC 7507: the door speaks 1.3, so 1.2 was not its wish
    assert answered(doors.ports[door], hello(0x0303, [0xC02F, fallback])) is None


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("suite", GOOD)
def test_the_suites_of_bcp_195_are_agreed_on(doors: Doors, door: str, suite: str) -> None:
    printed = s_client(doors, door, "-tls1_2", "-cipher", suite)
    assert f"Cipher is {suite}" in printed
    assert "Verify return code: 0 (ok)" in printed
    assert "Compression: NONE" in printed


@pytest.mark.parametrize("door", DOORS)
def test_the_newest_protocol_is_agreed_on(doors: Doors, door: str) -> None:
    assert "TLSv1.3" in s_client(doors, door, "-tls1_3")


@pytest.mark.parametrize("door", DOORS)
def test_the_door_says_in_12_that_it_renegotiates_safely_only_and_then_does_not(doors: Doors, door: str) -> None:
    assert "Secure Renegotiation IS supported" in s_client(doors, door, "-tls1_2")
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{doors.ports[door]}", "-tls1_2"]
    done = subprocess.run(command, input="R\n", capture_output=True, text=True, timeout=30)
    assert "RENEGOTIATING" in done.stdout + done.stderr
    assert "no renegotiation" in done.stdout + done.stderr


def test_a_context_follows_its_settings_and_files(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    held = authority.issue("hilum")
    files = f'cert = "{held.cert}"\nkey = "{held.key}"\nca = "{authority.ca}"\n'
    toml = tmp_path / "hilum.toml"
    toml.write_text(f'[hl7]\ntls = "server"\n{files}')
    moment = 0.0
    configuration = Configuration(tmp_path, monotonic=lambda: moment)
    context = door_context(configuration, "hl7")
    assert isinstance(context, LiveContext)
    first = context.newest()
    assert context.newest() is first
    assert first.verify_mode == ssl.CERT_NONE
    toml.write_text(f'[hl7]\ntls = "mutual"\n{files}crl = "{authority.crl()}"\n')
    moment = 5.0
    second = context.newest()
    assert second.verify_mode == ssl.CERT_REQUIRED
    assert second.verify_flags & ssl.VERIFY_CRL_CHECK_LEAF
    key = held.key.read_bytes()
    held.key.unlink()
    assert context.newest() is second
    assert context.problem is not None
    assert context.problem.field == "key"
    held.key.write_bytes(key)
    assert context.newest() is not second
    assert context.problem is None


def test_a_door_that_began_with_tls_never_goes_on_without(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    held = authority.issue("hilum")
    files = f'cert = "{held.cert}"\nkey = "{held.key}"\nca = "{authority.ca}"\n'
    (tmp_path / "hilum.toml").write_text(f'[http]\ntls = "server"\n{files}')
    moment = 0.0
    configuration = Configuration(tmp_path, monotonic=lambda: moment)
    context = door_context(configuration, "http")
    assert context is not None
    (tmp_path / "hilum.toml").write_text(f'[http]\ntls = "off"\n{files}')
    moment = 5.0
    assert configuration.refresh().http.tls == "off"
    assert context.newest().verify_mode == ssl.CERT_REQUIRED
    assert configuration.waiting_for_restart == ("http.tls",)
