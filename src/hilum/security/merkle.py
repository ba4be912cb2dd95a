"""Merkle tree hashes by RFC 9162 2.1, computed while the leaves stream by: memory grows with the logarithm."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

# leaves and nodes are hashed in different domains, so that a node can never be passed off as a leaf
_LEAF = b"\x00"
_NODE = b"\x01"


class MerkleTree:
    """The hash of the leaves pushed so far."""

    __slots__ = ("_complete", "count")

    def __init__(self) -> None:
        self.count = 0
        self._complete: list[bytes] = []

    def push(self, leaf: bytes) -> None:
        """Add one leaf at the end."""
        node = sha256(_LEAF + leaf).digest()
        self.count += 1
        # each trailing zero bit of the count is a pair of complete subtrees that have become one
        count = self.count
        while not count & 1:
            node = sha256(_NODE + self._complete.pop() + node).digest()
            count >>= 1
        self._complete.append(node)

    def root(self) -> bytes:
        """Return the tree hash; that of no leaves is the hash of nothing."""
        if not self._complete:
            return sha256(b"").digest()
        node = self._complete[-1]
        for left in reversed(self._complete[:-1]):
            node = sha256(_NODE + left + node).digest()
        return node


def merkle_root(leaves: Iterable[bytes]) -> bytes:
    """Return the Merkle tree hash of leaves in their order."""
    tree = MerkleTree()
    for leaf in leaves:
        tree.push(leaf)
    return tree.root()
