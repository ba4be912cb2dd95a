"""`hilum demo`: a fresh home, a real server, and outside players that have only sockets and a token each."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from hilum.core.errors import Unavailable
from hilum.security.passwords import one_time_password

START_SECONDS = 90.0
# The usual ports where they are free, so that the address is the one people expect.
USUAL_PORTS = {"http": 8080, "dicom": 11112, "hl7": 2575, "ehr": 6661}

_CONFIGURATION = """\
# The home of one demo; it is thrown away at the end.
[facility]
name = "Hilum demo"
default_authority = "DEMOHOSP"
[http]
bind = "127.0.0.1:{http}"
[dicom]
bind = "127.0.0.1:{dicom}"
ae_title = "HILUM"
[[dicom.peer]]
ae_title = "DEMOCT"
issuer = "DEMOHOSP"
[hl7]
bind = "127.0.0.1:{hl7}"
[[hl7.peer]]
name = "DEMOEHR|DEMOHOSP"
authority = "DEMOHOSP"
[[hl7.peer]]
name = "DEMODICT|DEMOHOSP"
authority = "DEMOHOSP"
[study]
quiet_seconds = 5
[[destination]]
name = "ehr"
kind = "hl7"
address = "mllp://127.0.0.1:{ehr}"
receiving = "DEMOEHR|DEMOHOSP"
[[route]]
on = "ReportSigned"
to = ["ehr"]
[[route]]
on = "OrderStatusChanged"
to = ["ehr"]
"""


def demo(
    stay: Annotated[bool, typer.Option("--stay", help="Leave the server up afterwards and print its login.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
) -> None:
    """Play the whole chain on a fresh home; exit 0 only if every link was verified from outside."""
    home = Path(tempfile.mkdtemp(prefix="hilum-demo-"))
    ports = _ports()
    (home / "hilum.toml").write_text(_CONFIGURATION.format(**ports), encoding="utf-8")
    server = _start(home)
    try:
        password = one_time_password()
        cast = _cast(home, ports, password)
        code = _play(cast, as_json)
        if stay and code == 0:
            _stay(server, ports, password)
        raise typer.Exit(code)
    finally:
        _stop(server)
        shutil.rmtree(home, ignore_errors=True)


def _start(home: Path) -> subprocess.Popen[str]:
    server = subprocess.Popen(
        [sys.executable, "-m", "hilum.cli", "--home", str(home), "up"],
        stdout=subprocess.PIPE,
        stderr=(home / "server.log").open("w", encoding="utf-8"),
        text=True,
    )
    assert server.stdout is not None
    ready = threading.Event()
    threading.Thread(target=_read_until_ready, args=(server.stdout, ready), daemon=True).start()
    if not ready.wait(START_SECONDS) or server.poll() is not None:
        _stop(server)
        sys.stderr.write((home / "server.log").read_text(encoding="utf-8")[-4000:])
        raise Unavailable("The demo's server did not start.")
    return server


def _read_until_ready(lines: IO[str], ready: threading.Event) -> None:
    for line in lines:
        if line.startswith("hilum ready"):
            ready.set()
    ready.set()


def _cast(home: Path, ports: dict[str, int], password: str) -> dict[str, Any]:
    """Make the players' accounts and tokens as an operator would: by the command line."""
    radiologist, physician = f"R{secrets.randbelow(10**5):05}", f"P{secrets.randbelow(10**5):05}"
    _hilum(
        home, "user", "add", "radiologist", "--role", "radiologist", "--identifier", f"{radiologist}^DEMOHOSP",
        "--display", "Reed, Robin", "--password-stdin", given=password,
    )  # fmt: skip
    _hilum(
        home, "user", "add", "physician", "--role", "referring-physician", "--identifier", f"{physician}^DEMOHOSP",
        "--display", "Okafor, Chidi", "--password-stdin", given=password,
    )  # fmt: skip
    return {
        "http": f"http://127.0.0.1:{ports['http']}",
        "dicom": {"host": "127.0.0.1", "port": ports["dicom"], "ae_title": "HILUM"},
        "hl7": {"host": "127.0.0.1", "port": ports["hl7"]},
        "ehr_listen_port": ports["ehr"],
        "tokens": {
            "ehr": _hilum(home, "token", "--role", "service"),
            "radiologist": _hilum(home, "token", "--user", "radiologist"),
            "physician": _hilum(home, "token", "--user", "physician"),
        },
        "radiologist": {"identifier": radiologist, "name": "Reed^Robin"},
        "physician": {"identifier": physician, "name": "Okafor^Chidi"},
    }


def _play(cast: dict[str, Any], as_json: bool) -> int:
    """Run the conductor apart from this process: with the cast's sockets and tokens, and nothing of ours."""
    command = [sys.executable, "-m", "hilum.demo.conductor", *(["--json"] if as_json else [])]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HILUM_")}
    # The phantoms are painted with thousands of small matrix products: threads for each take five times the time.
    environment["OMP_NUM_THREADS"] = "1"
    return subprocess.run(command, input=json.dumps(cast) + "\n", text=True, env=environment, check=False).returncode


def _stay(server: subprocess.Popen[str], ports: dict[str, int], password: str) -> None:
    print(
        f"\nHilum is up: http://127.0.0.1:{ports['http']}/\n"
        f"  login     radiologist  {password}   (also: physician, same password)\n"
        f"  DICOM     HILUM@127.0.0.1:{ports['dicom']}\n"
        f"  HL7       127.0.0.1:{ports['hl7']} (MLLP)\n"
        "Ctrl-C ends it and removes its temporary home.",
        flush=True,
    )
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda number, frame: server.terminate())
    server.wait()


def _stop(server: subprocess.Popen[str]) -> None:
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _hilum(home: Path, *arguments: str, given: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-m", "hilum.cli", "--home", str(home), *arguments],
        input=given + "\n", capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise Unavailable(f"The demo could not be set up: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()


def _ports() -> dict[str, int]:
    """Return the ports of the doors and of the EHR's listener: the usual ones, or the next that are free.

    Not any that the kernel would give: until the server listens, an outgoing connection might take it.
    """
    return {name: next(filter(_is_free, range(usual, usual + 1000))) for name, usual in USUAL_PORTS.items()}


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False
