"""One pass over the bytes of a data set, up to its pixel data, that yields the DICOM JSON model (PS3.18 F).

Explicit and implicit VR, both byte orders, sequences of known and unknown length, private elements and UN. Every
length is checked against what is there, nesting and the number of elements are bounded; what breaks the encoding is
refused with the keyword of the element, what is merely odd is kept.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hilum.archive.charset import DEFAULT, PLAIN, encodings_of
from hilum.archive.dictionary import KEY_OF_TAG, SIGNED_OR_NOT, name_of, vr_of
from hilum.archive.precedent import Precedent
from hilum.archive.values import REPRESENTATIONS, Representation, inline_binary
from hilum.core.errors import InvalidInput, TooLarge

MAX_DEPTH = 64
MAX_ELEMENTS = 1_000_000
UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_CHARACTER_SET, _PIXEL_REPRESENTATION = 0x00080005, 0x00280103
_TELLING = frozenset({_CHARACTER_SET, _PIXEL_REPRESENTATION})
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_UNKNOWN = Representation("UN", True, None, REPRESENTATIONS["UN"].inline)
_BY_BYTES = {vr.encode(): entry for vr, entry in REPRESENTATIONS.items()}

Attributes = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class PixelData:
    """Where pixel data lies in its data set.

    `offset` is of the first byte of the value; `length` its bytes, up to and without the sequence delimiter when
    encapsulated. In a deflated data set both count inflated bytes.
    """

    tag: int
    vr: str
    offset: int
    length: int
    encapsulated: bool


class MoreNeeded(Exception):
    """The given beginning of a data set ends within its header."""


class Walk:
    """The state of one pass; `attributes`, `pixels` and `character_set` are its result.

    `data` may be only the beginning of a data set of `total` bytes; MoreNeeded says that it was too little, and of
    encapsulated pixel data nothing is checked then. With a `precedent` what it repeats is taken over from it, and the
    entries of `attributes` are shared with it.
    """

    def __init__(
        self,
        data: Any,
        *,
        implicit: bool,
        big_endian: bool = False,
        total: int | None = None,
        precedent: Precedent | None = None,
    ) -> None:
        self.data = data
        self._here = len(data)
        self._partial = total is not None and total > self._here
        self.pixels: PixelData | None = None
        self.character_set = ""
        self._left = MAX_ELEMENTS
        self._signed = False
        self._encoding(implicit, ">" if big_endian else "<")
        self._precedent = precedent
        if precedent is not None:
            precedent.begin(data, (implicit, big_endian))
        try:
            self.attributes: Attributes
            self.attributes, stop = self._dataset(0, max(total or 0, self._here), False, 0, DEFAULT)
        except struct.error as error:  # only a partial data set can end where an element should begin
            raise MoreNeeded from error
        if precedent is not None:
            precedent.end(stop)

    def _encoding(self, implicit: bool, order: str) -> None:
        self._implicit = implicit
        self._order = order
        self._head = struct.Struct(order + "HH2sH").unpack_from
        self._item = struct.Struct(order + "HHI").unpack_from
        self._long = struct.Struct(order + "I").unpack_from

    def _dataset(
        self, pos: int, end: int, delimited: bool, depth: int, encodings: Sequence[str]
    ) -> tuple[Attributes, int]:
        """The elements from `pos` to `end` or, when `delimited`, to the item delimiter; and where it stopped."""
        out: Attributes = {}
        creators: dict[int, str] = {}
        data, head, last, in_order = self.data, self._head, -1, True
        precedent = None if depth else self._precedent
        while pos < end:
            if precedent is not None:
                pos, last = precedent.repeat(pos, out, last)
                if pos >= end:
                    break
            begin = pos
            if end - pos < 8:
                if delimited or self._partial or any(data[pos:end]):
                    raise InvalidInput("The data set is cut within an element.", field=name_of(max(last, 0)))
                break
            group, element, vr_bytes, length = head(data, pos)
            tag = group << 16 | element
            if group == 0xFFFE:
                if tag == _ITEM_END and delimited:
                    return _sorted(out, in_order), pos + 8
                raise InvalidInput("A delimiter stands where an element is expected.", field=name_of(max(last, 0)))
            if tag == 0 and depth == 0 and not self._partial and not any(data[pos : min(end, pos + 65536)]):
                break  # padding behind the last element
            self._left -= 1
            if self._left < 0:
                raise TooLarge("The data set has more elements than the archive takes.")
            entry, start, length = self._form(pos, end, tag, vr_bytes, length, creators)
            if depth == 0 and tag in _PIXELS:
                self._note_pixels(tag, entry.vr, start, length, end)
                out[KEY_OF_TAG[tag]] = {"vr": entry.vr, "BulkDataURI": "bulkdata/pixeldata"}
                break
            value, pos = self._value(tag, entry, start, length, end, depth, encodings, creators)
            telling = tag in _TELLING or (group & 1 == 1 and 0x10 <= element <= 0xFF)
            if telling:
                encodings = self._note(tag, value, depth, creators, encodings)
            if element and group != 2:  # group lengths and file meta are not part of the model, PS3.18 F.2.2
                key = KEY_OF_TAG.get(tag) or f"{tag:08X}"
                out[key] = value
                if precedent is not None:
                    precedent.note(bytes(data[begin:pos]), tag, key, value, telling=telling)
            in_order = in_order and tag > last
            last = tag
        if delimited:
            raise InvalidInput("An item of a sequence has no end.", field=name_of(max(last, 0)))
        return _sorted(out, in_order), pos

    def _form(
        self, pos: int, end: int, tag: int, vr_bytes: bytes, length: int, creators: dict[int, str]
    ) -> tuple[Representation, int, int]:
        """How the element at `pos` is encoded: its VR, where its value starts, and the value's length."""
        entry = None if self._implicit else _BY_BYTES.get(vr_bytes)
        if entry is None:
            if self._implicit or not (vr_bytes.isalpha() and vr_bytes.isupper()):
                return self._known(tag, creators), pos + 8, self._long(self.data, pos + 4)[0]
            entry = _UNKNOWN  # a VR of a later edition has the long form, PS3.5 7.1.2
        if not entry.long:
            return entry, pos + 8, length
        if end - pos < 12:
            raise InvalidInput("The data set is cut within an element.", field=name_of(tag))
        return entry, pos + 12, self._long(self.data, pos + 8)[0]

    def _note(
        self, tag: int, value: dict[str, Any], depth: int, creators: dict[int, str], encodings: Sequence[str]
    ) -> Sequence[str]:
        """Remember what the reading of later elements depends on; the encodings from here on."""
        if "Value" not in value:
            return encodings
        if tag == _CHARACTER_SET:
            return self._character_set(value, depth)
        if tag == _PIXEL_REPRESENTATION:
            self._signed = value["Value"][0] == 1
        else:
            creators[tag >> 16 << 8 | tag & 0xFF] = str(value["Value"][0])
        return encodings

    def _known(self, tag: int, creators: dict[int, str]) -> Representation:
        creator = creators.get(tag >> 16 << 8 | (tag & 0xFFFF) >> 8) if tag >> 16 & 1 else None
        vr = vr_of(tag, creator)
        if vr == SIGNED_OR_NOT:
            vr = "SS" if self._signed else "US"
        return REPRESENTATIONS[vr]

    def _character_set(self, value: dict[str, Any], depth: int) -> Sequence[str]:
        """Note the set in force; in the JSON, which is UTF-8, it can only be ISO_IR 192."""
        declared = "\\".join(str(part or "") for part in value["Value"])
        if depth == 0:
            self.character_set = declared
        if not PLAIN.issuperset(declared.split("\\")):
            value["Value"] = ["ISO_IR 192"]
        return encodings_of(declared)

    def _value(
        self,
        tag: int,
        entry: Representation,
        start: int,
        length: int,
        end: int,
        depth: int,
        encodings: Sequence[str],
        creators: dict[int, str],
    ) -> tuple[dict[str, Any], int]:
        """The JSON of one element, and where the next begins."""
        vr, _, convert, inline = entry
        if length == UNDEFINED:
            return self._undefined(tag, vr, start, end, depth, encodings)
        stop = start + length
        if stop > end:
            raise InvalidInput("An element claims more bytes than there are.", field=name_of(tag))
        if stop > self._here and length <= inline:
            raise MoreNeeded
        if convert is not None and length <= inline:
            values = convert(bytes(self.data[start:stop]), encodings, self._order)
            return ({"vr": vr, "Value": values} if values else {"vr": vr}), stop
        if vr == "SQ":
            items, _ = self._sequence(start, stop, False, depth + 1, encodings, tag)
            return ({"vr": vr, "Value": items} if items else {"vr": vr}), stop
        if vr == "UN" and not self._implicit and (known := self._known(tag, creators)).vr != "UN":
            return self._known_after_all(tag, known, start, length, depth, encodings), stop
        if length == 0:
            return {"vr": vr}, stop
        if length > inline:
            return {"vr": vr, "BulkDataURI": f"bulkdata/{start}/{length}"}, stop
        return {"vr": vr, "InlineBinary": inline_binary(vr, bytes(self.data[start:stop]), self._order)}, stop

    def _known_after_all(
        self, tag: int, known: Representation, start: int, length: int, depth: int, encodings: Sequence[str]
    ) -> dict[str, Any]:
        """An element sent as UN whose VR the dictionary knows: its bytes are implicit little endian (PS3.5 6.2.2)."""
        implicit, order = self._implicit, self._order
        self._encoding(True, "<")
        try:
            return self._value(tag, known, start, length, start + length, depth, encodings, {})[0]
        except TooLarge:
            raise
        except InvalidInput:
            if length > _UNKNOWN.inline:
                return {"vr": "UN", "BulkDataURI": f"bulkdata/{start}/{length}"}
            return {"vr": "UN", "InlineBinary": inline_binary("UN", bytes(self.data[start : start + length]), "<")}
        finally:
            self._encoding(implicit, order)

    def _undefined(
        self, tag: int, vr: str, start: int, end: int, depth: int, encodings: Sequence[str]
    ) -> tuple[dict[str, Any], int]:
        """An element of undefined length: a sequence, a sequence sent as UN, or encapsulated data (PS3.5 7.5, A.4)."""
        if vr in ("OB", "OW"):
            stop = self._fragments(start, end, tag)
            return {"vr": vr, "BulkDataURI": f"bulkdata/{start}/{stop - start}"}, min(stop + 8, end)
        if vr not in ("SQ", "UN"):
            raise InvalidInput("An element of this kind can't have an undefined length.", field=name_of(tag))
        implicit, order = self._implicit, self._order
        if vr == "UN":
            self._encoding(True, "<")  # PS3.5 6.2.2 note 2
        try:
            items, stop = self._sequence(start, end, True, depth + 1, encodings, tag)
        finally:
            self._encoding(implicit, order)
        return ({"vr": "SQ", "Value": items} if items else {"vr": "SQ"}), stop

    def _sequence(
        self, pos: int, end: int, delimited: bool, depth: int, encodings: Sequence[str], tag: int
    ) -> tuple[list[Attributes], int]:
        """The items from `pos` to `end` or, when `delimited`, to the sequence delimiter; and where it stopped."""
        if depth > MAX_DEPTH:
            raise InvalidInput("Sequences are nested too deeply.", field=name_of(tag))
        items: list[Attributes] = []
        while pos < end:
            if end - pos < 8:
                raise InvalidInput("A sequence is cut within an item.", field=name_of(tag))
            group, element, length = self._item(self.data, pos)
            mark, start = group << 16 | element, pos + 8
            if mark == _SEQUENCE_END:
                return items, start
            if mark != _ITEM:
                raise InvalidInput("A sequence holds something that is not an item.", field=name_of(tag))
            self._left -= 1
            if length == UNDEFINED:
                item, pos = self._dataset(start, end, True, depth, encodings)
            else:
                pos = start + length
                if pos > end:
                    raise InvalidInput("An item claims more bytes than there are.", field=name_of(tag))
                item, _ = self._dataset(start, pos, False, depth, encodings)
            items.append(item)
        if delimited:
            raise InvalidInput("A sequence has no end.", field=name_of(tag))
        return items, pos

    def _note_pixels(self, tag: int, vr: str, start: int, length: int, end: int) -> None:
        if length == UNDEFINED:
            stop = end if self._partial else self._fragments(start, end, tag)
            self.pixels = PixelData(tag, vr, start, stop - start, encapsulated=True)
        elif start + length > end:
            raise InvalidInput("The pixel data claims more bytes than there are.", field=name_of(tag))
        else:
            self.pixels = PixelData(tag, vr, start, length, encapsulated=False)

    def _fragments(self, pos: int, end: int, tag: int) -> int:
        """Where the fragments end: at their delimiter or, as some senders leave it out, at the end of the bytes."""
        while pos + 8 <= end:
            group, element, length = self._item(self.data, pos)
            mark = group << 16 | element
            if mark == _SEQUENCE_END:
                return pos
            if mark != _ITEM or length == UNDEFINED or pos + 8 + length > end:
                raise InvalidInput("A fragment of the pixel data is cut or malformed.", field=name_of(tag))
            pos += 8 + length
        if pos != end:
            raise InvalidInput("A fragment of the pixel data is cut or malformed.", field=name_of(tag))
        return pos


def _sorted(attributes: Attributes, in_order: bool) -> Attributes:
    """Attributes ascend in the model (PS3.18 F.2.2), whatever the sender did."""
    return attributes if in_order else dict(sorted(attributes.items()))
