"""The stream inside an instance of a video transfer syntax (PS3.5 8.2.7 to 8.2.10), found without reading it.

The pixel data is one stream cut into fragments at any byte, however many frames it has; what a player needs is the
fragments' values one after the other.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate

from hilum.archive.walk import PixelData
from hilum.core.errors import InvalidInput, Unsupported

MAX_FRAGMENTS = 100_000
CHUNK = 1 << 20
_ITEM = 0xFFFEE000
# PS3.5 A.4.5 to A.4.8: MPEG2, MPEG-4 AVC/H.264 and HEVC/H.265, each also fragmentable (.1).
SYNTAXES = frozenset(
    f"1.2.840.10008.1.2.4.{number}{kind}" for number in range(100, 109) for kind in ("", ".1")
)  # fmt: skip
Reader = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True)
class Video:
    """A stream: places in the data set (offset, length) that follow one another, and the type of the whole."""

    spans: tuple[tuple[int, int], ...]
    media_type: str
    reader: Reader

    @property
    def size(self) -> int:
        """Bytes of the whole stream."""
        return sum(length for _, length in self.spans)

    def pieces(self, begin: int, end: int) -> Iterator[bytes]:
        """The bytes from `begin` to `end`, in pieces of at most 1 MiB."""
        starts = [0, *accumulate(length for _, length in self.spans)]
        index = bisect_right(starts, begin) - 1
        while begin < end:
            offset, length = self.spans[index]
            inside = begin - starts[index]
            wanted = min(length - inside, end - begin, CHUNK)
            if wanted:
                yield self.reader(offset + inside, wanted)
            begin += wanted
            if inside + wanted >= length:
                index += 1


def video_of(pixels: PixelData, reader: Reader) -> Video:
    """The stream of an instance's pixel data. Raises Unsupported where it is no video, InvalidInput where it is cut."""
    if not pixels.encapsulated:
        raise Unsupported("The instance holds no video.", field="PixelData")
    spans = tuple(_fragments(pixels, reader))[1:]  # the first is the offset table, PS3.5 A.4
    if not any(length for _, length in spans):
        raise InvalidInput("The instance holds no video.", field="PixelData")
    first = next((offset, length) for offset, length in spans if length)
    return Video(spans, media_type_of(reader(first[0], min(first[1], 400))), reader)


def _fragments(pixels: PixelData, reader: Reader) -> Iterator[tuple[int, int]]:
    position, end = pixels.offset, pixels.offset + pixels.length
    for _ in range(MAX_FRAGMENTS):
        if position + 8 > end:
            return
        group, element, length = struct.unpack("<HHI", reader(position, 8))
        if group << 16 | element != _ITEM:
            return
        if position + 8 + length > end:
            raise InvalidInput("A fragment of the video is cut.", field="PixelData")
        yield position + 8, length
        position += 8 + length
    raise InvalidInput("The video is in more fragments than are read.", field="PixelData")


def media_type_of(head: bytes) -> str:
    """What a stream is by its first bytes: an MP4 file, an MPEG-2 transport stream, or MPEG video."""
    if head[4:8] == b"ftyp":
        return "video/mp4"
    if head[:1] == b"\x47" and head[188:189] in (b"\x47", b""):
        return "video/mp2t"
    return "video/mpeg"
