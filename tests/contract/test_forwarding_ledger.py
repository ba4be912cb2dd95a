"""What destinations have taken and committed themselves to, and what would happen, on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from fixtures.outbound import TESTER
from fixtures.stores import HL7_PEER, MODALITY
from fixtures.ward import Ward, new_uid, request
from hilum.core.actor import Actor, ActorKind, Door, Role
from hilum.core.errors import NotFound
from hilum.core.study import MatchState
from hilum.delivery.rehearsal import Rehearse, rehearse
from hilum.delivery.rules import Rules
from hilum.settings import Settings
from hilum.storage import tables
from hilum.storage.forwarding import commitment_for, images_of, shown_study
from hilum.storage.store import Store
from hilum.workflow.forwarding import (
    AskCommitment,
    CommitmentAnswered,
    NoteSent,
    ask_commitment,
    commitment_answered,
    note_sent,
)
from hilum.workflow.ordering import place_order

OPERATOR = Actor("anna", Role.ADMIN, ActorKind.PERSON, Door.CLI)


@pytest.fixture
def ward(store: Store) -> Ward:
    return Ward(store)


def missing(ward: Ward, study_id: str, destination: str = "pacs") -> list[str]:
    with ward.store.read() as db:
        return [each.stored.sop_instance_uid for each in images_of(db, study_id, destination, sent=False)]


def taken(ward: Ward, study_id: str, destination: str = "pacs") -> dict[str, str]:
    with ward.store.read() as db:
        return {
            each.stored.sop_instance_uid: each.stored.id
            for each in images_of(db, study_id, destination, sent=True)
        }  # fmt: skip


def test_what_a_destination_took_is_not_missing_there_until_it_says_that_it_lacks_it(ward: Ward) -> None:
    placed, series, uids = ward.place(), new_uid(), [new_uid() for _ in range(3)]
    for uid in uids:
        ward.send(ward.image_of(placed, series=series, sop=uid))
    study = ward.study(placed.study_instance_uid)
    assert sorted(missing(ward, study.id)) == sorted(uids)
    with ward.store.read() as db:
        ids = {each.stored.sop_instance_uid: each.stored.id for each in images_of(db, study.id, "pacs", sent=False)}
    for _ in range(2):  # noted twice is noted once
        ward.store.run(note_sent, NoteSent("pacs", {ids[uids[0]]: 0, ids[uids[1]]: 0xB000}), TESTER)
    assert missing(ward, study.id) == [uids[2]]
    assert sorted(missing(ward, study.id, "other")) == sorted(uids)
    assert set(taken(ward, study.id)) == set(uids[:2])

    ward.store.run(ask_commitment, AskCommitment("2.25.1", "pacs", "PACS", "D1"), TESTER)
    for wrong in (CommitmentAnswered("2.25.2", "PACS", ()), CommitmentAnswered("2.25.1", "MALLORY", ())):
        with pytest.raises(NotFound):
            ward.store.run(commitment_answered, wrong, MODALITY)
    ward.store.run(commitment_answered, CommitmentAnswered("2.25.1", "PACS", (uids[1],)), MODALITY)
    with ward.store.read() as db:
        asked = commitment_for(db, "D1")
    assert asked is not None
    assert (asked.answered_at is not None, asked.failed) == (True, (uids[1],))
    assert sorted(missing(ward, study.id)) == sorted(uids[1:])


def test_what_may_not_be_shown_is_not_sent(ward: Ward) -> None:
    placed = ward.place()
    ward.send(ward.image_of(placed))
    study = ward.study(placed.study_instance_uid)

    def hide(uow, command, actor) -> None:  # type: ignore[no-untyped-def]
        uow.studies.match(study.id, MatchState.WITHHELD, None, None)

    with ward.store.read() as db:
        assert shown_study(db, study.id) is not None
    ward.store.run(hide, None, TESTER)
    with ward.store.read() as db:
        assert shown_study(db, study.id) is None


def test_a_rehearsal_tells_what_would_happen_and_leaves_nothing(ward: Ward, tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path,
        destination=[{"name": "lake", "kind": "file", "address": "file:///lake"}],
        route=[{"on": "OrderPlaced", "to": ["lake"]}],
    )
    command = Rehearse([(place_order, request("1", "NEW1"))], HL7_PEER, settings, Rules.of(settings), {})
    events, (order,) = ward.store.run(rehearse, command, OPERATOR)
    (departure,) = next(each for each in events if each.event == "OrderPlaced").departures
    assert (departure.destination, departure.state, departure.reason) == ("lake", "dead", "no-encoder")
    with ward.store.read() as db:
        for table in (tables.imaging_order, tables.patient, tables.event):
            assert db.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() == 0
    assert ward.place().accession_number == order.accession_number, "no number was used up"
