"""From sample messages to a profile under which they are taken, and from a message to what is wrong with it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hl7_wire import NEW_ORDER, PID, SETTINGS, Exchange, adt, message
from typer.testing import CliRunner

from hilum.cli.commands import cli
from hilum.hl7.conformance import nonconformances
from hilum.hl7.learning import file_name, learn, proposal
from hilum.hl7.mllp import framed
from hilum.hl7.samples import messages_in
from hilum.settings import Hl7Peer, Settings
from hilum.storage.store import Store

UID = "1.2.826.0.1.3680043.8.498.{}"
ODD_ORDER = (
    "PID|1||{0}^^^EPI^MR||DOE^JANE||19800102|W",
    "ORC|NW|P{0}^EPIC",
    "OBR|1|P{0}^EPIC||CTCHEST^CT chest^L|||||||||||||||||ACC{0}|||RAD",
    "ZAC|1|x^" + UID,
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "hilum.toml").write_text(SETTINGS)
    return Settings.load(tmp_path)


def odd(number: int) -> bytes:
    segments = [segment.format(number) for segment in ODD_ORDER]
    return message("ORM^O01", *segments, control=f"M{number}", sender="ODD|CLINIC", version="2.3")


def test_messages_are_found_however_a_file_holds_them() -> None:
    first, second = adt("A04", control="M1"), adt("A08", "NTE|1||a\nMSH is a word", control="M2")
    batch = b"BHS|^~\\&\r" + first + second + b"BTS|2\r"
    for content in (first + second, framed(first) + b"\n" + framed(second), b"\xef\xbb\xbf" + batch, batch[:-6]):
        assert [each.count(b"MSH|") for each in messages_in(content)] == [1, 1], content
    assert messages_in(first.replace(b"\r", b"\r\n") + second)[1] == second
    assert messages_in(b"") == [] and messages_in(b"<ADT_A04/>\n") == [b"<ADT_A04/>"]


def test_a_profile_is_proposed_and_says_what_it_could_not_place(settings: Settings) -> None:
    (samples,) = learn([odd(number) for number in range(3)], settings)
    text = proposal(samples)
    said = tomllib.loads(text)
    assert said["name"] == "ODD|CLINIC"
    assert (said["version"], said["authority"]) == ("2.3", "EPI")
    assert said["places"] == {"ZDS-1": "ZAC-2.2"}
    assert '# "OBR-18" = "OBR-21"' in text
    assert '# "W" = ""' in text and '# "RAD" = ""' in text
    assert "OBR-21: in 3 of 3, codes" in text
    Hl7Peer(**said)


def test_a_proposal_tells_nothing_of_patients(settings: Settings) -> None:
    (samples,) = learn([odd(number) for number in (4711, 4712)], settings)
    assert not any(secret in proposal(samples) for secret in ("4711", "4712", "DOE", "JANE", "19800102"))


def test_senders_are_told_apart_and_what_is_unreadable_is_counted(settings: Settings) -> None:
    found = learn([adt("A04"), odd(1), odd(2), b"MSH|^~\\&|ODD|CLINIC\rnonsense", b"nothing"], settings)
    assert [(each.sender, each.kinds.total(), each.unreadable) for each in found] == [
        ("ODD|CLINIC", 2, 1),
        ("EPIC|GENHOSP", 1, 0),
        ("", 0, 1),
    ]
    assert file_name("ODD|CLINIC") == "odd-clinic.toml"
    assert file_name("ODD|CLINIC", ["odd-clinic.toml"]) == "odd-clinic-2.toml"


def said(raw: bytes, settings: Settings) -> list[str]:
    return [str(each) for each in nonconformances(raw, settings)]


def test_a_message_as_its_profile_says_has_no_findings(settings: Settings) -> None:
    assert said(adt("A04"), settings) == []
    assert [line[:4] for line in said(message("ORM^O01", *NEW_ORDER), settings)] in ([], ["note"])


@pytest.mark.parametrize(
    ("raw", "finding"),
    [
        (adt("A04", sender="NEW|ONE"), "warning: MSH-3: there is no profile of this sender"),
        (adt("A99"), "fault: MSH-9.2: This event is not handled."),
        (adt("A04", PID.replace("DOE^JANE^Q^^^^L", "")), "fault: PID-5"),
        (adt("A04", PID.replace("|F", "|W")), "warning: PID-8: codes that are not in its table: W"),
        (adt("A04", PID.replace("19800102", "1980-01-02")), "fault: PID-7"),
        (adt("A04", PID + "||ALIAS"), "note: not read: PID-10"),
        (adt("A04", PID.replace("JANE", "JÉ"), encoding="latin-1"), "warning: MSH-18: character set not declared"),
        (b"nonsense", "fault: MSH"),
        (message("ORM^O01", PID, "ORC|NW|P1", "OBR|1|P2||X"), "fault: OBR-2: ORC-2 and OBR-2 differ."),
    ],
)
def test_what_is_wrong_is_said_with_its_place(settings: Settings, raw: bytes, finding: str) -> None:
    assert any(line.startswith(finding) for line in said(raw, settings)), said(raw, settings)


def test_what_the_profile_says_is_held_against_the_message(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "x.toml").write_text(
        'name = "EPIC|GENHOSP"\nversion = "2.4"\n[required]\nADT = ["PV1-19", "PID-13"]\n[places]\n"PID-13" = "ZPI-2"\n'
    )
    found = said(adt("A04", PID, "ZPI|1|555"), Settings.load(tmp_path))
    assert "warning: MSH-12: is not 2.4, as the profile says" in found
    assert "fault: PV1-19: is empty, and the profile requires it" in found
    assert "warning: PID-3.4: is empty, and the profile names no authority" not in found
    assert not any("ZPI-2" in line for line in found)


def test_from_samples_to_a_feed_that_is_taken(sqlite_store: Store, tmp_path: Path) -> None:
    """As docs/interfaces.md has it: learn, look, correct, check, send."""
    home, run = tmp_path / "home", CliRunner()
    door = Exchange(sqlite_store, home)
    sample = tmp_path / "feed.hl7"
    sample.write_bytes(odd(1) + odd(2))
    shown = run.invoke(cli, ["--home", str(home), "learn", str(sample)])
    assert shown.exit_code == 0 and not (home / "profiles").exists()
    assert run.invoke(cli, ["--home", str(home), "learn", "--write", str(sample)]).exit_code == 0
    file = home / "profiles" / "odd-clinic.toml"
    corrected = file.read_text().replace('# "OBR-18"', '"OBR-18"').replace('# "W" = ""', 'W = "F"')
    file.write_text(corrected.replace('# filler = "auto"', 'filler = "external"'))
    checked = run.invoke(cli, ["--home", str(home), "conformance", str(sample)])
    assert checked.exit_code == 0, checked.output
    assert "2 messages, 0 faults" in checked.output and "W" not in checked.output.replace("RAW", "")
    again = Exchange(sqlite_store, home, SETTINGS)
    again.accept(odd(1))
    placed = door.order()
    assert (placed.accession_number, placed.study_instance_uid) == ("ACC1", UID.format(1))
    assert door.patient().sex == "F"


def test_conformance_fails_where_a_message_would_be_refused(tmp_path: Path) -> None:
    sample, draft = tmp_path / "one.hl7", tmp_path / "draft.toml"
    sample.write_bytes(adt("A04"))
    draft.write_text('name = "EPIC|GENHOSP"\n[required]\n"*" = ["PV1-44"]\n')
    done = CliRunner().invoke(cli, ["--home", str(tmp_path), "conformance", "--profile", str(draft), str(sample)])
    assert done.exit_code == 1
    assert "message 1: fault: PV1-44: is empty, and the profile requires it" in done.output
