"""`python -m benchmarks [AREA…]`: run all measurements, or some; print tables and write JSON to artefacts/."""

from __future__ import annotations

import sys

from benchmarks import chain, hl7, pixels, reading, security, store
from benchmarks.table import machine

AREAS = {
    "chain": chain.main,
    "hl7": hl7.main,
    "pixels": pixels.main,
    "reading": reading.main,
    "security": security.main,
    "store": store.main,
}


def main(wanted: list[str]) -> int:
    """Run the areas that are named, or all."""
    unknown = [name for name in wanted if name not in AREAS]
    if unknown:
        print(f"no such area: {', '.join(unknown)}; there are {', '.join(AREAS)}", file=sys.stderr)
        return 2
    print(machine())
    for name in wanted or AREAS:
        AREAS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
