"""Every message is kept, applied once and answered alike; what failed can be sent again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from fixtures.stores import HL7_PEER, open_store
from fixtures.ward import Ward, registration
from hilum.core.actor import Actor, ActorKind, Door, Role
from hilum.core.errors import HilumError, InvalidInput
from hilum.core.event import EventName
from hilum.core.patient import PatientIdentifier, PersonName
from hilum.core.study import ExceptionKind
from hilum.storage import tables
from hilum.storage.messages import JournaledMessage
from hilum.storage.store import Store
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.inbound import Applied, Received, ReceiveMessage, receive_message
from hilum.workflow.registration import NOBODY, DemographicsSaid, register_patient

Apply = Callable[[UnitOfWork, str, Actor], Applied]


@pytest.fixture
def ward(sqlite_store: Store) -> Ward:
    return Ward(sqlite_store)


def registering(number: str = "1") -> Apply:
    def apply(uow: UnitOfWork, message_id: str, actor: Actor) -> Applied:
        patient = register_patient(uow, registration(number), actor)
        return Applied(patient, patient_id=patient.id)

    return apply


def failing(error: Exception) -> Apply:
    def apply(uow: UnitOfWork, message_id: str, actor: Actor) -> Applied:
        register_patient(uow, registration("UNDONE"), actor)
        raise error

    return apply


class Answers:
    """Answers that can be told apart, so that a stored one is known from a new one."""

    def __init__(self) -> None:
        self.given = 0

    def __call__(self, applied: Applied | None, error: HilumError | None) -> bytes:
        self.given += 1
        return f"{error.code if error else 'AA'} {self.given}".encode()


def message(apply: Apply, answer: Any = None, control_id: str = "C1", raw: bytes = b"MSH|1") -> ReceiveMessage:
    digest = raw.hex()
    return ReceiveMessage("EPIC|GENHOSP", control_id, digest, "ADT^A04", raw, apply, answer or Answers())


def receive(ward: Ward, command: ReceiveMessage, actor: Actor = HL7_PEER) -> Received:
    return ward.store.run(receive_message, command, actor)


def journal(ward: Ward) -> list[JournaledMessage]:
    with ward.store.read() as db:
        ids = list(db.execute(sa.select(tables.inbound_message.c.id).order_by(tables.inbound_message.c.id)).scalars())
    found = [ward.ask(lambda uow, each=each: uow.messages.get(each)) for each in ids]
    return [each for each in found if each is not None]


def patients(ward: Ward) -> int:
    with ward.store.read() as db:
        return int(db.execute(sa.select(sa.func.count()).select_from(tables.patient)).scalar_one())


def test_a_message_is_kept_with_its_answer_and_its_patient(ward: Ward) -> None:
    received = receive(ward, message(registering(), raw=b"MSH|\xff\x00bytes"))
    [kept] = journal(ward)
    assert (kept.raw, kept.reply, kept.outcome) == (b"MSH|\xff\x00bytes", received.reply, "applied")
    assert kept.patient_id is not None
    assert ward.events(EventName.MESSAGE_RECEIVED) == 1


def test_the_same_message_again_gets_the_same_answer_and_changes_nothing(store: Store) -> None:
    ward = Ward(store)
    command = message(registering())
    futures = [store.submit(receive_message, command, HL7_PEER) for _ in range(6)]
    assert len({future.result().reply for future in futures}) == 1
    assert sorted(future.result().repeated for future in futures) == [False] + [True] * 5
    assert (len(journal(ward)), patients(ward), ward.events(EventName.PATIENT_REGISTERED)) == (1, 1, 1)


def test_a_refused_message_is_kept_and_all_it_did_is_undone(store: Store) -> None:
    ward = Ward(store)
    received = receive(ward, message(failing(InvalidInput("The name is odd.", field="PID-5"))))
    assert (received.outcome, received.reason, received.reply) == ("refused", "invalid", b"invalid 1")
    assert (journal(ward)[0].outcome, journal(ward)[0].attempts, patients(ward)) == ("refused", 1, 0)
    assert ward.events(EventName.PATIENT_REGISTERED) == 0
    [item] = ward.open_items()
    assert (item.kind, item.message_id) == (ExceptionKind.MESSAGE_REFUSED, received.message_id)
    assert item.note == "ADT^A04: The name is odd. (PID-5)"


def test_a_refused_message_is_processed_again_when_it_comes_again(ward: Ward) -> None:
    answers = Answers()
    first = receive(ward, message(failing(InvalidInput()), answers))
    second = receive(ward, message(registering(), answers))
    assert (first.message_id, first.outcome, second.outcome) == (second.message_id, "refused", "applied")
    assert (journal(ward)[0].attempts, journal(ward)[0].outcome, patients(ward)) == (2, "applied", 1)
    assert not ward.open_items()
    assert receive(ward, message(registering(), answers)).reply == second.reply


def test_other_bytes_under_a_known_control_id_are_applied_and_listed(ward: Ward) -> None:
    receive(ward, message(registering("1"), raw=b"one"))
    received = receive(ward, message(registering("2"), raw=b"two"))
    assert (received.outcome, patients(ward)) == ("applied", 2)
    [item] = ward.open_items()
    assert (item.kind, item.message_id) == (ExceptionKind.CONTROL_ID_REUSED, received.message_id)


def test_a_defect_inside_is_answered_and_the_message_kept(store: Store) -> None:
    ward = Ward(store)
    received = receive(ward, message(failing(ZeroDivisionError())))
    assert (received.outcome, received.reason) == ("refused", "defect")
    assert (journal(ward)[0].raw, patients(ward)) == (b"MSH|1", 0)


def test_what_contradicts_the_database_is_refused_and_the_message_kept(store: Store) -> None:
    ward = Ward(store)
    ward.register("1")

    def apply(uow: UnitOfWork, message_id: str, actor: Actor) -> Applied:
        uow.patients.add(DemographicsSaid(PersonName("X")).over(NOBODY), [PatientIdentifier("1", "GENHOSP")], None)
        return Applied()

    received = receive(ward, message(apply))
    assert (received.outcome, received.reason) == ("refused", "conflict")
    assert (journal(ward)[0].outcome, patients(ward)) == ("refused", 1)
    assert ward.open_kinds() == {ExceptionKind.MESSAGE_REFUSED}


def test_a_value_that_does_not_fit_is_refused_and_the_message_kept(migrated_postgres_url: str, tmp_path: Path) -> None:
    store = open_store(migrated_postgres_url, tmp_path)
    ward = Ward(store)

    def apply(uow: UnitOfWork, message_id: str, actor: Actor) -> Applied:
        uow.patients.add(NOBODY, [PatientIdentifier("1", "GENHOSP", "TOOLONGFORATYPE")], None)
        return Applied()

    received = receive(ward, message(apply))
    assert (received.reason, len(journal(ward))) == ("invalid", 1)
    store.close()


def test_a_message_from_someone_without_right_is_kept_and_refused(ward: Ward) -> None:
    nobody = Actor("x", Role.AUDITOR, ActorKind.PEER, Door.HL7)
    received = receive(ward, message(registering()), nobody)
    assert (received.reason, len(journal(ward)), patients(ward)) == ("forbidden", 1, 0)
    with ward.store.read() as db:
        outcomes = db.execute(sa.select(tables.audit_event.c.outcome, tables.audit_event.c.reason)).all()
    assert [tuple(row) for row in outcomes] == [("refused", "forbidden")]
