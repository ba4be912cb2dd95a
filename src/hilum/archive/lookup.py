"""Lookup tables of PS3.3: Modality and VOI LUT items (C.11.1, C.11.2) and palettes, plain or segmented (C.7.9).

Descriptors lie: the number of bits is believed only as far as the data fits it, a table that is cut is filled with its
last entry, and 8-bit entries may stand one or two to a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from hilum.core.errors import InvalidInput

Pixels = NDArray[Any]
LONGEST = 1 << 16
COLOURS = ("Red", "Green", "Blue")


@dataclass(frozen=True, slots=True)
class LookupTable:
    """Entries for values from `first` on; values outside take the entry at that end."""

    first: int
    entries: Pixels
    bits: int

    def apply(self, values: Pixels) -> Pixels:
        """The entry of each value."""
        position = np.clip(np.asarray(values, np.int64) - self.first, 0, len(self.entries) - 1)
        mapped: Pixels = self.entries[position]
        return mapped

    def to_8_bits(self) -> LookupTable:
        """The same table with entries from 0 to 255."""
        top = (1 << self.bits) - 1
        entries = (self.entries.astype(np.uint32) * 255 + top // 2) // top
        return LookupTable(self.first, entries.astype(np.uint8), 8)


def table_of(item: Dataset, *, signed: bool, big_endian: bool) -> LookupTable:
    """The table of an item of a Modality or VOI LUT Sequence; `signed` says whether its input may be negative.

    Raises InvalidInput where there is no table in it.
    """
    count, first, bits = _descriptor(item, "LUTDescriptor", signed)
    data = item.get("LUTData")
    if isinstance(data, bytes):
        words = np.frombuffer(data[: len(data) // 2 * 2], ">u2" if big_endian else "<u2")
    else:
        words = np.asarray(_numbers(data), np.int64).astype(np.uint16)
    entries = _entries(words, count, bits)
    if not entries.size:
        raise InvalidInput("A lookup table has no entries.", field="LUTData")
    return _table(first, entries, count, bits)


def palette_of(header: Dataset, *, signed: bool, big_endian: bool) -> tuple[LookupTable, LookupTable, LookupTable]:
    """The red, green and blue tables of a palette, with 8-bit entries. Raises InvalidInput where one is missing."""
    tables = [_palette(header, colour, signed, big_endian) for colour in COLOURS]
    # A descriptor of 16 bits above entries that only use 8: all three have to agree on it.
    if all(table.bits > 8 and table.entries.max(initial=0) < 256 for table in tables):
        tables = [LookupTable(table.first, table.entries, 8) for table in tables]
    red, green, blue = (table.to_8_bits() for table in tables)
    return red, green, blue


def _palette(header: Dataset, colour: str, signed: bool, big_endian: bool) -> LookupTable:
    count, first, bits = _descriptor(header, f"{colour}PaletteColorLookupTableDescriptor", signed)
    data = header.get(f"{colour}PaletteColorLookupTableData")
    segmented = header.get(f"Segmented{colour}PaletteColorLookupTableData")
    order = ">" if big_endian else "<"
    if isinstance(data, bytes) and data:
        words = np.frombuffer(data[: len(data) // 2 * 2], f"{order}u2")
        entries = _entries(words, count, bits)
    elif isinstance(segmented, bytes) and segmented:
        size = 2 if bits > 8 else 1
        units = np.frombuffer(segmented[: len(segmented) // size * size], f"{order}u{size}")
        entries = np.asarray(expanded([int(unit) for unit in units], count, size), np.int64)
    else:
        raise InvalidInput("A palette has no entries.", field=f"{colour}PaletteColorLookupTableData")
    return _table(first, entries, count, bits)


def _entries(words: Pixels, count: int, bits: int) -> Pixels:
    """Entries of a table stored as words; 8-bit ones may be packed two to a word."""
    if bits <= 8 and len(words) < count <= 2 * len(words):
        return words.astype("<u2").view(np.uint8)[:count]
    return words[:count]


def _table(first: int, entries: Pixels, count: int, bits: int) -> LookupTable:
    if len(entries) < count:
        entries = np.concatenate([entries, np.full(count - len(entries), entries[-1] if len(entries) else 0)])
    highest = int(entries.max(initial=0))
    if not 0 < bits <= 16 or highest >> bits:
        bits = max(8, highest.bit_length())
    return LookupTable(first, entries.astype(np.uint16), bits)


def _descriptor(item: Dataset, keyword: str, signed: bool) -> tuple[int, int, int]:
    """Number of entries, first value mapped, bits of an entry (PS3.3 C.11.1.1, C.7.6.3.1.5)."""
    numbers = _numbers(item.get(keyword))
    if len(numbers) != 3:
        raise InvalidInput("A lookup table has no usable descriptor.", field=keyword)
    count, first, bits = numbers
    count &= 0xFFFF  # read as signed, a large number comes out negative
    if signed and first >= 0x8000:
        first -= 0x10000
    return count or LONGEST, first, bits


def _numbers(value: Any) -> list[int]:
    if isinstance(value, bytes):  # implicit VR leaves it open whether these are US or SS
        return [int(each) for each in np.frombuffer(value[: len(value) // 2 * 2], "<u2")]
    if isinstance(value, int):
        return [value]
    try:
        return [int(each) for each in value or ()]
    except (TypeError, ValueError):
        return []


def expanded(units: Sequence[int], count: int, size: int = 2) -> list[int]:
    """Segmented palette data written out: discrete, linear and indirect segments (PS3.3 C.7.9.2).

    `units` are the data as numbers of `size` bytes. Raises InvalidInput for a segment that is none of these.
    """
    out: list[int] = []
    _expand(units, 0, count, size, out)
    return out[:count]


def _expand(units: Sequence[int], position: int, count: int, size: int, out: list[int], copied: int = 0) -> None:
    """Write the segments from `position` on: all, or as an indirect segment does the next `copied`."""
    done = 0
    while position + 2 < len(units) and len(out) < count and not (copied and done == copied):
        opcode, length = units[position], units[position + 1]
        done += 1
        if opcode == 0:
            out += units[position + 2 : position + 2 + length]
            position += 2 + length
        elif opcode == 1 and out:
            begin, end = out[-1], units[position + 2]
            out += [begin + round((end - begin) * step / length) for step in range(1, length + 1)]
            position += 3
        elif opcode == 2 and not copied:  # indirect ones must not refer to one another, C.7.9.2.3
            target = int.from_bytes(
                b"".join(u.to_bytes(size, "little") for u in units[position + 2 :][: 4 // size]), "little"
            )
            _expand(units, target // size, count, size, out, max(1, length))
            position += 2 + 4 // size
        else:
            raise InvalidInput("A segment of a palette is of no known kind.", field="SegmentedPalette")
