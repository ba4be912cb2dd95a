"""Studies on their way into a File-set: with what is known of them laid over, as they go out at every door."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial

import orjson

from hilum.archive.coercion import Coerced
from hilum.archive.exporting import Exported
from hilum.archive.part10 import EXPLICIT_LITTLE
from hilum.archive.retrieve import stream_instance
from hilum.archive.walk import Attributes
from hilum.core.errors import InvalidInput, TooLarge, Unsupported
from hilum.dicom.coercing import HEADERS_AT_ONCE, Coercing
from hilum.dicom.overlay import overlaid_instance
from hilum.dicom.rewriting import Rewriting
from hilum.storage.retrieval import StoredInstance, headers_of
from hilum.storage.shown import ShownStudy


def exported(
    coercing: Coercing,
    study: ShownStudy,
    rows: Sequence[StoredInstance],
    *,
    original: bool = False,
    uncompressed: Rewriting | None = None,
) -> Iterator[Exported]:
    """Return the instances of a study as they go out; with `original` as they were received. Audited by the caller.

    `uncompressed` makes them in Explicit VR Little Endian; what it can't decode (a video) stays as stored.
    """
    coercions = {} if original else coercing.of_each(study, rows)
    for start in range(0, len(rows), HEADERS_AT_ONCE):
        batch = rows[start : start + HEADERS_AT_ONCE]
        with coercing.store.read() as connection:
            headers = headers_of(connection, [row.id for row in batch])
        for row in batch:
            attributes = orjson.loads(headers.get(row.id) or b"{}")
            coercion = coercions.get(row.id)
            made = coercing.made(row, coercion) if coercion is not None else None
            if made is not None:
                attributes = overlaid_instance(
                    attributes, study.truth, study.study_instance_uid, row.series_instance_uid
                )
            yield _as_asked(row, attributes, made, coercing, uncompressed)


def _as_asked(
    row: StoredInstance, attributes: Attributes, made: Coerced | None, coercing: Coercing, rewriting: Rewriting | None
) -> Exported:
    if rewriting is not None and row.transfer_syntax_uid != EXPLICIT_LITTLE:
        with suppress(Unsupported, TooLarge, InvalidInput):
            new = rewriting.of(row, EXPLICIT_LITTLE, made)
            pieces, _ = new.part10()
            return Exported(
                new.sop_class_uid, new.sop_instance_uid, new.transfer_syntax_uid, attributes, lambda: pieces
            )
    stored = partial(stream_instance, coercing.blobs, row) if made is None else partial(coercing.file, row, made)
    return Exported(row.sop_class_uid, row.sop_instance_uid, row.transfer_syntax_uid, attributes, stored)
