"""What the audience sees: each link with who spoke to whom in which standard and how long it took, as it happens."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hilum.demo.play import Refused

LINKS = {
    1: "Registration",
    2: "Prior check at ordering",
    3: "Order",
    4: "Schedule",
    5: "Worklist",
    6: "Exam",
    7: "Images",
    8: "Reading",
    9: "Report",
    10: "Result to the EHR",
}


@dataclass
class Leg:
    """One verified passage over a link."""

    act: str
    link: int
    name: str
    who: str
    standard: str
    at: str
    seconds: float = 0.0
    seen: str = ""


class BrokenLink(Exception):
    """A link was not verified from outside."""

    def __init__(self, link: int, why: str) -> None:
        self.link, self.why = link, why
        super().__init__(f"broken link: {link} {LINKS[link]}: {why}")


class Programme:
    """Prints the legs and remembers them; `pause` waits for a line on stdin after each."""

    def __init__(self, as_json: bool = False, pause: bool = False) -> None:
        self.as_json, self.pause = as_json, pause
        self.legs: list[Leg] = []
        self.console = Console(highlight=False, width=None if sys.stdout.isatty() else 170)
        self.errors = Console(stderr=True, highlight=False)

    def act(self, title: str) -> None:
        """Announce what comes next."""
        if not self.as_json:
            self.console.print()
            self.console.print(Text(title, style="bold"))

    @contextmanager
    def link(self, act: str, number: int, who: str, standard: str) -> Iterator[Leg]:
        """Time a passage; whatever is refused inside breaks this link."""
        leg = Leg(act, number, LINKS[number], who, standard, datetime.now(UTC).isoformat(timespec="milliseconds"))
        begun = time.monotonic()
        try:
            yield leg
        except Refused as error:
            raise BrokenLink(number, str(error)) from None
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise BrokenLink(number, f"an answer lacks what the standard requires ({error!r})") from None
        leg.seconds = round(time.monotonic() - begun, 4)
        self.legs.append(leg)
        self._show(leg)
        if self.pause:
            sys.stdin.readline()

    def verdict(self, broken: BrokenLink | None) -> int:
        """Say how it ended; the exit code."""
        total = sum(leg.seconds for leg in self.legs)
        if self.as_json:
            end: dict[str, object] = {"ok": broken is None, "legs": len(self.legs), "seconds": round(total, 3)}
            if broken:
                end |= {"link": broken.link, "name": LINKS[broken.link], "why": broken.why}
            self.console.print_json(json.dumps(end), indent=None)
        elif broken is None:
            done = f"Every link verified from outside: {len(self.legs)} passages in {total:.1f} s."
            self.console.print()
            self.console.print(Text(done, style="bold green"))
        if broken:
            self.errors.print(Text(str(broken), style="bold red"), soft_wrap=True)
        return 1 if broken else 0

    def _show(self, leg: Leg) -> None:
        if self.as_json:
            print(json.dumps(asdict(leg), ensure_ascii=False), flush=True)  # noqa: T201 - the output of this command
            return
        row = Table.grid(padding=(0, 2))
        for width, justify in ((2, "right"), (23, "left"), (24, "left"), (47, "left"), (9, "right")):
            row.add_column(width=width, justify=justify)  # type: ignore[arg-type]
        row.add_column(overflow="fold")
        took = f"{leg.seconds * 1000:,.0f} ms"
        row.add_row(
            Text(str(leg.link), "cyan"), leg.name, leg.who, Text(leg.standard, "dim"), Text(took, "green"), leg.seen
        )
        self.console.print(row)
