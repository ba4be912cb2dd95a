"""A worker that is killed at any moment loses nothing, and its lanes keep their order."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fixtures.outbound import add_patient, eventually, happen
from fixtures.stores import open_store

PATIENTS, EVENTS = 8, 240
WORKER = """
import sys, time
from pathlib import Path
from hilum.delivery.senders import encoders, senders
from hilum.jobs.worker import Worker
from hilum.security.keys import Keyring
from hilum.security.seal import row_signer
from hilum.settings import Configuration
from hilum.storage.database import open_engine
from hilum.storage.store import Store

home = Path(sys.argv[1])
keyring = Keyring.open(home)
engine = open_engine(sys.argv[2], home / "hilum.db")
store = Store(engine, row_signer(keyring.audit), lock_path=str(home / "hilum.lock"))
Worker(store, Configuration(home), encoders(), senders(home), keyring).start()
print("started", flush=True)
time.sleep(600)
"""


def start_worker(home: Path, url: str) -> subprocess.Popen[bytes]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HILUM_")}
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(home), url], stdout=subprocess.PIPE, env=environment, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"started\n"
    return process


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_nothing_is_lost_and_every_lane_keeps_its_order_when_workers_are_killed(
    backend: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    home, out = tmp_path / "home", tmp_path / "home" / "out"
    home.mkdir()
    (home / "hilum.toml").write_text(
        f'[[destination]]\nname = "lake"\nkind = "file"\naddress = "file://{out}"\n'
        '[[route]]\non = "OrderChanged"\nto = ["lake"]\n'
    )
    url = "sqlite" if backend == "sqlite" else request.getfixturevalue("migrated_postgres_url")
    store = open_store(url, home)
    chance = random.Random(7)
    patients = [add_patient(store, str(number)) for number in range(PATIENTS)]
    worker = start_worker(home, url)
    lane_of: dict[str, str] = {}
    try:
        for number in range(EVENTS):
            patient = chance.choice(patients)
            lane_of[happen(store, patient, str(number)).id] = patient
            if number % 60 == 59:
                time.sleep(chance.random() * 0.2)
                worker.send_signal(signal.SIGKILL)
                worker.wait()
                worker = start_worker(home, url)
        eventually(lambda: out.is_dir() and len(list(out.glob("0*.json"))) == EVENTS, "all arrive", 40)
    finally:
        worker.kill()
        worker.wait()
        store.close()
    arrived = sorted(out.glob("0*.json"), key=lambda file: file.stat().st_mtime_ns)
    for patient in patients:
        names = [file.name for file in arrived if lane_of[file.stem.partition("-")[2]] == patient]
        assert names == sorted(names)
    assert len({file.name.partition("-")[2] for file in arrived}) == EVENTS
