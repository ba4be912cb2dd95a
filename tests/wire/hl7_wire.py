"""Plays a sender at the HL7 door: messages from plain fields, and the door with a home of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa

from hilum.hl7.door import Hl7Door
from hilum.hl7.er7 import Message
from hilum.hl7.mllp import PeerInfo
from hilum.settings import Configuration
from hilum.storage import tables
from hilum.storage.store import Store

SETTINGS = """
[facility]
name = "Radiology"
zone = "UTC"
[hl7]
bind = "127.0.0.1:0"
accept_unknown = "loopback"
[[hl7.peer]]
name = "EPIC|GENHOSP"
authority = "GENHOSP"
[[hl7.peer]]
name = "RIS|GENHOSP"
filler = "external"
authority = "GENHOSP"
[[hl7.peer]]
name = "BERLIN|KLINIK"
authority = "GENHOSP"
zone = "Europe/Berlin"
charset = "8859/1"
[[hl7.peer]]
name = "PLAIN|GENHOSP"
authority = "GENHOSP"
answer = "ack"
filler = "hilum"
"""

PID = "PID|1||100^^^GENHOSP^MR||DOE^JANE^Q^^^^L||19800102|F"
NEW_ORDER = (
    PID,
    "PV1|1|O||||||77^REF^ROB|||||||||||V55",
    "ORC|NW|P1^EPIC|||||^^^20260302101500^^S|||||4711^HOUSE^GREG^^^^^^GENHOSP",
    "OBR|1|P1^EPIC||CTCHEST^CT chest^L|||||||||short of breath|||||||||||CT||||88^COPY^CARL|||^cough",
)


def message(
    kind: str,
    *segments: str,
    control: str = "M1",
    sender: str = "EPIC|GENHOSP",
    version: str = "2.5.1",
    conditions: str = "|",
    charset: str = "",
    encoding: str = "utf-8",
) -> bytes:
    """A message as a sender writes it; `conditions` are MSH-15 and MSH-16."""
    head = f"MSH|^~\\&|{sender}|HILUM|RAD|20260301120000||{kind}|{control}|P|{version}|||{conditions}||{charset}"
    return "\r".join([head, *segments, ""]).encode(encoding)


def adt(event: str, *segments: str, at: str = "20260301120000", **options: str) -> bytes:
    """An ADT message that happened at `at`."""
    return message(f"ADT^{event}", f"EVN|{event}|{at}", *(segments or (PID,)), **options)


class Exchange:
    """A door with its store; `ask` sends one message and returns the application answer."""

    def __init__(self, store: Store, home: Path, settings: str = SETTINGS) -> None:
        home.mkdir(exist_ok=True)
        (home / "hilum.toml").write_text(settings)
        self.store = store
        self.configuration = Configuration(home)
        self.door = Hl7Door(store, self.configuration)

    def answers(self, raw: bytes, host: str = "127.0.0.1") -> Sequence[bytes]:
        """All answers to one message, as they go over the wire."""
        return asyncio.run(self.door.handle(raw, PeerInfo(host, 40000)))

    def ask(self, raw: bytes, host: str = "127.0.0.1") -> Message:
        """The one answer to a message in original mode."""
        (answer,) = self.answers(raw, host)
        return Message(answer)

    def accept(self, raw: bytes) -> Message:
        """The answer to a message that has to be applied."""
        answer = self.ask(raw)
        assert answer.get("MSA-1") == "AA", bytes(answer)
        return answer

    def rows(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> list[sa.Row[tuple[object, ...]]]:
        """The rows of a table, oldest first."""
        with self.store.read() as db:
            return list(db.execute(sa.select(table).where(*where).order_by(next(iter(table.primary_key)))))

    def row(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> sa.Row[tuple[object, ...]]:
        """The only row of a table."""
        (row,) = self.rows(table, *where)
        return row

    def patient(self) -> sa.Row[tuple[object, ...]]:
        return self.row(tables.patient)

    def order(self) -> sa.Row[tuple[object, ...]]:
        return self.row(tables.imaging_order)


def error_of(answer: Message) -> tuple[str, str, str]:
    """MSA-1, the place as `PID^1^3` and the condition of an answer of v2.5 or later."""
    err = answer.segment("ERR")
    assert err is not None, bytes(answer)
    return answer.get("MSA-1"), err.field(2), err.get(3)
