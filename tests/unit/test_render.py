"""Frames are cut out, decoded and shown as DICOM says, whatever the encoding; strangers' bytes can't hurt."""

from __future__ import annotations

import io
import os
import random
import signal
import struct
import threading
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.pixels.processing import apply_color_lut, apply_voi_lut, apply_windowing
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from hilum.archive.codecs import codestream_size, decode_frame, layout_of
from hilum.archive.file_blobs import FileBlobs
from hilum.archive.frames import Instance, instance_of, instance_opener
from hilum.archive.landing import open_landing, record_of
from hilum.archive.part10 import file_prefix, split
from hilum.archive.render import render, render_job, thumbnail_job
from hilum.archive.render_pool import RenderPool, from_messages, to_messages
from hilum.archive.rendered_cache import RenderedCache, key_of
from hilum.archive.voi import Window, windowed
from hilum.core.errors import (
    DeadlineExceeded,
    HilumError,
    InvalidInput,
    NotFound,
    TooLarge,
    Unavailable,
    Unsupported,
)

CHANCE = np.random.default_rng(5)


def opened(data: bytes, syntax: str | None = None) -> Instance:
    """An instance opened from memory; with a transfer syntax `data` is a bare data set."""
    if syntax is None:
        part = split(data)
        data, syntax = data[part.dataset_offset :], part.transfer_syntax_uid
    return instance_of(lambda offset, length: data[offset : offset + length], len(data), syntax)


def sample(name: str) -> Instance:
    return opened(Path(str(get_testdata_file(name))).read_bytes())


def image(
    pixels: np.ndarray[Any, Any] | None = None, *, syntax: str = ExplicitVRLittleEndian, **attributes: Any
) -> Instance:
    """An instance with native pixels given as (frames, rows, columns) or with attributes that say all themselves."""
    dataset = Dataset()
    values: dict[str, Any] = {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"}
    if pixels is not None:
        big = syntax == ExplicitVRBigEndian
        size = pixels.dtype.itemsize * 8
        values |= {
            "NumberOfFrames": len(pixels), "Rows": pixels.shape[1], "Columns": pixels.shape[2],
            "BitsAllocated": size, "BitsStored": size, "HighBit": size - 1,
            "PixelRepresentation": int(pixels.dtype.kind == "i"),
            "PixelData": pixels.astype(pixels.dtype.newbyteorder(">" if big else "<")).tobytes(),
        }  # fmt: skip
    for keyword, value in {**values, **attributes}.items():
        setattr(dataset, keyword, value)
    vr = (
        "OB"
        if values.get("BitsAllocated", 8) <= 8 or syntax not in (ExplicitVRLittleEndian, ExplicitVRBigEndian)
        else "OW"
    )
    if "PixelData" in dataset:
        dataset["PixelData"].VR = vr
        dataset["PixelData"].is_undefined_length = pydicom.uid.UID(syntax).is_encapsulated
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmwrite(
            out, dataset, implicit_vr=False, little_endian=syntax != ExplicitVRBigEndian, enforce_file_format=False
        )
    return opened(out.getvalue(), syntax)


def shown(instance: Instance, number: int = 1, **wishes: Any) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(render(render_job(instance, number, format="png", **wishes)))))


def decoded(instance: Instance, number: int = 1) -> np.ndarray[Any, Any]:
    return decode_frame(instance.frame(number), instance.frame_syntax, layout_of(instance.attributes))


NOT_SHOWN = {
    "JPEG2000-embedded-sequence-delimiter.dcm": InvalidInput,  # its codestream claims a size of gigapixels
    "MR_truncated.dcm": InvalidInput,
    "nested_priv_SQ.dcm": InvalidInput,
    "no_meta.dcm": InvalidInput,
    "meta_missing_tsyntax.dcm": InvalidInput,
    "rtplan_truncated.dcm": InvalidInput,
}
IMAGES = sorted((Path(pydicom.data.__file__).parent / "test_files").glob("*.dcm"))


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.name)
def test_every_image_that_pydicom_ships_is_shown_in_its_size_and_all_else_is_refused(path: Path) -> None:
    if path.name in NOT_SHOWN:
        with pytest.raises(NOT_SHOWN[path.name]):
            shown(opened(path.read_bytes()))
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = pydicom.dcmread(path, force=True)
    if "PixelData" not in header:
        with pytest.raises(Unsupported):
            opened(path.read_bytes())
        return
    pixels = shown(opened(path.read_bytes()))
    assert pixels.shape[:2] == (header.Rows, header.Columns)
    colour = header.SamplesPerPixel == 3 or header.PhotometricInterpretation == "PALETTE COLOR"
    assert pixels.ndim == (3 if colour else 2)


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm", "examples_jpeg2k.dcm"])
def test_decoded_pixels_are_pydicoms_pixels(name: str) -> None:
    theirs = pydicom.dcmread(str(get_testdata_file(name))).pixel_array
    assert np.array_equal(decoded(sample(name)), theirs)


SIXTEEN = CHANCE.integers(0, 4096, (1, 40, 30)).astype(np.uint16)
SIXTEEN[0, :20] //= 64


def _rle(pixels: np.ndarray[Any, Any]) -> bytes:
    from pydicom.pixels.encoders.base import get_encoder

    rows, columns = pixels.shape
    return get_encoder(RLELossless).encode(
        pixels.tobytes(), rows=rows, columns=columns, samples_per_pixel=1, number_of_frames=1, bits_allocated=16,
        bits_stored=16, pixel_representation=0, photometric_interpretation="MONOCHROME2",
    )  # fmt: skip


ENCODERS = {
    JPEGLosslessSV1: lambda p: imagecodecs.jpeg8_encode(p, lossless=True, bitspersample=16),
    JPEGLSLossless: imagecodecs.jpegls_encode,
    JPEG2000Lossless: lambda p: imagecodecs.jpeg2k_encode(p, reversible=True, codecformat="j2k"),
    HTJ2KLossless: imagecodecs.htj2k_encode,
    RLELossless: _rle,
}


@pytest.mark.parametrize("syntax", ENCODERS, ids=lambda syntax: syntax.name)
def test_lossless_codecs_give_back_every_bit(syntax: str) -> None:
    stream = bytes(ENCODERS[syntax](SIXTEEN[0]))  # type: ignore[index]
    instance = image(SIXTEEN, syntax=syntax, PixelData=encapsulate([stream]))
    assert np.array_equal(decoded(instance), SIXTEEN[0])
    assert instance.frame(1).rstrip(b"\0") == stream.rstrip(b"\0")


def test_lossless_jpeg_of_signed_pixels_keeps_their_sign() -> None:
    signed = CHANCE.integers(-2000, 2000, (1, 20, 20)).astype(np.int16)
    stream = imagecodecs.jpeg8_encode(signed[0].view(np.uint16), lossless=True, bitspersample=16)
    assert np.array_equal(decoded(image(signed, syntax=JPEGLosslessSV1, PixelData=encapsulate([stream]))), signed[0])


def test_a_window_is_applied_as_the_standard_computes_it() -> None:
    instance = sample("CT_small.dcm")
    header = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    header.WindowCenter, header.WindowWidth = 40, 400
    hounsfield = header.pixel_array * float(header.RescaleSlope) + float(header.RescaleIntercept)
    theirs = apply_windowing(hounsfield, header)
    low, high = theirs.min(), theirs.max()
    ours = shown(instance, window=Window(40, 400)).astype(float)
    assert np.abs(ours - (theirs - low) / (high - low) * 255).max() <= 1
    assert ours.min() == 0
    assert ours.max() == 255


def test_the_three_window_functions_follow_ps3_3() -> None:
    values = np.array([-1000.0, 0, 50, 99, 100, 1000])
    assert windowed(values, Window(50, 100)).tolist() == [0, 0, 129, 255, 255, 255]
    assert windowed(values, Window(50, 100, "LINEAR_EXACT")).tolist() == [0, 0, 128, 252, 255, 255]
    assert windowed(values, Window(50, 100, "SIGMOID")).tolist() == [0, 30, 128, 224, 225, 255]
    assert windowed(np.array([1.0, 2.0]), Window(2, 1)).tolist() == [0, 255]
    for center, width, function in ((0, 0, "LINEAR"), (0, 0.5, "LINEAR"), (float("nan"), 1, "LINEAR"), (0, 1, "OTHER")):
        with pytest.raises(InvalidInput):
            Window(center, width, function)


def test_the_headers_window_is_used_and_a_useless_one_is_not() -> None:
    ramp = np.arange(1000, dtype=np.uint16).reshape(1, 10, 100)
    stated = shown(image(ramp, WindowCenter=[500, 1], WindowWidth=[100, 1]))
    assert (stated[0, 0], stated[5, 0], stated[9, 99]) == (0, 129, 255)
    for useless in ({"WindowCenter": 500, "WindowWidth": 0}, {}):
        fitted = shown(image(ramp, **useless))
        assert (fitted[0, 0], fitted[9, 99]) == (0, 255)
        assert abs(int(fitted[5, 0]) - 128) <= 1


def test_padding_does_not_stretch_the_fitted_window() -> None:
    pixels = np.full((1, 10, 10), -2000, dtype=np.int16)
    pixels[0, 5:] = np.arange(50).reshape(5, 10)
    result = shown(image(pixels, PixelPaddingValue=-2000))
    assert result[9, 9] == 255
    assert result[5, 0] == 0


def test_monochrome1_is_shown_inverted() -> None:
    pixels = CHANCE.integers(0, 256, (1, 8, 8)).astype(np.uint8)
    normal = shown(image(pixels))
    assert np.array_equal(normal, pixels[0])
    assert np.array_equal(shown(image(pixels, PhotometricInterpretation="MONOCHROME1")), 255 - normal)


def test_a_palette_is_applied() -> None:
    header = pydicom.dcmread(str(get_testdata_file("examples_palette.dcm")))
    theirs = apply_color_lut(header.pixel_array, header)
    ours = shown(sample("examples_palette.dcm"))
    assert np.abs(ours.astype(int) - theirs // 257).max() <= 1


def test_colour_by_plane_and_colour_of_16_bits_are_shown() -> None:
    rgb = CHANCE.integers(0, 256, (5, 7, 3)).astype(np.uint8)
    common = {
        "Rows": 5,
        "Columns": 7,
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "RGB",
        "PixelRepresentation": 0,
    }
    by_plane = image(
        BitsAllocated=8, BitsStored=8, HighBit=7, PlanarConfiguration=1,
        PixelData=rgb.transpose(2, 0, 1).tobytes() + b"\0", **common,
    )  # fmt: skip
    assert np.array_equal(shown(by_plane), rgb)
    deep = image(
        BitsAllocated=16, BitsStored=16, HighBit=15, PlanarConfiguration=0,
        PixelData=(rgb.astype(np.uint16) * 257).tobytes(), **common,
    )  # fmt: skip
    assert np.array_equal(shown(deep), rgb)


def test_jpeg_colour_comes_out_in_its_colours() -> None:
    pixels = shown(sample("SC_rgb_jpeg_dcmtk.dcm"))
    red, green, blue = pixels[5, 50], pixels[25, 50], pixels[45, 50]
    for colour, channel in ((red, 0), (green, 1), (blue, 2)):
        assert colour[channel] > 240
        assert np.delete(colour, channel).max() < 20


@pytest.mark.parametrize(
    "pixels",
    [
        CHANCE.integers(-(2**30), 2**30, (2, 6, 6)).astype(np.int32),
        CHANCE.integers(0, 2**32, (2, 6, 6)).astype(np.uint32),
        CHANCE.integers(-128, 128, (2, 6, 6)).astype(np.int8),
    ],
    ids=["int32", "uint32", "int8"],
)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_values_of_every_width_are_spread_from_black_to_white(pixels: np.ndarray[Any, Any], syntax: str) -> None:
    instance = image(pixels, syntax=syntax)
    for number in (1, 2):
        assert np.array_equal(decoded(instance, number), pixels[number - 1])
        result = shown(instance, number)
        assert result.flat[pixels[number - 1].argmin()] == 0
        assert result.flat[pixels[number - 1].argmax()] == 255


def test_floating_point_pixels_are_shown() -> None:
    values = np.linspace(-1, 1, 64, dtype=np.float32)
    values[3] = np.nan
    instance = image(Rows=8, Columns=8, BitsAllocated=32, FloatPixelData=values.tobytes())
    result = shown(instance)
    assert (result[0, 0], result[7, 7]) == (0, 255)


def test_frames_of_single_bits_begin_anywhere_and_come_out_on_a_byte() -> None:
    bits = CHANCE.integers(0, 2, (3, 5, 7)).astype(np.uint8)
    packed = np.packbits(bits.reshape(-1), bitorder="little").tobytes()
    instance = image(
        Rows=5, Columns=7, BitsAllocated=1, BitsStored=1, HighBit=0, PixelRepresentation=0, NumberOfFrames=3,
        PixelData=packed,
    )  # fmt: skip
    for number in (1, 2, 3):
        expected = bits[number - 1]
        assert instance.frame(number) == np.packbits(expected.reshape(-1), bitorder="little").tobytes()
        assert np.array_equal(shown(instance, number), expected * 255)


def test_a_voi_lut_is_used_where_no_window_is_given() -> None:
    table = Dataset()
    table.LUTDescriptor = [256, 0, 8]
    table.LUTData = list(range(255, -1, -1))
    table["LUTDescriptor"].VR = "US"
    table["LUTData"].VR = "US"
    pixels = np.arange(64, dtype=np.uint16).reshape(1, 8, 8)
    instance = image(pixels, VOILUTSequence=[table])
    header = Dataset()
    header.VOILUTSequence = [table]
    assert np.array_equal(shown(instance), apply_voi_lut(pixels[0].astype(int), header))


def test_each_frame_of_an_enhanced_image_has_its_own_window_and_rescale() -> None:
    def group(center: float, intercept: float | None) -> Dataset:
        item, voi, values = Dataset(), Dataset(), Dataset()
        voi.WindowCenter, voi.WindowWidth = center, 100
        item.FrameVOILUTSequence = [voi]
        if intercept is not None:
            values.RescaleIntercept, values.RescaleSlope = intercept, 1
            item.PixelValueTransformationSequence = [values]
        return item

    pixels = np.full((3, 4, 4), 100, dtype=np.uint16)
    shared = group(0, -50)
    del shared.FrameVOILUTSequence
    instance = image(
        pixels,
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=[group(50, None), group(1000, None), group(50, 0)],
    )
    assert [int(shown(instance, n)[0, 0]) for n in (1, 2, 3)] == [129, 0, 255]


def test_an_image_is_fitted_into_the_viewport_with_its_shape_kept() -> None:
    instance = image(np.zeros((1, 100, 400), dtype=np.uint8))
    assert shown(instance, size=(100, 100)).shape == (25, 100)
    assert shown(instance, size=(8000, 50)).shape == (50, 200)
    assert shown(instance, size=(1, 1)).shape == (1, 1)


def test_a_jpeg_is_a_jpeg_and_quality_has_an_effect() -> None:
    instance = sample("CT_small.dcm")
    coarse, fine = (render(render_job(instance, quality=quality)) for quality in (20, 95))
    assert coarse[:2] == fine[:2] == b"\xff\xd8"
    assert len(coarse) < len(fine)


def test_a_thumbnail_is_small_and_of_the_middle_frame() -> None:
    job = thumbnail_job(sample("examples_ybr_color.dcm"), (64, 64))
    assert job.number == 15
    thumbnail = Image.open(io.BytesIO(render(job)))
    assert (thumbnail.format, thumbnail.size) == ("JPEG", (64, 48))


@pytest.mark.parametrize(
    "wishes",
    [
        {"quality": 0},
        {"quality": 101},
        {"size": (0, 10)},
        {"size": (10, 100_000)},
        {"format": "gif"},
        {"number": 2},
        {"number": 0},
    ],
)
def test_wishes_out_of_bounds_are_refused(wishes: dict[str, Any]) -> None:
    with pytest.raises((InvalidInput, Unsupported, NotFound)):
        render_job(sample("CT_small.dcm"), **wishes)


# ---- frames


STREAMS = [b"\xff\xd8" + os.urandom(50) * n for n in (1, 2, 3, 4)]


def _fragments(frames: list[list[bytes]], table: bytes = b"") -> bytes:
    item = struct.Struct("<HHI")
    out = item.pack(0xFFFE, 0xE000, len(table)) + table
    for fragment in (f for frame in frames for f in frame):
        out += item.pack(0xFFFE, 0xE000, len(fragment)) + fragment
    return out


def compressed(pixel_data: bytes, count: int = 4, **attributes: Any) -> Instance:
    base = {"Rows": 1, "Columns": 1, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0}
    return image(syntax=JPEGBaseline8Bit, **(base | {"NumberOfFrames": count, "PixelData": pixel_data} | attributes))


def test_frames_are_found_by_offset_table_extended_table_or_fragments() -> None:
    extended = encapsulate_extended(STREAMS)
    for instance in (
        compressed(encapsulate(STREAMS, has_bot=True)),
        compressed(encapsulate(STREAMS, has_bot=False)),
        compressed(encapsulate(STREAMS, has_bot=True, fragments_per_frame=2)),
        compressed(encapsulate(STREAMS, has_bot=False, fragments_per_frame=3)),
        compressed(extended[0], ExtendedOffsetTable=extended[1], ExtendedOffsetTableLengths=extended[2]),
    ):
        assert [instance.frame(n).rstrip(b"\0") for n in (1, 2, 3, 4)] == [s.rstrip(b"\0") for s in STREAMS]
        assert instance.frame_syntax == JPEGBaseline8Bit


def test_a_wrong_offset_table_is_not_believed() -> None:
    frames = [[b"\xff\xd8" + bytes([n]) * 10] for n in range(4)]
    table = struct.pack("<4I", 0, 0, 0, 0)
    assert compressed(_fragments(frames, table)).frame(3) == frames[2][0]


def test_one_frame_in_many_fragments_is_joined_and_a_missing_delimiter_is_forgiven() -> None:
    data = _fragments([[b"ab", b"cd", b"efgh"]])
    assert compressed(data, 1).frame(1) == b"abcdefgh"


@pytest.mark.parametrize("count", [-1, 3, 5, 2_000_000])
def test_a_number_of_frames_that_can_not_be_is_refused(count: int) -> None:
    data = _fragments([[b"\xff\xd8ab"]] * 4)
    with pytest.raises(InvalidInput):
        compressed(data, count).frame(max(count, 1))


def test_native_frames_that_are_not_all_there_are_not_counted() -> None:
    pixels = np.zeros((2, 4, 4), dtype=np.uint16)
    instance = image(pixels, NumberOfFrames=5)
    assert instance.table.count == 2
    with pytest.raises(NotFound):
        instance.frame(3)


def test_big_endian_frames_are_handed_out_little_endian() -> None:
    pixels = CHANCE.integers(0, 65536, (2, 3, 4)).astype(np.uint16)
    instance = image(pixels, syntax=ExplicitVRBigEndian)
    assert instance.frame_syntax == ExplicitVRLittleEndian
    assert instance.frame(2) == pixels[1].astype("<u2").tobytes()


def test_a_deflated_image_is_opened_inflated() -> None:
    instance = sample("image_dfl.dcm")
    assert instance.frame_syntax == ExplicitVRLittleEndian
    assert pydicom.uid.UID(DeflatedExplicitVRLittleEndian).is_deflated
    assert len(instance.frame(1)) == 512 * 512


def test_a_frame_of_a_stored_instance_costs_its_header_and_itself_and_no_more(tmp_path: Path) -> None:
    read: list[int] = []

    class Counting(FileBlobs):
        """Counts what is read of it."""

        def get_range(self, key: str, offset: int, length: int) -> bytes:
            read.append(length)
            return super().get_range(key, offset, length)

    store = Counting(tmp_path)
    frames = [b"\xff\xd8" + os.urandom(200_000) for _ in range(30)]
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2", "1.3"
    dataset.ImageComments = "x" * 9000
    dataset.NumberOfFrames = 30
    dataset.Rows = dataset.Columns = 512
    dataset.BitsAllocated = 8
    dataset.PixelData = encapsulate(frames, has_bot=True)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    out = io.BytesIO()
    pydicom.dcmwrite(out, dataset, implicit_vr=False, little_endian=True, enforce_file_format=False)
    landing = open_landing(store, "tester")
    location = landing.append(
        record_of(
            file_prefix("1.2", "1.3", JPEGBaseline8Bit), out.getvalue(),
            received_at=datetime.now(UTC), source="us", door="dimse",
        )
    )  # fmt: skip
    landing.close()
    open_one = instance_opener(store)
    assert open_one(location).frame(17).rstrip(b"\0") == frames[16].rstrip(b"\0")
    assert sum(read) < 700_000
    read.clear()
    assert open_one(location).frame(29).rstrip(b"\0") == frames[28].rstrip(b"\0")
    assert sum(read) < 210_000


def test_a_header_longer_than_the_first_read_is_read_on() -> None:
    pixels = CHANCE.integers(0, 256, (1, 4, 4)).astype(np.uint8)
    blocks = [Dataset() for _ in range(3)]
    for number, block in enumerate(blocks):
        block.TextValue = str(number) * 30_000
        block.EncapsulatedDocument = bytes(200_000)
    instance = image(pixels, ContentSequence=blocks)
    assert instance.frame(1) == pixels.tobytes()
    assert len(instance.header) > 600_000


# ---- hostile bytes


def test_a_codestream_of_another_size_than_the_header_is_never_decoded() -> None:
    bomb = imagecodecs.jpeg8_encode(np.zeros((3000, 3000), dtype=np.uint8))
    assert codestream_size(bomb) == (3000, 3000)
    instance = compressed(encapsulate([bomb]), 1, Rows=10, Columns=10)
    with pytest.raises(InvalidInput, match="another size"):
        shown(instance)
    with pytest.raises(InvalidInput, match="not a codestream"):
        shown(compressed(encapsulate([b"GIF89a......"]), 1, Rows=10, Columns=10))


def test_an_image_of_gigapixels_is_refused_before_any_memory_is_taken() -> None:
    instance = compressed(encapsulate([b"\xff\xd8xx"]), 1, Rows=65535, Columns=65535)
    with pytest.raises(TooLarge):
        render_job(instance)


@pytest.mark.parametrize(
    "attributes",
    [{"PhotometricInterpretation": "CMYK"}, {"BitsAllocated": 12}, {"SamplesPerPixel": 3}, {"Rows": 0}],
)
def test_images_of_impossible_kinds_are_refused_by_name(attributes: dict[str, Any]) -> None:
    with pytest.raises((Unsupported, InvalidInput)) as refusal:
        render_job(image(np.zeros((1, 4, 4), dtype=np.uint8), **attributes))
    assert refusal.value.field


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless], ids=lambda syntax: syntax.name)
def test_a_frame_that_is_cut_is_refused_and_not_filled_up_with_grey(syntax: str) -> None:
    stream = bytes(ENCODERS[syntax](SIXTEEN[0]))  # type: ignore[index]
    with pytest.raises(InvalidInput, match="cut"):
        shown(image(SIXTEEN, syntax=syntax, PixelData=encapsulate([stream[: len(stream) * 2 // 3]])))


def test_damaged_frames_of_every_codec_are_refused_and_nothing_else(pool: RenderPool) -> None:
    chance = random.Random(3)
    for syntax, encode in ENCODERS.items():
        stream = bytearray(encode(SIXTEEN[0]))  # type: ignore[no-untyped-call]
        for _ in range(12):
            damaged = bytearray(stream)
            for _ in range(chance.randint(1, 6)):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            cut = chance.choice([len(damaged), chance.randrange(8, len(damaged))])
            instance = image(SIXTEEN, syntax=syntax, PixelData=encapsulate([bytes(damaged[:cut])]))
            try:
                pool.render(render_job(instance))
            except HilumError:
                continue


# ---- the pool


@pytest.fixture(scope="module")
def pool() -> Iterator[RenderPool]:
    pool = RenderPool(workers=1, seconds=60, kept_bytes=0)
    yield pool
    pool.close()


def test_the_pool_shows_what_this_process_shows(pool: RenderPool) -> None:
    job = render_job(sample("CT_small.dcm"), window=Window(40, 400, "SIGMOID"), size=(64, 64), format="png")
    assert from_messages(*to_messages(job)) == job
    assert pool.render(job) == render(job)


def test_a_refusal_comes_through_the_pool_as_itself(pool: RenderPool) -> None:
    instance = compressed(encapsulate([b"\xff\xd8xx"]), 1, Rows=10, Columns=10)
    with pytest.raises(InvalidInput) as refusal:
        pool.render(render_job(instance))
    assert refusal.value.field == "PixelData"


def test_a_worker_that_dies_costs_one_request(pool: RenderPool) -> None:
    job = render_job(sample("CT_small.dcm"))
    pool.render(job)
    [worker] = pool._idle
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(Unavailable):
        pool.render(job)
    assert pool.render(job)
    assert pool._idle[0].pid != worker.pid


def test_a_worker_that_hangs_is_ended_in_time_and_others_waiting_are_told(pool: RenderPool) -> None:
    job = render_job(sample("CT_small.dcm"))
    pool.render(job)
    [worker] = pool._idle
    os.kill(worker.pid, signal.SIGSTOP)
    outcomes: list[type[Exception]] = []

    def ask(seconds: float) -> None:
        try:
            pool.render(job, seconds=seconds)
        except HilumError as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=ask, args=(seconds,)) for seconds in (2.0, 0.3)]
    threads[0].start()
    time.sleep(0.1)
    threads[1].start()
    for thread in threads:
        thread.join()
    assert outcomes == [Unavailable, DeadlineExceeded]
    assert pool.render(job)
    assert not Path(f"/proc/{worker.pid}").exists()


def test_a_closed_pool_leaves_no_process() -> None:
    pool = RenderPool(workers=1, kept_bytes=0)
    pool.render(render_job(sample("MR_small.dcm")))
    pid = pool._idle[0].pid
    pool.close()
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(Unavailable):
        pool.render(render_job(sample("MR_small.dcm")))


# ---- what was rendered lately


def test_what_was_rendered_is_kept_until_there_is_no_room_and_only_for_the_very_same_wish() -> None:
    cache = RenderedCache(most_bytes=100)
    keys = [key_of([b"wish", bytes([n])]) for n in range(4)]
    assert key_of([b"ab", b"c"]) != key_of([b"a", b"bc"])
    for key in keys[:3]:
        cache.put(key, bytes(33))
    assert cache.get(keys[0]) == bytes(33)
    cache.put(keys[3], bytes(40))
    assert [cache.get(key) is not None for key in keys] == [True, False, False, True]
    cache.put(keys[1], bytes(101))
    assert cache.get(keys[1]) is None, "larger than all the room"


def test_an_image_that_is_asked_for_again_takes_no_process() -> None:
    pool = RenderPool(workers=1)
    job = render_job(sample("CT_small.dcm"))
    first = pool.render(job)
    [worker] = pool._idle
    done = worker.jobs
    assert pool.render(job) == first
    assert worker.jobs == done
    assert pool.render(render_job(sample("CT_small.dcm"), quality=50)) != first
    assert worker.jobs == done + 1
    pool.close()
