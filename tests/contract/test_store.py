"""`store.run` keeps its promises on SQLite and on PostgreSQL."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest
import sqlalchemy as sa

from fixtures.stores import HL7_PEER
from hilum.core.actor import Actor, ActorKind, Door, Role
from hilum.core.errors import Conflict, Forbidden, NotFound
from hilum.core.patient import PatientIdentifier, PersonName
from hilum.storage import tables
from hilum.storage.store import Store
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.registration import DemographicsSaid, RegisterPatient, register_patient
from hilum.workflow.source import Source

SOURCE = Source("HL7 ADT^A04", "EPIC|GENHOSP")


def registration(number: str, family: str = "DOE") -> RegisterPatient:
    said = DemographicsSaid(PersonName(family, "JANE"), date(1980, 1, 2), sex="F")
    return RegisterPatient((PatientIdentifier(number, "GENHOSP"),), said, None, SOURCE)


def count(store: Store, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
    with store.read() as db:
        return int(db.execute(sa.select(sa.func.count()).select_from(table).where(*where)).scalar_one())


def test_a_verb_commits_state_event_and_audit_row_together(store: Store) -> None:
    patient = store.run(register_patient, registration("1"), HL7_PEER)
    assert count(store, tables.patient, tables.patient.c.id == patient.id) == 1
    assert count(store, tables.event, tables.event.c.patient_id == patient.id) == 1
    assert count(store, tables.audit_event, tables.audit_event.c.patient_id == patient.id) == 1


def test_a_refused_verb_leaves_only_its_audit_row(store: Store) -> None:
    nobody = Actor("auditor", Role.AUDITOR, ActorKind.PERSON, Door.PAGE)
    with pytest.raises(Forbidden):
        store.run(register_patient, registration("1"), nobody)
    assert count(store, tables.patient) == 0
    assert count(store, tables.event) == 0
    assert count(store, tables.audit_event, tables.audit_event.c.outcome == "refused") == 1


def test_many_threads_register_the_same_patient_once(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        patients = list(pool.map(lambda _: store.run(register_patient, registration("7"), HL7_PEER), range(24)))
    assert len({patient.id for patient in patients}) == 1
    assert count(store, tables.patient) == 1


def test_audit_sequences_have_no_gaps_although_verbs_are_refused(store: Store) -> None:
    def refused(uow: UnitOfWork, command: int, actor: Actor) -> None:
        uow.audit(actor, "read-patient")
        raise NotFound

    def attempt(number: int) -> None:
        if number % 3:
            store.run(register_patient, registration(str(number)), HL7_PEER)
        else:
            with pytest.raises(NotFound):
                store.run(refused, number, HL7_PEER)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(attempt, range(30)))
    with store.read() as db:
        rows = db.execute(sa.select(tables.audit_event.c.writer, tables.audit_event.c.sequence)).all()
    for writer in {row.writer for row in rows}:
        sequences = sorted(row.sequence for row in rows if row.writer == writer)
        assert sequences == list(range(1, len(sequences) + 1))
    assert len(rows) == 30


def test_a_defect_in_one_verb_does_not_touch_the_others(store: Store) -> None:
    def broken(uow: UnitOfWork, command: int, actor: Actor) -> None:
        uow.patients.add(DemographicsSaid(PersonName("X")).over(_nobody()), [PatientIdentifier("9", "")], None)
        raise ZeroDivisionError

    futures = [store.submit(register_patient, registration(str(n)), HL7_PEER) for n in range(5)]
    failing = store.submit(broken, 0, HL7_PEER)
    futures += [store.submit(register_patient, registration(str(n)), HL7_PEER) for n in range(5, 10)]
    assert len({future.result().id for future in futures}) == 10
    with pytest.raises(ZeroDivisionError):
        failing.result()
    assert count(store, tables.patient) == 10


def test_a_duplicate_key_is_a_conflict_not_a_crash(store: Store) -> None:
    store.run(register_patient, registration("1"), HL7_PEER)

    def forced(uow: UnitOfWork, command: int, actor: Actor) -> None:
        uow.patients.add(DemographicsSaid(PersonName("X")).over(_nobody()), [PatientIdentifier("1", "GENHOSP")], None)

    with pytest.raises(Conflict):
        store.run(forced, 0, HL7_PEER)


def _nobody():  # type: ignore[no-untyped-def]
    from hilum.workflow.registration import NOBODY

    return NOBODY


def test_a_caller_that_gave_up_waiting_stops_nobody_else(store: Store) -> None:
    def slow(uow: UnitOfWork, command: int, actor: Actor) -> int:
        time.sleep(0.05)
        return command

    futures = [store.submit(slow, number, HL7_PEER) for number in range(24)]
    given_up = [future.cancel() for future in futures[12:]]
    assert [future.result() for future in futures[:3]] == [0, 1, 2]
    assert store.run(slow, 7, HL7_PEER) == 7
    assert any(given_up)
