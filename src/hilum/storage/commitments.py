"""Requests for storage commitment: kept until the peer has been told, and what is checked to tell it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from hilum.storage import tables
from hilum.storage.hiding import DELETED
from hilum.storage.unit_of_work import UnitOfWork

WAITING, REPORTED, GIVEN_UP = "waiting", "reported", "given-up"
_request, _instance = tables.commitment_request, tables.instance
_STAYS = sa.or_(_instance.c.hidden.is_(None), _instance.c.hidden != DELETED)
_AT_ONCE = 500

Reference = tuple[str, str]  # SOP class, SOP instance


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """What a peer asked to be assured of; `attempts` were made to tell it."""

    id: str
    peer: str
    transaction_uid: str
    referenced: tuple[Reference, ...]
    attempts: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredPlace:
    """Where an instance that is indexed lies, and what it is."""

    sop_instance_uid: str
    sop_class_uid: str
    object_key: str
    object_end: int


def due_commitments(connection: sa.Connection, now: datetime, limit: int = 20) -> list[CommitmentRequest]:
    """Return requests whose peer is to be told now, those that wait longest first."""
    query = (
        sa.select(_request)
        .where(_request.c.state == WAITING, _request.c.due_at <= now)
        .order_by(_request.c.due_at)
        .limit(limit)
    )
    return [_request_of(row) for row in connection.execute(query)]


def has_due_commitments(connection: sa.Connection, now: datetime) -> bool:
    """Tell whether there is any."""
    query = sa.select(sa.literal(1)).where(_request.c.state == WAITING, _request.c.due_at <= now).limit(1)
    return connection.execute(query).scalar() is not None


def find_commitment(connection: sa.Connection, request_id: str) -> CommitmentRequest | None:
    """Return a request that still waits."""
    row = connection.execute(
        sa.select(_request).where(_request.c.id == request_id, _request.c.state == WAITING)
    ).one_or_none()
    return None if row is None else _request_of(row)


def places_of(connection: sa.Connection, sop_instance_uids: Sequence[str]) -> Iterator[StoredPlace]:
    """Yield where instances lie that are indexed under these UIDs, without those kept beside or about to be deleted.

    Nobody is told that what is marked for deletion is safe here; what is rejected is kept.
    """
    unique = list(dict.fromkeys(sop_instance_uids))
    for start in range(0, len(unique), _AT_ONCE):
        query = sa.select(
            _instance.c.sop_instance_uid,
            _instance.c.sop_class_uid,
            _instance.c.object_key,
            _instance.c.object_offset + _instance.c.object_length,
        ).where(_instance.c.sop_instance_uid.in_(unique[start : start + _AT_ONCE]), sa.not_(_instance.c.beside), _STAYS)
        for row in connection.execute(query):
            yield StoredPlace(*row)


class Commitments:
    """The requests of one transaction."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._db = uow.connection
        self._uow = uow

    def keep(self, peer: str, transaction_uid: str, referenced: Sequence[Reference], due_at: datetime) -> str:
        """Keep a request and return its id; the same transaction again is asked anew."""
        self._uow.lock_keys(f"commitment {peer} {transaction_uid}")
        same = sa.and_(_request.c.peer == peer, _request.c.transaction_uid == transaction_uid)
        known = self._db.execute(sa.select(_request.c.id).where(same)).scalar()
        values = {
            "referenced": [list(reference) for reference in referenced],
            "state": WAITING,
            "attempts": 0,
            "due_at": due_at,
            "created_at": self._uow.now,
            "ended_at": None,
        }
        if known is not None:
            self._db.execute(_request.update().where(_request.c.id == known).values(values))
            return str(known)
        request_id = self._uow.new_id()
        named = {"id": request_id, "peer": peer, "transaction_uid": transaction_uid}
        self._db.execute(_request.insert().values(named | values))
        return request_id

    def waiting(self, request_id: str) -> CommitmentRequest | None:
        """Return a request that still waits."""
        return find_commitment(self._db, request_id)

    def try_again(self, request: CommitmentRequest, due_at: datetime) -> None:
        """Note an attempt in vain and when the next is due."""
        self._change(request, attempts=request.attempts + 1, due_at=due_at)

    def end(self, request: CommitmentRequest, state: str, kept: timedelta) -> None:
        """Note the last attempt; what ended longer ago than `kept` is forgotten."""
        self._change(request, attempts=request.attempts + 1, state=state, ended_at=self._uow.now)
        old = sa.and_(_request.c.state != WAITING, _request.c.ended_at < self._uow.now - kept)
        self._db.execute(_request.delete().where(old))

    def _change(self, request: CommitmentRequest, **values: Any) -> None:
        self._db.execute(_request.update().where(_request.c.id == request.id).values(values))


def _request_of(row: sa.Row[Any]) -> CommitmentRequest:
    referenced = tuple((sop_class, sop_instance) for sop_class, sop_instance in row.referenced)
    return CommitmentRequest(row.id, row.peer, row.transaction_uid, referenced, row.attempts, row.created_at)
