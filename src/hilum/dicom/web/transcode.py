"""A stored instance rewritten in Explicit VR Little Endian, for clients that read nothing else.

Everything else of the data set stays; compressed frames are decoded in the rendering processes, and colour comes out as
RGB, which the header then says.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from hilum.archive.blobs import BlobStore
from hilum.archive.codecs import layout_of
from hilum.archive.frames import Instance
from hilum.archive.part10 import EXPLICIT_BIG, EXPLICIT_LITTLE, is_big_endian
from hilum.archive.render import RenderJob
from hilum.archive.retrieve import location_of_row, read_instance
from hilum.core.errors import Unsupported
from hilum.dicom.web.problems import NotAcceptable
from hilum.storage.retrieval import StoredInstance

LARGEST = 256 << 20  # of the stored and of the decoded instance
Opener = Callable[..., Instance]
Render = Callable[[RenderJob], bytes]
_DATASETS_ALONE = frozenset({"1.2.840.10008.1.2", EXPLICIT_LITTLE, "1.2.840.10008.1.2.1.99"})


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


def explicit_little_endian(blobs: BlobStore, row: StoredInstance, opened: Opener, render: Render) -> bytes:
    """The Part 10 file in Explicit VR Little Endian. Raises NotAcceptable where that can't be made here."""
    if row.object_length > LARGEST:
        raise NotAcceptable("The instance is too large to be rewritten; ask for it as stored.", field="Accept")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(read_instance(blobs, row)))
            if row.transfer_syntax_uid not in _DATASETS_ALONE:
                if row.transfer_syntax_uid == EXPLICIT_BIG:
                    _swap_words(dataset)
                if "PixelData" in dataset:
                    _replace_pixels(dataset, opened(location_of_row(row)), render)
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            buffer = io.BytesIO()
            pydicom.dcmwrite(buffer, dataset, implicit_vr=False, little_endian=True, enforce_file_format=True)
            return buffer.getvalue()
    except Unsupported as error:
        raise NotAcceptable(error.message, field="Accept") from error
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError, struct.error, EOFError) as error:
        # pydicom refuses to write what it could read: the instance is still there as stored.
        raise NotAcceptable("The instance can't be rewritten; ask for it as stored.", field="Accept") from error


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
        raise NotAcceptable("The instance is too large to be rewritten; ask for it as stored.", field="Accept")
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
