"""Character sets of HL7 v2 messages (MSH-18, table 0211): which codec reads a message, and how that was decided.

Further repetitions of MSH-18 are sets that the message goes over to by the escape sequences of ISO 2022 (`iso2022`).

A message is never refused for its character set: one that is unknown, absent or plainly wrong is read as UTF-8 and,
where it is not valid UTF-8, as ISO 8859-1, and the reading says so. Writing is strict: a character that the named set
lacks is refused, unless the caller names a substitute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hilum.core.errors import InvalidInput, Unsupported
from hilum.hl7.iso2022 import follows, switches, switching

# HL7 table 0211 (v2.5.1 ch. 2.15.9.18). UTF-16 and UTF-32 are left out: with them the separators are not single bytes.
# CNS 11643-1992 is, too: no codec of Python reads it, and its users send Big-5 or UTF-8.
CODECS: Final = {
    "ASCII": "ascii",
    "8859/1": "iso8859-1",
    "8859/2": "iso8859-2",
    "8859/3": "iso8859-3",
    "8859/4": "iso8859-4",
    "8859/5": "iso8859-5",
    "8859/6": "iso8859-6",
    "8859/7": "iso8859-7",
    "8859/8": "iso8859-8",
    "8859/9": "iso8859-9",
    "8859/15": "iso8859-15",
    "UNICODE UTF-8": "utf-8",
    "UNICODE": "utf-8",
    "ISO IR6": "ascii",
    "ISO IR14": "iso2022_jp",
    "ISO IR87": "iso2022_jp",
    "ISO IR159": "iso2022_jp_1",
    "JIS X 0202": "iso2022_jp",
    "JAS2020": "iso2022_jp",
    "GB 18030-2000": "gb18030",
    "KS X 1001": "euc_kr",
    "BIG-5": "big5",
}

# Names that systems in use send instead of those of the table.
_NAMES_IN_THE_WILD: Final = {
    "US-ASCII": "ASCII",
    "UTF-8": "UNICODE UTF-8",
    "UTF8": "UNICODE UTF-8",
    "UNICODE UTF8": "UNICODE UTF-8",
    "BIG5": "BIG-5",
    "GB18030": "GB 18030-2000",
    **{f"{spelling}{n}": f"8859/{n}" for n in (*range(1, 10), 15) for spelling in ("ISO-8859-", "8859-", "ISO8859/")},
    **{f"ISO8859-{n}": f"8859/{n}" for n in (*range(1, 10), 15)},
}


@dataclass(frozen=True, slots=True)
class Reading:
    """How the bytes of one message became text: what MSH-18 declared, the codec used, and why where they differ."""

    declared: str
    codec: str
    note: str = ""

    @property
    def as_declared(self) -> bool:
        """Whether the message was read in the character set that it declares, or that was agreed for its sender."""
        return not self.note


def standard_name(name: str) -> str | None:
    """The name in table 0211 of a character set, also for spellings seen in the wild; None where it is unknown."""
    upper = " ".join(name.upper().split())
    known = _NAMES_IN_THE_WILD.get(upper, upper)
    return known if known in CODECS else None


def reading_of(raw: bytes, declared: str, assumed: str = "", *, changes: bool = False) -> Reading:
    """Decides how a message is read; `assumed` is the set agreed for a sender that declares none.

    `changes` tells that the message may go over to other sets, since MSH-18 names some.
    """
    name = standard_name(declared or assumed)
    codec = CODECS[name] if name else None
    if (changes or switches(raw)) and (name or not declared):
        following = codec if codec and follows(codec) and _decodes(raw, codec) else switching(codec or "ascii")
        if _decodes(raw, following):
            return Reading(declared, following)
    if raw.isascii():
        return Reading(declared, codec if codec and codec != "ascii" else "utf-8")
    if codec and codec != "ascii" and _decodes(raw, codec):
        return Reading(declared, codec)
    why = "not declared" if not declared else "unknown" if name is None else "contradicted by the bytes"
    if codec != "utf-8" and _decodes(raw, "utf-8"):
        return Reading(declared, "utf-8", f"character set {why}: read as UTF-8")
    return Reading(declared, "iso8859-1", f"character set {why}: read as ISO 8859-1")


def _decodes(raw: bytes, codec: str) -> bool:
    try:
        raw.decode(codec)
    except UnicodeDecodeError:
        return False
    return True


def codec_for_writing(name: str) -> str:
    """The codec of a character set named by a setting; raises Unsupported where table 0211 has no such name."""
    known = standard_name(name)
    if known is None:
        raise Unsupported("This character set is not in HL7 table 0211.", field="MSH-18")
    return CODECS[known]


def encode(text: str, codec: str, *, field: str | None = None, substitute: str | None = None) -> bytes:
    """Encodes text; a character outside the set becomes `substitute`, or without one is refused naming `field`."""
    try:
        return text.encode(codec)
    except UnicodeEncodeError:
        if substitute is None:
            raise InvalidInput("A character is not in the character set of this destination.", field=field) from None
    return b"".join(_encoded_or(char, codec, substitute) for char in text)


def _encoded_or(char: str, codec: str, substitute: str) -> bytes:
    try:
        return char.encode(codec)
    except UnicodeEncodeError:
        return substitute.encode(codec)
