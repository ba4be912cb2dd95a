"""Documents inside instances (PS3.3 A.45, A.85): where the document lies in the data set, and what it is."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass

from hilum.archive.metadata import integer
from hilum.archive.walk import Attributes
from hilum.core.errors import NotFound

# By SOP class and never by what the instance claims of itself: a browser acts on the type.
MEDIA_TYPES: dict[str, str] = {
    "1.2.840.10008.5.1.4.1.1.104.1": "application/pdf",
    "1.2.840.10008.5.1.4.1.1.104.2": "text/xml",  # CDA, HL7 v3
    "1.2.840.10008.5.1.4.1.1.104.3": "model/stl",
    "1.2.840.10008.5.1.4.1.1.104.4": "model/obj",
    "1.2.840.10008.5.1.4.1.1.104.5": "model/mtl",
}


@dataclass(frozen=True, slots=True)
class Document:
    """A document: its bytes where they stand in the header itself, else their place in the data set."""

    length: int
    offset: int = 0
    inline: bytes | None = None


def document_of(attributes: Attributes) -> Document:
    """The Encapsulated Document (0042,0011) of a header, without its padding. Raises NotFound."""
    entry = attributes.get("00420011", {})
    if "InlineBinary" in entry:
        data = b64decode(entry["InlineBinary"])
        return Document(_true_length(attributes, len(data)), inline=data)
    if "BulkDataURI" in entry:
        _, offset, length = entry["BulkDataURI"].split("/")
        return Document(_true_length(attributes, int(length)), int(offset))
    raise NotFound("The instance holds no document.")


def _true_length(attributes: Attributes, length: int) -> int:
    """A value of odd length was padded; (0042,0015) says so."""
    stated = integer(attributes, "00420015")
    return stated if stated is not None and stated == length - 1 else length
