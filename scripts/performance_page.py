"""Write docs/performance.md from the last benchmark run: `python scripts/performance_page.py`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "artefacts" / "benchmarks"
PAGE = ROOT / "docs" / "performance.md"

HEAD = """# Performance

Written by `python scripts/performance_page.py` from the last run of `make bench`; never by hand. Absolute figures move
with the machine, so each stands beside its rival or its limit from the same run, in alternating order; ratios are what
to quote. Time is never asserted in tests.

Where the rival is ahead or the lead is thin, this limits it: of images over four associations, the one interpreter that
receives (0.5 ms of Python for an object of 10 KB, 1.3 ms for a CT with its digest and copies) and two cores shared with
indexer and client; of a whole series over WADO-RS, the loopback itself, as the row below it shows; of HL7 v2, the
statements of the domain and of the audit trail (2 to 4 ms of processor for a message, and more in the worker for what
follows from it): the goal of 60 % of bare writing is not reached.
"""


def main() -> None:
    """Turn each result into a section, in the order of their names."""
    results = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))]
    if not results:
        sys.exit("there are no results; run `make bench` first")
    PAGE.write_text(HEAD + "".join(section(result) for result in results), encoding="utf-8")


def section(result: dict[str, Any]) -> str:
    """Return a heading, the machine and the table of one result."""
    rows = result["rows"]
    names = list(rows[0])
    lines = [
        f"\n## {result['title']}\n",
        f"{result['machine']}\n",
        "| " + " | ".join(names) + " |",
        "|" + "|".join("---" if name == "what" else "---:" for name in names) + "|",
        *("| " + " | ".join(shown(row.get(name, "")) for name in names) + " |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def shown(value: object) -> str:
    """Return a figure with as many digits as it deserves."""
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 100 else f"{value:.2f}"
    return str(value)


if __name__ == "__main__":
    main()
