"""A waveform laid out on paper, in millimetres: an ECG as cardiologists read it, anything else as strips.

Voltages are drawn at 25 mm/s and 10 mm/mV on a grid of millimetres, with a calibration pulse of 1 mV. The twelve
standard leads stand in four columns of three, with lead II below as the rhythm; other channels stand one below the
other, ten seconds a line. What is not on the paper is said on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from hilum.archive.waveform import STANDARD_LEADS, Channel, Group, Values

SPEED = 25.0  # mm/s
GAIN = 10.0  # mm/mV
ROW = 27.0
MARGIN = 8.0
PULSE = 10.0  # room for the calibration pulse in front of a row
LINE_SECONDS = 10.0
MAX_ROWS = 36
COLUMNS = (("I", "II", "III"), ("aVR", "aVL", "aVF"), ("V1", "V2", "V3"), ("V4", "V5", "V6"))
_STEP = 0.1  # mm; finer than a line is wide

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Text:
    """Words at their baseline's beginning."""

    x: float
    y: float
    words: str
    size: float = 3.2


@dataclass(slots=True)
class Paper:
    """What is drawn, in millimetres from the upper left corner."""

    width: float
    height: float
    grid: tuple[float, float, float, float]  # left, top, right, bottom
    curves: list[list[Point]] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)


def lay_out(group: Group, heading: Sequence[str]) -> Paper:
    """The paper of a group; `heading` are lines about whom and when it is of."""
    leads = {channel.lead: channel for channel in group.channels if channel.lead and channel.unit == "mV"}
    twelve = all(lead in leads for lead in STANDARD_LEADS)
    rows = list(_twelve_rows(group, leads) if twelve else _strip_rows(group))
    shown = rows[:MAX_ROWS]
    top = MARGIN + 5.0 * len(heading) + 2
    seconds = max(strip.end for row in shown for strip in row)
    right = MARGIN + PULSE + SPEED * seconds
    bottom = top + ROW * len(shown)
    paper = Paper(right + MARGIN, bottom + 12, (MARGIN, top, right, bottom))
    paper.texts += [Text(MARGIN, MARGIN + 5.0 * number, line, 4.0) for number, line in enumerate(heading)]
    for number, row in enumerate(shown):
        _draw_row(paper, row, top + ROW * (number + 0.5), group.frequency)
    paper.texts.append(Text(MARGIN, bottom + 6, _foot(group, twelve, shown, len(rows))))
    return paper


@dataclass(frozen=True, slots=True)
class _Strip:
    """A piece of a channel on a row: where it begins and ends on the row, in seconds, and its values."""

    channel: Channel
    begin: float
    end: float
    values: Values
    name: str


def _cut(group: Group, channel: Channel, source: float, begin: float, seconds: float, name: str) -> _Strip:
    first, last = round(source * group.frequency), round((source + seconds) * group.frequency)
    return _Strip(channel, begin, begin + seconds, channel.values[first:last], name)


def _twelve_rows(group: Group, leads: dict[str, Channel]) -> Iterator[list[_Strip]]:
    whole = min(group.shown, LINE_SECONDS)
    quarter = whole / len(COLUMNS)
    for line in range(3):
        yield [
            _cut(group, leads[column[line]], quarter * at, quarter * at, quarter, column[line])
            for at, column in enumerate(COLUMNS)
        ]
    yield [_cut(group, leads["II"], 0, 0, whole, "II")]


def _strip_rows(group: Group) -> Iterator[list[_Strip]]:
    lines = max(1, int(np.ceil(group.shown / LINE_SECONDS - 1e-9)))
    for channel in group.channels:
        for line in range(lines):
            begin = LINE_SECONDS * line
            length = min(LINE_SECONDS, group.shown - begin)
            name = channel.name if line == 0 else f"{channel.name}, {begin:g} s"
            yield [_cut(group, channel, begin, 0, length, name)]


def _draw_row(paper: Paper, row: list[_Strip], middle: float, frequency: float) -> None:
    left = MARGIN + PULSE
    if all(strip.channel.unit == "mV" for strip in row):
        # One millivolt, 0.2 s long.
        paper.curves.append([(MARGIN + x, middle - y) for x, y in ((1, 0), (2.5, 0), (2.5, GAIN), (7.5, GAIN),
                                                                  (7.5, 0), (9, 0))])  # fmt: skip
    for strip in row:
        scale, offset, said = _scale(strip)
        heights = np.clip(middle - (strip.values - offset) * scale, 0, paper.height)
        for piece in _curves(heights, left + SPEED * strip.begin, SPEED / frequency):
            paper.curves.append(piece)
        paper.texts.append(Text(left + SPEED * strip.begin + 1, middle - ROW / 2 + 5, f"{strip.name}{said}", 3.6))


def _scale(strip: _Strip) -> tuple[float, float, str]:
    """Millimetres for a unit, what lies in the middle, and how it is said: voltages as ECGs are, others to fit."""
    if strip.channel.unit == "mV":
        return GAIN, 0.0, ""
    values = strip.channel.values[np.isfinite(strip.channel.values)]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    said = f" ({low:.4g} to {high:.4g} {strip.channel.unit})".replace(" )", ")")
    return (ROW - 6) / ((high - low) or 1.0), (low + high) / 2, said


def _curves(heights: Values, left: float, step: float) -> Iterator[list[Point]]:
    """The heights as lines from left to right, broken where there is none, no finer than paper shows."""
    per_point = max(1, int(_STEP / step))
    if per_point > 1:
        heights, step = _extremes(heights, per_point), step * per_point / 2
    run: list[Point] = []
    for index, height in enumerate(heights.tolist()):
        if height == height:
            run.append((left + index * step, height))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _extremes(heights: Values, per_point: int) -> Values:
    """The highest and the lowest of every few values in their order, so that no spike is lost."""
    whole = heights[: len(heights) - len(heights) % per_point].reshape(-1, per_point)
    low, high = whole.min(axis=1), whole.max(axis=1)
    falling = whole.argmax(axis=1) < whole.argmin(axis=1)
    pairs: Values = np.stack([np.where(falling, high, low), np.where(falling, low, high)], axis=1).reshape(-1)
    return pairs


def _foot(group: Group, twelve: bool, shown: list[list[_Strip]], rows: int) -> str:
    said = [f"{SPEED:g} mm/s"]
    if any(strip.channel.unit == "mV" for row in shown for strip in row):
        said.append(f"{GAIN:g} mm/mV")
    said.append(f"{group.frequency:g} Hz")
    if group.label:
        said.append(group.label)
    seconds = min(group.shown, LINE_SECONDS) if twelve else group.shown
    if seconds < group.seconds - 1e-9:
        said.append(f"first {seconds:g} s of {group.seconds:g} s")
    if len(shown) < rows:
        said.append(f"{rows - len(shown)} more lines are not shown")
    if twelve and len(group.channels) > len(STANDARD_LEADS):
        said.append(f"{len(group.channels) - len(STANDARD_LEADS)} further channels are not shown")
    return " · ".join(said)
