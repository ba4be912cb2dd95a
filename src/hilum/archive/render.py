"""A frame as a person sees it: modality LUT, window, colour, size, then JPEG or PNG (PS3.4 N.2, PS3.18 8.3.5).

`render_job` gathers what is needed from a stored instance, `render` does the work and needs nothing else; a
`RenderPool` does it in another process.
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut

from hilum.archive.codecs import PixelLayout, decode_frame, layout_of
from hilum.archive.frames import Instance
from hilum.archive.part10 import file_prefix
from hilum.core.errors import InvalidInput, Unsupported

MAX_SIDE = 8192
FORMATS = {"jpeg": "image/jpeg", "png": "image/png"}
_FUNCTIONS = frozenset({"LINEAR", "LINEAR_EXACT", "SIGMOID"})

Pixels = NDArray[Any]


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


@dataclass(frozen=True, slots=True)
class RenderJob:
    """All that `render` needs: the header before the pixel data, one frame as stored, and the wishes."""

    header: bytes
    header_syntax: str
    frame: bytes
    frame_syntax: str
    layout: PixelLayout
    number: int = 1
    window: Window | None = None
    size: tuple[int, int] | None = None
    format: str = "jpeg"
    quality: int = 90


def render_job(
    instance: Instance,
    number: int = 1,
    *,
    window: Window | None = None,
    size: tuple[int, int] | None = None,
    format: str = "jpeg",
    quality: int = 90,
) -> RenderJob:
    """The job of rendering frame `number`; `size` is the width and height it must fit in.

    Raises Unsupported for what is no image, InvalidInput for wishes out of bounds, NotFound for an absent frame.
    """
    if format not in FORMATS:
        raise Unsupported("Images are rendered as JPEG or PNG.", field="accept")
    if not 1 <= quality <= 100:
        raise InvalidInput("The quality is from 1 to 100.", field="quality")
    if size is not None and not all(1 <= side <= MAX_SIDE for side in size):
        raise InvalidInput(f"The viewport is from 1 to {MAX_SIDE} pixels wide and high.", field="viewport")
    layout = layout_of(instance.attributes)
    frame = instance.frame(number)
    return RenderJob(
        instance.header, instance.header_syntax, frame, instance.frame_syntax, layout, number, window, size,
        format, quality,
    )  # fmt: skip


def thumbnail_job(instance: Instance, size: tuple[int, int] = (256, 256)) -> RenderJob:
    """The job of a small JPEG that stands for the instance: of many frames the one in the middle."""
    return render_job(instance, (instance.table.count + 1) // 2, size=size, quality=80)


def render(job: RenderJob) -> bytes:
    """Decode and render in this process; see RenderPool for the safe way with what strangers sent.

    Format "raw" only decodes: little endian pixels, colour as RGB by pixel.
    """
    pixels = decode_frame(job.frame, job.frame_syntax, job.layout)
    if job.format == "raw":
        return pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()
    header = _header(job)
    if job.layout.photometric_interpretation == "PALETTE COLOR":
        shown = _colour(_palette(pixels, header), 16 if _palette_bits(header) > 8 else 8)
    elif job.layout.samples_per_pixel == 3:
        shown = _colour(pixels, job.layout.bits_stored)
    else:
        shown = _grey(pixels, header, job)
    return _encoded(shown, job)


def _header(job: RenderJob) -> Dataset:
    prefix = file_prefix("1.2", "1.2", job.header_syntax)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pydicom.dcmread(io.BytesIO(prefix + job.header), stop_before_pixels=True)
    except Exception as error:  # pydicom has many; the walk has read this header before
        raise InvalidInput("The header can't be read.") from error


def _groups(header: Dataset, number: int, sequence: str) -> Dataset | None:
    """The item of a functional group macro that holds for a frame: its own, else the shared one (PS3.3 C.7.6.16)."""
    frames = header.get("PerFrameFunctionalGroupsSequence") or []
    shared = header.get("SharedFunctionalGroupsSequence") or []
    own = [frames[number - 1]] if number <= len(frames) else []
    for group in (*own, *shared[:1]):
        if items := group.get(sequence):
            item: Dataset = items[0]
            return item
    return None


def _modality(header: Dataset, number: int, values: Pixels) -> Pixels:
    """Stored values to modality values (PS3.3 C.11.1)."""
    transformation = _groups(header, number, "PixelValueTransformationSequence")
    if transformation is None and header.get("ModalityLUTSequence"):
        return apply_modality_lut(values, header)
    source = transformation if transformation is not None else header
    slope, intercept = _float(source, "RescaleSlope", 1.0), _float(source, "RescaleIntercept", 0.0)
    if (slope, intercept) == (1.0, 0.0) or slope == 0:
        return values
    return values * slope + intercept


def _float(source: Dataset, keyword: str, otherwise: float) -> float:
    value = source.get(keyword)
    if isinstance(value, (list, pydicom.multival.MultiValue)):
        value = value[0] if len(value) else None
    try:
        number = float(value) if value is not None else otherwise
    except (TypeError, ValueError):
        return otherwise
    return number if math.isfinite(number) else otherwise


def _stated_window(header: Dataset, number: int) -> Window | None:
    """The first window the header gives for a frame, None when it gives no usable one."""
    voi = _groups(header, number, "FrameVOILUTSequence")
    source = voi if voi is not None else header
    width = _float(source, "WindowWidth", 0.0)
    if width <= 0 or source.get("WindowCenter") is None:
        return None
    function = str(source.get("VOILUTFunction") or "LINEAR").upper()
    try:
        return Window(_float(source, "WindowCenter", 0.0), width, function if function in _FUNCTIONS else "LINEAR")
    except InvalidInput:
        return None


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


def _grey(pixels: Pixels, header: Dataset, job: RenderJob) -> Pixels:
    """A monochrome frame to 0–255, through a table where there are fewer values than pixels may be."""
    window = job.window or _stated_window(header, job.number)
    use_lut = job.window is None and window is None and bool(header.get("VOILUTSequence"))
    if window is None and not use_lut:
        window = _fitting(pixels, header, job)

    def shade(values: Pixels) -> Pixels:
        modality = _modality(header, job.number, values)
        if use_lut:
            return _by_voi_lut(modality, header)
        return windowed(modality, window) if window is not None else modality

    if pixels.dtype.kind in "iu" and pixels.dtype.itemsize <= 2:
        low, high = int(pixels.min()), int(pixels.max())
        table = shade(np.arange(low, high + 1, dtype=np.int32))
        shown = table[pixels.astype(np.int32) - low]
    else:
        shown = shade(pixels)
    return 255 - shown if job.layout.photometric_interpretation == "MONOCHROME1" else shown


def _by_voi_lut(values: Pixels, header: Dataset) -> Pixels:
    try:
        mapped = apply_voi_lut(values.astype(np.int64), header, prefer_lut=True)
        bits = int(header.VOILUTSequence[0].LUTDescriptor[2])
    except Exception as error:  # a damaged table fails in many ways
        raise InvalidInput("The VOI LUT can't be applied.", field="VOILUTSequence") from error
    return (mapped.astype(np.float64) * (255 / ((1 << min(max(bits, 8), 16)) - 1))).clip(0, 255).astype(np.uint8)


def _fitting(pixels: Pixels, header: Dataset, job: RenderJob) -> Window:
    """A window for an image that states none: all of 8-bit images, else what the frame's values span."""
    layout = job.layout
    if layout.bits_stored == 8 and not layout.is_float and not layout.pixel_representation:
        return Window(128, 256)
    padding = header.get("PixelPaddingValue")
    values = pixels if padding is None else pixels[pixels != padding]
    values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if values.size == 0:
        return Window(0.5, 1, "LINEAR_EXACT")
    low, high = (float(v) for v in _modality(header, job.number, np.array([values.min(), values.max()])))
    if values.size > 1 << 12 and layout.bits_stored > 8:
        low, high = (float(v) for v in _modality(header, job.number, np.percentile(values, (0.5, 99.5))))
    low, high = min(low, high), max(low, high)
    return Window((low + high) / 2, (high - low) or 1.0, "LINEAR_EXACT")


def _palette(pixels: Pixels, header: Dataset) -> Pixels:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return apply_color_lut(pixels, header)
    except Exception as error:  # a damaged palette fails in many ways
        raise InvalidInput("The palette can't be applied.", field="RedPaletteColorLookupTableDescriptor") from error


def _palette_bits(header: Dataset) -> int:
    return int(header.RedPaletteColorLookupTableDescriptor[2])


def _colour(pixels: Pixels, bits: int) -> Pixels:
    if pixels.dtype == np.uint8 and bits <= 8:
        return pixels
    return (pixels.astype(np.float64) * (255 / ((1 << bits) - 1))).clip(0, 255).astype(np.uint8)


def _encoded(shown: Pixels, job: RenderJob) -> bytes:
    image = Image.fromarray(np.ascontiguousarray(shown))
    if job.size is not None:
        scale = min(job.size[0] / image.width, job.size[1] / image.height)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        if size != image.size:
            image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0 if scale < 1 else None)
    out = io.BytesIO()
    if job.format == "png":
        image.save(out, "PNG", compress_level=4)
    else:
        image.save(out, "JPEG", quality=job.quality)
    return out.getvalue()
