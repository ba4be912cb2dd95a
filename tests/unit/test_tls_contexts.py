"""TLS by real handshakes on loopback: who is let in, who is not, and at which version."""

from __future__ import annotations

import socket
import ssl
import stat
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hilum.core.errors import Conflict, InvalidInput
from hilum.security.tls import TlsPaths, client_context, init, server_context

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsPaths:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "gethostname", lambda: "imaging-01")
        return init(tmp_path_factory.mktemp("home"), now=NOW)


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> TlsPaths:
    return init(tmp_path_factory.mktemp("strangers"), now=NOW)


class Door:
    """A listener that takes one connection, and echoes what comes over TLS."""

    def __init__(self, context: ssl.SSLContext, family: int = socket.AF_INET) -> None:
        self.error: Exception | None = None
        self.peer: dict[str, object] | None = None
        self.cipher = ""
        self._context = context
        self._socket = socket.create_server(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), family=family)
        self.address = self._socket.getsockname()[:2]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        plain, _ = self._socket.accept()
        plain.settimeout(10)
        try:
            with self._context.wrap_socket(plain, server_side=True) as secure:
                self.peer = secure.getpeercert()
                self.cipher = (secure.cipher() or ("",))[0]
                secure.sendall(secure.recv(100))
        except (OSError, ValueError) as error:
            self.error = error
        finally:
            plain.close()
            self._socket.close()

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()


def talk(door: Door, context: ssl.SSLContext, name: str = "localhost") -> str:
    """Send a word and get it back; return the TLS version."""
    plain = socket.create_connection(door.address, timeout=30)
    with plain, context.wrap_socket(plain, server_hostname=name) as secure:
        secure.sendall(b"hello")
        # under TLS 1.3 the refusal of a client certificate arrives only with the first read
        if secure.recv(100) != b"hello":
            raise ConnectionResetError("the door closed without an answer")
        return secure.version() or ""


def refused(door: Door, context: ssl.SSLContext, name: str = "localhost") -> Exception:
    """Check that the talk fails on both sides; return why the door refused."""
    with pytest.raises((ssl.SSLError, ConnectionError)):
        talk(door, context, name)
    door.join()
    assert door.error is not None
    return door.error


def mutual(files: TlsPaths, crl: Path | None = None) -> Door:
    return Door(server_context(files.server_cert, files.server_key, files.ca, "mutual", crl))


def plain_server(files: TlsPaths) -> Door:
    return Door(server_context(files.server_cert, files.server_key))


def test_a_client_that_knows_the_authority_is_served_over_tls_1_3(files: TlsPaths) -> None:
    assert talk(plain_server(files), client_context(files.ca)) == "TLSv1.3"


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "imaging-01"])
def test_the_server_is_known_by_each_of_its_names(files: TlsPaths, name: str) -> None:
    assert talk(plain_server(files), client_context(files.ca), name)


def test_a_server_of_another_name_is_not_trusted_unless_names_do_not_count(files: TlsPaths) -> None:
    refused(plain_server(files), client_context(files.ca), "pacs.example.org")
    assert talk(plain_server(files), client_context(files.ca, check_hostname=False), "pacs.example.org")


def test_a_server_of_another_authority_is_not_trusted(files: TlsPaths, strangers: TlsPaths) -> None:
    refused(plain_server(files), client_context(strangers.ca))
    refused(plain_server(files), client_context(strangers.ca, check_hostname=False))
    refused(plain_server(files), client_context(None))


def test_tls_1_2_is_served_with_forward_secrecy_and_aead(files: TlsPaths) -> None:
    context = client_context(files.ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    door = plain_server(files)
    assert talk(door, context) == "TLSv1.2"
    door.join()
    assert door.cipher.startswith("ECDHE-ECDSA-")
    assert "GCM" in door.cipher or "CHACHA20" in door.cipher


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_older_versions_are_refused(files: TlsPaths, version: ssl.TLSVersion) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(files.ca)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    error = refused(plain_server(files), context)
    assert "UNSUPPORTED_PROTOCOL" in str(error), "the door refused, and not the client"
    own = server_context(files.server_cert, files.server_key)
    own.set_ciphers("ALL:@SECLEVEL=0")
    own.minimum_version = ssl.TLSVersion.TLSv1
    assert talk(Door(own), context), "the client could have spoken it"


@pytest.mark.parametrize("cipher", ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256", "DHE-RSA-AES128-GCM-SHA256"])
def test_ciphers_without_forward_secrecy_or_aead_are_refused(files: TlsPaths, cipher: str) -> None:
    context = client_context(files.ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(cipher)
    assert "NO_SHARED_CIPHER" in str(refused(plain_server(files), context))


def test_a_client_that_speaks_no_tls_is_refused(files: TlsPaths) -> None:
    door = plain_server(files)
    with socket.create_connection(door.address, timeout=30) as plain:
        plain.sendall(b"MSH|^~\\&|A|B\r")
        try:
            answer = plain.recv(100)
        except ConnectionResetError:
            answer = b""
    door.join()
    assert isinstance(door.error, ssl.SSLError)
    assert b"MSH" not in answer


def test_in_mutual_mode_a_client_with_the_right_certificate_is_served(files: TlsPaths) -> None:
    door = mutual(files)
    assert talk(door, client_context(files.ca, files.client_cert, files.client_key)) == "TLSv1.3"
    door.join()
    assert door.peer is not None
    assert door.peer["subject"] == ((("commonName", "hilum client"),),)


def test_the_server_may_call_peers_with_its_own_certificate(files: TlsPaths) -> None:
    assert talk(mutual(files), client_context(files.ca, files.server_cert, files.server_key))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_in_mutual_mode_a_client_without_certificate_is_refused(files: TlsPaths, version: ssl.TLSVersion) -> None:
    context = client_context(files.ca)
    context.minimum_version = context.maximum_version = version
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in str(refused(mutual(files), context))


def test_in_mutual_mode_a_client_of_another_authority_is_refused(files: TlsPaths, strangers: TlsPaths) -> None:
    context = client_context(files.ca, strangers.client_cert, strangers.client_key)
    assert isinstance(refused(mutual(files), context), ssl.SSLError)


def test_a_client_certificate_cannot_pose_as_a_server(files: TlsPaths) -> None:
    refused(Door(server_context(files.client_cert, files.client_key)), client_context(files.ca))


def revocation_list(files: TlsPaths, path: Path, revoked: list[Path], issued: datetime = NOW) -> Path:
    ca = x509.load_pem_x509_certificate(files.ca.read_bytes())
    key = serialization.load_pem_private_key(files.ca_key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    builder = x509.CertificateRevocationListBuilder().issuer_name(ca.subject).last_update(issued - timedelta(hours=1))
    builder = builder.next_update(issued + timedelta(days=1))
    for cert in revoked:
        serial = x509.load_pem_x509_certificate(cert.read_bytes()).serial_number
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(issued).build()
        builder = builder.add_revoked_certificate(entry)
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return path


def test_a_revoked_client_is_refused_and_the_others_are_served(files: TlsPaths, tmp_path: Path) -> None:
    crl = revocation_list(files, tmp_path / "crl.pem", [files.client_cert])
    revoked = client_context(files.ca, files.client_cert, files.client_key)
    assert "revoked" in str(refused(mutual(files, crl), revoked))
    assert talk(mutual(files, crl), client_context(files.ca, files.server_cert, files.server_key))


def test_a_revoked_server_is_not_trusted(files: TlsPaths, tmp_path: Path) -> None:
    crl = revocation_list(files, tmp_path / "crl.pem", [files.server_cert])
    refused(plain_server(files), client_context(files.ca, crl=crl))


def test_a_revocation_list_past_its_time_lets_nobody_in(files: TlsPaths, tmp_path: Path) -> None:
    crl = revocation_list(files, tmp_path / "crl.pem", [], NOW - timedelta(days=10))
    context = client_context(files.ca, files.client_cert, files.client_key)
    assert "expired" in str(refused(mutual(files, crl), context))


def test_files_that_do_not_serve_are_refused_with_their_setting(files: TlsPaths, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    cert, key, ca = files.server_cert, files.server_key, files.ca
    cases = {
        "cert": [(tmp_path / "no.pem", key, ca, None), (broken, key, ca, None), (cert, files.client_key, ca, None)],
        "key": [(cert, tmp_path / "no.key", ca, None)],
        "ca": [(cert, key, broken, None), (cert, key, tmp_path / "no.pem", None), (cert, key, None, None)],
        "crl": [(cert, key, ca, broken), (cert, key, ca, tmp_path / "no.pem"), (cert, key, ca, ca)],
    }
    for field, arguments in cases.items():
        for one, two, three, four in arguments:
            with pytest.raises(InvalidInput) as caught:
                server_context(one, two, three, "mutual", four)
            assert caught.value.field == field


def test_a_key_with_a_pass_phrase_is_refused_and_not_asked_for(files: TlsPaths, tmp_path: Path) -> None:
    key = serialization.load_pem_private_key(files.server_key.read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(InvalidInput):
        server_context(files.server_cert, locked)


def test_files_are_for_their_owner_only(files: TlsPaths) -> None:
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.all()} == {0o600}
    assert [path.name for path in files.all()] == [
        "ca.pem",
        "ca.key",
        "server.pem",
        "server.key",
        "client.pem",
        "client.key",
    ]


def test_what_is_there_is_not_overwritten_unless_told(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "server.key").write_text("mine")
    with pytest.raises(Conflict, match=r"server\.key"):
        init(tmp_path, now=NOW)
    assert [path.name for path in (tmp_path / "tls").iterdir()] == ["server.key"]
    assert (tmp_path / "tls" / "server.key").read_text() == "mine"
    paths = init(tmp_path, now=NOW, overwrite=True)
    assert talk(plain_server(paths), client_context(paths.ca))


def test_more_names_can_be_given_and_wrong_ones_are_refused(tmp_path: Path) -> None:
    paths = init(tmp_path, now=NOW, hosts=["pacs.example.org", "192.0.2.7"])
    assert talk(plain_server(paths), client_context(paths.ca), "pacs.example.org")
    assert talk(plain_server(paths), client_context(paths.ca), "192.0.2.7")
    for host in ("", "a b", "*", "-x", "a..b", "x" * 300, "a" * 5000 + "!"):
        with pytest.raises(InvalidInput):
            init(tmp_path / "other", now=NOW, hosts=[host])


def test_a_strict_outside_checker_accepts_the_chain(files: TlsPaths) -> None:
    for purpose, cert in (("sslserver", files.server_cert), ("sslclient", files.client_cert)):
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", str(files.ca), str(cert)]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
        assert result.returncode == 0, result.stdout + result.stderr
