"""Every transfer syntax that images are offered in gives the pixels back: here, in pydicom and in DCMTK."""

from __future__ import annotations

import io
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import openjpeg
import pydicom
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from hilum.archive import encoders
from hilum.archive.codecs import RLE_LOSSLESS, codestream_size, decode_cells, decode_frame
from hilum.archive.encoders import ENCODINGS, LOSSLESS, decoded_layout, encoded_colour, encoded_frame
from hilum.archive.native import PixelLayout
from hilum.archive.part10 import EXPLICIT_LITTLE
from hilum.core.errors import InvalidInput, Unsupported

CHANCE = np.random.default_rng(3)
# DCMTK decodes these, each with a tool of its own; for the JPEG 2000 family it has none.
DCMTK = {
    RLE_LOSSLESS: "dcmdrle",
    encoders.JPEG_LOSSLESS: "dcmdjpeg",
    encoders.JPEG_LS_LOSSLESS: "dcmdjpls",
    encoders.JPEG_BASELINE: "dcmdjpeg",
}


def smooth(low: int, high: int, dtype: str, colour: bool = False) -> np.ndarray[Any, Any]:
    """A picture of 37 rows and 50 columns with all of a range in it."""
    base = np.add.outer(np.linspace(0, 1, 37), np.linspace(0, 1, 50)) / 2
    noisy = np.clip(base + CHANCE.normal(0, 0.02, base.shape), 0, 1) * (high - low) + low
    values = np.rint(noisy).astype(np.int64)
    values[0, :2] = low, high
    out = values.astype(dtype)
    return np.stack([out, out[::-1], np.roll(out, 5, 1)], axis=-1) if colour else out


def layout(values: np.ndarray[Any, Any], stored: int, colour: str = "MONOCHROME2") -> PixelLayout:
    return PixelLayout(
        rows=values.shape[0], columns=values.shape[1], samples_per_pixel=3 if values.ndim == 3 else 1,
        bits_allocated=values.dtype.itemsize * 8, bits_stored=stored, high_bit=stored - 1,
        pixel_representation=int(values.dtype.kind == "i"), photometric_interpretation=colour,
        planar_configuration=0, keyword="PixelData",
    )  # fmt: skip


PICTURES = {
    "8 bits": layout(smooth(0, 255, "u1"), 8),
    "8 bits signed": layout(smooth(-128, 127, "i1"), 8),
    "10 of 16 bits": layout(smooth(0, 1023, "u2"), 10, "MONOCHROME1"),
    "12 of 16 bits signed": layout(smooth(-2048, 2047, "i2"), 12),
    "16 bits": layout(smooth(0, 65535, "u2"), 16),
    "16 bits signed": layout(smooth(-32768, 32767, "i2"), 16),
    "indices of a palette": layout(smooth(0, 255, "u1"), 8, "PALETTE COLOR"),
    "RGB": layout(smooth(0, 255, "u1", True), 8, "RGB"),
    "RGB of 16 bits": layout(smooth(0, 65535, "u2", True), 16, "RGB"),
    "YBR_FULL": layout(smooth(0, 255, "u1", True), 8, "YBR_FULL"),
}


def values_for(picture: PixelLayout) -> np.ndarray[Any, Any]:
    low = -(1 << picture.bits_stored - 1) if picture.signed else 0
    kind = f"{'i' if picture.signed else 'u'}{picture.bits_allocated // 8}"
    return smooth(low, low + (1 << picture.bits_stored) - 1, kind, picture.samples_per_pixel == 3)


def file_of(picture: PixelLayout, uid: str, stream: bytes) -> bytes:
    decoded = decoded_layout(picture, EXPLICIT_LITTLE)
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    dataset.Rows, dataset.Columns = picture.rows, picture.columns
    dataset.SamplesPerPixel = picture.samples_per_pixel
    dataset.PhotometricInterpretation = encoded_colour(decoded, ENCODINGS[uid])
    dataset.BitsAllocated, dataset.BitsStored = picture.bits_allocated, picture.bits_stored
    dataset.HighBit, dataset.PixelRepresentation = picture.high_bit, picture.pixel_representation
    if picture.samples_per_pixel == 3:
        dataset.PlanarConfiguration = 0
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(uid)
    out = io.BytesIO()
    pydicom.dcmwrite(out, dataset, enforce_file_format=True)
    return out.getvalue()


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("uid", LOSSLESS, ids=lambda uid: UID(uid).name.split(" Image")[0])
def test_a_lossless_syntax_gives_back_every_pixel(uid: str, name: str, tmp_path: Path) -> None:
    picture = PICTURES[name]
    values = values_for(picture)
    stream = encoded_frame(values.tobytes(), EXPLICIT_LITTLE, picture, uid, 90)
    written = file_of(picture, uid, stream)
    dataset = pydicom.dcmread(io.BytesIO(written))
    raw = name == "YBR_FULL"  # whose pixels are compared as they are, before any conversion
    if uid == encoders.JPEG_LOSSLESS:  # for which pydicom has no free decoder; DCMTK has
        pixels = decode_frame(stream, uid, replace(picture, photometric_interpretation="RGB") if raw else picture)
    else:
        pixels = pydicom.pixels.pixel_array(dataset, raw=raw)
    assert pixels.dtype.itemsize == values.dtype.itemsize
    assert np.array_equal(pixels, values)
    tool = shutil.which(DCMTK.get(uid, ""), path="/usr/bin")
    if tool is not None:
        source, target = tmp_path / "in.dcm", tmp_path / "out.dcm"
        source.write_bytes(written)
        options = ["+cn"] if tool.endswith("dcmdjpeg") else []  # components as they are
        subprocess.run([tool, *options, str(source), str(target)], check=True, capture_output=True, timeout=20)
        plain = pydicom.dcmread(target)
        order = int(plain.get("PlanarConfiguration", 0))
        cells = np.frombuffer(plain.PixelData, f"<u{values.dtype.itemsize}")[: values.size]
        mask = (1 << picture.bits_stored) - 1  # DCMTK leaves the bits above a JPEG-LS value empty
        shaped = cells.reshape(3, 37, 50).transpose(1, 2, 0) if order else cells.reshape(values.shape)
        assert np.array_equal(shaped & mask, values.view(cells.dtype) & mask)


def test_htj2k_says_the_true_precision_and_sends_its_resolutions_one_after_the_other() -> None:
    picture = PICTURES["10 of 16 bits"]
    values = np.tile(values_for(picture), (20, 5))
    wide = replace(picture, rows=values.shape[0], columns=values.shape[1])
    stream = encoded_frame(values.tobytes(), EXPLICIT_LITTLE, wide, encoders.HTJ2K_RPCL, 90)
    assert codestream_size(stream) == values.shape
    assert openjpeg.get_parameters(stream)["precision"] == 10
    assert np.array_equal(openjpeg.decode(stream), values)
    coding = stream.index(b"\xff\x52")
    assert stream[coding + 5] == 2  # RPCL, T.800 table A.16
    assert b"\xff\x55" in stream[:200]  # TLM
    assert stream.count(b"\xff\x90\x00\x0a") == 6  # a tile part for each resolution


@pytest.mark.parametrize("uid", [uid for uid in ENCODINGS if uid not in LOSSLESS], ids=lambda uid: UID(uid).name[:30])
@pytest.mark.parametrize("name", ["8 bits", "RGB", "12 of 16 bits signed"])
def test_a_lossy_syntax_comes_near_and_says_its_method(uid: str, name: str) -> None:
    picture = PICTURES[name]
    values = values_for(picture)
    values = np.sort(values, axis=0)
    if picture.signed and uid in (encoders.JPEG_BASELINE, encoders.JPEG_LS_NEAR):
        with pytest.raises(Unsupported):
            encoded_frame(values.tobytes(), EXPLICIT_LITTLE, picture, uid, 90)
        return
    coarse, fine = (encoded_frame(values.tobytes(), EXPLICIT_LITTLE, picture, uid, quality) for quality in (30, 95))
    assert len(coarse) < len(fine)
    coded = replace(picture, photometric_interpretation=encoded_colour(picture, ENCODINGS[uid]))
    error = np.abs(decode_frame(fine, uid, coded).astype(int) - values)
    assert error.mean() <= (1 << picture.bits_stored) / 64
    assert ENCODINGS[uid].method.startswith("ISO_")


@pytest.mark.parametrize("uid", LOSSLESS, ids=lambda uid: UID(uid).name[:30])
def test_one_lossless_syntax_becomes_another_without_a_change(uid: str) -> None:
    for name in ("12 of 16 bits signed", "RGB", "YBR_FULL"):
        picture = PICTURES[name]
        values = values_for(picture)
        first = encoded_frame(values.tobytes(), EXPLICIT_LITTLE, picture, RLE_LOSSLESS, 0)
        again = encoded_frame(first, RLE_LOSSLESS, picture, uid, 0)
        straight = encoded_frame(values.tobytes(), EXPLICIT_LITTLE, picture, uid, 0)
        assert again == straight


def test_bits_beside_the_pixels_survive_in_rle_and_are_refused_where_they_would_be_lost() -> None:
    picture = PICTURES["10 of 16 bits"]
    values = values_for(picture)
    values[3, 4] |= 1 << 15  # an overlay of old
    stream = encoded_frame(values.tobytes(), EXPLICIT_LITTLE, picture, RLE_LOSSLESS, 0)
    assert np.array_equal(decode_cells(stream, RLE_LOSSLESS, picture), values)
    for uid in LOSSLESS:
        if uid != RLE_LOSSLESS:
            with pytest.raises(Unsupported, match="more than the pixels"):
                encoded_frame(values.tobytes(), EXPLICIT_LITTLE, picture, uid, 0)


def test_what_an_encoder_got_wrong_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = PICTURES["8 bits"]
    values = values_for(picture)
    other = encoded_frame((values ^ 1).tobytes(), EXPLICIT_LITTLE, picture, RLE_LOSSLESS, 0)
    broken = replace(ENCODINGS[RLE_LOSSLESS], encode=lambda *_: other)
    monkeypatch.setitem(ENCODINGS, RLE_LOSSLESS, broken)
    with pytest.raises(Unsupported, match="not the same"):
        encoded_frame(values.tobytes(), EXPLICIT_LITTLE, picture, RLE_LOSSLESS, 0)


@pytest.mark.parametrize("kind", ["u4", "u1"])
def test_pixels_that_no_codec_here_holds_are_refused(kind: str) -> None:
    values = np.zeros((4, 8), kind)
    odd = layout(values, values.dtype.itemsize * 8)
    if kind == "u1":
        odd = replace(odd, bits_allocated=1, bits_stored=1, high_bit=0)
    for uid in ENCODINGS:
        with pytest.raises(Unsupported):
            encoded_frame(values.tobytes(), EXPLICIT_LITTLE, odd, uid, 90)


def test_a_frame_that_is_cut_is_no_image_in_any_syntax() -> None:
    with pytest.raises(InvalidInput):
        encoded_frame(b"\0" * 10, EXPLICIT_LITTLE, PICTURES["8 bits"], RLE_LOSSLESS, 0)


def test_what_is_only_read_is_read_too() -> None:
    """JPEG Lossless with another predictor (process 14), and JPEG XL, of which nothing here makes any."""
    for name in ("16 bits", "RGB"):
        picture = PICTURES[name]
        values = values_for(picture)
        colour = {"colorspace": "RGB", "outcolorspace": "RGB"} if values.ndim == 3 else {}
        jpeg = imagecodecs.jpeg8_encode(values, lossless=True, predictor=4, bitspersample=picture.bits_stored, **colour)
        assert np.array_equal(decode_frame(bytes(jpeg), "1.2.840.10008.1.2.4.57", picture), values)
        xl = bytes(imagecodecs.jpegxl_encode(values, lossless=True))
        assert np.array_equal(decode_frame(xl, "1.2.840.10008.1.2.4.110", picture), values)
        with pytest.raises(InvalidInput):
            decode_frame(xl, "1.2.840.10008.1.2.4.110", replace(picture, rows=20))
        with pytest.raises(InvalidInput):
            decode_frame(xl[:100], "1.2.840.10008.1.2.4.110", picture)
