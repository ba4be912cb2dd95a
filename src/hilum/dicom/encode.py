"""Data sets of ours as bytes: values by DICOM keyword in, little endian with or without VR out (PS3.5 7).

For answers to queries, whose values are texts and sequences. A value is a text, a number, a list of either, or a list
of values by keyword for a sequence; "" and [] are zero length.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from pydicom.datadict import keyword_for_tag, tag_for_keyword

from hilum.archive.dictionary import VR_OF_TAG
from hilum.archive.walk import Attributes
from hilum.dicom.character_sets import encode_text
from hilum.dicom.upper_layer.syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

Values = Mapping[str, Any]

_LONG = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
# PS3.5 6.1.2.3: the representations that Specific Character Set applies to; the others are of the default repertoire.
_OF_CHARSET = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_ONE_TEXT = frozenset({"LT", "ST", "UT", "UR"})
_NUMBER = {"US": "<H", "UL": "<I", "SS": "<h", "SL": "<i", "FL": "<f", "FD": "<d"}
_ANSWERED = frozenset("AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split()) | frozenset(_NUMBER)
_ELEMENT_LONGEST = 0xFFFE


@lru_cache(maxsize=1024)
def tag_and_vr(keyword: str) -> tuple[int, str]:
    """Return the tag of a keyword and its value representation."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"{keyword} is no keyword of DICOM")
    return int(tag), VR_OF_TAG[int(tag)]


def encode(values: Values, transfer_syntax_uid: str, charset: str) -> bytes:
    """Return the data set of `values`, which say Specific Character Set themselves where they need one."""
    if transfer_syntax_uid not in (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN):
        raise ValueError("answers are encoded in little endian only")
    return _data_set(values, transfer_syntax_uid == EXPLICIT_VR_LITTLE_ENDIAN, charset)


def texts_of(values: Values) -> Iterator[str]:
    """Return every text of a data set that depends on the character set."""
    for value in values.values():
        for each in value if isinstance(value, list | tuple) else (value,):
            if isinstance(each, str):
                if not each.isascii():
                    yield each
            elif isinstance(each, Mapping):
                yield from texts_of(each)


def values_of(attributes: Attributes, keywords: Iterable[str]) -> dict[str, Any]:
    """Return those attributes of a DICOM JSON model that are asked for and can be answered, by keyword.

    Bulk data, binary values and representations that the dictionary leaves open are no answers to a query.
    """
    found: dict[str, Any] = {}
    for keyword in keywords:
        tag, vr = tag_and_vr(keyword)
        entry = attributes.get(f"{tag:08X}", {})
        if vr == "SQ":
            found[keyword] = [_item(item) for item in entry.get("Value", []) if isinstance(item, dict)]
        elif vr in _ANSWERED:
            found[keyword] = [_plain(value) for value in entry.get("Value", [])]
    return found


def _item(attributes: Attributes) -> dict[str, Any]:
    return values_of(attributes, filter(None, (keyword_for_tag(int(key, 16)) for key in attributes)))


def _plain(value: Any) -> Any:
    """A value of the JSON model as it stands in an element; names get their component groups back."""
    if isinstance(value, dict):
        groups = [str(value.get(group, "")) for group in ("Alphabetic", "Ideographic", "Phonetic")]
        return "=".join(groups).rstrip("=")
    return "" if value is None else value


def _data_set(values: Values, explicit: bool, charset: str) -> bytes:
    elements = sorted(((*tag_and_vr(keyword), value) for keyword, value in values.items()), key=lambda each: each[0])
    return b"".join(_element(tag, vr, value, explicit, charset) for tag, vr, value in elements)


def _element(tag: int, vr: str, value: Any, explicit: bool, charset: str) -> bytes:
    raw = _sequence(value, explicit, charset) if vr == "SQ" else _value(vr, value, charset)
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if not explicit:
        return head + struct.pack("<I", len(raw)) + raw
    if vr in _LONG:
        return head + struct.pack("<2sHI", vr.encode(), 0, len(raw)) + raw
    if len(raw) > _ELEMENT_LONGEST:
        raise ValueError("a value does not fit its element")
    return head + struct.pack("<2sH", vr.encode(), len(raw)) + raw


def _sequence(items: Any, explicit: bool, charset: str) -> bytes:
    encoded = (_data_set(item, explicit, charset) for item in items or ())
    return b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(raw)) + raw for raw in encoded)


def _value(vr: str, value: Any, charset: str) -> bytes:
    parts = [each for each in (value if isinstance(value, list | tuple) else (value,)) if each is not None]
    if vr in _NUMBER:
        return b"".join(struct.pack(_NUMBER[vr], each) for each in parts if isinstance(each, int | float))
    text = "\\".join(_clean(str(each), vr) for each in parts)
    raw = encode_text(text, charset if vr in _OF_CHARSET else "")
    return raw + (b"\0" if vr == "UI" else b" ") if len(raw) % 2 else raw


def _clean(text: str, vr: str) -> str:
    """A value without what would break its element: delimiters of values and control characters."""
    if text.isprintable() and "\\" not in text:
        return text
    if vr in _ONE_TEXT:
        return "".join(c for c in text if c.isprintable() or c in "\r\n\t\f")
    return "".join(c if c.isprintable() else " " for c in text.replace("\\", "/"))
