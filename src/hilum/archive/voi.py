"""Stored values to what is shown: modality transformation, VOI window or table, presentation (PS3.4 N.2).

Each step takes the item of a functional group that holds for the frame before the data set's own attributes
(PS3.3 C.7.6.16.2.9 and C.7.6.16.2.10).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from hilum.archive.lookup import LookupTable, table_of
from hilum.archive.native import PixelLayout
from hilum.core.errors import InvalidInput

Pixels = NDArray[Any]
_FUNCTIONS = frozenset({"LINEAR", "LINEAR_EXACT", "SIGMOID"})


@dataclass(frozen=True, slots=True)
class Window:
    """A VOI window: centre and width in modality units and the function between them (PS3.3 C.11.2.1.2)."""

    center: float
    width: float
    function: str = "LINEAR"

    def __post_init__(self) -> None:
        least = 1 if self.function == "LINEAR" else 0
        finite = math.isfinite(self.center) and math.isfinite(self.width)
        if not finite or self.width < least or self.width == 0 or self.function not in _FUNCTIONS:
            raise InvalidInput("The window is not one that DICOM defines.", field="window")


def groups(header: Dataset, number: int, sequence: str) -> Dataset | None:
    """The item of a functional group macro that holds for a frame: its own, else the shared one (PS3.3 C.7.6.16)."""
    frames = header.get("PerFrameFunctionalGroupsSequence") or []
    shared = header.get("SharedFunctionalGroupsSequence") or []
    own = [frames[number - 1]] if number <= len(frames) else []
    for group in (*own, *shared[:1]):
        if items := group.get(sequence):
            item: Dataset = items[0]
            return item
    return None


@dataclass(frozen=True, slots=True)
class Modality:
    """Stored values to modality values: a table, or a slope and an intercept (PS3.3 C.11.1)."""

    slope: float = 1.0
    intercept: float = 0.0
    table: LookupTable | None = None

    def apply(self, values: Pixels) -> Pixels:
        """The values in modality units."""
        if self.table is not None:
            return self.table.apply(values)
        if (self.slope, self.intercept) == (1.0, 0.0):
            return values
        return values * self.slope + self.intercept


def modality_of(header: Dataset, number: int, layout: PixelLayout, *, big_endian: bool) -> Modality:
    """The modality transformation of a frame. Raises InvalidInput where its table is damaged."""
    transformation = groups(header, number, "PixelValueTransformationSequence")
    if transformation is None and header.get("ModalityLUTSequence") and not layout.is_float:
        item = header.ModalityLUTSequence[0]
        return Modality(table=table_of(item, signed=layout.signed, big_endian=big_endian))
    source = transformation if transformation is not None else header
    slope, intercept = _float(source, "RescaleSlope", 1.0), _float(source, "RescaleIntercept", 0.0)
    return Modality(slope, intercept) if slope != 0 else Modality()


def voi_of(header: Dataset, number: int, modality: Modality, *, big_endian: bool) -> Window | LookupTable | None:
    """What the header says is of interest in a frame: its first window, else its first table (PS3.3 C.11.2)."""
    voi = groups(header, number, "FrameVOILUTSequence")
    for source in (voi, header):
        if source is None:
            continue
        if (window := _stated_window(source)) is not None:
            return window
        if source.get("VOILUTSequence"):
            signed = modality.table is None and (modality.intercept < 0 or header.get("PixelRepresentation") == 1)
            return table_of(source.VOILUTSequence[0], signed=signed, big_endian=big_endian)
    return None


def _stated_window(source: Dataset) -> Window | None:
    width = _float(source, "WindowWidth", 0.0)
    if width <= 0 or source.get("WindowCenter") is None:
        return None
    function = str(source.get("VOILUTFunction") or "LINEAR").upper()
    try:
        return Window(_float(source, "WindowCenter", 0.0), width, function if function in _FUNCTIONS else "LINEAR")
    except InvalidInput:
        return None


def fitting(pixels: Pixels, header: Dataset, layout: PixelLayout, modality: Modality) -> Window:
    """A window for an image that states none: all of 1-bit and 8-bit images, else what the frame's values span.

    Pixel padding (PS3.3 C.7.5.1.1.2) is no value.
    """
    if layout.bits_stored == 1:
        return Window(0.5, 1, "LINEAR_EXACT")
    if layout.bits_stored == 8 and not layout.is_float and not layout.signed and modality == Modality():
        return Window(128, 256)
    values = _without_padding(pixels, header)
    values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if values.size == 0:
        return Window(0.5, 1, "LINEAR_EXACT")
    ends = np.array([values.min(), values.max()])
    if modality.table is not None:
        values = modality.apply(values)
        low, high = float(values.min()), float(values.max())
    else:
        low, high = sorted(float(value) for value in modality.apply(ends))
    return Window((low + high) / 2, (high - low) or 1.0, "LINEAR_EXACT")


def _without_padding(pixels: Pixels, header: Dataset) -> Pixels:
    padding = header.get("PixelPaddingValue")
    if not isinstance(padding, int):
        return pixels
    limit = header.get("PixelPaddingRangeLimit")
    low, high = sorted((padding, limit if isinstance(limit, int) else padding))
    return pixels[(pixels < low) | (pixels > high)]


def windowed(values: Pixels, window: Window) -> Pixels:
    """Values to 0–255 by a window (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    center, width = window.center, window.width
    values = values.astype(np.float64, copy=False)
    if window.function == "SIGMOID":
        unit = 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    elif window.function == "LINEAR_EXACT":
        unit = (values - center) / width + 0.5
    elif width == 1:
        unit = (values > center - 0.5).astype(np.float64)
    else:
        unit = (values - (center - 0.5)) / (width - 1) + 0.5
    return np.nan_to_num(np.clip(unit, 0, 1) * 255 + 0.5).astype(np.uint8)


def inverted(header: Dataset, photometric_interpretation: str) -> bool:
    """Whether the lowest value is white (PS3.3 C.11.6, C.7.6.3.1.2)."""
    return photometric_interpretation == "MONOCHROME1" or header.get("PresentationLUTShape") == "INVERSE"


def pixel_aspect(header: Dataset) -> float:
    """Height of a pixel over its width (PS3.3 C.7.6.3.1.7, C.10.7.1.3); 1 where none is stated."""
    measures = groups(header, 1, "PixelMeasuresSequence")
    sources = ((measures, "PixelSpacing"), *((header, keyword) for keyword in _SPACINGS))
    for source, keyword in sources:
        value = source.get(keyword) if source is not None else None
        if isinstance(value, MultiValue) and len(value) == 2:
            try:
                ratio = float(value[0]) / float(value[1])
            except (TypeError, ValueError, ZeroDivisionError):
                continue
            if 0.1 <= ratio <= 10:
                return ratio
    return 1.0


_SPACINGS = ("PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


def _float(source: Dataset, keyword: str, otherwise: float) -> float:
    value = source.get(keyword)
    if isinstance(value, (list, MultiValue)):
        value = value[0] if len(value) else None
    try:
        number = float(value) if value is not None else otherwise
    except (TypeError, ValueError):
        return otherwise
    return number if math.isfinite(number) else otherwise
