"""Overlay planes, of their own data or in the unused bits of pixel cells (PS3.3 C.9.2, PS3.5 8.1.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

Pixels = NDArray[Any]
GROUPS = range(0x6000, 0x6020, 2)
_DATA = 0x3000
_WHITE = 255


def has_overlays(header: Dataset) -> bool:
    """Whether any plane is described."""
    return any((group, 0x0010) in header for group in GROUPS)


def drawn(shown: Pixels, header: Dataset, number: int, cells: Pixels | None) -> Pixels:
    """The 8-bit image with its graphic planes drawn in white; regions of interest would cover what they mark.

    `cells` are the pixel cells as stored, where they still hold all bits. A plane that can't be read is left out.
    """
    out = shown
    for group in GROUPS:
        if _value(header, group, 0x0040, "G") == "R":
            continue
        plane = _plane(header, group, number, cells)
        if plane is None:
            continue
        if out is shown:
            out = shown.copy()
        _draw(out, plane, _origin(header, group))
    return out


def _draw(out: Pixels, plane: Pixels, origin: tuple[int, int]) -> None:
    top, left = origin
    rows, columns = out.shape[:2]
    plane = plane[max(0, -top) : max(0, rows - top), max(0, -left) : max(0, columns - left)]
    target = out[max(0, top) :, max(0, left) :][: plane.shape[0], : plane.shape[1]]
    target[plane] = _WHITE


def _plane(header: Dataset, group: int, number: int, cells: Pixels | None) -> Pixels | None:
    rows, columns = _number(header, group, 0x0010), _number(header, group, 0x0011)
    if rows <= 0 or columns <= 0 or rows * columns > 1 << 28:
        return None
    allocated, position = _number(header, group, 0x0100, 1), _number(header, group, 0x0102)
    data = _value(header, group, _DATA, None)
    if data is None:
        if cells is None or cells.ndim != 2 or not 0 < position < cells.dtype.itemsize * 8:
            return None
        return (np.right_shift(cells, position) & 1).astype(bool)
    if allocated != 1 or not isinstance(data, bytes):
        return None
    frames = max(1, _number(header, group, 0x0015, 1))
    index = number - max(1, _number(header, group, 0x0051, 1))
    index = index if frames > 1 else 0  # one plane is for all frames
    size = rows * columns
    if not 0 <= index < frames or len(data) * 8 < (index + 1) * size:
        return None
    if _swapped(header, group):
        words = data[: len(data) // 2 * 2]
        data = np.frombuffer(words, ">u2").astype("<u2").tobytes()
    first = index * size
    packed = np.frombuffer(data, np.uint8)[first // 8 : -(-(first + size) // 8)]
    bits = np.unpackbits(packed, bitorder="little")[first % 8 :][:size]
    return bits.reshape(rows, columns).astype(bool)


def _swapped(header: Dataset, group: int) -> bool:
    return header.original_encoding[1] is False and header[group, _DATA].VR == "OW"


def _origin(header: Dataset, group: int) -> tuple[int, int]:
    """Row and column of the plane's first pixel, counted from 0."""
    value = _value(header, group, 0x0050, None)
    try:
        top, left = (int(each) for each in value)
    except (TypeError, ValueError):
        return 0, 0
    return top - 1, left - 1


def _number(header: Dataset, group: int, element: int, otherwise: int = 0) -> int:
    try:
        return int(_value(header, group, element, otherwise))
    except (TypeError, ValueError):
        return otherwise


def _value(header: Dataset, group: int, element: int, otherwise: Any) -> Any:
    found = header.get((group, element))
    return otherwise if found is None or found.value is None else found.value
