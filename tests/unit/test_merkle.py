"""The tree hash that seals rest on."""

from __future__ import annotations

import hashlib

from hilum.security.merkle import merkle_root


def test_the_merkle_root_is_that_of_rfc_9162() -> None:
    def reference(leaves: list[bytes]) -> bytes:
        if not leaves:
            return hashlib.sha256(b"").digest()
        if len(leaves) == 1:
            return hashlib.sha256(b"\x00" + leaves[0]).digest()
        split = 1 << (len(leaves) - 1).bit_length() - 1
        return hashlib.sha256(b"\x01" + reference(leaves[:split]) + reference(leaves[split:])).digest()

    for size in range(70):
        leaves = [bytes([n]) for n in range(size)]
        assert merkle_root(leaves) == reference(leaves)
