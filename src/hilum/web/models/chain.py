"""The connected chain of one order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

LinkState = Literal["done", "pending", "missing"]


@dataclass(frozen=True, slots=True)
class ChainLink:
    """One link of the chain. `missing` says in words what has not come; `via` names standard and peer."""

    number: int
    name: str
    state: LinkState
    at: datetime | None = None
    via: str = ""
    what: str = ""
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Chain:
    """The links in their order; `version` changes when a link, the identity or the number of images does."""

    links: tuple[ChainLink, ...]
    version: str = ""

    @property
    def done(self) -> int:
        return sum(link.state == "done" for link in self.links)

    @property
    def broken(self) -> int:
        return sum(link.state == "missing" for link in self.links)

    @property
    def span(self) -> timedelta | None:
        """From the earliest to the latest timed link."""
        times = [link.at for link in self.links if link.at]
        return max(times) - min(times) if len(times) > 1 else None
