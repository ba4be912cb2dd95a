"""What every measurement prints and keeps: a table for people, JSON beside it, the machine and the day."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ARTEFACTS = Path(__file__).resolve().parent.parent / "artefacts" / "benchmarks"


def machine() -> str:
    """Return what the figures were measured on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return f"{datetime.now(UTC):%Y-%m-%d} · {os.cpu_count()} × {model} · Python {platform.python_version()}"


def show(area: str, title: str, rows: list[dict[str, Any]]) -> None:
    """Print rows as a table and write them as JSON."""
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name, justify="left" if name == "what" else "right")
    for row in rows:
        table.add_row(*(f"{value:.1f}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(width=140).print(table)
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    (ARTEFACTS / f"{area}.json").write_text(json.dumps({"machine": machine(), "title": title, "rows": rows}, indent=2))


def percentile(values: list[float], share: float) -> float:
    """Return the value below which a share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
