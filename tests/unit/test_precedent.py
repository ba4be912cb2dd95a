"""What is read by comparing with the data set before is what is read by converting."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

from hilum.archive.precedent import Precedent
from hilum.archive.walk import Walk
from hilum.core.errors import HilumError

TAGS = [
    0x00080005, 0x00080008, 0x00080018, 0x00080060, 0x00081140, 0x00090010, 0x00090011, 0x00091001, 0x00091101,
    0x00100010, 0x00100020, 0x00200013, 0x00280000, 0x00280100, 0x00280103, 0x00280106, 0x00281050, 0x30020002,
]  # fmt: skip
VRS = {
    0x00080018: "UI",
    0x00081140: "SQ",
    0x00100010: "PN",
    0x00280103: "US",
    0x00280106: "SS",
    0x00280000: "UL",
    0x7FE00010: "OW",
}
TEXTS = ["1", "22", "ISO_IR 100", "ISO_IR 192", "Gr\\374n", "GEMS_IDEN_01", "A^B", "", "x" * 1100]


def element(tag: int, content: bytes, *, implicit: bool) -> bytes:
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if implicit:
        return head + struct.pack("<I", len(content)) + content
    vr = VRS.get(tag, "LO")
    if vr in ("SQ", "OW"):
        return head + vr.encode() + b"\0\0" + struct.pack("<I", len(content)) + content
    return head + vr.encode() + struct.pack("<H", len(content)) + content


def value(tag: int, chance: random.Random) -> bytes:
    if tag in (0x00280103, 0x00280106):
        return struct.pack("<H", chance.choice([0, 1, 0xFFFE]))
    if tag == 0x00280000:
        return struct.pack("<I", chance.randrange(9))
    if tag == 0x00081140:
        inner = element(0x00080018, b"1." + str(chance.randrange(3)).encode(), implicit=True)
        return struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner if chance.random() < 0.8 else b""
    text = chance.choice(TEXTS).replace("\\374", "\u00fc").encode("latin-1")
    return text + b" " * (len(text) % 2)


def encoded(parts: dict[int, bytes], chance: random.Random, *, implicit: bool) -> bytes:
    tags = list(parts) if chance.random() < 0.1 else sorted(parts)
    whole = b"".join(element(tag, parts[tag], implicit=implicit) for tag in tags)
    whole += (
        element(0x7FE00010, bytes(16), implicit=implicit) if implicit else b"\xe0\x7f\x10\0OW\0\0\x10\0\0\0" + bytes(16)
    )
    return whole[: chance.randrange(len(whole))] if chance.random() < 0.05 else whole


def read(data: bytes, implicit: bool, precedent: Precedent | None) -> Any:
    try:
        walk = Walk(memoryview(data), implicit=implicit, precedent=precedent)
    except HilumError as error:
        return error.code, error.message
    return list(walk.attributes.items()), walk.character_set, walk.pixels


@pytest.mark.parametrize("seed", range(6))
def test_a_header_reads_the_same_whatever_came_before_it(seed: int) -> None:
    chance, precedent = random.Random(seed), Precedent()
    parts: dict[int, bytes] = {}
    implicit = False
    taken_over = 0
    for _ in range(400):
        for tag in chance.sample(TAGS, chance.choice([0, 1, 1, 2, 9])):
            if chance.random() < 0.3:
                parts.pop(tag, None)
            else:
                parts[tag] = value(tag, chance)
        implicit = implicit != (chance.random() < 0.05)
        data = encoded(parts, chance, implicit=implicit)
        plain = read(data, implicit, None)
        assert read(data, implicit, precedent) == plain
        taken_over += len(precedent._elements)
    assert taken_over > 400, "something is compared at all"


def test_an_image_like_the_one_before_shares_its_entries() -> None:
    precedent = Precedent()
    data = element(0x00080060, b"CT", implicit=False) + element(0x00100020, b"P1", implicit=False)
    first = Walk(data, implicit=False, precedent=precedent).attributes
    second = Walk(data, implicit=False, precedent=precedent).attributes
    assert second["00100020"] is first["00100020"]
    assert second is not first
