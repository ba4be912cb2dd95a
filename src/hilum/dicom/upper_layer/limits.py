"""The bounds of the DICOM door: sizes, counts and times that no peer can exceed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True, slots=True)
class PeerLimits:
    """What is different for one peer; None is as for all."""

    maximum_associations: int | None = None
    network_timeout: float | None = None
    idle_timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Times are seconds, sizes bytes.

    `network_timeout` bounds the time for one PDU once begun, `idle_timeout` the wait between PDUs of an established
    association, `minimum_rate` (bytes per second, after one network_timeout) the time for a whole message.
    A data set above `spill_above`, or for which `memory_budget` (shared by all associations) has no room, goes to an
    unlinked temporary file in `spill_directory`; above `maximum_object` it is refused.
    """

    maximum_length_received: int = 128 * KIB
    maximum_associate_length: int = MIB
    maximum_command: int = 64 * KIB
    maximum_object: int = 4 * GIB
    spill_above: int = 64 * MIB
    memory_budget: int = GIB
    spill_directory: Path | None = None
    artim_timeout: float = 15.0
    network_timeout: float = 60.0
    idle_timeout: float = 600.0
    minimum_rate: int = KIB
    maximum_connections: int = 600
    maximum_associations: int = 200
    maximum_associations_per_peer: int = 50

    def of(self, peer: PeerLimits) -> Limits:
        """The bounds that hold for a peer."""
        return replace(
            self,
            network_timeout=peer.network_timeout or self.network_timeout,
            idle_timeout=peer.idle_timeout or self.idle_timeout,
            maximum_associations_per_peer=peer.maximum_associations or self.maximum_associations_per_peer,
        )

    @property
    def tick(self) -> float:
        """How often a waiting thread looks up: soon enough for the shortest of its time-outs."""
        return max(0.01, min(0.5, min(self.artim_timeout, self.network_timeout, self.idle_timeout) / 4))
