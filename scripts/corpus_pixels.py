"""Pixels as other programs see them: decoded by pydicom or DCMTK, shown by DCMTK or, where it can't, by pydicom."""

from __future__ import annotations

import io
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut, apply_windowing

Pixels = NDArray[Any]
TOOLS = Path("/usr/bin")
JPEG = {f"1.2.840.10008.1.2.4.{process}" for process in ("50", "51", "57", "70")}
JPEG_LS = {"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"}
# Two decoders of these may differ by a step or two, and by more where one of them smooths chroma.
LOSSY = {f"1.2.840.10008.1.2.4.{process}" for process in ("50", "51", "81", "91", "203")}
NATIVE = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"}
RLE, BIG_ENDIAN = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.2"


def has_pixels(dataset: Dataset) -> bool:
    """Whether a data set is an image, by its attributes."""
    keywords = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
    return bool(dataset.get("Rows")) and any(keyword in dataset for keyword in keywords)


def frames_of(dataset: Dataset) -> int:
    """How many frames an image has; what is no number counts as one."""
    said = str(dataset.get("NumberOfFrames", "") or "1")
    return int(said) if said.isdigit() else 1


def decoded(part10: bytes) -> Pixels | None:
    """All pixels of a file, colour as RGB; None where no program here decodes it."""
    found = _by_pydicom(part10)
    if found is None:
        syntax = str(pydicom.dcmread(io.BytesIO(part10), stop_before_pixels=True).file_meta.TransferSyntaxUID)
        tool = "dcmdjpeg" if syntax in JPEG else "dcmdjpls" if syntax in JPEG_LS else ""
        native = _by_dcmtk(tool, part10, ".dcm") if tool else None
        found = _by_pydicom(native) if native is not None else None
    return found


def _by_pydicom(part10: bytes) -> Pixels | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(pydicom.dcmread(io.BytesIO(part10)).pixel_array)
    except Exception:  # noqa: BLE001 a decoder of another project may raise anything
        return None


def difference(one: Pixels, other: Pixels) -> str:
    """How two arrays differ; empty where they are the same."""
    if one.shape != other.shape:
        return f"shape {other.shape} instead of {one.shape}"
    apart = np.abs(one.astype(np.float64) - other.astype(np.float64))
    return f"{int((apart > 0).sum())} of {apart.size} differ, by up to {apart.max():g}" if apart.any() else ""


def is_close(one: Pixels, other: Pixels, most: float, mean: float) -> bool:
    """Whether two pictures agree within rounding."""
    if one.shape != other.shape:
        return False
    apart = np.abs(one.astype(np.float64) - other.astype(np.float64))
    highest = apart.max(initial=0)
    return bool(highest <= 1 or (highest <= most and apart.mean() <= mean))


def shown(part10: bytes, frame: int) -> tuple[str, Pixels] | None:
    """A frame as it is to look, and by whose word: DCMTK's, else pydicom's; None where neither shows it."""
    dataset = pydicom.dcmread(io.BytesIO(part10))
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    tool = "dcml2pnm" if syntax in JPEG_LS else "dcmj2pnm" if syntax in NATIVE | JPEG | {RLE} else ""
    # DCMTK knows no values of functional groups, and turns 32-bit cells of big endian around by halves.
    is_beyond = _lift_groups(dataset, frame) or (dataset.get("BitsAllocated") == 32 and syntax == BIG_ENDIAN)
    if tool and not is_beyond:
        picture = _by_dcmtk(tool, part10, ".pnm", "+F", str(frame), *_window_options(dataset))
        if picture is not None:
            pixels = np.asarray(Image.open(io.BytesIO(picture)))
            # Of single bits DCMTK makes 0 and 128.
            return tool, (pixels > 0).astype(np.uint8) * 255 if dataset.BitsAllocated == 1 else pixels
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return "pydicom", _windowed(dataset, frame)
    except Exception:  # noqa: BLE001 as above
        return None


def _lift_groups(dataset: Dataset, frame: int) -> bool:
    """Put window and rescale of a frame's functional groups into the data set itself; tell whether there were any."""
    shared = list(dataset.get("SharedFunctionalGroupsSequence") or [])[:1]
    own = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])[frame - 1 : frame]
    found = False
    for groups in shared + own:
        for keyword in ("FrameVOILUTSequence", "PixelValueTransformationSequence"):
            for item in list(groups.get(keyword) or [])[:1]:
                dataset.update(item)
                found = True
    return found


def _window_options(dataset: Dataset) -> list[str]:
    if dataset.get("SamplesPerPixel", 1) != 1 or dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        return []
    if "WindowCenter" in dataset and dataset["WindowCenter"].VM:
        return ["+Wi", "1"]
    if dataset.get("VOILUTSequence"):
        return ["+Wl", "1"]
    if dataset.get("BitsAllocated", 16) <= 8:
        return ["-W"]
    return ["+Wm"]


def _windowed(dataset: Dataset, frame: int) -> Pixels:
    values = np.asarray(dataset.pixel_array)
    if frames_of(dataset) > 1:
        values = values[frame - 1]
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        coloured = apply_color_lut(values, dataset)
        return np.asarray(coloured >> 8 if coloured.dtype == np.uint16 else coloured).astype(np.uint8)
    if dataset.SamplesPerPixel == 3:
        return np.asarray(values >> (dataset.BitsStored - 8)).astype(np.uint8)
    grey = apply_modality_lut(values, dataset).astype(np.float64)
    if dataset.get("WindowCenter") not in (None, ""):
        grey = apply_windowing(grey, dataset)
    elif dataset.get("VOILUTSequence"):
        grey = apply_voi_lut(grey.astype(np.int64), dataset).astype(np.float64)
    low, high = (0.0, 255.0) if dataset.BitsAllocated <= 8 and "WindowCenter" not in dataset else _range(dataset, grey)
    grey = (grey - low) / max(high - low, 1e-9) * 255
    if dataset.PhotometricInterpretation == "MONOCHROME1" or dataset.get("PresentationLUTShape") == "INVERSE":
        grey = 255 - grey
    return np.clip(np.floor(grey + 0.5), 0, 255).astype(np.uint8)


def _range(dataset: Dataset, grey: Pixels) -> tuple[float, float]:
    """The values that are black and white: of a windowed image the output range of pydicom, else what there is."""
    if dataset.get("WindowCenter") in (None, ""):
        return float(grey.min()), float(grey.max())
    stored = int(dataset.BitsStored)
    low, high = (-(2 ** (stored - 1)), 2 ** (stored - 1) - 1) if dataset.PixelRepresentation else (0, 2**stored - 1)
    slope, intercept = float(dataset.get("RescaleSlope", 1) or 1), float(dataset.get("RescaleIntercept", 0) or 0)
    return low * slope + intercept, high * slope + intercept


def is_whole(part10: bytes) -> bool:
    """Whether DCMTK reads a file to its end; pydicom does not mind a cut one."""
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        file.write(part10)
        file.flush()
        done = subprocess.run([str(TOOLS / "dcmdump"), "-q", file.name], capture_output=True, check=False, timeout=60)
    return done.returncode == 0


def _by_dcmtk(tool: str, part10: bytes, suffix: str, *options: str) -> bytes | None:
    """What a tool of DCMTK makes of a file; None where it can't."""
    with tempfile.TemporaryDirectory(prefix="hilum-corpus-") as folder:
        before, after = Path(folder, "in.dcm"), Path(folder, "out").with_suffix(suffix)
        before.write_bytes(part10)
        done = subprocess.run(
            [str(TOOLS / tool), *options, str(before), str(after)], capture_output=True, check=False, timeout=300
        )
        return after.read_bytes() if done.returncode == 0 and after.exists() else None
