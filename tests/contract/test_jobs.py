"""Background work: each job at its time, by one process, surviving its failures; and the worker role as a whole."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from fixtures.outbound import ENCODERS, Receiver, add_patient, configuration, eventually, happen
from fixtures.stores import MODALITY
from hilum import telemetry
from hilum.core.actor import Actor
from hilum.core.errors import Unavailable
from hilum.delivery.rules import RouteError
from hilum.jobs.gauges import lane_gauges
from hilum.jobs.runner import Job, Runner
from hilum.jobs.study_complete import study_complete
from hilum.jobs.worker import Worker
from hilum.security.audit_trail import verify_trail
from hilum.security.keys import Keyring
from hilum.security.seal import row_signer
from hilum.storage import tables
from hilum.storage.completion import quiet_studies
from hilum.storage.database import migrate, open_engine
from hilum.storage.store import Store, utc_now
from hilum.storage.unit_of_work import UnitOfWork

STUDY = {
    "patient_authority": "", "patient_name": "", "patient_name_folded": "", "patient_birth_date": "",
    "patient_sex": "", "accession_number": "", "study_identifier": "", "study_date": "", "study_time": "",
    "description": "", "description_folded": "", "referring_physician": "", "attributes": {},
    "match_state": "unverified",
}  # fmt: skip


def add_study(store: Store, uid: str) -> str:
    def verb(uow: UnitOfWork, command: str, actor: Actor) -> str:
        return uow.studies.add({"study_instance_uid": command, "patient_identifier": "", **STUDY})

    return store.run(verb, uid, MODALITY)


def events(store: Store, name: str) -> list[sa.Row[Any]]:
    with store.read() as connection:
        return list(connection.execute(sa.select(tables.event).where(tables.event.c.name == name)))


def test_a_job_that_fails_is_counted_and_runs_again(sqlite_store: Store) -> None:
    runs: list[int] = []

    def run() -> None:
        runs.append(1)
        raise ZeroDivisionError if len(runs) % 2 else Unavailable

    runner = Runner(sqlite_store, [Job("failing", 0.01, run)])
    runner.start()
    eventually(lambda: len(runs) >= 4, "it runs on")
    assert runner.alive
    assert runner.stop()
    assert 'hilum_job_failures_total{job="failing"}' in telemetry.metrics_page().decode()


def test_a_job_under_a_lease_runs_in_one_process_until_that_one_ends(store: Store) -> None:
    runs: dict[str, int] = {"a": 0, "b": 0}

    def job(who: str) -> Job:
        def run() -> None:
            runs[who] += 1

        return Job("leased", 0.02, run, lease="leased")

    first, second = Runner(store, [job("a")]), Runner(store, [job("b")])
    first.start()
    eventually(lambda: runs["a"], "the first runs")
    second.start()
    before = runs["a"]
    eventually(lambda: runs["a"] > before + 3, "the first runs on")
    assert runs["b"] == 0
    assert first.stop()
    eventually(lambda: runs["b"], "the second takes over at once")
    assert second.stop()


def test_a_job_that_is_not_due_neither_runs_nor_takes_its_lease(sqlite_store: Store) -> None:
    runner = Runner(sqlite_store, [])
    job = Job("idle", 1, lambda: pytest.fail("it ran"), due=lambda: False, lease="idle")
    assert not runner.run_once(job)
    with sqlite_store.read() as connection:
        assert connection.execute(sa.select(tables.lease)).all() == []


def test_a_stopping_runner_lets_the_run_at_hand_end(sqlite_store: Store) -> None:
    begun, ended = threading.Event(), threading.Event()

    def run() -> None:
        begun.set()
        time.sleep(0.2)
        ended.set()

    runner = Runner(sqlite_store, [Job("slow", 0.01, run)])
    runner.start()
    assert begun.wait(30)
    assert runner.stop()
    assert ended.is_set()


def test_a_quiet_study_is_completed_once_and_a_busy_one_is_not(store: Store, tmp_path: Path) -> None:
    config = configuration(tmp_path / "home", "ehr")
    quiet, busy = add_study(store, "1.2"), add_study(store, "1.3")
    with store.engine.begin() as connection:
        long_ago = utc_now() - timedelta(hours=1)
        study = tables.study
        connection.execute(study.update().where(study.c.id == quiet).values(last_received_at=long_ago))
    runner = Runner(store, [])
    assert runner.run_once(study_complete(store, config))
    assert not runner.run_once(study_complete(store, config))
    assert [row.study_id for row in events(store, "StudyCompleted")] == [quiet]
    assert busy != quiet


def test_looking_for_quiet_studies_reads_an_index_of_the_incomplete_ones(store: Store) -> None:
    with store.read() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("SET enable_seqscan = off"))
        assert quiet_studies(connection, utc_now(), utc_now()) == []
        study = tables.study
        query = sa.select(study.c.id).where(study.c.completed_at.is_(None), study.c.last_received_at < utc_now())
        text = str(query.order_by(study.c.last_received_at).limit(5).compile(
            connection.engine, compile_kwargs={"literal_binds": True}))  # fmt: skip
        explain = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
        plan = "\n".join(str(row) for row in connection.execute(sa.text(explain + text)))
    assert "ix_study_incomplete" in plan


def test_the_gauges_show_what_waits_for_each_destination(store: Store, tmp_path: Path) -> None:
    from fixtures.outbound import route_all

    config = configuration(tmp_path / "home", "lake", "desk")
    for number in range(3):
        happen(store, add_patient(store, str(number)), str(number))
    route_all(store, config)
    assert Runner(store, []).run_once(lane_gauges(store, config))
    page = telemetry.metrics_page().decode()
    assert 'hilum_lane_depth{destination="lake"} 3.0' in page
    assert 'hilum_lane_oldest_seconds{destination="desk"}' in page


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_the_worker_brings_what_was_committed_to_its_receiver_and_seals_the_trail_when_it_drains(
    backend: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    home = tmp_path / "home"
    config = configuration(home, "ehr")
    keyring = Keyring.open(home)
    url = "sqlite" if backend == "sqlite" else request.getfixturevalue("postgres_url")
    engine = open_engine(url, config.current.paths.database)
    migrate(engine)
    store = Store(engine, row_signer(keyring.audit), lock_path=str(home / "lock"))
    receiver = Receiver()
    worker = Worker(store, config, ENCODERS, {"hl7": receiver}, keyring)
    worker.start()
    try:
        patient = add_patient(store, "1")
        for number in range(20):
            happen(store, patient, str(number))
        eventually(lambda: len(receiver.accepted["ehr"]) == 20, "all arrive")
        assert worker.alive
        store.run(lambda uow, command, actor: uow.audit(actor, "read-patient"), None, MODALITY)
    finally:
        worker.drain(10)
    assert not worker.alive
    assert receiver.accepted["ehr"] == [str(number) for number in range(20)]
    with store.read() as connection:
        seals = list(connection.execute(sa.select(tables.audit_seal.c.body)).scalars())
        rows = connection.execute(sa.select(sa.func.count()).select_from(tables.audit_event)).scalar_one()
    assert sum(body["count"] for body in seals) == rows >= 1
    assert verify_trail(store, keyring, config.current.paths.seals / "latest.json") == []
    with store.read() as connection:
        assert connection.execute(sa.select(tables.lease)).all() == []
    store.close()


def test_a_worker_refuses_a_route_that_cannot_be_used(sqlite_store: Store, tmp_path: Path) -> None:
    home = tmp_path / "home"
    routes = '[[route]]\non = "OrderChanged"\nif = "order.nothing == 1"\nto = ["ehr"]\n'
    config = configuration(home, "ehr", routes=routes)
    with pytest.raises(RouteError, match="route\\[0\\]"):
        Worker(sqlite_store, config, ENCODERS, {"hl7": Receiver()}, Keyring.open(home))


def test_a_changed_route_is_taken_over_while_the_worker_runs_and_a_broken_one_is_not(
    sqlite_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hilum.delivery.router import Router

    monkeypatch.setattr("hilum.settings.live.LOOK_EVERY_SECONDS", 0.0)
    routes = '[[route]]\non = "OrderChanged"\nif = "{}"\nto = ["ehr"]\n'
    config = configuration(tmp_path / "home", "ehr", routes=routes.format("false"))
    router = Router(sqlite_store, config, ENCODERS)
    patient = add_patient(sqlite_store, "1")
    outcomes = []
    for condition in ("false", "true", "event.nothing == 1"):
        configuration(tmp_path / "home", "ehr", routes=routes.format(condition) + f"# {condition}\n")
        happen(sqlite_store, patient, condition)
        outcomes.append(router.route_once().deliveries)
    assert outcomes == [0, 1, 1]
