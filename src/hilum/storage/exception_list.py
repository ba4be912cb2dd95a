"""Queries behind the page of what waits for a person's decision, and behind the search for an order to link to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from hilum.core.order import Order
from hilum.core.patient import Patient, PersonName
from hilum.core.scope import Scope
from hilum.core.study import ExceptionItem, ExceptionKind, MatchState
from hilum.core.text import fold
from hilum.storage import tables
from hilum.storage.exceptions import exception_from_row
from hilum.storage.orders import order_from_row
from hilum.storage.pages import StudyShown, shown_from_row, studies_query
from hilum.storage.patients import identifiers_of, patient_from_row
from hilum.storage.reading_list import COUNTED, order_has_words
from hilum.storage.scoping import patient_in_scope

_item, _order, _study = tables.exception_item, tables.imaging_order, tables.study
_patient, _identifier = tables.patient, tables.patient_identifier


# Entries about images that are withheld.
WITHHOLDING = (ExceptionKind.WRONG_WORKLIST_ENTRY, ExceptionKind.DEMOGRAPHICS_DIFFER, ExceptionKind.HELD_BY_RULE)


@dataclass(frozen=True, slots=True)
class MessageLine:
    """A journaled message in one line."""

    sender: str
    control_id: str
    kind: str
    received_at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class ListedItem:
    """An open entry with what it speaks of. `is_shown` tells whether the study's page shows these images.

    `is_withheld` tells whether series of the study are kept from sight until someone decides.
    """

    item: ExceptionItem
    study: StudyShown | None
    is_shown: bool
    order: Order | None
    message: MessageLine | None
    peer: str
    is_withheld: bool = False


@dataclass(frozen=True, slots=True)
class OrderCandidate:
    """An order that a study might belong to, with its surviving patient and all their identifiers."""

    order: Order
    patient: Patient
    identifiers: tuple[str, ...]


def open_exceptions(
    connection: sa.Connection,
    scope: Scope,
    kinds: Sequence[ExceptionKind],
    limit: int,
    *,
    after: str = "",
    before: str = "",
) -> tuple[list[ListedItem], bool]:
    """Return open entries of some kinds, oldest first, after (or before) an id, and whether there are more."""
    query = sa.select(_item).where(*_open(scope, kinds))
    if before:
        query = query.where(_item.c.id < before).order_by(_item.c.id.desc())
    else:
        query = query.where(_item.c.id > after).order_by(_item.c.id)
    items = [exception_from_row(row) for row in connection.execute(query.limit(limit + 1))]
    page = items[:limit]
    return _listed(connection, scope, page[::-1] if before else page), len(items) > limit


def exception_counts(connection: sa.Connection, scope: Scope) -> dict[ExceptionKind, int]:
    """Return how many open entries of each kind there are, each up to `COUNTED`."""
    counts = [
        sa.select(sa.func.count())
        .select_from(sa.select(_item.c.id).where(*_open(scope, [kind])).limit(COUNTED).subquery())
        .scalar_subquery()
        for kind in ExceptionKind
    ]
    return dict(zip(ExceptionKind, map(int, connection.execute(sa.select(*counts)).one()), strict=True))


def open_exception_count(connection: sa.Connection, scope: Scope) -> int:
    """Return how many entries are open, up to `COUNTED`."""
    open_ids = sa.select(_item.c.id).where(*_open(scope, tuple(ExceptionKind))).limit(COUNTED).subquery()
    return int(connection.execute(sa.select(sa.func.count()).select_from(open_ids)).scalar_one())


def open_exception(connection: sa.Connection, scope: Scope, item_id: str) -> ListedItem | None:
    """Return one open entry."""
    query = sa.select(_item).where(_item.c.id == item_id, *_open(scope, tuple(ExceptionKind)))
    found = [exception_from_row(row) for row in connection.execute(query)]
    return next(iter(_listed(connection, scope, found)), None)


def likely_orders(connection: sa.Connection, scope: Scope, shown: StudyShown, limit: int = 5) -> list[OrderCandidate]:
    """Return orders that share accession number, study UID, patient identifier or name with a study, newest first."""
    study = shown.study
    person, holder = _patient.alias(), _patient.alias()
    by_identifier = (
        sa.select(holder.c.id)
        .join(person, person.c.survivor_id == holder.c.survivor_id)
        .join(_identifier, _identifier.c.patient_id == person.c.id)
        .where(_identifier.c.value == shown.sent.identifier)
    )
    by_name = sa.select(_patient.c.id).where(
        _patient.c.name_folded == fold(PersonName.from_dicom(shown.sent.name).dicom), _patient.c.name_folded != ""
    )
    named = [
        _order.c.study_instance_uid == study.study_instance_uid,
        _order.c.patient_id.in_(by_identifier),
        _order.c.patient_id.in_(by_name),
    ]
    if study.accession_number:
        named.append(_order.c.accession_number == study.accession_number)
    return _candidates(connection, scope, sa.or_(*named), limit)


def find_orders(connection: sa.Connection, scope: Scope, text: str, limit: int = 20) -> list[OrderCandidate]:
    """Return orders whose patient, numbers or procedure have all words of a text, newest first."""
    words = order_has_words(text)
    return _candidates(connection, scope, sa.and_(*words), limit) if words else []


def accession_of_order(connection: sa.Connection, order_id: str, scope: Scope) -> str | None:
    """Return the accession number of an order within the scope."""
    query = sa.select(_order.c.accession_number).where(
        _order.c.id == order_id, patient_in_scope(scope, _order.c.patient_id)
    )
    return connection.execute(query).scalar()


def _open(scope: Scope, kinds: Sequence[ExceptionKind]) -> list[sa.ColumnElement[bool]]:
    where = [_item.c.resolved_at.is_(None), patient_in_scope(scope, _item.c.patient_id)]
    return where if len(kinds) == len(ExceptionKind) else [*where, _item.c.kind.in_([kind.value for kind in kinds])]


def _candidates(
    connection: sa.Connection, scope: Scope, where: sa.ColumnElement[bool], limit: int
) -> list[OrderCandidate]:
    query = sa.select(_order).where(where, patient_in_scope(scope, _order.c.patient_id))
    orders = [order_from_row(row) for row in connection.execute(query.order_by(_order.c.id.desc()).limit(limit))]
    own, survivor, member = _patient.alias(), _patient.alias(), _patient.alias()
    people = (
        sa.select(own.c.id.label("own_id"), survivor)
        .join(survivor, survivor.c.id == own.c.survivor_id)
        .where(own.c.id.in_({order.patient_id for order in orders}))
    )
    rows = connection.execute(people).all()
    survivors = sorted({row.id for row in rows})
    family = sa.select(member.c.id, member.c.survivor_id).where(member.c.survivor_id.in_(survivors))
    members: dict[str, list[str]] = {}
    for row in connection.execute(family):
        members.setdefault(row.survivor_id, []).append(row.id)
    identifiers = identifiers_of(connection, [member for ids in members.values() for member in ids])
    patients = {row.own_id: patient_from_row(row, identifiers[row.id]) for row in rows}
    return [
        OrderCandidate(
            order,
            patients[order.patient_id],
            tuple(i.value for m in members[patients[order.patient_id].id] for i in identifiers[m]),
        )
        for order in orders
    ]


def _listed(connection: sa.Connection, scope: Scope, items: Sequence[ExceptionItem]) -> list[ListedItem]:
    """The entries with what they speak of; an order or study of someone out of scope is left out."""
    own_studies = studies_query().where(patient_in_scope(scope, _study.c.patient_id))
    own_orders = sa.select(_order).where(patient_in_scope(scope, _order.c.patient_id))
    studies = _by_id(connection, own_studies, _study.c.id, [item.study_id for item in items], shown_from_row)
    orders = _by_id(connection, own_orders, _order.c.id, [item.order_id for item in items], order_from_row)
    message = tables.inbound_message
    columns = (message.c.id, message.c.sender, message.c.control_id, message.c.kind, message.c.received_at)
    messages = _by_id(
        connection, sa.select(*columns, message.c.reason), message.c.id, [item.message_id for item in items], _message
    )
    peers, hidden = _peers(connection, list(studies)), _hidden(connection, list(studies.values()))
    series = tables.series
    of_these = sa.select(series.c.study_id).where(series.c.study_id.in_(list(studies)), series.c.withheld)
    withheld = set(connection.execute(of_these.distinct()).scalars())
    return [
        ListedItem(
            item,
            studies.get(item.study_id or ""),
            item.study_id in studies and item.study_id not in hidden,
            orders.get(item.order_id or ""),
            messages.get(item.message_id or ""),
            peers.get(item.study_id or "", ""),
            item.study_id in withheld and item.kind in WITHHOLDING,
        )
        for item in items
    ]


def _by_id(
    connection: sa.Connection,
    query: sa.Select[Any],
    column: sa.ColumnElement[str],
    ids: Sequence[str | None],
    build: Any,
) -> dict[str, Any]:
    rows = connection.execute(query.where(column.in_({value for value in ids if value})))
    return {row.id: build(row) for row in rows}


def _message(row: sa.Row[Any]) -> MessageLine:
    return MessageLine(row.sender, row.control_id, row.kind, row.received_at, row.reason)


def _peers(connection: sa.Connection, study_ids: Sequence[str]) -> dict[str, str]:
    """Return who sent the images of each study first."""
    instance = tables.instance
    first = (
        sa.select(instance.c.study_id, sa.func.min(instance.c.id).label("id"))
        .where(instance.c.study_id.in_(study_ids))
        .group_by(instance.c.study_id)
        .subquery()
    )
    query = sa.select(instance.c.study_id, instance.c.peer).join(first, first.c.id == instance.c.id)
    return {row.study_id: row.peer for row in connection.execute(query)}


def _hidden(connection: sa.Connection, studies: Sequence[StudyShown]) -> set[str]:
    """Return the studies whose UID stands for another study's images, or that are withheld."""
    hidden = {shown.study.id for shown in studies if shown.study.match_state is MatchState.WITHHELD or not shown.images}
    conflicts = [shown.study for shown in studies if shown.study.match_state is MatchState.CONFLICT]
    query = sa.select(_study.c.study_instance_uid).where(
        _study.c.study_instance_uid.in_([study.study_instance_uid for study in conflicts]),
        _study.c.match_state.in_([MatchState.VERIFIED.value, MatchState.UNVERIFIED.value]),
    )
    taken = set(connection.execute(query).scalars())
    return hidden | {study.id for study in conflicts if study.study_instance_uid in taken}
