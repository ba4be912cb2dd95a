"""A stored instance rewritten in Explicit VR Little Endian for web clients; what can't be is Not Acceptable."""

from __future__ import annotations

from hilum.archive.blobs import BlobStore
from hilum.core.errors import TooLarge, Unsupported
from hilum.dicom.uncompressed import Opener, Render, part10_rewritten
from hilum.dicom.web.problems import NotAcceptable
from hilum.storage.retrieval import StoredInstance


def explicit_little_endian(
    blobs: BlobStore, row: StoredInstance, opened: Opener, render: Render, content: bytes | None = None
) -> bytes:
    """The Part 10 file in Explicit VR Little Endian. Raises NotAcceptable where that can't be made here.

    `content` is the file in its own syntax where its header is not to be as stored.
    """
    try:
        return part10_rewritten(blobs, row, opened, render, content)
    except (Unsupported, TooLarge) as error:
        message = f"{error.message.removesuffix('.')}; ask for it as stored."
        raise NotAcceptable(message, field="Accept") from error
