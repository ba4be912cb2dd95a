"""Every door under TLS, with the tools of others: the right certificate gets in, any other is refused and audited."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sqlite3
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests
from hl7.client import MLLPClient

from fixtures.certificates import Authority, Held
from fixtures.department import (
    EHR,
    Department,
    EhrListener,
    Patient,
    Placed,
    accepted,
    eventually,
    fields,
    new_department,
)

pytestmark = [pytest.mark.xdist_group("tls-doors"), pytest.mark.timeout(240)]


@dataclass
class Secured:
    """A department under TLS and the authority of its certificates."""

    department: Department
    authority: Authority
    server: Held
    devices: dict[str, Held] = field(default_factory=dict)

    def dcmtk(self, tool: str, held: Held | None, *arguments: str, title: str = "CT01", tls: bool = True) -> str:
        """Run a tool of DCMTK; its exit code and what it printed, as one text."""
        how = ["+tls", str(held.key), str(held.cert)] if held else (["+tla"] if tls else [])
        trust = ["+cf", str(self.authority.ca)] if tls else []
        command = [f"/usr/bin/{tool}", "-v", *how, *trust, "-aet", title, "-aec", "HILUM", "localhost"]
        port = str(self.department.dicom_port)
        done = subprocess.run(
            [*command, port, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "TCP_NODELAY": "1"},
        )
        return f"{done.returncode}\n{done.stdout}{done.stderr}"

    def client(self, held: Held | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority.ca))
        if held:
            context.load_cert_chain(held.cert, held.key)
        return context

    def send(self, held: Held | None, sender: str = EHR) -> bytes:
        """A registration over mllps with the client of another library; raises OSError where it is not let in."""
        message = f"{self.department.header('ADT^A04', sender)}\rEVN|A04\r{Patient('T1').pid}\rPV1|1|O\r"
        with MLLPClient("localhost", self.department.hl7_port) as client:
            client.socket.settimeout(20)
            client.socket = self.client(held).wrap_socket(client.socket, server_hostname="localhost")
            answer = client.send_message(message)
        if not answer:
            raise ConnectionResetError("closed without an answer")
        return bytes(answer).strip(b"\x0b\x1c\r")

    def get(self, held: Held | None, path: str = "/fhir/metadata") -> requests.Response:
        return requests.get(
            self.department.http + path,
            verify=str(self.authority.ca),
            cert=(str(held.cert), str(held.key)) if held else None,
            timeout=20,
        )

    def refusals(self) -> list[tuple[str, str, str, str]]:
        """The audit rows of connections that were not let in: door, reason, name, address."""
        query = "SELECT door, reason, actor, address FROM audit_event WHERE action = 'connect' AND outcome = 'refused'"
        return self.audit(query)

    def audit(self, query: str) -> list[tuple[str, ...]]:
        with contextlib.closing(sqlite3.connect(self.department.home / "hilum.db")) as db:
            return db.execute(query).fetchall()


def secured(folder: Path, mode: str) -> Secured:
    authority = Authority(folder / "authority")
    server = authority.issue("hilum")
    department = new_department(folder / "home")
    file = department.home / "hilum.toml"
    text = file.read_text()
    tls = f'tls = "{mode}"\ncert = "{server.cert}"\nkey = "{server.key}"\nca = "{authority.ca}"\n'
    tls += f'crl = "{authority.crl()}"\n' if mode == "mutual" else ""
    for door in ("http", "dicom", "hl7"):
        text = text.replace(f"[{door}]\n", f"[{door}]\n{tls}")
    file.write_text(text)
    department.http = department.http.replace("http://127.0.0.1", "https://localhost")
    return Secured(department, authority, server)


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Mutual TLS on all doors; CT02 and LAB are known by their certificates too."""
    folder = tmp_path_factory.mktemp("mutual")
    made = secured(folder, "mutual")
    stranger = Authority(folder / "stranger", "Another CA")
    made.devices = {name: made.authority.issue(name) for name in ("ct01", "ct02", "lab", "revoked")}
    with (made.department.home / "hilum.toml").open("a") as file:
        file.write(
            '[[dicom.peer]]\nae_title = "CT02"\ncertificate = "ct02"\n'
            f'[[dicom.peer]]\nae_title = "CT03"\ncertificate = "{made.devices["ct02"].fingerprint}"\n'
            '[[dicom.peer]]\nae_title = "CT04"\naddress = "192.0.2.7:104"\ncertificate = "ct02"\n'
            '[[hl7.peer]]\nname = "LAB|GENHOSP"\nauthority = "GENHOSP"\ncertificate = "lab"\n'
        )
    made.devices["expired"] = made.authority.expired("expired")
    made.devices["self-signed"] = made.authority.self_signed("self signed")
    made.devices["wrong authority"] = stranger.issue("ct01")
    made.authority.revoke(made.devices["revoked"])
    made.authority.crl()
    made.department.start()
    yield made
    made.department.stop()
    made.department.ehr.close()


@pytest.fixture(scope="module")
def server_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """TLS on all doors, without certificates of clients."""
    made = secured(tmp_path_factory.mktemp("server"), "server")
    made.department.start()
    yield made
    made.department.stop()
    made.department.ehr.close()


def succeeded(printed: str) -> bool:
    return printed.startswith("0\n")


def test_the_tools_of_dcmtk_work_with_the_right_certificate(mutual: Secured, tmp_path: Path) -> None:
    ct01 = mutual.devices["ct01"]
    assert succeeded(mutual.dcmtk("echoscu", ct01))
    patient = Patient("T1")
    image = mutual.department.image(Placed(patient, ""))
    image.save_as(tmp_path / "image.dcm", enforce_file_format=True)
    assert succeeded(mutual.dcmtk("storescu", ct01, str(tmp_path / "image.dcm")))
    keys = [
        "-S",
        "-k",
        "QueryRetrieveLevel=STUDY",
        "-k",
        f"StudyInstanceUID={image.StudyInstanceUID}",
        "-k",
        "PatientID",
    ]
    printed = mutual.dcmtk("findscu", ct01, *keys)
    assert succeeded(printed)
    assert str(image.StudyInstanceUID) in printed


def test_tools_need_no_certificate_where_only_the_door_shows_one(server_only: Secured) -> None:
    printed = server_only.dcmtk("echoscu", server_only.server)
    assert succeeded(printed), printed
    assert server_only.get(None).status_code == 200
    assert accepted(server_only.send(None))


REASONS = {
    "expired": "certificate-expired",
    "self-signed": "certificate-self-signed",
    "revoked": "certificate-revoked",
    "wrong authority": "certificate-of-unknown-authority",
    "": "no-certificate",
}


@pytest.mark.parametrize("which", REASONS, ids=lambda name: name or "none")
def test_any_other_certificate_is_refused_at_every_door_and_audited(mutual: Secured, which: str) -> None:
    held = mutual.devices.get(which)
    assert not succeeded(mutual.dcmtk("echoscu", held))
    with pytest.raises(OSError):
        mutual.send(held)
    with pytest.raises((requests.ConnectionError, requests.exceptions.SSLError)):
        mutual.get(held)
    wanted = {(door, REASONS[which], "unknown", "127.0.0.1") for door in ("dimse", "hl7", "http")}
    eventually(
        lambda: wanted <= set(mutual.refusals()), f"the refusals of {which or 'no certificate'} in the audit trail"
    )


def test_who_does_not_speak_tls_is_refused_and_audited(mutual: Secured) -> None:
    assert not succeeded(mutual.dcmtk("echoscu", None, tls=False))
    with pytest.raises(OSError):
        mutual.department.send(mutual.department.header("ADT^A04"))
    with pytest.raises(requests.ConnectionError):
        requests.get(mutual.department.http.replace("https", "http"), timeout=30)
    wanted = {(door, "not-tls", "unknown", "127.0.0.1") for door in ("dimse", "hl7", "http")}
    eventually(lambda: wanted <= set(mutual.refusals()), "plain connections in the audit trail")


@pytest.mark.parametrize(
    ("title", "certificate", "reason"),
    [
        ("CT02", "ct02", ""),
        ("CT03", "ct02", ""),
        ("CT01", "lab", ""),
        ("CT02", "ct01", "another-certificate"),
        ("CT03", "ct01", "another-certificate"),
        ("CT04", "ct02", "another-address"),
        ("NOBODY", "ct01", "unknown-title"),
    ],
)
def test_title_address_and_certificate_of_a_scanner_agree(
    mutual: Secured, title: str, certificate: str, reason: str
) -> None:
    printed = mutual.dcmtk("echoscu", mutual.devices[certificate], title=title)
    assert succeeded(printed) is not bool(reason), printed
    if reason:
        row = ("dimse", reason, title, "127.0.0.1")
        eventually(lambda: row in mutual.refusals(), "the rejected association in the audit trail")
        assert "Calling AE Title Not Recognized" in printed


def test_a_sender_is_known_by_its_certificate_too(mutual: Secured) -> None:
    assert accepted(mutual.send(mutual.devices["lab"], "LAB|GENHOSP"))
    refused = mutual.send(mutual.devices["ct01"], "LAB|GENHOSP")
    assert fields(refused, "MSA")[0][1] == "AR"
    found = mutual.audit("SELECT reason FROM audit_event WHERE actor = 'LAB|GENHOSP' AND outcome = 'refused'")
    assert found == [("forbidden",)]


def test_the_refusals_name_no_patient(mutual: Secured) -> None:
    log = (mutual.department.home / "server.log").read_text()
    assert "a connection was refused" in log
    assert not re.search(r"\bDoe\b|\bJane\b|\bT1\b", log)


def test_two_hundred_handshakes_that_never_end_keep_nobody_out(server_only: Secured) -> None:
    ports = (int(server_only.department.http.rpartition(":")[2]), server_only.department.dicom_port)
    with contextlib.ExitStack() as stack:
        for port, count in ((ports[0], 200), (ports[1], 200), (server_only.department.hl7_port, 100)):
            for _ in range(count):
                slow = socket.create_connection(("127.0.0.1", port), 10, source_address=("127.0.0.66", 0))
                stack.enter_context(slow).send(b"\x16\x03\x01\x02\x00\x01")
        assert server_only.get(None).status_code == 200
        assert succeeded(server_only.dcmtk("echoscu", server_only.server))
        assert accepted(server_only.send(None))
    wanted = ("http", "tls-timeout", "unknown", "127.0.0.66")
    assert wanted not in server_only.refusals(), "a client that went away is no refusal"


def test_https_says_that_it_stays_https_and_keeps_cookies_to_it(server_only: Secured) -> None:
    page = server_only.get(None, "/auth/login")
    assert page.headers["strict-transport-security"].startswith("max-age=31536000")
    assert "Secure" in page.headers["set-cookie"]
    assert "HttpOnly" in page.headers["set-cookie"]


def serial_shown(port: int, secured: Secured, held: Held | None) -> int:
    with (
        socket.create_connection(("localhost", port), 10) as plain,
        secured.client(held).wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        return int(str(connection.getpeercert()["serialNumber"]), 16)


def serials(made: Secured, held: Held) -> set[int]:
    ports = (int(made.department.http.rpartition(":")[2]), made.department.dicom_port, made.department.hl7_port)
    return {serial_shown(port, made, held) for port in ports}


def without_fail(attempt: Callable[[], bytes]) -> bool:
    try:
        return accepted(attempt())
    except OSError:
        return False


def test_renewed_certificates_are_shown_without_a_restart_and_broken_ones_never(mutual: Secured) -> None:
    ct01, pids = mutual.devices["ct01"], set(mutual.department.role_processes())
    before = serials(mutual, ct01)
    assert len(before) == 1
    with (
        socket.create_connection(("localhost", mutual.department.hl7_port), 10) as plain,
        mutual.client(ct01).wrap_socket(plain, server_hostname="localhost") as standing,
    ):
        mutual.authority.issue("hilum", into=mutual.server)
        after = serials(mutual, ct01)
        assert len(after) == 1
        assert after != before

        good = mutual.server.cert.read_bytes()
        mutual.server.cert.write_bytes(b"-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n")
        assert serials(mutual, ct01) == after
        checked = mutual.department.cli("check", code=1)
        assert checked.count("The TLS certificate and its key cannot be read or do not fit") == 3, checked
        log = (mutual.department.home / "server.log").read_text()
        assert log.count("new certificates do not work, the ones before stay") == 3
        mutual.server.cert.write_bytes(good)
        assert serials(mutual, ct01) == after

        message = f"{mutual.department.header('ADT^A04')}\rEVN|A04\r{Patient('T1').pid}\rPV1|1|O\r"
        standing.settimeout(20)
        standing.sendall(b"\x0b" + message.encode() + b"\x1c\r")
        assert b"MSA|AA" in standing.recv(65536), "an open connection did not stay"
    assert set(mutual.department.role_processes()) == pids


def test_a_certificate_taken_back_is_refused_from_the_next_connection_on(mutual: Secured) -> None:
    leaving = mutual.authority.issue("leaving")
    assert accepted(mutual.send(leaving))
    assert succeeded(mutual.dcmtk("echoscu", leaving))
    assert mutual.get(leaving).status_code == 200
    mutual.authority.revoke(leaving)
    mutual.authority.crl()
    assert not without_fail(lambda: mutual.send(leaving))
    assert not succeeded(mutual.dcmtk("echoscu", leaving))
    with pytest.raises((requests.ConnectionError, requests.exceptions.SSLError)):
        mutual.get(leaving)
    assert accepted(mutual.send(mutual.devices["ct01"]))


class SecureEhr(EhrListener):
    """The EHR's port under mutual TLS."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.refused: list[str] = []
        self.shown: list[str] = []
        self.standing: list[ssl.SSLSocket] = []
        super().__init__()

    def hang_up(self) -> None:
        for connection in self.standing:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _serve(self, connection: socket.socket) -> None:
        try:
            secure = self.context.wrap_socket(connection, server_side=True)
        except OSError as error:
            self.refused.append(str(error))
            return
        self.standing.append(secure)
        self.shown.append(str(secure.getpeercert()["serialNumber"]))
        super()._serve(secure)


def test_results_leave_over_mutual_tls_under_the_certificate_of_the_moment(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    ours, theirs = authority.issue("hilum client"), authority.issue("ehr")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(theirs.cert, theirs.key)
    context.load_verify_locations(authority.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    ehr = SecureEhr(context)
    own = new_department(tmp_path / "home")
    file = own.home / "hilum.toml"
    plain = f'address = "mllp://127.0.0.1:{own.ehr.port}"'
    secure = (
        f'address = "mllps://localhost:{ehr.port}"\nca = "{authority.ca}"\ncert = "{ours.cert}"\nkey = "{ours.key}"'
    )
    assert plain in file.read_text()
    file.write_text(file.read_text().replace(plain, secure))
    own.start()
    try:
        patient = Patient("T2")
        own.register(patient)
        placed = own.place(patient)
        own.dictate(placed, "F", "No finding.")
        eventually(lambda: ehr.reports(placed.accession), "the report over mllps")
        first = set(ehr.shown)
        assert len(first) == 1
        authority.issue("hilum client", into=ours)
        # A connection that stands keeps its certificate; the next one shows the new.
        ehr.hang_up()
        second = own.place(patient)
        own.dictate(second, "F", "No finding.")
        eventually(lambda: ehr.reports(second.accession), "the report under the new certificate")
        assert len(set(ehr.shown)) == 2
        assert not ehr.refused
    finally:
        own.stop()
        own.ehr.close()
        ehr.close()
