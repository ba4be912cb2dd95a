"""Images go on by STOW-RS: under the token and the certificate of the settings, and only what was not yet taken."""

from __future__ import annotations

import email
import http.server
import io
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_wire import eventually
from forwarding_house import House, forwarding, to
from image_peers import every_syntax, keep

from fixtures.certificates import Authority
from fixtures.dicom_files import ct_image, part10_bytes
from hilum.dicom.stow_sender import NotTaken, answer_of

STUDY = "1.2.70"
IMAGES = every_syntax(STUDY)
Verdict = Callable[[pydicom.FileDataset], int]  # 0 taken, 1 taken with a warning, else the reason of the refusal


@dataclass
class Receiver:
    """A STOW-RS service that keeps what it is sent."""

    port: int = 0
    verdict: Verdict = lambda image: 0
    status: int = 0
    token: str = ""
    requests: int = 0
    paths: set[str] = field(default_factory=set)
    images: list[tuple[str, bytes]] = field(default_factory=list)

    def answer(self, headers: Any, body: bytes) -> tuple[int, bytes]:
        self.requests += 1
        if self.token and headers["Authorization"] != f"Bearer {self.token}":
            return 401, b""
        if self.status:
            return self.status, b""
        message = email.message_from_bytes(b"Content-Type: " + headers["Content-Type"].encode() + b"\r\n\r\n" + body)
        taken, refused = [], []
        for part in message.get_payload():
            content = part.get_payload(decode=True)
            image = pydicom.dcmread(io.BytesIO(content))
            self.images.append((str(image.SOPInstanceUID), content))
            named = {"00081150": _ui(image.SOPClassUID), "00081155": _ui(image.SOPInstanceUID)}
            said = self.verdict(image)
            if said > 1:
                refused.append({**named, "00081197": {"vr": "US", "Value": [said]}})
            else:
                taken.append({**named, **({"00081196": {"vr": "US", "Value": [0xB000]}} if said else {})})
        said_all = {"00081199": {"vr": "SQ", "Value": taken}, "00081198": {"vr": "SQ", "Value": refused}}
        return (200 if not refused else 202 if taken else 409), json.dumps(said_all).encode()


def _ui(value: str) -> dict[str, Any]:
    return {"vr": "UI", "Value": [str(value)]}


@contextmanager
def receiver(tls: ssl.SSLContext | None = None, **how: Any) -> Iterator[Receiver]:
    kept = Receiver(**how)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            kept.paths.add(self.path)
            status, content = kept.answer(self.headers, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    kept.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()


def delivered(opened: House) -> bool:
    return eventually(lambda: [state for state, _ in opened.states()] == ["delivered"])


def test_a_complete_study_arrives_byte_for_byte(tmp_path: Path) -> None:
    with receiver() as there:
        settings = to("cloud", "stow", f"http://127.0.0.1:{there.port}/dicom-web")
        with forwarding(tmp_path, settings) as opened:
            keep(opened.hilum, *IMAGES.values())
            opened.complete(STUDY)
            assert delivered(opened)
            assert len(opened.sent("cloud")) == len(IMAGES)
    assert there.paths == {"/dicom-web/studies"}
    assert there.requests == 1
    for uid, content in there.images:
        image = next(image for image in IMAGES.values() if str(image.SOPInstanceUID) == uid)
        assert pydicom.dcmread(io.BytesIO(content)) == pydicom.dcmread(io.BytesIO(part10_bytes(image)))


def test_what_is_refused_is_told_apart_from_what_was_taken_and_alone_sent_again(tmp_path: Path) -> None:
    verdicts = {"1": 0, "2": 1, "3": 0xA700}
    with receiver(verdict=lambda image: verdicts[str(image.SOPInstanceUID)[-1]]) as there:
        settings = to("cloud", "stow", f"http://127.0.0.1:{there.port}/", more="[destination.give_up]\nAE = 2")
        with forwarding(tmp_path, settings) as opened:
            keep(opened.hilum, *[ct_image(StudyInstanceUID=STUDY, SOPInstanceUID=f"1.2.70.{n}") for n in (1, 2, 3)])
            opened.complete(STUDY)
            assert eventually(lambda: opened.states() == [("dead", "status-A700")])
            assert sorted(row.status for row in opened.sent("cloud")) == [0, 0xB000]
    assert sorted(uid for uid, _ in there.images) == ["1.2.70.1", "1.2.70.2", "1.2.70.3", "1.2.70.3"]


def test_a_receiver_that_reads_no_compression_gets_the_same_pixels_uncompressed(tmp_path: Path) -> None:
    plain = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1"}
    with (
        receiver(verdict=lambda image: 0 if image.file_meta.TransferSyntaxUID in plain else 0x0122) as there,
        forwarding(tmp_path, to("cloud", "stow", f"http://127.0.0.1:{there.port}/studies")) as opened,
    ):
        keep(opened.hilum, *IMAGES.values())
        opened.complete(STUDY)
        assert delivered(opened)
    last = {uid: pydicom.dcmread(io.BytesIO(content)) for uid, content in there.images}
    for image in IMAGES.values():
        assert np.array_equal(last[str(image.SOPInstanceUID)].pixel_array, image.pixel_array)


def test_the_token_goes_along_and_a_wrong_one_is_a_dead_letter(tmp_path: Path) -> None:
    with receiver(token="s3cret") as there:
        settings = to("cloud", "stow", f"http://127.0.0.1:{there.port}/", more='password_file = "token"')
        for name, token, state in (("right", "s3cret", ("delivered", "")), ("wrong", "other", ("dead", "http-401"))):
            home = tmp_path / name
            home.mkdir()
            (home / "token").write_text(f"{token}\n")
            with forwarding(home, settings) as opened:
                keep(opened.hilum, ct_image(StudyInstanceUID=STUDY))
                opened.complete(STUDY)
                assert eventually(lambda opened=opened, state=state: opened.states() == [state]), opened.states()


def test_nothing_is_sent_to_a_receiver_whose_certificate_is_not_of_the_named_authority(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs", "Another CA")
    held = authority.issue("cloud")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(held.cert, held.key)
    with receiver(tls=context) as there:
        for name, ca, arrives in (("right", authority.ca, True), ("wrong", stranger.ca, False)):
            settings = to("cloud", "stow", f"https://127.0.0.1:{there.port}/", more=f'ca = "{ca}"')
            with forwarding(tmp_path / name, settings) as opened:
                keep(opened.hilum, ct_image(StudyInstanceUID=STUDY))
                opened.complete(STUDY)
                if arrives:
                    assert delivered(opened)
                else:
                    assert eventually(lambda opened=opened: opened.states() == [("waiting", "unreachable")])
    assert len(there.images) == 1


@pytest.mark.parametrize(
    ("status", "content", "taken"),
    [(200, b"", True), (200, b"<xml/>", True), (202, b"", False), (409, b"{}", False), (302, b"", False)],
)
def test_an_answer_without_a_list_counts_as_taken_only_with_200(status: int, content: bytes, taken: bool) -> None:
    if taken:
        assert answer_of(status, content, ["1.2"]).taken == {"1.2": 0}
    else:
        with pytest.raises(NotTaken):
            answer_of(status, content, ["1.2"])
