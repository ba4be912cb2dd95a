"""Verification of the audit trail: reads all rows and all seals once, and says what is wrong and where.

Memory does not grow with rows: 56 bytes are kept for each sealed range, and the rows of at most `POOL` findings.
What it cannot know: rows written and taken away again before they were sealed (about a second), and a database set
back as a whole together with the seal that is kept outside.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hmac import compare_digest
from typing import Any

from hilum.core.errors import InvalidInput
from hilum.security.keys import AuditKey
from hilum.security.merkle import MerkleTree
from hilum.security.seal import GENESIS, SEALED_FIELDS, Seal, root_of_ranges, row_mac, seal_mac

MAX_UNSEALED = timedelta(seconds=60)
FINDINGS_LIMIT = 1000
POOL = 256


class FindingKind(StrEnum):
    """What can be wrong with an audit trail."""

    CHANGED_ROW = "changed-row"
    FORGED_ROW = "forged-row"
    SWAPPED_ROW = "swapped-row"
    DELETED_ROW = "deleted-row"
    GAP = "gap"
    CUT_TAIL = "cut-tail"
    REWRITTEN_SEAL = "rewritten-seal"
    MISSING_SEAL = "missing-seal"
    OLD_UNSEALED_TAIL = "old-unsealed-tail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: rows `sequence` to `through` of a writer, or a seal, or both."""

    kind: FindingKind
    message: str
    writer: str | None = None
    sequence: int | None = None
    through: int | None = None
    seal: int | None = None


def verify(
    rows: Iterable[Mapping[str, Any]],
    seals: Iterable[Seal | Mapping[str, Any]],
    keys: Mapping[str, AuditKey],
    *,
    now: datetime,
    latest: Seal | None = None,
    max_unsealed: timedelta = MAX_UNSEALED,
    fields: Sequence[str] = SEALED_FIELDS,
    limit: int = FINDINGS_LIMIT,
) -> list[Finding]:
    """Check rows against seals and seals against each other; an empty list means that the trail holds.

    `rows` come grouped by writer and ascending by sequence, with `key_id` and `mac`; the writers in any order.
    `seals` come in the order of their numbers, as objects or as their JSON. Read the seals before the rows, or in one
    snapshot with them. `latest` is the copy kept outside the database. Reading stops after `limit` findings.
    """
    findings: list[Finding] = []
    index = _check_seals(seals, keys, latest, findings)
    check = _RowCheck(index, keys, tuple(fields), now - max_unsealed, findings)
    for row in rows:
        if len(findings) + len(check.suspects) >= limit:
            break
        check.take(row)
    else:
        check.finish()
    findings.extend(check.settle_suspects())
    return findings[:limit]


@dataclass(slots=True)
class _Ranges:
    """The sealed ranges of one writer, ascending; packed, because there is one for each second of each day."""

    first: array[int] = field(default_factory=lambda: array("Q"))
    last: array[int] = field(default_factory=lambda: array("Q"))
    seal: array[int] = field(default_factory=lambda: array("Q"))
    roots: bytearray = field(default_factory=bytearray)

    def end(self) -> int:
        return self.last[-1] if self.last else 0

    def root(self, position: int) -> bytes:
        return bytes(self.roots[32 * position : 32 * position + 32])


def _check_seals(
    seals: Iterable[Seal | Mapping[str, Any]],
    keys: Mapping[str, AuditKey],
    latest: Seal | None,
    findings: list[Finding],
) -> dict[str, _Ranges]:
    index: dict[str, _Ranges] = {}
    number, previous = 0, GENESIS  # previous is empty after a seal that cannot be trusted: its MAC proves nothing
    for item in seals:
        try:
            seal = item if isinstance(item, Seal) else Seal.from_dict(item)
        except InvalidInput:
            number, previous = number + 1, b""
            findings.append(_bad_seal(number, "is not readable"))
            continue
        if seal.number > number + 1:
            message = f"The seals from {number + 1} to {seal.number - 1} are missing."
            findings.append(Finding(FindingKind.MISSING_SEAL, message, seal=number + 1))
            previous = b""
        number, fault = max(number + 1, seal.number), _fault(seal, number, previous, keys)
        if fault is None and latest is not None and latest.number == seal.number and latest.mac != seal.mac:
            fault = "differs from the copy kept outside the database"
        if fault is None and not _add(index, seal):
            fault = "covers rows that an earlier seal covers already"
        if fault is not None:
            findings.append(_bad_seal(seal.number, fault))
        previous = b"" if fault is not None else seal.mac
    if latest is not None:
        _check_latest(latest, number, keys, index, findings)
    return index


def _fault(seal: Seal, number: int, previous: bytes, keys: Mapping[str, AuditKey]) -> str | None:
    """Say why a seal cannot be trusted."""
    if seal.number <= number:
        return "is there twice or out of its order"
    if seal.key_id not in keys:
        return "was made with a key that is not held here"
    if not compare_digest(seal.mac, seal_mac(keys[seal.key_id], seal)):
        return "was changed after it was made"
    rows = sum(last - first + 1 for first, last, _ in seal.ranges.values())
    if seal.root != root_of_ranges(seal.ranges) or seal.count != rows:
        return "contradicts itself"
    if previous and seal.previous != previous:
        return "does not follow from the seal before it"
    return None


def _add(index: dict[str, _Ranges], seal: Seal) -> bool:
    """Enter the ranges of a trusted seal; tell whether they ascend."""
    for writer, (first, last, root) in seal.ranges.items():
        ranges = index.setdefault(writer, _Ranges())
        if not ranges.end() < first <= last or len(root) != 32:
            return False
        ranges.first.append(first)
        ranges.last.append(last)
        ranges.seal.append(seal.number)
        ranges.roots += root
    return True


def _check_latest(
    latest: Seal, number: int, keys: Mapping[str, AuditKey], index: dict[str, _Ranges], findings: list[Finding]
) -> None:
    key = keys.get(latest.key_id)
    if key is None or not compare_digest(latest.mac, seal_mac(key, latest)):
        findings.append(_bad_seal(latest.number, "as kept outside the database is not genuine"))
    elif latest.number > number:
        message = f"The seals end at {number}, though the copy kept outside the database is number {latest.number}."
        findings.append(Finding(FindingKind.CUT_TAIL, message, seal=number + 1))
        _add(index, latest)


def _bad_seal(number: int, fault: str) -> Finding:
    return Finding(FindingKind.REWRITTEN_SEAL, f"Seal {number} {fault}.", seal=number)


@dataclass(slots=True)
class _Suspect:
    """A row whose MAC does not fit, until it is known whether it fits another place."""

    finding: Finding
    row: Mapping[str, Any]


class _RowCheck:
    """Walks the rows of one writer after the other beside their sealed ranges."""

    _writer: str | None
    _ranges: _Ranges
    _at: int
    _expected: int
    _tree: MerkleTree
    _incomplete: bool
    _range_suspects: list[int]
    _tail: Mapping[str, Any] | None

    def __init__(
        self,
        index: dict[str, _Ranges],
        keys: Mapping[str, AuditKey],
        fields: tuple[str, ...],
        sealed_until: datetime,
        findings: list[Finding],
    ) -> None:
        self.suspects: list[_Suspect] = []
        self._index = index
        self._keys = keys
        self._fields = fields
        self._sealed_until = sealed_until
        self._findings = findings
        self._seen: set[str] = set()
        self._open(None)

    def take(self, row: Mapping[str, Any]) -> None:
        """Check the next row."""
        writer, sequence = row["writer"], row["sequence"]
        if not isinstance(writer, str) or not isinstance(sequence, int):
            self._findings.append(Finding(FindingKind.FORGED_ROW, "There is a row without a writer and a number."))
            return
        if writer != self._writer:
            self._close()
            if writer in self._seen:
                raise ValueError("audit rows are not grouped by writer")
            self._open(writer)
        if sequence < self._expected:
            self._report(FindingKind.FORGED_ROW, "the number is taken or impossible", sequence)
            return
        if sequence > self._expected:
            self._missing(sequence - 1)
        self._expected = sequence + 1
        ranges = self._ranges
        while self._at < len(ranges.last) and ranges.last[self._at] < sequence:
            self._next_range()
        sealed = self._at < len(ranges.last) and ranges.first[self._at] <= sequence
        if sealed:
            self._tree.push(_mac(row))
        elif self._at == len(ranges.last) and self._tail is None:
            self._tail = row
        if not self._is_genuine(row):
            self._suspect(row, sealed)
        if sealed and ranges.last[self._at] == sequence:
            self._next_range()

    def finish(self) -> None:
        """Check what can only be told once there are no more rows."""
        self._close()
        for writer, ranges in self._index.items():
            if writer not in self._seen and ranges.last:
                self._writer = writer
                self._report(
                    FindingKind.DELETED_ROW, "gone, though sealed; nothing of this writer is left", 1, ranges.end()
                )

    def settle_suspects(self) -> Iterator[Finding]:
        """Say of each row that does not fit its place whether it fits that of another."""
        for suspect in self.suspects:
            origin = next((other for other in self.suspects if self._belongs(suspect, other)), None)
            if origin is None:
                yield suspect.finding
            else:
                place = f"row {origin.finding.sequence} of writer {origin.finding.writer}"
                message = f"{_rows(suspect.finding)}: holds what was written as {place}."
                yield replace(suspect.finding, kind=FindingKind.SWAPPED_ROW, message=message)

    def _open(self, writer: str | None) -> None:
        self._writer = writer
        if writer is not None:
            self._seen.add(writer)
        self._ranges = self._index.get(writer or "", _Ranges())
        self._at = 0
        self._expected = 1
        self._tree = MerkleTree()
        self._incomplete = False
        self._range_suspects = []
        self._tail = None

    def _close(self) -> None:
        if self._writer is None:
            return
        end = self._ranges.end()
        if self._expected <= end:
            self._report(FindingKind.CUT_TAIL, "cut off, though sealed", self._expected, end)
            self._incomplete = True
            self._next_range()
        elif self._tail is not None and _moment(self._tail.get("at")) < self._sealed_until:
            first, last = self._tail["sequence"], self._expected - 1
            self._report(FindingKind.OLD_UNSEALED_TAIL, "unsealed, and long since due", first, last)

    def _missing(self, through: int) -> None:
        """Report the rows from the expected one on: deleted where a seal proves them, else a gap."""
        cursor, deleted_from = self._expected, 0
        ranges = self._ranges
        while self._at < len(ranges.last) and ranges.first[self._at] <= through:
            first, last = ranges.first[self._at], ranges.last[self._at]
            if first > cursor:
                self._deleted(deleted_from, cursor - 1)
                deleted_from = 0
                self._report(FindingKind.GAP, "missing, and never sealed", cursor, first - 1)
            deleted_from = deleted_from or max(first, cursor)
            cursor = min(last, through) + 1
            self._incomplete = True
            if last > through:
                break
            self._next_range()
        self._deleted(deleted_from, cursor - 1)
        if cursor <= through:
            self._report(FindingKind.GAP, "missing, and never sealed", cursor, through)

    def _deleted(self, first: int, last: int) -> None:
        if first:
            self._report(FindingKind.DELETED_ROW, "deleted, though sealed", first, last)

    def _next_range(self) -> None:
        """Compare the rows of the range that ends here with its seal."""
        whole = not self._incomplete
        intact = whole and self._tree.root() == self._ranges.root(self._at)
        seal = self._ranges.seal[self._at]
        for position in self._range_suspects:
            suspect = self.suspects[position]
            kind = FindingKind.CHANGED_ROW if intact else FindingKind.FORGED_ROW
            fault = "changed after it was sealed" if intact else "not written so by any writer"
            suspect.finding = _finding(kind, fault, self._writer, suspect.finding.sequence, seal=seal)
        if whole and not intact and not self._range_suspects:
            first, last = self._ranges.first[self._at], self._ranges.last[self._at]
            self._report(FindingKind.CHANGED_ROW, "genuine, but not what was sealed", first, last, seal)
        self._at += 1
        self._tree = MerkleTree()
        self._incomplete = False
        self._range_suspects = []

    def _suspect(self, row: Mapping[str, Any], sealed: bool) -> None:
        sequence = row["sequence"]
        if len(self.suspects) >= POOL:
            self._report(FindingKind.FORGED_ROW, "changed or forged", sequence)
            self._incomplete = self._incomplete or sealed
            return
        if sealed:
            self._range_suspects.append(len(self.suspects))
        finding = _finding(FindingKind.FORGED_ROW, "not written so by any writer", self._writer, sequence)
        self.suspects.append(_Suspect(finding, dict(row)))

    def _is_genuine(self, row: Mapping[str, Any]) -> bool:
        key_id = row.get("key_id")
        keys = self._keys.values() if key_id is None else [key for key in [self._keys.get(key_id)] if key is not None]
        mac = _mac(row)
        try:
            return any(compare_digest(mac, row_mac(key, row, self._fields)) for key in keys)
        except InvalidInput:
            return False

    def _belongs(self, suspect: _Suspect, other: _Suspect) -> bool:
        if suspect is other:
            return False
        place = {"writer": other.finding.writer, "sequence": other.finding.sequence}
        # whole rows changed places with their MACs, or only what they say did
        moved = {**suspect.row, **place}
        return self._is_genuine(moved) or self._is_genuine({**moved, "mac": other.row["mac"]})

    def _report(
        self, kind: FindingKind, fault: str, first: int, last: int | None = None, seal: int | None = None
    ) -> None:
        self._findings.append(_finding(kind, fault, self._writer, first, last, seal))


def _finding(
    kind: FindingKind,
    fault: str,
    writer: str | None,
    first: int | None,
    last: int | None = None,
    seal: int | None = None,
) -> Finding:
    place = Finding(kind, "", writer, first, last if last is not None else first, seal)
    return replace(place, message=f"{_rows(place)}: {fault}.")


def _rows(finding: Finding) -> str:
    if finding.through in (None, finding.sequence):
        return f"Row {finding.sequence} of writer {finding.writer}"
    return f"Rows {finding.sequence} to {finding.through} of writer {finding.writer}"


def _mac(row: Mapping[str, Any]) -> bytes:
    """Return the MAC a row carries; a database that was tampered with may hold anything there."""
    mac = row.get("mac")
    return bytes(mac) if isinstance(mac, bytes | bytearray | memoryview) else b""


def _moment(value: object) -> datetime:
    """Read the time of a row; one that cannot be read counts as old, so that it is looked at."""
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
