"""The chain of an order: each link by the event that proves it, with the time since the link before."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from fixtures.ward import NOON, Ward, naming
from hilum.core.chain import WHAT, chain_as_rows, chain_of
from hilum.core.event import Event, EventName
from hilum.core.links import LINK_OF_EVENT, LINK_TITLES, Link
from hilum.core.report import ReportStatus
from hilum.storage import tables
from hilum.storage.store import Store

# Events that prove no link: drafts, messages, what could not be matched, and the status that is told of the others.
UNLINKED = {
    EventName.REPORT_DRAFTED,
    EventName.MESSAGE_RECEIVED,
    EventName.STUDY_UNMATCHED,
    EventName.INSTANCES_STORED,
    EventName.INSTANCES_REJECTED,
    EventName.INSTANCES_RESTORED,
    EventName.INSTANCES_DELETED,
    EventName.ORDER_STATUS_CHANGED,
    EventName.GLASS_BROKEN,
}


def event(name: EventName, minutes: float, **said: object) -> Event:
    return Event(f"{minutes:09}", name, NOON + timedelta(minutes=minutes), **said)  # type: ignore[arg-type]


def test_every_event_proves_a_link_in_words_or_none_on_purpose() -> None:
    assert set(LINK_OF_EVENT) | UNLINKED == set(EventName)
    assert set(WHAT) == set(LINK_OF_EVENT)
    assert set(LINK_OF_EVENT.values()) == set(Link) == set(LINK_TITLES)


def test_an_order_without_events_has_ten_missing_links() -> None:
    chain = chain_of([])
    assert [link.link for link in chain] == list(Link)
    assert {(link.at, link.gap) for link in chain} == {(None, None)}
    assert {row["what"] for row in chain_as_rows(chain)} == {"missing"}


def test_gaps_are_counted_from_the_link_before_that_is_there() -> None:
    chain = chain_of([event(EventName.ORDER_PLACED, 1), event(EventName.EXAM_STARTED, 31)])
    gaps = {link.link: link.gap for link in chain}
    assert gaps[Link.EXAM] == timedelta(minutes=30)
    assert gaps[Link.ORDER] is None
    assert gaps[Link.REPORT] is None


def test_a_link_is_as_old_as_its_first_event_and_keeps_the_others_in_time() -> None:
    chain = chain_of(
        [event(EventName.REPORT_SIGNED, 9, details={"status": "final"}), event(EventName.REPORT_SIGNED, 5)]
    )
    link = next(link for link in chain if link.link is Link.REPORT)
    assert link.at == NOON + timedelta(minutes=5)
    assert [each.what for each in link.events] == ["report signed", "report signed (final)"]


def test_links_out_of_order_in_time_show_a_negative_gap() -> None:
    chain = chain_of([event(EventName.ORDER_PLACED, 10), event(EventName.IMAGES_ARRIVED, 4)])
    rows = {row["link"]: row for row in chain_as_rows(chain)}
    assert rows["Images"]["gap_seconds"] == -360


@pytest.mark.parametrize("missing", [None, "exam", "report"])
def test_the_verbs_leave_the_events_of_their_links(sqlite_store: Store, missing: str | None) -> None:
    ward = Ward(sqlite_store)
    ward.register("1")
    placed = ward.place()
    ward.send(ward.image_of(placed)) if missing == "exam" else None
    if missing != "exam":
        ward.end(ward.start(naming(placed)))
        ward.send(ward.image_of(placed))
    if missing != "report":
        ward.relay(placed, ReportStatus.FINAL)
    with ward.store.read() as db:
        rows = db.execute(sa.select(tables.event).where(tables.event.c.order_id == placed.id)).all()
    events = [Event(row.id, EventName(row.name), row.at, standard=row.standard, peer=row.peer) for row in rows]
    proven = {link.link for link in chain_of(events) if link.events}
    expected = {Link.ORDER, Link.SCHEDULE, Link.EXAM, Link.IMAGES, Link.REPORT}
    assert proven == expected - ({Link.REPORT} if missing == "report" else set())
    assert all(each.event.peer for link in chain_of(events) for each in link.events)
