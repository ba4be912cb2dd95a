"""Queries over the inbound journal, for the people who operate it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from hilum.storage import tables
from hilum.storage.messages import JournaledMessage, message_from_row

_message = tables.inbound_message
# What a list shows: neither the message nor its answer.
_HEAD = (
    _message.c.id, _message.c.received_at, _message.c.sender, _message.c.control_id, _message.c.kind,
    _message.c.outcome, _message.c.reason, _message.c.attempts,
)  # fmt: skip

HEADER_BYTES = 2048


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a message came, from whom, and its first bytes, which hold its header."""

    sender: str
    received_at: datetime
    head: bytes


def latest_arrivals(connection: sa.Connection, limit: int) -> list[Arrival]:
    """Return the newest applied messages with when they came first."""
    head = sa.func.substr(_message.c.raw, 1, HEADER_BYTES, type_=sa.LargeBinary)
    query = sa.select(_message.c.sender, _message.c.received_at, head, _message.c.outcome)
    newest = query.order_by(_message.c.id.desc()).limit(limit)
    return [Arrival(*row[:3]) for row in connection.execute(newest) if row.outcome == "applied"]


def latest_messages(connection: sa.Connection, limit: int, before: str = "") -> list[dict[str, Any]]:
    """Return the heads of the newest messages, newest first; `before` is the id to go on from."""
    query = sa.select(*_HEAD).order_by(_message.c.id.desc()).limit(limit)
    if before:
        query = query.where(_message.c.id < before)
    return [dict(row) for row in connection.execute(query).mappings()]


def messages_of_control_id(connection: sa.Connection, control_id: str) -> list[JournaledMessage]:
    """Return the messages that came under a control ID, oldest first."""
    query = sa.select(_message).where(_message.c.control_id == control_id).order_by(_message.c.id)
    return [message_from_row(row) for row in connection.execute(query)]
