"""The Native DICOM Model: data sets of the DICOM JSON model written as XML (PS3.19 A.1, PS3.18 8.7.3.2).

What XML can't hold (control characters) is replaced, never passed on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from pydicom.datadict import keyword_for_tag

from hilum.dicom.overlay import Attributes

NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
# XML 1.0, Char: what is none of these has no place in a document.
_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
# PS3.5 6.2.1.1, in the order of the components of a name.
_COMPONENTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")


def native_xml(attributes: Attributes) -> bytes:
    """A data set as an XML document."""
    inner = "".join(_elements(attributes))
    head = f'<?xml version="1.0" encoding="UTF-8"?>\n<NativeDicomModel xmlns="{NAMESPACE}" xml:space="preserve">'
    return f"{head}{inner}</NativeDicomModel>\n".encode()


def _elements(attributes: Attributes) -> Iterator[str]:
    for tag, entry in sorted(attributes.items()):
        vr = str(entry.get("vr", "UN"))
        keyword = keyword_for_tag(int(tag, 16))
        named = f" keyword={quoteattr(keyword)}" if keyword else ""
        yield f'<DicomAttribute tag="{tag}" vr={quoteattr(vr)}{named}{_creator(attributes, tag)}>'
        yield from _content(vr, entry)
        yield "</DicomAttribute>"


def _creator(attributes: Attributes, tag: str) -> str:
    """The private creator that has reserved the block of a private element (PS3.5 7.8.1)."""
    if not int(tag[3], 16) % 2 or tag[4:6] == "00":
        return ""
    values = attributes.get(f"{tag[:4]}00{tag[4:6]}", {}).get("Value", [])
    return f" privateCreator={quoteattr(_legal(str(values[0])))}" if values else ""


def _content(vr: str, entry: dict[str, Any]) -> Iterator[str]:
    if "BulkDataURI" in entry:
        yield f"<BulkData uri={quoteattr(str(entry['BulkDataURI']))}/>"
    elif "InlineBinary" in entry:
        yield f"<InlineBinary>{escape(str(entry['InlineBinary']))}</InlineBinary>"
    for number, value in enumerate(entry.get("Value", []), 1):
        if vr == "SQ":
            inner = "".join(_elements(value)) if isinstance(value, dict) else ""
            yield f'<Item number="{number}">{inner}</Item>'
        elif isinstance(value, dict):
            yield f'<PersonName number="{number}">{"".join(_name(value))}</PersonName>'
        elif value is not None:
            yield f'<Value number="{number}">{escape(_legal(str(value)))}</Value>'


def _name(value: dict[str, Any]) -> Iterator[str]:
    for group in _GROUPS:
        written = value.get(group)
        if not isinstance(written, str) or not written:
            continue
        parts = zip(_COMPONENTS, written.split("^"), strict=False)
        inner = "".join(f"<{name}>{escape(_legal(part))}</{name}>" for name, part in parts if part)
        yield f"<{group}>{inner}</{group}>"


def _legal(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", text)
