"""The chain laid out along a line: where each link sits, what stands between two of them, and in which words.

Positions are percentages of the drawing's width, so the line stretches with the page and its letters do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from hilum.web.models import Chain, ChainLink
from hilum.web.times import duration_text

WIDTH = 100.0
CHARACTERS_A_LINE = 19
AT_ONCE_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Station:
    link: ChainLink
    x: str
    words: tuple[str, ...]
    via: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stretch:
    """The line between two neighbours. `early` says that the later link came before the earlier one."""

    x1: str
    x2: str
    middle: str
    state: Literal["done", "waiting", "pending", "missing"]
    text: str = ""
    early: bool = False


@dataclass(frozen=True, slots=True)
class Drawing:
    stations: tuple[Station, ...]
    stretches: tuple[Stretch, ...]


def draw(chain: Chain, now: datetime) -> Drawing:
    step = WIDTH / max(len(chain.links), 1)
    places = [step * (index + 0.5) for index in range(len(chain.links))]
    stations = tuple(
        Station(link, _percent(x), _wrapped(link.missing), _lines(link.via))
        for link, x in zip(chain.links, places, strict=True)
    )
    stretches = tuple(
        _stretch(chain.links, index, places[index - 1], places[index], now) for index in range(1, len(chain.links))
    )
    return Drawing(stations, stretches)


def _stretch(links: Sequence[ChainLink], index: int, start: float, end: float, now: datetime) -> Stretch:
    before, after = links[index - 1], links[index]
    line = _percent(start), _percent(end), _percent((start + end) / 2)
    if before.at and after.at:
        return _timed(line, before.at, after.at)
    if after.state == "missing":
        return Stretch(*line, "missing")
    if before.at and after.state == "pending" and not any(link.at for link in links[index:]):
        return Stretch(*line, "waiting", f"waiting {duration_text(now - before.at)}")
    if after.at:
        return _across_gap(links, index, line, after.at)
    return Stretch(*line, "pending")


def _across_gap(links: Sequence[ChainLink], index: int, line: tuple[str, str, str], at: datetime) -> Stretch:
    """After a link without a time, count from the last one that has a time."""
    timed = next((link.at for link in reversed(links[:index]) if link.at), None)
    return _timed(line, timed, at) if timed else Stretch(*line, "done")


def _timed(line: tuple[str, str, str], before: datetime, after: datetime) -> Stretch:
    if abs((after - before).total_seconds()) < AT_ONCE_SECONDS:
        return Stretch(*line, "done", "at once")
    early = after < before
    return Stretch(*line, "done", ("−" if early else "+") + duration_text(after - before), early)


def _percent(value: float) -> str:
    return f"{value:.2f}%"


def _lines(via: str) -> tuple[str, ...]:
    """Standard and peer below each other, cut to the room between two neighbours."""
    parts = via.split(" · ")[:2]
    return tuple(part if len(part) <= CHARACTERS_A_LINE else f"{part[: CHARACTERS_A_LINE - 1]}…" for part in parts)


def _wrapped(words: str) -> tuple[str, ...]:
    """At most two lines; the table below the drawing has the whole sentence."""
    lines: list[str] = []
    for word in words.split():
        if lines and len(lines[-1]) + 1 + len(word) <= CHARACTERS_A_LINE:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    if len(lines) > 2:
        lines = [lines[0], lines[1][: CHARACTERS_A_LINE - 1].rstrip() + "…"]
    return tuple(lines)
