"""Identifiers made here: time-ordered row identifiers and DICOM UIDs.

Row identifiers are made by the client (ULID: 48 bits of milliseconds, 80 random bits, Crockford base 32), so a
verb can be retried and rows of one time lie together in an index. UIDs follow PS3.5 B.2 (`2.25.` + a UUID).
"""

from __future__ import annotations

import secrets
import threading
import time
import uuid
from datetime import UTC, datetime

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]


_lock = threading.Lock()
_latest = 0


def new_id() -> str:
    """Return a fresh 26-character identifier that sorts by the time it was made.

    One made later in this process always sorts later, also within a millisecond or when the clock steps back: what one
    verb writes (steps of an order, events, identifiers) keeps its order.
    """
    global _latest
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    with _lock:
        if value <= _latest:
            value = _latest + 1 + secrets.randbits(48)
        _latest = value
    return (
        _ALPHABET[value >> 125 & 31]
        + _ALPHABET[value >> 120 & 31]
        + "".join(_PAIRS[value >> shift & 1023] for shift in range(110, -1, -10))
    )


def made_at(identifier: str) -> datetime:
    """Return when an identifier of `new_id` was made, to the millisecond, in UTC."""
    milliseconds = 0
    for letter in identifier[:10]:
        milliseconds = milliseconds << 5 | _ALPHABET.index(letter)
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def new_uid() -> str:
    """Return a fresh DICOM UID of at most 44 characters (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid4().int}"


def is_uid(text: str) -> bool:
    """Tell whether `text` can be a UID (PS3.5 9.1): 1–64 characters, digits and dots only.

    Leading zeros in a component are tolerated since scanners send them.
    """
    return 0 < len(text) <= 64 and all(part.isascii() and part.isdigit() for part in text.split("."))
