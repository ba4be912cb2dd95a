"""A compressed copy of a stored image: written, read again from where it lies, and compared pixel by pixel."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from hilum.archive.blobs import BlobStore
from hilum.archive.codecs import layout_of
from hilum.archive.encoders import ENCODINGS, decoded_layout
from hilum.archive.frames import Instance, open_instance
from hilum.archive.part10 import EXPLICIT_LITTLE, file_prefix
from hilum.archive.records import Location
from hilum.archive.render import RenderJob
from hilum.archive.transcode import Render, transcoded
from hilum.core.errors import InvalidInput

FOLDER = "renditions"


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy that is durable and proven: where it lies, and the digest of its data set."""

    location: Location
    digest: str


def compressed_copy(
    blobs: BlobStore, location: Location, name: str, transfer_syntax_uid: str, quality: int, render: Render
) -> Copy:
    """Write a copy of a stored image under a name. Nothing is left behind where it fails.

    Raises Unsupported where the image can't be encoded so, InvalidInput where it or the copy is damaged, and the errors
    of the store.
    """
    instance = open_instance(blobs, location)
    made = transcoded(instance, transfer_syntax_uid, render, quality)
    prefix = file_prefix(made.sop_class_uid, made.sop_instance_uid, made.transfer_syntax_uid)
    seen, length = hashlib.sha256(), len(prefix)

    def file() -> Iterator[bytes]:
        nonlocal length
        yield prefix
        for piece in made.pieces:
            seen.update(piece)
            length += len(piece)
            yield piece

    key = f"{FOLDER}/{name[-2:]}/{name}.{'lossless' if ENCODINGS[transfer_syntax_uid].lossless else 'lossy'}.dcm"
    try:
        blobs.put(key, file())
        copy = Copy(Location(key, 0, length, len(prefix)), seen.hexdigest())
        _prove(instance, open_instance(blobs, copy.location), transfer_syntax_uid, render)
    except BaseException:
        blobs.delete(key)
        raise
    return copy


def _prove(source: Instance, copy: Instance, transfer_syntax_uid: str, render: Render) -> None:
    """Decode every frame of both and compare them; of a lossy copy only that it can be decoded."""
    if copy.table.count != source.table.count:
        raise InvalidInput("The copy has not the frames of its image.", field="NumberOfFrames")
    for number in range(1, source.table.count + 1):
        of_copy = render(_decoding(copy, number, components=True))
        if ENCODINGS[transfer_syntax_uid].lossless and of_copy != render(_decoding(source, number)):
            raise InvalidInput("The copy has not the pixels of its image.", field="PixelData")


def _decoding(instance: Instance, number: int, *, components: bool = False) -> RenderJob:
    """The job of decoding a frame; with `components` those of YBR_FULL stay as they are, as native cells have them."""
    layout = layout_of(instance.attributes)
    if components and decoded_layout(layout, EXPLICIT_LITTLE).photometric_interpretation == "YBR_FULL":
        layout = replace(layout, photometric_interpretation="RGB")
    return RenderJob(b"", EXPLICIT_LITTLE, instance.frame(number), instance.frame_syntax, layout, number, format="raw")
