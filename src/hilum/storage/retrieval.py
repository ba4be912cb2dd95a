"""Look-ups of what is to be retrieved by UID: the study that is shown for it, and where its instances lie.

What is withheld, kept beside another instance or out of the actor's scope is not found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from hilum.core.scope import Scope
from hilum.storage.scoping import patient_in_scope
from hilum.storage.shown import (
    TRUTH_COLUMNS,
    WITH_TRUTH,
    ShownStudy,
    instance,
    instance_is_shown,
    series,
    series_is_shown,
    shown_studies,
    study,
    study_is_shown,
)

PLACE = (
    instance.c.id,
    series.c.series_instance_uid,
    instance.c.sop_instance_uid,
    instance.c.sop_class_uid,
    instance.c.transfer_syntax_uid,
    instance.c.digest,
    instance.c.object_key,
    instance.c.object_offset,
    instance.c.object_length,
    instance.c.dataset_offset,
    instance.c.study_id,
    instance.c.peer,
)
_IN_ORDER = (series.c.number, series.c.id, instance.c.number, instance.c.id)


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """An instance that may be shown, and where its Part 10 file lies in the archive."""

    id: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    digest: str
    object_key: str
    object_offset: int
    object_length: int
    dataset_offset: int
    study_id: str = ""
    peer: str = ""


def find_study(connection: sa.Connection, study_instance_uid: str, scope: Scope) -> ShownStudy | None:
    """Return the study that is shown for a UID, None where there is none or it is out of scope."""
    query = (
        sa.select(*TRUTH_COLUMNS)
        .select_from(WITH_TRUTH)
        .where(
            study.c.study_instance_uid == study_instance_uid,
            study_is_shown(),
            patient_in_scope(scope, study.c.patient_id),
        )
    )
    return next(iter(shown_studies(connection, connection.execute(query).all())), None)


def find_instances(
    connection: sa.Connection,
    study_id: str,
    series_instance_uid: str | None = None,
    sop_instance_uid: str | None = None,
) -> list[StoredInstance]:
    """Return the instances of a study, a series or one UID, by the numbers of series and instances."""
    query = (
        sa.select(*PLACE)
        .join(series, series.c.id == instance.c.series_id)
        .where(instance.c.study_id == study_id, series_is_shown(), instance_is_shown())
        .order_by(*_IN_ORDER)
    )
    if series_instance_uid is not None:
        query = query.where(series.c.series_instance_uid == series_instance_uid)
    if sop_instance_uid is not None:
        query = query.where(instance.c.sop_instance_uid == sop_instance_uid)
    return [_stored(row) for row in connection.execute(query)]


def middle_instance(
    connection: sa.Connection, study_id: str, series_instance_uid: str | None = None
) -> StoredInstance | None:
    """Return the image that stands for a study or series: the middle one of its first series that has pixels."""
    images = (
        sa.select(*PLACE, series.c.id.label("series_id"))
        .join(series, series.c.id == instance.c.series_id)
        .where(
            instance.c.study_id == study_id,
            series_is_shown(),
            instance_is_shown(),
            instance.c.pixels.is_not(None),
        )
    )
    if series_instance_uid is not None:
        images = images.where(series.c.series_instance_uid == series_instance_uid)
    first = connection.execute(images.order_by(*_IN_ORDER).limit(1)).one_or_none()
    if first is None:
        return None
    of_series = images.where(series.c.id == first.series_id)
    count = connection.execute(sa.select(sa.func.count()).select_from(of_series.subquery())).scalar_one()
    return _stored(connection.execute(of_series.order_by(*_IN_ORDER).offset(count // 2).limit(1)).one())


def study_of(connection: sa.Connection, study_id: str) -> ShownStudy | None:
    """Return a study by the id of its row, whether it may be shown or not; None where it is gone."""
    query = sa.select(*TRUTH_COLUMNS).select_from(WITH_TRUTH).where(study.c.id == study_id)
    return next(iter(shown_studies(connection, connection.execute(query).all())), None)


def headers_of(connection: sa.Connection, instance_ids: Sequence[str]) -> dict[str, bytes]:
    """Return the headers of instances as DICOM JSON; ask for some hundred at a time."""
    query = sa.select(instance.c.id, instance.c.header).where(instance.c.id.in_(instance_ids))
    return {row.id: row.header for row in connection.execute(query)}


def pixels_of_instance(connection: sa.Connection, instance_id: str) -> dict[str, Any] | None:
    """Return where the pixel data of an instance lies in its data set, None where it has none."""
    found: dict[str, Any] | None = connection.execute(
        sa.select(instance.c.pixels).where(instance.c.id == instance_id)
    ).scalar_one_or_none()
    return found


def _stored(row: Any) -> StoredInstance:
    return StoredInstance(*row[: len(PLACE)])
