"""Rendered images that were asked for lately, by all that they depend on: the frame's bytes, its header, the wishes.

A key is a digest of content, so nothing here can be out of date, and whether an image may be seen is decided before.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b

MOST_BYTES = 32 << 20
LARGEST = 1 << 20


def key_of(messages: Sequence[bytes]) -> bytes:
    """The key of a job, given as the messages it is sent in."""
    digest = blake2b(digest_size=20)
    for message in messages:
        digest.update(len(message).to_bytes(8, "big"))
        digest.update(message)
    return digest.digest()


class RenderedCache:
    """Keeps the images used last, up to a number of bytes; for many threads."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._size = 0

    def get(self, key: bytes) -> bytes | None:
        """The image of a key, None where it is not kept."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, key: bytes, image: bytes) -> None:
        """Keep an image; those not used for longest go. Large ones are not kept."""
        if len(image) > min(LARGEST, self._most):
            return
        with self._lock:
            self._size += len(image) - len(self._kept.pop(key, b""))
            self._kept[key] = image
            while self._size > self._most:
                _, gone = self._kept.popitem(last=False)
                self._size -= len(gone)
