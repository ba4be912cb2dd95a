"""Sends images to `stow` destinations: STOW-RS by POST, some dozens a request (PS3.18 10.5).

Images go out as stored; what a receiver refuses in its transfer syntax goes once more uncompressed. Each that was taken
(stored, or stored with a warning) is noted, so that another try sends only what is missing. Redirects are not followed:
the token is for the address in the settings.
"""

from __future__ import annotations

import http.client
import logging
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import orjson

from hilum.archive.blobs import BlobStore
from hilum.archive.coercion import Coerced
from hilum.archive.frames import instance_opener
from hilum.archive.part10 import EXPLICIT_LITTLE
from hilum.archive.render_pool import RenderPool
from hilum.archive.retrieve import stream_instance
from hilum.core.errors import HilumError
from hilum.delivery.conditions import ConditionFailed, RouteError
from hilum.delivery.images import AVAILABILITY, ImageJob
from hilum.delivery.ports import SendOutcome, Sent
from hilum.delivery.senders.secret import read_secret
from hilum.delivery.senders.webhook import outcome_of
from hilum.dicom.forwarding import Forwarding, Missing, Progress
from hilum.dicom.image_rules import RuledCoercing
from hilum.dicom.rewriting import Rewriting
from hilum.security.live_tls import caller_context
from hilum.settings import Configuration, Destination
from hilum.storage.deliveries import Delivery
from hilum.storage.forwarding import Candidate
from hilum.storage.store import Store

log = logging.getLogger(__name__)

MOST_IMAGES, MOST_BYTES = 50, 64 << 20  # of one request; a larger image is a request of its own
MAX_ANSWER_BYTES = 16 << 20
_PORTS = {"http": 80, "https": 443}
_WARNING = 0xB000  # stands for whichever warning the receiver gave
# PS3.18 table 10.5.3-1 and PS3.4 B.2.3: what another transfer syntax may mend.
_SYNTAX_REASONS = frozenset({0x0122, 0x0124, 0xC000, 0xA900, 0x0110})


@dataclass
class Answered:
    """What a receiver said of the images of a request: taken with a status, or refused with a reason."""

    taken: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)


class NotTaken(HilumError):
    """The receiver refused a request as a whole."""

    def __init__(self, sent: Sent) -> None:
        super().__init__()
        self.sent = sent


@dataclass(frozen=True, slots=True)
class _Contents:
    """The Part 10 files of images for one destination, under its rules."""

    coercing: RuledCoercing
    rewriting: Rewriting

    def as_stored(self, image: Candidate) -> tuple[int, Iterator[bytes]]:
        """A file in the transfer syntax of the archive, and its length."""
        made = self._made(image)
        if made is None:
            return image.stored.object_length, stream_instance(self.coercing.blobs, image.stored)
        return self.coercing.file_length(image.stored, made), self.coercing.file(image.stored, made)

    def uncompressed(self, image: Candidate) -> bytes:
        """A file in Explicit VR Little Endian. Raises what says why it can't be made."""
        pieces, _ = self.rewriting.of(image.stored, EXPLICIT_LITTLE, self._made(image)).part10()
        return b"".join(pieces)

    def _made(self, image: Candidate) -> Coerced | None:
        coercion = self.coercing.of(image.stored)
        return None if coercion is None else self.coercing.made(image.stored, coercion)


class StowSender:
    """Sends what is due to destinations; safe to call from many threads."""

    def __init__(self, store: Store, configuration: Configuration, blobs: BlobStore) -> None:
        """Takes the index, the live configuration and the archive."""
        self._configuration = configuration
        self._blobs = blobs
        self._pool = RenderPool()
        self._store = store
        self._contents: dict[str, _Contents] = {}
        self._forwarding = Forwarding(store)

    def send(self, delivery: Delivery, destination: Destination) -> Sent:
        """Send what the destination lacks, for a while; PARTIAL where more is left."""
        self._configuration.refresh()
        if delivery.kind == AVAILABILITY:
            return Sent(SendOutcome.REJECTED, "not-by-stow")
        try:
            job = ImageJob.of(delivery.body)
            missing = self._forwarding.missing(job, destination, {destination.name})
        except ConditionFailed:
            return Sent(SendOutcome.REJECTED, "condition-failed")
        except RouteError as error:
            return Sent(SendOutcome.REJECTED, error.code)
        if missing is None:
            return Sent(SendOutcome.REJECTED, "not-shown")
        progress = self._forwarding.progress(job, destination)
        try:
            return self._send_all(missing, destination, progress)
        except NotTaken as refused:
            return refused.sent
        finally:
            progress.note()

    def close(self) -> None:
        """End tries at their next request, and the processes that decode."""
        self._forwarding.stopping.set()
        self._pool.close()

    def _send_all(self, missing: Sequence[Missing], destination: Destination, progress: Progress) -> Sent:
        refused: list[int] = []
        for each in missing:
            self._forwarding.audit(each.study, destination)
            for part in portions(each.images):
                refused += self._send_portion(part, destination, progress)
                if progress.is_over:
                    return Sent(SendOutcome.PARTIAL, "more")
        return Sent(SendOutcome.ERROR, f"status-{refused[0]:04X}") if refused else Sent(SendOutcome.ACCEPTED)

    def _send_portion(self, part: Sequence[Candidate], destination: Destination, progress: Progress) -> list[int]:
        """Send images in one request, the refused ones again uncompressed; return why some are still refused."""
        contents = self._contents_for(destination)
        ready, reasons = _ready(part, contents)
        if ready:
            answered = self._post([each for each, _ in ready], destination, [content for _, content in ready])
            reasons |= self._note([each for each, _ in ready], answered, progress)
        again = [each for each, _ in ready if reasons.get(each.stored.id) in _SYNTAX_REASONS and _is_compressed(each)]
        for each in again:
            try:
                content = contents.uncompressed(each)
            except HilumError as error:
                log.info("an instance can't be sent", extra={"door": "dicom", "code": error.code})
                continue
            answered = self._post([each], destination, [(len(content), iter((content,)))])
            reasons.pop(each.stored.id)
            reasons |= self._note([each], answered, progress)
        return list(reasons.values())

    def _note(self, part: Sequence[Candidate], answered: Answered, progress: Progress) -> dict[str, int]:
        """Note what was taken; return the reasons of the rest by row id."""
        reasons = {}
        for each in part:
            uid = each.stored.sop_instance_uid
            if uid in answered.taken:
                progress.took(each, answered.taken[uid])
            else:
                reasons[each.stored.id] = answered.refused.get(uid, 0x0110)
        return reasons

    def _contents_for(self, destination: Destination) -> _Contents:
        known = self._contents.get(destination.name)
        if known is None:
            coercing = RuledCoercing(self._store, self._blobs, self._configuration, destination.name)
            made = _Contents(coercing, Rewriting(coercing, instance_opener(self._blobs, cached=2), self._pool.render))
            known = self._contents.setdefault(destination.name, made)
        return known

    def _post(
        self, part: Sequence[Candidate], destination: Destination, contents: Sequence[tuple[int, Iterator[bytes]]]
    ) -> Answered:
        """Send one request. Raises NotTaken where nothing of it is known to be stored."""
        address = urlsplit(destination.address)
        boundary = secrets.token_hex(16)
        try:
            headers = _headers(self._configuration.home, destination, boundary)
            connection = _connect(self._configuration.home, address, destination)
        except (HilumError, OSError) as error:
            raise NotTaken(Sent(SendOutcome.TRANSIENT, getattr(error, "code", "unreachable"))) from error
        headers["Content-Length"] = str(_length(boundary, [size for size, _ in contents]))
        try:
            connection.request("POST", _target(address), _body(boundary, contents), headers)
            answer = connection.getresponse()
            content = answer.read(MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NotTaken(Sent(SendOutcome.AMBIGUOUS, "no-answer")) from error
        finally:
            connection.close()
        return answer_of(answer.status, content, [each.stored.sop_instance_uid for each in part])


def _ready(
    part: Sequence[Candidate], contents: _Contents
) -> tuple[list[tuple[Candidate, tuple[int, Iterator[bytes]]]], dict[str, int]]:
    """Return images with their files, and those that can't be made ready with a reason."""
    ready, reasons = [], {}
    for each in part:
        try:
            ready.append((each, contents.as_stored(each)))
        except HilumError as error:
            log.info("an instance can't be sent", extra={"door": "dicom", "code": error.code})
            reasons[each.stored.id] = 0x0110
    return ready, reasons


def portions(images: Sequence[Candidate]) -> Iterator[list[Candidate]]:
    """Divide images into requests."""
    part: list[Candidate] = []
    size = 0
    for image in images:
        if part and (len(part) == MOST_IMAGES or size + image.stored.object_length > MOST_BYTES):
            yield part
            part, size = [], 0
        part.append(image)
        size += image.stored.object_length
    if part:
        yield part


def answer_of(status: int, content: bytes, uids: Sequence[str]) -> Answered:
    """Read a Store Instances Response (PS3.18 10.5.3, PS3.18 I.2). Raises NotTaken where the whole was refused."""
    answered = Answered()
    try:
        said = orjson.loads(content) if content else {}
        said = said[0] if isinstance(said, list) and said else said
        for item in _items(said, "00081199"):
            answered.taken[_text(item, "00081155")] = _WARNING if "00081196" in item else 0
        for item in _items(said, "00081198"):
            answered.refused[_text(item, "00081155")] = _number(item, "00081197", 0x0110)
    except (ValueError, TypeError, AttributeError, LookupError):
        answered = Answered()
    if answered.taken or answered.refused:
        return answered
    if status == 200:  # a receiver that has stored all and says no more
        return Answered(dict.fromkeys(uids, 0))
    sent = outcome_of(status)
    raise NotTaken(sent if sent.outcome is not SendOutcome.ACCEPTED else Sent(SendOutcome.ERROR, f"http-{status}"))


def _items(said: Any, tag: str) -> list[Any]:
    return said.get(tag, {}).get("Value", []) if isinstance(said, dict) else []


def _text(item: Any, tag: str) -> str:
    return str(item[tag]["Value"][0])


def _number(item: Any, tag: str, otherwise: int) -> int:
    values = item.get(tag, {}).get("Value") or [otherwise]
    return int(values[0])


def _is_compressed(image: Candidate) -> bool:
    return image.stored.transfer_syntax_uid != EXPLICIT_LITTLE


def _connect(home: Path, address: SplitResult, destination: Destination) -> http.client.HTTPConnection:
    host, port = address.hostname or "", address.port or _PORTS[address.scheme]
    connection: http.client.HTTPConnection
    if address.scheme == "https":
        context = caller_context(home, destination.name, destination.ca, destination.cert, destination.key)
        connection = http.client.HTTPSConnection(host, port, timeout=destination.ack_timeout, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=destination.ack_timeout)
    connection.connect()
    return connection


def _headers(home: Path, destination: Destination, boundary: str) -> dict[str, str]:
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
        "Accept": "application/dicom+json",
        "User-Agent": "hilum",
    }
    if token := read_secret(home, destination):
        headers["Authorization"] = f"Bearer {token.decode('ascii', 'replace')}"
    return headers


def _target(address: SplitResult) -> str:
    """The studies resource under the root of the service, which may be named itself."""
    path = address.path.rstrip("/")
    return (path if path.endswith("/studies") else f"{path}/studies") + (f"?{address.query}" if address.query else "")


def _head(boundary: str) -> bytes:
    return f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()


def _tail(boundary: str) -> bytes:
    return f"--{boundary}--\r\n".encode()


def _length(boundary: str, sizes: Sequence[int]) -> int:
    return sum(len(_head(boundary)) + size + 2 for size in sizes) + len(_tail(boundary))


def _body(boundary: str, contents: Sequence[tuple[int, Iterator[bytes]]]) -> Iterator[bytes]:
    for _, pieces in contents:
        yield _head(boundary)
        yield from pieces
        yield b"\r\n"
    yield _tail(boundary)
