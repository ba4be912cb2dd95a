"""Counts the connections of a door over all processes of a node, in all and per address.

Each process has a column of its own and adds up those of all. A process that was killed leaves its column behind; the
lock on it is free then, and the next one that begins clears it.
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

from hilum.core.errors import Unavailable
from hilum.security.accepting import TOO_MANY, TOO_MANY_OF_ADDRESS, Caps
from hilum.security.shared_table import DIGEST, SharedTable

COLUMNS: Final = 128
SETS: Final = 4096
_COUNTS: Final = struct.Struct(f"={COLUMNS}H")
_TOTALS: Final = struct.Struct(f"={COLUMNS}I")


class NodeConnections:
    """The connections of one process among those of its node; stands where `LocalConnections` stands."""

    def __init__(self, folder: Path, door: str, caps: Caps) -> None:
        """Take a free column. Raises Unavailable where more than `COLUMNS` processes answer at this door."""
        self._caps = caps
        self._table = SharedTable(folder / f"{door}-connections", SETS, DIGEST + _COUNTS.size, _TOTALS.size)
        self._held, self._column = self._claim(folder, door)

    def enter(self, address: str) -> str:
        """Count a connection; return why it is one too many, else nothing."""
        table = self._table
        with table.locked():
            totals = list(_TOTALS.unpack_from(table.map, table.head))
            if sum(totals) >= self._caps.at_once:
                return TOO_MANY
            at = self._place(table.digest(address))
            if at is not None:
                counts = self._counts(at)
                if sum(counts) >= self._caps.per_address:
                    return TOO_MANY_OF_ADDRESS
                self._set_count(at, counts[self._column] + 1)
            self._set_total(totals[self._column] + 1)
        return ""

    def leave(self, address: str) -> None:
        """Count a connection off."""
        table = self._table
        with table.locked():
            total = _TOTALS.unpack_from(table.map, table.head)[self._column]
            self._set_total(max(0, total - 1))
            at = table.find(table.digest(address))
            if at is not None:
                self._set_count(at, max(0, self._counts(at)[self._column] - 1))

    def close(self) -> None:
        """Give the column back."""
        with self._table.locked():
            self._clear(self._column)
        os.close(self._held)
        self._table.close()

    def _claim(self, folder: Path, door: str) -> tuple[int, int]:
        """Lock the first free column, and clear all that belong to nobody."""
        claimed: tuple[int, int] | None = None
        with self._table.locked():
            totals = _TOTALS.unpack_from(self._table.map, self._table.head)
            for column in range(COLUMNS):
                if claimed is not None and not totals[column]:
                    continue
                held = os.open(folder / f"{door}-column.{column}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                with suppress(BlockingIOError):
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if totals[column]:
                        self._clear(column)
                    if claimed is None:
                        claimed = held, column
                        continue
                os.close(held)
        if claimed is None:
            raise Unavailable("More processes answer at this door than are counted.")
        return claimed

    def _clear(self, column: int) -> None:
        table, nothing = self._table, bytes(2)
        for at in table.records():
            where = at + DIGEST + 2 * column
            if table.map[where : where + 2] != nothing:
                table.map[where : where + 2] = nothing
        struct.pack_into("=I", table.map, table.head + 4 * column, 0)

    def _place(self, digest: bytes) -> int | None:
        """The record of an address, made in the place of one that has no connections.

        Where eight others of one set are connected there is none, and this address is counted in the total alone.
        """
        table = self._table
        at = table.find(digest)
        if at is None:
            at = next((place for place in table.places(digest) if not any(self._counts(place))), None)
            if at is not None:
                table.map[at : at + DIGEST] = digest
        return at

    def _counts(self, at: int) -> tuple[int, ...]:
        return _COUNTS.unpack_from(self._table.map, at + DIGEST)

    def _set_count(self, at: int, count: int) -> None:
        struct.pack_into("=H", self._table.map, at + DIGEST + 2 * self._column, min(count, 0xFFFF))

    def _set_total(self, total: int) -> None:
        struct.pack_into("=I", self._table.map, self._table.head + 4 * self._column, total)
