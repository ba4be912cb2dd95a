"""Token buckets: a burst is given, a rate is kept, and nobody pays for another."""

from __future__ import annotations

import asyncio
import multiprocessing
from pathlib import Path

import pytest

from hilum.serve.limits import BURST_SECONDS, SETS, ClientTooSlow, Rates, TooManyRequests, in_time


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


def test_ten_seconds_worth_may_come_at_once_and_then_the_rate_is_kept(tmp_path: Path) -> None:
    clock = Clock()
    rates = Rates(tmp_path / "rates", clock)
    assert taken(rates, "a", 3) == 3 * BURST_SECONDS
    clock.now += 2
    assert taken(rates, "a", 3) == 6
    clock.now += 1_000
    assert taken(rates, "a", 3) == 3 * BURST_SECONDS


def test_nobody_pays_for_another(tmp_path: Path) -> None:
    rates = Rates(tmp_path / "rates", Clock())
    taken(rates, "a", 1)
    assert taken(rates, "b", 1) == BURST_SECONDS
    rates.take("account", "a", 1)


def test_who_is_refused_hears_when_to_come_again_and_may_come_then(tmp_path: Path) -> None:
    clock = Clock()
    rates = Rates(tmp_path / "rates", clock)
    taken(rates, "a", 1)
    with pytest.raises(TooManyRequests) as caught:
        rates.take("address", "a", 1)
    clock.now += caught.value.retry_after
    rates.take("address", "a", 1)


def test_zero_is_no_limit(tmp_path: Path) -> None:
    assert taken(Rates(tmp_path / "rates", Clock()), "a", 0) == 10_000


def test_a_flood_of_addresses_fills_no_memory_and_is_not_refused(tmp_path: Path) -> None:
    rates = Rates(tmp_path / "rates", Clock())
    (file,) = tmp_path.iterdir()
    before = file.stat().st_size
    for number in range(3 * SETS):
        rates.take("address", str(number), 1)
    assert file.stat().st_size == before < 1 << 20


def test_after_the_machine_began_anew_nobody_waits_for_the_old_clock(tmp_path: Path) -> None:
    clock = Clock()
    taken(Rates(tmp_path / "rates", clock), "a", 1)
    clock.now = 3.0
    assert taken(Rates(tmp_path / "rates", clock), "a", 1) == BURST_SECONDS


def take_in_a_process(path: Path, taken_by: multiprocessing.Queue[int]) -> None:
    taken_by.put(taken(Rates(path, Clock()), "a", 20))


def test_the_processes_of_a_node_give_together_what_is_set(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    taken_by: multiprocessing.Queue[int] = spawn.Queue()
    processes = [spawn.Process(target=take_in_a_process, args=(tmp_path / "rates", taken_by)) for _ in range(2)]
    for process in processes:
        process.start()
    assert sum(taken_by.get(timeout=30) for _ in processes) == 20 * BURST_SECONDS
    for process in processes:
        process.join(10)


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
