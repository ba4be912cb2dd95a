"""Mutated conversations and data sets by the thousand: refused or taken, never a crash, a hang or memory that grows."""

from __future__ import annotations

import contextlib
import os
import random
import struct
import threading
from pathlib import Path
from typing import Any

import psutil
import pydicom
import pytest
from dicom_wire import ALL_CONTEXTS, BarePeer, echo_request, find_request, serving, still_serves, storage, store_request

from fixtures.dicom_files import ct_image, dataset_bytes
from hilum.archive.metadata import read_metadata
from hilum.archive.part10 import split
from hilum.core.errors import HilumError
from hilum.dicom.dimse.dispatch import AssociationContext, Request, Response
from hilum.dicom.upper_layer.limits import Limits
from hilum.dicom.upper_layer.pdu import AReleaseRQ, encode_pdu

FULL = os.environ.get("HILUM_SOAK") == "full"
PDUS = 200_000 if FULL else 2_000
DATASETS = 20_000 if FULL else 500
GROWTH = 64 << 20
QUICK = Limits(artim_timeout=0.3, network_timeout=0.5, idle_timeout=2.0, maximum_object=8 << 20)
pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200 if FULL else 120)]

_VICTIMS = (b"\x00", b"\x01", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\xff", b"\xfe\xff\x00\xe0", b"\x00" * 8)


def mutated(content: bytes, chance: random.Random) -> bytes:
    """The bytes with some changed, lost, doubled or moved, and lengths that lie."""
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        at = chance.randrange(len(changed) + 1) if changed else 0
        what = chance.randrange(6)
        if what == 0 and at < len(changed):
            changed[at] ^= 1 << chance.randrange(8)
        elif what == 1:
            changed[at:at] = chance.choice(_VICTIMS)
        elif what == 2:
            del changed[at : at + chance.choice((1, 2, 4, 64))]
        elif what == 3:
            piece = changed[at : at + chance.randrange(1, 64)]
            changed[at:at] = piece
        elif what == 4 and at + 4 <= len(changed):
            length = chance.choice((0, 1, 0xFFFF, 0xFFFFFFFE, 0xFFFFFFFF, chance.randrange(1 << 20)))
            struct.pack_into(chance.choice(("<I", ">I")), changed, at, length)
        elif at + 2 <= len(changed):
            struct.pack_into("<H", changed, at, chance.randrange(1 << 16))
    return bytes(changed)


def conversation() -> list[bytes]:
    """The PDUs of one association that echoes, stores and finds, as a well-behaved peer sends them."""
    said: list[bytes] = [bytes(encode_pdu(ALL_CONTEXTS))]

    class Recorder(BarePeer):
        def __init__(self) -> None:
            pass

        def say(self, *what: Any) -> None:
            said.extend(part if isinstance(part, bytes) else bytes(encode_pdu(part)) for part in what)

    recorder = Recorder()
    recorder.send(1, echo_request(1))
    recorder.send(3, store_request(2), dataset_bytes(ct_image())[:4000])
    recorder.send(5, find_request(3), b"\x08\x00\x52\x00CS\x06\x00STUDY ")
    recorder.say(AReleaseRQ())
    return said


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


def test_mutated_conversations_harm_nothing() -> None:
    stored = 0

    def taken(context: AssociationContext, request: Request) -> Response:
        nonlocal stored
        stored += 1
        if request.data_set is not None:
            read_metadata(request.data_set.view, context.transfer_syntax)
        return Response()

    chance, pdus = random.Random(20261125), conversation()
    with serving(storage(taken), limits=QUICK) as server:
        assert still_serves(server)
        _converse(server, pdus, chance, 200)
        before, threads = resident(), threading.active_count()
        _converse(server, pdus, chance, PDUS)
        assert still_serves(server)
        assert stored > PDUS / 100, "the conversations hardly got as far as a C-STORE"
        assert resident() - before < GROWTH
        assert threading.active_count() <= threads + 8


def _converse(server: Any, pdus: list[bytes], chance: random.Random, count: int) -> None:
    """Send `count` PDUs, of which one or more of each association are mutated."""
    sent = 0
    while sent < count:
        bad = {chance.randrange(len(pdus)) for _ in range(chance.choice((1, 1, 2, 3)))}
        said = [mutated(pdu, chance) if number in bad else pdu for number, pdu in enumerate(pdus)]
        sent += len(said)
        with contextlib.suppress(OSError), BarePeer(server) as peer:
            peer.socket.settimeout(10)
            peer.socket.sendall(b"".join(said))
            peer.socket.shutdown(1)
            while peer.socket.recv(65536):
                pass


def corpus() -> list[tuple[bytes, str]]:
    """Data sets of the files that pydicom brings, small ones of every kind and syntax."""
    found = []
    for path in sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm")):
        if path.stat().st_size > 40_000:
            continue
        content = path.read_bytes()
        with contextlib.suppress(HilumError):
            part10 = split(content)
            found.append((content[part10.dataset_offset :], part10.transfer_syntax_uid))
    return found


def test_mutated_data_sets_are_read_or_refused() -> None:
    chance, whole = random.Random(4711), corpus()
    assert len(whole) > 20
    outcomes = {"read": 0, "refused": 0}
    _read_some(whole, chance, outcomes, 50)
    before = resident()
    _read_some(whole, chance, outcomes, DATASETS)
    assert outcomes["read"] > 10
    assert outcomes["refused"] > 10
    assert resident() - before < GROWTH


def _read_some(whole: list[tuple[bytes, str]], chance: random.Random, outcomes: dict[str, int], count: int) -> None:
    for _ in range(count):
        dataset, syntax = chance.choice(whole)
        try:
            read_metadata(mutated(dataset, chance), syntax).json()
            outcomes["read"] += 1
        except HilumError:
            outcomes["refused"] += 1
