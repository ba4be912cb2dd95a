"""A destination that is asked for commitment: what it lacks is sent again, and nobody else may answer for it."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from dicom_wire import eventually
from forwarding_house import forwarding, to
from image_peers import keep
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt

from fixtures.certificates import Authority
from fixtures.dicom_files import ct_image
from fixtures.ports import free_ports
from hilum.storage import tables

CT = "1.2.840.10008.5.1.4.1.1.2"
PUSH, PUSH_INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"


@dataclass
class Committing:
    """A receiver that says at its n-th commitment how many instances it lacks; it reports where it was asked."""

    lacks: list[int]
    stored: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    def on_store(self, event: evt.Event) -> int:
        self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    def on_action(self, event: evt.Event) -> tuple[int, None]:
        information = event.action_information
        self.asked.append(str(information.TransactionUID))
        items = list(information.ReferencedSOPSequence)
        lacking = self.lacks[len(self.asked) - 1] if len(self.asked) <= len(self.lacks) else 0
        report = Dataset()
        report.TransactionUID = information.TransactionUID
        report.ReferencedSOPSequence = items[lacking:]
        if lacking:
            report.FailedSOPSequence = items[:lacking]
            for item in report.FailedSOPSequence:
                item.FailureReason = 0x0112
        self._reports.append((event.assoc, report, 2 if lacking else 1))
        return 0, None

    _reports: list[Any] = field(default_factory=list)

    def on_sent(self, event: evt.Event) -> None:
        """Report once the answer to the request has left."""
        if type(event.message).__name__ == "N_ACTION_RSP" and self._reports:
            association, report, kind = self._reports.pop()

            def tell() -> None:
                time.sleep(0.1 * (len(self.asked) % 2))  # every other report crosses the answer to the request
                status, _ = association.send_n_event_report(report, kind, PUSH, PUSH_INSTANCE)
                self.statuses.append(status.get("Status", -1))

            threading.Thread(target=tell).start()


@contextmanager
def committing(port: int, *lacks: int, tls: ssl.SSLContext | None = None) -> Iterator[Committing]:
    peer = Committing(list(lacks))
    acceptor = AE(ae_title="WS1")
    acceptor.add_supported_context(CT)
    acceptor.add_supported_context(PUSH)
    handlers = [
        (evt.EVT_C_STORE, peer.on_store),
        (evt.EVT_N_ACTION, peer.on_action),
        (evt.EVT_DIMSE_SENT, peer.on_sent),
    ]
    server = acceptor.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers, ssl_context=tls)
    try:
        yield peer
    finally:
        server.shutdown()


def images(study: str, count: int) -> list[Any]:
    return [ct_image(StudyInstanceUID=study, SOPInstanceUID=f"{study}.{n}", InstanceNumber=n) for n in range(count)]


def pacs(port: int, more: str = "", scheme: str = "dicom") -> str:
    return to("pacs", "dicom", f"{scheme}://WS1@127.0.0.1:{port}", more=more)


@pytest.mark.parametrize(("lacks", "state"), [((2, 0), "delivered"), ((1, 1, 1), "dead")])
def test_what_was_not_committed_is_sent_again_and_given_up_where_that_does_not_help(
    lacks: tuple[int, ...], state: str, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    settings = pacs(port, "commitment = true\n[destination.give_up]\nAE = 2")
    with forwarding(tmp_path, settings) as opened, committing(port, *lacks) as peer:
        keep(opened.hilum, *images("1.2.76", 3))
        opened.complete("1.2.76")
        assert eventually(lambda: [each for each, _ in opened.states()] == [state])
        asked = opened.hilum.rows(tables.commitment_asked)
    again = sum(lacks[: len(peer.stored)]) if state == "delivered" else len(peer.asked) - 1
    assert len(peer.stored) == 3 + again
    assert len({row.transaction_uid for row in asked}) == len(peer.asked) == len(asked)
    assert set(peer.statuses) == {0}


def test_a_report_that_nobody_asked_for_is_refused(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with forwarding(tmp_path, pacs(port)) as opened:
        requestor = AE(ae_title="MALLORY")
        requestor.add_requested_context(PUSH)
        role = build_role(PUSH, scp_role=True)
        association = requestor.associate("127.0.0.1", opened.hilum.port, ae_title="HILUM", ext_neg=[role])
        report = Dataset()
        report.TransactionUID = "2.25.1"
        status, _ = association.send_n_event_report(report, 1, PUSH, PUSH_INSTANCE)
        association.release()
        assert status.Status == 0x0112


def test_over_tls_a_receiver_is_sent_to_only_under_a_certificate_of_the_named_authority(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs", "Another CA")
    held, client = authority.issue("pacs"), authority.issue("hilum")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(held.cert, held.key)
    context.load_verify_locations(authority.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    (port,) = free_ports(1)
    identity = f'cert = "{client.cert}"\nkey = "{client.key}"\n'
    cases = {
        "right": (authority.ca, identity, ("delivered", "")),
        "wrong authority": (stranger.ca, identity, ("waiting", "tls-refused")),
        "missing file": (tmp_path / "none.pem", identity, ("waiting", "invalid")),
    }
    with committing(port, tls=context) as peer:
        for name, (ca, more, state) in cases.items():
            settings = pacs(port, f'{more}ca = "{ca}"', "dicoms")
            with forwarding(tmp_path / name, settings) as opened:
                keep(opened.hilum, *images("1.2.77", 1))
                opened.complete("1.2.77")
                assert eventually(lambda opened=opened, state=state: opened.states() == [state]), opened.states()
    assert peer.stored == ["1.2.77.0"]
