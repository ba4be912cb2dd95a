"""The archive is compared with what it acknowledged: rot, cuts and losses are found, named, listed, and unlisted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from fixtures.command_line import hilum
from fixtures.dicom_files import ct_image, dataset_bytes
from fixtures.stores import MODALITY, open_store
from hilum import telemetry
from hilum.app import Application
from hilum.archive.blobs import S3Settings
from hilum.archive.blobs import open_store as open_blobs
from hilum.archive.file_blobs import FileBlobs
from hilum.archive.ingest import Ingest
from hilum.archive.integrity import Damage, Pace, verify
from hilum.archive.landing import open_landing
from hilum.archive.retrieve import read_instance
from hilum.core.actor import system_actor
from hilum.core.errors import Forbidden
from hilum.jobs.scrub import Scrub
from hilum.jobs.settling import Settling
from hilum.serve.health import routes
from hilum.settings import Configuration
from hilum.storage import tables
from hilum.storage.integrity import damaged
from hilum.workflow.images import CompleteStudy, Recorded, complete_study
from hilum.workflow.integrity import NoteDamage, note_damage
from hilum.workflow.source import Source

ACTOR = system_actor("test")
EXPLICIT = "1.2.840.10008.1.2.1"


@pytest.fixture(params=["sqlite+files", "postgresql+s3"])
def ingest(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ingest]:
    if request.param == "sqlite+files":
        store, blobs = open_store("sqlite", tmp_path), FileBlobs(tmp_path / "archive")
    else:
        server = request.getfixturevalue("s3_server")
        settings = S3Settings(server.endpoint, server.region, server.access_key, server.secret_key)
        store = open_store(request.getfixturevalue("migrated_postgres_url"), tmp_path)
        blobs = open_blobs(f"s3://{request.getfixturevalue('s3_bucket')}/node", tmp_path, settings)
    landing = open_landing(blobs, "tester", segment_bytes=1 << 20)
    yield Ingest(store, blobs, landing)
    landing.close()
    store.close()


def stored(ingest: Ingest, count: int = 1) -> list[Any]:
    for _ in range(count):
        source = Source("DICOM C-STORE", "CT01")
        ingest.store_dataset(dataset_bytes(ct_image()), EXPLICIT, source=source, actor=MODALITY)
    with ingest.store.read() as connection:
        return list(connection.execute(sa.select(tables.instance).order_by(tables.instance.c.id)))


def found(ingest: Ingest) -> list[tuple[str, Damage]]:
    looked = verify(ingest.store, ingest.blobs, ACTOR)
    return [(one.kept.sop_instance_uid, one.damage) for one in looked if one.damage is not None]


def listed(ingest: Ingest) -> list[str]:
    with ingest.store.read() as connection:
        return sorted(uid for _, uid in damaged(connection))


def configured(home: Path, archive: str) -> Configuration:
    home.mkdir()
    (home / "hilum.toml").write_text(f"[archive]\n{archive}")
    return Configuration(home)


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def rot(ingest: Ingest, row: Any) -> None:
    """Change a byte of an instance where it lies: a process may be writing behind it."""
    if isinstance(ingest.blobs, FileBlobs):
        with ingest.blobs.path(row.object_key).open("r+b") as file:
            file.seek(row.dataset_offset + 200)
            byte = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte[0] ^ 1]))
    else:
        ingest.blobs.put(row.object_key, flip(ingest.blobs.get(row.object_key), row.dataset_offset + 200))


# What may befall the object that holds an instance, and how it is called.
BEFALLEN: dict[Damage, Callable[[Any, bytes], bytes | None]] = {
    Damage.CHANGED: lambda row, data: flip(data, row.object_offset + row.object_length - 3),
    Damage.META_CHANGED: lambda row, data: flip(data, row.object_offset + 129),
    Damage.TRUNCATED: lambda row, data: data[: row.object_offset + row.object_length - 1],
    Damage.MISSING: lambda row, data: None,
}


@pytest.mark.parametrize("damage", BEFALLEN, ids=str)
def test_damage_is_found_named_listed_once_and_unlisted_when_the_bytes_are_back(ingest: Ingest, damage: Damage) -> None:
    whole, hurt = stored(ingest, 2)
    assert found(ingest) == [] == listed(ingest)
    original = ingest.blobs.get(hurt.object_key)
    befallen = BEFALLEN[damage](hurt, original)
    ingest.blobs.delete(hurt.object_key)
    if befallen is not None:
        ingest.blobs.put(hurt.object_key, befallen)
    # Both lie in one segment of a directory, so what takes the object takes both.
    expected = [(hurt.sop_instance_uid, damage)]
    if damage is Damage.MISSING and whole.object_key == hurt.object_key:
        expected.insert(0, (whole.sop_instance_uid, damage))
    for _ in range(2):
        assert found(ingest) == expected
        assert listed(ingest) == sorted(uid for uid, _ in expected)
    ingest.blobs.put(hurt.object_key, original)
    assert found(ingest) == [] == listed(ingest)


def test_a_damaged_instance_that_is_sent_again_is_written_anew_and_served(ingest: Ingest) -> None:
    image, other = ct_image(), ct_image()
    source = Source("DICOM C-STORE", "CT01")

    def send(what: Any) -> Recorded:
        return ingest.store_dataset(dataset_bytes(what), EXPLICIT, source=source, actor=MODALITY).recorded

    assert [send(image), send(other)] == [Recorded.STORED, Recorded.STORED]
    with ingest.store.read() as connection:
        rows = {row.sop_instance_uid: row for row in connection.execute(sa.select(tables.instance))}
    hurt, whole = rows[image.SOPInstanceUID], rows[other.SOPInstanceUID]
    rot(ingest, hurt)
    assert [uid for uid, _ in found(ingest)] == [hurt.sop_instance_uid]
    assert [send(image), send(other)] == [Recorded.KNOWN, Recorded.KNOWN]
    with ingest.store.read() as connection:
        now = {row.sop_instance_uid: row for row in connection.execute(sa.select(tables.instance))}
    assert len(now) == 2
    assert now[whole.sop_instance_uid] == whole
    assert dataset_bytes(image) == read_instance(ingest.blobs, now[hurt.sop_instance_uid])[-len(dataset_bytes(image)) :]
    assert found(ingest) == [] == listed(ingest)


def test_what_was_settled_is_looked_at_where_it_lies_now_and_mended_by_its_sender(
    ingest: Ingest, tmp_path: Path
) -> None:
    image = ct_image()

    def send() -> Recorded:
        source = Source("DICOM C-STORE", "CT01")
        return ingest.store_dataset(dataset_bytes(image), EXPLICIT, source=source, actor=MODALITY).recorded

    def row() -> Any:
        with ingest.store.read() as connection:
            return connection.execute(sa.select(tables.instance)).one()

    send()
    ingest.store.run(complete_study, CompleteStudy(row().study_id, timedelta(seconds=-1)), ACTOR)
    assert Settling(ingest, configured(tmp_path / "home", "settle_after_hours = 0\n")).settle_some() == 1
    assert row().object_key.startswith("settled/")
    assert found(ingest) == []
    rot(ingest, row())
    assert [damage for _, damage in found(ingest)] == [Damage.CHANGED]
    assert send() is Recorded.KNOWN
    assert row().object_key.startswith("landing/")
    assert found(ingest) == [] == listed(ingest)


def test_a_file_that_the_disk_does_not_give_back_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, blobs = open_store("sqlite", tmp_path), FileBlobs(tmp_path / "archive")
    landing = open_landing(blobs, "tester", segment_bytes=1 << 20)
    ingest = Ingest(store, blobs, landing)
    (row,) = stored(ingest)
    monkeypatch.setattr("hilum.archive.file_blobs._pread", lambda *_: (_ for _ in ()).throw(OSError(5, "EIO")))
    assert found(ingest) == [(row.sop_instance_uid, Damage.UNREADABLE)]
    landing.close()
    store.close()


def test_an_auditor_may_not_note_damage(ingest: Ingest) -> None:
    from hilum.core.actor import Actor, ActorKind, Door, Role

    (row,) = stored(ingest)
    auditor = Actor("auditor", Role.AUDITOR, ActorKind.PERSON, Door.DICOMWEB)
    with pytest.raises(Forbidden):
        ingest.store.run(note_damage, NoteDamage(row.study_id, row.sop_instance_uid, True), auditor)
    assert listed(ingest) == []


def test_the_scrub_reads_at_its_rate_goes_on_after_a_restart_and_rests_between_passes(
    ingest: Ingest, tmp_path: Path
) -> None:
    rows = stored(ingest, 6)
    each = rows[0].object_length / 1e6
    # Two instances a turn of seven seconds; their lengths differ by those of their UIDs.
    home = tmp_path / "home"
    config = configured(home, f"verify_mb_per_second = {1.5 * each / 5}\nverify_every_days = 1\n")
    clock = [0.0]
    ingest.blobs.put(rows[4].object_key, flip(ingest.blobs.get(rows[4].object_key), rows[4].dataset_offset + 200))

    def turns(scrub: Scrub) -> int:
        done = 0
        while scrub.due():
            scrub.run()
            done += 1
            assert not scrub.due()  # its rate is used up
            clock[0] += 7
        return done

    first = Scrub(ingest.store, ingest.blobs, config, lambda: clock[0])
    first.run()
    clock[0] += 7
    assert listed(ingest) == []
    # Another process goes on where the first was.
    assert turns(Scrub(ingest.store, ingest.blobs, config, lambda: clock[0])) == 3
    assert listed(ingest) == [rows[4].sop_instance_uid]
    page = telemetry.metrics_page().decode()
    assert "hilum_damaged_instances 1.0" in page
    assert 'hilum_verified_total{outcome="changed"}' in page
    first.run()
    assert not first.due()
    now = ingest.store.clock
    ingest.store.clock = lambda: now() + timedelta(days=1)
    assert first.due()


def test_readiness_counts_damaged_images_and_stays_ready(ingest: Ingest) -> None:
    (ready,) = (route for route in routes(ingest.store) if route.path == "/health/ready")

    def said() -> tuple[int, str]:
        answer = ready.endpoint(None)
        return answer.status_code, answer.body.decode()

    (row,) = stored(ingest)
    assert said() == (200, "ready\n")
    ingest.store.run(note_damage, NoteDamage(row.study_id, row.sop_instance_uid, True), ACTOR)
    assert said() == (200, "ready\ndamaged images: 1\n")


def test_a_rate_of_zero_scrubs_nothing(sqlite_store: Any, tmp_path: Path) -> None:
    config = configured(tmp_path / "home", "verify_mb_per_second = 0\n")
    assert not Scrub(sqlite_store, FileBlobs(tmp_path / "archive"), config).due()


def test_a_pace_is_kept_over_all_of_the_work() -> None:
    slept: list[float] = []
    now = [0.0]
    pace = Pace(100.0, lambda: now[0], slept.append)
    pace.took(50)
    now[0] = 3.0
    pace.took(200)
    assert slept == [0.5]


def test_the_command_names_what_is_damaged_and_where_and_exits_with_one(tmp_path: Path) -> None:
    configured(tmp_path / "home", "segment_bytes = 1048576\n")
    application = Application(tmp_path / "home")
    application.prepare()
    assert application.keyring
    rows = stored(application.ingest, 2)
    application.close()

    def run(*arguments: str) -> tuple[int, str]:
        done = hilum("--home", str(tmp_path / "home"), "verify", *arguments)
        return done.code, done.out.decode()

    code, said = run()
    assert (code, said.split(",")[0]) == (0, "2 instances")
    path = tmp_path / "home/archive" / rows[1].object_key
    path.write_bytes(flip(path.read_bytes(), rows[1].dataset_offset + 300))
    code, said = run("--json", "--rate", "100")
    assert code == 1
    (line,) = json.loads(said)["damaged"]
    assert (line["damage"], line["instance"]) == ("changed", rows[1].sop_instance_uid)
    assert (line["object"], line["offset"]) == (rows[1].object_key, rows[1].object_offset)
