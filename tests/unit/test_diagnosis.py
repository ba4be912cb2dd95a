"""What `hilum diagnose` gives away: no secret and no credential, wherever in the configuration it stands."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from hilum import telemetry
from hilum.cli.commands import cli
from hilum.security.keys import Keyring
from hilum.settings import Configuration, Settings
from hilum.settings.shareable import HIDDEN, address_shown, shareable
from hilum.storage.database import migrate, open_engine

PLANTED = "planted-secret"
FILE = f"""
[database]
url = "postgresql://hilum:{PLANTED}@db.example:5432/hilum?password={PLANTED}"
[archive]
url = "s3://bucket/prefix"
endpoint = "https://{PLANTED}:{PLANTED}@s3.example/{PLANTED}"
access_key = "{PLANTED}"
secret_key = "{PLANTED}"
[[destination]]
name = "hook"
kind = "webhook"
address = "https://hooks.example/services/{PLANTED}?token={PLANTED}"
password_file = "secrets/hook"
[[destination]]
name = "pacs"
kind = "dicom"
address = "dicom://PACS@10.0.0.1:11112"
[[route]]
on = "ReportSigned"
if = "patient.family == '{PLANTED}'"
to = ["hook"]
"""


def secrets_of(model: Any, place: str = "") -> list[str]:
    """Every setting that is a secret by its type."""
    found = []
    for name, info in model.model_fields.items():
        for part in (info.annotation, *getattr(info.annotation, "__args__", ())):
            if part is SecretStr:
                found.append(f"{place}{name}")
            elif hasattr(part, "model_fields"):
                found += secrets_of(part, f"{place}{name}.")
    return found


def test_no_planted_secret_is_shown(tmp_path: Path) -> None:
    (tmp_path / "hilum.toml").write_text(FILE)
    shown = shareable(Configuration(tmp_path).current)
    assert PLANTED not in json.dumps(shown)
    assert shown["database"]["url"] == "postgresql://db.example:5432/hilum"
    assert shown["archive"]["secret_key"] == HIDDEN
    assert shown["destination"][0]["address"] == "https://hooks.example/…"
    assert shown["destination"][0]["password_file"] == "secrets/hook"
    assert shown["destination"][1]["address"] == "dicom://PACS@10.0.0.1:11112"
    assert shown["route"][0]["condition"].startswith("(a condition of")
    assert str(tmp_path) not in json.dumps(shown)


def test_every_section_is_shown() -> None:
    assert set(shareable(Settings())) == set(Settings.model_fields) - {"home"}
    assert set(secrets_of(Settings)) >= {"archive.access_key", "archive.secret_key"}


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("smtp://user:x@mail.example:25", "smtp://mail.example:25"),
        ("mllp://127.0.0.1:6661", "mllp://127.0.0.1:6661"),
        ("https://[::1]:8443/", "https://[::1]:8443/"),
        ("https://x.example:port/", HIDDEN),
        ("dicoms://A:x@h:1", "dicoms://A@h:1"),
    ],
)
def test_addresses_lose_what_lets_somebody_in(address: str, shown: str) -> None:
    assert address_shown(address) == shown


def test_a_line_of_the_logs_is_held_to_the_list_again() -> None:
    line = json.dumps({"event": "a request failed", "door": "fhir", "patient": "Doe", "timestamp": "2026", "host": "x"})
    assert telemetry.shareable_line(line.encode()) == {
        "event": "a request failed", "door": "fhir", "timestamp": "2026", "dropped": ["patient"],
    }  # fmt: skip
    assert telemetry.shareable_line(b'{"event": "Doe Jane 19800102", "door": "fhir"}') == {
        "event": "unnamed",
        "door": "fhir",
    }
    for other in (b"Traceback: Doe", b"[1]", b'{"event": 5}', b"\xff", b""):
        assert telemetry.shareable_line(other) is None


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, list(arguments))
    return done.exit_code, f"{done.output} {done.exception!r}"


def test_the_bundle_says_what_helps_and_keeps_what_is_secret(tmp_path: Path) -> None:
    home, file = tmp_path / "home", tmp_path / "out.zip"
    home.mkdir()
    (home / "hilum.toml").write_text('[facility]\nname = "General"\n')
    keyring = Keyring.open(home)
    migrate(open_engine("sqlite", home / "hilum.db"))
    log = home / "run" / "log"
    log.mkdir(parents=True)
    lines = [json.dumps({"event": "tick", "timestamp": f"2026-01-01T00:00:{n:02}Z", "count": n}) for n in range(30)]
    (log / "http.jsonl").write_text("\n".join(lines) + "\nnot a line of ours: Doe\n")
    code, said = run("--home", str(home), "diagnose", "--output", str(file), "--lines", "5")
    assert code == 0, said
    with zipfile.ZipFile(file) as bundle:
        parts = {name: bundle.read(name) for name in bundle.namelist()}
    assert set(parts) == {
        "README.txt", "versions.json", "settings.json", "database.json", "lanes.json", "findings.json", "log.jsonl",
    }  # fmt: skip
    assert json.loads(parts["database.json"])["schema"] == "0001"
    assert json.loads(parts["database.json"])["rows"]["patient"] == 0
    assert json.loads(parts["versions.json"])["packages"]["pydicom"]
    assert [json.loads(line)["count"] for line in parts["log.jsonl"].splitlines()] == [25, 26, 27, 28, 29]
    everything = b"".join(parts.values())
    assert str(tmp_path).encode() not in everything
    for secret in (keyring.session_secret, keyring.audit.secret):
        assert secret not in everything
        assert secret.hex().encode() not in everything
    assert oct(file.stat().st_mode)[-3:] == "600"
    code, _ = run("--home", str(home), "diagnose", "--output", str(file))
    assert code == 1, "a file that is there is left alone"


def test_a_database_that_does_not_answer_is_a_finding_not_the_end(tmp_path: Path) -> None:
    home, file = tmp_path / "home", tmp_path / "out.zip"
    home.mkdir()
    (home / "hilum.toml").write_text('[database]\nurl = "postgresql://nobody:x@127.0.0.1:1/none"\n')
    code, said = run("--home", str(home), "diagnose", "--output", str(file))
    assert code == 0, said
    with zipfile.ZipFile(file) as bundle:
        assert json.loads(bundle.read("database.json")) == {"failed": "unavailable"}
        assert b"HILUM" in bundle.read("settings.json")


def test_check_names_what_keeps_the_trail_from_its_collector(tmp_path: Path) -> None:
    (tmp_path / "hilum.toml").write_text('[audit]\nsyslog = "udp://127.0.0.1:514"\nca = "tls/none.pem"\n')
    code, said = run("--home", str(tmp_path), "check")
    assert code == 1
    assert "[audit] syslog over udp:// is never confirmed" in said
    assert "tls/none.pem, which cannot be read" in said
