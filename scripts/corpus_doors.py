"""A Hilum on a temporary home, and its doors as other systems use them: C-STORE, STOW, WADO, C-GET, QIDO, C-FIND, MLLP.

Nothing here imports Hilum: it is a process with sockets and a token.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import requests
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, _config, build_role, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from corpus_files import Sample

_config.STORE_SEND_CHUNKED_DATASET = True  # a file's own bytes, not what pydicom would write
_config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False
START, END = b"\x0b", b"\x1c\r"
TITLE, OURS = "HILUM", "CORPUS"
SETTINGS = """
[http]
bind = "127.0.0.1:0"
processes = 1
[dicom]
bind = "127.0.0.1:0"
accept_unknown = "loopback"
[hl7]
bind = "127.0.0.1:0"
accept_unknown = "loopback"
[archive]
segment_bytes = 16777216
verify_mb_per_second = 0
"""


class Refused(Exception):
    """A door said no, with its reason."""


@dataclass
class Doors:
    """The addresses of a running Hilum and a token for it."""

    home: Path
    http: str
    dicom: int
    hl7: int
    token: str
    folder: Path

    def store(self, sample: Sample) -> None:
        """C-STORE in the file's own transfer syntax. Raises Refused."""
        path = self.folder / f"{uuid.uuid4().hex}.dcm"
        path.write_bytes(sample.part10)
        entity = AE(OURS)
        sop_class = str(sample.dataset.get("SOPClassUID", "")) or "1.2.840.10008.5.1.4.1.1.7"
        entity.add_requested_context(UID(sop_class), UID(sample.transfer_syntax))
        association = entity.associate("127.0.0.1", self.dicom, ae_title=TITLE)
        try:
            if not association.is_established:
                raise Refused("C-STORE: no association, or its presentation context was not accepted")
            status = association.send_c_store(path)
            if status.get("Status") != 0:
                comment = status.get("ErrorComment", "")
                raise Refused(f"C-STORE: {status.get('Status', 0):04X}H {comment}".strip())
        except (ValueError, RuntimeError, AttributeError) as error:
            raise Refused(f"C-STORE was not sent: {error}") from None
        finally:
            if association.is_established:
                association.release()
            path.unlink()

    def stow(self, sample: Sample) -> None:
        """STOW-RS. Raises Refused."""
        mark = uuid.uuid4().hex
        body = (
            f"--{mark}\r\nContent-Type: application/dicom\r\n\r\n".encode() + sample.part10 + f"\r\n--{mark}--".encode()
        )
        kind = f'multipart/related; type="application/dicom"; boundary={mark}'
        answer = self._ask("POST", "/dicom-web/studies", data=body, headers={"Content-Type": kind})
        if answer.status_code != 200:
            raise Refused(f"STOW-RS: {answer.status_code} {_failure(answer)}")

    def instance(self, sample: Sample, syntax: str) -> bytes | None:
        """WADO-RS of the instance as a Part 10 file; None where the syntax is not offered."""
        wish = f'multipart/related; type="application/dicom"; transfer-syntax={syntax}'
        answer = self._ask("GET", self._path(sample), headers={"Accept": wish})
        if answer.status_code == 406:
            return None
        return _parts(answer)[0]

    def rendered(self, sample: Sample, frame: int) -> bytes:
        """WADO-RS `rendered` of a frame as PNG. Raises Refused."""
        path = f"{self._path(sample)}/frames/{frame}/rendered"
        answer = self._ask("GET", path, headers={"Accept": "image/png"})
        if answer.status_code != 200:
            raise Refused(f"rendered: {answer.status_code} {answer.text[:200]}")
        return answer.content

    def qido(self, sample: Sample) -> dict[str, Any]:
        """QIDO-RS of the sample's study, found by its UID. Raises Refused."""
        study, series, instance = sample.uids
        path = f"/dicom-web/studies/{study}/series/{series}/instances"
        found = self._json(path, SOPInstanceUID=instance)
        if len(found) != 1:
            raise Refused(f"QIDO-RS finds {len(found)} instances")
        studies = self._json("/dicom-web/studies", StudyInstanceUID=study, includefield="all")
        if len(studies) != 1:
            raise Refused(f"QIDO-RS finds {len(studies)} studies")
        return dict(studies[0])

    def find(self, sample: Sample) -> Dataset:
        """C-FIND of the study, with what is compared; and of the instance. Raises Refused."""
        study, series, instance = sample.uids
        asked = Dataset()
        asked.QueryRetrieveLevel, asked.StudyInstanceUID = "STUDY", study
        asked.PatientName = asked.PatientID = asked.StudyDescription = ""
        found = self._find(asked)
        image = Dataset()
        image.QueryRetrieveLevel, image.StudyInstanceUID, image.SeriesInstanceUID = "IMAGE", study, series
        image.SOPInstanceUID = instance
        self._find(image)
        return found

    def get(self, sample: Sample) -> bytes:
        """C-GET of the instance in its own syntax; its data set's bytes. Raises Refused."""
        study, series, instance = sample.uids
        received: list[bytes] = []

        def take(event: Any) -> int:
            received.append(event.encoded_dataset(include_meta=False))
            return 0

        entity = AE(OURS)
        sop_class = UID(str(sample.dataset.SOPClassUID))
        entity.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
        entity.add_requested_context(sop_class, UID(sample.transfer_syntax))
        role = build_role(sop_class, scp_role=True)
        association = entity.associate(
            "127.0.0.1", self.dicom, ae_title=TITLE, ext_neg=[role], evt_handlers=[(evt.EVT_C_STORE, take)]
        )
        if not association.is_established:
            raise Refused("C-GET: no association")
        asked = Dataset()
        asked.QueryRetrieveLevel, asked.StudyInstanceUID = "IMAGE", study
        asked.SeriesInstanceUID, asked.SOPInstanceUID = series, instance
        status = 0
        for answer, _ in association.send_c_get(asked, StudyRootQueryRetrieveInformationModelGet):
            status = answer.get("Status", 0xFFFF)
        association.release()
        if status != 0 or len(received) != 1:
            raise Refused(f"C-GET: {status:04X}H with {len(received)} instances")
        return received[0]

    def message(self, raw: bytes, *, answered: bool = True) -> bytes:
        """Send an HL7 message by MLLP; the answer, or what comes within a second where none was asked for."""
        with socket.create_connection(("127.0.0.1", self.hl7), timeout=30 if answered else 1) as connection:
            connection.sendall(START + raw + END)
            answer = b""
            if not answered:
                with suppress(TimeoutError):
                    return connection.recv(65536)
            while answered and END not in answer:
                piece = connection.recv(65536)
                if not piece:
                    raise Refused("MLLP: closed without an answer")
                answer += piece
        return answer.partition(END)[0].lstrip(START)

    def journaled(self, control_id: str) -> bytes:
        """All messages received under a control ID, as the journal holds them."""
        return command(self.home, "messages", "show", control_id, "--raw")

    def _find(self, asked: Dataset) -> Dataset:
        entity = AE(OURS)
        entity.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
        association = entity.associate("127.0.0.1", self.dicom, ae_title=TITLE)
        if not association.is_established:
            raise Refused("C-FIND: no association")
        answers = list(association.send_c_find(asked, StudyRootQueryRetrieveInformationModelFind))
        association.release()
        found = [identifier for _, identifier in answers if identifier is not None]
        if len(found) != 1:
            raise Refused(f"C-FIND finds {len(found)} at level {asked.QueryRetrieveLevel}")
        return found[0]

    def _path(self, sample: Sample) -> str:
        study, series, instance = sample.uids
        return f"/dicom-web/studies/{study}/series/{series}/instances/{instance}"

    def _json(self, path: str, **parameters: str) -> list[dict[str, Any]]:
        answer = self._ask("GET", path, params=parameters, headers={"Accept": "application/dicom+json"})
        if answer.status_code == 204:
            return []
        if answer.status_code != 200:
            raise Refused(f"QIDO-RS: {answer.status_code} {answer.text[:200]}")
        return list(answer.json())

    def _ask(self, method: str, path: str, headers: dict[str, str], **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}", **headers}
        return requests.request(method, self.http + path, headers=headers, timeout=300, **options)


@contextmanager
def running() -> Iterator[Doors]:
    """Start a Hilum on a fresh home and end it afterwards."""
    with tempfile.TemporaryDirectory(prefix="hilum-corpus-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        (home / "hilum.toml").write_text(SETTINGS, encoding="utf-8")
        log = (home / "server.log").open("wb")
        arguments = [sys.executable, "-m", "hilum.cli", "--home", str(home), "up"]
        process = subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=log, text=True, env=_environment(), start_new_session=True
        )
        try:
            assert process.stdout is not None
            ready = next((line for line in process.stdout if line.startswith("hilum ready")), "")
            ports = re.fullmatch(r"hilum ready http=(\S+) dicom=\S+:(\d+) hl7=\S+:(\d+)\s*", ready)
            if ports is None:
                raise SystemExit(f"Hilum did not start:\n{(home / 'server.log').read_text()[-3000:]}")
            token = command(home, "token", "--role", "service").decode().strip()
            outbox = Path(folder) / "outbox"
            outbox.mkdir()
            yield Doors(home, f"http://{ports[1]}", int(ports[2]), int(ports[3]), token, outbox)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
            log.close()


def command(home: Path, *arguments: str) -> bytes:
    """Run a command of the operator; its output."""
    line = [sys.executable, "-m", "hilum.cli", "--home", str(home), *arguments]
    return subprocess.run(line, capture_output=True, check=True, env=_environment(), timeout=120).stdout


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("HILUM_")}


def _failure(answer: requests.Response) -> str:
    """What STOW says of the failed instance: FailureReason and the words beside it."""
    try:
        failed = answer.json()["00081198"]["Value"][0]
        reason = failed["00081197"]["Value"][0]
        words = failed.get("00741048", {}).get("Value") or [""]
        return f"{int(reason):04X}H {words[0]}".strip()
    except (ValueError, KeyError, IndexError, TypeError):
        return answer.text[:200]


def _parts(answer: requests.Response) -> list[bytes]:
    if answer.status_code != 200:
        raise Refused(f"WADO-RS: {answer.status_code} {answer.text[:200]}")
    kind = answer.headers["Content-Type"]
    found = re.search(r'boundary="?([^";]+)', kind)
    if found is None:
        raise Refused(f"WADO-RS: {kind} without a boundary")
    pieces = answer.content.split(b"--" + found[1].encode())[1:-1]
    return [piece.split(b"\r\n\r\n", 1)[1][:-2] for piece in pieces]


def body_of(part10: bytes) -> bytes:
    """The data set of a Part 10 file, byte for byte."""
    from corpus_files import _split

    return _split(BytesIO(part10).read())[0]
