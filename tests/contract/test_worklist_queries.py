"""The worklist's queries answer alike on SQLite and PostgreSQL, within scope, page by page, along an index."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from fixtures.stores import HL7_PEER, MODALITY
from hilum.core.actor import Identifier
from hilum.core.order import WORKLIST_STATUSES, Code, Order, Physician, StepStatus
from hilum.core.patient import PatientIdentifier, PersonName
from hilum.core.scope import EVERYTHING, NOTHING, Scope
from hilum.storage.store import Store
from hilum.storage.worklist import WorklistKeys, unserved_steps, worklist_page
from hilum.workflow.ordering import OrderRequest, place_order
from hilum.workflow.reading import WorklistServed, worklist_served
from hilum.workflow.registration import DemographicsSaid, MergePatients, merge_patients
from hilum.workflow.scheduling import StepRequest
from hilum.workflow.source import Source

SOURCE = Source("HL7 ORM^O01", "EPIC|GENHOSP")
OPEN = WorklistKeys(WORKLIST_STATUSES)
MORNING, NOON = datetime(2026, 3, 10, 8, tzinfo=UTC), datetime(2026, 3, 10, 12, tzinfo=UTC)


def place(store: Store, number: str, family: str = "Doe", *steps: StepRequest, physician: str = "D1") -> Order:
    request = OrderRequest(
        placer_order_number=number,
        placer_authority="EPIC",
        procedure=Code("CT", "L", "CT Thorax"),
        source=SOURCE,
        section="CT",
        patient_identifiers=(PatientIdentifier(f"P{number}", "GENHOSP"),),
        demographics=DemographicsSaid(PersonName(family, "Jane"), date(1980, 1, 2), sex="F"),
        ordering_physician=Physician(physician, "House", "Gregory", "GENHOSP"),
        steps=steps,
    )
    return store.run(place_order, request, HL7_PEER)


@pytest.fixture
def ward(store: Store) -> Store:
    place(store, "1", "Müller", StepRequest("S1", "CT", "CT01", start_at=MORNING))
    place(store, "2", "Meyer", StepRequest("S2", "MR", "MR01", start_at=NOON), physician="D2")
    place(store, "3", "Miller")
    return store


def found(store: Store, scope: Scope = EVERYTHING, **keys: Any) -> set[str]:
    with store.read() as db:
        entries = worklist_page(db, replace(OPEN, **keys), scope, after="", limit=100)
    return {entry.patient.demographics.name.family for entry in entries}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, {"Müller", "Meyer", "Miller"}),
        ({"due_now": False}, {"Müller", "Meyer"}),
        ({"start_first": NOON}, {"Meyer", "Miller"}),
        ({"start_last": MORNING, "due_now": False}, {"Müller"}),
        ({"start_first": MORNING, "start_last": MORNING, "due_now": False}, {"Müller"}),
        ({"stations": ("CT01",)}, {"Müller", "Miller"}),
        ({"stations": ("ct*",)}, {"Müller", "Miller"}),
        ({"modalities": ("MR",)}, {"Meyer"}),
        ({"patient_names": ("M?ller*",)}, {"Müller", "Miller"}),
        ({"patient_names": ("MÜLLER",)}, {"Müller"}),
        ({"patient_names": ("müller^jane",)}, {"Müller"}),
        ({"patient_names": ("^jane",)}, {"Müller", "Meyer", "Miller"}),
        ({"patient_names": ("%",)}, set()),
        ({"patient_ids": ("P2",)}, {"Meyer"}),
        ({"patient_ids": ("p2",)}, set()),
        ({"patient_ids": ("P*",), "issuers": ("GENHOSP",)}, {"Müller", "Meyer", "Miller"}),
        ({"patient_ids": ("P2",), "issuers": ("OTHER",)}, set()),
        ({"statuses": frozenset({StepStatus.STARTED})}, set()),
    ],
)
def test_each_key_limits_the_worklist(ward: Store, keys: dict[str, Any], expected: set[str]) -> None:
    assert found(ward, **keys) == expected


def test_a_physician_sees_the_steps_of_own_patients_only(ward: Store) -> None:
    assert found(ward, Scope(everything=False, physicians=(Identifier("D2", "GENHOSP"),))) == {"Meyer"}
    assert found(ward, NOTHING) == set()


def test_pages_follow_one_another_without_gap_or_repetition(store: Store) -> None:
    for number in range(7):
        place(store, str(number))
    seen: list[str] = []
    with store.read() as db:
        while page := worklist_page(db, OPEN, EVERYTHING, after=seen[-1] if seen else "", limit=3):
            seen += [entry.step.id for entry in page]
    assert len(seen) == len(set(seen)) == 7


def test_a_merged_patient_comes_with_the_identifiers_of_the_family_own_first(ward: Store) -> None:
    merge = MergePatients(
        (PatientIdentifier("P1", "GENHOSP"),), (PatientIdentifier("P2", "GENHOSP"),), DemographicsSaid(), None, SOURCE
    )
    ward.run(merge_patients, merge, HL7_PEER)
    with ward.read() as db:
        entries = worklist_page(db, replace(OPEN, patient_ids=("P2",)), EVERYTHING, after="", limit=9)
    assert len(entries) == 2
    for entry in entries:
        assert [identifier.value for identifier in entry.patient.identifiers] == ["P1", "P2"]
        assert entry.patient.demographics.name.family == "Müller"


def test_steps_are_unserved_until_their_station_saw_them(ward: Store) -> None:
    with ward.read() as db:
        steps = tuple(entry.step.id for entry in worklist_page(db, OPEN, EVERYTHING, after="", limit=9))
    ward.run(worklist_served, WorklistServed(steps[:2], Source("DICOM MWL C-FIND", "CT01")), MODALITY)
    with ward.read() as db:
        assert unserved_steps(db, steps, "CT01") == steps[2:]
        assert unserved_steps(db, steps, "CT02") == steps


def test_open_steps_are_found_along_the_index_of_statuses(ward: Store) -> None:
    statements: list[tuple[str, Any]] = []
    listen = (ward.engine, "before_cursor_execute", lambda c, cur, text, params, *_: statements.append((text, params)))
    sa.event.listen(*listen)
    found(ward, start_first=MORNING, start_last=NOON)
    sa.event.remove(*listen)
    text, parameters = next(each for each in statements if "FROM scheduled_step JOIN" in each[0])
    with ward.read() as db:
        if db.dialect.name == "sqlite":
            plan = [row[3] for row in db.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", parameters)]
        else:
            # With a handful of rows a scan is cheapest; what counts is that the index can serve the query.
            db.exec_driver_sql("SET LOCAL enable_seqscan = off")
            plan = [row[0] for row in db.exec_driver_sql(f"EXPLAIN {text}", parameters)]
    assert any("scheduled_step" in line for line in plan)
    assert any("ix_scheduled_step_status_start_at" in line for line in plan), plan
    assert not any("SCAN scheduled_step" in line or "Seq Scan on scheduled_step" in line for line in plan), plan
