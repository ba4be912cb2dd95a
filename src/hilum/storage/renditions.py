"""Compressed copies of instances: which images lack one, which there are, and which have outlived their instance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from hilum.storage import tables
from hilum.storage.retrieval import PLACE, StoredInstance

if TYPE_CHECKING:
    from hilum.storage.unit_of_work import UnitOfWork

_instance, _series, _rendition = tables.instance, tables.series, tables.rendition
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Rendition:
    """A compressed copy; without `object_key` it could not be made."""

    instance_id: str
    lossless: bool
    transfer_syntax_uid: str
    digest: str
    object_key: str | None
    object_length: int
    dataset_offset: int


@dataclass(frozen=True, slots=True)
class Image:
    """An instance with pixel data, by what a rule looks at, and whether it has its copies already."""

    stored: StoredInstance
    modality: str
    received_at: datetime
    has_lossless: bool
    has_lossy: bool


_COLUMNS = tuple(_rendition.c[name] for name in Rendition.__slots__)


def images_after(connection: sa.Connection, after: str, limit: int = _AT_ONCE) -> tuple[list[Image], str]:
    """Return the images among the next instances behind an id, and the last id looked at; empty at the end.

    Hidden instances and those kept beside others are left out.
    """
    page = list(
        connection.execute(
            sa.select(_instance.c.id).where(_instance.c.id > after).order_by(_instance.c.id).limit(limit)
        ).scalars()
    )
    if not page:
        return [], ""
    kinds = {flag: _rendition.alias() for flag in (True, False)}
    rows = _instance.join(_series, _series.c.id == _instance.c.series_id)
    for flag, kind in kinds.items():
        rows = rows.outerjoin(kind, sa.and_(kind.c.instance_id == _instance.c.id, kind.c.lossless.is_(flag)))
    query = (
        sa.select(
            *PLACE, _series.c.modality, _instance.c.received_at,
            kinds[True].c.instance_id.is_not(None), kinds[False].c.instance_id.is_not(None),
        )
        .select_from(rows)
        .where(
            _instance.c.id > after, _instance.c.id <= page[-1], _instance.c.pixels.is_not(None),
            sa.not_(_instance.c.beside), _instance.c.hidden.is_(None),
        )
        .order_by(_instance.c.id)
    )  # fmt: skip
    width = len(PLACE)
    images = [Image(StoredInstance(*row[:width]), *row[width:]) for row in connection.execute(query)]
    return images, page[-1]


def renditions_of(
    connection: sa.Connection, instance_ids: Sequence[str], *, lossless: bool = True
) -> dict[str, Rendition]:
    """Return the copies of instances, by the ids of these."""
    found: dict[str, Rendition] = {}
    for start in range(0, len(instance_ids), _AT_ONCE):
        query = sa.select(*_COLUMNS).where(
            _rendition.c.instance_id.in_(instance_ids[start : start + _AT_ONCE]),
            _rendition.c.lossless.is_(lossless),
            _rendition.c.object_key.is_not(None),
        )
        found |= {row.instance_id: Rendition(*row) for row in connection.execute(query)}
    return found


def outlived(connection: sa.Connection, limit: int = _AT_ONCE) -> list[Rendition]:
    """Return copies whose instance is gone."""
    query = (
        sa.select(*_COLUMNS)
        .select_from(_rendition.outerjoin(_instance, _instance.c.id == _rendition.c.instance_id))
        .where(_instance.c.id.is_(None))
        .limit(limit)
    )
    return [Rendition(*row) for row in connection.execute(query)]


def as_copy(stored: StoredInstance, rendition: Rendition) -> StoredInstance:
    """An instance with the bytes of its copy."""
    return replace(
        stored,
        transfer_syntax_uid=rendition.transfer_syntax_uid,
        digest=rendition.digest,
        object_key=rendition.object_key or "",
        object_offset=0,
        object_length=rendition.object_length,
        dataset_offset=rendition.dataset_offset,
    )


def add_rendition(uow: UnitOfWork, rendition: Rendition) -> bool:
    """Store a copy; return whether its instance is still there and had none of its kind."""
    exists = sa.select(_instance.c.id).where(_instance.c.id == rendition.instance_id)
    key = (_rendition.c.instance_id == rendition.instance_id, _rendition.c.lossless.is_(rendition.lossless))
    taken = sa.select(_rendition.c.instance_id).where(*key)
    if uow.connection.execute(exists).first() is None or uow.connection.execute(taken).first() is not None:
        return False
    values: Mapping[str, object] = {name: getattr(rendition, name) for name in Rendition.__slots__}
    uow.connection.execute(_rendition.insert().values(**values, made_at=uow.now))
    return True


def remove_renditions(uow: UnitOfWork, gone: Sequence[Rendition]) -> None:
    """Forget copies."""
    for each in gone:
        uow.connection.execute(
            _rendition.delete().where(
                _rendition.c.instance_id == each.instance_id, _rendition.c.lossless.is_(each.lossless)
            )
        )
