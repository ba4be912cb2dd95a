"""What the settings say of one peer: TLS when it is called, how long it may be silent, how often it calls at once."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

import pytest
from dicom_door import SETTINGS, department
from image_peers import STUDY_MOVE, asked, keep
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt

from fixtures.certificates import Authority
from fixtures.dicom_files import ct_image
from fixtures.ports import free_ports

CT, VERIFICATION = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.1"


def peers(*entries: str) -> str:
    return SETTINGS.replace("[facility]", "".join(f"[[dicom.peer]]\n{each}\n" for each in entries) + "[facility]")


@pytest.mark.parametrize("trusted", [True, False])
def test_images_are_moved_over_tls_only_to_who_has_a_certificate_of_the_named_authority(
    tmp_path: Path, trusted: bool
) -> None:
    authority, stranger = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs", "Another CA")
    held = authority.issue("ws1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(held.cert, held.key)
    (port,) = free_ports(1)
    received = []
    acceptor = AE(ae_title="WS1")
    acceptor.add_supported_context(CT, ExplicitVRLittleEndian)
    handlers = [(evt.EVT_C_STORE, lambda event: received.append(event.request.AffectedSOPInstanceUID) or 0)]
    server = acceptor.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers, ssl_context=context)
    ca = authority.ca if trusted else stranger.ca
    settings = peers('ae_title = "MOVER"', f'ae_title = "WS1"\naddress = "127.0.0.1:{port}"\ntls = true\nca = "{ca}"')
    (tmp_path / "home").mkdir()
    try:
        with department(tmp_path / "home", settings) as opened:
            keep(opened, ct_image(StudyInstanceUID="1.2.84", SOPInstanceUID="1.2.84.1"))
            requestor = AE(ae_title="MOVER")
            requestor.add_requested_context(STUDY_MOVE)
            association = requestor.associate("127.0.0.1", opened.port, ae_title="HILUM")
            final = list(association.send_c_move(asked(StudyInstanceUID="1.2.84"), "WS1", STUDY_MOVE))[-1][0]
            association.release()
    finally:
        server.shutdown()
    assert final.Status == (0 if trusted else 0xA702)
    assert received == (["1.2.84.1"] if trusted else [])


def test_a_peer_has_as_many_associations_as_its_settings_say_and_others_as_many_as_all(tmp_path: Path) -> None:
    with department(tmp_path, peers('ae_title = "CT01"\nmax_associations = 1', 'ae_title = "CT02"')) as opened:
        standing = []
        for title in ("CT01", "CT01", "CT02", "CT02"):
            requestor = AE(ae_title=title)
            requestor.add_requested_context(VERIFICATION)
            standing.append(requestor.associate("127.0.0.1", opened.port, ae_title="HILUM"))
        assert [each.is_established for each in standing] == [True, False, True, True]
        assert standing[1].is_rejected
        for each in standing:
            each.release()


def test_a_peer_may_be_silent_as_long_as_its_settings_say(tmp_path: Path) -> None:
    with department(tmp_path, peers('ae_title = "CT01"\nidle_timeout = 0.4', 'ae_title = "CT02"')) as opened:
        standing = {}
        for title in ("CT01", "CT02"):
            requestor = AE(ae_title=title)
            requestor.add_requested_context(VERIFICATION)
            standing[title] = requestor.associate("127.0.0.1", opened.port, ae_title="HILUM")
        time.sleep(1.5)
        assert standing["CT01"].is_aborted
        assert standing["CT02"].is_established
        standing["CT02"].release()
