"""DICOM over TLS, on both sides with certificates: the peer is known by its own, and nobody gets in without one."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from dicom_wire import CT_STORAGE, EXPLICIT, VERIFICATION, Kept, data_set_bytes, serving, storage
from pydicom.data import get_testdata_file
from pynetdicom import AE

from hilum.dicom.dimse.dispatch import AssociationContext, Request, Response
from hilum.dicom.upper_layer.limits import Limits

LIMITS = Limits(artim_timeout=5.0)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate with its key, for both sides."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "modality")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + built.public_bytes(serialization.Encoding.PEM)
    )
    return path


def tls_context(certificate: Path, *, server: bool, with_certificate: bool = True) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    if with_certificate:
        context.load_cert_chain(certificate)
    return context


def test_an_association_under_mutual_tls_knows_the_peers_certificate(certificate: Path) -> None:
    ct = Path(str(get_testdata_file("CT_small.dcm", download=False)))
    kept, peers = Kept(), []

    def store(context: AssociationContext, request: Request) -> Response:
        peers.append(context.peer)
        return kept(context, request)

    tls = tls_context(certificate, server=True)
    with serving(storage(store), limits=LIMITS, tls=tls) as server:
        ae = AE("CT01")
        ae.add_requested_context(CT_STORAGE, EXPLICIT)
        client = (tls_context(certificate, server=False), None)
        association = ae.associate("127.0.0.1", server.port, ae_title="HILUM", tls_args=client)
        for _ in range(3):
            assert association.send_c_store(ct).Status == 0
        association.release()
    assert [content == data_set_bytes(ct) for _, _, content in kept.instances] == [True] * 3
    assert peers[0].certificate.common_name == "modality"
    assert len(peers[0].certificate.fingerprint) == 64


def test_without_a_certificate_or_without_tls_there_is_no_association(certificate: Path) -> None:
    with serving(limits=LIMITS, tls=tls_context(certificate, server=True)) as server:
        ae = AE("CT01")
        ae.add_requested_context(VERIFICATION)
        bare = (tls_context(certificate, server=False, with_certificate=False), None)
        for options in ({"tls_args": bare}, {}):
            association = ae.associate("127.0.0.1", server.port, ae_title="HILUM", **options)
            assert not association.is_established
        client = (tls_context(certificate, server=False), None)
        association = ae.associate("127.0.0.1", server.port, ae_title="HILUM", tls_args=client)
        assert association.send_c_echo().Status == 0
        association.release()
