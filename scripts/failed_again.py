"""Run the files of the tests that failed once more, whole and one after the other: `python scripts/failed_again.py`.

A machine with too much to do at once fails tests that wait; a test that fails here too has failed. More than a few
files are no accident, and are not tried again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

FAILED = Path(".pytest_cache/v/cache/lastfailed")
MOST = 4


def main() -> int:
    """Return the outcome of the second run, or 1 where there is none."""
    if not FAILED.exists():
        return 1
    files = sorted({name.partition("::")[0] for name in json.loads(FAILED.read_text())})
    if not files or len(files) > MOST:
        return 1
    print(f"failed, and run once more by themselves: {', '.join(files)}", flush=True)
    return subprocess.run([sys.executable, "-m", "pytest", "-r", "fE", *files], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
