"""Text to bytes in the Specific Character Set that a peer wants (PS3.5 6.1.2.5, PS3.3 C.12.1.1.2).

Which set an answer is in: the one configured for the peer; else the request's own, where it can hold what is to be
said; else UTF-8. Only with a configured set can a letter be missing: it then loses its accent, or becomes "?".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from pydicom.charset import convert_encodings, encode_string, python_encoding

UTF8 = "ISO_IR 192"
_PLAIN = frozenset({"", "ISO_IR 6", "ISO 2022 IR 6"})
# PS3.5 6.1.2.5.3: code extensions are off again before each of these.
_DELIMITERS = re.compile(r"([\\^=\r\n\t\f])")


@lru_cache(maxsize=64)
def _codecs(charset: str) -> tuple[str, ...]:
    """The Python codecs of a Specific Character Set; none for one that is not known."""
    terms = [term.strip() for term in charset.split("\\")]
    if any(term and term not in python_encoding for term in terms):
        return ()
    if len(terms) == 1:
        return ("ascii",) if terms[0] in _PLAIN else (python_encoding[terms[0]],)
    terms[0] = terms[0] or "ISO 2022 IR 6"
    return tuple(convert_encodings([*terms]))


def can_encode(text: str, charset: str) -> bool:
    """Tell whether every letter of a text exists in a character set."""
    return bool(_codecs(charset)) and (text.isascii() or all(_holds(letter, charset) for letter in set(text)))


def encode_text(text: str, charset: str) -> bytes:
    """Return a value in a character set; letters it lacks lose their accents or become "?"."""
    if text.isascii():
        return text.encode("ascii")
    codecs = _codecs(charset) or ("utf_8",)
    if not can_encode(text, charset) and codecs != ("utf_8",):
        text = "".join(_nearest(letter, charset) for letter in text)
    if len(codecs) == 1:
        return text.encode(codecs[0], "replace")
    return b"".join(encode_string(part, list(codecs)) for part in _DELIMITERS.split(text) if part)


def answer_charset(configured: str | None, requested: str, texts: Iterable[str]) -> str:
    """Return the Specific Character Set of an answer that holds `texts`."""
    if configured is not None:
        return configured
    if requested and requested not in _PLAIN and all(can_encode(text, requested) for text in texts):
        return requested
    return UTF8


@lru_cache(maxsize=4096)
def _holds(letter: str, charset: str) -> bool:
    return any(_encodes(letter, codec) for codec in _codecs(charset))


def _encodes(letter: str, codec: str) -> bool:
    try:
        letter.encode(codec)
    except UnicodeEncodeError:
        return False
    return True


def _nearest(letter: str, charset: str) -> str:
    if _holds(letter, charset):
        return letter
    bare = "".join(c for c in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(c))
    return bare if bare and all(_holds(c, charset) for c in bare) else "?"
