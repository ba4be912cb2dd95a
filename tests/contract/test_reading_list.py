"""The reading worklist on both databases: what waits, in which order, page by page along an index, within the scope."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from fixtures.stores import HL7_PEER, MODALITY
from hilum.core.actor import Actor, ActorKind, Door, Identifier, Role
from hilum.core.errors import MissingField, NotFound, Stale
from hilum.core.identifiers import new_id, new_uid
from hilum.core.order import Code, Order, Physician, Priority
from hilum.core.patient import PatientIdentifier, PersonName
from hilum.core.report import DraftKind, ReportStatus, ReportVersion, with_addendum
from hilum.core.scope import EVERYTHING, NOTHING, Scope
from hilum.storage import tables
from hilum.storage.reading_list import Entry, Key, Listing, Wanted, reading_counts, reading_page
from hilum.storage.reading_rows import reading_rows
from hilum.storage.store import Store
from hilum.workflow.images import RecordInstance, record_instance
from hilum.workflow.matching import PatientOnImages
from hilum.workflow.ordering import OrderRequest, place_order
from hilum.workflow.registration import (
    DemographicsSaid,
    MergePatients,
    RegisterPatient,
    merge_patients,
    register_patient,
)
from hilum.workflow.reporting import DiscardDraft, DraftReport, SignReport, discard_draft, draft_report, sign_report
from hilum.workflow.source import Source

READER = Actor("feng", Role.RADIOLOGIST, ActorKind.PERSON, Door.PAGE, (Identifier("R1"),), "", "Feng, Alan")
HOUSE = Physician("D77", "House", "Gregory", "GENHOSP")
PAGE = Source("Hilum page", "feng")
ORM = Source("HL7 ORM^O01", "EPIC")
ROUTINE, URGENT, STAT = Priority.ROUTINE, Priority.URGENT, Priority.STAT


def register(store: Store, number: str, family: str) -> None:
    said = DemographicsSaid(PersonName(family, "Jane"))
    command = RegisterPatient((PatientIdentifier(number, "GENHOSP"),), said, None, Source("HL7 ADT^A04", "EPIC"))
    store.run(register_patient, command, HL7_PEER)


def place(store: Store, number: str, placer: str, priority: Priority = ROUTINE, **details: Any) -> Order:
    asked = OrderRequest(
        placer,
        "EPIC",
        Code("CTCHEST", "LN", "CT chest"),
        ORM,
        (PatientIdentifier(number, "GENHOSP"),),
        section="CT",
        priority=priority,
    )
    return store.run(place_order, replace(asked, **details), HL7_PEER)


def scan(store: Store, order: Order | None, number: str, name: str, uid: str = "") -> None:
    study = order.study_instance_uid if order else uid
    command = RecordInstance(
        study,
        PatientOnImages(number, "GENHOSP", f"{name}^Jane", "", "F"),
        order.accession_number if order else "",
        {
            "study_identifier": "1", "study_date": "20260102", "study_time": "101500", "description": "Chest",
            "description_folded": "chest", "referring_physician": "", "attributes": {},
        },
        {
            "series_instance_uid": f"{study}.1", "modality": "CT", "number": 1, "description": "", "body_part": "",
            "station_name": "", "series_date": "", "series_time": "", "attributes": {},
        },
        {
            "sop_instance_uid": new_uid(), "sop_class_uid": "1.2", "transfer_syntax_uid": "1.2.840.10008.1.2.1",
            "number": 1, "rows": 4, "columns": 4, "frames": 1, "digest": new_id(), "object_key": "k",
            "object_offset": 0, "object_length": 1, "dataset_offset": 0, "pixels": None, "header": b"{}",
            "peer": "CT01",
        },
        Source("DICOM C-STORE", "CT01"),
    )  # fmt: skip
    store.run(record_instance, command, MODALITY)


def listed(store: Store, listing: Listing = Listing.WAITING, scope: Scope = EVERYTHING, **more: Any) -> list[str]:
    with store.read() as connection:
        entries, _ = reading_page(connection, scope, Wanted(listing, **more), 100)
    return [entry.key.id for entry in entries]


def sign(store: Store, order: Order, status: ReportStatus, revision: int | None, reason: str = "") -> int:
    command = SignReport(order.id, status, "" if reason else "Clear.", "", revision, PAGE, reason)
    return store.run(sign_report, command, READER).revision


def test_exam_waits_from_its_images_until_its_final_report_and_again_after_a_retraction(store: Store) -> None:
    register(store, "P1", "Doe")
    order = place(store, "P1", "PL1")
    assert listed(store) == []
    assert listed(store, Listing.SCHEDULED) == [order.id]
    scan(store, order, "P1", "Doe")
    assert listed(store) == [order.id]
    assert listed(store, Listing.SCHEDULED) == []
    revision = sign(store, order, ReportStatus.PRELIMINARY, None)
    assert listed(store) == listed(store, Listing.PRELIMINARY) == [order.id]
    revision = sign(store, order, ReportStatus.FINAL, revision)
    assert listed(store) == listed(store, Listing.PRELIMINARY) == []
    assert listed(store, Listing.REPORTED) == [order.id]
    sign(store, order, ReportStatus.RETRACTED, revision, "Wrong patient.")
    assert listed(store) == [order.id]


def test_stat_comes_before_urgent_before_the_longest_waiting(store: Store) -> None:
    register(store, "P1", "Doe")
    orders = {}
    for name, priority in (("r1", ROUTINE), ("r2", ROUTINE), ("u", URGENT), ("s1", STAT), ("s2", STAT)):
        orders[name] = place(store, "P1", name, priority)
        scan(store, orders[name], "P1", "Doe")
    assert listed(store) == [orders[name].id for name in ("s1", "s2", "u", "r1", "r2")]


def test_images_without_an_order_wait_among_the_routine_ones_until_set_aside(store: Store) -> None:
    register(store, "P1", "Doe")
    first = place(store, "P1", "PL1")
    scan(store, first, "P1", "Doe")
    scan(store, None, "X9", "Stranger", new_uid())
    second = place(store, "P1", "PL2")
    scan(store, second, "P1", "Doe")
    unknown = listed(store, Listing.UNVERIFIED)
    assert len(unknown) == 1
    assert listed(store) == [first.id, *unknown, second.id]
    assert listed(store, text="stranger") == unknown
    assert listed(store, scope=Scope(False, (Identifier("D77", "GENHOSP"),))) == []
    assert listed(store, scope=NOTHING) == []


@pytest.mark.parametrize("listing", [Listing.WAITING, Listing.ALL])
def test_pages_forth_and_back_hold_every_row_once(store: Store, listing: Listing) -> None:
    register(store, "P1", "Doe")
    for number in range(11):
        scan(store, place(store, "P1", f"PL{number}", (STAT, URGENT, ROUTINE)[number % 3]), "P1", "Doe")
        if number % 4 == 0:
            scan(store, None, f"X{number}", "Stranger", new_uid())
    everything = listed(store, listing)
    assert len(everything) == len(set(everything)) == 14
    forth: list[Entry] = []
    with store.read() as connection:
        key: Key | None = None
        more = True
        while more:
            page, more = reading_page(connection, EVERYTHING, Wanted(listing), 4, after=key)
            forth += page
            key = page[-1].key
        assert [entry.key.id for entry in forth] == everything
        back, more = reading_page(connection, EVERYTHING, Wanted(listing), 4, before=forth[8].key)
        assert ([entry.key.id for entry in back], more) == (everything[4:8], True)
        first, more = reading_page(connection, EVERYTHING, Wanted(listing), 4, before=forth[4].key)
        assert ([entry.key.id for entry in first], more) == (everything[:4], False)


def test_rows_and_search_follow_a_merge_to_the_survivor(store: Store) -> None:
    register(store, "P1", "Smith")
    register(store, "P2", "Jones")
    order = place(store, "P2", "PL1")
    scan(store, order, "P2", "Jones")
    merge = MergePatients(
        (PatientIdentifier("P1", "GENHOSP"),), (PatientIdentifier("P2", "GENHOSP"),), DemographicsSaid(), None, ORM
    )
    store.run(merge_patients, merge, HL7_PEER)
    assert listed(store, text="smith") == listed(store, text="p2") == [order.id]
    assert listed(store, text="jones") == []
    with store.read() as connection:
        entries, _ = reading_page(connection, EVERYTHING, Wanted(), 10)
        (row,) = reading_rows(connection, entries)
    assert row.patient is not None
    assert row.patient.demographics.name.family == "Smith"
    assert row.images is not None
    assert row.images.count == 1


def test_counts_are_those_of_the_lists(store: Store) -> None:
    register(store, "P1", "Doe")
    for number in range(5):
        order = place(store, "P1", f"PL{number}", STAT if number < 2 else ROUTINE, ordering_physician=HOUSE)
        if number:
            scan(store, order, "P1", "Doe")
    scan(store, None, "X9", "Stranger", new_uid())
    with store.read() as connection:
        counts = reading_counts(connection, EVERYTHING, Wanted(), list(Listing))
        own = reading_counts(connection, Scope(False, (Identifier("D77"),)), Wanted(), list(Listing))
    assert counts[:-1] == [len(listed(store, listing)) for listing in Listing]
    assert counts[-1] == 1
    assert own[list(Listing).index(Listing.UNVERIFIED)] == 0
    assert own[0] == 4


def test_worklist_of_ten_thousand_orders_walks_along_its_index(store: Store) -> None:
    register(store, "P1", "Doe")
    template = place(store, "P1", "PL0")
    start = datetime(2026, 1, 1, tzinfo=UTC)
    with store.engine.connect() as connection, connection.begin():
        row = dict(connection.execute(sa.select(tables.imaging_order)).mappings().one())
        many = [
            {
                **row,
                "id": new_id(),
                "accession_number": f"A{number}",
                "study_instance_uid": f"2.25.{number}",
                "placer_order_number": f"B{number}",
                "priority": ("stat", "urgent", "routine")[number % 3],
                "status": "completed",
                "unread_since": start + timedelta(seconds=number) if number % 20 == 0 else None,
            }
            for number in range(10_000)
        ]
        connection.execute(tables.imaging_order.insert(), many)
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("ANALYZE")
    assert template.id not in listed(store)
    plans: list[str] = []

    def explain(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if "unread_since" in statement and "EXPLAIN" not in statement and "ORDER BY" in statement:
            prefix = "EXPLAIN " if conn.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN "
            plan = conn.connection.cursor()
            plan.execute(prefix + statement, parameters)
            plans.append("\n".join(str(found) for found in plan.fetchall()))

    sa.event.listen(store.engine, "before_cursor_execute", explain)
    with store.read() as connection:
        page, more = reading_page(connection, EVERYTHING, Wanted(), 200)
        reading_page(connection, EVERYTHING, Wanted(), 200, after=page[-1].key)
    sa.event.remove(store.engine, "before_cursor_execute", explain)
    assert (len(page), more) == (200, True)
    assert len(plans) >= 4
    for plan in plans:
        assert "ix_imaging_order_unread" in plan, plan
        assert "TEMP B-TREE" not in plan, plan


def test_discarded_draft_leaves_signed_versions_and_begins_anew(store: Store) -> None:
    register(store, "P1", "Doe")
    order = place(store, "P1", "PL1")
    scan(store, order, "P1", "Doe")
    draft = store.run(draft_report, DraftReport(order.id, "Text.", "", None), READER)
    with pytest.raises(Stale):
        store.run(discard_draft, DiscardDraft(order.id, draft.revision - 1), READER)
    gone = store.run(discard_draft, DiscardDraft(order.id, draft.revision), READER)
    assert gone.draft is None
    assert gone.versions == ()
    with pytest.raises(NotFound):
        store.run(discard_draft, DiscardDraft(order.id, gone.revision), READER)
    command = DraftReport(order.id, "Again.", "", gone.revision, DraftKind.CORRECTION, "Because.")
    again = store.run(draft_report, command, READER)
    assert again.draft is not None
    assert (again.draft_kind, again.draft.reason, again.draft.signed_by) == (
        DraftKind.CORRECTION,
        "Because.",
        "Feng, Alan",
    )


def test_correction_and_retraction_need_a_reason_that_the_body_repeats(store: Store) -> None:
    register(store, "P1", "Doe")
    order = place(store, "P1", "PL1")
    scan(store, order, "P1", "Doe")
    revision = sign(store, order, ReportStatus.FINAL, None)
    for status in (ReportStatus.CORRECTED, ReportStatus.RETRACTED):
        command = SignReport(order.id, status, "Clear.", "", revision, PAGE, "  ")
        with pytest.raises(MissingField):
            store.run(sign_report, command, READER)
    command = SignReport(order.id, ReportStatus.RETRACTED, "", "", revision, PAGE, "Wrong patient.")
    report = store.run(sign_report, command, READER)
    assert report.current is not None
    assert report.current.reason == "Wrong patient."
    assert report.current.text == "THIS REPORT IS WITHDRAWN. Wrong patient."


def test_addendum_keeps_the_text_it_adds_to() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    base = ReportVersion("r", 1, ReportStatus.FINAL, "Clear.", "Normal.", Physician(), moment)
    assert with_addendum(base, " A rib. ") == ("Clear.", "Normal.\n\nADDENDUM\nA rib.")
    assert with_addendum(replace(base, impression=""), "A rib.") == ("Clear.\n\nADDENDUM\nA rib.", "")
