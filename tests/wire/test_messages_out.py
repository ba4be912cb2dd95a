"""What leaves over HL7: results, status and received messages, and what a receiver's answer means."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from fixtures.ports import free_ports
from hilum.core.event import Event, EventName
from hilum.core.order import ORC5_STATUS, Code, Filler, Order, OrderStatus, Physician, Priority
from hilum.core.patient import Demographics, Patient, PatientIdentifier, PersonName
from hilum.core.report import OBR25_STATUS, ReportStatus, ReportVersion
from hilum.core.study import MatchState, Study
from hilum.delivery.ports import EventContext, SendOutcome
from hilum.hl7.er7 import Message
from hilum.hl7.messages_out import encode_hl7
from hilum.hl7.mllp import framed
from hilum.hl7.segments_out import PRIORITY_OUT
from hilum.hl7.sender import MllpSender, meaning_of
from hilum.security import tls
from hilum.settings import Destination, Settings
from hilum.storage.deliveries import Delivery
from hilum.storage.messages import JournaledMessage

AT = datetime(2026, 3, 2, 12, 0, 0, tzinfo=UTC)
SETTINGS = Settings(
    facility={"name": "Radiology", "zone": "Europe/Berlin"},
    http={"public_url": "https://hilum.example.org"},
)
PATIENT = Patient(
    "p",
    Demographics(PersonName("DOE", "JANE", "Q", "DR", "JR"), date(1980, 1, 2), "F"),
    (PatientIdentifier("E7", "EPI", "PI"), PatientIdentifier("100", "GENHOSP")),
)
ORDER = Order(
    id="o",
    patient_id="p",
    accession_number="H260000001",
    placer_order_number="P1",
    placer_authority="EPIC",
    filler_order_number="H260000001",
    filler_authority="HILUM",
    filler=Filler.HILUM,
    study_instance_uid="1.2.3",
    requested_procedure_id="RP1",
    procedure=Code("CTCHEST", "L", "CT chest"),
    modality="CT",
    priority=Priority.STAT,
    status=OrderStatus.COMPLETED,
    placed_at=AT,
    sender="EPIC|GENHOSP",
    reason="cough & fever",
    ordering_physician=Physician("4711", "HOUSE", "GREG", "GENHOSP"),
    copies_to=(Physician("88", "COPY", "CARL"),),
    visit_number="V55",
    patient_class="O",
)
VERSION = ReportVersion(
    "r", 1, ReportStatus.FINAL, "Lungs clear.\nNo | effusion.", "Normal.", Physician("9", "READER", "RITA", "G"), AT, AT
)
STUDY = Study(
    "s",
    "1.2.3",
    "p",
    "o",
    MatchState.VERIFIED,
    "H260000001",
    "",
    "20260302",
    "113000.5",
    ("CT",),
    1,
    1,
    AT,
    AT,
    None,
    1,
)
EHR = Destination(name="ehr", kind="hl7", address="mllp://127.0.0.1:1", receiving="EPIC|GENHOSP")


def event(name: EventName, peer: str = "", **details: str) -> Event:
    return Event("01ABCDEFGHJKMNPQRSTVWXYZ23", name, AT, order_id="o", peer=peer, details=details)


def signed(version: ReportVersion = VERSION, studies: tuple[Study, ...] = (STUDY,)) -> EventContext:
    return EventContext(event(EventName.REPORT_SIGNED), PATIENT, ORDER, studies=studies, version=version)


def written(context: EventContext, destination: Destination = EHR) -> Message:
    encoded = encode_hl7(context, destination, SETTINGS)
    assert encoded is not None
    return Message(encoded.body)


def test_a_signed_report_is_an_oru_to_the_byte() -> None:
    encoded = encode_hl7(signed(), EHR, SETTINGS)
    assert encoded is not None
    event_id = "EFGHJKMNPQRSTVWXYZ23"
    assert (encoded.kind, encoded.control_id, encoded.supersedes_key) == ("ORU^R01", event_id, "report:r")
    now = "20260302130000+0100"
    reader = "9^READER^RITA^^^^^^G"
    link = "https://hilum.example.org/viewer/launch?requestType=STUDY\\T\\studyUID=1.2.3^HILUM^Application^HTML"
    obr = "OBR|1|P1^EPIC|H260000001^HILUM|CTCHEST^CT chest^L|||20260302113000|||||||||4711^HOUSE^GREG^^^^^^GENHOSP"
    obr += f"||H260000001|RP1|||{now}||CT|F||^^^^^S|88^COPY^CARL|||^cough \\T\\ fever|9&READER&RITA&&&&&&G"
    assert encoded.body.decode().split("\r") == [
        f"MSH|^~\\&|HILUM|Radiology|EPIC|GENHOSP|{now}||ORU^R01^ORU_R01|{event_id}|P|2.5.1||||||UNICODE UTF-8",
        "PID|1||100^^^GENHOSP^MR~E7^^^EPI^PI||DOE^JANE^Q^JR^DR^^L||19800102|F",
        "PV1|1|O|||||||||||||||||V55",
        f"ORC|RE|P1^EPIC|H260000001^HILUM||CM||||{now}|||4711^HOUSE^GREG^^^^^^GENHOSP",
        obr,
        f"OBX|1|FT|59776-5^Procedure findings^LN|1|Lungs clear.\\.br\\No \\F\\ effusion.||||||F|||{now}||{reader}",
        f"OBX|2|FT|19005-8^Impression^LN|2|Normal.||||||F|||{now}||{reader}",
        f"OBX|3|HD|113014^DICOM Study^DCM|3|1.2.3||||||F|||{now}||{reader}",
        f"OBX|4|RP|113014^DICOM Study^DCM|4|{link}||||||F|||{now}||{reader}",
        "",
    ]


def test_what_is_written_reads_back_as_it_was() -> None:
    read = written(signed())
    assert read.segment("OBX").get(5) == "Lungs clear.\nNo | effusion."
    assert read.get("OBX[4]-5") == "https://hilum.example.org/viewer/launch?requestType=STUDY&studyUID=1.2.3"
    assert (read.get("OBR-32"), read.get("OBR-32.1.2"), read.get("OBR-31.2")) == ("9", "READER", "cough & fever")


@pytest.mark.parametrize("status", [status for status in ReportStatus if status is not ReportStatus.DRAFT])
def test_each_status_is_sent_by_table_and_never_as_a_cancellation(status: ReportStatus) -> None:
    read = written(signed(replace(VERSION, status=status)))
    assert read.get("OBR-25") == OBR25_STATUS[status]
    codes = {obx.get(11) for obx in read.segments("OBX")}
    assert codes == ({"W"} if status is ReportStatus.RETRACTED else {OBR25_STATUS[status]})
    assert "X" not in codes


def test_a_draft_never_leaves() -> None:
    assert encode_hl7(signed(replace(VERSION, status=ReportStatus.DRAFT)), EHR, SETTINGS) is None


def test_a_retraction_says_so_in_its_first_line_and_is_marked_as_its_receiver_wants() -> None:
    retracted = replace(VERSION, status=ReportStatus.RETRACTED, findings="Wrong patient.", impression="")
    read = written(signed(retracted), EHR.model_copy(update={"retraction": "D"}))
    assert read.get("OBR-25") == "C"
    assert "RETRACTED" in read.get("OBX-5")
    assert read.get("OBX[2]-5") == "Wrong patient."
    assert {obx.get(11) for obx in read.segments("OBX")} == {"D"}


def test_only_verified_images_are_linked_and_all_of_them() -> None:
    other = replace(STUDY, id="t", study_instance_uid="9.9", study_time="120000")
    foreign = replace(STUDY, id="u", study_instance_uid="6.6", match_state=MatchState.CONFLICT)
    read = written(signed(studies=(other, foreign, STUDY)))
    assert [obx.get(5) for obx in read.segments("OBX") if obx.get(2) == "HD"] == ["1.2.3", "9.9"]
    assert b"6.6" not in bytes(read)


def test_a_report_before_its_images_links_the_study_that_they_will_have() -> None:
    read = written(signed(studies=()))
    assert read.get("OBX[4]-5").endswith("studyUID=1.2.3")
    assert read.get("OBR-7") == "20260302130000+0100"


@pytest.mark.parametrize("version", ["2.3", "2.3.1", "2.4", "2.5", "2.5.1"])
def test_a_receiver_gets_its_own_version(version: str) -> None:
    read = written(signed(), EHR.model_copy(update={"version": version}))
    assert (read.version, read.get("MSH-9.3")) == (version, "" if version == "2.3" else "ORU_R01")


@pytest.mark.parametrize(("charset", "family"), [("UNICODE UTF-8", "ŁÜ"), ("8859/1", "LÜ"), ("ASCII", "LU")])
def test_a_receiver_gets_its_own_character_set(charset: str, family: str) -> None:
    patient = replace(PATIENT, demographics=Demographics(PersonName("ŁÜ", "JANE")))
    read = written(replace(signed(), patient=patient), EHR.model_copy(update={"charset": charset}))
    assert (read.get("PID-5"), read.get("PID-8"), read.get("PID-7")) == (family, "U", "")
    assert read.get("MSH-18") == ("" if charset == "ASCII" else charset)


def status(name: OrderStatus, peer: str = "CT01", order: Order = ORDER) -> EventContext:
    return EventContext(event(EventName.ORDER_STATUS_CHANGED, peer, status=name.value), PATIENT, order)


@pytest.mark.parametrize("name", list(OrderStatus))
def test_each_order_status_goes_to_the_placer(name: OrderStatus) -> None:
    read = written(status(name))
    assert (read.get("MSH-9"), read.get("MSH-9.2")) == ("ORM", "O01")
    assert (read.get("ORC-2"), read.get("ORC-3"), read.get("ORC-5")) == ("P1", "H260000001", ORC5_STATUS[name])
    assert read.get("ORC-1") == ("OC" if name is OrderStatus.CANCELLED else "SC")
    assert (read.get("OBR-18"), read.get("ZDS-1")) == ("H260000001", "1.2.3")


def test_a_cancellation_that_the_placer_asked_for_is_no_news_of_ours() -> None:
    assert written(status(OrderStatus.CANCELLED, peer="EPIC|GENHOSP")).get("ORC-1") == "SC"


def test_the_status_of_an_external_fillers_order_is_not_ours_to_tell() -> None:
    assert (
        encode_hl7(status(OrderStatus.COMPLETED, order=replace(ORDER, filler=Filler.EXTERNAL)), EHR, SETTINGS) is None
    )


def test_every_priority_has_its_code() -> None:
    assert set(PRIORITY_OUT) == set(Priority)


def received(outcome: str = "applied", control_id: str = "M1") -> EventContext:
    raw = b"MSH|^~\\&|A|B|||20260302||ADT^A04|M1|P|2.3\r\nPID|1||\xfc"
    kept = JournaledMessage("m", AT, "A|B", control_id, "d", "ADT^A04", raw, b"", outcome, "", 1)
    return EventContext(event(EventName.MESSAGE_RECEIVED, outcome=outcome), message=kept)


def test_a_received_message_is_forwarded_byte_for_byte_under_its_own_control_id() -> None:
    encoded = encode_hl7(received(), EHR, SETTINGS)
    assert encoded is not None and received().message is not None
    assert (encoded.kind, encoded.control_id, encoded.body) == ("ADT^A04", "M1", received().message.raw)


def test_a_refused_message_is_not_forwarded() -> None:
    assert encode_hl7(received("refused"), EHR, SETTINGS) is None
    assert encode_hl7(received(control_id=""), EHR, SETTINGS) is None


def test_an_event_of_which_hl7_says_nothing_makes_no_message() -> None:
    assert encode_hl7(EventContext(event(EventName.READING_STARTED)), EHR, SETTINGS) is None


# The receiver


@pytest.fixture
def receiver() -> Iterator[Callable[[Callable[[bytes], bytes | None]], Destination]]:
    """Starts a receiver that answers by a function (None closes) and returns the destination that it is."""
    servers: list[socket.socket] = []

    def start(answer: Callable[[bytes], bytes | None], scheme: str = "mllp", context: object = None) -> Destination:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)
        threading.Thread(target=_serve, args=(server, answer, context), daemon=True).start()
        address = f"{scheme}://127.0.0.1:{server.getsockname()[1]}"
        return EHR.model_copy(update={"address": address, "ack_timeout": 0.5})

    yield start
    for server in servers:
        server.close()


def _serve(server: socket.socket, answer: Callable[[bytes], bytes | None], context: object) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        if context is not None:
            try:
                connection = context.wrap_socket(connection, server_side=True)  # type: ignore[attr-defined]
            except OSError:  # the client does not trust this receiver
                continue
        with connection:
            while data := connection.recv(65536):
                reply = answer(data)
                if reply is None:
                    break
                connection.sendall(framed(reply))


def delivery(body: bytes = b"MSH|^~\\&|HILUM|R|||2026||ORU^R01|C1|P|2.5.1\r") -> Delivery:
    return Delivery("d", "l", "ehr", 1, "e", None, "ORU^R01", "C1", body, 1, 0)


def reply(code: str, control_id: str = "C1", err: str = "") -> bytes:
    return f"MSH|^~\\&|EHR|G|HILUM|R|2026||ACK|X|P|2.5.1\rMSA|{code}|{control_id}\r{err}".encode()


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("AA", SendOutcome.ACCEPTED),
        ("CA", SendOutcome.ACCEPTED),
        ("AE", SendOutcome.ERROR),
        ("CE", SendOutcome.ERROR),
        ("AR", SendOutcome.REJECTED),
        ("CR", SendOutcome.REJECTED),
        ("??", SendOutcome.ERROR),
    ],
)
def test_the_receivers_answer_decides(receiver, tmp_path: Path, code: str, outcome: SendOutcome) -> None:
    sender = MllpSender(tmp_path)
    sent = sender.send(delivery(), receiver(lambda _: reply(code)))
    assert (sent.outcome, sent.reply) == (outcome, reply(code))
    sender.close()


def test_the_reason_is_a_code_and_never_the_receivers_words() -> None:
    assert meaning_of(reply("AE", err="ERR||PID^1^3|204^Unknown^HL70357|E||||JANE DOE is unknown")).reason == "AE 204"
    old = "ERR|PID^1^3^101&Required field missing&HL70357\r"
    assert meaning_of(reply("AR", err=old).replace(b"2.5.1", b"2.3")).reason == "AR 101"
    assert meaning_of(reply("JANE")).reason == "no answer code"


def test_a_receiver_that_is_not_there_is_tried_again_and_one_that_stays_silent_may_have_it(
    receiver, tmp_path: Path
) -> None:
    sender = MllpSender(tmp_path)
    nobody = EHR.model_copy(update={"address": f"mllp://127.0.0.1:{free_ports(1)[0]}"})
    assert sender.send(delivery(), nobody).outcome is SendOutcome.TRANSIENT
    assert sender.send(delivery(), receiver(lambda _: None)).outcome is SendOutcome.AMBIGUOUS
    assert sender.send(delivery(), receiver(lambda _: reply("AA", "OTHER"))).outcome is SendOutcome.AMBIGUOUS
    assert sender.send(delivery(b"MSH|^~\\&|no control id\r"), nobody).outcome is SendOutcome.REJECTED
    sender.close()


def test_a_connection_is_kept_for_the_next_message(receiver, tmp_path: Path) -> None:
    seen: set[int] = set()

    def answer(_: bytes) -> bytes:
        seen.add(threading.get_ident())
        return reply("AA")

    sender, destination = MllpSender(tmp_path), receiver(answer)
    assert [sender.send(delivery(), destination).outcome for _ in range(3)] == [SendOutcome.ACCEPTED] * 3
    assert len(sender._clients) == 1
    sender.close()
    assert sender.send(delivery(), destination).outcome is SendOutcome.ACCEPTED
    sender.close()


def test_an_encrypted_receiver_is_verified(receiver, tmp_path: Path) -> None:
    paths = tls.init(tmp_path, now=datetime.now(UTC))
    context = tls.server_context(paths.server_cert, paths.server_key)
    destination = receiver(lambda _: reply("AA"), "mllps", context)
    sender = MllpSender(tmp_path)
    assert sender.send(delivery(), destination).outcome is SendOutcome.TRANSIENT
    trusted = destination.model_copy(update={"ca": "tls/ca.pem", "ack_timeout": 5})
    assert sender.send(delivery(), trusted).outcome is SendOutcome.ACCEPTED
    missing = destination.model_copy(update={"ca": "tls/gone.pem"})
    assert sender.send(delivery(), missing).outcome is SendOutcome.TRANSIENT
    sender.close()
