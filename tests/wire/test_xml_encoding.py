"""Messages in XML mean what the same in ER7 means, and are answered in XML; nothing in a document is expanded."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hl7_wire import Exchange

from hilum.hl7.er7 import Message
from hilum.hl7.xml_encoding import er7_from_xml, is_xml
from hilum.storage import tables
from hilum.storage.store import Store

SPACE = "{urn:hl7-org:v2xml}"
MSH = """<MSH><MSH.1>|</MSH.1><MSH.2>^~\\&amp;</MSH.2><MSH.3><HD.1>EPIC</HD.1></MSH.3>
<MSH.4><HD.1>GENHOSP</HD.1></MSH.4>
<MSH.7><TS.1>20260301120000</TS.1></MSH.7><MSH.9><MSG.1>{kind}</MSG.1><MSG.2>{event}</MSG.2></MSH.9>
<MSH.10>X1</MSH.10><MSH.11><PT.1>P</PT.1></MSH.11><MSH.12><VID.1>2.5.1</VID.1></MSH.12></MSH>"""
PID = """<PID><PID.3><CX.1>100</CX.1><CX.4><HD.1>GENHOSP</HD.1></CX.4><CX.5>MR</CX.5></PID.3>
<PID.3><CX.1>200</CX.1><CX.4><HD.1>OTHER</HD.1></CX.4></PID.3>
<PID.5><XPN.1><FN.1>M\u00dcLLER &amp; S\u00d6HNE|^~</FN.1></XPN.1><XPN.2>Ann<escape V=".br"/>a</XPN.2></PID.5>
<PID.7><TS.1>19800102</TS.1></PID.7><PID.8>F</PID.8><PID.19>""</PID.19></PID>"""


def document(kind: str, event: str, *segments: str, encoding: str = "UTF-8", head: str = "") -> bytes:
    root = f"{kind}_{event}"
    body = MSH.format(kind=kind, event=event) + "".join(segments)
    declared = f'<?xml version="1.0" encoding="{encoding}"?>{head}'
    return f'{declared}<{root} xmlns="urn:hl7-org:v2xml">{body}</{root}>'.encode(encoding)


@pytest.fixture
def door(sqlite_store: Store, tmp_path: Path) -> Exchange:
    return Exchange(sqlite_store, tmp_path / "home")


@pytest.mark.parametrize("encoding", ["UTF-8", "ISO-8859-1", "UTF-16"])
def test_a_patient_is_registered_from_xml_and_the_document_is_kept_as_it_came(door: Exchange, encoding: str) -> None:
    raw = document("ADT", "A04", PID, encoding=encoding)
    (answer,) = door.answers(raw)
    root = ET.fromstring(answer)
    assert (root.tag, root.findtext(f"{SPACE}MSA/{SPACE}MSA.1")) == (f"{SPACE}ACK", "AA")
    assert root.findtext(f"{SPACE}MSA/{SPACE}MSA.2") == "X1"
    assert root.findtext(f"{SPACE}MSH/{SPACE}MSH.5/{SPACE}HD.1") == "EPIC"
    assert door.patient().family == "MÜLLER & SÖHNE|^~"
    assert {row.value for row in door.rows(tables.patient_identifier)} == {"100", "200"}
    row = door.row(tables.inbound_message)
    assert (row.raw, row.kind, row.sender, row.control_id) == (raw, "ADT^A04", "EPIC|GENHOSP", "X1")


def test_text_of_a_document_is_data_and_never_structure() -> None:
    message = Message(er7_from_xml(document("ADT", "A04", PID)))
    assert message.get("PID-5.1") == "MÜLLER & SÖHNE|^~"
    assert message.get("PID-5.2") == "Ann\na"
    assert message.segment("PID").is_null(19)
    assert message.get("PID-3[2].4") == "OTHER"


def test_an_order_in_groups_is_placed_and_acknowledged(door: Exchange) -> None:
    patient = f"<ORM_O01.PATIENT>{PID}</ORM_O01.PATIENT>"
    order = """<ORM_O01.ORDER><ORC><ORC.1>NW</ORC.1><ORC.2><EI.1>P1</EI.1><EI.2>EPIC</EI.2></ORC.2></ORC>
    <ORM_O01.ORDER_DETAIL><OBR><OBR.1>1</OBR.1><OBR.2><EI.1>P1</EI.1><EI.2>EPIC</EI.2></OBR.2>
    <OBR.4><CE.1>CTCHEST</CE.1><CE.2>CT chest</CE.2></OBR.4><OBR.24>CT</OBR.24></OBR></ORM_O01.ORDER_DETAIL>
    </ORM_O01.ORDER>"""
    (answer,) = door.answers(document("ORM", "O01", patient, order))
    assert b"<MSA.1>AA</MSA.1>" in answer
    assert door.order().placer_order_number == "P1"


def test_what_is_wrong_in_a_document_is_said_in_xml_with_its_place(door: Exchange) -> None:
    (answer,) = door.answers(document("ADT", "A04", PID.replace("PID.3>", "PID.2>")))
    root = ET.fromstring(answer)
    assert root.findtext(f"{SPACE}MSA/{SPACE}MSA.1") == "AE"
    place = root.find(f"{SPACE}ERR/{SPACE}ERR.2")
    assert place is not None and place.findtext(f"{SPACE}ERL.1") == "PID"


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>'


@pytest.mark.parametrize(
    "raw",
    [
        document("ADT", "A04", PID, head=BOMB),
        document("ADT", "A04", PID.replace("100", "&a;"), head=OUTSIDE),
        document("ADT", "A04", PID)[:-20],
        b"<x/>",
        b"<" * 1000,
        b"<a>" * 5000,
        b'<?xml version="1.0" encoding="made-up"?><a/>',
        document("ADT", "A04", "<PID><PID.3><escape/><b>1</b></PID.3></PID>"),
        document("ADT", "A04", "<PID><PID.9999>1</PID.9999></PID>"),
        document("ADT", "A04", MSH.format(kind="ADT", event="A04")),
    ],
    ids=["bomb", "outside", "cut", "nothing", "open", "deep", "encoding", "element", "field", "two"],
)
def test_a_document_that_is_no_message_is_refused_and_kept(door: Exchange, raw: bytes) -> None:
    (answer,) = door.answers(raw)
    assert is_xml(raw) and (b"<MSA.1>AR<" in answer or b"<MSA.1>AE<" in answer)
    assert not door.rows(tables.patient)
    assert b"root:" not in answer
    assert len(door.rows(tables.inbound_message)) == 1
