"""multipart/related both ways (RFC 2046, RFC 2387): written part by part, read as it comes.

The reader holds a part in memory up to `SPILL` bytes and then in an unlinked temporary file; it never sees the whole
body at once.
"""

from __future__ import annotations

import mmap
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from hilum.core.errors import InvalidInput, TooLarge

SPILL = 16 << 20
CHUNK = 1 << 20
MAX_PART_HEADER = 8192
MAX_PREAMBLE = 64 << 10
MAX_PARTS = 100_000
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]\Z")
_TYPE_PARAMETER = re.compile(r""";\s*([A-Za-z0-9_-]+)\s*=\s*(?:"([^"]*)"|([^;\s]*))""")


def new_boundary() -> str:
    """A boundary that no content holds by chance."""
    return secrets.token_hex(16)


def part_head(boundary: str, content_type: str, *, first: bool) -> bytes:
    """What stands before the content of a part."""
    line_before = "" if first else "\r\n"
    return f"{line_before}--{boundary}\r\nContent-Type: {content_type}\r\n\r\n".encode()


def end_of(boundary: str) -> bytes:
    """What stands behind the last part."""
    return f"\r\n--{boundary}--\r\n".encode()


def coalesced(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of about 1 MiB: each piece is a turn of the event loop."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= CHUNK:
            yield b"".join(waiting) if len(waiting) > 1 else piece
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


def content_type_of(value: str) -> tuple[str, dict[str, str]]:
    """A Content-Type as its media type and parameters, both in lower case but for the parameters' values."""
    media_type, _, _ = value.partition(";")
    found = {m[1].lower(): m[2] if m[2] is not None else m[3] for m in _TYPE_PARAMETER.finditer(value[:1024])}
    return media_type.strip().lower(), found


@dataclass(slots=True)
class Part:
    """One part that was received; close it when its content is no longer needed."""

    content_type: str = ""
    size: int = 0
    location: str = ""
    _memory: bytearray = field(default_factory=bytearray)
    _file: BinaryIO | None = None
    _map: mmap.mmap | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append what came next."""
        self.size += len(data)
        if self._file is None and self.size > SPILL:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the part
            self._file.write(self._memory)
            self._memory = bytearray()
        if self._file is not None:
            self._file.write(data)
        else:
            self._memory += data

    def view(self) -> bytearray | memoryview:
        """The content; not to be used once the part is closed."""
        if self._file is None:
            return self._memory
        if self._map is None:
            self._file.flush()
            self._map = mmap.mmap(self._file.fileno(), self.size, access=mmap.ACCESS_READ)
        return memoryview(self._map)

    def close(self) -> None:
        """Let go of memory and file; a mapping goes with its last view."""
        self._memory = bytearray()
        self._map = None
        if self._file is not None:
            self._file.close()
            self._file = None


class MultipartReader:
    """Takes the body of a request in pieces of any size and gives the parts as they are complete."""

    def __init__(self, boundary: str, largest_part: int) -> None:
        if not _BOUNDARY.match(boundary):
            raise InvalidInput("The multipart body has no usable boundary.", field="Content-Type")
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._largest = largest_part
        # The first delimiter needs no line before it.
        self._buffer = bytearray(b"\r\n")
        self._part: Part | None = None
        self._in_head = False
        self._parts = 0
        self._skipped = 0
        self.ended = False

    def feed(self, data: bytes) -> Iterator[Part]:
        """Take the next piece of the body; give the parts that it completes. Raises InvalidInput, TooLarge."""
        if self.ended:
            return  # what follows the last delimiter means nothing
        self._buffer += data
        while not self.ended:
            if self._in_head:
                if not self._read_head():
                    return
            else:
                complete, more = self._read_content()
                if complete is not None:
                    yield complete
                if not more:
                    return

    def close(self) -> None:
        """Let go of the part under way."""
        if self._part is not None:
            self._part.close()

    def _read_head(self) -> bool:
        """Read the header fields of a part, once all of them are there."""
        if self._buffer.startswith(b"\r\n"):
            end, length = 0, 2  # a part without header fields
        else:
            end, length = self._buffer.find(b"\r\n\r\n", 0, MAX_PART_HEADER + 4), 4
        if end < 0:
            if len(self._buffer) > MAX_PART_HEADER:
                raise InvalidInput("The header of a part is too long.", field="multipart")
            return False
        self._part = Part()
        for line in bytes(self._buffer[:end]).split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-type":
                self._part.content_type = value.decode("latin-1").strip()
            elif name.strip().lower() == b"content-location":
                self._part.location = value.decode("latin-1").strip()
        del self._buffer[: end + length]
        self._in_head = False
        return True

    def _read_content(self) -> tuple[Part | None, bool]:
        """Take content up to the next delimiter; tell the part that it completes and whether there is more to read."""
        start = 0
        while True:
            found = self._buffer.find(self._delimiter, start)
            if found < 0:
                self._take(len(self._buffer) - len(self._delimiter) + 1)
                return None, False
            kind, after = self._behind(found + len(self._delimiter))
            if kind == "data":
                start = found + 1
                continue
            if kind == "wait":
                self._take(found)
                return None, False
            self._take(found)
            del self._buffer[: after - found]
            complete, self._part = self._part, None
            self.ended, self._in_head = kind == "end", kind == "next"
            self._count()
            return complete, True

    def _behind(self, position: int) -> tuple[str, int]:
        """What follows a delimiter: "next" part, "end", "wait" for more bytes, or "data" that only looked like one."""
        tail = bytes(self._buffer[position : position + 128])
        if tail[:2] == b"--":
            return "end", position + 2
        bare = tail.lstrip(b" \t")
        if bare[:2] == b"\r\n":
            return "next", position + len(tail) - len(bare) + 2
        if len(tail) < 128 and bare in (b"", b"\r", b"-"):
            return "wait", position
        return "data", position

    def _take(self, length: int) -> None:
        if length <= 0:
            return
        if self._part is None:
            self._skipped += length
            if self._skipped > MAX_PREAMBLE:
                raise InvalidInput("The body does not begin with the boundary it names.", field="multipart")
        else:
            if self._part.size + length > self._largest:
                raise TooLarge("A part is larger than an instance may be.")
            with memoryview(self._buffer) as whole, whole[:length] as piece:
                self._part.write(piece)
        del self._buffer[:length]

    def _count(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise TooLarge("The body has more parts than are taken at once.")
