"""Studies on their way into a File-set: with what is known of them laid over, as they go out at every door."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import orjson

from hilum.archive.exporting import Exported
from hilum.archive.retrieve import stream_instance
from hilum.dicom.coercing import HEADERS_AT_ONCE, Coercing
from hilum.dicom.overlay import overlaid_instance
from hilum.storage.retrieval import StoredInstance, headers_of
from hilum.storage.shown import ShownStudy


def exported(
    coercing: Coercing, study: ShownStudy, rows: Sequence[StoredInstance], *, original: bool = False
) -> Iterator[Exported]:
    """Return the instances of a study as they go out; with `original` as they were received. Audited by the caller."""
    coercions = {} if original else coercing.of_each(study, rows)
    for start in range(0, len(rows), HEADERS_AT_ONCE):
        batch = rows[start : start + HEADERS_AT_ONCE]
        with coercing.store.read() as connection:
            headers = headers_of(connection, [row.id for row in batch])
        for row in batch:
            attributes = orjson.loads(headers.get(row.id) or b"{}")
            coercion = coercions.get(row.id)
            if coercion is None:
                pieces = partial(stream_instance, coercing.blobs, row)
            else:
                made = coercing.made(row, coercion)
                pieces = partial(coercing.file, row, made)
                attributes = overlaid_instance(
                    attributes, study.truth, study.study_instance_uid, row.series_instance_uid
                )
            yield Exported(row.sop_class_uid, row.sop_instance_uid, row.transfer_syntax_uid, attributes, pieces)
