"""The demo is green only when every link holds, and names the one that does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("demo")]


def play(**settings: object) -> subprocess.CompletedProcess[str]:
    """Run the demo with settings of the environment laid over those of its home."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HILUM_")}
    environment |= {f"HILUM_{name}": json.dumps(value) for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", "hilum.cli", "demo"],
        capture_output=True, text=True, check=False, timeout=380, env=environment,
    )  # fmt: skip


def test_the_demo_is_green() -> None:
    done = play()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    shown = [line.split()[0] for line in done.stdout.splitlines() if line[:2].strip().isdigit()]
    assert set(shown) == {str(number) for number in range(1, 11)}


# What an operator may break by a wrong setting, and the link that it breaks: a door that is shut, a message not sent.
BROKEN: list[tuple[str, dict[str, object]]] = [
    ("5 Worklist", {"DICOM__PEER": []}),
]
if os.environ.get("HILUM_SOAK") == "full":
    BROKEN += [
        ("1 Registration", {"HL7__PEER": []}),
        ("4 Schedule", {"ROUTE": [{"on": "ReportSigned", "to": ["ehr"]}]}),
        ("10 Result to the EHR", {"ROUTE": [{"on": "OrderStatusChanged", "to": ["ehr"]}]}),
    ]


@pytest.mark.soak
@pytest.mark.parametrize(("link", "settings"), BROKEN)
def test_the_demo_names_a_broken_link(link: str, settings: dict[str, object]) -> None:
    done = play(**settings)
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-2000:]
    assert f"broken link: {link}" in done.stdout + done.stderr
