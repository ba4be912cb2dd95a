"""Whole instances in other transfer syntaxes: the pixels, all other attributes, and what a validator says of them."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from hilum.archive import encoders
from hilum.archive.encoders import LOSSLESS
from hilum.archive.frames import Instance, instance_of
from hilum.archive.part10 import EXPLICIT_LITTLE, IMPLICIT_LITTLE, file_prefix, split
from hilum.archive.render import RenderJob, render
from hilum.archive.transcode import derived_uid, transcoded
from hilum.core.errors import HilumError, InvalidInput, Unsupported

VALIDATOR = shutil.which("dciodvfy", path="/usr/bin")
TARGETS = (EXPLICIT_LITTLE, IMPLICIT_LITTLE, *LOSSLESS)
# Each is stored in another way: signed, big endian, by plane, palette, deflated, RLE in two frames, lossy with a
# subsampled colour, JPEG 2000 with its transformation, JPEG-LS, JPEG lossless, and with many frames.
FILES = (
    "CT_small.dcm", "MR_small_bigendian.dcm", "ExplVR_BigEnd.dcm", "SC_rgb_small_odd_big_endian.dcm",
    "examples_palette.dcm", "image_dfl.dcm", "SC_rgb_rle_16bit_2frame.dcm", "SC_rgb_dcmtk_+eb+cy+s4.dcm",
    "examples_jpeg2k.dcm", "MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_gdcm.dcm", "MR_small_implicit.dcm",
    "SC_ybr_full_422_uncompressed.dcm",
)  # fmt: skip


def contents(name: str) -> bytes:
    return Path(str(get_testdata_file(name))).read_bytes()


def opened(data: bytes) -> Instance:
    part = split(data)
    body = data[part.dataset_offset :]
    return instance_of(lambda offset, length: body[offset : offset + length], len(body), part.transfer_syntax_uid)


def made(data: bytes, target: str, quality: int = 90) -> bytes:
    pieces, length = transcoded(opened(data), target, render, quality).part10()
    whole = b"".join(pieces)
    assert length in (None, len(whole))
    return whole


def read(data: bytes) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(io.BytesIO(data))
        assert [element.tag for element in dataset.iterall()]
        return dataset


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    """The pixels as pydicom decodes them, colour as RGB; what it has no decoder for by our own way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = read(data)
        if dataset.file_meta.TransferSyntaxUID == pydicom.uid.JPEGLosslessSV1:
            return pixel_array(read(made(data, EXPLICIT_LITTLE)))
        return pixel_array(dataset)


def others(data: bytes) -> Dataset:
    """All but what has to change with a transfer syntax."""
    dataset = read(data)
    for keyword in ("PixelData", "PhotometricInterpretation", "PlanarConfiguration", "DataSetTrailingPadding",
                    "LossyImageCompression"):  # fmt: skip
        if keyword in dataset:
            del dataset[keyword]
    out = io.BytesIO()
    pydicom.dcmwrite(out, Dataset(dataset), implicit_vr=True, little_endian=True)
    return read_bare(out.getvalue())


def read_bare(data: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(data), force=True)


@pytest.mark.parametrize("name", FILES)
def test_an_image_is_the_same_in_every_syntax_it_is_offered_in(name: str) -> None:
    source = contents(name)
    expected, rest = pixels(source), others(source)
    for target in TARGETS:
        result = made(source, target)
        dataset = read(result)
        assert dataset.file_meta.TransferSyntaxUID == target
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID == read(source).SOPInstanceUID
        if (
            name == "SC_ybr_full_422_uncompressed.dcm" and target != encoders.JPEG_LOSSLESS
        ):  # components without a conversion
            assert np.array_equal(pixel_array(dataset, raw=True), pixel_array(read(source), raw=True))
        else:
            assert np.array_equal(pixels(result), expected), target
        if "BigEnd" not in name and "big" not in name:
            assert others(result) == rest


def test_bits_and_frames_of_a_segmentation_stay_packed() -> None:
    rows = np.random.default_rng(1).integers(0, 2, (3, 5, 7)).astype(np.uint8)
    packed = np.packbits(rows.reshape(-1), bitorder="little").tobytes()
    source = read(contents("liver_expb_1frame.dcm"))
    source.Rows, source.Columns, source.NumberOfFrames = 5, 7, 3
    source.PixelData = packed + b"\0" * (len(packed) % 2)
    out = io.BytesIO()
    source.save_as(out)
    result = read(made(out.getvalue(), IMPLICIT_LITTLE))
    assert np.array_equal(result.pixel_array, rows)
    with pytest.raises(Unsupported):
        made(out.getvalue(), encoders.JPEG_LS_LOSSLESS)


def test_what_stands_behind_the_pixels_is_kept_and_padding_and_old_signatures_go() -> None:
    for compressed in (False, True):
        source = read(contents("MR_small_RLE.dcm" if compressed else "MR_small.dcm"))
        block = source.private_block(0x7FE1, "MAKER", create=True)
        block.add_new(1, "LO", "behind")
        source.DigitalSignaturesSequence = [Dataset()]
        source.DataSetTrailingPadding = bytes(20)
        out = io.BytesIO()
        source.save_as(out)
        result = read(made(out.getvalue(), encoders.HTJ2K_RPCL))
        assert result[0x7FE1, 0x1001].value == "behind"
        assert "DigitalSignaturesSequence" not in result
        assert "DataSetTrailingPadding" not in result
        assert np.array_equal(result.pixel_array, read(contents("MR_small.dcm")).pixel_array)


def test_overlays_and_palettes_in_words_are_turned_around_with_the_byte_order() -> None:
    source = read(contents("examples_overlay.dcm"))
    out = io.BytesIO()
    source.PixelData = source.pixel_array.astype(">u2").tobytes()
    overlay = source[0x6000, 0x3000].value
    source[0x6000, 0x3000].value = np.frombuffer(overlay, "<u2").astype(">u2").tobytes()
    source.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    pydicom.dcmwrite(out, Dataset(source), implicit_vr=False, little_endian=False)
    big = opened_bare(out.getvalue(), ExplicitVRBigEndian)
    result = b"".join(transcoded(big, EXPLICIT_LITTLE, render).pieces)
    assert read_bare(result)[0x6000, 0x3000].value == overlay


def opened_bare(body: bytes, syntax: str) -> Instance:
    return instance_of(lambda offset, length: body[offset : offset + length], len(body), syntax)


def test_a_lossy_image_is_another_instance_that_says_what_it_is_made_of() -> None:
    source = read(contents("examples_rgb_color.dcm"))
    uid = str(source.SOPInstanceUID)
    results = [read(made(contents("examples_rgb_color.dcm"), encoders.JPEG_BASELINE, quality)) for quality in (50, 90)]
    for result, quality in zip(results, (50, 90), strict=True):
        assert result.SOPInstanceUID == result.file_meta.MediaStorageSOPInstanceUID != uid
        assert result.SOPInstanceUID == derived_uid(uid, encoders.JPEG_BASELINE, quality)
        assert result.LossyImageCompression == "01"
        assert result.LossyImageCompressionMethod == "ISO_10918_1"
        assert result.ImageType[0] == "DERIVED"
        assert result.DerivationCodeSequence[0].CodeValue == "113040"
        assert result.SourceImageSequence[0].ReferencedSOPInstanceUID == uid
        assert result.PhotometricInterpretation == "YBR_FULL_422"
        assert np.abs(result.pixel_array.astype(int) - source.pixel_array).mean() < 5
    assert results[0].LossyImageCompressionRatio > results[1].LossyImageCompressionRatio > 1
    again = read(made(made(contents("examples_rgb_color.dcm"), encoders.JPEG_BASELINE), encoders.JPEG_2000, 95))
    assert list(again.LossyImageCompressionMethod) == ["ISO_10918_1", "ISO_15444_1"]


def test_an_image_that_was_lossy_says_so_also_when_it_is_sent_without_compression() -> None:
    data = read(contents("SC_rgb_dcmtk_+eb+cy+s4.dcm"))
    if "LossyImageCompression" in data:
        del data.LossyImageCompression
    out = io.BytesIO()
    data.save_as(out)
    assert read(made(out.getvalue(), EXPLICIT_LITTLE)).LossyImageCompression == "01"


def test_a_small_image_within_in_a_syntax_of_its_own_goes() -> None:
    data = read(contents("MR_small_RLE.dcm"))
    icon = Dataset()
    icon.PixelData = encapsulate([b"\xff\xd8icon\xff\xd9"])
    icon["PixelData"].VR = "OB"
    icon["PixelData"].is_undefined_length = True
    data.IconImageSequence = [icon]
    out = io.BytesIO()
    data.save_as(out)
    assert "IconImageSequence" not in read(made(out.getvalue(), EXPLICIT_LITTLE))


def test_frames_are_made_as_they_are_sent_and_never_all_at_once() -> None:
    frame = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    source = Dataset()
    source.SOPClassUID, source.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7.3", "1.2.3"
    source.Rows = source.Columns = 64
    source.SamplesPerPixel, source.PhotometricInterpretation, source.NumberOfFrames = 1, "MONOCHROME2", 1000
    source.BitsAllocated, source.BitsStored, source.HighBit, source.PixelRepresentation = 16, 12, 11, 0
    source.PixelData = b""
    out = io.BytesIO()
    pydicom.dcmwrite(out, source, implicit_vr=True, little_endian=True)
    total = 1000 * frame.nbytes
    head = out.getvalue()[:-4] + total.to_bytes(4, "little")
    largest, jobs = 0, 0

    def reader(offset: int, length: int) -> bytes:
        nonlocal largest
        largest = max(largest, length)
        start = offset - len(head)
        if start < 0:
            return (head + frame.tobytes())[offset : offset + length]
        return (frame.tobytes() * 2)[start % frame.nbytes :][:length]

    def counted(job: RenderJob) -> bytes:
        nonlocal jobs
        jobs += 1
        return render(job)

    instance = instance_of(reader, len(head) + total, ImplicitVRLittleEndian, head + frame.tobytes())
    result = transcoded(instance, RLELossless, counted)
    assert jobs == 1
    taken = [next(result.pieces) for _ in range(4)]
    assert len(taken) == 4
    assert jobs == 3
    assert largest == frame.nbytes


def test_what_is_no_image_or_cut_is_refused_before_anything_is_sent() -> None:
    cut = read(contents("MR_small.dcm"))
    cut.BitsAllocated = 32
    out = io.BytesIO()
    cut.save_as(out)
    for data, target in (
        (out.getvalue(), encoders.JPEG_LS_LOSSLESS),
        (contents("CT_small.dcm"), "1.2.840.10008.1.2.4.102"),
    ):
        with pytest.raises((Unsupported, InvalidInput)):
            transcoded(opened(data), target, render)
    for damaged in (b"\xff\xd8\xff\xd9", b"RLE?"):
        stored = read(contents("MR_small_RLE.dcm"))
        stored.PixelData = encapsulate([damaged])
        out = io.BytesIO()
        stored.save_as(out)
        with pytest.raises(HilumError):
            transcoded(opened(out.getvalue()), EXPLICIT_LITTLE, render)


def errors_of(path: Path) -> set[str]:
    """What dciodvfy finds wrong, without the places."""
    done = subprocess.run([str(VALIDATOR), str(path)], capture_output=True, timeout=60, check=False)
    lines = (done.stderr + done.stdout).decode("latin-1").splitlines()
    return {re.sub(r"<[^>]*>|\d+", "", line) for line in lines if line.startswith("Error")}


@pytest.mark.skipif(VALIDATOR is None, reason="needs dicom3tools")
@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("CT_small.dcm", TARGETS),
        ("examples_rgb_color.dcm", (*TARGETS, encoders.JPEG_BASELINE, encoders.JPEG_2000)),
        ("MR_small_bigendian.dcm", (EXPLICIT_LITTLE, encoders.JPEG_LS_LOSSLESS)),
        ("examples_ybr_color.dcm", (EXPLICIT_LITTLE,)),
        ("examples_jpeg2k.dcm", (EXPLICIT_LITTLE, encoders.HTJ2K_RPCL)),
    ],
)
def test_a_validator_finds_nothing_wrong_that_was_not_wrong_before(
    name: str, targets: tuple[str, ...], tmp_path: Path
) -> None:
    source, result = tmp_path / "source.dcm", tmp_path / "result.dcm"
    source.write_bytes(contents(name))
    before = errors_of(source)
    for target in targets:
        # The validator is older than HTJ2K: it is told that this is JPEG 2000, and looks at no codestream.
        known = encoders.JPEG_2000_LOSSLESS if target in (encoders.HTJ2K_LOSSLESS, encoders.HTJ2K_RPCL) else target
        written = made(contents(name), target)
        part = split(written)
        prefix = file_prefix(str(part.sop_class_uid), str(part.sop_instance_uid), known)
        result.write_bytes(prefix + written[part.dataset_offset :])
        assert errors_of(result) <= before, target


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_uncompressed_to_uncompressed_keeps_the_very_bytes_of_the_pixels(syntax: str) -> None:
    source = read(contents("CT_small.dcm"))
    assert read(made(contents("CT_small.dcm"), syntax)).PixelData == source.PixelData
