"""An instance made of its DICOM JSON metadata and its bulk data (PS3.18 10.5.1.1.2, F.2), as a data set to be stored.

Pixel data goes from where it lies into a file piece by piece; all other values are small or refused. Only bulk data
that came along is taken: an address is a name here and is never fetched.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import pydicom
from pydicom.dataset import Dataset

from hilum.archive.metadata import integer
from hilum.archive.part10 import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, checked_transfer_syntax
from hilum.archive.values import REPRESENTATIONS
from hilum.archive.video import SYNTAXES as VIDEO
from hilum.archive.walk import MAX_DEPTH, MAX_ELEMENTS, Attributes
from hilum.core.errors import HilumError, InvalidInput, TooLarge, Unsupported

MAX_HELD = 64 << 20  # of all values of an instance but its pixels
PIXELS = ("7FE00008", "7FE00009", "7FE00010")
_NOT_STORED = frozenset({*PIXELS, "7FE00001", "7FE00002", "00083002", "FFFCFFFC"})
_KEY = re.compile(r"[0-9A-F]{8}\Z")
_TEXT = frozenset({"LT", "ST", "UC", "UR", "UT"})
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_LONGEST = 0xFFFFFFFE


@dataclass(frozen=True, slots=True)
class Bulk:
    """A value that came along: its media type and transfer syntax (empty: the type's own), and its bytes."""

    media_type: str
    transfer_syntax_uid: str
    content: memoryview


# What came along under a URI: a part, or a part per frame.
Lookup = Callable[[str], Sequence[Bulk]]


def write_dataset(attributes: Attributes, lookup: Lookup, defaults: dict[str, str], out: BinaryIO) -> str:
    """Write the data set of DICOM JSON attributes; return its transfer syntax.

    `defaults` are the transfer syntaxes of media types. Raises InvalidInput for what is no DICOM JSON or lacks its
    bulk data, Unsupported for forms that are not stored, TooLarge.
    """
    _check(attributes)
    before = {key: entry for key, entry in attributes.items() if key < "7FE00010" and key not in _NOT_STORED}
    behind = {key: entry for key, entry in attributes.items() if key > "7FE00010" and key not in _NOT_STORED}
    for group in ("00000000", "0002"):
        before = {key: entry for key, entry in before.items() if not key.startswith(group)}
    before["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}  # JSON is Unicode, and so is what is made of it
    held = _Held(lookup)
    out.write(_encoded(before, held))
    syntax = EXPLICIT_LITTLE
    for key in PIXELS:
        if key in attributes:
            syntax = _write_pixels(out, key, attributes, lookup, defaults)
    out.write(_encoded(behind, held))
    return syntax


def _check(attributes: Attributes) -> None:
    """Refuse what is not of the DICOM JSON model, too deep or too much."""
    left = MAX_ELEMENTS
    waiting: list[tuple[Any, int]] = [(attributes, 0)]
    while waiting:
        dataset, depth = waiting.pop()
        if not isinstance(dataset, dict) or depth > MAX_DEPTH:
            raise InvalidInput("The metadata is not in the DICOM JSON model.")
        left -= len(dataset)
        if left < 0:
            raise TooLarge("The metadata has more elements than the archive takes.")
        for key, entry in dataset.items():
            if not (_KEY.match(key) and isinstance(entry, dict) and isinstance(entry.get("Value", []), list)):
                raise InvalidInput("The metadata is not in the DICOM JSON model.")
            if entry.get("vr") not in REPRESENTATIONS:
                raise InvalidInput("The metadata has an element without a value representation.")
            if entry["vr"] == "SQ":
                waiting += [(item, depth + 1) for item in entry.get("Value", []) if item is not None]


class _Held:
    """Bulk data of values that are held in memory, counted."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._size = 0

    def __call__(self, tag: str, vr: str, uri: str) -> Any:
        found = self._lookup(uri)
        if len(found) != 1:
            raise InvalidInput("The bulk data of a value did not come along.", field=tag)
        self._size += len(found[0].content)
        if self._size > MAX_HELD:
            raise TooLarge("The values of the instance are larger than are taken with metadata.")
        data = bytes(found[0].content)
        if vr in _BINARY:
            return data
        if vr in _TEXT:
            return data.decode("utf-8")
        raise Unsupported("Values of this kind are written in the metadata itself.", field=tag)


def _encoded(attributes: Attributes, held: _Held) -> bytes:
    if not attributes:
        return b""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = Dataset.from_json(dict(sorted(attributes.items())), held)
            buffer = io.BytesIO()
            pydicom.dcmwrite(buffer, dataset, implicit_vr=False, little_endian=True, enforce_file_format=False)
    except HilumError:
        raise
    except Exception as error:  # what a stranger's JSON can make pydicom raise has no common name
        raise InvalidInput("The metadata can't be read as a data set.") from error
    return buffer.getvalue()


def _write_pixels(out: BinaryIO, key: str, attributes: Attributes, lookup: Lookup, defaults: dict[str, str]) -> str:
    """Write the pixel data element behind all that was written; return the transfer syntax it makes the data set."""
    entry = attributes[key]
    if "BulkDataURI" not in entry:
        out.write(_encoded({key: entry}, _Held(lookup)))
        return EXPLICIT_LITTLE
    parts = lookup(str(entry["BulkDataURI"]))
    if not parts:
        raise InvalidInput("The pixel data did not come along.", field="PixelData")
    syntax = _syntax_of(parts, defaults)
    vr = str(entry["vr"]) if entry["vr"] in _BINARY else "OW"
    if syntax == EXPLICIT_LITTLE:
        _write_native(out, key, vr, parts)
    elif key != "7FE00010":
        raise InvalidInput("Floating point pixels are not compressed.", field="PixelData")
    else:
        frames = integer(attributes, "00280008") or 1
        if len(parts) != frames and not (len(parts) == 1 and syntax in VIDEO):
            raise InvalidInput("Compressed frames come in a part each.", field="PixelData")
        _write_encapsulated(out, parts)
    return syntax


def _syntax_of(parts: Sequence[Bulk], defaults: dict[str, str]) -> str:
    asked = {part.transfer_syntax_uid or defaults.get(part.media_type, EXPLICIT_LITTLE) for part in parts}
    if len(asked) != 1:
        raise InvalidInput("The frames are in different transfer syntaxes.", field="PixelData")
    (syntax,) = asked
    if syntax == EXPLICIT_BIG:
        raise Unsupported("Bulk data is little endian.", field="PixelData")
    return EXPLICIT_LITTLE if syntax == IMPLICIT_LITTLE else checked_transfer_syntax(syntax)


def _tag(key: str) -> bytes:
    return struct.pack("<HH", int(key[:4], 16), int(key[4:], 16))


def _write_native(out: BinaryIO, key: str, vr: str, parts: Sequence[Bulk]) -> None:
    length = sum(len(part.content) for part in parts)
    if length > _LONGEST:
        raise TooLarge("The pixel data is longer than a value may be.")
    out.write(_tag(key) + vr.encode() + struct.pack("<HI", 0, length + length % 2))
    for part in parts:
        out.writelines(_pieces(part.content))
    out.write(b"\0" * (length % 2))


def _write_encapsulated(out: BinaryIO, parts: Sequence[Bulk]) -> None:
    """A fragment for each frame behind an empty offset table (PS3.5 A.4)."""
    out.write(_tag("7FE00010") + b"OB" + struct.pack("<HI", 0, 0xFFFFFFFF) + b"\xfe\xff\x00\xe0" + bytes(4))
    for part in parts:
        length = len(part.content)
        if length > _LONGEST:
            raise TooLarge("A frame is longer than a fragment may be.")
        out.write(b"\xfe\xff\x00\xe0" + struct.pack("<I", length + length % 2))
        out.writelines(_pieces(part.content))
        out.write(b"\0" * (length % 2))
    out.write(b"\xfe\xff\xdd\xe0" + bytes(4))


def _pieces(content: memoryview) -> Iterator[memoryview]:
    for start in range(0, len(content), 1 << 20):
        yield content[start : start + (1 << 20)]
