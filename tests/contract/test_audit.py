"""The audit trail is sealed as it grows, and whatever is done to it afterwards is found and named."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from hilum.core.actor import Actor, ActorKind, Door, Role, system_actor
from hilum.jobs.runner import Runner
from hilum.jobs.sealer import Sealer
from hilum.security.audit_trail import SealRows, read_outside, seal_rows, verify_trail
from hilum.security.keys import Keyring
from hilum.security.seal import row_signer
from hilum.security.seal_check import FindingKind
from hilum.storage import tables
from hilum.storage.database import migrate, open_engine
from hilum.storage.store import Store, utc_now
from hilum.storage.unit_of_work import UnitOfWork

READER = Actor("dr-x\x00y\udce9", Role.RADIOLOGIST, ActorKind.PERSON, Door.PAGE, address="127.0.0.1")
SEALER = system_actor("sealer")
audit, seal_table = tables.audit_event, tables.audit_seal


def read_something(uow: UnitOfWork, command: str, actor: Actor) -> None:
    """A verb that leaves one audit row."""
    uow.audit(actor, "read-patient", patient_id=command)


class Trail:
    """A database with an audit trail, its keys and its sealer."""

    def __init__(self, home: Path, url: str) -> None:
        self.home = home
        self.keyring = Keyring.open(home)
        self.engine = open_engine(url, home / "hilum.db")
        migrate(self.engine)
        self.store = self.opened()
        self.outside = home / "seals" / "latest.json"
        self.sealer = Sealer(self.store, self.keyring.audit, self.outside)

    def opened(self, threads: int = 8) -> Store:
        return Store(self.engine, row_signer(self.keyring.audit), lock_path=str(self.home / "lock"), threads=threads)

    def write(self, count: int) -> None:
        for future in [self.store.submit(read_something, f"P{number}", READER) for number in range(count)]:
            future.result()

    def kinds(self) -> list[str]:
        return sorted({finding.kind.value for finding in verify_trail(self.store, self.keyring, self.outside)})

    def tamper(self, statement: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(statement)

    def rows(self) -> list[Any]:
        with self.store.read() as connection:
            return list(connection.execute(sa.select(audit).order_by(audit.c.writer, audit.c.sequence)))


@pytest.fixture(params=["sqlite", "postgresql"])
def trail(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Trail]:
    home = tmp_path / "home"
    home.mkdir()
    url = "sqlite" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    made = Trail(home, url)
    yield made
    made.store.close()


def place(row: Any) -> sa.ColumnElement[bool]:
    return sa.and_(audit.c.writer == row.writer, audit.c.sequence == row.sequence)


def test_a_trail_that_is_left_alone_holds(trail: Trail) -> None:
    for _ in range(4):
        trail.write(20)
        trail.sealer.run()
    assert trail.kinds() == []
    with trail.store.read() as connection:
        numbers = list(connection.execute(sa.select(seal_table.c.number).order_by(seal_table.c.number)).scalars())
    assert numbers == list(range(1, len(numbers) + 1))
    latest = read_outside(trail.outside)
    assert latest is not None
    assert latest.number == numbers[-1]


def test_nothing_is_committed_while_nothing_happens(trail: Trail) -> None:
    trail.write(3)
    trail.sealer.run()
    before = read_outside(trail.outside)
    for _ in range(3):
        trail.sealer.run()
    assert read_outside(trail.outside) == before


def test_rows_written_while_the_sealer_works_are_all_sealed(trail: Trail) -> None:
    done = threading.Event()

    def write() -> None:
        for _ in range(10):
            trail.write(10)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        trail.sealer.run()
    writer.join()
    trail.sealer.last()
    assert trail.kinds() == []
    with trail.store.read() as connection:
        seals = list(connection.execute(sa.select(seal_table.c.body)).scalars())
    assert sum(body["count"] for body in seals) == len(trail.rows()) == 100


def test_two_sealers_never_seal_a_row_twice(trail: Trail) -> None:
    others = [Sealer(trail.store, trail.keyring.audit, trail.outside) for _ in range(2)]
    for _ in range(5):
        trail.write(10)
        threads = [threading.Thread(target=one.run) for one in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for one in others:
        one.last()
    assert trail.kinds() == []


def test_the_tail_is_sealed_when_the_job_ends(trail: Trail) -> None:
    runner = Runner(trail.store, [trail.sealer.job()])
    runner.start()
    trail.write(5)
    assert runner.stop()
    with trail.store.read() as connection:
        assert sum(body["count"] for body in connection.execute(sa.select(seal_table.c.body)).scalars()) == 5


def test_a_row_that_took_long_to_commit_is_sealed_when_its_writer_goes_on(trail: Trail) -> None:
    trail.write(1)
    trail.sealer.run()
    (row,) = trail.rows()
    command = SealRows(trail.keyring.audit, utc_now() + timedelta(hours=1))
    assert trail.store.run(seal_rows, command, SEALER) is None
    trail.write(4)
    # As if the first of the four had a time long before the others: only they are looked for.
    later = [one for one in trail.rows() if one != row]
    since = max(one.at for one in later)
    seal = trail.store.run(seal_rows, SealRows(trail.keyring.audit, since), SEALER)
    assert seal is not None
    trail.sealer.last()
    assert trail.kinds() == []


def delete_row(trail: Trail) -> list[str]:
    row = trail.rows()[4]
    trail.tamper(audit.delete().where(place(row)))
    return [FindingKind.DELETED_ROW.value]


def change_row(trail: Trail) -> list[str]:
    trail.tamper(audit.update().where(place(trail.rows()[4])).values(actor="someone else"))
    return [FindingKind.CHANGED_ROW.value]


def backdate_row(trail: Trail) -> list[str]:
    row = trail.rows()[4]
    trail.tamper(audit.update().where(place(row)).values(at=row.at - timedelta(days=1)))
    return [FindingKind.CHANGED_ROW.value]


def swap_rows(trail: Trail) -> list[str]:
    one, other = trail.rows()[2], trail.rows()[3]
    for source, target in ((one, other), (other, one)):
        values = {"patient_id": source.patient_id, "mac": source.mac, "at": source.at}
        trail.tamper(audit.update().where(place(target)).values(**values))
    return [FindingKind.SWAPPED_ROW.value]


def cut_tail(trail: Trail) -> list[str]:
    last = trail.rows()[-1]
    trail.tamper(audit.delete().where(place(last)))
    return [FindingKind.CUT_TAIL.value]


def cut_tail_with_its_seals(trail: Trail) -> list[str]:
    trail.tamper(seal_table.delete().where(seal_table.c.number == 2))
    for row in trail.rows()[-3:]:
        trail.tamper(audit.delete().where(place(row)))
    return [FindingKind.CUT_TAIL.value]


def drop_a_seal(trail: Trail) -> list[str]:
    trail.tamper(seal_table.delete().where(seal_table.c.number == 1))
    return [FindingKind.MISSING_SEAL.value]


def rewrite_a_seal(trail: Trail) -> list[str]:
    with trail.store.read() as connection:
        body = connection.execute(sa.select(seal_table.c.body).where(seal_table.c.number == 1)).scalar_one()
    trail.tamper(seal_table.update().where(seal_table.c.number == 1).values(body=body | {"count": body["count"] - 1}))
    return [FindingKind.REWRITTEN_SEAL.value]


def forge_the_copy_outside(trail: Trail) -> list[str]:
    trail.outside.write_bytes(b"{}")
    return [FindingKind.REWRITTEN_SEAL.value]


@pytest.mark.parametrize(
    "tamper",
    [
        delete_row, change_row, backdate_row, swap_rows, cut_tail, cut_tail_with_its_seals, drop_a_seal,
        rewrite_a_seal, forge_the_copy_outside,
    ],
)  # fmt: skip
def test_whatever_is_done_to_a_sealed_trail_is_found(trail: Trail, tamper: Callable[[Trail], list[str]]) -> None:
    for _ in range(2):
        for _ in range(8):
            trail.store.run(read_something, "P", READER)
        trail.sealer.run()
    assert trail.kinds() == []
    expected = tamper(trail)
    findings = verify_trail(trail.store, trail.keyring, trail.outside)
    assert {finding.kind.value for finding in findings} >= set(expected)


def test_a_changed_row_is_named_by_writer_and_number(trail: Trail) -> None:
    trail.write(10)
    trail.sealer.run()
    row = trail.rows()[6]
    trail.tamper(audit.update().where(place(row)).values(outcome="refused"))
    (finding,) = verify_trail(trail.store, trail.keyring, trail.outside)
    assert (finding.kind, finding.writer, finding.sequence) == (FindingKind.CHANGED_ROW, row.writer, row.sequence)


def test_a_row_forged_without_the_key_is_found_before_it_is_sealed(trail: Trail) -> None:
    trail.write(2)
    last = trail.rows()[-1]
    trail.tamper(audit.insert().values(**(last._asdict() | {"sequence": last.sequence + 1, "actor": "nobody"})))
    assert trail.kinds() == [FindingKind.FORGED_ROW.value]


def test_a_gap_is_waited_for_then_sealed_round_and_found_for_ever(trail: Trail) -> None:
    one_writer = trail.opened(threads=1)
    for _ in range(3):
        one_writer.run(read_something, "P", READER)
    row = trail.rows()[0]
    trail.tamper(audit.delete().where(place(row)))
    command = SealRows(trail.keyring.audit, None)
    assert one_writer.run(seal_rows, command, SEALER) is None
    moment = utc_now() + timedelta(seconds=40)
    late = Store(
        one_writer.engine, row_signer(trail.keyring.audit), lock_path=str(trail.home / "lock"), clock=lambda: moment
    )
    seal = late.run(seal_rows, command, SEALER)
    assert seal is not None
    assert [(sealed.first, sealed.last) for sealed in seal.ranges.values()] == [(2, 3)]
    (finding,) = verify_trail(trail.store, trail.keyring, trail.outside)
    assert (finding.kind, finding.writer, finding.sequence) == (FindingKind.GAP, row.writer, 1)
    for store in (one_writer, late):
        store.close()


def test_verification_reads_the_trail_in_pieces(trail: Trail) -> None:
    trail.write(500)
    trail.sealer.run()
    assert trail.kinds() == []


def test_the_sealer_finds_what_is_unsealed_by_an_index(trail: Trail) -> None:
    from hilum.storage.audit_log import _unsealed

    query = _unsealed(audit.c.writer, since=utc_now())
    with trail.store.read() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("SET enable_seqscan = off"))
        text = str(query.compile(connection.engine, compile_kwargs={"literal_binds": True}))
        explain = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
        plan = "\n".join(str(row) for row in connection.execute(sa.text(explain + text)))
    assert "ix_audit_event_at" in plan
