"""Folders, zip files and media are imported once, whatever lies in them, and each file that is not taken is named."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from fixtures.command_line import hilum
from fixtures.dicom_files import ct_image, packaged, part10_bytes
from fixtures.stores import open_store
from hilum.app import Application
from hilum.archive import import_sources
from hilum.archive.file_blobs import FileBlobs
from hilum.archive.importing import Became, Imported, Ledger, import_paths
from hilum.archive.ingest import Ingest
from hilum.archive.landing import open_landing
from hilum.archive.retrieve import read_instance
from hilum.core.actor import Actor, ActorKind, Door, Role, system_actor
from hilum.core.errors import Forbidden, Unavailable
from hilum.storage import tables

ACTOR = system_actor("test")
LARGEST = 64 << 20


@pytest.fixture
def ingest(tmp_path: Path) -> Iterator[Ingest]:
    store, blobs = open_store("sqlite", tmp_path), FileBlobs(tmp_path / "archive")
    landing = open_landing(blobs, "tester", segment_bytes=1 << 20)
    yield Ingest(store, blobs, landing)
    landing.close()
    store.close()


def run(ingest: Ingest, *paths: Path, actor: Actor = ACTOR, **options: Any) -> dict[str, Imported]:
    ledger = Ledger(paths[0].parent / "ledgers", paths)
    done = list(import_paths(ingest, paths, actor, ledger, largest=LARGEST, **options))
    ledger.close(ended=True)
    return {Path(one.place.replace("!", "/")).name: one for one in done}


def became(done: dict[str, Imported]) -> dict[str, str]:
    return {name: one.became.value for name, one in done.items()}


def rows(ingest: Ingest, table: sa.Table = tables.instance) -> list[Any]:
    with ingest.store.read() as db:
        return list(db.execute(sa.select(table)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as people keep them."""
    top = tmp_path / "old pacs"
    (top / "deep/er").mkdir(parents=True)
    for number in (1, 2):
        (top / f"deep/er/{number}.dcm").write_bytes(part10_bytes(ct_image(InstanceNumber=number)))
    shutil.copy(top / "deep/er/1.dcm", top / "again")
    (top / "README.txt").write_text("Nothing to see, but written at some length, so that it could be a header.")
    (top / "empty").touch()
    shutil.copy(packaged("MR_truncated.dcm"), top / "cut.dcm")
    (top / "nameless.dcm").write_bytes(part10_bytes(ct_image(StudyInstanceUID=None)))
    return top


def test_a_folder_is_imported_whole_once_and_what_is_not_taken_is_named(ingest: Ingest, folder: Path) -> None:
    done = run(ingest, folder)
    counts = Counter(one.became for one in done.values())
    assert counts == {Became.STORED: 2, Became.KNOWN: 1, Became.NOT_DICOM: 2, Became.REFUSED: 2}
    assert done["cut.dcm"].reason == "PixelData: The pixel data claims more bytes than there are."
    assert done["nameless.dcm"].reason.startswith("StudyInstanceUID: ")
    assert all(one.reason for one in done.values() if one.became in (Became.NOT_DICOM, Became.REFUSED))
    stored = rows(ingest)
    assert {read_instance(ingest.blobs, row)[-500:] for row in stored} == {
        (folder / f"deep/er/{number}.dcm").read_bytes()[-500:] for number in (1, 2)
    }
    assert {row.peer for row in stored} == {"import"}
    (event,) = {(row.standard, row.peer) for row in rows(ingest, tables.event) if row.name == "StudyUnmatched"}
    assert event == ("DICOM import", "import")
    assert "stored" not in became(run(ingest, folder)).values()
    assert len(rows(ingest)) == 2


def test_who_may_not_store_imports_nothing(ingest: Ingest, folder: Path) -> None:
    auditor = Actor("auditor", Role.AUDITOR, ActorKind.PERSON, Door.CLI)
    with pytest.raises(Forbidden):
        run(ingest, folder, actor=auditor)
    assert rows(ingest) == []


def test_links_lead_nowhere_outside_and_what_is_no_file_is_not_waited_for(ingest: Ingest, tmp_path: Path) -> None:
    top, outside = tmp_path / "media", tmp_path / "outside"
    top.mkdir()
    outside.mkdir()
    (outside / "secret.dcm").write_bytes(part10_bytes(ct_image()))
    (top / "real.dcm").write_bytes(part10_bytes(ct_image()))
    (top / "inside.dcm").symlink_to(top / "real.dcm")
    (top / "outside.dcm").symlink_to(outside / "secret.dcm")
    (top / "folder").symlink_to(outside)
    (top / "round").symlink_to(top / "round")
    os.mkfifo(top / "pipe")
    done = run(ingest, top)
    assert Counter(became(done).values()) == {"stored": 1, "known": 1, "refused": 4}
    assert done["outside.dcm"].reason == "The link leads outside."
    assert done["folder"].reason == "Links to folders are not followed."
    assert done["pipe"].reason == "This is no regular file."
    assert len(rows(ingest)) == 1


def test_a_zip_file_is_imported_by_its_members(ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_sources, "IN_MEMORY", 64 << 10)
    large = ct_image(Rows=512, Columns=512, PixelData=os.urandom(512 * 512 * 2))
    path = tmp_path / "study.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/small.dcm", part10_bytes(ct_image()))
        archive.writestr("a/large.dcm", part10_bytes(large))
        archive.writestr("../climbs.dcm", part10_bytes(ct_image()))
        archive.writestr("inner.zip", b"PK\x03\x04")
    damaged = bytearray(path.read_bytes())
    at = damaged.index(b"a/large.dcm") + 4000
    done = run(ingest, path)
    assert became(done) == {
        "small.dcm": "stored", "large.dcm": "stored", "climbs.dcm": "stored", "inner.zip": "not DICOM"
    }  # fmt: skip
    assert not (tmp_path.parent / "climbs.dcm").exists()
    assert large.PixelData in {read_instance(ingest.blobs, row)[-len(large.PixelData) :] for row in rows(ingest)}
    damaged[at : at + 2000] = bytes(2000)
    (tmp_path / "hurt.zip").write_bytes(damaged)
    done = run(ingest, tmp_path / "hurt.zip")
    assert done["large.dcm"].reason == "The member of the zip file is damaged."
    (tmp_path / "none.zip").write_bytes(b"PK")
    assert run(ingest, tmp_path / "none.zip")["none.zip"].reason == "The zip file is damaged."


def test_a_zip_bomb_costs_a_beginning_of_each_member(
    ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_sources, "EXPANSION_GRACE", 8 << 20)
    blank = part10_bytes(ct_image(Rows=4096, Columns=1024, PixelData=bytes(4096 * 1024 * 2)))
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(60 << 20))
        for number in range(8):
            archive.writestr(f"blank{number}.dcm", blank + b"\0" * number)
        archive.writestr("larger.dcm", blank + bytes(LARGEST))
    done = run(ingest, tmp_path / "bomb.zip")
    assert done["zeros"].became is Became.NOT_DICOM
    assert done["larger.dcm"].reason == "The file is larger than an instance may be."
    assert "The zip file inflates to more than any images would." in {one.reason for one in done.values()}


def test_a_medium_is_imported_as_its_dicomdir_names_it_and_what_is_absent_is_said(
    ingest: Ingest, tmp_path: Path
) -> None:
    medium = tmp_path / "cd"
    shutil.copytree(packaged("dicomdirtests"), medium)
    (medium / "not named.dcm").write_bytes(part10_bytes(ct_image()))
    gone = next(path for path in sorted(medium.rglob("*")) if path.is_file() and path.parent.parent.parent == medium)
    gone.unlink()
    done = run(ingest, medium / "DICOMDIR")
    assert Counter(became(done).values()) == {"stored": 30, "refused": 1}
    assert done[gone.name].reason == "The DICOMDIR names it, but it is not there."
    again = run(ingest, medium)
    assert (again["not named.dcm"].became, again[gone.name].became) == (Became.STORED, Became.REFUSED)
    assert Counter(became(again).values())["known"] >= 30
    (medium / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM" + os.urandom(400))
    assert run(ingest, medium / "DICOMDIR")["DICOMDIR"].reason == "The DICOMDIR is damaged."


def test_an_import_that_was_cut_short_goes_on_where_it_was(
    ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = tmp_path / "many"
    top.mkdir()
    for number in range(40):
        (top / f"{number:02}").write_bytes(part10_bytes(ct_image()))
    whole = ingest.store_file
    tried: list[int] = []

    def fails(content: Any, **options: Any) -> Any:
        tried.append(1)
        if len(tried) > 25:
            raise Unavailable
        return whole(content, **options)

    monkeypatch.setattr(ingest, "store_file", fails)
    ledger = Ledger(tmp_path / "ledgers", [top])
    with pytest.raises(Unavailable):
        list(import_paths(ingest, [top], ACTOR, ledger, largest=LARGEST))
    ledger.close(ended=False)
    monkeypatch.setattr(ingest, "store_file", whole)
    (top / "00").write_bytes(part10_bytes(ct_image()))  # changed meanwhile: read again
    ledger = Ledger(tmp_path / "ledgers", [top])
    done = Counter(one.became for one in import_paths(ingest, [top], ACTOR, ledger, largest=LARGEST))
    ledger.close(ended=True)
    assert done[Became.DONE_BEFORE] >= 10
    assert done.total() == 40
    assert len(rows(ingest)) == 41
    assert list((tmp_path / "ledgers").iterdir()) == []


def test_the_command_says_what_became_of_each_file(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/hilum.toml").write_text("[archive]\nsegment_bytes = 1048576\n")
    application = Application(tmp_path / "home")
    application.prepare()
    assert application.keyring
    application.close()

    def command(*arguments: str) -> tuple[int, str]:
        done = hilum("--home", str(tmp_path / "home"), "import", *arguments)
        return done.code, done.out.decode()

    code, said = command(str(folder), "--issuer", "OLD")
    assert code == 1
    assert "7 files: 1 known, 2 not DICOM, 2 refused, 2 stored" in said
    assert f"refused: {folder}/cut.dcm: PixelData: The pixel data claims more bytes than there are." in said
    with application.store.read() as db:
        assert set(db.execute(sa.select(tables.study.c.patient_authority)).scalars()) == {"OLD"}
    application.close()
    lines = [json.loads(line) for line in command("--json", str(folder / "deep"))[1].splitlines()]
    assert [line["became"] for line in lines] == ["known", "known"]
