"""The arithmetic of the audit trail: a MAC for each row, a signed Merkle root for each batch; no input or output.

A *writer* numbers its rows 1, 2, 3 … in the order in which they commit, without a gap. A *seal* covers, for each
writer of its batch, a range of numbers with the Merkle root of their MACs; it is authenticated with the audit key and
carries the MAC of the seal before it. `seal_check.verify` reads rows and seals against each other.

Refused: a row without its identity, a value whose encoding differs between databases, and a batch with a gap.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from hilum.core.errors import Conflict, InvalidInput
from hilum.security.keys import AuditKey
from hilum.security.merkle import MerkleTree, merkle_root

# Every column but the MAC and the name of its key. A column added later is null in old rows
# and null is left out of the encoding, so their MACs still hold.
SEALED_FIELDS: tuple[str, ...] = (
    "writer",
    "sequence",
    "at",
    "actor",
    "role",
    "door",
    "address",
    "action",
    "outcome",
    "reason",
    "purpose",
    "patient_id",
    "order_id",
    "study_id",
    "message_id",
)
IDENTITY_FIELDS = ("writer", "sequence")

# the first bytes say what is authenticated, so that a seal can never be taken for a row, nor version 2 for version 1
_ROW_DOMAIN = b"hilum audit row 1\x00"
_SEAL_DOMAIN = b"hilum audit seal 1\x00"
_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATETIME
GENESIS = bytes(32)
SEAL_LIMIT = 1024 * 1024


def row_mac(key: AuditKey, row: Mapping[str, Any], fields: Sequence[str] = SEALED_FIELDS) -> bytes:
    """Authenticate what a row says in the named fields (32 bytes, HMAC-SHA-256 over canonical JSON).

    Text, integers, booleans, aware datetimes and JSON of these are taken; floats and bytes are not, because databases
    hand them back changed. InvalidInput names the field.
    """
    kept = {name: value for name in fields if (value := row.get(name)) is not None}
    for name in IDENTITY_FIELDS:
        if name not in kept:
            raise InvalidInput(f"An audit row without its {name} cannot be authenticated.", field=name)
    for name, value in kept.items():
        if type(value) is not str and type(value) is not int:
            kept[name] = _stable(name, value)
    return hmac.digest(key.secret, _ROW_DOMAIN + _canonical(kept), "sha256")


def row_signer(key: AuditKey) -> Callable[[Mapping[str, Any]], tuple[str, bytes]]:
    """Return the function that gives a row its key id and MAC."""
    return lambda row: (key.key_id, row_mac(key, row))


class Leaf(NamedTuple):
    """A committed row as the sealer sees it."""

    writer: str
    sequence: int
    mac: bytes


class SealedRange(NamedTuple):
    """The rows of one writer under a seal, both ends included, and the Merkle root of their MACs."""

    first: int
    last: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Seal:
    """A signed statement that certain rows existed at a time; `mac` covers all the rest."""

    number: int
    at: datetime
    key_id: str
    count: int
    ranges: Mapping[str, SealedRange]
    root: bytes
    previous: bytes
    mac: bytes

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values only, for the table."""
        return {**_statement(self), "mac": self.mac.hex()}

    def to_json(self) -> bytes:
        """Encode for the copy outside the database."""
        return _canonical(self.as_dict())

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Seal:
        """Read what `as_dict` made; InvalidInput when it is something else. The MAC is not checked here."""
        try:
            ranges = {
                writer: SealedRange(_natural(first), _natural(last), bytes.fromhex(root))
                for writer, (first, last, root) in value["ranges"].items()
            }
            return cls(
                number=_natural(value["number"]),
                at=datetime.fromisoformat(value["at"]).astimezone(UTC),
                key_id=str(value["key_id"]),
                count=_natural(value["count"]),
                ranges=ranges,
                root=bytes.fromhex(value["root"]),
                previous=bytes.fromhex(value["previous"]),
                mac=bytes.fromhex(value["mac"]),
            )
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise InvalidInput("This is not a seal.") from error

    @classmethod
    def from_json(cls, data: bytes | str) -> Seal:
        """Read what `to_json` made; InvalidInput when it is something else. The MAC is not checked here."""
        if len(data) > SEAL_LIMIT:
            raise InvalidInput("The seal is too large to be one.")
        try:
            return cls.from_dict(orjson.loads(data))
        except orjson.JSONDecodeError as error:
            raise InvalidInput("This is not a seal.") from error


def make_seal(key: AuditKey, previous: Seal | None, leaves: Iterable[Leaf], at: datetime) -> Seal:
    """Seal a batch of rows after the previous seal; Conflict when there are none or a writer's numbers have a gap."""
    trees: dict[str, tuple[int, MerkleTree]] = {}
    for leaf in sorted(leaves):
        first, tree = trees.setdefault(leaf.writer, (leaf.sequence, MerkleTree()))
        if leaf.sequence != first + tree.count:
            raise Conflict(f"Audit rows of writer {leaf.writer} leap to {leaf.sequence}; seal up to the gap first.")
        tree.push(leaf.mac)
    if not trees:
        raise Conflict("There is nothing to seal.")
    ranges = {
        writer: SealedRange(first, first + tree.count - 1, tree.root()) for writer, (first, tree) in trees.items()
    }
    seal = Seal(
        number=previous.number + 1 if previous else 1,
        at=at.astimezone(UTC),
        key_id=key.key_id,
        count=sum(tree.count for _, tree in trees.values()),
        ranges=ranges,
        root=root_of_ranges(ranges),
        previous=previous.mac if previous else GENESIS,
        mac=b"",
    )
    return replace(seal, mac=seal_mac(key, seal))


def seal_mac(key: AuditKey, seal: Seal) -> bytes:
    """Authenticate everything a seal says."""
    return hmac.digest(key.secret, _SEAL_DOMAIN + _canonical(_statement(seal)), "sha256")


def root_of_ranges(ranges: Mapping[str, SealedRange]) -> bytes:
    """Return the Merkle root over the roots of the writers, in the order of their names."""
    return merkle_root(ranges[writer].root for writer in sorted(ranges))


def ready_to_seal(leaves: Iterable[Leaf], sealed: Mapping[str, int]) -> tuple[list[Leaf], list[Leaf]]:
    """Divide unsealed rows into those that follow the last sealed number of their writer and those behind a gap.

    What is behind a gap waits for the transaction that is still to commit. If it never does, seal the waiting rows by
    themselves: the gap stays, and every verification names it.
    """
    following = dict(sealed)
    ready: list[Leaf] = []
    waiting: list[Leaf] = []
    for leaf in sorted(leaves):
        if leaf.sequence == following.get(leaf.writer, 0) + 1:
            following[leaf.writer] = leaf.sequence
            ready.append(leaf)
        else:
            waiting.append(leaf)
    return ready, waiting


def _statement(seal: Seal) -> dict[str, Any]:
    return {
        "number": seal.number,
        "at": seal.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "key_id": seal.key_id,
        "count": seal.count,
        "ranges": {writer: [first, last, root.hex()] for writer, (first, last, root) in seal.ranges.items()},
        "root": seal.root.hex(),
        "previous": seal.previous.hex(),
    }


def _stable(name: str, value: Any) -> Any:
    """Return a value in the one form in which every database hands it back; refuse what has none."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidInput(f"The time in audit field {name} has no zone.", field=name)
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): _stable(name, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_stable(name, item) for item in value]
    raise InvalidInput(f"The audit field {name} holds a {type(value).__name__}, which has no stable form.", field=name)


def _canonical(value: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(value, option=_OPTIONS)
    except TypeError as error:
        raise InvalidInput("An audit row holds text or a number that has no stable form.") from error


def _natural(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise ValueError("not a natural number")
    return value
