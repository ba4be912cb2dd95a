"""The demo is green only when every link holds, and names the one that does not."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("demo")]


def play(*broken: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hilum.cli", "demo", *broken], capture_output=True, text=True, check=False, timeout=380
    )


def test_the_demo_is_green() -> None:
    done = play()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    for number in range(1, 11):
        assert f"{number} " in done.stdout
