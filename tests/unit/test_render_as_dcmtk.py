"""Images are shown as DCMTK shows them, within rounding: each case packs several steps (PS3.4 N.2)."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from hilum.archive.frames import Instance, instance_of
from hilum.archive.lookup import expanded
from hilum.archive.part10 import split
from hilum.archive.render import render, render_job
from hilum.core.errors import InvalidInput

TOOL = shutil.which("dcmj2pnm", path="/usr/bin")
CHANCE = np.random.default_rng(11)
needs_dcmtk = pytest.mark.skipif(TOOL is None, reason="needs DCMTK")
RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def opened(data: bytes) -> Instance:
    part = split(data)
    body = data[part.dataset_offset :]
    return instance_of(lambda offset, length: body[offset : offset + length], len(body), part.transfer_syntax_uid)


def ours(data: bytes, number: int = 1, **wishes: Any) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(render(render_job(opened(data), number, format="png", **wishes)))))


def theirs(path: Path, *options: str) -> np.ndarray[Any, Any]:
    out = path.with_suffix(".pnm")
    subprocess.run([str(TOOL), *options, str(path), str(out)], check=True, capture_output=True, timeout=20)
    return np.asarray(Image.open(out))


def image(pixels: np.ndarray[Any, Any], *, syntax: str = ExplicitVRLittleEndian, **attributes: Any) -> bytes:
    """A Part 10 file with native cells given as (rows, columns[, samples])."""
    dataset = Dataset()
    size = pixels.dtype.itemsize * 8
    big = syntax == ExplicitVRBigEndian
    values: dict[str, Any] = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "SOPInstanceUID": "1.2.3.4", "Rows": pixels.shape[0],
        "Columns": pixels.shape[1], "SamplesPerPixel": 3 if pixels.ndim == 3 else 1, "BitsAllocated": size,
        "PhotometricInterpretation": "MONOCHROME2", "BitsStored": size, "HighBit": size - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PixelData": pixels.astype(pixels.dtype.newbyteorder(">" if big else "<")).tobytes(),
    }  # fmt: skip
    for keyword, value in {**values, **attributes}.items():
        setattr(dataset, keyword, value)
    if len(dataset.PixelData) % 2:
        dataset.PixelData += b"\0"
    dataset["PixelData"].VR = "OW" if size > 8 else "OB"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    out = io.BytesIO()
    pydicom.dcmwrite(out, dataset, enforce_file_format=True)
    return out.getvalue()


def table(entries: np.ndarray[Any, Any], first: int, bits: int) -> Dataset:
    item = Dataset()
    item.add_new(0x00283002, "SS" if first < 0 else "US", [len(entries), first, bits])
    item.ModalityLUTType = "US"
    item.add_new(0x00283006, "OW", entries.astype("<u2").tobytes())
    return item


def plane(
    group: int, bits: np.ndarray[Any, Any], origin: tuple[int, int], kind: str = "G"
) -> dict[int, tuple[str, Any]]:
    """The elements of an overlay with data of its own."""
    packed = np.packbits(bits.astype(np.uint8).reshape(-1), bitorder="little").tobytes()
    return {
        group << 16 | 0x0010: ("US", bits.shape[0]), group << 16 | 0x0011: ("US", bits.shape[1]),
        group << 16 | 0x0040: ("CS", kind), group << 16 | 0x0050: ("SS", list(origin)),
        group << 16 | 0x0100: ("US", 1), group << 16 | 0x0102: ("US", 0),
        group << 16 | 0x3000: ("OW", packed + b"\0" * (len(packed) % 2)),
    }  # fmt: skip


def with_elements(data: bytes, elements: dict[int, tuple[str, Any]]) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(data))
    for tag, (vr, value) in elements.items():
        dataset.add_new(tag, vr, value)
    out = io.BytesIO()
    pydicom.dcmwrite(out, dataset)
    return out.getvalue()


def signed_with_high_bit_and_embedded_overlay() -> bytes:
    values = (RAMP.astype(np.int32) - 2048) & 0xFFF
    mark = np.zeros((64, 64), np.uint16)
    mark[10:20, 30:50] = 1
    cells = ((values << 3) | mark << 15 | 0x5).astype(np.uint16)
    data = image(cells, BitsStored=12, HighBit=14, PixelRepresentation=1, WindowCenter=-100, WindowWidth=1500,
                 RescaleSlope="0.5", RescaleIntercept="20")  # fmt: skip
    embedded = {0x60000010: ("US", 64), 0x60000011: ("US", 64), 0x60000040: ("CS", "G"), 0x60000050: ("SS", [1, 1]),
                0x60000100: ("US", 16), 0x60000102: ("US", 15)}  # fmt: skip
    return with_elements(data, embedded)


def overlays_of_both_kinds_beyond_the_edge() -> bytes:
    data = image(RAMP, BitsStored=12, HighBit=11, WindowCenter=2048, WindowWidth=4096)
    graphic = plane(0x6000, CHANCE.integers(0, 2, (30, 21)), (50, -4))
    region = plane(0x6002, np.ones((16, 64)), (5, 1), "R")
    return with_elements(with_elements(data, graphic), region)


def palette(entries: np.ndarray[Any, Any], bits: int, syntax: str = ExplicitVRLittleEndian) -> bytes:
    order = ">u2" if syntax == ExplicitVRBigEndian else "<u2"
    attributes: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for index, colour in enumerate(("Red", "Green", "Blue")):
        attributes[f"{colour}PaletteColorLookupTableDescriptor"] = [len(entries), 10, bits]
        attributes[f"{colour}PaletteColorLookupTableData"] = entries[:, index].astype(order).tobytes()
    return image(CHANCE.integers(0, 256, (32, 32)).astype(np.uint8), syntax=syntax, **attributes)


COLOURS = CHANCE.integers(0, 256, (16, 24, 3)).astype(np.uint8)
DARK_ABOVE = np.linspace(4095, 0, 3000).astype(np.uint16)
EIGHT_BITS = CHANCE.integers(0, 256, (200, 3))
Case = tuple[Callable[[], bytes], tuple[str, ...]]
CASES: dict[str, Case] = {
    "monochrome 1 by a sigmoid of implicit VR": (
        lambda: image(RAMP, syntax=ImplicitVRLittleEndian, PhotometricInterpretation="MONOCHROME1", BitsStored=12,
                      HighBit=11, WindowCenter=900, WindowWidth=700, VOILUTFunction="SIGMOID"),
        ("+Wi", "1", "+Wfs"),
    ),
    "inverse presentation of big endian without a window": (
        lambda: image(RAMP, syntax=ExplicitVRBigEndian, PresentationLUTShape="INVERSE", BitsStored=12, HighBit=11),
        ("+Wm", "+Piv"),
    ),
    "a modality table, then a window": (
        lambda: image(RAMP, BitsStored=12, HighBit=11, ModalityLUTSequence=[table(DARK_ABOVE, 200, 12)],
                      WindowCenter=1500, WindowWidth=1000),
        ("+Wi", "1"),
    ),
    "a VOI table of rescaled negative values": (
        lambda: image(RAMP, BitsStored=12, HighBit=11, RescaleSlope=1, RescaleIntercept=-1024,
                      VOILUTSequence=[table(DARK_ABOVE, -1024, 12)]),
        ("+Wl", "1"),
    ),
    "signed, high bit, rescale, overlay in an unused bit": (
        signed_with_high_bit_and_embedded_overlay,
        ("+Wi", "1"),
    ),
    "overlays of both kinds": (overlays_of_both_kinds_beyond_the_edge, ("+Wi", "1")),
    "a palette of 16 bits": (lambda: palette(CHANCE.integers(0, 65536, (200, 3)), 16), ()),
    "a palette of 8 bits in big endian": (lambda: palette(EIGHT_BITS, 8, ExplicitVRBigEndian), ()),
    "colour by plane": (
        lambda: image(COLOURS, PhotometricInterpretation="RGB", PlanarConfiguration=1,
                      PixelData=COLOURS.transpose(2, 0, 1).tobytes()),
        (),
    ),
    "YBR_FULL by plane": (
        lambda: image(COLOURS, PhotometricInterpretation="YBR_FULL", PlanarConfiguration=1,
                      PixelData=COLOURS.transpose(2, 0, 1).tobytes()),
        (),
    ),
    "YBR_FULL_422": (
        lambda: image(COLOURS, PhotometricInterpretation="YBR_FULL_422", PlanarConfiguration=0,
                      PixelData=COLOURS.reshape(-1)[: 16 * 24 * 2].tobytes()),
        (),
    ),
    "32 bits signed": (
        lambda: image(CHANCE.integers(-(2**30), 2**30, (16, 16)).astype(np.int32)),
        ("+Wm",),
    ),
}  # fmt: skip


@needs_dcmtk
@pytest.mark.parametrize("name", CASES)
def test_an_image_looks_as_dcmtk_shows_it(name: str, tmp_path: Path) -> None:
    make, options = CASES[name]
    path = tmp_path / "image.dcm"
    path.write_bytes(make())
    result, expected = ours(path.read_bytes()), theirs(path, *options)
    assert result.shape == expected.shape
    rounding = 2 if "YBR" in name else 1  # DCMTK adds up three tables of whole numbers there
    assert np.abs(result.astype(int) - expected).max() <= rounding


@needs_dcmtk
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("examples_overlay.dcm", ("+Wi", "1")),
        ("SC_rgb_small_odd_big_endian.dcm", ()),
        ("examples_palette.dcm", ()),
        ("MR_small_bigendian.dcm", ("+Wi", "1")),
        ("dicomdirtests/77654033/CR1/6154", ("+Wi", "1")),
        ("JPEG-lossy.dcm", ("+Wm",)),
        ("rtdose_rle_1frame.dcm", ("+Wm",)),
        ("SC_rgb_jpeg_gdcm.dcm", ()),
    ],
)
def test_a_file_that_pydicom_ships_looks_as_dcmtk_shows_it(name: str, options: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "image.dcm"
    path.write_bytes(Path(str(get_testdata_file(name))).read_bytes())
    expected = theirs(path, *options)
    assert np.abs(ours(path.read_bytes()).astype(int) - expected).max() <= 1


def test_a_frame_is_shown_with_the_window_of_its_functional_group(tmp_path: Path) -> None:
    shared, own, window = Dataset(), Dataset(), Dataset()
    window.VOILUTSequence = [table(np.array([0, 4095, 0]), 99, 12)]
    own.FrameVOILUTSequence = [window]
    shared.PixelValueTransformationSequence = [Dataset()]
    shared.PixelValueTransformationSequence[0].RescaleSlope = 2
    shared.PixelValueTransformationSequence[0].RescaleIntercept = 0
    data = image(
        np.array([[49, 50, 51]], np.uint16), WindowCenter=0, WindowWidth=1,
        SharedFunctionalGroupsSequence=[shared], PerFrameFunctionalGroupsSequence=[own],
    )  # fmt: skip
    assert ours(data).tolist() == [[0, 255, 0]]


def test_padding_is_no_value_and_pixels_that_are_not_square_fill_a_viewport_by_their_shape() -> None:
    cells = np.array([[5000, 100], [200, 4990]], np.uint16)
    data = image(cells, PixelPaddingValue=5000, PixelPaddingRangeLimit=4990, PixelAspectRatio=[2, 1])
    assert ours(data)[0, 1] == 0
    assert ours(data)[1, 0] == 255
    assert ours(data, size=(100, 100)).shape == (100, 50)
    assert ours(data).shape == (2, 2)


def test_single_bits_of_a_segmentation_are_black_and_white_even_where_all_are_off() -> None:
    data = image(np.zeros((4, 8), np.uint8), BitsAllocated=1, BitsStored=1, HighBit=0, PixelData=b"\0\0\xff\0")
    assert np.unique(ours(data)[:2]).tolist() == [0]
    assert np.unique(ours(data)[2]).tolist() == [255]


def test_a_multi_frame_overlay_is_drawn_on_its_frames_and_a_cut_one_on_none() -> None:
    frames = np.zeros((3, 4, 4), np.uint8)
    data = image(frames[0], NumberOfFrames=3, PixelData=frames.tobytes(), WindowCenter=128, WindowWidth=256)
    bits = np.zeros((2, 4, 4), np.uint8)
    bits[0, 1, 1] = bits[1, 2, 2] = 1
    elements = plane(0x6010, bits.reshape(8, 4), (1, 1))
    elements |= {0x60100010: ("US", 4), 0x60100015: ("IS", "2"), 0x60100051: ("US", 2)}
    drawn = [ours(with_elements(data, elements), number) for number in (1, 2, 3)]
    assert [each.nonzero()[0].tolist() for each in drawn] == [[], [1], [2]]
    cut = with_elements(data, elements | {0x60103000: ("OW", b"\xff\xff")})
    assert not ours(cut, 3).any()


def test_segmented_palettes_are_written_out_and_what_is_none_is_refused() -> None:
    discrete, line = [0, 3, 10, 20, 30], [1, 4, 70]
    assert expanded([*discrete, *line], 7) == [10, 20, 30, 40, 50, 60, 70]
    again = [2, 2, 0, 0]  # both segments from byte 0 on
    assert expanded([*discrete, *line, *again], 14) == [10, 20, 30, 40, 50, 60, 70] * 2
    assert expanded([*discrete, *line, 2, 1, 0, 0, 0, 0], 10, size=1) == [10, 20, 30, 40, 50, 60, 70, 10, 20, 30]
    for broken in ([1, 4, 70], [9, 1, 2], [*discrete, 2, 9, 10, 0]):
        with pytest.raises(InvalidInput):
            expanded(broken, 100)


def test_a_palette_without_entries_is_refused_by_name() -> None:
    data = image(np.zeros((2, 2), np.uint8), PhotometricInterpretation="PALETTE COLOR")
    with pytest.raises(InvalidInput) as refusal:
        ours(data)
    assert refusal.value.field == "RedPaletteColorLookupTableDescriptor"
