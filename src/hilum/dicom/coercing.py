"""Stored instances as they go out: with the bytes they came with or, where these contradict what is known, rewritten.

One answer for WADO-RS, C-GET, C-MOVE and forwarding. `[archive] coerce_on_retrieve = false` lets everything go out as
it came.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from mmap import ACCESS_READ, mmap

import orjson

from hilum.archive.blobs import BlobStore
from hilum.archive.coercion import Coerced, Coercion, Piece, Provenance, coerced
from hilum.archive.retrieve import IN_MEMORY
from hilum.dicom.overlay import Attributes, changes, overlaid_instance, with_originals
from hilum.settings import Configuration
from hilum.storage.retrieval import StoredInstance, headers_of, study_of
from hilum.storage.shown import ShownStudy
from hilum.storage.store import Store

HEADERS_AT_ONCE = 100
# How long a study is taken to be as it was found while its instances are sent one by one.
_FRESH_SECONDS = 0.25  # of what is sent image by image: a change is everywhere within a second
_STRETCH = 1 << 20


@dataclass
class Coercing:
    """Tells which instances are to go out rewritten, and rewrites them."""

    store: Store
    blobs: BlobStore
    configuration: Configuration
    _last: tuple[str, float, ShownStudy | None] = field(default=("", 0.0, None), init=False)

    def of(self, row: StoredInstance) -> Coercion | None:
        """Return what is to change in an instance; None where it goes out as it came."""
        if not self._is_on:
            return None
        study = self._study(row.study_id)
        return self.of_each(study, [row]).get(row.id) if study is not None else None

    def attributes(self, study: ShownStudy, row: StoredInstance, received: Attributes) -> Attributes:
        """Return the attributes of an instance (DICOM JSON model) as it goes out, original ones included."""
        laid = overlaid_instance(received, study.truth, study.study_instance_uid, row.series_instance_uid)
        differing = changes(received, laid) if self._rewrites(study) else {}
        if differing:
            said = self._provenance(study, row)
            laid = with_originals(laid, received, differing, said)
        return laid

    def of_each(self, study: ShownStudy, rows: Sequence[StoredInstance]) -> Mapping[str, Coercion]:
        """Return what is to change in instances of a study, by their ids, of those that do not go out as they came."""
        truth = study.truth
        if not self._rewrites(study):
            return {}
        found: dict[str, Coercion] = {}
        for start in range(0, len(rows), HEADERS_AT_ONCE):
            batch = rows[start : start + HEADERS_AT_ONCE]
            with self.store.read() as connection:
                headers = headers_of(connection, [row.id for row in batch])
            for row in batch:
                received = orjson.loads(headers.get(row.id) or b"{}")
                laid = overlaid_instance(received, truth, study.study_instance_uid, row.series_instance_uid)
                if differing := changes(received, laid):
                    values = {int(key, 16): value for key, value in differing.items()}
                    found[row.id] = Coercion(values, self._provenance(study, row))
        return found

    def made(self, row: StoredInstance, coercion: Coercion) -> Coerced:
        """Return the data set of an instance with the changes made."""
        blobs, end = self.blobs, row.object_offset + row.object_length

        def reader(begin: int, size: int) -> bytes:
            return blobs.get_range(row.object_key, row.dataset_offset + begin, size)

        return coerced(reader, end - row.dataset_offset, row.transfer_syntax_uid, coercion)

    def file(self, row: StoredInstance, made: Coerced, begin: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The Part 10 file of a rewritten instance, or bytes of it."""
        prefix = row.dataset_offset - row.object_offset
        if begin < prefix:
            yield self.blobs.get_range(row.object_key, row.object_offset + begin, min(prefix, end or prefix) - begin)
        until = made.length if end is None else end - prefix
        for piece in made.between(max(begin - prefix, 0), max(until, 0)):
            yield from self._bytes(row, piece)

    def file_length(self, row: StoredInstance, made: Coerced) -> int:
        """How many bytes the Part 10 file of a rewritten instance has."""
        return row.dataset_offset - row.object_offset + made.length

    @contextmanager
    def data_set(self, row: StoredInstance, made: Coerced) -> Iterator[memoryview]:
        """Give the data set of a rewritten instance; a large one through an unlinked temporary file."""
        if made.length <= IN_MEMORY:
            yield memoryview(b"".join(each for piece in made.pieces for each in self._bytes(row, piece)))
            return
        with tempfile.TemporaryFile() as spilled:
            for piece in made.pieces:
                spilled.writelines(self._bytes(row, piece))
            spilled.flush()
            with mmap(spilled.fileno(), made.length, access=ACCESS_READ) as mapped, memoryview(mapped) as view:
                yield view

    def _rewrites(self, study: ShownStudy) -> bool:
        """Whether instances of a study may have to be rewritten at all."""
        truth = study.truth
        return self._is_on and truth.changed_at is not None and (truth.reassigned or not truth.says_nothing)

    def _provenance(self, study: ShownStudy, row: StoredInstance) -> Provenance:
        truth = study.truth
        assert truth.changed_at is not None
        reason = "CORRECT" if truth.reassigned else "COERCE"
        return Provenance(truth.changed_at, self.configuration.current.dicom.ae_title, reason, row.peer)

    @property
    def _is_on(self) -> bool:
        return self.configuration.current.archive.coerce_on_retrieve

    def _study(self, study_id: str) -> ShownStudy | None:
        last_id, at, study = self._last
        if last_id != study_id or time.monotonic() - at > _FRESH_SECONDS:
            with self.store.read() as connection:
                study = study_of(connection, study_id)
            self._last = (study_id, time.monotonic(), study)
        return study

    def _bytes(self, row: StoredInstance, piece: Piece) -> Iterator[bytes]:
        if isinstance(piece, bytes):
            yield piece
            return
        begin, end = row.dataset_offset + piece[0], row.dataset_offset + piece[1]
        if end - begin <= _STRETCH:
            yield self.blobs.get_range(row.object_key, begin, end - begin)
        else:
            yield from self.blobs.stream(row.object_key, begin, end - begin)
