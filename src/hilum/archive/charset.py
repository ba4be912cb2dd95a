"""Text of DICOM in any character set of PS3.3 C.12.1.1.2 to Unicode.

Never fails and never warns: what a wrong label makes undecodable becomes U+FFFD, and the bytes themselves are kept in
the archive as they came.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from pydicom.charset import CODES_TO_ENCODINGS, python_encoding

ESCAPE = 0x1B
# PS3.5 6.1.2.5.3: before these the initial character set is in force again.
_RESETS = re.compile(rb"[\\^=\r\n\t\f]")
_FRAGMENTS = re.compile(rb"\x1b[^\x1b]*|[^\x1b]+")
# Python reads these escape sequences itself; all others are taken off first.
_READS_ESCAPES = frozenset({"iso2022_jp", "iso2022_jp_2"})
_TERM = re.compile(r"(ISO)[ _-]*(2022)?[ _-]*IR[ _-]*(\d+)\Z")
_ALONE = frozenset({"utf8", "gb18030", "gbk"})
_MORE = {"ISO_IR 203": "iso8859_15", "ISO 2022 IR 203": "iso8859_15", "UTF-8": "utf8", "UTF8": "utf8"}
_ENCODING = {**{term: name.lower() for term, name in python_encoding.items()}, **_MORE, "ISO 2022 IR 58": "gb2312"}
_ENCODING_OF_ESCAPE = {**CODES_TO_ENCODINGS, b"\x1b$)A": "gb2312", b"\x1b-b": "iso8859_15"}
DEFAULT = ("latin_1",)  # of ISO IR 6, so that unlabelled Western text stays readable
PLAIN = frozenset({"", "ISO_IR 6", "ISO 2022 IR 6"})


@lru_cache(maxsize=256)
def encodings_of(specific_character_set: str) -> tuple[str, ...]:
    """The Python codecs that (0008,0005) names, first the initial one; misspellings that occur are understood."""
    found = []
    for term in specific_character_set.split("\\"):
        spelled = term.strip().upper()
        if match := _TERM.match(spelled):
            spelled = f"ISO 2022 IR {match.group(3)}" if match.group(2) else f"ISO_IR {match.group(3)}"
        found.append(_ENCODING.get(spelled, DEFAULT[0]))
    first = found[0]
    if first in _ALONE:
        return (first,)
    return (first, *(each for each in found[1:] if each not in _ALONE))


def decode(value: bytes, encodings: Sequence[str]) -> str:
    """The text of a value, with delimiters and padding as they are."""
    if ESCAPE not in value or encodings[0] in _ALONE:
        return value.decode(encodings[0], "replace")
    return "".join(_decode_fragment(fragment, encodings[0]) for fragment in _FRAGMENTS.findall(value))


def _decode_fragment(fragment: bytes, initial: str) -> str:
    """A stretch of text in one character set, led by its escape sequence unless that is the initial one."""
    code = next((code for code in _ENCODING_OF_ESCAPE if fragment.startswith(code)), None)
    if code is None:
        return fragment.decode(initial, "replace")
    encoding = _ENCODING_OF_ESCAPE[code]
    if encoding in _READS_ESCAPES:
        return fragment.decode(encoding, "replace")
    text = fragment[len(code) :]
    if reset := _RESETS.search(text):
        here, after = text[: reset.start()], text[reset.start() :]
        return here.decode(encoding, "replace") + after.decode(initial, "replace")
    return text.decode(encoding, "replace")
