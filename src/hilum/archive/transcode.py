"""A stored instance in another transfer syntax, frame by frame and never as a whole in memory.

Everything else of the data set stays as it is. What is lossless keeps its UID and its pixels, which the encoders prove;
what is lossy becomes an instance of its own with the flags and the derivation of PS3.3 C.7.6.1.1.5 and C.12.4.
"""

from __future__ import annotations

import io
import struct
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from hilum.archive.codecs import layout_of
from hilum.archive.encoders import ENCODINGS, JPEG_BASELINE, Encoding, decoded_layout, encoded_colour, why_not
from hilum.archive.frames import NATIVE, Instance
from hilum.archive.native import PixelLayout
from hilum.archive.part10 import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, file_prefix
from hilum.archive.render import RenderJob
from hilum.archive.walk import Attributes
from hilum.core.errors import HilumError, InvalidInput, TooLarge, Unsupported

Render = Callable[[RenderJob], bytes]
UNCOMPRESSED = (EXPLICIT_LITTLE, IMPLICIT_LITTLE)
LONGEST_VALUE = 0xFFFFFFFE  # what an element can say of its length
IN_MEMORY = 32 << 20
_LOSSY_BY_NATURE = frozenset({JPEG_BASELINE, "1.2.840.10008.1.2.4.51"})
_UNWRITABLE = (ValueError, TypeError, AttributeError, LookupError, OverflowError, struct.error, EOFError)
_PADDING, _SIGNATURES = 0xFFFCFFFC, 0xFFFAFFFA
_NAMESPACE = uuid.UUID("5a9d2f0e-4f0b-4b43-9a53-3a5e1a6f5b0c")


@dataclass(frozen=True, slots=True)
class Transcoded:
    """A data set in another transfer syntax: what it is now, its pieces, and its length where that is known before."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    pieces: Iterator[bytes]
    length: int | None

    def part10(self) -> tuple[Iterator[bytes], int | None]:
        """The pieces and the length of the Part 10 file."""
        prefix = file_prefix(self.sop_class_uid, self.sop_instance_uid, self.transfer_syntax_uid)

        def pieces() -> Iterator[bytes]:
            yield prefix
            yield from self.pieces

        return pieces(), None if self.length is None else len(prefix) + self.length


def frame_as(instance: Instance, number: int, target: str, render: Render, quality: int = 90) -> bytes:
    """One frame in a transfer syntax; as it is where that is its own. Raises Unsupported where it can't be made."""
    if target == instance.frame_syntax or (target in UNCOMPRESSED and instance.frame_syntax == EXPLICIT_LITTLE):
        return instance.frame(number)
    layout, frame = layout_of(instance.attributes), instance.frame(number)
    made = target if target in ENCODINGS else "raw"
    # Of the header decoding needs only the layout.
    return render(
        RenderJob(b"", EXPLICIT_LITTLE, frame, instance.frame_syntax, layout, number, format=made, quality=quality)
    )


def transcoded(instance: Instance, target: str, render: Render, quality: int = 90) -> Transcoded:
    """The data set of an opened image in another transfer syntax.

    The first frame is made at once, so that what can't be made is refused before anything is sent; the others as the
    pieces are taken. Raises Unsupported, InvalidInput, TooLarge.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if target in UNCOMPRESSED:
                return _uncompressed(instance, target, render)
            if target in ENCODINGS:
                return _compressed(instance, ENCODINGS[target], render, quality)
    except _UNWRITABLE as error:
        # pydicom refuses to write what it could read: the instance is still there as stored.
        raise Unsupported("The instance can't be rewritten.", field="TransferSyntaxUID") from error
    raise Unsupported("Images are not encoded in this transfer syntax here.", field="TransferSyntaxUID")


def _uncompressed(instance: Instance, target: str, render: Render) -> Transcoded:
    header = read_header(instance)
    if instance.frame_syntax == EXPLICIT_LITTLE:
        vr, length = instance.pixels.vr, instance.pixels.length
        tag, pieces, same = instance.pixels.tag, instance.native(), True
    else:
        layout = layout_of(instance.attributes)
        vr, length = "OW" if layout.bits_allocated > 8 else "OB", layout.frame_bytes * instance.table.count
        tag, same = 0x7FE00010, False
        _note_colour(header, decoded_layout(layout, instance.frame_syntax).photometric_interpretation)
        _note_lossy_source(header, instance.frame_syntax)
        frames = _frames(instance, EXPLICIT_LITTLE, render, 90)
        pieces = _checked(frames, layout)
    _forget_encapsulation(header)
    if length > LONGEST_VALUE:
        raise TooLarge("The instance is too large to be sent uncompressed.")
    implicit = target == IMPLICIT_LITTLE
    head = written(header, implicit=implicit) + _pixel_head(tag, vr, length + length % 2, implicit=implicit)
    tail = b"\0" * (length % 2) + _tail(instance, implicit=implicit, same_pixels=same)
    return _result(header, target, _together(head, pieces, tail), len(head) + length + len(tail))


def _compressed(instance: Instance, encoding: Encoding, render: Render, quality: int) -> Transcoded:
    decoded = decoded_layout(layout_of(instance.attributes), instance.frame_syntax)
    if refusal := why_not(decoded, encoding):
        raise Unsupported(refusal, field="TransferSyntaxUID")
    header = read_header(instance)
    _note_colour(header, encoded_colour(decoded, encoding))
    _note_lossy_source(header, instance.frame_syntax)
    _forget_encapsulation(header)
    items: Iterator[bytes] = (_item(frame) for frame in _frames(instance, encoding.uid, render, quality))
    if not encoding.lossless:
        items, size = _spooled(items)
        _note_lossy(header, encoding, decoded.frame_bytes * instance.table.count / size, quality)
    head = written(header, implicit=False) + struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + _item(b"")
    tail = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) + _tail(instance, implicit=False, same_pixels=False)
    return _result(header, encoding.uid, _together(head, items, tail), None)


def _frames(instance: Instance, target: str, render: Render, quality: int) -> Iterator[bytes]:
    """All frames, of which the first is there when this returns."""
    first = frame_as(instance, 1, target, render, quality)

    def frames() -> Iterator[bytes]:
        yield first
        for number in range(2, instance.table.count + 1):
            yield frame_as(instance, number, target, render, quality)

    return frames()


def _checked(frames: Iterator[bytes], layout: PixelLayout) -> Iterator[bytes]:
    """Frames, each of the size that the length of the value was made of."""
    for frame in frames:
        if len(frame) != layout.frame_bytes:
            raise InvalidInput("A frame is not what the header says.", field="PixelData")
        yield frame


def _together(head: bytes, pieces: Iterator[bytes], tail: bytes) -> Iterator[bytes]:
    yield head
    yield from pieces
    if tail:
        yield tail


def _item(value: bytes) -> bytes:
    even = value + b"\0" * (len(value) % 2)
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(even)) + even


def _spooled(pieces: Iterator[bytes]) -> tuple[Iterator[bytes], int]:
    """The pieces made now and kept outside the memory, and how long they are together."""
    spool = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - it lives as long as its reader
    size = sum(spool.write(piece) for piece in pieces)
    spool.seek(0)

    def again() -> Iterator[bytes]:
        with spool:
            while piece := spool.read(1 << 20):
                yield piece

    return again(), size


def _result(header: Dataset, target: str, pieces: Iterator[bytes], length: int | None) -> Transcoded:
    return Transcoded(str(header.SOPClassUID), str(header.SOPInstanceUID), target, pieces, length)


def read_header(instance: Instance) -> Dataset:
    """The data set before the pixel data, little endian inside."""
    return _read(instance.header, instance.header_syntax)


def _read(data: bytes, syntax: str) -> Dataset:
    dataset = pydicom.dcmread(io.BytesIO(file_prefix("1.2", "1.2", syntax) + data), stop_before_pixels=True)
    if syntax == EXPLICIT_BIG:
        swap_words(dataset)
    return Dataset(dataset)


def swap_words(dataset: Dataset) -> None:
    """Turn the words of OW values around, which pydicom keeps as the bytes they were."""
    for element in dataset.iterall():
        if element.VR == "OW" and isinstance(element.value, bytes):
            words = len(element.value) // 2
            element.value = struct.pack(f"<{words}H", *struct.unpack_from(f">{words}H", element.value))


def written(dataset: Dataset, *, implicit: bool) -> bytes:
    """The bytes of a data set in little endian."""
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    return buffer.getvalue()


def _pixel_head(tag: int, vr: str, length: int, *, implicit: bool) -> bytes:
    if implicit:
        return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, length)
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode(), 0, length)


def _tail(instance: Instance, *, implicit: bool, same_pixels: bool) -> bytes:
    """The elements behind the pixel data; padding goes, and so do signatures of pixels that are others now."""
    data = instance.trailer()
    if not data.strip(b"\0"):
        return b""
    dataset = _read(data, instance.header_syntax)
    for tag in (_PADDING, *(() if same_pixels else (_SIGNATURES,))):
        if tag in dataset:
            del dataset[tag]
    return written(dataset, implicit=implicit) if dataset else b""


def _note_colour(header: Dataset, photometric_interpretation: str) -> None:
    header.PhotometricInterpretation = photometric_interpretation
    if header.get("SamplesPerPixel") == 3:
        header.PlanarConfiguration = 0


def _forget_encapsulation(header: Dataset) -> None:
    """What speaks of where fragments are; a small image of the image in a syntax of its own goes with it."""
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in header:
            del header[keyword]
    icons = header.get("IconImageSequence") or []
    if any(icon["PixelData"].is_undefined_length for icon in icons if "PixelData" in icon):
        del header.IconImageSequence


def _note_lossy_source(header: Dataset, frame_syntax: str) -> None:
    """Once lossy, always lossy (PS3.3 C.7.6.1.1.5), also where the sender left it to the transfer syntax."""
    if frame_syntax in _LOSSY_BY_NATURE and header.get("LossyImageCompression") != "01":
        header.LossyImageCompression = "01"


def _note_lossy(header: Dataset, encoding: Encoding, ratio: float, quality: int) -> None:
    """Make the image a derived one of its own (PS3.3 C.7.6.1.1.5, C.7.6.1.1.2, C.12.4.1.1, CID 7202 and 7203)."""
    source = str(header.SOPInstanceUID)
    header.LossyImageCompression = "01"
    header.LossyImageCompressionRatio = [*_several(header.get("LossyImageCompressionRatio")), f"{ratio:.4g}"]
    header.LossyImageCompressionMethod = [*_several(header.get("LossyImageCompressionMethod")), encoding.method]
    types = [str(each) for each in _several(header.get("ImageType"))] or ["", "PRIMARY"]
    header.ImageType = ["DERIVED", *types[1:]]
    header.DerivationDescription = f"Lossy compression, {encoding.method}, quality {quality}"
    header.DerivationCodeSequence = [_code("113040", "Lossy Compression")]
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = header.SOPClassUID, source
    reference.PurposeOfReferenceCodeSequence = [_code("121320", "Uncompressed predecessor")]
    header.SourceImageSequence = [reference]
    header.SOPInstanceUID = derived_uid(source, encoding.uid, quality)


def derived_uid(source: str, transfer_syntax_uid: str, quality: int) -> str:
    """The UID of a lossy copy: the same copy has the same one."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, f'{source} {transfer_syntax_uid} {quality}').int}"


def _several(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, (list, pydicom.multival.MultiValue)) else [value]


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def rewritten(data: bytes, target: str) -> Transcoded:
    """A Part 10 file without pixel data in an uncompressed transfer syntax. Raises Unsupported."""
    if target not in UNCOMPRESSED:
        raise Unsupported("What is no image is not compressed.", field="TransferSyntaxUID")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(data))
            if dataset.file_meta.TransferSyntaxUID == EXPLICIT_BIG:
                swap_words(dataset)
            content = written(Dataset(dataset), implicit=target == IMPLICIT_LITTLE)
            return _result(dataset, target, iter((content,)), len(content))
    except _UNWRITABLE as error:
        raise Unsupported("The instance can't be rewritten.", field="TransferSyntaxUID") from error


def refusal_of(attributes: Attributes, transfer_syntax_uid: str, target: str) -> str:
    """Why the header of an instance forbids a compressed transfer syntax, empty where it does not."""
    if "7FE00010" not in attributes:
        return "The instance has no pixels to be compressed."
    frame_syntax = EXPLICIT_LITTLE if transfer_syntax_uid in NATIVE else transfer_syntax_uid
    try:
        layout = layout_of(attributes)
    except HilumError as error:
        return error.message
    return why_not(decoded_layout(layout, frame_syntax), ENCODINGS[target])
