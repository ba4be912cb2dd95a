"""A stored instance rewritten in little endian without compression, for peers that read nothing else.

Everything else of the data set stays; compressed frames are decoded in the rendering processes, and colour comes out as
RGB, which the header then says.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable

import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import ExplicitVRLittleEndian

from hilum.archive.blobs import BlobStore
from hilum.archive.codecs import layout_of
from hilum.archive.frames import Instance
from hilum.archive.part10 import DEFLATED_LITTLE, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, is_big_endian
from hilum.archive.render import RenderJob
from hilum.archive.retrieve import location_of_row, read_instance
from hilum.core.errors import TooLarge, Unsupported
from hilum.storage.retrieval import StoredInstance

LARGEST = 256 << 20  # of the stored and of the decoded instance
Opener = Callable[..., Instance]
Render = Callable[[RenderJob], bytes]
_DATASETS_ALONE = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED_LITTLE})
_UNWRITABLE = (ValueError, TypeError, AttributeError, LookupError, OverflowError, struct.error, EOFError)


def raw_job(instance: Instance, number: int) -> RenderJob:
    """The job of decoding one frame to little endian pixels, colour by pixel."""
    layout = layout_of(instance.attributes)
    frame = instance.frame(number)
    return RenderJob(instance.header, instance.header_syntax, frame, instance.frame_syntax, layout, format="raw")


def decoded_frame(instance: Instance, number: int, render: Render) -> bytes:
    """One frame in Explicit VR Little Endian: native frames as they are, others decoded."""
    if instance.frame_syntax == EXPLICIT_LITTLE:
        return instance.frame(number)
    return render(raw_job(instance, number))


def part10_rewritten(
    blobs: BlobStore, row: StoredInstance, opened: Opener, render: Render, content: bytes | None = None
) -> bytes:
    """The Part 10 file in Explicit VR Little Endian. Raises Unsupported or TooLarge where that can't be made here.

    `content` is the file in its own syntax where its header is not to be as stored.
    """
    return _rewritten(blobs, row, opened, render, content, file=True, implicit=False)


def dataset_rewritten(
    blobs: BlobStore, row: StoredInstance, opened: Opener, render: Render, syntax: str, content: bytes | None = None
) -> bytes:
    """The data set alone in Explicit or Implicit VR Little Endian. Raises as `part10_rewritten`."""
    return _rewritten(blobs, row, opened, render, content, file=False, implicit=syntax == IMPLICIT_LITTLE)


def _rewritten(
    blobs: BlobStore,
    row: StoredInstance,
    opened: Opener,
    render: Render,
    content: bytes | None,
    *,
    file: bool,
    implicit: bool,
) -> bytes:
    if row.object_length > LARGEST:
        raise TooLarge("The instance is too large to be rewritten.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = _uncompressed(read_instance(blobs, row) if content is None else content, row, opened, render)
            written: Dataset = whole if file else Dataset(whole)
            buffer = io.BytesIO()
            pydicom.dcmwrite(buffer, written, implicit_vr=implicit, little_endian=True, enforce_file_format=file)
            return buffer.getvalue()
    except _UNWRITABLE as error:
        # pydicom refuses to write what it could read: the instance is still there as stored.
        raise Unsupported("The instance can't be rewritten.") from error


def _uncompressed(content: bytes, row: StoredInstance, opened: Opener, render: Render) -> FileDataset:
    dataset = pydicom.dcmread(io.BytesIO(content))
    if row.transfer_syntax_uid not in _DATASETS_ALONE:
        if row.transfer_syntax_uid == EXPLICIT_BIG:
            _swap_words(dataset)
        if "PixelData" in dataset:
            _replace_pixels(dataset, opened(location_of_row(row)), render)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def _swap_words(dataset: Dataset) -> None:
    """Turn the words of OW values around, which pydicom keeps as bytes."""
    for element in dataset.iterall():
        if element.VR == "OW" and element.keyword != "PixelData" and isinstance(element.value, bytes):
            words = len(element.value) // 2
            element.value = struct.pack(f"<{words}H", *struct.unpack_from(f">{words}H", element.value))


def _replace_pixels(dataset: Dataset, instance: Instance, render: Render) -> None:
    layout = layout_of(instance.attributes)
    frame_size = layout.rows * layout.columns * layout.samples_per_pixel * layout.bits_allocated // 8
    if frame_size * instance.table.count > LARGEST:
        raise TooLarge("The instance is too large to be rewritten.")
    frames = [decoded_frame(instance, number, render) for number in range(1, instance.table.count + 1)]
    pixels = b"".join(frames)
    dataset["PixelData"].is_undefined_length = False
    dataset["PixelData"].VR = "OW" if layout.bits_allocated > 8 else "OB"
    dataset.PixelData = pixels + b"\0" * (len(pixels) % 2)
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in dataset:
            del dataset[keyword]
    if layout.samples_per_pixel == 3 and not is_big_endian(instance.header_syntax):
        dataset.PhotometricInterpretation = "RGB"
        dataset.PlanarConfiguration = 0
