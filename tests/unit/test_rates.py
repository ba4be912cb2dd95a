"""Token buckets: a burst is given, a rate is kept, and nobody pays for another."""

from __future__ import annotations

import asyncio

import pytest

from hilum.serve.limits import BURST_SECONDS, REMEMBERED, ClientTooSlow, Rates, TooManyRequests, in_time


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def taken(rates: Rates, who: str, per_second: int) -> int:
    """How many requests are let through before the first that is not."""
    count = 0
    while count < 10_000:
        try:
            rates.take("address", who, per_second)
        except TooManyRequests:
            break
        count += 1
    return count


def test_ten_seconds_worth_may_come_at_once_and_then_the_rate_is_kept() -> None:
    clock = Clock()
    rates = Rates(clock)
    assert taken(rates, "a", 3) == 3 * BURST_SECONDS
    clock.now += 2
    assert taken(rates, "a", 3) == 6
    clock.now += 1_000
    assert taken(rates, "a", 3) == 3 * BURST_SECONDS


def test_nobody_pays_for_another() -> None:
    rates = Rates(Clock())
    taken(rates, "a", 1)
    assert taken(rates, "b", 1) == BURST_SECONDS
    rates.take("account", "a", 1)


def test_who_is_refused_hears_when_to_come_again_and_may_come_then() -> None:
    clock = Clock()
    rates = Rates(clock)
    taken(rates, "a", 1)
    with pytest.raises(TooManyRequests) as caught:
        rates.take("address", "a", 1)
    clock.now += caught.value.retry_after
    rates.take("address", "a", 1)


def test_zero_is_no_limit() -> None:
    assert taken(Rates(Clock()), "a", 0) == 10_000


def test_a_flood_of_addresses_fills_no_memory() -> None:
    rates = Rates(Clock())
    for number in range(REMEMBERED + 500):
        rates.take("address", str(number), 1)
    assert len(rates._buckets) == REMEMBERED


def read_all(pieces: list[tuple[float, bytes]], seconds: float) -> bytes:
    """Read a body of which each piece comes after a pause."""

    async def run() -> bytes:
        rest = list(pieces)

        async def receive() -> dict[str, object]:
            pause, body = rest.pop(0)
            await asyncio.sleep(pause)
            return {"type": "http.request", "body": body, "more_body": bool(rest)}

        timed, body = in_time(receive, seconds), b""
        while True:
            message = await timed()
            body += message["body"]
            if not message["more_body"]:
                return body

    return asyncio.run(run())


def test_a_body_in_time_is_read_and_a_silent_or_dripped_one_is_not() -> None:
    assert read_all([(0.01, b"a" * 5000)] * 5, 0.2) == b"a" * 25_000
    with pytest.raises(ClientTooSlow):
        read_all([(0, b"a"), (0.5, b"a")], 0.1)
    with pytest.raises(ClientTooSlow):
        read_all([(0.02, b"a")] * 50, 0.1)
