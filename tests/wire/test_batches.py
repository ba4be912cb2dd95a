"""Batches: each message is taken by itself and answered in its place, and a batch that was cut is not taken at all."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from hl7_wire import PID, Exchange, adt

from hilum.core.errors import InvalidInput, TooLarge
from hilum.hl7.batches import MOST_MESSAGES, is_batch, read_batch
from hilum.storage import tables
from hilum.storage.store import Store

MLLP_SEND = Path(sys.executable).with_name("mllp_send")
FIRST, SECOND = adt("A04", control="M1"), adt("A08", PID.replace("100", "101"), control="M2")
HEADER = b"BHS|^~\\&|EPIC|GENHOSP|HILUM|RAD|20260301||morning||B7\r"


@pytest.fixture
def door(sqlite_store: Store, tmp_path: Path) -> Exchange:
    return Exchange(sqlite_store, tmp_path / "home")


def lines(answer: bytes) -> list[str]:
    return answer.decode().strip("\r").split("\r")


def test_each_message_of_a_batch_is_applied_journaled_and_answered_in_its_place(door: Exchange) -> None:
    (answer,) = door.answers(HEADER + FIRST + b"nonsense|1\r" + SECOND + b"BTS|2\r")
    said = lines(answer)
    assert said[0].startswith("BHS|^~\\&|HILUM|RAD|EPIC|GENHOSP|")
    assert said[0].split("|")[8] == "morning" and said[0].split("|")[11] == "B7"
    assert said[-1] == "BTS|2"
    assert [line for line in said if line.startswith("MSA")][1] == "MSA|AA|M2"
    # What is between two messages belongs to the first, which is refused for it; the other is taken.
    assert [line.split("|")[1] for line in said if line.startswith("MSA")] == ["AR", "AA"]
    assert [row.raw for row in door.rows(tables.inbound_message)] == [FIRST + b"nonsense|1\r", SECOND]
    assert door.rows(tables.patient_identifier)[0].value == "101"


def test_a_file_of_batches_is_answered_as_one(door: Exchange) -> None:
    file = b"FHS|^~\\&|EPIC|GENHOSP|||||night||F1\r" + HEADER + FIRST + b"BTS|1\r" + HEADER + SECOND + b"BTS|1\rFTS|2\r"
    (answer,) = door.answers(file)
    said = [line.split("|")[0] for line in lines(answer)]
    assert said == ["FHS", "BHS", "MSH", "MSA", "MSH", "MSA", "BTS", "FTS"]
    assert lines(answer)[0].split("|")[11] == "F1"
    assert len(door.rows(tables.patient)) == 2


@pytest.mark.parametrize(
    ("batch", "place"),
    [
        (HEADER + FIRST + SECOND, "BTS"),
        (HEADER + FIRST + b"BTS|2\r", "BTS-1"),
        (HEADER + FIRST + b"BTS|x\r", "BTS-1"),
        (HEADER + FIRST + b"FTS|1\r", "FTS"),
        (b"FHS|^~\\&\r" + HEADER + FIRST + b"BTS|1\rFTS|2\r", "FTS-1"),
        (HEADER + HEADER + FIRST + b"BTS|1\rBTS|1\r", "BHS"),
        (HEADER + FIRST + b"BTS|1\rBTS|1\r", "BTS"),
    ],
)
def test_nothing_of_a_batch_that_was_cut_is_taken_and_it_is_kept_with_why(
    door: Exchange, batch: bytes, place: str
) -> None:
    with pytest.raises(InvalidInput) as error:
        read_batch(batch)
    assert error.value.field == place
    answer = door.ask(batch)
    assert answer.get("MSA-1") in ("AE", "AR")
    assert not door.rows(tables.patient)
    assert door.row(tables.inbound_message).raw == batch


def test_counts_may_be_left_out_and_batches_may_be_empty(door: Exchange) -> None:
    (answer,) = door.answers(HEADER + FIRST + b"BTS\r")
    assert b"MSA|AA|M1" in answer
    (answer,) = door.answers(HEADER + b"BTS|0\r")
    assert lines(answer)[-1] == "BTS|0"


def test_a_batch_is_bounded_and_its_messages_are_to_the_byte(door: Exchange) -> None:
    odd = b"MSH#^~\\&#EPIC#GENHOSP\r\nNTE#1##a line\nMSHA and\nBTS like\n\rPID#1\r"
    assert read_batch(b"\xef\xbb\xbf\r\n" + HEADER + odd + FIRST + b"BTS|2").messages == (odd, FIRST)
    with pytest.raises(TooLarge):
        read_batch(HEADER + b"MSH|^~\\&\r" * (MOST_MESSAGES + 1) + b"BTS\r")
    assert not is_batch(FIRST)


def test_a_message_of_a_batch_that_came_before_is_answered_as_before(door: Exchange) -> None:
    before = door.answers(FIRST)[0]
    (answer,) = door.answers(HEADER + FIRST + SECOND + b"BTS|2\r")
    assert before in answer
    assert len(door.rows(tables.inbound_message)) == 2


def test_the_client_of_another_library_sends_a_batch(door: Exchange, tmp_path: Path) -> None:
    source = tmp_path / "batch.hl7"
    source.write_bytes(b"\x0b" + HEADER + FIRST + SECOND + b"BTS|2\r\x1c\r")

    async def send() -> bytes:
        _, port = await door.door.start()
        sender = await asyncio.create_subprocess_exec(
            str(MLLP_SEND), "--file", str(source), "-p", str(port), "127.0.0.1", stdout=subprocess.PIPE
        )
        said, _ = await asyncio.wait_for(sender.communicate(), 20)
        await door.door.drain()
        return said

    said = asyncio.run(send())
    assert b"MSA|AA|M1" in said and b"MSA|AA|M2" in said and b"BTS|2" in said
