"""One department under attack on SQLite and one on PostgreSQL; after each attack their logs hold no defect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from besieged import GROWTH, MIB, Besieged, Watch

from fixtures.department import Patient, new_department, next_numbers


def _open(home: Path, database: str) -> Iterator[Besieged]:
    department = new_department(home, database)
    # Far from Greenwich, so that the first and the last day there are do not exist everywhere.
    zone = "Pacific/Auckland" if database == "sqlite" else "America/Los_Angeles"
    config = home / "hilum.toml"
    config.write_text(config.read_text().replace("[facility]", f'[facility]\nzone = "{zone}"', 1))
    department.start()
    try:
        patient = Patient(next_numbers(1)[0])
        department.register(patient)
        placed = department.place(patient)
        department.perform(placed, images=1)
        yield Besieged(department, placed)
    finally:
        department.stop()
        department.ehr.close()


@pytest.fixture(scope="session")
def besieged_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Besieged]:
    yield from _open(tmp_path_factory.mktemp("besieged"), "sqlite")


@pytest.fixture(scope="session")
def besieged_postgresql(tmp_path_factory: pytest.TempPathFactory, postgres_server: object) -> Iterator[Besieged]:
    with psycopg.connect(postgres_server.get_uri(database="postgres"), autocommit=True) as connection:  # type: ignore[attr-defined]
        connection.execute("CREATE DATABASE besieged")
    yield from _open(tmp_path_factory.mktemp("besieged-pg"), postgres_server.get_uri(database="besieged"))  # type: ignore[attr-defined]


def _watched(target: Besieged) -> Iterator[Besieged]:
    before, watch, target.allowed = len(target.log()), Watch(target), GROWTH
    yield target
    grown = watch.end()
    assert target.failures(before) == []
    assert {role: held // MIB for role, held in grown.items() if held > target.allowed} == {}, (
        "MiB grown at the worst moment"
    )


@pytest.fixture
def target(besieged_sqlite: Besieged) -> Iterator[Besieged]:
    """The department on SQLite; the test fails when it logs a defect or grows."""
    yield from _watched(besieged_sqlite)


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request: pytest.FixtureRequest) -> Iterator[Besieged]:
    """The department on each database: what one of them swallows the other refuses."""
    yield from _watched(request.getfixturevalue(f"besieged_{request.param}"))
