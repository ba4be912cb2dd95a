"""`hilum route test` says where a message or an image would go, and does none of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from fixtures.dicom_files import ct_image, part10_bytes
from hilum.app import SENDER_KINDS, Application
from hilum.cli.commands import cli
from hilum.storage import tables

SETTINGS = """
[hl7]
accept_unknown = "loopback"
[[destination]]
name = "warehouse"
kind = "hl7"
address = "mllp://127.0.0.1:9"
[[destination]]
name = "research"
kind = "dicom"
address = "dicom://RESEARCH@127.0.0.1:9"
[[route]]
on = "MessageReceived"
if = "message.type == 'ORM'"
send = "raw"
to = ["warehouse"]
[[route]]
on = "OrderPlaced"
if = "order.modality == 'MR'"
to = ["warehouse"]
[[route]]
on = "StudyCompleted"
if = "'CT' in study.modalities"
only = "series.description != 'Scout'"
to = ["research"]
[[rule]]
on = "send"
set = {PatientName = "Anonymous"}
to = ["research"]
[[rule]]
on = "receive"
if = "source.peer == 'NOISY'"
drop = true
"""
ORM = (
    "MSH|^~\\&|EPIC|GENHOSP|HILUM|RAD|20260102101500||ORM^O01|C1|P|2.5.1\r"
    "PID|1||77^^^GENHOSP||DOE^JANE||19800102|F\r"
    "ORC|NW|P1^EPIC\rOBR|1|P1^EPIC||CTCHEST^CT Thorax^L|||20260102|||||||||||||||||CT\r"
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    (home / "hilum.toml").write_text(SETTINGS)
    return home


def told(home: Path, file: Path, *options: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(cli, ["--home", str(home), "route", "test", str(file), "--json", *options])
    assert done.exit_code == 0, (done.output, done.exception)
    return [json.loads(line) for line in done.output.splitlines()]


def kept(home: Path) -> dict[str, int]:
    application = Application(home)
    try:
        with application.store.read() as db:
            names = ("event", "inbound_message", "patient", "imaging_order", "study", "instance", "delivery")
            return {
                name: db.execute(sa.select(sa.func.count()).select_from(getattr(tables, name))).scalar_one()
                for name in names
            }
    finally:
        application.close()


def test_a_message_is_told_with_its_events_and_routes_and_leaves_nothing(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "order.hl7"
    file.write_text(ORM)
    lines = told(home, file)
    events = [line["event"] for line in lines if "event" in line]
    assert "OrderPlaced" in events
    (raw,) = [line for line in lines if line.get("to") == "warehouse"]
    assert (raw["event"], raw["as"], raw["state"], raw["routes"]) == ("MessageReceived", "hl7 ORM^O01", "waiting", [0])
    assert set(kept(home).values()) == {0}
    file.write_text(ORM.replace("ORC|NW|P1^EPIC\r", ""))
    assert any("would be refused" in line.get("note", "") for line in told(home, file))


def test_an_image_is_told_with_what_is_kept_back_changed_or_dropped(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "image.dcm"
    file.write_bytes(part10_bytes(ct_image(SeriesDescription="Lung")))
    lines = told(home, file, "--from", "CT01")
    (image,) = [line for line in lines if line.get("to") == "research"]
    assert (image["event"], image["as"], image["routes"]) == ("StudyCompleted", "dicom images", [2])
    notes = [line["note"] for line in lines if "note" in line]
    assert notes == ["rule[0] changes PatientName on the way to research."]
    file.write_bytes(part10_bytes(ct_image(SeriesDescription="Scout")))
    assert any("route[2] does not send this image" in line.get("note", "") for line in told(home, file))
    assert told(home, file, "--from", "NOISY") == [{"note": "rule[1] would drop the image."}]
    assert set(kept(home).values()) == {0}


def test_words_for_people_and_a_file_that_is_neither(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "image.dcm"
    file.write_bytes(part10_bytes(ct_image()))
    done = CliRunner().invoke(cli, ["--home", str(home), "route", "test", str(file)])
    assert "StudyCompleted: route[2] -> research as dicom images" in done.output
    file.write_bytes(b"neither")
    done = CliRunner().invoke(cli, ["--home", str(home), "route", "test", str(file)])
    assert done.exit_code != 0


def test_check_knows_the_kinds_that_there_are_senders_for(home: Path) -> None:
    application = Application(home)
    application.prepare()
    try:
        senders = application.senders()
        assert set(senders) == set(SENDER_KINDS)
        for sender in senders.values():
            sender.close()
    finally:
        application.close()
