"""A frame as a person sees it: modality LUT, window, colour, size, then JPEG or PNG (PS3.4 N.2, PS3.18 8.3.5).

`render_job` gathers what is needed from a stored instance, `render` does the work and needs nothing else; a
`RenderPool` does it in another process.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset

from hilum.archive.codecs import as_rgb, decode_cells, decode_codestream, layout_of
from hilum.archive.encoders import ENCODINGS, encoded_frame
from hilum.archive.frames import Instance
from hilum.archive.lookup import LookupTable, palette_of
from hilum.archive.native import PixelLayout, values_of
from hilum.archive.overlays import drawn, has_overlays
from hilum.archive.part10 import file_prefix, is_big_endian
from hilum.archive.voi import Window, fitting, inverted, modality_of, pixel_aspect, voi_of, windowed
from hilum.core.errors import HilumError, InvalidInput, Unsupported

MAX_SIDE = 8192
FORMATS = {"jpeg": "image/jpeg", "png": "image/png"}

Pixels = NDArray[Any]


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

    Format "raw" only decodes: little endian cells, colour by pixel, that of codestreams as RGB. A transfer syntax of
    `encoders.ENCODINGS` as format encodes the frame in it.
    """
    if job.format in ENCODINGS:
        return encoded_frame(job.frame, job.frame_syntax, job.layout, job.format, job.quality)
    cells = decode_cells(job.frame, job.frame_syntax, job.layout)
    if job.format == "raw":
        pixels = decode_codestream(job.frame, job.frame_syntax, job.layout) if cells is None else cells
        return as_little_endian(pixels)
    values = (
        decode_codestream(job.frame, job.frame_syntax, job.layout)
        if cells is None
        else as_rgb(values_of(cells, job.layout), job.layout)
    )
    header = header_of(job)
    try:
        shown = _shown(values, header, job)
        if has_overlays(header):
            shown = drawn(shown, header, job.number, cells)
    except (HilumError, MemoryError):
        raise
    except Exception as error:  # pydicom reads values when they are asked for, and damaged ones fail in many ways
        raise InvalidInput("The header describes no image that can be shown.") from error
    return _encoded(shown, pixel_aspect(header) if job.size is not None else 1.0, job)


def as_little_endian(pixels: Pixels) -> bytes:
    """The bytes of pixels, row by row and colour by pixel."""
    return pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()


def header_of(job: RenderJob) -> Dataset:
    """The header of a job, read. Raises InvalidInput."""
    return _header(job.header_syntax, job.header)


@lru_cache(maxsize=2)  # one of thousands of frames takes longer to read than a frame to show, and frames follow frames
def _header(syntax: str, data: bytes) -> Dataset:
    prefix = file_prefix("1.2", "1.2", syntax)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pydicom.dcmread(io.BytesIO(prefix + data), stop_before_pixels=True)
    except Exception as error:  # pydicom has many; the walk has read this header before
        raise InvalidInput("The header can't be read.") from error


def _shown(values: Pixels, header: Dataset, job: RenderJob) -> Pixels:
    layout = job.layout
    if layout.photometric_interpretation == "PALETTE COLOR":
        tables = palette_of(header, signed=layout.signed, big_endian=is_big_endian(job.header_syntax))
        low = int(values.min())
        used = np.arange(low, int(values.max()) + 1, dtype=np.int32)
        colours: Pixels = np.stack([table.apply(used) for table in tables], axis=-1)
        return colours[values.astype(np.int32) - low]
    if layout.samples_per_pixel == 3:
        return _colour(values, layout.bits_stored)
    return _grey(values, header, job)


def _grey(pixels: Pixels, header: Dataset, job: RenderJob) -> Pixels:
    """A monochrome frame to 0–255, through a table where there are fewer values than pixels may be."""
    big_endian = is_big_endian(job.header_syntax)
    modality = modality_of(header, job.number, job.layout, big_endian=big_endian)
    voi = job.window or voi_of(header, job.number, modality, big_endian=big_endian)
    if voi is None:
        voi = fitting(pixels, header, job.layout, modality)

    def shade(values: Pixels) -> Pixels:
        of_modality = modality.apply(values)
        if isinstance(voi, LookupTable):
            return voi.to_8_bits().apply(np.rint(of_modality))
        return windowed(of_modality, voi)

    if pixels.dtype.kind in "iu" and pixels.dtype.itemsize <= 2:
        low, high = int(pixels.min()), int(pixels.max())
        table = shade(np.arange(low, high + 1, dtype=np.int32))
        shown = table[pixels.astype(np.int32) - low]
    else:
        shown = shade(pixels)
    return 255 - shown if inverted(header, job.layout.photometric_interpretation) else shown


def _colour(pixels: Pixels, bits: int) -> Pixels:
    if pixels.dtype == np.uint8 and bits <= 8:
        return pixels
    return (pixels.astype(np.float64) * (255 / ((1 << bits) - 1))).clip(0, 255).astype(np.uint8)


def _fitted(image: Image.Image, box: tuple[int, int], aspect: float) -> Image.Image:
    """The image as large as the box allows, with the shape that its pixels give it."""
    width, height = float(image.width), image.height * aspect
    scale = min(box[0] / width, box[1] / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size == image.size:
        return image
    return image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0 if scale < 1 else None)


def _encoded(shown: Pixels, aspect: float, job: RenderJob) -> bytes:
    image = Image.fromarray(np.ascontiguousarray(shown))
    if job.size is not None:
        image = _fitted(image, job.size, aspect)
    out = io.BytesIO()
    if job.format == "png":
        image.save(out, "PNG", compress_level=4)
    else:
        image.save(out, "JPEG", quality=job.quality)
    return out.getvalue()
