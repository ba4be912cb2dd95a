"""`hilum check` on transport: each thing that is wrong is named, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fixtures.certificates import DAY, Authority
from hilum.app import Application
from hilum.cli.checking import findings
from hilum.cli.checking_tls import tls_findings
from hilum.core.actor import Actor, ActorKind, Door, Role
from hilum.settings import Settings
from hilum.workflow.inbound import Applied, ReceiveMessage, receive_message

NOW = datetime.now(UTC)


def weighed(home: Path, text: str) -> list[tuple[str, str]]:
    (home / "hilum.toml").write_text(text)
    return [(found.weight, found.text) for found in tls_findings(Settings.load(home), NOW)]


@pytest.mark.parametrize("door", ["http", "dicom", "hl7"])
def test_plain_transport_beyond_this_machine_is_a_fault_unless_it_is_allowed(tmp_path: Path, door: str) -> None:
    (found,) = weighed(tmp_path, f'[{door}]\nbind = "0.0.0.0:4711"\n')
    assert found[0] == "fault"
    assert f"[{door}] listens on 0.0.0.0:4711 without TLS" in found[1]
    (found,) = weighed(tmp_path, f'[{door}]\nbind = "0.0.0.0:4711"\nallow_plain = true\n')
    assert found[0] == "opening"
    assert weighed(tmp_path, f'[{door}]\nbind = "127.0.0.1:4711"\n') == []


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def secured(authority: Authority, **issued: datetime) -> str:
    held = authority.issue("hilum", **issued)
    return f'[hl7]\ntls = "mutual"\ncert = "{held.cert}"\nkey = "{held.key}"\nca = "{authority.ca}"\n'


def test_certificates_in_order_are_not_spoken_of(tmp_path: Path, authority: Authority) -> None:
    assert weighed(tmp_path, secured(authority) + f'crl = "{authority.crl(NOW + 9 * DAY)}"\n') == []


def test_certificates_that_ended_and_that_end_soon_are_named(tmp_path: Path, authority: Authority) -> None:
    (found,) = weighed(tmp_path, secured(authority, since=NOW - 9 * DAY, until=NOW - DAY))
    assert found[0] == "fault"
    assert "hilum.pem ended on" in found[1]
    (found,) = weighed(tmp_path, secured(authority, until=NOW + 5 * DAY + timedelta(hours=1)))
    assert found[0] == "warning"
    assert found[1].endswith("in 5 days.")
    (found,) = weighed(tmp_path, secured(authority, since=NOW + DAY))
    assert "begins only on" in found[1]


@pytest.mark.parametrize(("mode", "weight"), [(0o604, "fault"), (0o640, "warning"), (0o600, "")])
def test_a_private_key_is_its_owners_alone(tmp_path: Path, authority: Authority, mode: int, weight: str) -> None:
    text = secured(authority)
    (authority.folder / "hilum.key").chmod(mode)
    assert [found for found, _ in weighed(tmp_path, text)] == ([weight] if weight else [])


def test_files_that_are_not_there_or_do_not_fit_are_named(tmp_path: Path, authority: Authority) -> None:
    text = secured(authority)
    authority.issue("other")
    (authority.folder / "hilum.key").write_bytes((authority.folder / "other.key").read_bytes())
    (found,) = weighed(tmp_path, text)
    assert found[0] == "fault"
    assert found[1].startswith("[hl7] cert: The TLS certificate and its key cannot be read or do not fit.")
    (authority.folder / "hilum.key").unlink()
    (found,) = weighed(tmp_path, text)
    assert found[0] == "fault"
    assert "hilum.key, which cannot be read" in found[1]


def test_a_revocation_list_out_of_date_is_named(tmp_path: Path, authority: Authority) -> None:
    (found,) = weighed(tmp_path, secured(authority) + f'crl = "{authority.crl(NOW - timedelta(hours=1))}"\n')
    assert found[0] == "fault"
    assert "so every client is refused" in found[1]
    (found,) = weighed(tmp_path, secured(authority) + f'crl = "{authority.crl(NOW + timedelta(hours=5))}"\n')
    assert found[0] == "warning"


def test_a_peer_that_could_never_show_its_certificate_is_named(tmp_path: Path) -> None:
    text = '[[dicom.peer]]\nae_title = "CT01"\ncertificate = "ct01"\n[[hl7.peer]]\nname = "A|B"\ncertificate = "a"\n'
    found = weighed(tmp_path, text)
    assert [weight for weight, _ in found] == ["fault", "fault"]
    assert "CT01" in found[0][1]
    assert "A|B" in found[1][1]


def test_destinations_without_tls_and_with_bad_certificates_are_named(tmp_path: Path, authority: Authority) -> None:
    head = '[[destination]]\nname = "ehr"\nkind = "hl7"\n'
    (found,) = weighed(tmp_path, head + 'address = "mllp://ehr.example.org:2575"\n')
    assert found[0] == "opening"
    held = authority.issue("client", until=NOW + 3 * DAY)
    files = f'ca = "{authority.ca}"\ncert = "{held.cert}"\nkey = "{held.key}"\n'
    (found,) = weighed(tmp_path, head + 'address = "mllps://ehr.example.org:2575"\n' + files)
    assert found[0] == "warning"
    assert weighed(tmp_path, head + 'address = "mllp://127.0.0.1:2575"\n') == []


@pytest.fixture
def application(tmp_path: Path) -> Iterator[Application]:
    (tmp_path / "hilum.toml").write_text('[facility]\nzone = "Europe/Berlin"\n')
    made = Application(tmp_path)
    made.prepare()
    yield made
    made.close()


def receive(application: Application, sender: str, number: int, moment: datetime) -> None:
    """Journal a message that says to be of this moment, in UTC."""
    head = f"MSH|^~\\&|{sender}|||{moment:%Y%m%d%H%M%S}+0000||ADT^A04|M{number}|P|2.5.1\r"
    command = ReceiveMessage(
        sender, f"M{number}", f"{sender}{number}", "ADT^A04", head.encode(),
        lambda uow, message_id, actor: Applied(), lambda applied, error: b"",
    )  # fmt: skip
    application.store.run(receive_message, command, Actor(sender, Role.SERVICE, ActorKind.PEER, Door.HL7))


def test_a_sender_whose_clock_is_off_is_named_and_one_that_was_only_slow_is_not(application: Application) -> None:
    now = datetime.now(UTC)
    receive(application, "LATE|A", 1, now - timedelta(seconds=300))
    receive(application, "LATE|A", 2, now - timedelta(seconds=200))
    receive(application, "EARLY|A", 3, now + timedelta(seconds=90))
    receive(application, "SLOW|A", 4, now - timedelta(seconds=900))
    receive(application, "SLOW|A", 5, now - timedelta(seconds=2))
    said = [found.text for found in findings(application) if "clock" in found.text]
    assert len(said) == 2, said
    assert said[0].startswith("The clock of EARLY|A is ")
    assert said[0].split(" is ")[1].startswith(("88", "89", "90"))
    assert "ahead of ours" in said[0]
    assert said[1].startswith("The clock of LATE|A is 20")
    assert "behind ours" in said[1]
