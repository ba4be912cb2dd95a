"""What the data set before said, so that the next one of its series is read by comparing instead of converting.

Images that follow one another on an association differ in a few elements: a UID, a position, a number. An element whose
bytes are those of its predecessor has its value. What later elements are read by (character set, pixel representation,
private creators) is read every time, and where it differs nothing behind it is taken over.
"""

from __future__ import annotations

from typing import Any, NamedTuple

MAXIMUM_ELEMENTS = 512
LONGEST = 1024  # bytes; what is longer may stand as bulk data in the model, whose URI names its place
SLACK = 1024


class _Element(NamedTuple):
    raw: bytes
    length: int
    tag: int
    key: str
    value: dict[str, Any] | None  # None where it is to be read every time
    telling: bool


class Precedent:
    """The top level of one data set after the other; used by one thread. Values are shared: they are not to be changed.

    Between `begin` and `end` a pass asks `repeat` at each element, and tells of those it read by itself.
    """

    def __init__(self) -> None:
        self._elements: list[_Element] = []
        self._encoding: object = None
        self._head = b""
        self._length = 0
        self._at = 0
        self._taken = True

    def begin(self, data: Any, encoding: object) -> None:
        """Start another data set; what was encoded otherwise is no precedent."""
        if encoding != self._encoding:
            self._elements.clear()
            self._encoding = encoding
        self._head = bytes(data[: self._length + SLACK])
        self._at, self._taken = 0, True

    def repeat(self, position: int, out: dict[str, dict[str, Any]], last: int) -> tuple[int, int]:
        """Take over all elements from `position` that stood in the one before; where it stopped, and the last tag."""
        at, is_here = self._at, self._head.startswith
        for raw, length, tag, key, value, _ in self._elements[at:] if at else self._elements:
            if value is None or not is_here(raw, position):
                break
            out[key] = value
            position += length
            last = tag
            at += 1
        self._at = at
        return position, last

    def note(self, raw: bytes, tag: int, key: str, value: dict[str, Any] | None, *, telling: bool) -> None:
        """Keep an element for the next data set; `telling` are those that decide how later ones are read."""
        if not self._taken:
            return
        elements, at = self._elements, self._at
        stop = at
        while stop < len(elements) and elements[stop].tag <= tag:
            stop += 1
        if (at and elements[at - 1].tag >= tag) or at >= MAXIMUM_ELEMENTS:
            self._taken = False
            del elements[at:]
            return
        same = stop == at + 1 and elements[at].raw == raw
        if not same and (telling or any(each.telling for each in elements[at:stop])):
            del elements[at:]
            stop = at
        kept = None if telling or len(raw) > LONGEST else value
        elements[at:stop] = [_Element(raw, len(raw), tag, key, kept, telling)]
        self._at = at + 1

    def end(self, length: int) -> None:
        """The header is read to its end, so many bytes: what stood behind it in the one before is no precedent."""
        del self._elements[self._at :]
        self._length = min(length, LONGEST * MAXIMUM_ELEMENTS)
        self._head = b""
