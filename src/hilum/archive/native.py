"""Uncompressed pixel cells to values: planes, packed colour, high bit, sign (PS3.5 8.1, PS3.3 C.7.6.3.1).

A cell is what Bits Allocated gives it; the value is the Bits Stored below High Bit, and what else is in the cell (the
overlays of older devices, or nothing) is no part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hilum.core.errors import InvalidInput

Pixels = NDArray[Any]
_FLOATS = {"FloatPixelData": "<f4", "DoubleFloatPixelData": "<f8"}


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """The Image Pixel module of an instance (PS3.3 C.7.6.3), as far as decoding needs it."""

    rows: int
    columns: int
    samples_per_pixel: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    pixel_representation: int
    photometric_interpretation: str
    planar_configuration: int
    keyword: str

    @property
    def is_float(self) -> bool:
        """Whether values are floating point (parametric maps)."""
        return self.keyword != "PixelData"

    @property
    def signed(self) -> bool:
        """Whether values are two's complement."""
        return self.pixel_representation == 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns, and samples where there are several."""
        here = (self.rows, self.columns)
        return here if self.samples_per_pixel == 1 else (*here, self.samples_per_pixel)

    @property
    def frame_bytes(self) -> int:
        """What a decoded frame takes, in whole bytes."""
        return -(-self.rows * self.columns * self.samples_per_pixel * self.bits_allocated // 8)


def cells_of(frame: bytes, layout: PixelLayout) -> Pixels:
    """The cells of a native frame, little endian, as they are: (rows, columns) or (rows, columns, samples).

    Raises InvalidInput where the frame is shorter than its header says.
    """
    count = layout.rows * layout.columns * layout.samples_per_pixel
    try:
        if layout.is_float:
            return np.frombuffer(frame, _FLOATS[layout.keyword], count).reshape(layout.shape)
        if layout.bits_allocated == 1:
            bits = np.unpackbits(np.frombuffer(frame, np.uint8), bitorder="little", count=count)
            return bits.reshape(layout.shape)
        kind = np.dtype(f"<u{layout.bits_allocated // 8}")
        if layout.photometric_interpretation == "YBR_FULL_422":
            return _unpacked_422(np.frombuffer(frame, kind), layout)
        cells = np.frombuffer(frame, kind, count)
    except ValueError as error:
        raise InvalidInput("The pixel data is shorter than one frame.", field=layout.keyword) from error
    if layout.samples_per_pixel > 1 and layout.planar_configuration == 1:
        return cells.reshape(layout.samples_per_pixel, layout.rows, layout.columns).transpose(1, 2, 0)
    return cells.reshape(layout.shape)


def _unpacked_422(cells: Pixels, layout: PixelLayout) -> Pixels:
    """Y1 Y2 Cb Cr to a colour of its own for each pixel (PS3.3 C.7.6.3.1.2)."""
    pairs = layout.rows * layout.columns // 2
    quads = cells[: pairs * 4].reshape(pairs, 4)
    pixels = np.empty((pairs, 2, 3), cells.dtype)
    pixels[:, :, 0] = quads[:, :2]
    pixels[:, :, 1:] = quads[:, None, 2:]
    return pixels.reshape(layout.shape)


def values_of(cells: Pixels, layout: PixelLayout) -> Pixels:
    """The values in cells: shifted down from High Bit, masked, and with their sign."""
    if layout.is_float or layout.bits_allocated == 1:
        return cells
    width = cells.dtype.itemsize * 8
    above, below = width - 1 - layout.high_bit, layout.high_bit + 1 - layout.bits_stored
    if above < 0 or below < 0:  # a high bit that can't be
        above, below = width - layout.bits_stored, 0
    kind = np.dtype(f"{'i' if layout.signed else 'u'}{cells.dtype.itemsize}")
    cells = cells.astype(cells.dtype.newbyteorder("="), copy=False)
    if above == below == 0:
        return cells.view(kind)
    values: Pixels = np.right_shift(np.left_shift(cells, above).view(kind), above + below)
    return values


def turned(data: bytes, width: int) -> bytes:
    """Words with their bytes the other way around; what is left of a last one stays."""
    whole = len(data) - len(data) % width
    out = bytearray(data)
    for index in range(width):
        out[index:whole:width] = data[width - 1 - index : whole : width]
    return bytes(out)
