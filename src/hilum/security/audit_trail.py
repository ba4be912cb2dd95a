"""The audit trail of one home: sealing what was committed since the last seal, and verifying all of it.

The arithmetic is in `seal` and `seal_check`; here it meets the database and the copy of the latest seal that is kept
outside of it (`HOME/seals/latest.json`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

from hilum.core.actor import Actor
from hilum.core.errors import HilumError
from hilum.security.keys import AuditKey, write_synced
from hilum.security.live_keys import Keys
from hilum.security.seal import SEAL_LIMIT, Leaf, Seal, make_seal, ready_to_seal
from hilum.security.seal_check import Finding, FindingKind, verify
from hilum.storage import audit_log
from hilum.storage.store import Store
from hilum.storage.unit_of_work import UnitOfWork

# A seal of this many rows takes some 0.1 s; what is left over is in the next one.
ROWS_PER_SEAL = 20_000
# A number that has not been committed after this long never will be: what follows is sealed, and the gap is found.
PATIENCE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class SealRows:
    """Seal what was written since a moment (None: ever) and is under no seal."""

    key: AuditKey
    since: datetime | None


def seal_rows(uow: UnitOfWork, command: SealRows, actor: Actor) -> Seal | None:
    """Seal the rows that are ready, in one transaction with the note of how far they go; None when there are none."""
    found = audit_log.unsealed_rows(uow.connection, command.since, ROWS_PER_SEAL)
    if not found:
        return None
    ready, waiting = _divide(uow, found)
    if waiting and command.since is not None:
        # The row before a gap may be older than the moment asked about, if its transaction took long.
        writers = sorted({leaf.writer for leaf in waiting})
        found = [row for row in found if row.writer not in writers]
        found += audit_log.unsealed_of(uow.connection, writers, ROWS_PER_SEAL)
        ready, waiting = _divide(uow, found)
    old = {(row.writer, row.sequence) for row in found if row.at < uow.now - PATIENCE}
    ready += _overdue(waiting, old, {leaf.writer for leaf in ready})
    if not ready:
        return None
    latest = audit_log.latest_seal(uow.connection)
    seal = make_seal(command.key, Seal.from_dict(latest) if latest is not None else None, ready, uow.now)
    through = {writer: sealed.last for writer, sealed in seal.ranges.items()}
    audit_log.add_seal(uow.connection, seal.number, seal.at, seal.as_dict(), through)
    return seal


def _divide(uow: UnitOfWork, rows: Sequence[Any]) -> tuple[list[Leaf], list[Leaf]]:
    leaves = [Leaf(row.writer, row.sequence, bytes(row.mac)) for row in rows]
    return ready_to_seal(leaves, audit_log.sealed_through(uow.connection, sorted({leaf.writer for leaf in leaves})))


def _overdue(waiting: Sequence[Leaf], old: set[tuple[str, int]], busy: set[str]) -> list[Leaf]:
    """Return the first unbroken run of each writer whose gap has been waited for long enough."""
    runs: list[Leaf] = []
    for writer, leaves in groupby(sorted(waiting), key=lambda leaf: leaf.writer):
        if writer in busy:
            continue
        run: list[Leaf] = []
        for leaf in leaves:
            if (run and leaf.sequence != run[-1].sequence + 1) or (writer, leaf.sequence) not in old:
                break
            run.append(leaf)
        runs += run
    return runs


def keep_outside(path: Path, seal: Seal) -> None:
    """Keep the latest seal outside the database, so that a tail that is cut off there is missed."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_synced(path, seal.to_json(), replace=True)


def read_outside(path: Path) -> Seal | None:
    """Return the seal kept outside the database, None where there is none. InvalidInput where it is not a seal."""
    try:
        with path.open("rb") as file:
            return Seal.from_json(file.read(SEAL_LIMIT + 1))
    except FileNotFoundError:
        return None


def verify_trail(store: Store, keyring: Keys, outside: Path) -> list[Finding]:
    """Check every row and every seal; an empty list means that the trail holds."""
    findings: list[Finding] = []
    try:
        latest = read_outside(outside)
    except HilumError as error:
        latest = None
        findings.append(Finding(FindingKind.REWRITTEN_SEAL, f"The copy kept outside the database: {error.message}"))
    # The seals are read to their end before the first row is, so that no seal speaks of rows that were not seen.
    with store.read() as connection:
        found = verify(
            audit_log.audit_rows(connection),
            audit_log.seals(connection),
            keyring.audit_keys,
            now=store.clock(),
            latest=latest,
        )
    return findings + found
