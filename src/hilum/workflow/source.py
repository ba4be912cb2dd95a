"""Where a command came from, for the chain and the audit trail."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Source:
    """The standard a command came over ("HL7 ADT^A04"), from which peer, and in which journaled message."""

    standard: str
    peer: str
    message_id: str | None = None
