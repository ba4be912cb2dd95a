"""MDM: a document with its text becomes the next version of a report; what only tells of one is kept."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from hl7_wire import NEW_ORDER, PID, Exchange, error_of, message

from hilum.hl7.messages_in import MESSAGES
from hilum.storage import tables
from hilum.storage.store import Store

MLLP_SEND = Path(sys.executable).with_name("mllp_send")
TEXT = ("OBX|1|TX|GDT||Lungs clear.", "OBX|2|TX|IMP||No finding.")


def mdm(
    event: str, *texts: str, state: str = "AU", order: str = "P1^EPIC", who: str = "9^READER^RITA", **options: str
) -> bytes:
    txa = f"TXA|1|DI|TX|20260301100000||20260301110000|||{who}|||DOC1||{order}|||{state}"
    options.setdefault("control", f"{event}{state}")
    return message(f"MDM^{event}", PID, txa, *(texts or TEXT), **options)


@pytest.fixture
def door(store: Store, tmp_path: Path) -> Exchange:
    made = Exchange(store, tmp_path / "home")
    made.accept(message("ORM^O01", *NEW_ORDER, control="O1"))
    return made


@pytest.fixture
def quick(sqlite_store: Store, tmp_path: Path) -> Exchange:
    made = Exchange(sqlite_store, tmp_path / "home")
    made.accept(message("ORM^O01", *NEW_ORDER, control="O1"))
    return made


def versions(door: Exchange) -> list[tuple[str, str, str]]:
    return [(row.status, row.findings, row.impression) for row in door.rows(tables.report_version)]


def test_a_document_is_written_confirmed_added_to_replaced_and_withdrawn(door: Exchange) -> None:
    door.accept(mdm("T02", state="PA"))
    door.accept(mdm("T04"))
    door.accept(mdm("T06", "OBX|1|TX|||Seen by the surgeon."))
    door.accept(mdm("T10", "OBX|1|TX|GDT||Nodule.", control="R"))
    door.accept(mdm("T11"))
    assert versions(door) == [
        ("preliminary", "Lungs clear.", "No finding."),
        ("final", "Lungs clear.", "No finding."),
        ("addended", "Lungs clear.", "No finding.\n\nADDENDUM\nSeen by the surgeon."),
        ("corrected", "Nodule.", ""),
        ("retracted", "", ""),
    ]
    assert {row.interpreter["identifier"] for row in door.rows(tables.report_version)} == {"9"}


def test_an_addendum_that_comes_again_is_not_added_twice(quick: Exchange) -> None:
    quick.accept(mdm("T02"))
    for number in (1, 2):
        quick.accept(mdm("T06", "OBX|1|TX|||More.", control=f"A{number}"))
    assert [status for status, *_ in versions(quick)] == ["final", "addended"]


def test_an_edit_before_the_first_signature_is_no_correction(quick: Exchange) -> None:
    quick.accept(mdm("T02", state="DI"))
    quick.accept(mdm("T08", "OBX|1|TX|||Other words.", state="PA"))
    quick.accept(mdm("T08", "OBX|1|TX|||Last words."))
    assert [status for status, *_ in versions(quick)] == ["preliminary", "preliminary", "final"]


def test_a_document_that_is_no_longer_available_is_withdrawn(quick: Exchange) -> None:
    quick.accept(mdm("T02"))
    quick.accept(mdm("T04", control="gone").replace(b"|||AU", b"|||AU||CA"))
    assert versions(quick)[-1][0] == "retracted"


@pytest.mark.parametrize("event", ["T01", "T03", "T05", "T07", "T09"])
def test_a_notice_without_text_changes_nothing_and_is_kept(quick: Exchange, event: str) -> None:
    quick.accept(mdm(event))
    assert versions(quick) == []
    assert quick.rows(tables.inbound_message)[-1].outcome == "applied"


def test_a_document_of_no_order_here_is_acknowledged_and_kept(quick: Exchange) -> None:
    quick.accept(mdm("T02", order=""))
    assert versions(quick) == []


def test_who_authenticated_a_document_answers_for_it(quick: Exchange) -> None:
    quick.accept(mdm("T02").replace(b"|||AU", b"|||AU|||||12^SIGNER^SUE" + b"^" * 12 + b"20260301120000"))
    row = quick.row(tables.report_version)
    assert (row.interpreter["identifier"], row.signed_at.hour) == ("12", 12)


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        (mdm("T02", order="P9^EPIC"), "TXA^1^14"),
        (mdm("T02", state="XX"), "TXA^1^17"),
        (mdm("T02", who=""), "TXA^1^22"),
        (mdm("T11"), "TXA^1^12"),
        (mdm("T02").replace(b"TXA|", b"ZXA|"), "TXA"),
        (mdm("T02", "OBX|1|ED|||^^^^"), "OBX^1^5"),
    ],
)
def test_what_a_document_lacks_is_said_with_its_place(quick: Exchange, raw: bytes, place: str) -> None:
    code, said, _ = error_of(quick.ask(raw))
    assert code in ("AE", "AR") and said.startswith(place), said
    assert versions(quick) == []


def test_every_event_of_documents_is_known() -> None:
    assert set(MESSAGES["MDM"]) == {f"T{number:02}" for number in range(1, 12)}


def test_the_client_of_another_library_sends_a_document(quick: Exchange, tmp_path: Path) -> None:
    source = tmp_path / "mdm.hl7"
    source.write_bytes(mdm("T02"))

    async def send() -> bytes:
        _, port = await quick.door.start()
        sender = await asyncio.create_subprocess_exec(
            str(MLLP_SEND), "--loose", "--file", str(source), "-p", str(port), "127.0.0.1", stdout=subprocess.PIPE
        )
        said, _ = await asyncio.wait_for(sender.communicate(), 20)
        await quick.door.drain()
        return said

    assert b"MSA|AA|T02AU" in asyncio.run(send())
    assert versions(quick) == [("final", "Lungs clear.", "No finding.")]
