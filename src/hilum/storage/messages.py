"""The inbound journal: every HL7 message byte for byte, with the answer that was given."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from hilum.storage import tables

if TYPE_CHECKING:
    from hilum.storage.unit_of_work import UnitOfWork

_message = tables.inbound_message

_is_of_sender = sa.and_(_message.c.sender == sa.bindparam("of"), _message.c.control_id == sa.bindparam("under"))
_SAME = (
    sa.select(_message).where(_is_of_sender, _message.c.digest == sa.bindparam("bytes")).with_for_update(key_share=True)
)
_OTHER = sa.select(_message.c.id).where(_is_of_sender, _message.c.digest != sa.bindparam("bytes")).limit(1)
_INSERT = _message.insert()


@dataclass(frozen=True, slots=True)
class JournaledMessage:
    """A message in the journal. `outcome` is "applied", "refused" or "failed"; `raw` and `reply` are as on the wire."""

    id: str
    received_at: datetime
    sender: str
    control_id: str
    digest: str
    kind: str
    raw: bytes
    reply: bytes
    outcome: str
    reason: str
    attempts: int
    patient_id: str | None = None
    order_id: str | None = None


def message_from_row(row: sa.Row[Any]) -> JournaledMessage:
    """Build a journaled message from its row."""
    return JournaledMessage(
        row.id,
        row.received_at,
        row.sender,
        row.control_id,
        row.digest,
        row.kind,
        row.raw,
        row.reply,
        row.outcome,
        row.reason,
        row.attempts,
        row.patient_id,
        row.order_id,
    )


class Messages:
    """The journal of one transaction."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow
        self._db = uow.connection

    def find(self, sender: str, control_id: str, digest: str) -> JournaledMessage | None:
        """Return the journal row of exactly these bytes from this sender, locked until the commit."""
        row = self._db.execute(_SAME, {"of": sender, "under": control_id, "bytes": digest}).one_or_none()
        return None if row is None else message_from_row(row)

    def get(self, message_id: str) -> JournaledMessage | None:
        """Return a message by its id."""
        row = self._db.execute(sa.select(_message).where(_message.c.id == message_id)).one_or_none()
        return None if row is None else message_from_row(row)

    def control_id_taken(self, sender: str, control_id: str, digest: str) -> bool:
        """Tell whether the sender used this control ID for other bytes."""
        found = self._db.execute(_OTHER, {"of": sender, "under": control_id, "bytes": digest})
        return found.scalar() is not None

    def save(self, message: JournaledMessage, *, known: bool) -> None:
        """Store a message with its answer; `known` when its row is there already."""
        columns = {
            "received_at": message.received_at,
            "sender": message.sender,
            "control_id": message.control_id,
            "digest": message.digest,
            "kind": message.kind,
            "raw": message.raw,
            "reply": message.reply,
            "outcome": message.outcome,
            "reason": message.reason,
            "attempts": message.attempts,
            "patient_id": message.patient_id,
            "order_id": message.order_id,
        }
        if known:
            self._db.execute(_message.update().where(_message.c.id == message.id).values(**columns))
        else:
            self._db.execute(_INSERT, {"id": message.id, **columns})
