"""The same chain on PostgreSQL and S3: nodes hold nothing, so a role that is killed and started elsewhere goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.department import Department, Patient, accepted, eventually, new_department, next_numbers
from fixtures.s3 import S3Server

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("many-nodes")]


@pytest.fixture
def department_on_postgresql_and_s3(
    tmp_path: Path, postgres_url: str, s3_server: S3Server, s3_bucket: str
) -> Iterator[Department]:
    """A department whose home holds configuration and keys only."""
    archive = {
        "url": f"s3://{s3_bucket}/archive",
        "endpoint": s3_server.endpoint,
        "region": s3_server.region,
        "access_key": s3_server.access_key,
        "secret_key": s3_server.secret_key,
    }
    running = new_department(tmp_path / "home", postgres_url, archive)
    running.start()
    yield running
    if running.process is not None and running.process.poll() is None:
        running.kill()
    running.ehr.close()


def test_the_chain_holds_on_postgresql_and_s3(department_on_postgresql_and_s3: Department) -> None:
    own = department_on_postgresql_and_s3
    patient = Patient(next_numbers(1)[0], "Łukasz", "Ewa")
    own.register(patient)
    placed = own.place(patient)
    series = own.perform(placed, images=5)
    own.kill()
    own.start()
    instances = own.qido(f"/studies/{placed.study_uid}/series/{series}/instances")
    assert len(instances) == 5
    uid = instances[0]["00080018"]["Value"][0]
    own.get(f"/dicom-web/studies/{placed.study_uid}/series/{series}/instances/{uid}")
    picture = own.get(f"/dicom-web/studies/{placed.study_uid}/series/{series}/instances/{uid}/frames/1/rendered")
    assert picture.headers["content-type"].startswith("image/")
    assert accepted(own.dictate(placed, "F", "On many nodes."))
    (result,) = eventually(lambda: own.ehr.reports(placed.accession), "the result")
    assert b"On many nodes." in result
    assert own.ehr.statuses(placed.placer) == ["SC", "IP", "CM"]
    links = eventually(lambda: (found := own.trace(placed.accession)) and found[10]["at"] and found, "the last link")
    assert [number for number, link in links.items() if link["at"] is None] == [2, 8]
    assert not (own.home / "hilum.db").exists()
    assert not list((own.home / "archive").rglob("*")) if (own.home / "archive").exists() else True
    assert own.stop() == 0
    assert "no findings" in own.cli("audit", "verify")
