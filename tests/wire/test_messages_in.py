"""What an HL7 sender can ask of Hilum, what it is answered, and what it is refused with."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hl7_wire import NEW_ORDER, PID, SETTINGS, Exchange, adt, error_of, message

from hilum.core.errors import Unavailable
from hilum.hl7.er7 import Message
from hilum.hl7.messages_in import MESSAGES, ORDER_CONTROL
from hilum.hl7.mllp import PeerInfo, framed
from hilum.hl7.reception import KEPT_OF_UNKNOWN
from hilum.hl7.translate_order import PRIORITY
from hilum.storage import tables
from hilum.storage.store import Store

PATIENT, ORDER, STEP = tables.patient, tables.imaging_order, tables.scheduled_step
JOURNAL, LIST, REPORT = tables.inbound_message, tables.exception_item, tables.report_version

OMI = (
    PID,
    "ORC|NW|P9^EPIC|F9^RIS",
    "TQ1|1||||||20260401080000||A",
    "OBR|1|P9^EPIC|F9^RIS|MRHEAD^MR head^L" + "|" * 40 + "RP44^Requested MR^L",
    "IPC|ACC9|RP9|1.2.840.9|SPS1|MR|T1^T1 axial^L~T2^T2 axial^L|MRROOM1|B2|MR01",
    "IPC|ACC9|RP9|1.2.840.9|SPS2|MR|DWI^Diffusion^L|MRROOM1|B2|MR01",
)
REPORT_GROUP = (
    PID,
    "OBR|1|P1^EPIC||CTCHEST^CT chest^L||||||||||||||||||20260302120000|||F|||||||9000&READER&RITA&&&&&&GENHOSP",
    "OBX|1|TX|59776-5^Findings^LN||Lungs clear.~No effusion.||||||F",
    "OBX|2|FT|19005-8^Impression^LN||Normal\\.br\\chest \\T\\ heart.||||||F",
)


@pytest.fixture
def door(sqlite_store: Store, tmp_path: Path) -> Exchange:
    return Exchange(sqlite_store, tmp_path / "home")


@pytest.fixture
def on_both(store: Store, tmp_path: Path) -> Exchange:
    return Exchange(store, tmp_path / "home")


def ordered(door: Exchange, **options: str) -> Message:
    return door.accept(message("ORM^O01", *NEW_ORDER, **options))


# Registration


def test_a04_registers_a_patient_under_identifier_and_authority(on_both: Exchange) -> None:
    on_both.accept(adt("A04"))
    patient, identifier = on_both.patient(), on_both.row(tables.patient_identifier)
    assert (patient.family, patient.given, patient.middle) == ("DOE", "JANE", "Q")
    assert (patient.birth_date, patient.sex) == (date(1980, 1, 2), "F")
    assert (identifier.value, identifier.authority, identifier.type_code) == ("100", "GENHOSP", "MR")
    assert patient.demographics_at == datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("event", ["A01", "A04", "A05", "A28", "A02", "A03", "A06", "A07", "A08", "A31"])
def test_every_event_that_names_a_patient_registers_or_updates(door: Exchange, event: str) -> None:
    door.accept(adt(event))
    assert door.patient().family == "DOE"


@pytest.mark.parametrize("event", ["A11", "A12", "A13"])
def test_taking_a_visit_event_back_changes_nothing_and_is_kept_with_the_patient(door: Exchange, event: str) -> None:
    door.accept(adt("A04"))
    door.accept(adt(event, PID.replace("DOE", "ROE"), control="M2"))
    assert door.patient().family == "DOE"
    assert [row.patient_id for row in door.rows(JOURNAL)] == [door.patient().id] * 2


def test_identifiers_without_authority_are_of_the_sender_and_others_need_their_own(door: Exchange) -> None:
    pid = PID.replace("100^^^GENHOSP^MR", "100~200^^^&1.2.3&ISO^MR~300^^^^SS~400^^^USSSA^SS~V1^^^GENHOSP^VN")
    door.accept(adt("A04", pid + "||||||||||ACCT18|300"))
    held = {(row.value, row.authority, row.type_code) for row in door.rows(tables.patient_identifier)}
    assert held == {("100", "GENHOSP", "MR"), ("200", "1.2.3", "MR"), ("400", "USSSA", "SS")}


def test_the_facility_assigns_where_neither_message_nor_sender_does(sqlite_store: Store, tmp_path: Path) -> None:
    settings = SETTINGS.replace('zone = "UTC"\n[hl7]', 'zone = "UTC"\ndefault_authority = "TOWN"\n[hl7]')
    door = Exchange(sqlite_store, tmp_path / "home", settings)
    door.accept(adt("A04", "PID|1||7||X^Y", sender="NEW|BOX"))
    assert door.row(tables.patient_identifier).authority == "TOWN"


def test_the_legal_name_is_taken_whichever_comes_first(door: Exchange) -> None:
    door.accept(adt("A04", "PID|1||100||NICK^NAME^^^^^D~VAN DOE&VAN&DOE^JANE^Q^JR^DR^MD^L"))
    patient = door.patient()
    assert (patient.family, patient.given, patient.middle) == ("VAN DOE", "JANE", "Q")
    assert (patient.suffix, patient.prefix) == ("JR", "DR")


@pytest.mark.parametrize(
    ("said", "known"), [("M", "M"), ("f", "F"), ("A", "O"), ("O", "O"), ("U", ""), ("N", ""), ("", ""), ("7", "")]
)
def test_sex_is_that_of_dicom(door: Exchange, said: str, known: str) -> None:
    door.accept(adt("A04", f"PID|1||100||DOE^JANE||19800102|{said}"))
    assert door.patient().sex == known


def test_a_null_deletes_and_an_empty_field_says_nothing(door: Exchange) -> None:
    door.accept(adt("A04"))
    door.accept(adt("A08", "PID|1||100||||", at="20260301130000", control="M2"))
    assert (door.patient().family, door.patient().sex, door.patient().birth_date) == ("DOE", "F", date(1980, 1, 2))
    door.accept(adt("A08", 'PID|1||100||""||""|""', at="20260301140000", control="M3"))
    assert (door.patient().family, door.patient().sex, door.patient().birth_date) == ("DOE", "", None)


@pytest.mark.parametrize("born", ["1980", "198001", "19800000", "19800100"])
def test_a_birth_date_without_day_says_nothing(door: Exchange, born: str) -> None:
    door.accept(adt("A04", f"PID|1||100||DOE^JANE||{born}"))
    assert door.patient().birth_date is None


def test_an_older_event_changes_nothing_even_when_it_comes_later(door: Exchange) -> None:
    door.accept(adt("A08", PID.replace("DOE", "NEW"), at="20260301120000", control="M1"))
    door.accept(adt("A04", PID.replace("DOE", "OLD"), at="20260301110000", control="M2"))
    assert door.patient().family == "NEW"


def test_evn_6_goes_before_evn_2(door: Exchange) -> None:
    door.accept(message("ADT^A04", "EVN|A04|20260301150000||||20260301100000", PID))
    assert door.patient().demographics_at == datetime(2026, 3, 1, 10, tzinfo=UTC)


def test_a_clock_that_runs_years_ahead_does_not_make_later_messages_stale(door: Exchange) -> None:
    door.accept(adt("A04", at="20990101000000"))
    assert door.patient().demographics_at < datetime(2090, 1, 1, tzinfo=UTC)


def test_a40_links_two_patients_and_both_identifiers_name_the_survivor(on_both: Exchange) -> None:
    on_both.accept(adt("A04", control="M1"))
    on_both.accept(adt("A04", "PID|1||200||DOE^J", control="M2"))
    on_both.accept(adt("A40", PID, "MRG|200^^^GENHOSP^MR", control="M3"))
    first, second = on_both.rows(PATIENT)
    assert (second.merged_into, second.survivor_id, first.merged_into) == (first.id, first.id, None)


def test_a37_undoes_a_merge_whichever_of_the_two_comes_first(on_both: Exchange) -> None:
    other = PID.replace("100", "200")
    for number, order in enumerate([(PID, other), (other, PID)]):
        on_both.accept(adt("A40", PID, "MRG|200^^^GENHOSP^MR", control=f"M{number}"))
        on_both.accept(adt("A37", *order, control=f"U{number}"))
        assert [row.merged_into for row in on_both.rows(PATIENT)] == [None, None]
    assert error_of(on_both.ask(adt("A37", PID, other, control="U9")))[0] == "AE", "they are not merged any more"
    assert error_of(on_both.ask(adt("A37", PID, control="U8")))[0] == "AE", "one patient is not two"


@pytest.mark.parametrize("event", ["A18", "A34", "A36"])
def test_older_merge_events_merge_too(door: Exchange, event: str) -> None:
    door.accept(adt(event, PID, "MRG|200"))
    assert [row.merged_into is not None for row in door.rows(PATIENT)] == [False, True]


def test_several_merges_of_one_message_are_all_made_or_none(door: Exchange) -> None:
    pairs = (PID, "MRG|200", PID.replace("100", "300"), "MRG|300")
    assert error_of(door.ask(adt("A40", *pairs))) == ("AE", "MRG^2^1", "102")
    assert door.rows(PATIENT) == []
    door.accept(adt("A40", PID, "MRG|200", PID.replace("100", "300"), "MRG|400", control="M2"))
    assert len([row for row in door.rows(PATIENT) if row.merged_into]) == 2


def test_a_survivor_that_lists_the_old_number_too_is_still_merged(door: Exchange) -> None:
    door.accept(adt("A40", PID.replace("^MR||", "^MR~200^^^GENHOSP^MR||"), "MRG|200"))
    assert len([row for row in door.rows(PATIENT) if row.merged_into]) == 1


# Orders


def test_an_order_is_placed_and_the_answer_tells_its_numbers(on_both: Exchange) -> None:
    answer = ordered(on_both)
    order, step = on_both.order(), on_both.row(STEP)
    assert answer.get("MSH-9") == "ORR"
    assert answer.get("MSA-2") == "M1"
    assert (answer.get("ORC-1"), answer.get("ORC-2"), answer.get("ORC-2.2"), answer.get("ORC-5")) == (
        "OK",
        "P1",
        "EPIC",
        "SC",
    )
    assert (answer.get("ORC-3"), answer.get("ORC-3.2")) == (order.filler_order_number, "HILUM")
    assert answer.get("OBR-18") == order.accession_number
    assert answer.get("ZDS-1") == order.study_instance_uid
    assert (order.placer_order_number, order.placer_authority, order.filler) == ("P1", "EPIC", "hilum")
    assert (step.modality, step.start_at) == ("CT", datetime(2026, 3, 2, 10, 15, tzinfo=UTC))


def test_every_field_of_an_order_finds_its_place(door: Exchange) -> None:
    ordered(door)
    order = door.order()
    assert (order.procedure_code, order.procedure_meaning, order.procedure_scheme) == ("CTCHEST", "CT chest", "L")
    assert (order.priority, order.modality, order.reason) == ("stat", "CT", "cough")
    assert order.clinical_information == "short of breath"
    assert (order.ordering_identifier, order.ordering_family, order.ordering_authority) == ("4711", "HOUSE", "GENHOSP")
    assert [copy["identifier"] for copy in order.copies_to] == ["88", "77"]
    assert (order.visit_number, order.patient_class, order.sender) == ("V55", "O", "EPIC|GENHOSP")


@pytest.mark.parametrize(
    ("segments", "priority"),
    [
        (("ORC|NW|P1|||||^^^^^A", "OBR|1|||X"), "urgent"),
        (("ORC|NW|P1", "OBR|1|||X|S"), "stat"),
        (("ORC|NW|P1", "OBR|1|||X" + "|" * 23 + "^^^^^STAT"), "stat"),
        (("ORC|NW|P1", "TQ1|1||||||||TM30", "OBR|1|||X"), "urgent"),
        (("ORC|NW|P1", "OBR|1|||X"), "routine"),
    ],
)
def test_urgency_is_found_wherever_it_stands(door: Exchange, segments: tuple[str, ...], priority: str) -> None:
    door.accept(message("ORM^O01", PID, *segments))
    assert door.order().priority == priority


def test_notes_to_the_order_are_clinical_information_and_those_to_results_are_not(door: Exchange) -> None:
    notes = ("NTE|1||needs an interpreter~wheel chair", "OBX|1|TX|X||y", "NTE|1||to the result")
    door.accept(message("ORM^O01", *NEW_ORDER, *notes))
    assert door.order().clinical_information == "short of breath\nneeds an interpreter\nwheel chair"


def test_an_unknown_patient_in_an_order_is_registered_provisionally(door: Exchange) -> None:
    ordered(door)
    assert (door.patient().family, door.patient().demographics_at) == ("DOE", None)


def test_the_same_order_under_a_new_control_id_is_not_a_second_exam(on_both: Exchange) -> None:
    first, second = ordered(on_both), ordered(on_both, control="M2")
    assert first.get("ORC-3") == second.get("ORC-3")
    assert len(on_both.rows(ORDER)) == 1
    assert len(on_both.rows(STEP)) == 1


def test_another_order_under_a_used_placer_number_is_refused(door: Exchange) -> None:
    ordered(door)
    other = [segment.replace("CTCHEST^CT chest", "USABD^US abdomen") for segment in NEW_ORDER]
    assert error_of(door.ask(message("ORM^O01", *other, control="M2"))) == ("AE", "ORC^1^2", "205")


def test_an_omi_is_adopted_from_its_filler_with_all_its_steps(on_both: Exchange) -> None:
    answer = on_both.accept(message("OMI^O23^OMI_O23", *OMI))
    order, steps = on_both.order(), on_both.rows(STEP)
    assert (answer.get("MSH-9"), answer.get("ORC-1"), answer.get("IPC-1")) == ("ORI", "OK", "ACC9")
    assert (order.filler, order.accession_number, order.study_instance_uid) == ("external", "ACC9", "1.2.840.9")
    assert (order.requested_procedure_id, order.filler_order_number, order.filler_authority) == ("RP9", "F9", "RIS")
    assert (order.procedure_code, order.priority) == ("RP44", "urgent")
    assert [(s.step_id, s.modality, s.station_ae_title, s.station_name) for s in steps] == [
        ("SPS1", "MR", "MR01", "MRROOM1"),
        ("SPS2", "MR", "MR01", "MRROOM1"),
    ]
    assert [code["value"] for code in steps[0].protocol] == ["T1", "T2"]
    assert (steps[0].location, steps[0].description) == ("B2", "T1 axial")
    assert steps[0].start_at == datetime(2026, 4, 1, 8, tzinfo=UTC)


def obr_of_filler(step: str, protocol: str) -> str:
    return f"OBR|1|P7|F7|CT^CT service^L^{protocol}^{protocol} protocol^L||||||||||||||ACC7|RP7|{step}||||CT"


def test_an_orm_with_zds_is_adopted_and_its_groups_are_steps_of_one_order(door: Exchange) -> None:
    groups = ("ORC|NW|P7|F7", obr_of_filler("S1", "NAT"), "ORC|NW|P7|F7", obr_of_filler("S2", "KM"))
    door.accept(message("ORM^O01", PID, *groups, "ZDS|1.2.3.7^RIS^Application^DICOM", sender="RIS|GENHOSP"))
    order = door.order()
    assert (order.accession_number, order.requested_procedure_id) == ("ACC7", "RP7")
    assert (order.study_instance_uid, order.filler) == ("1.2.3.7", "external")
    assert [(s.step_id, s.modality, s.protocol[0]["value"]) for s in door.rows(STEP)] == [
        ("S1", "CT", "NAT"),
        ("S2", "CT", "KM"),
    ]


def test_who_fills_an_order_is_the_peers_setting(door: Exchange) -> None:
    numbered = ("ORC|NW|P7", obr_of_filler("S1", "NAT").replace("|F7|", "||"))
    door.accept(message("ORM^O01", PID, *numbered, "ZDS|1.2.3.7", sender="PLAIN|GENHOSP"))
    order = door.order()
    assert order.filler == "hilum"
    assert (order.accession_number, order.study_instance_uid) != ("ACC7", "1.2.3.7")


def test_an_accession_or_a_uid_alone_is_kept_but_hilum_fills(door: Exchange) -> None:
    accession, uid = "OBR|1|||X" + "|" * 14 + "ACC8", "OBR|1|||X"
    door.accept(message("ORM^O01", PID, "ORC|NW|P8", accession, "ORC|NW|P6", uid, "ZDS|1.2.8"))
    with_accession, with_uid = door.rows(ORDER)
    assert (with_accession.accession_number, with_accession.filler) == ("ACC8", "hilum")
    assert (with_uid.study_instance_uid, with_uid.filler) == ("1.2.8", "hilum")


def test_an_external_filler_has_to_give_an_accession(door: Exchange) -> None:
    raw = message("ORM^O01", PID, "ORC|NW|P7", "OBR|1|||X", sender="RIS|GENHOSP")
    assert error_of(door.ask(raw)) == ("AE", "OBR^1^18", "101")


@pytest.mark.parametrize(("control", "status", "answered"), [("CA", "cancelled", "CR"), ("DC", "discontinued", "DR")])
@pytest.mark.parametrize("kind", ["ORM^O01", "OMG^O19"])
def test_an_order_is_ended_by_its_placer_number(
    door: Exchange, kind: str, control: str, status: str, answered: str
) -> None:
    ordered(door)
    answer = door.accept(message(kind, PID, f"ORC|{control}|P1^EPIC", control="M2"))
    assert door.order().status == status
    assert (answer.get("ORC-1"), answer.get("ORC-5")) == (answered, control)
    assert answer.get("MSH-9.2") == {"ORM^O01": "O02", "OMG^O19": "O20"}[kind]


def test_a_changed_order_keeps_what_the_change_does_not_speak_of(door: Exchange) -> None:
    ordered(door)
    change = ("ORC|XO|P1^EPIC", "OBR|1|||MRCHEST^MR chest^L" + "|" * 20 + "MR")
    answer = door.accept(message("ORM^O01", PID, *change, control="M2"))
    order = door.order()
    assert answer.get("ORC-1") == "XR"
    assert (order.procedure_code, order.modality, order.priority, order.reason) == ("MRCHEST", "MR", "stat", "cough")
    assert door.row(STEP).modality == "MR"


@pytest.mark.parametrize(("control", "refused"), [("XO", "UX"), ("CA", "UC"), ("DC", "UD"), ("NW", "UA")])
def test_a_refused_order_is_answered_with_its_own_order_control(door: Exchange, control: str, refused: str) -> None:
    missing = "OBR|1|||X" if control == "XO" else "OBR|1"
    answer = door.ask(message("ORM^O01", PID, f"ORC|{control}|UNKNOWN", missing))
    assert (answer.get("MSA-1"), answer.get("ORC-1"), answer.get("ORC-2")) == ("AE", refused, "UNKNOWN")


def test_a_cancellation_for_another_patient_is_refused(door: Exchange) -> None:
    ordered(door)
    door.accept(adt("A04", "PID|1||200||ROE^R", control="M2"))
    answer = door.ask(message("ORM^O01", "PID|1||200||ROE^R", "ORC|CA|P1^EPIC", control="M3"))
    assert error_of(answer)[:2] == ("AE", "PID^1^3")
    assert door.order().status == "scheduled"


def test_all_orders_of_a_message_are_taken_or_none_and_the_error_says_which(on_both: Exchange) -> None:
    groups = ("ORC|NW|A1", "OBR|1|||CTHEAD^CT head", "ORC|NW|A2", "OBR|2")
    answer = on_both.ask(message("ORM^O01", PID, *groups))
    assert error_of(answer) == ("AE", "OBR^2^4", "101")
    assert answer.get("ERR-8").startswith("Order 2 of 2: ")
    assert [orc.get(1) for orc in answer.segments("ORC")] == ["UA", "UA"]
    assert (on_both.rows(ORDER), on_both.rows(PATIENT)) == ([], [])
    mended = (*groups[:3], "OBR|2|||CTNECK^CT neck")
    answer = on_both.accept(message("ORM^O01", PID, *mended, control="M2"))
    assert [orc.get(2) for orc in answer.segments("ORC")] == ["A1", "A2"]
    assert len(on_both.rows(ORDER)) == 2


def test_a_peer_that_wants_plain_acknowledgements_gets_them(door: Exchange) -> None:
    answer = door.accept(message("ORM^O01", *NEW_ORDER, sender="PLAIN|GENHOSP"))
    assert (answer.get("MSH-9"), answer.segment("ORC")) == ("ACK", None)


@pytest.mark.parametrize("version", ["2.3", "2.3.1", "2.4", "2.5", "2.5.1"])
def test_each_version_is_answered_in_its_own_form(door: Exchange, version: str) -> None:
    good = ordered(door, version=version)
    assert (good.get("MSH-12"), good.get("MSH-9.2")) == (version, "O02")
    assert good.get("MSH-9.3") == ("" if version == "2.3" else "ORR_O02")
    bad = door.ask(adt("A04", "PID|1||||DOE", control="M2", version=version))
    err = bad.segment("ERR")
    assert err is not None
    place = err.field(2) if version.startswith("2.5") else err.field(1)
    assert place.startswith("PID^1^3")
    assert bool(bad.get("MSA-3")) is not version.startswith("2.5")


# Results


def test_a_report_from_dictation_is_taken_in_its_readers_name(on_both: Exchange) -> None:
    ordered(on_both)
    assert on_both.accept(message("ORU^R01", *REPORT_GROUP, control="M2")).get("MSH-9") == "ACK"
    version = on_both.row(REPORT)
    assert (version.status, version.findings) == ("final", "Lungs clear.\nNo effusion.")
    assert version.impression == "Normal\nchest & heart."
    assert (version.interpreter["identifier"], version.interpreter["family"]) == ("9000", "READER")
    assert version.interpreter["authority"] == "GENHOSP"
    assert version.signed_at == datetime(2026, 3, 2, 12, tzinfo=UTC)


def report(
    text: str = "Clear.", status: str = "F", *, obx3: str = "X", obx11: str = "F", obr: str = "P1^EPIC|"
) -> list[str]:
    line = f"OBR|1|{obr}|CT" + "|" * 21 + f"{status}|||||||9&R"
    return [PID, line, f"OBX|1|TX|{obx3}||{text}||||||{obx11}"]


@pytest.mark.parametrize(
    ("said", "known"),
    [("P", "preliminary"), ("R", "preliminary"), ("A", "preliminary"), ("F", "final"), ("C", "corrected")],
)
def test_result_status_is_the_reports(door: Exchange, said: str, known: str) -> None:
    ordered(door)
    door.accept(message("ORU^R01", *report(status=said), control="M2"))
    assert door.row(REPORT).status == known


def test_preliminary_final_corrected_and_retracted_are_versions_of_one_report(door: Exchange) -> None:
    ordered(door)
    for number, (text, status, obx11) in enumerate(
        [("one", "P", "P"), ("two", "F", "F"), ("three", "C", "C"), ("wrong patient", "C", "W")], 2
    ):
        door.accept(message("ORU^R01", *report(text, status, obx11=obx11), control=f"M{number}"))
    assert [row.status for row in door.rows(REPORT)] == ["preliminary", "final", "corrected", "retracted"]


@pytest.mark.parametrize(
    ("obx3", "text", "findings", "impression"),
    [
        ("36643-5&GDT^XR chest^LN", "Clear.", "Clear.", ""),
        ("36643-5&IMP^XR chest^LN", "Normal.", "", "Normal."),
        ("L1^Impression", "Normal.", "", "Normal."),
        ("X", "Intro~FINDINGS:~Clear.~Impression: normal~indeed", "Intro\nClear.", "normal\nindeed"),
        ("X", "No heading at all", "No heading at all", ""),
    ],
)
def test_sections_are_found_by_code_suffix_words_or_heading(
    door: Exchange, obx3: str, text: str, findings: str, impression: str
) -> None:
    ordered(door)
    door.accept(message("ORU^R01", *report(text, obx3=obx3), control="M2"))
    assert (door.row(REPORT).findings, door.row(REPORT).impression) == (findings, impression)


def test_a_reader_written_as_xcn_is_understood(door: Exchange) -> None:
    ordered(door)
    segments = [part.replace("9&R", "9^READER^RITA") for part in report()]
    door.accept(message("ORU^R01", *segments, control="M2"))
    assert door.row(REPORT).interpreter["given"] == "RITA"


def test_a_report_finds_its_order_by_filler_number_or_accession(door: Exchange) -> None:
    door.accept(message("OMI^O23", *OMI))
    by_filler, by_accession = report(obr="|F9^RIS"), report("Clear.", "C", obr="|ACC9")
    by_obr_18 = [part.replace("OBR|1||ACC9|CT" + "|" * 14, "OBR|1|||CT" + "|" * 14 + "ACC9") for part in by_accession]
    for number, segments in enumerate((by_filler, by_accession, by_obr_18), 2):
        door.accept(message("ORU^R01", *segments, control=f"M{number}"))
    assert {row.status for row in door.rows(REPORT)} == {"final", "corrected"}


def test_a_number_without_authority_is_checked_against_the_one_patient_who_holds_it(door: Exchange) -> None:
    ordered(door)
    anonymous = [part.replace("100^^^GENHOSP^MR", "100") for part in report()]
    door.accept(message("ORU^R01", *anonymous, control="M2", sender="DICTATION|BOX"))
    stranger = [part.replace("100^^^GENHOSP^MR", "999") for part in report(status="C")]
    answer = door.ask(message("ORU^R01", *stranger, control="M3", sender="DICTATION|BOX"))
    assert error_of(answer)[:2] == ("AE", "PID^1^3")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("9&R", ""), ("AE", "OBR^1^32", "101")),
        (("|F|||||||9", "||||||||9"), ("AA", "", "")),
        (("|F|||||||9", "|X|||||||9"), ("AE", "OBR^1^25", "103")),
        (("P1^EPIC", "NONE^EPIC"), ("AE", "ORC^1^2", "204")),
        (("P1^EPIC", ""), ("AE", "OBR^1^3", "101")),
        (("|TX|", "|ED|"), ("AE", "OBX^1^5", "101")),
    ],
)
def test_a_report_that_lacks_something_is_refused_at_its_place(
    door: Exchange, change: tuple[str, str], expected: tuple[str, str, str]
) -> None:
    ordered(door)
    answer = door.ask(message("ORU^R01", *(part.replace(*change) for part in report()), control="M2"))
    assert (answer.get("MSA-1") == "AA" and expected[0] == "AA") or error_of(answer) == expected


# Refusals


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (message("ADT^A04", "EVN|A04|20260301"), ("AE", "PID^1", "100")),
        (adt("A04", "PID|1||||DOE^JANE"), ("AE", "PID^1^3", "101")),
        (adt("A04", "PID|1||100"), ("AE", "PID^1^5", "101")),
        (adt("A04", "PID|1||100||DOE||19801399"), ("AE", "PID^1^7", "102")),
        (adt("A04", at="yesterday"), ("AE", "EVN^1^2", "102")),
        (adt("A04", f"PID|1||{'1' * 65}||DOE"), ("AE", "PID^1^3", "102")),
        (adt("A40", PID), ("AE", "MRG^1", "100")),
        (adt("A40", PID, "MRG|"), ("AE", "MRG^1^1", "101")),
        (adt("A40", PID, "MRG|100"), ("AE", "MRG^1^1", "102")),
        (message("ORM^O01", PID), ("AE", "ORC^1", "100")),
        (message("ORM^O01", PID, "OBR|1|||X"), ("AE", "ORC^1", "100")),
        (message("ORM^O01", PID, "ORC|NW|P1"), ("AE", "OBR^1", "100")),
        (message("ORM^O01", PID, "ORC||P1", "OBR|1|||X"), ("AE", "ORC^1^1", "101")),
        (message("ORM^O01", PID, "ORC|HD|P1", "OBR|1|||X"), ("AE", "ORC^1^1", "103")),
        (message("ORM^O01", PID, "ORC|NW", "OBR|1|||X"), ("AE", "ORC^1^2", "101")),
        (message("ORM^O01", PID, "ORC|NW|P1", "OBR|1|P2||X"), ("AE", "OBR^1^2", "102")),
        (message("ORM^O01", "ORC|NW|P1", "OBR|1|||X"), ("AE", "PID^1", "100")),
        (message("ORM^O01", PID, "ORC|NW|P1|||||^^^noon", "OBR|1|||X"), ("AE", "ORC^1^7^^4", "102")),
        (message("ORM^O01", PID, "ORC|NW|P1", "OBR|1|||X" + "|" * 14 + "A" * 17), ("AE", "OBR^1^18", "102")),
        (message("ORM^O01", PID, "ORC|NW|P1", "OBR|1|||X", "ZDS|not-a-uid"), ("AE", "ZDS^1^1", "102")),
        (message("OMI^O23", *OMI[:4], OMI[4].replace("ACC9", "A" * 17)), ("AE", "IPC^1^1", "102")),
        (message("OMI^O23", *OMI[:5], OMI[5].replace("1.2.840.9", "1.2.3")), ("AE", "IPC^2^3", "103")),
        (message("OMI^O23", *OMI[:5], OMI[5].replace("SPS2", "SPS1")), ("AE", "IPC^2^4", "102")),
        (message("ORU^R01", PID), ("AE", "OBR^1", "100")),
        (message("BAR^P01", PID), ("AR", "MSH^1^9^^1", "200")),
        (message("ADT^A99", PID), ("AR", "MSH^1^9^^2", "201")),
        (message("", PID), ("AE", "MSH^1^9", "101")),
        (adt("A04", control=""), ("AE", "MSH^1^10", "101")),
        (adt("A04", version="3.0"), ("AR", "MSH^1^12", "203")),
        (adt("A04", PID.replace("JANE", "JA\x00NE")), ("AE", "", "102")),
    ],
)
def test_what_is_wrong_is_refused_with_its_place_and_kept(
    door: Exchange, raw: bytes, expected: tuple[str, str, str]
) -> None:
    assert error_of(door.ask(raw)) == expected
    kept = door.row(JOURNAL)
    assert (kept.raw, kept.outcome) == (raw, "refused")
    assert (door.rows(PATIENT), door.rows(ORDER)) == ([], [])
    assert door.row(LIST).kind == "message-refused"


@pytest.mark.parametrize(
    "raw", [b"", b"hello", b"PID|1||100\r", b"MSH", b"FHS|^~\\&|X\r", b"MSH|^~\\&|EPIC|GENHOSP\rbroken\r"]
)
def test_what_is_no_message_is_rejected_and_kept(door: Exchange, raw: bytes) -> None:
    answer = door.ask(raw)
    assert answer.get("MSA-1") == "AR"
    kept = door.row(JOURNAL)
    assert (kept.raw, kept.outcome) == (raw, "refused")
    assert kept.sender == ("EPIC|GENHOSP" if b"EPIC" in raw else "127.0.0.1")


def test_an_unknown_sender_is_rejected_and_a_bounded_part_of_it_kept(door: Exchange) -> None:
    raw = adt("A04", PID, "NTE|1||" + "x" * 100_000, sender="WHO|KNOWS")
    answer = door.ask(raw, host="192.0.2.7")
    assert error_of(answer) == ("AR", "MSH^1^3", "207")
    assert door.rows(PATIENT) == []
    kept = door.row(JOURNAL)
    assert (kept.sender, kept.outcome, kept.raw) == ("WHO|KNOWS", "refused", raw[:KEPT_OF_UNKNOWN])


def test_a_flood_of_unknown_senders_is_answered_and_kept_only_up_to_a_bound(door: Exchange) -> None:
    door.door._unknown._limit = 3
    codes = [door.ask(adt("A04", sender=f"W{n}|K"), host="192.0.2.7").get("MSA-1") for n in range(6)]
    assert codes == ["AR"] * 6
    assert len(door.rows(JOURNAL)) == 3


def test_the_default_lets_nobody_in_who_is_not_named(sqlite_store: Store, tmp_path: Path) -> None:
    door = Exchange(sqlite_store, tmp_path / "home", SETTINGS.replace('"loopback"', '"none"'))
    assert door.ask(adt("A04", sender="WHO|KNOWS")).get("MSA-1") == "AR"
    assert door.ask(adt("A04")).get("MSA-1") == "AA"


def test_a_peer_with_an_address_can_send_only_from_there(sqlite_store: Store, tmp_path: Path) -> None:
    addressed = SETTINGS.replace('name = "EPIC|GENHOSP"', 'name = "EPIC|GENHOSP"\naddress = "mllp://localhost:9"')
    door = Exchange(sqlite_store, tmp_path / "home", addressed)
    assert door.ask(adt("A04"), host="192.0.2.7").get("MSA-1") == "AR"
    assert door.ask(adt("A04", control="M2"), host="127.0.0.1").get("MSA-1") == "AA"
    assert door.ask(adt("A04", control="M3"), host="::ffff:127.0.0.1").get("MSA-1") == "AA"


def test_a_changed_configuration_holds_from_the_next_message_on(
    door: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert door.ask(adt("A04", sender="LATE|COMER"), host="192.0.2.7").get("MSA-1") == "AR"
    (door.configuration.home / "hilum.toml").write_text(SETTINGS + '[[hl7.peer]]\nname = "LATE|COMER"\n')
    door.configuration._looked_at -= 10
    assert door.ask(adt("A04", sender="LATE|COMER"), host="192.0.2.7").get("MSA-1") == "AA"


# Once and only once


def test_a_message_that_comes_twice_is_applied_once_and_answered_with_the_same_bytes(on_both: Exchange) -> None:
    raw = message("ORM^O01", *NEW_ORDER)
    assert on_both.answers(raw) == on_both.answers(raw)
    assert len(on_both.rows(ORDER)) == 1
    assert on_both.row(JOURNAL).attempts == 1


def test_a_refused_message_is_processed_again_when_it_comes_again(door: Exchange) -> None:
    result = message("ORU^R01", *report(), control="R1")
    assert door.ask(result).get("MSA-1") == "AE"
    ordered(door)
    door.accept(result)
    kept = door.row(JOURNAL, JOURNAL.c.control_id == "R1")
    assert (kept.outcome, kept.attempts) == ("applied", 2)
    assert door.row(LIST, LIST.c.kind == "message-refused").resolved_at is not None


def test_a_control_id_with_other_bytes_is_processed_and_put_on_the_list(door: Exchange) -> None:
    door.accept(adt("A04"))
    door.accept(adt("A04", PID.replace("100", "200")))
    assert len(door.rows(PATIENT)) == 2
    assert [row.kind for row in door.rows(LIST)] == ["control-id-reused"]


def test_the_same_control_id_of_two_senders_is_no_conflict(door: Exchange) -> None:
    door.accept(adt("A04"))
    door.accept(adt("A04", sender="RIS|GENHOSP"))
    assert door.rows(LIST) == []


def test_while_the_database_is_down_nothing_is_accepted(door: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: object) -> None:
        raise Unavailable("The database did not take the change.")

    raw = adt("A04")
    with monkeypatch.context() as broken:
        broken.setattr(door.store, "submit", down)
        assert error_of(door.ask(raw)) == ("AE", "", "207")
    door.accept(raw)


def test_a_verb_that_is_given_up_is_journaled_as_refused(door: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    submit, calls = door.store.submit, []

    def failing_once(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 1:
            raise ZeroDivisionError
        return submit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(door.store, "submit", failing_once)
    assert door.ask(adt("A04")).get("MSA-1") == "AE"
    assert (door.row(JOURNAL).outcome, door.row(JOURNAL).reason) == ("refused", "defect")
    door.accept(adt("A04"))


def test_a_database_that_hangs_is_not_waited_for_for_ever(door: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import Future

    door.door._answer_within = 0.05
    monkeypatch.setattr(door.store, "submit", lambda *_: Future())
    assert door.ask(adt("A04")).get("MSA-1") == "AE"


# Acknowledgement modes


@pytest.mark.parametrize(
    ("conditions", "good", "bad"),
    [
        ("|", ["AA"], ["AE"]),
        ("AL|AL", ["CA", "AA"], ["CA", "AE"]),
        ("AL|NE", ["CA"], ["CA"]),
        ("NE|AL", ["AA"], ["AE"]),
        ("NE|NE", [], []),
        ("ER|ER", [], ["AE"]),
        ("SU|SU", ["CA", "AA"], ["CA"]),
    ],
)
def test_the_sender_gets_the_answers_it_asked_for(
    door: Exchange, conditions: str, good: list[str], bad: list[str]
) -> None:
    accepted = door.answers(adt("A04", conditions=conditions))
    refused = door.answers(adt("A04", "PID|1", conditions=conditions, control="M2"))
    assert [Message(answer).get("MSA-1") for answer in accepted] == good
    assert [Message(answer).get("MSA-1") for answer in refused] == bad
    assert len(door.rows(JOURNAL)) == 2


def test_a_rejection_in_enhanced_mode_says_why(door: Exchange) -> None:
    (answer,) = door.answers(message("BAR^P01", PID, conditions="AL|AL"))
    assert error_of(Message(answer)) == ("CR", "MSH^1^9^^1", "200")


def test_a_deferred_answer_goes_to_the_peers_address(sqlite_store: Store, tmp_path: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    address = f'address = "mllp://127.0.0.1:{listener.getsockname()[1]}"'
    settings = SETTINGS.replace('name = "EPIC|GENHOSP"', f'name = "EPIC|GENHOSP"\n{address}')
    door = Exchange(sqlite_store, tmp_path / "home", settings)

    async def exchange() -> list[str]:
        answers = await door.door.handle(adt("A04", conditions="AL|AL"), PeerInfo("127.0.0.1", 1))
        await door.door.deferred.close()
        return [Message(answer).get("MSA-1") for answer in answers]

    with listener:
        assert asyncio.run(exchange()) == ["CA"]
        connection, _ = listener.accept()
        with connection:
            received = connection.recv(65536)
    assert Message(received.strip(b"\x0b\x1c\r")).get("MSA-1") == "AA"


# Over a socket


def test_messages_over_a_socket_are_answered_in_their_order_and_a_drain_ends_it(door: Exchange) -> None:
    async def exchange() -> bytes:
        host, port = await door.door.start()
        reader, writer = await asyncio.open_connection(host, port)
        big = adt("A08", PID, "NTE|1||" + "x" * 200_000, control="M2")
        writer.write(framed(adt("A04")) + framed(big) + framed(b"nonsense"))
        answers = b""
        while answers.count(b"\x1c\r") < 3:
            answers += await reader.read(65536)
        assert await door.door.drain() == 0
        writer.close()
        return answers

    answers = [Message(part.strip(b"\x0b\r")) for part in asyncio.run(exchange()).split(b"\x1c") if part.strip(b"\r")]
    assert [(answer.get("MSA-1"), answer.get("MSA-2")) for answer in answers] == [
        ("AA", "M1"),
        ("AA", "M2"),
        ("AR", ""),
    ]


def test_a_frame_without_end_is_refused_and_the_door_lives(sqlite_store: Store, tmp_path: Path) -> None:
    settings = SETTINGS.replace("[hl7]", "[hl7]\nmax_frame_bytes = 2048")
    door = Exchange(sqlite_store, tmp_path / "home", settings)

    async def exchange() -> bytes:
        host, port = await door.door.start()
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"\x0b" + adt("A04") + b"x" * 4096)
        answer = await reader.readuntil(b"\x1c\r")
        writer.close()
        await door.door.drain()
        return answer

    answer = Message(asyncio.run(exchange()).strip(b"\x0b\x1c\r"))
    assert (answer.get("MSA-1"), answer.get("MSA-2")) == ("AR", "M1")


# The tables


def test_every_table_is_complete() -> None:
    assert {"A01", "A04", "A08", "A40"} <= set(MESSAGES["ADT"])
    assert set(ORDER_CONTROL) == {"NW", "XO", "CA", "DC"}
    assert set(PRIORITY) >= {"S", "A", "R", "P", "C", "T", "PRN"}
