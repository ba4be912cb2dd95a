"""Text that changes its character set on the way by escape sequences of ISO 2022 (HL7 v2.5.1 ch. 2.7.2, 2.15.9.20).

Each segment begins in the set that the first repetition of MSH-18 names and may go over to the others, either by the
bytes of ISO 2022 themselves or by the escapes `\\C…\\` and `\\M…\\` that spell them. Python reads some of these
sequences, and none that designate the upper half (G1) as Korean and the 8859 sets do; here each half has its codec. It
is registered as `hl7_2022_` and the name of the first set's codec, so that whoever reads bytes need not know.
"""

from __future__ import annotations

import codecs
import re
from typing import Any, Final

PREFIX: Final = "hl7_2022_"
_ESCAPE: Final = b"\x1b"

# What follows ESC, and the codec that reads bytes below 80H then (G0); None is ASCII.
_LOWER: Final[dict[bytes, str | None]] = {
    b"(B": None,
    # JIS X 0201 has a yen sign where ASCII has the backslash, which stays the escape character of the message.
    b"(J": None,
    b"(I": "katakana",
    b"$@": "iso2022_jp",
    b"$B": "iso2022_jp",
    b"$(D": "iso2022_jp_1",
    b"$(C": "iso2022_jp_2",
    b"$A": "iso2022_jp_2",
}
# The same for bytes from 80H on (G1).
_UPPER: Final[dict[bytes, str]] = {
    b")I": "shift_jis",
    b"$)C": "euc_kr",
    b"$)A": "gb2312",
    b"-A": "iso8859-1",
    b"-B": "iso8859-2",
    b"-C": "iso8859-3",
    b"-D": "iso8859-4",
    b"-L": "iso8859-5",
    b"-G": "iso8859-6",
    b"-F": "iso8859-7",
    b"-H": "iso8859-8",
    b"-M": "iso8859-9",
    b"-b": "iso8859-15",
    b"-T": "iso8859-11",
}
_SEQUENCE: Final = re.compile(
    _ESCAPE + b"(" + b"|".join(re.escape(each) for each in sorted({**_LOWER, **_UPPER}, key=len, reverse=True)) + b")"
)
# Sets that have no halves: in them these bytes mean something else.
_WHOLE: Final = frozenset({"utf-8", "gb18030", "big5"})
_SPELLED: Final = re.compile(rb"([CM])((?:[0-9A-Fa-f]{2}){2,4})")


def switches(raw: bytes) -> bool:
    """Tell whether bytes hold a sequence that changes the character set."""
    return _ESCAPE in raw and _SEQUENCE.search(raw) is not None


def follows(codec: str) -> bool:
    """Tell whether a codec goes over to other sets."""
    return codec.startswith((PREFIX, "iso2022"))


def switching(codec: str) -> str:
    """Return the codec that begins as `codec` and follows the sequences; `codec` itself where it has no halves."""
    first = {"iso2022_jp": "ascii", "iso2022_jp_1": "ascii"}.get(codec, codec)
    return first if first in _WHOLE else PREFIX + first


def sequences(raw: bytes, escape: bytes) -> bytes:
    """Return bytes in which spelled sequences are the bytes that they spell: `\\M2442\\` is ESC $ B."""

    def bytes_of(found: re.Match[bytes]) -> bytes:
        sequence = bytes.fromhex(found[2].decode("ascii"))
        return _ESCAPE + sequence if sequence in _LOWER or sequence in _UPPER else found[0]

    mark = re.escape(escape)
    return re.sub(mark + _SPELLED.pattern + mark, bytes_of, raw) if escape else raw


def decode(raw: bytes, first: str, errors: str = "strict") -> str:
    """Return the text of bytes that begin in the codec `first`."""
    parts = _SEQUENCE.split(raw)
    lower: bytes = b"(B"
    upper = first
    text = [_decode(parts[0], lower, upper, errors)]
    for sequence, chunk in zip(parts[1::2], parts[2::2], strict=True):
        if sequence in _LOWER:
            lower = sequence
        else:
            upper = _UPPER[sequence]
        text.append(_decode(chunk, lower, upper, errors))
    return "".join(text)


def _decode(chunk: bytes, lower: bytes, upper: str, errors: str) -> str:
    codec = _LOWER[lower]
    if not chunk or codec is None:
        return chunk.decode(upper, errors)
    return "".join(
        _lower_half(run, lower, codec, errors) if run[0] < 0x80 else run.decode(upper, errors)
        for run in re.findall(rb"[\x00-\x7f]+|[\x80-\xff]+", chunk)
    )


def _lower_half(run: bytes, sequence: bytes, codec: str, errors: str) -> str:
    if codec == "katakana":
        return bytes(byte | 0x80 if 0x21 <= byte <= 0x5F else byte for byte in run).decode("shift_jis", errors)
    return (_ESCAPE + sequence + run).decode(codec, errors)


def _search(name: str) -> codecs.CodecInfo | None:
    if not name.startswith(PREFIX):
        return None
    first = name.removeprefix(PREFIX)

    def decoder(raw: Any, errors: str = "strict") -> tuple[str, int]:
        return decode(bytes(raw), first, errors), len(raw)

    def encoder(text: str, errors: str = "strict") -> tuple[bytes, int]:
        return text.encode(first, errors), len(text)

    return codecs.CodecInfo(encoder, decoder, name=name)


codecs.register(_search)
