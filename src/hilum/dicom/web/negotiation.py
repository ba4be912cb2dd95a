"""What a client accepts (PS3.18 8.7): media ranges of the Accept header or of the query parameter `accept`.

`multipart/related; type="application/dicom"; transfer-syntax=*` is read quoted or not; what can't be read is skipped,
and a request that accepts nothing readable accepts anything. A wildcard gives way to what the same header names more
precisely, so that `image/png;q=0, */*` is anything but PNG (RFC 9110 12.5.1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from starlette.requests import Request

from hilum.dicom.web.problems import NotAcceptable

LONGEST = 4096
_PARAMETER = re.compile(r"""\s*;\s*([A-Za-z0-9_-]+)\s*=\s*(?:"([^"]*)"|([^;,"\s]*))""")
_RANGE = re.compile(r"\s*([A-Za-z0-9!#$&^_.+*-]+/[A-Za-z0-9!#$&^_.+*-]+)")
# PS3.18 tables 8.7.3-2 to 8.7.3-5; the first of a family is its default.
FRAME_TYPES: dict[str, str] = {
    "1.2.840.10008.1.2.5": "image/dicom-rle",
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.92": "image/jpx",
    "1.2.840.10008.1.2.4.93": "image/jpx",
    "1.2.840.10008.1.2.4.110": "image/jxl",
    "1.2.840.10008.1.2.4.111": "image/jxl",
    "1.2.840.10008.1.2.4.112": "image/jxl",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
    "1.2.840.10008.1.2.4.100": "video/mpeg",
    "1.2.840.10008.1.2.4.101": "video/mpeg",
    "1.2.840.10008.1.2.4.102": "video/mp4",
    "1.2.840.10008.1.2.4.103": "video/mp4",
    "1.2.840.10008.1.2.4.104": "video/mp4",
    "1.2.840.10008.1.2.4.105": "video/mp4",
    "1.2.840.10008.1.2.4.106": "video/mp4",
}
OCTETS = "application/octet-stream"
XML = "application/dicom+xml"


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One thing that is accepted; of a multipart its parts' type. Empty `transfer_syntax` leaves it to us."""

    media_type: str
    multipart: bool = False
    transfer_syntax: str = ""
    quality: float = 1.0
    # What a wildcard does not mean: the types that the same header names by themselves (RFC 9110 12.5.1).
    without: frozenset[str] = frozenset()

    def covers(self, media_type: str) -> bool:
        """Tell whether a media type is in the range."""
        kind, _, subtype = self.media_type.partition("/")
        if self.media_type == media_type:
            return True
        if media_type in self.without or f"{media_type.partition('/')[0]}/*" in self.without:
            return False
        return self.media_type == "*/*" or (subtype == "*" and media_type.startswith(kind + "/"))


# Every range that was named has quality 0.
NOTHING = MediaRange("")


def accepted(request: Request) -> list[MediaRange]:
    """What a request accepts, best first; the query parameter comes before the header."""
    asked = request.query_params.get("accept", "").replace(" ", "+").replace(";+", "; ").replace(",+", ", ")
    named = _read(asked) or _read(request.headers.get("accept", ""))
    return (_best_first(named) or [NOTHING]) if named else [MediaRange("*/*")]


def media_ranges(text: str) -> list[MediaRange]:
    """Read a list of media ranges, best first, without those of quality 0."""
    return _best_first(_read(text))


def _best_first(found: list[MediaRange]) -> list[MediaRange]:
    bounded = [_bounded(each, found) for each in found if each.quality > 0]
    return sorted(bounded, key=lambda each: -each.quality)


def _read(text: str) -> list[MediaRange]:
    found: list[MediaRange] = []
    position, text = 0, text[:LONGEST]
    while position < len(text):
        if match := _RANGE.match(text, position):
            position = match.end()
            parameters: dict[str, str] = {}
            while parameter := _PARAMETER.match(text, position):
                position = parameter.end()
                parameters.setdefault(parameter[1].lower(), parameter[2] if parameter[2] is not None else parameter[3])
            found.append(_media_range(match[1].lower(), parameters))
        # What is empty or can't be read is passed over (RFC 9110 5.6.1).
        position = (text.find(",", position) + 1) or len(text)
    return found


def _bounded(wide: MediaRange, among: list[MediaRange]) -> MediaRange:
    """A wildcard without what is named more precisely beside it, with another quality."""
    if not wide.media_type.endswith("/*"):
        return wide
    named = {
        each.media_type
        for each in among
        if each.multipart == wide.multipart
        and not each.transfer_syntax
        and each.quality != wide.quality
        and each.media_type != wide.media_type
        and (wide.media_type == "*/*" or not each.media_type.endswith("/*"))
    }
    return replace(wide, without=frozenset(named))


def _media_range(media_type: str, parameters: dict[str, str]) -> MediaRange:
    quality = parameters.get("q", "1")
    weight = min(1.0, float(quality)) if re.fullmatch(r"[0-9]{0,3}\.?[0-9]{1,3}", quality) else 1.0
    multipart = media_type in ("multipart/related", "multipart/*")
    if multipart:
        media_type = parameters.get("type", "*/*").lower() or "*/*"
    return MediaRange(media_type, multipart, parameters.get("transfer-syntax", ""), weight)


def model_type(ranges: list[MediaRange]) -> str:
    """The media type of data sets without their bulk data (PS3.18 8.7.3.2): JSON, or XML in a multipart.

    Raises NotAcceptable.
    """
    for wanted in ranges:
        for media_type in ("application/dicom+json", "application/json"):
            if not wanted.multipart and wanted.covers(media_type):
                return media_type
        if wanted.covers(XML) and (wanted.multipart or wanted.media_type == XML):
            return XML
    raise NotAcceptable("This resource is sent as application/dicom+json or application/dicom+xml.", field="Accept")


def takes_gzip(request: Request) -> bool:
    """Whether the client reads gzip (RFC 9110 12.5.3); one that does not say so gets plain text."""
    for coding in request.headers.get("accept-encoding", "")[:LONGEST].lower().split(","):
        name, _, weight = coding.partition(";")
        if name.strip() in ("gzip", "x-gzip", "*"):
            return not re.fullmatch(r"\s*q\s*=\s*0(?:\.0{0,3})?\s*", weight)
    return False


def prefers_xml(ranges: list[MediaRange]) -> bool:
    """Whether XML is named before anything that means JSON; who names neither is answered in JSON."""
    for wanted in ranges:
        if wanted.covers("application/dicom+json") or wanted.covers("application/json"):
            return False
        if wanted.covers(XML):
            return True
    return False
