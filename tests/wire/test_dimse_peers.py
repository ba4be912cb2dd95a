"""Real peers: DCMTK's tools, with and without Nagle's algorithm, and pynetdicom."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from dicom_wire import (
    CT_STORAGE,
    EXPLICIT,
    STUDY_FIND,
    VERIFICATION,
    Kept,
    accept_all,
    data_set_bytes,
    finding,
    serving,
    storage,
)
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.uid import JPEG2000Lossless
from pynetdicom import AE, evt
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation, UserIdentityNegotiation

from fixtures.ports import free_ports
from hilum.dicom.dimse.dispatch import AssociationContext, Request, Response
from hilum.dicom.dimse.server import DicomServer
from hilum.dicom.dimse.status import PENDING
from hilum.dicom.upper_layer.limits import MIB, Limits

LIMITS = Limits(artim_timeout=5.0)
NAGLE = pytest.mark.parametrize("nodelay", ["1", "0"], ids=["nodelay", "nagle"])


def dcmtk(
    server: DicomServer, tool: str, *arguments: str, nodelay: str = "1", port: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run a tool against the server; the tools of the outside world must be there, so nothing is skipped."""
    path = shutil.which(tool)
    assert path, f"{tool} of DCMTK is not installed"
    environment = {**os.environ, "TCP_NODELAY": nodelay}
    if nodelay == "0":
        del environment["TCP_NODELAY"]
    command = [path, "-v", "-aet", "CT01", "-aec", "HILUM", "127.0.0.1", str(port or server.port), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CT slice of half a megabyte with random pixels, written so that DCMTK need not re-encode it."""
    image = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    image.Rows = image.Columns = 512
    image.PixelData = os.urandom(512 * 512 * 2)
    del image.DataSetTrailingPadding  # which DCMTK does not send
    path = tmp_path_factory.mktemp("ct") / "ct.dcm"
    image.save_as(path)
    return path


@NAGLE
def test_echoscu_is_answered(nodelay: str) -> None:
    with serving(limits=LIMITS) as server:
        assert dcmtk(server, "echoscu", "--repeat", "20", nodelay=nodelay).returncode == 0
        assert server.counts()["C-ECHO-RQ"] == 20


def test_echoscu_with_128_contexts_and_another_title() -> None:
    with serving(limits=LIMITS) as server:
        assert dcmtk(server, "echoscu", "--propose-pc", "128", "--propose-ts", "38").returncode == 0
        refused = dcmtk(server, "echoscu", "-aec", "ELSE")
        assert refused.returncode != 0
        assert "Called AE Title Not Recognized" in refused.stderr + refused.stdout


def test_termscu_does_not_shut_us_down() -> None:
    with serving(limits=LIMITS) as server:
        dcmtk(server, "termscu")
        assert dcmtk(server, "echoscu").returncode == 0


class Tap:
    """A relay to the server that writes down what the peer sent, to be read by another codec than ours."""

    def __init__(self, server: DicomServer) -> None:
        self.sent = bytearray()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._server = server.port
        self._thread = threading.Thread(target=self._relay)
        self._thread.start()

    def _relay(self) -> None:
        peer, _ = self._listener.accept()
        ours = socket.create_connection(("127.0.0.1", self._server))
        back = threading.Thread(target=self._copy, args=(ours, peer, None))
        back.start()
        self._copy(peer, ours, self.sent)
        back.join()
        for connection in (peer, ours, self._listener):
            connection.close()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket, record: bytearray | None) -> None:
        while part := source.recv(65536):
            target.sendall(part)
            if record is not None:
                record += part
        target.shutdown(socket.SHUT_WR)

    def data_sets(self) -> list[bytes]:
        """The data sets in the stream, put together by pynetdicom's decoder."""
        self._thread.join(30)
        found, current, at = [], b"", 0
        while at < len(self.sent):
            end = at + 6 + int.from_bytes(self.sent[at + 2 : at + 6], "big")
            if self.sent[at] == 4:
                pdu = P_DATA_TF()
                pdu.decode(bytes(self.sent[at:end]))
                for value in pdu.presentation_data_value_items:
                    header, fragment = value.presentation_data_value[0], value.presentation_data_value[1:]
                    if not header & 1:
                        current += fragment
                        if header & 2:
                            found.append(current)
                            current = b""
            at = end
        return found


FILES = ("MR_small.dcm", "SC_rgb_small_odd.dcm", "rtdose.dcm", "rtplan.dcm", "test-SR.dcm", "waveform_ecg.dcm",
         "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "examples_overlay.dcm")  # fmt: skip


@NAGLE
def test_what_storescu_sends_is_what_the_handler_gets_byte_for_byte(nodelay: str, ct: Path) -> None:
    files = [str(ct), *(str(get_testdata_file(name, download=False)) for name in FILES)]
    kept = Kept()
    with serving(storage(kept), limits=LIMITS) as server:
        tap = Tap(server)
        sent = dcmtk(server, "storescu", "-nh", "-R", *files, nodelay=nodelay, port=tap.port)
        assert sent.returncode == 0, sent.stderr
        on_the_wire = tap.data_sets()
    assert len(on_the_wire) == len(files)
    assert [content for _, _, content in kept.instances] == on_the_wire


def test_the_ct_of_storescu_is_the_file_byte_for_byte(ct: Path) -> None:
    kept = Kept()
    with serving(storage(kept), limits=LIMITS) as server:
        assert dcmtk(server, "storescu", "-R", "--repeat", "3", str(ct)).returncode == 0
    assert [content == data_set_bytes(ct) for _, _, content in kept.instances] == [True] * 3


def test_a_compressed_image_is_taken_as_it_is() -> None:
    path = str(get_testdata_file("JPEG2000.dcm", download=False))
    kept = Kept()
    with serving(storage(kept), limits=LIMITS) as server:
        ae = AE("CT01")
        ae.add_requested_context("1.2.840.10008.5.1.4.1.1.7", JPEG2000Lossless)
        ae.add_requested_context(str(pydicom.dcmread(path).SOPClassUID), "1.2.840.10008.1.2.4.91")
        association = ae.associate("127.0.0.1", server.port, ae_title="HILUM")
        assert association.send_c_store(path).Status == 0
        association.release()
    assert kept.instances[0][1] == pydicom.dcmread(path).file_meta.TransferSyntaxUID
    assert kept.instances[0][2] == data_set_bytes(path)


@pytest.mark.parametrize("maximum", [0, 16382, 1 << 20], ids=["unlimited", "16 KB", "1 MB"])
def test_a_file_of_40_mb_from_pynetdicom_is_spilled_and_whole(maximum: int, ct: Path, tmp_path: Path) -> None:
    image = pydicom.dcmread(ct)
    image.NumberOfFrames = 80
    image.PixelData = os.urandom(1024) * 512 * 80
    path = tmp_path / "large.dcm"
    image.save_as(path)
    kept = Kept()
    limits = Limits(spill_above=8 * MIB, spill_directory=tmp_path)
    with serving(storage(kept), limits=limits) as server:
        ae = AE("CT01")
        ae.maximum_pdu_size = maximum
        ae.add_requested_context(CT_STORAGE, EXPLICIT)
        association = ae.associate("127.0.0.1", server.port, ae_title="HILUM")
        assert association.acceptor.maximum_length == 131072
        assert association.send_c_store(path).Status == 0
        association.release()
    assert kept.instances[0][2] == data_set_bytes(path)


def test_findscu_gets_its_matches() -> None:
    def find(context: AssociationContext, request: Request) -> Iterator[Response]:
        assert request.data_set is not None
        yield from (Response(PENDING, request.data_set.tobytes()) for _ in range(3))

    with serving(finding(find), limits=LIMITS) as server:
        found = dcmtk(server, "findscu", "-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID=4711")
        assert found.returncode == 0
        assert (found.stdout + found.stderr).count("PatientID") == 4, "the request and three answers"
        cancelled = dcmtk(server, "findscu", "-S", "--cancel", "1", "-k", "QueryRetrieveLevel=STUDY")
        assert cancelled.returncode == 0


def test_pynetdicom_finds_and_cancels() -> None:
    def find(context: AssociationContext, request: Request) -> Iterator[Response]:
        assert request.data_set is not None
        while True:
            time.sleep(0.01)
            yield Response(PENDING, request.data_set.tobytes())

    with serving(finding(find), limits=LIMITS) as server:
        ae = AE("CT01")
        ae.add_requested_context(STUDY_FIND, EXPLICIT)
        association = ae.associate("127.0.0.1", server.port, ae_title="HILUM")
        query = Dataset()
        query.QueryRetrieveLevel, query.PatientID = "STUDY", "4711"
        statuses = []
        for number, (status, identifier) in enumerate(association.send_c_find(query, STUDY_FIND, msg_id=5)):
            statuses.append(status.Status)
            if identifier is not None:
                assert identifier.PatientID == "4711"
            if number == 3:
                association.send_c_cancel(5, query_model=STUDY_FIND)
        association.release()
    assert statuses[-1] == 0xFE00
    assert set(statuses[:-1]) == {PENDING}


def test_pynetdicom_negotiates_identity_and_roles() -> None:
    with serving(storage(accept_all), limits=LIMITS) as server:
        ae = AE("CT01")
        ae.add_requested_context(CT_STORAGE)
        role = SCP_SCU_RoleSelectionNegotiation()
        role.sop_class_uid, role.scu_role, role.scp_role = CT_STORAGE, False, True
        identity = UserIdentityNegotiation()
        identity.user_identity_type, identity.primary_field = 2, b"user"
        identity.secondary_field, identity.positive_response_requested = b"pass", True
        association = ae.associate("127.0.0.1", server.port, ae_title="HILUM", ext_neg=[role, identity])
        assert association.is_established
        assert association.accepted_contexts[0].as_scp
        association.release()


def test_four_associations_at_once(ct: Path) -> None:
    with serving(storage(accept_all), limits=LIMITS) as server:
        results: list[int] = []

        def send() -> None:
            results.append(dcmtk(server, "storescu", "-R", "--repeat", "20", str(ct)).returncode)

        threads = [threading.Thread(target=send) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [0] * 4
        assert server.counts()["C-STORE-RQ"] == 4 * 20


def test_a_drain_in_the_middle_of_many_loses_nothing_that_was_acknowledged(ct: Path) -> None:
    kept = Kept()
    acknowledged = []
    with serving(storage(kept), limits=LIMITS) as server:
        ae = AE("CT01")
        ae.add_requested_context(CT_STORAGE, EXPLICIT)
        association = ae.associate("127.0.0.1", server.port, ae_title="HILUM")
        ae.dimse_timeout = 2
        image = pydicom.dcmread(ct)
        drain = threading.Timer(0.2, lambda: server.drain(1.5))
        drain.start()
        for number in range(2000):
            if not association.is_established:
                break
            image.SOPInstanceUID = f"1.2.3.{number}"
            try:
                status = association.send_c_store(image)
            except (RuntimeError, ValueError):  # pynetdicom, once the association is gone
                break
            if "Status" in status and status.Status == 0:
                acknowledged.append(str(image.SOPInstanceUID))
        drain.join()
        association.abort()
    assert acknowledged
    assert acknowledged == [uid for uid, _, _ in kept.instances][: len(acknowledged)]


# How fast, printed and not asserted (make soak; pytest -s) ------------------------------------------------------------


IMAGES = 100 if os.environ.get("HILUM_SOAK") == "full" else 5


@pytest.fixture
def storescp(tmp_path: Path) -> Iterator[int]:
    """DCMTK's receiver on a free port, throwing away what it gets."""
    (port,) = free_ports(1)
    command = ["storescp", "--fork", "--ignore", "-pdu", "131072", "-dhl", "-xs", str(port)]
    quiet = subprocess.DEVNULL
    environment = {**os.environ, "TCP_NODELAY": "1"}  # else its own responses wait for the peer's delayed ACK
    process = subprocess.Popen(command, cwd=tmp_path, stdout=quiet, stderr=quiet, env=environment)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
    yield port
    process.terminate()
    process.wait(30)


@pytest.mark.soak
@NAGLE
@pytest.mark.parametrize("associations", [1, 4])
def test_store_throughput_is_printed_beside_storescp(nodelay: str, associations: int, ct: Path, storescp: int) -> None:
    def seconds(port: int) -> float:
        environment = {key: value for key, value in os.environ.items() if key != "TCP_NODELAY"}
        environment |= {"TCP_NODELAY": "1"} if nodelay == "1" else {}
        command = ["storescu", "-R", "-aec", "HILUM", "--repeat", str(IMAGES), "127.0.0.1", str(port), str(ct)]
        begun = time.monotonic()
        running = [subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) for _ in range(associations)]
        assert [process.wait(60) for process in running] == [0] * associations
        return time.monotonic() - begun

    with serving(storage(accept_all), limits=LIMITS) as server:
        ours = [0.0, 0.0]
        theirs = [0.0, 0.0]
        for turn in range(2):
            ours[turn], theirs[turn] = seconds(server.port), seconds(storescp)
        assert server.counts()["C-STORE-RQ"] == 2 * IMAGES * associations
    sent = IMAGES * associations
    print(
        f"\n0.5 MB x {associations}, {'no delay' if nodelay == '1' else 'Nagle'}: "
        f"Hilum {sent / min(ours):.0f}/s, storescp {sent / min(theirs):.0f}/s, null sinks"
    )


def test_dcmtk_is_the_version_the_figures_are_of() -> None:
    told = subprocess.run(["storescu", "--version"], capture_output=True, text=True, check=False).stdout
    assert re.search(r"storescu v3\.\d+\.\d+", told)


def test_pynetdicom_handlers_see_an_orderly_release() -> None:
    events: list[str] = []
    with serving(limits=LIMITS) as server:
        ae = AE("CT01")
        ae.add_requested_context(VERIFICATION)
        handlers = [(evt.EVT_RELEASED, lambda event: events.append("released"))]
        association = ae.associate("127.0.0.1", server.port, ae_title="HILUM", evt_handlers=handlers)
        assert association.send_c_echo().Status == 0
        association.release()
    assert events == ["released"]
