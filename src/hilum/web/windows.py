"""From the header of an image to how it is looked at: its own window, presets, and the patient's directions.

The window said here must be the one the server renders with when none is asked for, else the numbers on screen lie;
where it is not known from the header (a VOI LUT, a sigmoid, none at all) none is said. Sources: PS3.3 C.11.2, C.7.6.2,
C.7.6.16, C.7.6.1.1.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hilum.web.models import Edges, Window

Header = Mapping[str, Any]

CT_PRESETS = (
    Window("Soft tissue", 40, 400),
    Window("Lung", -600, 1500),
    Window("Bone", 500, 2000),
    Window("Brain", 40, 80),
    Window("Mediastinum", 50, 350),
    Window("Liver", 60, 160),
)
_OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "H": "F", "F": "H"}
_LEAST_COSINE = 0.25


def is_colour(header: Header) -> bool:
    """Whether windowing means nothing."""
    return _number(header, "00280002") == 3 or _text(header, "00280004") == "PALETTE COLOR"


def is_negative(header: Header) -> bool:
    """Whether the lowest value is shown white (MONOCHROME1)."""
    return _text(header, "00280004") == "MONOCHROME1"


def own_window(header: Header) -> Window | None:
    """The window that the image itself states for all of its frames, in modality units."""
    frames = _items(header, "52009230")
    if frames and "00289132" in frames[0]:
        first, last = (_window(next(iter(_items(frame, "00289132")), {})) for frame in (frames[0], frames[-1]))
        return first if first == last else None
    shared = next(iter(_items(header, "52009229")), {})
    return _window(next(iter(_items(shared, "00289132")), header))


def guessed_window(header: Header) -> Window:
    """Where a person starts from when the image's own window is not known: all values it can or does have."""
    slope, intercept = _number(header, "00281053") or 1.0, _number(header, "00281052") or 0.0
    low, high = _number(header, "00280106"), _number(header, "00280107")
    if low is None or high is None or low >= high:
        bits = min(max(int(_number(header, "00280101") or 8), 1), 32)
        signed = _number(header, "00280103") == 1
        low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)
    ends = sorted((low * slope + intercept, high * slope + intercept))
    return Window("", round((ends[0] + ends[1]) / 2, 3), max(round(ends[1] - ends[0], 3), 1))


def presets_for(modality: str, window: Window | None) -> tuple[Window, ...]:
    """The windows behind keys 1 to 6."""
    if modality == "CT":
        return CT_PRESETS
    if window is None:
        return ()
    return (
        Window("Softer", window.center, round(window.width * 1.7, 3)),
        Window("Harder", window.center, max(round(window.width * 0.6, 3), 1)),
    )


def edges_of(header: Header) -> Edges | None:
    """Where the patient's directions lie, by Image Orientation (Patient), else by Patient Orientation."""
    shared = next(iter(_items(header, "52009229")), {})
    plane = next(iter(_items(shared, "00209116")), header)
    cosines = _numbers(plane, "00200037")
    if len(cosines) == 6:
        right, bottom = _direction(cosines[:3]), _direction(cosines[3:])
    else:
        right, bottom = ([*(str(value) for value in _values(header, "00200020")), "", ""])[:2]
    if not right or not bottom or not set(right + bottom) <= set(_OPPOSITE):
        return None
    return Edges(_opposite(right), right, _opposite(bottom), bottom)


def _window(source: Header) -> Window | None:
    center, width = _number(source, "00281050"), _number(source, "00281051")
    if center is None or width is None or width < 1 or _text(source, "00281056") == "SIGMOID":
        return None
    return Window("", center, width)


def _direction(vector: Sequence[float]) -> str:
    named = sorted(zip(vector, ("LR", "PA", "HF"), strict=True), key=lambda pair: -abs(pair[0]))
    return "".join(letters[value < 0] for value, letters in named[:2] if abs(value) > _LEAST_COSINE)


def _opposite(letters: str) -> str:
    return "".join(_OPPOSITE[letter] for letter in letters)


def _values(source: Header, tag: str) -> list[Any]:
    element = source.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _items(source: Header, tag: str) -> list[Header]:
    return [item for item in _values(source, tag) if isinstance(item, dict)]


def _numbers(source: Header, tag: str) -> list[float]:
    found = []
    for value in _values(source, tag):
        try:
            number = float(value)
        except (TypeError, ValueError):
            return []
        if not math.isfinite(number):
            return []
        found.append(number)
    return found


def _number(source: Header, tag: str) -> float | None:
    return next(iter(_numbers(source, tag)), None)


def _text(source: Header, tag: str) -> str:
    return str(next(iter(_values(source, tag)), ""))
