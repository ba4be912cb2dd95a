"""HL7 v2 as the demo's outside systems speak it: a small codec of their own, a sender and a listener over MLLP.

It shares no code with Hilum, so that both can be wrong only independently.
"""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Mapping
from datetime import datetime

from hilum.demo.play import PATIENCE, POLL, Refused

START, END = b"\x0b", b"\x1c\x0d"
LARGEST = 4_000_000
ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
UNESCAPES = {code: plain for plain, code in ESCAPES.items()} | {"\\.br\\": "\n"}


class Message:
    """A parsed message; `get("PID", 3, 1)` is the first component of PID-3, unescaped."""

    def __init__(self, text: str) -> None:
        self.segments = [line.split("|") for line in text.replace("\n", "\r").split("\r") if line]
        if not self.segments or self.segments[0][0] != "MSH":
            raise Refused("the message does not begin with MSH")
        for segment in self.segments:
            if segment[0] == "MSH":
                segment.insert(1, "|")  # MSH-1 is the separator itself

    def all(self, name: str) -> list[list[str]]:
        """Every segment of this name."""
        return [segment for segment in self.segments if segment[0] == name]

    def raw(self, name: str, field: int) -> str:
        """A whole field of the first such segment as it was sent."""
        for segment in self.all(name):
            return segment[field] if field < len(segment) else ""
        return ""

    def get(self, name: str, field: int, component: int = 1, subcomponent: int = 1) -> str:
        """One value of the first repetition, or ''."""
        return value(self.raw(name, field), component, subcomponent)


def value(field: str, component: int = 1, subcomponent: int = 1) -> str:
    """One unescaped value of the first repetition of a field, or ''."""
    parts = field.split("~")[0].split("^")
    if component > len(parts):
        return ""
    pieces = parts[component - 1].split("&")
    return unescape(pieces[subcomponent - 1]) if subcomponent <= len(pieces) else ""


def escape(text: str) -> str:
    return "".join(ESCAPES.get(character, character) for character in text)


def unescape(text: str) -> str:
    plain, rest = "", text
    while rest:
        for code, character in UNESCAPES.items():
            if rest.startswith(code):
                plain, rest = plain + character, rest[len(code) :]
                break
        else:
            plain, rest = plain + rest[0], rest[1:]
    return plain


def composed(*parts: str) -> str:
    """Escaped components joined with ^; empty ones at the end are left out."""
    return "^".join(escape(part) for part in parts).rstrip("^")


def stamp(moment: datetime) -> str:
    """The local time of the hospital, to the second (HL7 TS)."""
    return moment.strftime("%Y%m%d%H%M%S")


def segment(name: str, fields: Mapping[int, str]) -> str:
    """A segment from field number → already composed value."""
    return "|".join([name, *(fields.get(number, "") for number in range(1, max(fields) + 1))])


def message(kind: str, sender: str, *segments: str) -> str:
    """A v2.5.1 message in UTF-8 from `sender` (MSH-3|MSH-4), under a fresh control ID."""
    now, control_id = stamp(datetime.now()), uuid.uuid4().hex[:20]
    head = f"MSH|^~\\&|{sender}|HILUM|RADIOLOGY|{now}||{kind}|{control_id}|P|2.5.1||||||UNICODE UTF-8"
    return "\r".join([head, *segments]) + "\r"


def send(host: str, port: int, text: str, within: float = PATIENCE) -> Message:
    """Send one message and return its acknowledgement.

    A lost connection is mended by sending the same message, under the same control ID, again: the receiver keeps it
    from happening twice. Raises Refused when the answer is not AA or does not come.
    """
    limit = time.monotonic() + within
    while True:
        try:
            with socket.create_connection((host, port), timeout=max(0.1, limit - time.monotonic())) as link:
                link.sendall(START + text.encode() + END)
                reply = _frame(link, b"")[0]
            break
        except OSError as error:
            if time.monotonic() + POLL > limit:
                raise Refused(f"no acknowledgement over MLLP: {error}") from None
            time.sleep(POLL)
    answer = Message(reply.decode())
    sent = Message(text).get("MSH", 10)
    if answer.get("MSA", 2) != sent:
        raise Refused("the acknowledgement names another message (MSA-2)")
    if answer.get("MSA", 1) != "AA":
        reason = answer.raw("ERR", 8) or answer.raw("ERR", 3) or answer.raw("MSA", 3)
        raise Refused(f"answered {answer.get('MSA', 1)}: {reason} {answer.raw('ERR', 2)}".strip())
    return answer


class Listener:
    """An MLLP port that keeps what it gets and acknowledges it with AA, until the process ends."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.received: list[tuple[float, Message]] = []
        self._lock = threading.Lock()
        self._server = socket.create_server((host, port))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def messages(self) -> list[tuple[float, Message]]:
        """What has come so far: seconds since the epoch and message, in order of arrival."""
        with self._lock:
            return list(self.received)

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        rest = b""
        with link:
            try:
                while True:
                    frame, rest = _frame(link, rest)
                    got = Message(frame.decode())
                    with self._lock:
                        self.received.append((time.time(), got))
                    link.sendall(START + _acknowledgement(got).encode() + END)
            except (OSError, Refused):
                return


def _acknowledgement(got: Message) -> str:
    event = got.get("MSH", 9, 2)
    receiver = f"{got.raw('MSH', 5)}|{got.raw('MSH', 6)}|{got.raw('MSH', 3)}|{got.raw('MSH', 4)}"
    kind = f"ACK^{event}^ACK" if event else "ACK"
    head = f"MSH|^~\\&|{receiver}|{stamp(datetime.now())}||{kind}|{uuid.uuid4().hex[:20]}|P|2.5.1"
    return f"{head}\rMSA|AA|{got.raw('MSH', 10)}\r"


def _frame(link: socket.socket, rest: bytes) -> tuple[bytes, bytes]:
    """The next framed message and what was read beyond it; OSError when the peer goes first."""
    while END not in rest:
        piece = link.recv(65536)
        if not piece:
            raise ConnectionError("the peer closed the connection")
        rest += piece
        if len(rest) > LARGEST:
            raise Refused("an MLLP frame without end")
    frame, _, rest = rest.partition(END)
    return frame.lstrip(START), rest
