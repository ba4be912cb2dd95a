"""HL7 v2 in XML (the HL7 v2.xml encoding syntax, ANSI/HL7 V2 XML): a message read into ER7, and its ACK written back.

What stands in groups is taken in its order, as ER7 has no groups. Refused are documents with a DTD, so that no entity
is ever expanded, and what is deeper or larger than a message can be. The document is journaled as it came.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any, Final
from xml.sax.saxutils import escape

from hilum.core.errors import HilumError, InvalidInput, TooLarge
from hilum.hl7.compose import Builder
from hilum.hl7.er7 import DEFAULT_LIMITS, Message, Repetition, Segment, Value
from hilum.hl7.escapes import NULL

NAMESPACE: Final = "urn:hl7-org:v2xml"
_DEPTH: Final = 24
_ELEMENTS: Final = 500_000
_SEGMENT: Final = re.compile(r"[A-Z][A-Z0-9]{2}")
_NUMBERED: Final = re.compile(r"[A-Z][A-Z0-9_]*\.([1-9][0-9]{0,2})")
# <escape V="…"/> stands for an escape sequence of ER7; what only formats is left out.
_ESCAPES: Final = {".br": "\n", ".sp": "\n", ".ce": "\n"}
# Data types of the fields of an ACK (v2.5.1 ch. 2.15) that have components.
_TYPES: Final = {
    "MSH": {3: "HD", 4: "HD", 5: "HD", 6: "HD", 7: "TS", 9: "MSG", 11: "PT", 12: "VID"},
    "ERR": {1: "ELD", 2: "ERL", 3: "CWE"},
}
_WITHIN: Final = {("ELD", 4): "CE"}


def is_xml(raw: bytes) -> bool:
    """Tell whether bytes are a document rather than ER7."""
    start = raw[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    return start.startswith(b"<") or raw[:4] in (b"\xff\xfe<\x00", b"\xfe\xff\x00<")


def er7_from_xml(raw: bytes) -> bytes:
    """Write a document as an ER7 message in UTF-8. Raises InvalidInput or TooLarge."""
    if len(raw) > DEFAULT_LIMITS.message_bytes:
        raise TooLarge(f"The message is larger than {DEFAULT_LIMITS.message_bytes} bytes.")
    parser = ET.XMLParser(target=_Tree())  # noqa: S314 - as above
    try:
        parser.feed(raw)
        root: ET.Element = parser.close()
    except (ET.ParseError, ValueError, LookupError) as error:
        raise InvalidInput("The message is not well-formed XML.") from error
    segments = list(_segments(root))
    if not segments or _name(segments[0]) != "MSH":
        raise InvalidInput("The message does not start with MSH.", field="MSH")
    builder = Builder("UNICODE UTF-8")
    for segment in segments:
        name = _name(segment)
        fields = _fields(segment)
        if name == "MSH":
            fields = {number: value for number, value in fields.items() if number > 2 and number != 18}
        try:
            builder.add(name, fields)
        except ValueError:
            raise InvalidInput("A second message begins inside this one.", field="MSH[2]") from None
    return bytes(builder)


class _Tree(ET.TreeBuilder):
    """Builds the tree within bounds, and refuses a DTD before anything in it counts."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = self._count = 0

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise InvalidInput("A message has no DTD.")

    def start(self, tag: Any, attrs: Any) -> ET.Element:
        self._depth, self._count = self._depth + 1, self._count + 1
        if self._depth > _DEPTH or self._count > _ELEMENTS:
            raise TooLarge("The message has more elements, or deeper ones, than are read.")
        return super().start(tag, attrs)

    def end(self, tag: Any) -> ET.Element:
        self._depth -= 1
        return super().end(tag)


def _name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _segments(element: ET.Element) -> list[ET.Element]:
    """The segments below an element, through groups such as ORM_O01.PATIENT."""
    found: list[ET.Element] = []
    for child in element:
        found += [child] if _SEGMENT.fullmatch(_name(child)) else _segments(child)
    return found


def _fields(segment: ET.Element) -> dict[int, Value]:
    fields: dict[int, list[Value]] = {}
    for field in segment:
        fields.setdefault(_number(field), []).append(_value(field, 2))
    if max(fields, default=0) > DEFAULT_LIMITS.fields:
        raise TooLarge(f"{_name(segment)} has more than {DEFAULT_LIMITS.fields} fields.", field=_name(segment))
    return {number: values if len(values) > 1 else values[0] for number, values in fields.items()}


def _value(element: ET.Element, levels: int) -> Value:
    """A field or a component: its text, or its parts by their numbers."""
    parts = [child for child in element if _name(child) != "escape"]
    if not parts or not levels:
        text = _text(element)
        return NULL if text == NULL else text
    numbered = {_number(part): _value(part, levels - 1) for part in parts}
    values = tuple(numbered.get(number) for number in range(1, max(numbered) + 1))
    return values[0] if len(values) == 1 else values


def _number(element: ET.Element) -> int:
    found = _NUMBERED.fullmatch(_name(element))
    if found is None:
        raise InvalidInput("An element of the message is neither a field nor a component.")
    return int(found[1])


def _text(element: ET.Element) -> str:
    """Text with the escapes in it; line breaks that only lay out the document are no text."""
    pieces = [element.text or ""]
    for child in element:
        code = child.get("V", "") if _name(child) == "escape" else ""
        pieces += [_ESCAPES.get(code[:3].lower(), ""), child.tail or ""]
    text = "".join(pieces)
    return "" if text.isspace() else text.strip("\r\n\t")


def xml_from_ack(answer: bytes) -> bytes:
    """Write an ACK as a document; what is no ACK of ours stays as it is."""
    try:
        message = Message(answer)
    except HilumError:
        return answer
    body = "".join(_element_of(segment) for segment in message)
    return f'<?xml version="1.0" encoding="UTF-8"?><ACK xmlns="{NAMESPACE}">{body}</ACK>'.encode()


def _element_of(segment: Segment) -> str:
    types = _TYPES.get(segment.name, {})
    fields = []
    for number in range(1, len(segment) + 1):
        name = f"{segment.name}.{number}"
        if segment.name == "MSH" and number <= 2:
            fields.append(_tagged(name, escape(segment.field(number))))
        elif segment.name != "MSH" or number != 18:
            fields += [_tagged(name, _parts(each, types.get(number))) for each in segment.repetitions(number)]
    return _tagged(segment.name, "".join(fields))


def _parts(repetition: Repetition, data_type: str | None) -> str:
    value = repetition.value
    if data_type is None:
        return escape(repetition.text)
    components = value if isinstance(value, tuple) else (value,)
    written = []
    for number, component in enumerate(components, 1):
        within = _WITHIN.get((data_type, number))
        inner = component if isinstance(component, tuple) else (component,)
        if within:
            text = "".join(
                _tagged(f"{within}.{place}", escape(str(each))) for place, each in enumerate(inner, 1) if each
            )
        else:
            text = escape("&".join(str(each) for each in inner))
        written.append(_tagged(f"{data_type}.{number}", text))
    return "".join(written)


def _tagged(name: str, inner: str) -> str:
    return f"<{name}>{inner}</{name}>" if inner else ""
