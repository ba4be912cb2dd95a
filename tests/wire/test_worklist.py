"""Link 5: what a modality is shown when it asks for its worklist (IHE RAD TF-2 4.5, PS3.4 K)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from dicom_door import CHEST, SETTINGS, Department, at, department, find, found_by_findscu, order
from pydicom.dataset import Dataset

from fixtures.stores import HL7_PEER
from hilum.core.order import Code, Physician, Priority, StepStatus
from hilum.core.patient import PatientIdentifier
from hilum.storage import tables
from hilum.workflow.ordering import OrderReference, cancel_order
from hilum.workflow.registration import DemographicsSaid, MergePatients, merge_patients
from hilum.workflow.scheduling import StepRequest
from hilum.workflow.source import Source

WORKLIST = "1.2.840.10008.5.1.4.31"
SOURCE = Source("HL7 ORM^O01", "EPIC|GENHOSP")
# 09:15 in Berlin on 10 March 2026.
MORNING = at(2026, 3, 10, 8, 15)
# IHE RAD TF-2 table 4.5-3: what an SCP has to return where it is asked for.
RETURN_KEYS = """
AccessionNumber ReferringPhysicianName PatientName PatientID IssuerOfPatientID PatientBirthDate PatientSex PatientWeight
MedicalAlerts Allergies PregnancyStatus StudyInstanceUID RequestingPhysician RequestedProcedureDescription
RequestedProcedureID RequestedProcedurePriority ReasonForTheRequestedProcedure PatientTransportArrangements
PlacerOrderNumberImagingServiceRequest FillerOrderNumberImagingServiceRequest AdmissionID CurrentPatientLocation
ConfidentialityConstraintOnPatientDataDescription PatientState SpecialNeeds
""".split()
STEP_KEYS = """
Modality ScheduledStationAETitle ScheduledProcedureStepStartDate ScheduledProcedureStepStartTime
ScheduledPerformingPhysicianName ScheduledProcedureStepDescription ScheduledProcedureStepID ScheduledStationName
ScheduledProcedureStepLocation PreMedication RequestedContrastAgent
""".split()


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Department]:
    """Four orders: at a station in the morning, at another at noon, without time or station, and an MR next day."""
    with department(tmp_path_factory.mktemp("ward")) as opened:
        store = opened.store
        performer = Physician("T1", "Röntgen", "Wilhelm", "GENHOSP")
        order(
            store, "morning", patient="P1", family="Müller", given="Jürgen",
            steps=[StepRequest("S1", "CT", "CT01", "CT ROOM 1", "LEVEL 2", MORNING, "CT Thorax nativ",
                               (Code("P1", "L", "Protocol one"),), performer)],
            reason="Husten", visit_number="V77", priority=Priority.URGENT,
        )  # fmt: skip
        order(
            store, "noon", patient="P2", family="Mueller", given="Anna",
            steps=[StepRequest("S2", "CT", "CT02", start_at=at(2026, 3, 10, 11, 30))],
        )  # fmt: skip
        order(store, "walk-in", patient="P3", family="Miller", given="Bob")
        order(
            store, "magnet", patient="P4", family="Yamada", given="Tarou", section="MR",
            procedure=Code("MRBRAIN", "L", "MR Brain"),
            steps=[StepRequest("S4", "MR", "MR01", start_at=at(2026, 3, 11, 9, 0))],
        )  # fmt: skip
        yield opened


def keys(step: dict[str, str] | None = None, **patient: str) -> Dataset:
    """An Identifier with every return key of RAD-5 and these values to match."""
    asked = Dataset()
    for keyword in RETURN_KEYS:
        setattr(asked, keyword, None)
    asked.RequestedProcedureCodeSequence = []
    item = Dataset()
    for keyword in STEP_KEYS:
        setattr(item, keyword, None)
    item.ScheduledProtocolCodeSequence = []
    for keyword, value in (step or {}).items():
        setattr(item, keyword, value)
    for keyword, value in patient.items():
        setattr(asked, keyword, value)
    asked.ScheduledProcedureStepSequence = [item]
    return asked


def names(ward: Department, step: dict[str, str] | None = None, **patient: str) -> set[str]:
    matches, final, _ = find(ward.port, WORKLIST, keys(step, **patient))
    assert final.Status == 0x0000, final
    return {str(match.PatientName).partition("^")[0] for match in matches}


EVERYONE = {"Müller", "Mueller", "Miller", "Yamada"}


def test_empty_keys_match_every_step(ward: Department) -> None:
    assert names(ward) == EVERYONE


@pytest.mark.parametrize(
    ("patient", "expected"),
    [
        ({"PatientName": "Müller^Jürgen"}, {"Müller"}),
        ({"PatientName": "MULLER^JURGEN"}, {"Müller"}),
        ({"PatientName": "Müller"}, {"Müller"}),
        ({"PatientName": "M*ller*"}, {"Müller", "Mueller", "Miller"}),
        ({"PatientName": "M?ller*"}, {"Müller", "Miller"}),
        ({"PatientName": "*^anna"}, {"Mueller"}),
        ({"PatientName": "*"}, EVERYONE),
        ({"PatientName": "Nobody"}, set()),
        ({"PatientName": "100%"}, set()),
        ({"PatientID": "P2"}, {"Mueller"}),
        ({"PatientID": "p2"}, set()),
        ({"PatientID": "P?"}, EVERYONE),
        ({"PatientID": "P2", "IssuerOfPatientID": "GENHOSP"}, {"Mueller"}),
        ({"PatientID": "P2", "IssuerOfPatientID": "ELSEWHERE"}, set()),
        ({"AdmissionID": "V77"}, {"Müller"}),
        ({"PatientBirthDate": "19800102"}, EVERYONE),
        ({"PatientBirthDate": "19810101-"}, set()),
        ({"RequestedProcedurePriority": "HIGH"}, {"Müller"}),
        ({"ReferringPhysicianName": "house*"}, EVERYONE),
        ({"ReasonForTheRequestedProcedure": "HUS*"}, {"Müller"}),
    ],
)  # fmt: skip
def test_patient_and_order_keys_match_single_values_and_wildcards(
    ward: Department, patient: dict[str, str], expected: set[str]
) -> None:
    assert names(ward, **patient) == expected


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ({"Modality": "MR"}, {"Yamada"}),
        ({"Modality": "CT"}, {"Müller", "Mueller", "Miller"}),
        ({"ScheduledStationAETitle": "CT01", "Modality": "CT"}, {"Müller", "Miller"}),
        ({"ScheduledStationAETitle": "MR01", "Modality": "MR"}, {"Yamada"}),
        ({"ScheduledStationAETitle": "CT*", "Modality": "CT"}, {"Müller", "Mueller", "Miller"}),
        ({"ScheduledProcedureStepStartDate": "20260310"}, {"Müller", "Mueller"}),
        ({"ScheduledProcedureStepStartDate": "20260310-20260311"}, {"Müller", "Mueller", "Yamada"}),
        ({"ScheduledProcedureStepStartDate": "20260311-20260401"}, {"Yamada"}),
        ({"ScheduledProcedureStepStartDate": "-20260310"}, {"Müller", "Mueller"}),
        ({"ScheduledProcedureStepStartDate": "20990101-"}, set()),
        # A single time, to the minute as asked; 08:15 UTC is 09:15 in Berlin.
        ({"ScheduledProcedureStepStartDate": "20260310", "ScheduledProcedureStepStartTime": "0915"}, {"Müller"}),
        ({"ScheduledProcedureStepStartDate": "20260310", "ScheduledProcedureStepStartTime": "10-14"}, {"Mueller"}),
        # Date and time are one span: from the 10th at 10:00 to the 11th at 11:00.
        (
            {"ScheduledProcedureStepStartDate": "20260310-20260311", "ScheduledProcedureStepStartTime": "1000-1100"},
            {"Mueller", "Yamada"},
        ),
        # A time without a date is a time of day; a step without time suits it.
        ({"ScheduledProcedureStepStartTime": "0900-0930"}, {"Müller", "Miller"}),
        ({"ScheduledPerformingPhysicianName": "rontgen*"}, {"Müller"}),
        ({"ScheduledProcedureStepID": "S2"}, {"Mueller"}),
        ({"ScheduledProcedureStepDescription": "*NATIV"}, {"Müller"}),
        ({"ScheduledProcedureStepLocation": "LEVEL 2"}, {"Müller"}),
    ],
)  # fmt: skip
def test_keys_of_the_scheduled_step_match_within_its_sequence(
    ward: Department, step: dict[str, str], expected: set[str]
) -> None:
    assert names(ward, step) == expected


def test_a_step_without_time_is_due_today_and_one_without_station_is_shown_as_the_asker(ward: Department) -> None:
    today = datetime.now(ZoneInfo("Europe/Berlin")).date()
    for day, expected in ((today, 1), (today + timedelta(days=1), 0), (today - timedelta(days=1), 0)):
        step = {"ScheduledProcedureStepStartDate": f"{day:%Y%m%d}", "ScheduledStationAETitle": "CT09"}
        asked = keys(step, PatientID="P3")
        matches, _, _ = find(ward.port, WORKLIST, asked, ae="CT07")
        assert len(matches) == expected
        if matches:
            (step,) = matches[0].ScheduledProcedureStepSequence
            assert step.ScheduledStationAETitle == "CT09"
            assert step.ScheduledProcedureStepStartDate == f"{today:%Y%m%d}"
    asked = keys(PatientID="P3")
    matches, _, _ = find(ward.port, WORKLIST, asked, ae="CT07")
    assert matches[0].ScheduledProcedureStepSequence[0].ScheduledStationAETitle == "CT07"


def test_every_return_key_of_rad_5_is_answered_with_what_is_known(ward: Department) -> None:
    (match,), _, pending = find(ward.port, WORKLIST, keys(PatientID="P1"))
    assert pending == [0xFF00]
    assert [keyword for keyword in RETURN_KEYS if keyword not in match] == []
    (placed,) = ward.rows(tables.imaging_order, tables.imaging_order.c.placer_order_number == "morning")
    assert match.AccessionNumber == placed.accession_number
    assert match.StudyInstanceUID == placed.study_instance_uid
    assert match.RequestedProcedureID == placed.requested_procedure_id
    assert match.PlacerOrderNumberImagingServiceRequest == "morning"
    assert match.FillerOrderNumberImagingServiceRequest == placed.filler_order_number
    assert (str(match.PatientName), match.PatientID, match.IssuerOfPatientID) == ("Müller^Jürgen", "P1", "GENHOSP")
    assert (match.PatientBirthDate, match.PatientSex, match.AdmissionID) == ("19800102", "F", "V77")
    assert match.RequestedProcedurePriority == "HIGH"
    assert match.ReasonForTheRequestedProcedure == "Husten"
    assert match.RequestingPhysician == "House^Gregory"
    (code,) = match.RequestedProcedureCodeSequence
    assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == (CHEST.value, "L", CHEST.meaning)
    (step,) = match.ScheduledProcedureStepSequence
    assert [keyword for keyword in STEP_KEYS if keyword not in step] == []
    assert (step.ScheduledProcedureStepStartDate, step.ScheduledProcedureStepStartTime) == ("20260310", "091500")
    assert (step.ScheduledStationAETitle, step.ScheduledStationName) == ("CT01", "CT ROOM 1")
    assert (step.ScheduledProcedureStepID, step.Modality) == ("S1", "CT")
    assert step.ScheduledProtocolCodeSequence[0].CodeValue == "P1"


def test_only_what_was_asked_for_is_answered(ward: Department) -> None:
    asked = Dataset()
    asked.PatientID = "P1"
    asked.ScheduledProcedureStepSequence = [Dataset()]
    asked.ScheduledProcedureStepSequence[0].Modality = ""
    (match,), _, _ = find(ward.port, WORKLIST, asked)
    assert {element.keyword for element in match} == {
        "SpecificCharacterSet", "PatientID", "ScheduledProcedureStepSequence"
    }  # fmt: skip
    assert [element.keyword for element in match.ScheduledProcedureStepSequence[0]] == ["Modality"]


def test_a_sequence_asked_for_without_keys_is_answered_whole(ward: Department) -> None:
    asked = Dataset()
    asked.PatientID = "P1"
    asked.ScheduledProcedureStepSequence = []
    (match,), _, _ = find(ward.port, WORKLIST, asked)
    assert match.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID == "S1"


def test_an_unknown_key_is_passed_over_and_the_answer_says_so(ward: Department) -> None:
    asked = keys(PatientID="P1")
    asked.PatientReligiousPreference = None
    (match,), _, pending = find(ward.port, WORKLIST, asked)
    assert pending == [0xFF01]
    assert "PatientReligiousPreference" not in match


@pytest.mark.parametrize(
    ("step", "offending"),
    [
        ({"ScheduledProcedureStepStartDate": "yesterday"}, 0x00400002),
        ({"ScheduledProcedureStepStartDate": "20260310", "ScheduledProcedureStepStartTime": "99"}, 0x00400003),
    ],
)
def test_a_malformed_key_is_refused_by_name(ward: Department, step: dict[str, str], offending: int) -> None:
    matches, final, _ = find(ward.port, WORKLIST, keys(step))
    assert matches == []
    assert final.Status == 0xA900
    assert final.OffendingElement == offending
    assert final.ErrorComment


def test_findscu_of_dcmtk_gets_exactly_its_step(ward: Department, tmp_path: Path) -> None:
    answers = found_by_findscu(
        ward.port, tmp_path, "-W", "-k", "PatientName", "-k", "AccessionNumber", "-k", "StudyInstanceUID",
        "-k", "(0040,0100)[0].Modality=CT", "-k", "(0040,0100)[0].ScheduledStationAETitle=CT02",
        "-k", "(0040,0100)[0].ScheduledProcedureStepStartDate=20260310",
    )  # fmt: skip
    (answer,) = answers
    (placed,) = ward.rows(tables.imaging_order, tables.imaging_order.c.placer_order_number == "noon")
    assert answer.AccessionNumber == placed.accession_number
    assert answer.StudyInstanceUID == placed.study_instance_uid


def test_the_first_sight_of_a_step_is_recorded_once_per_station(tmp_path: Path) -> None:
    with department(tmp_path) as opened:
        placed = order(opened.store, "1")
        served = (tables.event.c.name == "WorklistServed", tables.event.c.order_id == placed.id)
        for _ in range(3):
            find(opened.port, WORKLIST, keys(), ae="CT01")
        find(opened.port, WORKLIST, keys(), ae="CT02")
        assert [row.peer for row in opened.rows(tables.event, *served)] == ["CT01", "CT02"]
        reads = opened.rows(tables.audit_event, tables.audit_event.c.action == "read-worklist")
        assert {(row.actor, row.door, row.address) for row in reads} >= {("CT01", "dimse", "127.0.0.1")}


def test_a_cancelled_order_leaves_the_worklist(tmp_path: Path) -> None:
    with department(tmp_path) as opened:
        placed = order(opened.store, "1")
        assert names(opened) == {"Doe"}
        opened.store.run(cancel_order, OrderReference("1", "EPIC", placed.filler_order_number, SOURCE), HL7_PEER)
        assert names(opened) == set()


def test_a_step_that_has_started_is_shown_only_where_the_settings_say_so(tmp_path: Path) -> None:
    def start(uow: Any, step_id: str, actor: Any) -> None:
        uow.orders.set_step_status(step_id, StepStatus.STARTED)

    for number, (settings, expected) in enumerate(
        ((SETTINGS, set()), (SETTINGS + "[worklist]\nshow_started = true\n", {"Doe"}))
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        with department(folder, settings) as opened:
            order(opened.store, "1")
            (step,) = opened.rows(tables.scheduled_step)
            opened.store.run(start, step.id, HL7_PEER)
            assert names(opened) == expected


def test_a_merged_patient_is_shown_as_the_survivor_and_found_by_either_identifier(tmp_path: Path) -> None:
    with department(tmp_path) as opened:
        order(opened.store, "1", patient="OLD", family="Doe", given="Unknown")
        order(opened.store, "2", patient="NEW", family="Doe", given="Jane")
        merge = MergePatients(
            (PatientIdentifier("NEW", "GENHOSP"),),
            (PatientIdentifier("OLD", "GENHOSP"),),
            DemographicsSaid(),
            None,
            Source("HL7 ADT^A40", "EPIC|GENHOSP"),
        )
        opened.store.run(merge_patients, merge, HL7_PEER)
        for identifier in ("OLD", "NEW"):
            matches, _, _ = find(opened.port, WORKLIST, keys(PatientID=identifier))
            assert [(match.PatientID, str(match.PatientName)) for match in matches] == [("NEW", "Doe^Jane")] * 2


def test_a_long_worklist_is_answered_in_full(tmp_path: Path) -> None:
    with department(tmp_path) as opened:
        for number in range(230):
            order(opened.store, str(number), patient=f"P{number}", born=date(1970, 1, 1))
        matches, final, _ = find(opened.port, WORKLIST, keys())
        assert final.Status == 0
        assert len({match.AccessionNumber for match in matches}) == 230


def test_a_cancelled_query_ends_early(tmp_path: Path) -> None:
    from pynetdicom import AE

    with department(tmp_path) as opened:
        for number in range(300):
            order(opened.store, str(number), patient=f"P{number}")
        requestor = AE(ae_title="CT01")
        requestor.add_requested_context(WORKLIST)
        association = requestor.associate("127.0.0.1", opened.port, ae_title="HILUM")
        statuses = []
        for status, _ in association.send_c_find(keys(), WORKLIST, msg_id=7):
            if not statuses:
                association.send_c_cancel(7, query_model=WORKLIST)
            statuses.append(status.Status)
        association.release()
        assert statuses[-1] == 0xFE00
        assert len(statuses) < 300
