"""What one client may take of a process: so many requests a second, and so much time for a request's body.

Counted are addresses before anyone is asked who they are, and accounts after; each has a bucket that holds ten seconds'
worth, so that a page that loads many things at once is not slowed.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.types import Message, Receive

from hilum.core.errors import HilumError

BURST_SECONDS = 10
REMEMBERED = 20_000
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
    """Token buckets by address or account; for one event loop."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        # What is left, and when that was.
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def take(self, kind: str, who: str, per_second: int) -> None:
        """Take one request from a bucket; 0 a second is no limit. Raises TooManyRequests."""
        if not per_second:
            return
        now, most = self._monotonic(), float(per_second * BURST_SECONDS)
        left, since = self._buckets.get((kind, who), (most, now))
        left = min(most, left + (now - since) * per_second)
        allowed = left >= 1
        self._buckets[kind, who] = (left - 1 if allowed else left, now)
        self._buckets.move_to_end((kind, who))
        while len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        if not allowed:
            raise TooManyRequests(max(1, math.ceil((1 - left) / per_second)))


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
