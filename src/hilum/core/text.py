"""Folding of names and texts, so that a search finds what a person means."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

# Letters that Unicode does not take apart into a base letter and an accent.
_UNDECOMPOSED = str.maketrans({"ß": "ss", "ø": "o", "đ": "d", "ł": "l", "æ": "ae", "œ": "oe", "ı": "i", "þ": "th"})


@lru_cache(maxsize=8192)
def fold(text: str) -> str:
    """Return `text` without case and accents, NFKD-normalised, white space collapsed."""
    if text.isascii():
        return " ".join(text.lower().split())
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(c for c in decomposed if not unicodedata.combining(c)).translate(_UNDECOMPOSED)
    return " ".join(bare.split())


def like_pattern(pattern: str) -> str:
    r"""Turn DICOM wildcards (`*`, `?`; PS3.4 C.2.2.2.4) into a folded SQL LIKE pattern escaped by `\`."""
    escaped = fold(pattern).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%").replace("?", "_")
