"""One frame's bytes to an array of pixels, for every transfer syntax that has a decoder here.

Sizes are checked before anything is decoded: the header's against a bound, the codestream's own against the header's,
so that a small file can't ask for a large memory. Decoders are native code; run them in a `RenderPool` worker.
"""

from __future__ import annotations

import struct
import warnings
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import UID

from hilum.archive.metadata import integer, text
from hilum.archive.native import PixelLayout, cells_of, values_of
from hilum.archive.part10 import EXPLICIT_LITTLE
from hilum.archive.walk import Attributes
from hilum.core.errors import HilumError, InvalidInput, TooLarge, Unsupported

MAX_PIXELS = 128 << 20  # samples of one frame
_JPEG_FAMILY = "1.2.840.10008.1.2.4."
_CODESTREAMS = frozenset(
    _JPEG_FAMILY + process for process in ("50", "51", "57", "70", "80", "81", "90", "91", "201", "202", "203")
)
RLE_LOSSLESS = "1.2.840.10008.1.2.5"
_NATIVE_YBR = frozenset({"YBR_FULL", "YBR_FULL_422"})
# ITU-T T.871, which YBR_FULL follows
_YBR_TO_RGB = np.array(
    [[1, 1, 1], [0, -0.114 * 1.772 / 0.587, 1.772], [1.402, -0.299 * 1.402 / 0.587, 0]], dtype=np.float32
)
_END_OF_IMAGE = b"\xff\xd9"
# 12-bit and lossless JPEG, which pydicom's free plugins do not read.
_LIBJPEG = frozenset(_JPEG_FAMILY + process for process in ("51", "57", "70"))
_OPENJPH = frozenset(_JPEG_FAMILY + process for process in ("201", "202", "203"))
# Lossless, recompressed JPEG, and general; pydicom does not know of them.
_JPEG_XL = frozenset(_JPEG_FAMILY + process for process in ("110", "111", "112"))
# Decoders that fill up a cut image with grey, or take seconds to notice that it is cut.
_NEED_AN_END = _LIBJPEG | {_JPEG_FAMILY + process for process in ("80", "81")}
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}  # ITU-T T.81 B.1.1.3, T.87 for JPEG-LS
_COLOURS = {"MONOCHROME1": 1, "MONOCHROME2": 1, "PALETTE COLOR": 1, "RGB": 3, "YBR_FULL": 3, "YBR_FULL_422": 3,
            "YBR_PARTIAL_420": 3, "YBR_ICT": 3, "YBR_RCT": 3}  # fmt: skip


def layout_of(attributes: Attributes) -> PixelLayout:
    """The layout a header states. Raises Unsupported for what is no image, InvalidInput for what can't be one."""
    rows, columns = integer(attributes, "00280010"), integer(attributes, "00280011")
    allocated = integer(attributes, "00280100")
    if not rows or not columns or not allocated:
        raise Unsupported("The instance is not an image.", field="Rows")
    photometric = text(attributes, "00280004") or "MONOCHROME2"
    samples = integer(attributes, "00280002") or _COLOURS.get(photometric, 1)
    if photometric not in _COLOURS:
        raise Unsupported("Images of this colour model are not shown here.", field="PhotometricInterpretation")
    if samples != _COLOURS[photometric]:
        raise InvalidInput("Samples per pixel contradict the colour model.", field="SamplesPerPixel")
    if allocated not in (1, 8, 16, 32, 64):
        raise Unsupported("Pixels of this many bits are not shown here.", field="BitsAllocated")
    stored = integer(attributes, "00280101") or allocated
    stored = stored if 0 < stored <= allocated else allocated
    high = integer(attributes, "00280102")
    if min(rows, columns) < 0 or rows * columns * samples > MAX_PIXELS:
        raise TooLarge("The image is larger than can be shown.", field="Rows")
    keyword = next((name for key, name in _KEYWORDS.items() if key in attributes), "PixelData")
    return PixelLayout(
        rows=rows,
        columns=columns,
        samples_per_pixel=samples,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high if high is not None and stored - 1 <= high < allocated else stored - 1,
        pixel_representation=integer(attributes, "00280103") or 0,
        photometric_interpretation=photometric,
        planar_configuration=integer(attributes, "00280006") or 0,
        keyword=keyword,
    )


_KEYWORDS = {"7FE00008": "FloatPixelData", "7FE00009": "DoubleFloatPixelData", "7FE00010": "PixelData"}


def decode_frame(frame: bytes, transfer_syntax_uid: str, layout: PixelLayout) -> NDArray[Any]:
    """The values of one frame: (rows, columns) or (rows, columns, 3) as RGB.

    Raises Unsupported when there is no decoder for the transfer syntax, InvalidInput when the frame is damaged or its
    codestream of another size than the header says, TooLarge when it does not fit into memory.
    """
    cells = decode_cells(frame, transfer_syntax_uid, layout)
    if cells is None:
        return decode_codestream(frame, transfer_syntax_uid, layout)
    return as_rgb(values_of(cells, layout), layout)


def decode_cells(frame: bytes, transfer_syntax_uid: str, layout: PixelLayout) -> NDArray[Any] | None:
    """The pixel cells of a frame whose encoding keeps all their bits, None for codestreams. Raises as decode_frame."""
    if transfer_syntax_uid == EXPLICIT_LITTLE:
        return cells_of(frame, layout)
    if transfer_syntax_uid != RLE_LOSSLESS:
        return None
    return decode_codestream(frame, transfer_syntax_uid, layout)


def as_rgb(values: NDArray[Any], layout: PixelLayout) -> NDArray[Any]:
    """Values of a native frame with their colour as RGB (PS3.3 C.7.6.3.1.2)."""
    if layout.samples_per_pixel != 3 or layout.photometric_interpretation not in _NATIVE_YBR:
        return values
    top = (1 << layout.bits_stored) - 1
    split = values.astype(np.float32) - np.array([0, (top + 1) / 2, (top + 1) / 2], np.float32)
    rgb: NDArray[Any] = np.floor(split @ _YBR_TO_RGB + 0.5).clip(0, top).astype(values.dtype)
    return rgb


def decode_codestream(frame: bytes, transfer_syntax_uid: str, layout: PixelLayout) -> NDArray[Any]:
    """The values of a compressed frame, colour as RGB; of RLE the cells and colour as they are."""
    if transfer_syntax_uid in _CODESTREAMS:
        check_codestream(frame, layout)
    if transfer_syntax_uid in _NEED_AN_END and _END_OF_IMAGE not in frame[-64:]:
        raise InvalidInput("The frame is cut.", field=layout.keyword)
    try:
        if transfer_syntax_uid in _LIBJPEG:
            return _by_libjpeg(frame, layout)
        if transfer_syntax_uid in _OPENJPH:
            return _fitted(imagecodecs.htj2k_decode(frame), layout)
        if transfer_syntax_uid in _JPEG_XL:
            return _fitted(imagecodecs.jpegxl_decode(frame), layout)
        return _by_pydicom(frame, transfer_syntax_uid, layout)
    except HilumError:
        raise
    except MemoryError:
        raise TooLarge("The image is larger than can be shown.") from None
    except Exception as error:  # each codec has errors of its own
        raise InvalidInput("The frame can't be decoded.", field=layout.keyword) from error


def _by_pydicom(frame: bytes, transfer_syntax_uid: str, layout: PixelLayout) -> NDArray[Any]:
    try:
        decoder = get_decoder(UID(transfer_syntax_uid))
    except NotImplementedError:
        raise Unsupported("Images of this transfer syntax are not shown here.", field="TransferSyntaxUID") from None
    if not decoder.is_available:
        raise Unsupported("No decoder for this transfer syntax is installed.", field="TransferSyntaxUID")
    raw = transfer_syntax_uid == RLE_LOSSLESS  # whose cells are wanted with all their bits and in their colour
    options: dict[str, Any] = {
        "rows": layout.rows,
        "columns": layout.columns,
        "samples_per_pixel": layout.samples_per_pixel,
        "bits_allocated": layout.bits_allocated,
        "bits_stored": layout.bits_allocated if raw else layout.bits_stored,
        "pixel_representation": 0 if raw else layout.pixel_representation,
        "photometric_interpretation": layout.photometric_interpretation,
        "planar_configuration": layout.planar_configuration,
        "number_of_frames": 1,
        "pixel_keyword": layout.keyword,
        "pixel_vr": "OW" if layout.bits_allocated > 8 else "OB",
    }
    source = encapsulate([frame], has_bot=False) if decoder.is_encapsulated else frame + b"\0" * (len(frame) % 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Of RLE pydicom's own decoder comes first and is many times as slow.
        plugin = "pylibjpeg" if raw else ""
        pixels, _ = decoder.as_array(source, index=0, raw=raw, decoding_plugin=plugin, **options)
    return pixels


def _by_libjpeg(frame: bytes, layout: PixelLayout) -> NDArray[Any]:
    same = "RGB" if layout.samples_per_pixel == 3 else None  # what the colours mean says the header, not the stream
    pixels: NDArray[Any] = imagecodecs.jpeg8_decode(frame, colorspace=same, outcolorspace=same)
    if pixels.shape[:2] != (layout.rows, layout.columns) or pixels.dtype.kind != "u":
        raise InvalidInput("The frame is not what the header says.", field=layout.keyword)
    if layout.pixel_representation == 1:
        signed = pixels.view(f"i{pixels.dtype.itemsize}")
        spare = max(0, pixels.dtype.itemsize * 8 - layout.bits_stored)
        pixels = np.right_shift(np.left_shift(signed, spare), spare)
    if layout.photometric_interpretation.startswith("YBR"):
        pixels = convert_color_space(pixels, "YBR_FULL", "RGB")
    return pixels


def _fitted(pixels: NDArray[Any], layout: PixelLayout) -> NDArray[Any]:
    """What a decoder gave that knows only of its codestream (OpenJPH, libjxl), as the header says it is."""
    if pixels.ndim == 3 and pixels.shape[0] == 3 and pixels.shape != layout.shape:
        pixels = pixels.transpose(1, 2, 0)  # components without a common transformation come one after the other
    if pixels.shape != layout.shape:
        raise InvalidInput("The frame is not what the header says.", field=layout.keyword)
    kind = np.dtype(f"{'i' if layout.signed else 'u'}{max(1, layout.bits_allocated // 8)}")
    if layout.signed and pixels.dtype.kind == "u":  # a codestream that does not know of the sign
        spare = pixels.dtype.itemsize * 8 - layout.bits_stored
        pixels = np.right_shift(np.left_shift(pixels, spare).view(f"i{pixels.dtype.itemsize}"), spare)
    elif not layout.signed and pixels.dtype.kind == "i":
        pixels = pixels.view(f"u{pixels.dtype.itemsize}") & ((1 << layout.bits_stored) - 1)
    if pixels.dtype.itemsize > kind.itemsize or pixels.dtype.kind not in "iu":
        raise InvalidInput("The frame has more bits than the header says.", field=layout.keyword)
    return as_rgb(pixels.astype(kind, copy=False), layout)


def check_codestream(frame: bytes, layout: PixelLayout) -> None:
    """Refuse a codestream whose own size differs from the header's: decoders allocate what the codestream says."""
    size = codestream_size(frame)
    if size is None:
        raise InvalidInput("The frame is not a codestream of its transfer syntax.", field=layout.keyword)
    if size != (layout.rows, layout.columns):
        raise InvalidInput("The codestream is of another size than the header says.", field=layout.keyword)


def codestream_size(frame: bytes) -> tuple[int, int] | None:
    """Rows and columns a JPEG, JPEG-LS or JPEG 2000 codestream declares, None when it is none of them."""
    if frame[:4] == b"\xff\x4f\xff\x51" and len(frame) >= 24:  # SIZ, ITU-T T.800 A.5.1
        width, height, left, top = struct.unpack_from(">4I", frame, 8)
        return height - top, width - left
    if frame[4:8] == b"jP  ":  # a JP2 file around the codestream
        start = frame.find(b"\xff\x4f\xff\x51", 0, 4096)
        return codestream_size(frame[start : start + 64]) if start > 0 else None
    if frame[:2] != b"\xff\xd8":
        return None
    position = 2
    while position + 9 <= len(frame):
        if frame[position] != 0xFF:
            return None
        marker = frame[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker in _START_OF_FRAME:
            height, width = struct.unpack_from(">2H", frame, position + 5)
            return height, width
        position += 2 + int.from_bytes(frame[position + 2 : position + 4], "big")
    return None
