"""The list of what could not be matched or decided, which a person sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from hilum.core.study import ExceptionItem, ExceptionKind
from hilum.storage import tables

if TYPE_CHECKING:
    from hilum.storage.unit_of_work import UnitOfWork

_item = tables.exception_item


def exception_from_row(row: sa.Row[Any]) -> ExceptionItem:
    """Build an entry from its row."""
    return ExceptionItem(
        id=row.id,
        kind=ExceptionKind(row.kind),
        at=row.at,
        patient_id=row.patient_id,
        order_id=row.order_id,
        study_id=row.study_id,
        message_id=row.message_id,
        note=row.note,
        resolved_at=row.resolved_at,
        resolved_by=row.resolved_by,
        resolution=row.resolution,
    )


class Exceptions:
    """The reconciliation list of one transaction."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow
        self._db = uow.connection

    def add(
        self,
        kind: ExceptionKind,
        *,
        patient_id: str | None = None,
        order_id: str | None = None,
        study_id: str | None = None,
        message_id: str | None = None,
        note: str = "",
    ) -> None:
        """Put something on the list, once as long as the same thing is open."""
        same = sa.select(_item.c.id).where(
            _item.c.kind == kind.value,
            _item.c.resolved_at.is_(None),
            _same(_item.c.patient_id, patient_id),
            _same(_item.c.order_id, order_id),
            _same(_item.c.study_id, study_id),
            _same(_item.c.message_id, message_id),
            _item.c.note == note,
        )
        if self._db.execute(same.limit(1)).scalar() is None:
            self._db.execute(
                _item.insert().values(
                    id=self._uow.new_id(),
                    kind=kind.value,
                    at=self._uow.now,
                    patient_id=patient_id,
                    order_id=order_id,
                    study_id=study_id,
                    message_id=message_id,
                    note=note,
                    resolved_by="",
                    resolution="",
                )
            )

    def get(self, item_id: str) -> ExceptionItem | None:
        """Return an entry."""
        row = self._db.execute(sa.select(_item).where(_item.c.id == item_id)).one_or_none()
        return None if row is None else exception_from_row(row)

    def resolve(self, item_id: str, by: str, resolution: str) -> None:
        """Take an entry off the list, saying who did it and why."""
        self._db.execute(
            _item.update()
            .where(_item.c.id == item_id)
            .values(resolved_at=self._uow.now, resolved_by=by, resolution=resolution)
        )

    def resolve_noted(self, kind: ExceptionKind, note: str, by: str, resolution: str) -> None:
        """Take the entries of a kind off the list that bear this note."""
        self._db.execute(
            _item.update()
            .where(_item.c.kind == kind.value, _item.c.note == note, _item.c.resolved_at.is_(None))
            .values(resolved_at=self._uow.now, resolved_by=by, resolution=resolution)
        )

    def resolve_for_message(self, message_id: str, by: str, resolution: str) -> None:
        """Take a message's entries off the list, since it was applied in the end."""
        self._db.execute(
            _item.update()
            .where(_item.c.message_id == message_id, _item.c.resolved_at.is_(None), _item.c.kind == "message-refused")
            .values(resolved_at=self._uow.now, resolved_by=by, resolution=resolution)
        )

    def resolve_for_order(self, order_id: str, kind: ExceptionKind, by: str, resolution: str) -> None:
        """Take an order's entries of a kind off the list, since they no longer hold."""
        same = (_item.c.order_id == order_id, _item.c.kind == kind.value, _item.c.resolved_at.is_(None))
        values = {"resolved_at": self._uow.now, "resolved_by": by, "resolution": resolution}
        self._db.execute(_item.update().where(*same).values(**values))

    def resolve_for_study(self, study_id: str, kinds: tuple[ExceptionKind, ...], by: str, resolution: str) -> None:
        """Take a study's entries of some kinds off the list, since they no longer hold."""
        self._db.execute(
            _item.update()
            .where(
                _item.c.study_id == study_id,
                _item.c.resolved_at.is_(None),
                _item.c.kind.in_([kind.value for kind in kinds]),
            )
            .values(resolved_at=self._uow.now, resolved_by=by, resolution=resolution)
        )


def _same(column: sa.ColumnElement[Any], value: str | None) -> sa.ColumnElement[bool]:
    return column.is_(None) if value is None else column == value
