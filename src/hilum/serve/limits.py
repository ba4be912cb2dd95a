"""What one client may take of a node: so many requests a second, and so much time for a request's body.

Counted are addresses before anyone is asked who they are, and accounts after; each has a bucket that holds ten seconds'
worth, so that a page that loads many things at once is not slowed. The buckets of all processes are one.
"""

from __future__ import annotations

import asyncio
import math
import struct
import time
from collections.abc import Callable
from pathlib import Path

from starlette.types import Message, Receive

from hilum.core.errors import HilumError
from hilum.security.shared_table import DIGEST, SharedTable

BURST_SECONDS = 10
# 32,768 buckets; where more ask at once, those that asked longest ago are forgotten.
SETS = 4096
# What is left, and when that was, on the clock that all processes share.
_BUCKET = struct.Struct("=dd")
# Bytes in a second of waiting for a body, once the time-out of silence has passed in all.
MINIMUM_RATE = 1024


class TooManyRequests(HilumError):
    """There were too many requests; wait before the next."""

    code = "too-many-requests"
    retryable = True

    def __init__(self, retry_after: int) -> None:
        super().__init__()
        self.retry_after = retry_after


class ClientTooSlow(HilumError):
    """The body of the request did not come in time."""

    code = "client-too-slow"
    retryable = True


class Rates:
    """Token buckets by address or account, of all processes that are given the same file."""

    def __init__(self, path: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._table = SharedTable(path, SETS, DIGEST + _BUCKET.size)

    def take(self, kind: str, who: str, per_second: int) -> None:
        """Take one request from a bucket; 0 a second is no limit. Raises TooManyRequests."""
        if not per_second:
            return
        digest, most = self._table.digest(f"{kind} {who}"), float(per_second * BURST_SECONDS)
        with self._table.locked():
            now = self._monotonic()
            at = self._table.find(digest)
            left = most if at is None else self._left(at, now, most, per_second)
            allowed = left >= 1
            self._keep(self._oldest(digest) if at is None else at, digest, left - 1 if allowed else left, now)
        if not allowed:
            raise TooManyRequests(max(1, math.ceil((1 - left) / per_second)))

    def close(self) -> None:
        """Let go of the buckets."""
        self._table.close()

    def _left(self, at: int, now: float, most: float, per_second: int) -> float:
        left, since = _BUCKET.unpack_from(self._table.map, at + DIGEST)
        # The clock begins anew with the machine, and the file may be older.
        return float(min(most, left + (now - since) * per_second)) if now - since >= 0 else most

    def _oldest(self, digest: bytes) -> int:
        return min(self._table.places(digest), key=lambda at: _BUCKET.unpack_from(self._table.map, at + DIGEST)[1])

    def _keep(self, at: int, digest: bytes, left: float, now: float) -> None:
        self._table.map[at : at + DIGEST] = digest
        _BUCKET.pack_into(self._table.map, at + DIGEST, left, now)


def in_time(receive: Receive, seconds: float) -> Receive:
    """Wait for a body at most `seconds` in one piece, and in all not longer than its size is worth."""
    ended, waited, taken = False, 0.0, 0

    async def timed() -> Message:
        nonlocal ended, waited, taken
        if ended:
            # What comes now is that the client has gone, and may take as long as it likes.
            return await receive()
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                message = await receive()
        except TimeoutError:
            raise ClientTooSlow from None
        waited += time.monotonic() - began
        taken += len(message.get("body", b""))
        ended = not message.get("more_body", False)
        if not ended and waited > seconds and taken < waited * MINIMUM_RATE:
            raise ClientTooSlow
        return message

    return timed
