"""Pixel values to codestreams, for the transfer syntaxes that images are offered in beside their own.

What is lossless is proven for each frame: its codestream is decoded again and has to give the same values, else the
frame is refused. Encoders are native code and run where decoders do, in a `RenderPool` worker.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import UID

from hilum.archive.codecs import RLE_LOSSLESS, decode_cells, decode_frame
from hilum.archive.native import PixelLayout, values_of
from hilum.archive.part10 import EXPLICIT_LITTLE
from hilum.core.errors import HilumError, Unsupported

Pixels = NDArray[Any]
_JPEG_FAMILY = "1.2.840.10008.1.2.4."
JPEG_BASELINE, JPEG_LOSSLESS = _JPEG_FAMILY + "50", _JPEG_FAMILY + "70"
JPEG_LS_LOSSLESS, JPEG_LS_NEAR = _JPEG_FAMILY + "80", _JPEG_FAMILY + "81"
JPEG_2000_LOSSLESS, JPEG_2000 = _JPEG_FAMILY + "90", _JPEG_FAMILY + "91"
HTJ2K_LOSSLESS, HTJ2K_RPCL = _JPEG_FAMILY + "201", _JPEG_FAMILY + "202"
_SMALLEST_SIDE = 64  # of the lowest resolution of HTJ2K, which serves as a thumbnail
_FEW = 256
_SIZ_COMPONENTS = 42  # where SIZ says the precision of each component, ITU-T T.800 A.5.1


@dataclass(frozen=True, slots=True)
class Encoding:
    """A transfer syntax that frames are encoded in (PS3.5 A.4).

    `colour` is the Photometric Interpretation that RGB becomes, `method` the value of Lossy Image Compression Method
    (PS3.3 C.7.6.1.1.5.1) of what is not lossless.
    """

    uid: str
    encode: Callable[[Pixels, PixelLayout, int], bytes]
    colour: str = "RGB"
    method: str = ""

    @property
    def lossless(self) -> bool:
        """Whether the values come back as they were."""
        return not self.method


def encoded_frame(frame: bytes, frame_syntax: str, layout: PixelLayout, target: str, quality: int) -> bytes:
    """A frame of one transfer syntax in another; `layout` is that of the stored instance.

    `quality` from 1 to 100 counts only where the target is lossy.
    Raises Unsupported where the target can't hold these pixels, and as decode_frame does.
    """
    encoding = ENCODINGS[target]
    cells, given = cells_and_layout(frame, frame_syntax, layout)
    if refusal := why_not(given, encoding):
        raise Unsupported(refusal, field="TransferSyntaxUID")
    values = cells.view(f"i{cells.dtype.itemsize}") if given.signed else cells
    if encoding.uid != RLE_LOSSLESS:
        values = values_of(cells, given)
        if not np.array_equal(_cells(values), cells):
            raise Unsupported("The pixel cells hold more than the pixels.", field="BitsStored")
    codestream = _encoded(values, given, encoding, 0 if encoding.lossless else quality)
    if encoding.lossless:
        _prove(codestream, encoding, given, cells)
    return codestream


def cells_and_layout(frame: bytes, frame_syntax: str, layout: PixelLayout) -> tuple[Pixels, PixelLayout]:
    """The cells of a frame, colour by pixel, and the layout that now describes them."""
    cells = decode_cells(frame, frame_syntax, layout)
    if cells is None:
        values = decode_frame(frame, frame_syntax, layout)
        return _cells(values), decoded_layout(layout, frame_syntax)
    return np.ascontiguousarray(cells), decoded_layout(layout, frame_syntax)


def decoded_layout(layout: PixelLayout, frame_syntax: str) -> PixelLayout:
    """The layout of frames once they are decoded: colour by pixel; what codestreams hold comes out as RGB."""
    colour = layout.photometric_interpretation
    if layout.samples_per_pixel == 3:
        of_cells = frame_syntax in (EXPLICIT_LITTLE, RLE_LOSSLESS)
        colour = {"YBR_FULL_422": "YBR_FULL"}.get(colour, colour) if of_cells else "RGB"
    return replace(layout, photometric_interpretation=colour, planar_configuration=0)


def encoded_colour(layout: PixelLayout, encoding: Encoding) -> str:
    """The Photometric Interpretation of an encoded image; `layout` is that of the decoded one."""
    colour = layout.photometric_interpretation
    return encoding.colour if colour == "RGB" else colour


def why_not(layout: PixelLayout, encoding: Encoding) -> str:
    """Why pixels of a layout can't be encoded so, empty where they can."""
    if layout.is_float or layout.bits_allocated not in (8, 16):
        return "Pixels of this many bits are not compressed here."
    if encoding.uid != RLE_LOSSLESS and layout.high_bit != layout.bits_stored - 1:
        return "Pixels that do not end at the lowest bit are not compressed here."
    if not encoding.lossless and layout.photometric_interpretation not in ("MONOCHROME1", "MONOCHROME2", "RGB"):
        return "Pixels of this colour model do not survive lossy compression."
    if encoding.uid == JPEG_BASELINE and layout.bits_allocated != 8:
        return "Baseline JPEG holds 8 bits."
    if encoding.uid in (JPEG_BASELINE, JPEG_LS_NEAR) and layout.signed:
        return "Signed pixels do not survive this compression."
    return ""


def _cells(values: Pixels) -> Pixels:
    return values.view(f"u{values.dtype.itemsize}")


def _encoded(values: Pixels, layout: PixelLayout, encoding: Encoding, quality: int) -> bytes:
    try:
        return encoding.encode(np.ascontiguousarray(values), layout, quality)
    except (HilumError, MemoryError):
        raise
    except Exception as error:  # each codec has errors of its own
        raise Unsupported("The image can't be encoded in this transfer syntax.", field="TransferSyntaxUID") from error


def _prove(codestream: bytes, encoding: Encoding, layout: PixelLayout, cells: Pixels) -> None:
    coded = replace(layout, photometric_interpretation=encoded_colour(layout, encoding))
    back = decode_cells(codestream, encoding.uid, coded)
    if back is None:
        # A codec that knows of no colour model gives the components back as they are, as it does with RGB.
        plain = "RGB" if coded.photometric_interpretation == "YBR_FULL" else coded.photometric_interpretation
        back = _cells(decode_frame(codestream, encoding.uid, replace(coded, photometric_interpretation=plain)))
    if not np.array_equal(back, cells):
        raise Unsupported("The encoded image is not the same.", field="TransferSyntaxUID")


def _by_pydicom(uid: str, **lossy: Callable[[int], Any]) -> Callable[[Pixels, PixelLayout, int], bytes]:
    """An encoder of pydicom; `lossy` are options made of the quality."""

    def encode(values: Pixels, layout: PixelLayout, quality: int) -> bytes:
        colour = layout.photometric_interpretation
        options: dict[str, Any] = {keyword: of_quality(quality) for keyword, of_quality in lossy.items()}
        codestream: bytes = get_encoder(UID(uid)).encode(
            values,
            rows=layout.rows,
            columns=layout.columns,
            samples_per_pixel=layout.samples_per_pixel,
            bits_allocated=layout.bits_allocated,
            bits_stored=layout.bits_allocated if uid == RLE_LOSSLESS else layout.bits_stored,
            pixel_representation=layout.pixel_representation,
            # Of RGB the encoder knows that its components may be transformed.
            photometric_interpretation=ENCODINGS[uid].colour if colour == "RGB" else colour,
            planar_configuration=0,
            number_of_frames=1,
            encoding_plugin="pylibjpeg" if uid == RLE_LOSSLESS else "",  # pydicom's own is ten times as slow
            **options,
        )
        return codestream

    return encode


def _by_openjph(values: Pixels, layout: PixelLayout, quality: int) -> bytes:
    """HTJ2K with resolutions one after the other in tile parts of their own."""
    levels = max(5, math.ceil(math.log2(max(layout.rows, layout.columns) / _SMALLEST_SIDE)))
    options: dict[str, Any] = {"reversible": True, "resolutions": levels, "tlm": True, "tilepart": 1}
    if layout.samples_per_pixel == 3:
        options["rgb"] = layout.photometric_interpretation == "RGB"
    if layout.signed or layout.bits_stored == values.dtype.itemsize * 8:
        codestream = bytearray(imagecodecs.htj2k_encode(values, **options))
    else:
        # The encoder takes the precision from the type. Values are shifted around zero as T.800 G.1 does for unsigned
        # ones, so that SIZ can say their true precision.
        shifted = (values.astype(np.int32) - (1 << (layout.bits_stored - 1))).astype(f"i{values.dtype.itemsize}")
        codestream = bytearray(imagecodecs.htj2k_encode(shifted, **options))
    sign = 0x80 if layout.signed else 0
    for component in range(layout.samples_per_pixel):
        codestream[_SIZ_COMPONENTS + 3 * component] = sign | (layout.bits_stored - 1)
    return bytes(codestream)


def _by_charls(values: Pixels, layout: PixelLayout, quality: int) -> bytes:
    """JPEG-LS; of images of few pixels pyjpegls guesses the length too short, where whole bytes go another way."""
    if values.size < _FEW and layout.bits_stored == values.dtype.itemsize * 8:
        return bytes(imagecodecs.jpegls_encode(_cells(values)))
    return _by_pydicom(JPEG_LS_LOSSLESS)(values, layout, quality)


def _by_openjpeg(values: Pixels, layout: PixelLayout, quality: int) -> bytes:
    """JPEG 2000; pydicom's way always has six resolutions, for which small images are too small."""
    if min(layout.rows, layout.columns) >= _SMALLEST_SIDE:
        return _by_pydicom(JPEG_2000_LOSSLESS)(values, layout, quality)
    codestream = imagecodecs.jpeg2k_encode(
        values,
        codecformat="J2K",
        reversible=True,
        bitspersample=layout.bits_stored,
        resolutions=1,
        mct=layout.photometric_interpretation == "RGB",
    )
    return bytes(codestream)


def _near(quality: int) -> int:
    """The largest difference of a value that near-lossless JPEG-LS may make."""
    return max(1, (100 - quality) // 4)


def _decibels(quality: int) -> list[float]:
    """The signal-to-noise ratio of the one quality layer of JPEG 2000."""
    return [25 + quality * 0.4]


def _by_libjpeg(values: Pixels, layout: PixelLayout, quality: int) -> bytes:
    colour: dict[str, Any] = {}
    if values.ndim == 3:
        colour = {"colorspace": "RGB", "outcolorspace": "YCBCR", "subsampling": "422"}
    return bytes(imagecodecs.jpeg8_encode(values, level=quality or 90, **colour))


def _by_libjpeg_lossless(values: Pixels, layout: PixelLayout, quality: int) -> bytes:
    """JPEG Lossless, first-order prediction; a sign is part of the bits (PS3.5 8.2.1)."""
    cells = _cells(values) & ((1 << layout.bits_stored) - 1)
    colour: dict[str, Any] = {"colorspace": "RGB", "outcolorspace": "RGB"} if values.ndim == 3 else {}
    codestream = imagecodecs.jpeg8_encode(
        cells.astype(values.dtype.str.replace("i", "u")),
        lossless=True,
        predictor=1,
        bitspersample=layout.bits_stored,
        **colour,
    )
    return bytes(codestream)


ENCODINGS: dict[str, Encoding] = {
    encoding.uid: encoding
    for encoding in (
        Encoding(RLE_LOSSLESS, _by_pydicom(RLE_LOSSLESS)),
        Encoding(JPEG_LS_LOSSLESS, _by_charls),
        Encoding(JPEG_2000_LOSSLESS, _by_openjpeg, "YBR_RCT"),
        Encoding(HTJ2K_LOSSLESS, _by_openjph, "YBR_RCT"),
        Encoding(HTJ2K_RPCL, _by_openjph, "YBR_RCT"),
        Encoding(JPEG_LOSSLESS, _by_libjpeg_lossless),
        Encoding(JPEG_BASELINE, _by_libjpeg, "YBR_FULL_422", "ISO_10918_1"),
        Encoding(JPEG_LS_NEAR, _by_pydicom(JPEG_LS_NEAR, jls_error=_near), method="ISO_14495_1"),
        Encoding(JPEG_2000, _by_pydicom(JPEG_2000, j2k_psnr=_decibels), "YBR_ICT", "ISO_15444_1"),
    )
}
LOSSLESS = tuple(uid for uid, encoding in ENCODINGS.items() if encoding.lossless)
