"""TLS for every door: contexts by BCP 195 (RFC 9325, DICOM PS3.15 B.12), and a local authority to start with.

TLS 1.2 with ephemeral keys and AEAD ciphers, and TLS 1.3. Refused: older versions, renegotiation, compression, and in
mutual mode a client without a certificate of the named authority. The private key files carry no pass phrase.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hilum.core.errors import Conflict, InvalidInput
from hilum.security.keys import write_synced

TlsMode = Literal["server", "mutual"]

# RFC 9325 4.2: forward secrecy and AEAD only; TLS 1.3 suites all are, and OpenSSL keeps them apart
TLS12_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
CA_DAYS = 3650
LEAF_DAYS = 825
_DNS_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class TlsPaths:
    """Where the files of the local authority are."""

    ca: Path
    ca_key: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path

    @classmethod
    def of(cls, home: Path) -> TlsPaths:
        """Name the files of a home, whether they exist or not."""
        names = ("ca.pem", "ca.key", "server.pem", "server.key", "client.pem", "client.key")
        return cls(*(home / "tls" / name for name in names))

    def all(self) -> tuple[Path, ...]:
        """List them in the order of the fields."""
        return (self.ca, self.ca_key, self.server_cert, self.server_key, self.client_cert, self.client_key)


def init(home: Path, *, now: datetime, hosts: Sequence[str] = (), overwrite: bool = False) -> TlsPaths:
    """Make a local authority and a certificate each for server and client; Conflict when there are files already.

    The server's names are localhost, its addresses, this host's name and `hosts`. Keys are EC P-256, files 0600.
    """
    paths = TlsPaths.of(home)
    present = [path.name for path in paths.all() if path.exists()]
    if present and not overwrite:
        raise Conflict(f"There are TLS files in this home already ({', '.join(present)}); they were left as they are.")
    ca_key, server_key, client_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    ca = _authority(ca_key, now)
    server = _leaf("hilum server", server_key, ca, ca_key, now, _server_names(hosts), server=True)
    client = _leaf("hilum client", client_key, ca, ca_key, now, [x509.DNSName("localhost")], server=False)
    contents = (_pem(ca), _pem(ca_key), _pem(server), _pem(server_key), _pem(client), _pem(client_key))
    paths.ca.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path, content in zip(paths.all(), contents, strict=True):
        try:
            write_synced(path, content, replace=overwrite)
        except FileExistsError as error:
            raise Conflict(f"Another process is making TLS files in this home ({path.name}).") from error
    return paths


def server_context(
    cert: Path, key: Path, ca: Path | None = None, mode: TlsMode = "server", crl: Path | None = None
) -> ssl.SSLContext:
    """Make the context of a listening door; in mutual mode clients need a certificate of `ca`.

    Raises InvalidInput, with the setting as field, for files that are missing or do not fit.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    _load_identity(context, cert, key)
    if mode == "mutual":
        if ca is None:
            raise InvalidInput("Mutual TLS needs the certificate of the authority of the clients.", field="ca")
        context.verify_mode = ssl.CERT_REQUIRED
        # A ticket would let a client in again whose certificate has ended meanwhile.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        _load_authority(context, ca)
        _load_revocations(context, crl)
    return context


def client_context(
    ca: Path | None,
    cert: Path | None = None,
    key: Path | None = None,
    *,
    crl: Path | None = None,
    check_hostname: bool = True,
) -> ssl.SSLContext:
    """Make the context of a caller; the peer must hold a certificate of `ca`, or of the system's authorities if None.

    `check_hostname=False` is for peers that are known by their authority alone, as imaging devices often are.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = check_hostname
    if ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        _load_authority(context, ca)
    _load_revocations(context, crl)
    if cert is not None:
        _load_identity(context, cert, key)
    return context


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(TLS12_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context


def _load_identity(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    for name, path in (("cert", cert), ("key", key)):
        if path is not None and not path.is_file():
            raise InvalidInput(f"The TLS file named by `{name}` is not there.", field=name)
    try:
        # a pass phrase would be asked for on the terminal, which a service does not have
        context.load_cert_chain(cert, key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise InvalidInput("The TLS certificate and its key cannot be read or do not fit.", field="cert") from error


def _load_authority(context: ssl.SSLContext, ca: Path) -> None:
    try:
        context.load_verify_locations(cafile=ca)
    except (ssl.SSLError, OSError) as error:
        raise InvalidInput("The certificate of the TLS authority cannot be read.", field="ca") from error


def _load_revocations(context: ssl.SSLContext, crl: Path | None) -> None:
    """With a revocation list, refuse what is on it, and everything once the list is past its next update."""
    if crl is None:
        return
    before = context.cert_store_stats()["crl"]
    try:
        context.load_verify_locations(cafile=crl)
    except (ssl.SSLError, OSError) as error:
        raise InvalidInput("The TLS revocation list cannot be read.", field="crl") from error
    if context.cert_store_stats()["crl"] == before:
        raise InvalidInput("The file of the TLS revocation list holds no list.", field="crl")
    context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF


def _server_names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(["localhost", "127.0.0.1", "::1", socket.gethostname(), *hosts]):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            if len(host) <= 253 and all(_DNS_LABEL.fullmatch(label) for label in host.split(".")):
                names.append(x509.DNSName(host))
            elif host in hosts:
                raise InvalidInput("A host name for the TLS certificate is not a name or address.") from None
    return names


def _authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Hilum local authority {now:%Y-%m-%d}")])
    builder = _builder(name, name, key.public_key(), now, CA_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(authority=True), critical=True)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    return builder.add_extension(issuer, critical=False).sign(key, hashes.SHA256())


def _leaf(
    common_name: str,
    key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    now: datetime,
    names: list[x509.GeneralName],
    *,
    server: bool,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    # the server calls peers too (C-STORE, HL7 results), and shows them the same certificate
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if server else [])]
    builder = _builder(subject, ca.subject, key.public_key(), now, LEAF_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(authority=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    return builder.add_extension(issuer, critical=False).sign(ca_key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        # an hour back, for devices whose clock is late
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(item: x509.Certificate | ec.EllipticCurvePrivateKey) -> bytes:
    if isinstance(item, x509.Certificate):
        return item.public_bytes(serialization.Encoding.PEM)
    plain = serialization.NoEncryption()
    return item.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
