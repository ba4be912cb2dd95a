"""Stored instances in transfer syntaxes that they were not stored in, for peers and clients that ask for them.

One way for WADO-RS, C-GET, C-MOVE and forwarding: images go frame by frame through the rendering processes
(`archive.transcode`), what is no image is rewritten as a whole.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap

import orjson

from hilum.archive.coercion import Coerced
from hilum.archive.frames import Instance, instance_of
from hilum.archive.landing import Location
from hilum.archive.retrieve import location_of_row, read_instance
from hilum.archive.transcode import IN_MEMORY, Render, Transcoded, refusal_of, rewritten, transcoded
from hilum.core.errors import TooLarge, Unsupported
from hilum.dicom.coercing import HEADERS_AT_ONCE, Coercing
from hilum.storage.retrieval import StoredInstance, headers_of

LARGEST_DOCUMENT = 256 << 20  # of what is no image
_NO_IMAGE = "PixelData"


@dataclass(frozen=True, slots=True)
class Rewriting:
    """Makes them."""

    coercing: Coercing
    opened: Callable[[Location], Instance]
    render: Render

    def of(self, row: StoredInstance, target: str, made: Coerced | None = None) -> Transcoded:
        """An instance in a transfer syntax; `made` is its data set where the header is not to be as stored.

        Raises Unsupported or TooLarge where that can't be made here, InvalidInput where the image is damaged.
        """
        instance = self._opened(row, made)
        if instance is not None:
            return transcoded(instance, target, self.render)
        if row.object_length > LARGEST_DOCUMENT:
            raise TooLarge("The instance is too large to be rewritten.")
        if made is None:
            return rewritten(read_instance(self.coercing.blobs, row), target)
        return rewritten(b"".join(self.coercing.file(row, made)), target)

    def able(self, rows: Sequence[StoredInstance], target: str) -> set[str]:
        """The ids of the instances that can be made in a compressed transfer syntax, as far as their headers tell."""
        able: set[str] = set()
        for start in range(0, len(rows), HEADERS_AT_ONCE):
            batch = {row.id: row for row in rows[start : start + HEADERS_AT_ONCE]}
            with self.coercing.store.read() as connection:
                headers = headers_of(connection, list(batch))
            for row_id, header in headers.items():
                if not refusal_of(orjson.loads(header), batch[row_id].transfer_syntax_uid, target):
                    able.add(row_id)
        return able

    def _opened(self, row: StoredInstance, made: Coerced | None) -> Instance | None:
        """The instance opened for its frames, None where it has none."""
        try:
            if made is None:
                return self.opened(location_of_row(row))
            coercing, prefix = self.coercing, row.dataset_offset - row.object_offset

            def reader(offset: int, length: int) -> bytes:
                return b"".join(coercing.file(row, made, prefix + offset, prefix + offset + length))

            return instance_of(reader, made.length, row.transfer_syntax_uid)
        except Unsupported as error:
            if error.field == _NO_IMAGE:
                return None
            raise


@contextmanager
def gathered(pieces: Iterator[bytes]) -> Iterator[memoryview]:
    """All pieces as one; many bytes lie in an unlinked temporary file and not in memory."""
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as spool:
        for piece in pieces:
            spool.write(piece)
        if spool.tell() <= IN_MEMORY:
            spool.seek(0)
            yield memoryview(spool.read())
            return
        spool.flush()
        with mmap(spool.fileno(), 0, access=ACCESS_READ) as mapped, memoryview(mapped) as view:
            yield view
