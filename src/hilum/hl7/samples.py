"""Messages out of files as people keep them: one or many, in MLLP frames or not, batches, XML, any line ends."""

from __future__ import annotations

import re
from typing import Final

from hilum.core.errors import HilumError
from hilum.hl7.batches import is_batch, read_batch
from hilum.hl7.xml_encoding import is_xml

MOST_MESSAGES: Final = 10_000
_FRAME: Final = re.compile(rb"\x0b(.*?)\x1c\r?", re.DOTALL)
# A message begins at MSH and a separator, at the beginning of a line.
_BEGINNING: Final = re.compile(rb"(?:^|(?<=[\r\n]))(?=MSH[!-/:-@\[-`{-~])")


def messages_in(content: bytes) -> list[bytes]:
    """Return the messages of a file in their order, at most `MOST_MESSAGES`; what is before the first is left out."""
    frames = _FRAME.findall(content)
    found: list[bytes] = []
    for part in frames or [content]:
        found += _of_part(part)
    return found[:MOST_MESSAGES]


def _of_part(part: bytes) -> list[bytes]:
    text = part.removeprefix(b"\xef\xbb\xbf").strip(b"\r\n ")
    if is_xml(text):
        return [text]
    if is_batch(text):
        try:
            return list(read_batch(text).messages)
        except HilumError:
            # Of a batch that was cut the messages are still samples.
            pass
    starts = [each.start() for each in _BEGINNING.finditer(text)]
    if not starts:
        return [text] if text else []
    ends = [*starts[1:], len(text)]
    return [text[start:end].strip(b"\r\n") + b"\r" for start, end in zip(starts, ends, strict=True)]
