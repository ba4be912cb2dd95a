"""Whatever is done to a real trail behind Hilum's back is found and located by `hilum audit verify`, on both databases.

20,000 rows in CI; a million, verified in under a minute, with HILUM_SOAK=full (`make soak`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from hilum.cli.commands import cli
from hilum.jobs.sealer import Sealer
from hilum.security.audit_trail import verify_trail
from hilum.security.keys import Keyring
from hilum.security.seal import row_signer
from hilum.storage import tables
from hilum.storage.database import migrate, open_engine
from hilum.storage.store import Store

FULL = os.environ.get("HILUM_SOAK") == "full"
ROWS = 1_000_000 if FULL else 20_000
WRITERS = ("01WRITERAAAAAAAAAAAAAAAAAA", "01WRITERBBBBBBBBBBBBBBBBBB")
LIMIT_SECONDS = 60
audit, seal = tables.audit_event, tables.audit_seal


@dataclass
class Trail:
    """A sealed trail in a home, and the database behind it."""

    home: Path
    engine: sa.Engine
    store: Store
    keyring: Keyring

    def row(self, sequence: int, writer: str = WRITERS[0]) -> dict[str, Any]:
        with self.engine.connect() as connection:
            query = audit.select().where(audit.c.writer == writer, audit.c.sequence == sequence)
            return dict(connection.execute(query).mappings().one())

    def change(self, *statements: Any) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(statement)

    def verify(self) -> tuple[int, str]:
        """The exit code of the command, and what it prints."""
        done = CliRunner().invoke(cli, ["--home", str(self.home), "audit", "verify"])
        return done.exit_code, done.output


def filled(home: Path, url: str) -> Trail:
    """Write rows as two writers would, by the thousand, and seal them as the sealer does."""
    (home / "hilum.toml").write_text(f'[database]\nurl = "{url}"\n')
    keyring = Keyring.open(home)
    engine = open_engine(url, home / "hilum.db")
    migrate(engine)
    sign = row_signer(keyring.audit)
    begin = datetime.now(UTC) - timedelta(days=1)
    with engine.begin() as connection:
        for start in range(0, ROWS, 5_000):
            rows = [_row(number, begin) for number in range(start, start + 5_000)]
            for row in rows:
                row["key_id"], row["mac"] = sign(row)
            connection.execute(audit.insert(), rows)
    store = Store(engine, sign, lock_path=str(home / "lock"))
    Sealer(store, keyring.audit, home / "seals" / "latest.json").run()
    return Trail(home, engine, store, keyring)


def _row(number: int, begin: datetime) -> dict[str, Any]:
    return {
        "writer": WRITERS[number % 2], "sequence": number // 2 + 1, "at": begin + timedelta(milliseconds=number),
        "actor": f"dr-{number % 97}", "role": "radiologist", "door": "page", "address": "10.1.2.3",
        "action": "read-images", "outcome": "allowed", "reason": "", "purpose": "TREAT",
        "patient_id": f"P{number % 9_973}", "order_id": None, "study_id": f"S{number % 20_011}", "message_id": None,
    }  # fmt: skip


@pytest.fixture(params=["sqlite", "postgresql"])
def trail(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Trail]:
    home = tmp_path / "home"
    home.mkdir()
    made = filled(home, "sqlite" if request.param == "sqlite" else request.getfixturevalue("postgres_url"))
    yield made
    made.store.close()


def place(sequence: int, writer: str = WRITERS[0]) -> sa.ColumnElement[bool]:
    return sa.and_(audit.c.writer == writer, audit.c.sequence == sequence)


def flipped_byte(trail: Trail) -> tuple[list[Any], list[Any], list[str]]:
    row = trail.row(4_000)
    changed = row["actor"][:-1] + chr(ord(row["actor"][-1]) ^ 1)
    there = audit.update().where(place(4_000)).values(actor=changed)
    return (
        [there],
        [audit.update().where(place(4_000)).values(actor=row["actor"])],
        [f"Row 4000 of writer {WRITERS[0]}"],
    )


def flipped_byte_of_the_mac(trail: Trail) -> tuple[list[Any], list[Any], list[str]]:
    mac = bytes(trail.row(17)["mac"])
    there = audit.update().where(place(17)).values(mac=bytes([mac[0] ^ 1]) + mac[1:])
    return [there], [audit.update().where(place(17)).values(mac=mac)], [f"Row 17 of writer {WRITERS[0]}"]


def deleted_row(trail: Trail) -> tuple[list[Any], list[Any], list[str]]:
    row = trail.row(5_555, WRITERS[1])
    gone = audit.delete().where(place(5_555, WRITERS[1]))
    return [gone], [audit.insert().values(**row)], [f"Row 5555 of writer {WRITERS[1]}", "deleted"]


def swapped_pair(trail: Trail) -> tuple[list[Any], list[Any], list[str]]:
    one, other = trail.row(100), trail.row(2_000)
    said = [name for name in one if name not in ("writer", "sequence")]
    here = audit.update().where(place(100)).values(**{name: other[name] for name in said})
    there = audit.update().where(place(2_000)).values(**{name: one[name] for name in said})
    back = [
        audit.update().where(place(n)).values(**{k: row[k] for k in said}) for n, row in ((100, one), (2_000, other))
    ]
    return [here, there], back, ["Row 100 of writer", "Row 2000 of writer", "swapped"]


def forged_append(trail: Trail) -> tuple[list[Any], list[Any], list[str]]:
    last = ROWS // 2
    forged = trail.row(last) | {"sequence": last + 1, "actor": "nobody", "at": datetime.now(UTC)}
    added = audit.insert().values(**forged)
    return [added], [audit.delete().where(place(last + 1))], [f"Row {last + 1} of writer {WRITERS[0]}"]


def rewritten_seal(trail: Trail) -> tuple[list[Any], list[Any], list[str]]:
    with trail.engine.connect() as connection:
        body = connection.execute(sa.select(seal.c.body).where(seal.c.number == 1)).scalar_one()
    ranges = {writer: [first, last - 1, root] for writer, (first, last, root) in body["ranges"].items()}
    rewritten = seal.update().where(seal.c.number == 1)
    return [rewritten.values(body=body | {"ranges": ranges})], [rewritten.values(body=body)], ["Seal 1 was changed"]


def cut_tail(trail: Trail) -> tuple[list[Any], list[Any], list[str]]:
    last = ROWS // 2
    rows = [trail.row(number, WRITERS[1]) for number in range(last - 2, last + 1)]
    cut = audit.delete().where(audit.c.writer == WRITERS[1], audit.c.sequence > last - 3)
    return [cut], [audit.insert().values(**row) for row in rows], [f"Rows {last - 2} to {last} of writer {WRITERS[1]}"]


def cut_tail_with_its_seal(trail: Trail) -> tuple[list[Any], list[Any], list[str]]:
    """What someone does who knows of seals: only the copy outside the database still tells."""
    with trail.engine.connect() as connection:
        newest = connection.execute(seal.select().order_by(seal.c.number.desc()).limit(1)).mappings().one()
        rows = [dict(row) for row in connection.execute(audit.select().where(place(ROWS // 2))).mappings()]
    cut = [seal.delete().where(seal.c.number == newest["number"]), audit.delete().where(place(ROWS // 2))]
    back = [seal.insert().values(**newest), *(audit.insert().values(**row) for row in rows)]
    return cut, back, ["the copy kept outside the database is number"]


TAMPERINGS: list[Callable[[Trail], tuple[list[Any], list[Any], list[str]]]] = [
    flipped_byte, flipped_byte_of_the_mac, deleted_row, swapped_pair, forged_append, rewritten_seal, cut_tail,
    cut_tail_with_its_seal,
]  # fmt: skip


@pytest.mark.timeout(0 if FULL else 180)
@pytest.mark.soak
def test_each_tampering_is_found_and_located(trail: Trail) -> None:
    code, said = trail.verify()
    assert (code, said) == (0, "no findings\n")
    for tampering in TAMPERINGS:
        done, undone, places = tampering(trail)
        trail.change(*done)
        code, said = trail.verify()
        assert code == 1, tampering.__name__
        for where in places:
            assert where in said, f"{tampering.__name__}: {said[:500]}"
        trail.change(*undone)
    assert trail.verify()[0] == 0, "undone, the trail holds again"


@pytest.mark.timeout(0 if FULL else 180)
@pytest.mark.soak
def test_a_long_trail_is_verified_quickly(trail: Trail, capsys: pytest.CaptureFixture[str]) -> None:
    started = time.perf_counter()
    found = verify_trail(trail.store, trail.keyring, trail.home / "seals" / "latest.json")
    seconds = time.perf_counter() - started
    with capsys.disabled():
        backend = trail.engine.dialect.name
        print(f"\n{ROWS} audit rows verified in {seconds:.1f} s on {backend} ({ROWS / seconds:.0f} rows/s)")
    assert found == []
    if FULL:
        assert seconds < LIMIT_SECONDS
