"""Link 6: what a modality says of its exam by MPPS moves step and order; what it may not say is refused precisely."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dicom_door import SETTINGS, Department, at, department, find, order
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.association import Association

from hilum.core.order import Order
from hilum.storage import tables
from hilum.workflow.scheduling import StepRequest

MPPS = "1.2.840.10008.3.1.2.3.3"
WORKLIST = "1.2.840.10008.5.1.4.31"


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Department]:
    with department(tmp_path) as opened:
        yield opened


@pytest.fixture
def scanner(room: Department) -> Iterator[Association]:
    requestor = AE(ae_title="CT01")
    # Once in a while pynetdicom's reactor takes an answer that its sender waits for.
    requestor.dimse_timeout = 5
    requestor.add_requested_context(MPPS)
    association = requestor.associate("127.0.0.1", room.port, ae_title="HILUM")
    assert association.is_established
    yield association
    association.release()


def reference(placed: Order, step_id: str = "") -> Dataset:
    item = Dataset()
    item.StudyInstanceUID = placed.study_instance_uid
    item.AccessionNumber = placed.accession_number
    item.RequestedProcedureID = placed.requested_procedure_id
    item.RequestedProcedureDescription = "CT Thorax"
    item.ScheduledProcedureStepID = step_id or f"{placed.requested_procedure_id}-1"
    item.ScheduledProcedureStepDescription = ""
    item.ReferencedStudySequence = []
    return item


def beginning(*references: Dataset, **attributes: Any) -> Dataset:
    """The attribute list of an N-CREATE by PS3.4 table F.7.2-1; None removes an attribute."""
    said = Dataset()
    defaults = {
        "SpecificCharacterSet": "ISO_IR 192",
        "PatientName": "Doe^Jane",
        "PatientID": "P1",
        "PatientBirthDate": "19800102",
        "PatientSex": "F",
        "Modality": "CT",
        "PerformedProcedureStepID": "PPS1",
        "PerformedStationAETitle": "CT01",
        "PerformedStationName": "CT ROOM 1",
        "PerformedProcedureStepStartDate": "20260310",
        "PerformedProcedureStepStartTime": "091500",
        "PerformedProcedureStepStatus": "IN PROGRESS",
        "PerformedProcedureStepEndDate": "",
        "PerformedProcedureStepEndTime": "",
        "ScheduledStepAttributesSequence": list(references),
        "PerformedSeriesSequence": [],
    }
    for keyword, value in (defaults | attributes).items():
        if value is not None:
            setattr(said, keyword, value)
    return said


def ending(status: str = "COMPLETED", series_uid: str = "1.2.3.4", **attributes: Any) -> Dataset:
    said = Dataset()
    said.PerformedProcedureStepStatus = status
    said.PerformedProcedureStepEndDate = "20260310"
    said.PerformedProcedureStepEndTime = "093000"
    series = Dataset()
    series.SeriesInstanceUID = series_uid
    series.SeriesDescription = "nativ"
    said.PerformedSeriesSequence = [series]
    for keyword, value in attributes.items():
        setattr(said, keyword, value)
    return said


def code(value: str, meaning: str) -> list[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return [item]


def answered(scanner: Association, said: Dataset) -> Dataset:
    """The command set that answers an N-CREATE, with fields that pynetdicom's own status leaves out."""
    heard: list[Dataset] = []
    scanner.bind(evt.EVT_DIMSE_RECV, lambda event: heard.append(event.message.command_set))
    scanner.send_n_create(said, MPPS, generate_uid())
    return heard[-1]


def create(scanner: Association, said: Dataset, uid: str | None = None) -> tuple[int, str]:
    uid = uid or generate_uid()
    status, _ = scanner.send_n_create(said, MPPS, uid)
    return status.Status, uid


def order_status(room: Department, placed: Order) -> str:
    (row,) = room.rows(tables.imaging_order, tables.imaging_order.c.id == placed.id)
    return str(row.status)


def on_the_worklist(room: Department) -> list[str]:
    keys = Dataset()
    keys.AccessionNumber = ""
    keys.ScheduledProcedureStepSequence = [Dataset()]
    keys.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID = ""
    return [str(match.AccessionNumber) for match in find(room.port, WORKLIST, keys)[0]]


def test_an_exam_from_beginning_to_end_moves_step_and_order(room: Department, scanner: Association) -> None:
    placed = order(room.store, "1")
    status, uid = create(scanner, beginning(reference(placed)))
    assert status == 0x0000
    assert order_status(room, placed) == "in-progress"
    assert on_the_worklist(room) == []
    status_set, _ = scanner.send_n_set(ending(), MPPS, uid)
    assert status_set.Status == 0x0000
    assert order_status(room, placed) == "completed"
    (performed,) = room.rows(tables.performed_step)
    assert (performed.status, performed.station_ae_title, performed.modality) == ("COMPLETED", "CT01", "CT")
    assert performed.series_instance_uids == ["1.2.3.4"]
    # 09:15 in Berlin is 08:15 UTC.
    assert performed.started_at == at(2026, 3, 10, 8, 15)
    assert performed.ended_at == at(2026, 3, 10, 8, 30)
    assert performed.attributes["00400253"]["Value"] == ["PPS1"]
    assert performed.attributes["00400340"]["Value"][0]["0008103E"]["Value"] == ["nativ"]
    events = [
        (row.name, row.standard, row.peer) for row in room.rows(tables.event, tables.event.c.order_id == placed.id)
    ]
    assert ("ExamStarted", "DICOM MPPS N-CREATE", "CT01") in events
    assert ("ExamEnded", "DICOM MPPS N-SET", "CT01") in events


def test_a_uid_that_the_modality_leaves_out_is_given_and_told(room: Department) -> None:
    from dicom_wire import BarePeer, request_for

    from hilum.dicom.dimse.messages import CommandField, CommandSet
    from hilum.dicom.encode import encode

    placed = order(room.store, "1")
    said = {
        "Modality": "CT", "PerformedProcedureStepID": "1", "PerformedStationAETitle": "CT01",
        "PerformedProcedureStepStartDate": "20260310", "PerformedProcedureStepStartTime": "0915",
        "PerformedProcedureStepStatus": "IN PROGRESS",
        "ScheduledStepAttributesSequence": [
            {"StudyInstanceUID": placed.study_instance_uid, "AccessionNumber": placed.accession_number}
        ],
    }  # fmt: skip
    explicit = "1.2.840.10008.1.2.1"
    with BarePeer(room.door.server) as peer:
        peer.associate(request_for((1, MPPS, (explicit,))))
        command = CommandSet(affected_sop_class_uid=MPPS, command_field=CommandField.N_CREATE_RQ, message_id=1)
        peer.send(1, command, encode(said, explicit, ""))
        answer, _ = peer.answer()
    (performed,) = room.rows(tables.performed_step)
    assert answer.status == 0
    assert answer.affected_sop_instance_uid == performed.sop_instance_uid
    assert order_status(room, placed) == "in-progress"


@pytest.mark.parametrize(
    ("keyword", "tag"),
    [
        ("Modality", 0x00080060),
        ("PerformedStationAETitle", 0x00400241),
        ("PerformedProcedureStepStartDate", 0x00400244),
        ("PerformedProcedureStepStartTime", 0x00400245),
        ("PerformedProcedureStepID", 0x00400253),
        ("PerformedProcedureStepStatus", 0x00400252),
        ("ScheduledStepAttributesSequence", 0x00400270),
    ],
)
def test_a_required_attribute_that_is_missing_or_empty_is_named(
    room: Department, scanner: Association, keyword: str, tag: int
) -> None:
    placed = order(room.store, "1")
    empty: Any = [] if keyword.endswith("Sequence") else ""
    for value, expected in ((None, 0x0120), (empty, 0x0121)):
        said = beginning(reference(placed))
        if value is None:
            delattr(said, keyword)
        else:
            setattr(said, keyword, value)
        status = answered(scanner, said)
        assert status.Status == expected
        assert status.AttributeIdentifierList == tag
        assert keyword in status.ErrorComment
    assert room.rows(tables.performed_step) == []
    assert order_status(room, placed) == "scheduled"


def test_a_reference_without_study_is_refused(room: Department, scanner: Association) -> None:
    item = reference(order(room.store, "1"))
    del item.StudyInstanceUID
    status = answered(scanner, beginning(item))
    assert (status.Status, status.AttributeIdentifierList) == (0x0120, 0x0020000D)


@pytest.mark.parametrize(
    ("attributes", "tag"),
    [
        ({"PerformedProcedureStepStatus": "COMPLETED"}, 0x00400252),
        ({"PerformedProcedureStepStatus": "PAUSED"}, 0x00400252),
        ({"PerformedProcedureStepStartDate": "20261399"}, 0x00400244),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_attribute(
    room: Department, scanner: Association, attributes: dict[str, str], tag: int
) -> None:
    status = answered(scanner, beginning(reference(order(room.store, "1")), **attributes))
    assert (status.Status, status.AttributeIdentifierList) == (0x0106, tag)


def test_a_second_creation_of_one_step_is_a_duplicate(room: Department, scanner: Association) -> None:
    placed = order(room.store, "1")
    status, uid = create(scanner, beginning(reference(placed)))
    assert status == 0x0000
    assert create(scanner, beginning(reference(placed)), uid)[0] == 0x0111
    assert len(room.rows(tables.performed_step)) == 1


def test_a_step_that_nobody_created_cannot_be_set(room: Department, scanner: Association) -> None:
    status, _ = scanner.send_n_set(ending(), MPPS, generate_uid())
    assert status.Status == 0x0112


@pytest.mark.parametrize("final", ["COMPLETED", "DISCONTINUED"])
def test_a_step_that_is_over_may_no_longer_be_updated(room: Department, scanner: Association, final: str) -> None:
    placed = order(room.store, "1")
    _, uid = create(scanner, beginning(reference(placed)))
    assert scanner.send_n_set(ending(final), MPPS, uid)[0].Status == 0x0000
    status, _ = scanner.send_n_set(ending(), MPPS, uid)
    assert (status.Status, status.ErrorID) == (0x0110, 0xA506)
    assert [row.status for row in room.rows(tables.performed_step)] == [final]


def test_several_updates_are_laid_over_one_another(room: Department, scanner: Association) -> None:
    _, uid = create(scanner, beginning(reference(order(room.store, "1"))))
    further = Dataset()
    further.CommentsOnThePerformedProcedureStep = "contrast given"
    assert scanner.send_n_set(further, MPPS, uid)[0].Status == 0x0000
    assert scanner.send_n_set(ending(), MPPS, uid)[0].Status == 0x0000
    (performed,) = room.rows(tables.performed_step)
    assert performed.attributes["00400280"]["Value"] == ["contrast given"]
    assert performed.status == "COMPLETED"


def test_the_wrong_worklist_entry_completes_nothing_and_goes_back(room: Department, scanner: Association) -> None:
    placed = order(room.store, "1")
    _, uid = create(scanner, beginning(reference(placed)))
    wrong = ending(
        "DISCONTINUED",
        PerformedProcedureStepDiscontinuationReasonCodeSequence=code("110514", "Incorrect worklist entry selected"),
    )
    assert scanner.send_n_set(wrong, MPPS, uid)[0].Status == 0x0000
    assert order_status(room, placed) == "scheduled"
    assert on_the_worklist(room) == [placed.accession_number]
    assert [row.kind for row in room.rows(tables.exception_item)] == ["wrong-worklist-entry"]


def test_one_completed_step_of_two_completes_no_order(room: Department, scanner: Association) -> None:
    placed = order(room.store, "1", steps=[StepRequest("A", "CT"), StepRequest("B", "CT")])
    _, first = create(scanner, beginning(reference(placed, "A")))
    scanner.send_n_set(ending(), MPPS, first)
    assert order_status(room, placed) == "partial"
    _, second = create(scanner, beginning(reference(placed, "B")))
    scanner.send_n_set(ending(series_uid="1.2.3.5"), MPPS, second)
    assert order_status(room, placed) == "completed"


def test_one_exam_for_two_orders_moves_both(room: Department, scanner: Association) -> None:
    orders = [order(room.store, number) for number in ("1", "2")]
    _, uid = create(scanner, beginning(*map(reference, orders)))
    scanner.send_n_set(ending(), MPPS, uid)
    assert [order_status(room, placed) for placed in orders] == ["completed", "completed"]


def test_an_exam_without_order_is_taken_and_listed(room: Department, scanner: Association) -> None:
    item = Dataset()
    item.StudyInstanceUID = generate_uid()
    assert create(scanner, beginning(item))[0] == 0x0000
    assert [row.kind for row in room.rows(tables.exception_item)] == ["exam-without-order"]


def test_an_exam_of_another_patient_under_an_order_moves_nothing(room: Department, scanner: Association) -> None:
    placed = order(room.store, "1", patient="P1")
    order(room.store, "2", patient="P2", family="Roe", given="Richard")
    assert create(scanner, beginning(reference(placed), PatientID="P2"))[0] == 0x0000
    assert order_status(room, placed) == "scheduled"
    assert [row.kind for row in room.rows(tables.exception_item)] == ["exam-without-order"]


def test_an_offset_in_the_message_goes_before_the_zone(room: Department, scanner: Association) -> None:
    create(scanner, beginning(reference(order(room.store, "1")), TimezoneOffsetFromUTC="-0500"))
    (performed,) = room.rows(tables.performed_step)
    assert performed.started_at == at(2026, 3, 10, 14, 15)


def test_the_zone_of_the_peer_goes_before_the_facilitys(tmp_path: Path) -> None:
    with department(tmp_path, SETTINGS + "[[dicom.peer]]\nae_title = 'CT01'\nzone = 'Asia/Tokyo'\n") as opened:
        requestor = AE(ae_title="CT01")
        requestor.add_requested_context(MPPS)
        association = requestor.associate("127.0.0.1", opened.port, ae_title="HILUM")
        create(association, beginning(reference(order(opened.store, "1"))))
        association.release()
        (performed,) = opened.rows(tables.performed_step)
        assert performed.started_at == at(2026, 3, 10, 0, 15)
