"""The configuration: precedence, refusals in one sentence, and the swap of a snapshot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from hilum.settings import Configuration, Settings, SettingsError, event_names, starter_file
from hilum.settings.addresses import SCHEMES, host_and_port
from hilum.settings.live import NEEDS_RESTART
from hilum.settings.load import revision_of

DESTINATION = '[[destination]]\nname = "ehr"\nkind = "hl7"\naddress = "mllp://127.0.0.1:6661"\n'


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("HILUM_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def write(home: Path, text: str) -> None:
    (home / "hilum.toml").write_text(text, encoding="utf-8")


def refusal(home: Path, text: str) -> str:
    write(home, text)
    with pytest.raises(SettingsError) as caught:
        Settings.load(home)
    return caught.value.message


def test_a_home_without_a_file_has_the_defaults_and_lets_no_stranger_in(home: Path) -> None:
    settings = Settings.load(home)
    assert settings.http.bind == "127.0.0.1:8080"
    assert settings.dicom.accept_unknown == settings.hl7.accept_unknown == "none"
    assert settings.destination == ()
    assert settings.paths.database == home / "hilum.db"


def test_the_starter_file_is_valid_and_opens_only_to_this_machine(home: Path) -> None:
    write(home, starter_file())
    settings = Settings.load(home)
    assert settings.dicom.accept_unknown == settings.hl7.accept_unknown == "loopback"
    assert settings.dicom.listen.host == settings.hl7.listen.host == settings.http.listen.host == "127.0.0.1"


def test_what_the_starter_file_shows_in_comments_is_valid_too(home: Path) -> None:
    lines = starter_file().splitlines()
    begin = lines.index("# [[dicom.peer]]")
    shown = [
        line.removeprefix("# ").removeprefix("#") for line in lines[begin:] if not line.startswith(("# A ", "# Any"))
    ]
    write(home, "\n".join(shown))
    settings = Settings.load(home)
    assert settings.dicom.peer_named("CT01") is not None
    assert [route.on for route in settings.route] == ["ReportSigned", "OrderStatusChanged"]


def test_the_environment_stands_above_the_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home, '[http]\nbind = "127.0.0.1:1"\nprocesses = 7\n')
    monkeypatch.setenv("HILUM_HTTP__BIND", "127.0.0.1:2")
    settings = Settings.load(home)
    assert (settings.http.bind, settings.http.processes) == ("127.0.0.1:2", 7)


def test_lists_come_from_the_environment_as_json(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HILUM_DICOM__PEER", json.dumps([{"ae_title": "CT01", "issuer": "GENHOSP"}]))
    monkeypatch.setenv("HILUM_DESTINATION", json.dumps([{"name": "e", "kind": "hl7", "address": "mllp://h:1"}]))
    monkeypatch.setenv("HILUM_ROUTE", json.dumps([{"on": "ReportSigned", "if": "true", "to": ["e"]}]))
    settings = Settings.load(home)
    assert settings.dicom.peer[0].issuer == "GENHOSP"
    assert settings.route[0].condition == "true"
    assert settings.destination_named("e") is settings.destination[0]


def test_an_argument_names_the_home_before_the_environment_does(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HILUM_HOME", str(home / "other"))
    assert Settings.load(home).home == home
    assert Settings.load().home == home / "other"


def test_the_home_is_absolute_so_that_a_change_of_folder_does_not_move_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    assert Settings.load().home == home / "hilum-home"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[http]\nbnd = "127.0.0.1:1"\n', "there is no setting `http.bnd`, perhaps `bind`."),
        ("[htp]\n", "there is no setting `htp`, perhaps `http`."),
        ('home = "/elsewhere"\n', "there is no setting `home`; the home is where the file is."),
        ('[http]\nbind = "8080"\n', '`http.bind` is not of the form "HOST:PORT".'),
        ('[hl7]\nbind = "127.0.0.1:70000"\n', "`hl7.bind` has a port above 65535."),
        ('[facility]\nzone = "Middle/Earth"\n', "`facility.zone` is not a time zone name"),
        ('[dicom]\nae_title = "SEVENTEEN_LETTERS"\n', "`dicom.ae_title` is not an AE title"),
        ('[[dicom.peer]]\nissuer = "X"\n', "`dicom.peer[0].ae_title` is missing."),
        ('[[dicom.peer]]\nae_title = "A"\n[[dicom.peer]]\nae_title = "A"\n', "two peers have the same ae_title."),
        ('[[hl7.peer]]\nname = "EPIC"\n', '`hl7.peer[0].name` is not of the form "APPLICATION|FACILITY".'),
        ('[[hl7.peer]]\nname = "A|B"\ncharset = "UTF8"\n', "`hl7.peer[0].charset"),
        ('[database]\nurl = "mysql://h"\n', '`database.url` is neither "sqlite" nor postgresql://….'),
        ('[archive]\nurl = "s3://"\n', '`archive.url` is neither "file" nor s3://bucket/prefix.'),
        (DESTINATION + DESTINATION, 'two destinations are named "ehr".'),
        ('[[route]]\non = "ReportSigned"\nto = ["ehr"]\n', 'leads to "ehr", which is no destination.'),
        (DESTINATION + '[[route]]\non = "ReportWritten"\nto = ["ehr"]\n', "`route[0].on` is no event; the events are"),
        (
            DESTINATION + '[[route]]\non = "ReportSigned"\nsend = "raw"\nto = ["ehr"]\n',
            'goes with on = "MessageReceived"',
        ),
        ("[http\n", "is not TOML:"),
    ],
)
def test_a_slip_is_refused_in_one_sentence_that_names_file_and_key(home: Path, text: str, sentence: str) -> None:
    message = refusal(home, text)
    assert message.startswith(str(home / "hilum.toml"))
    assert sentence in message
    assert message.endswith(".")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("HILUM_HTTP__BND", "x", "there is no setting `http.bnd`, perhaps `bind`."),
        ("HILUM_HTPP__BIND", "x", "there is no section `htpp`, perhaps `http`."),
        ("HILUM_HTTP__PROCESSES", "many", "`http.processes` is not valid:"),
        ("HILUM_DICOM__PEER", "[{", "is not JSON, which this setting needs there."),
        ("HILUM_DESTINATION", "ehr", "is not JSON, which this setting needs there."),
        (
            "HILUM_DESTINATION",
            '[{"name": "e", "kind": "hl7", "address": "tcp://h:1"}]',
            "address must begin with mllp://",
        ),
    ],
)
def test_a_slip_in_the_environment_names_its_variable(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        Settings.load(home)
    assert caught.value.message.startswith(f"{name}: ")
    assert sentence in caught.value.message


@pytest.mark.parametrize(
    ("kind", "address", "words"),
    [
        ("hl7", "http://127.0.0.1:1", "must begin with mllp:// or mllps://"),
        ("hl7", "mllp://127.0.0.1", "names no port"),
        ("hl7", "mllp://127.0.0.1:99999", "has a port that is not a number up to 65535"),
        ("dicom", "dicom://127.0.0.1:104", "names no AE title"),
        ("fhir", "https://", "names no host"),
        ("s3", "s3:///prefix", "names no bucket"),
        ("file", "file://", "names no folder"),
        ("smtp", "smtp://me:secret@mail.example.org", "holds a password"),
    ],
)
def test_a_destination_needs_an_address_that_suits_its_kind(home: Path, kind: str, address: str, words: str) -> None:
    message = refusal(home, f'[[destination]]\nname = "x"\nkind = "{kind}"\naddress = "{address}"\n')
    assert words in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        ("hl7", "mllp://127.0.0.1:6661"),
        ("hl7", "mllps://[::1]:6661"),
        ("dicom", "dicom://PACS@127.0.0.1:104"),
        ("stow", "https://pacs.example.org/dicom-web"),
        ("fhir", "http://127.0.0.1:8080/fhir"),
        ("webhook", "https://example.org/hook"),
        ("smtp", "smtp://mail.example.org"),
        ("file", "file:///var/spool/hilum"),
        ("s3", "s3://bucket/prefix"),
    ],
)
def test_every_kind_of_destination_has_an_address_that_is_taken(home: Path, kind: str, address: str) -> None:
    write(home, f'[[destination]]\nname = "x"\nkind = "{kind}"\naddress = "{address}"\n')
    assert Settings.load(home).destination[0].address == address
    assert kind in SCHEMES


def test_a_refusal_never_repeats_a_secret(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HILUM_DATABASE__URL", "mysql://u:hunter2@h")
    with pytest.raises(SettingsError) as caught:
        Settings.load(home)
    assert "hunter2" not in caught.value.message
    monkeypatch.setenv("HILUM_DATABASE__URL", "postgresql://u:hunter2@h")
    monkeypatch.setenv("HILUM_ARCHIVE__SECRET_KEY", "hunter3")
    assert "hunter" not in repr(Settings.load(home))


def test_credentials_come_from_files_before_values(home: Path) -> None:
    (home / "secret").write_text("from-file\n", encoding="utf-8")
    write(home, '[archive]\naccess_key = "id"\nsecret_key = "plain"\nsecret_key_file = "secret"\n')
    assert Settings.load(home).archive.credentials(home) == ("id", "from-file")
    assert Settings().archive.credentials(home) is None


def test_a_credential_file_that_is_missing_is_named(home: Path) -> None:
    write(home, '[archive]\naccess_key = "id"\nsecret_key_file = "absent"\n')
    with pytest.raises(SettingsError, match=r"archive\.secret_key_file.*absent"):
        Settings.load(home).archive.credentials(home)


def test_nothing_in_a_snapshot_can_be_changed(home: Path) -> None:
    settings = Settings.load(home)
    with pytest.raises(ValidationError):
        settings.http.bind = "127.0.0.1:1"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        settings.route = ()  # type: ignore[misc]


def test_every_event_can_be_routed(home: Path) -> None:
    write(home, DESTINATION + "".join(f'[[route]]\non = "{name}"\nto = ["ehr"]\n' for name in event_names()))
    assert [route.on for route in Settings.load(home).route] == list(event_names())


@pytest.mark.parametrize("text", ["127.0.0.1:80", "[::1]:80", "pacs.example.org:80"])
def test_hosts_are_read_with_their_port(text: str) -> None:
    assert host_and_port(text).port == 80
    assert host_and_port(text).host in ("127.0.0.1", "::1", "pacs.example.org")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_changed_file_is_swapped_in_within_a_second(home: Path) -> None:
    write(home, "[worklist]\nshow_started = false\n")
    clock = Clock()
    configuration = Configuration(home, monotonic=clock)
    before, revision = configuration.current, configuration.revision
    write(home, "[worklist]\nshow_started = true\n\n")
    clock.now = 0.5
    assert configuration.refresh() is before
    clock.now = 1.5
    assert configuration.refresh().worklist.show_started
    assert configuration.revision != revision
    assert not before.worklist.show_started


def test_an_invalid_file_changes_nothing_and_its_error_is_kept_until_it_is_mended(home: Path) -> None:
    clock = Clock()
    configuration = Configuration(home, monotonic=clock)
    before, revision = configuration.current, configuration.revision
    write(home, "[http\n")
    clock.now = 2
    assert configuration.refresh() is before
    assert configuration.revision == revision
    assert configuration.error is not None
    assert "is not TOML" in configuration.error
    write(home, "[http]\n")
    clock.now = 4
    configuration.refresh()
    assert configuration.error is None


def test_what_needs_a_restart_is_named_until_then(home: Path) -> None:
    clock = Clock()
    configuration = Configuration(home, monotonic=clock)
    write(home, '[http]\nbind = "127.0.0.1:9999"\n')
    clock.now = 2
    configuration.refresh()
    assert configuration.waiting_for_restart == ("http.bind",)
    assert Configuration(home).waiting_for_restart == ()


def test_every_setting_that_needs_a_restart_exists() -> None:
    for key in NEEDS_RESTART:
        section, _, name = key.partition(".")
        assert hasattr(getattr(Settings(), section), name)


def test_the_revision_covers_file_and_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = revision_of(b"x")
    assert revision_of(b"y") != plain
    monkeypatch.setenv("HILUM_HTTP__PROCESSES", "3")
    assert revision_of(b"x") != plain


def test_reading_the_settings_loads_neither_database_nor_doors() -> None:
    heavy = "sqlalchemy", "starlette", "pydicom", "numpy"
    program = f"import sys, hilum.settings; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_starter_file_is_toml_that_says_what_it_opens() -> None:
    assert tomllib.loads(starter_file())["dicom"]["accept_unknown"] == "loopback"
