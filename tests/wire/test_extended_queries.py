"""What a requestor agrees on beyond contexts changes how it is answered; without that the base standard holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from dicom_door import Department, at, department, order
from image_peers import STUDY_GET, asked, keep
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

from fixtures.dicom_files import ct_image
from hilum.workflow.scheduling import StepRequest

CT = "1.2.840.10008.5.1.4.1.1.2"
WORKLIST = "1.2.840.10008.5.1.4.31"
STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2.1"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Department]:
    """Two studies around midnight in Berlin, and one that says of itself that its times are New York's."""
    with department(tmp_path_factory.mktemp("archive")) as opened:
        days = {"1.2.1": ("20260101", "233000"), "1.2.2": ("20260102", "003000.120"), "1.2.3": ("20260101", "180000")}
        for number, (uid, (day, at)) in enumerate(days.items(), 1):
            keep(
                opened,
                ct_image(
                    StudyInstanceUID=uid,
                    SeriesInstanceUID=f"{uid}.1",
                    SOPInstanceUID=f"{uid}.1.1",
                    StudyDate=day,
                    StudyTime=at,
                    TimezoneOffsetFromUTC="-0500" if number == 3 else None,
                    PatientID=f"P{number}",
                    PatientName=f"Meyer-Schmidt^Anna Maria {number}",
                ),
            )
        yield opened


@contextmanager
def agreed(opened: Department, sop_class: str, information: bytes = b"", **more: Any) -> Iterator[Association]:
    """An association that asks for these abilities of a SOP class."""
    requestor = AE(ae_title="WS1")
    requestor.add_requested_context(sop_class)
    wishes = list(more.pop("wishes", []))
    if information:
        item = SOPClassExtendedNegotiation()
        item.sop_class_uid, item.service_class_application_information = sop_class, information
        wishes.append(item)
    for context in more.pop("contexts", []):
        requestor.add_requested_context(context)
    association = requestor.associate("127.0.0.1", opened.port, ae_title="HILUM", ext_neg=wishes, **more)
    assert association.is_established
    try:
        yield association
    finally:
        association.release()


def find(opened: Department, information: bytes, keys: Dataset) -> tuple[list[Dataset], int]:
    with agreed(opened, STUDY_ROOT, information) as association:
        answers = list(association.send_c_find(keys, STUDY_ROOT))
    return [match for _, match in answers[:-1]], answers[-1][0].Status


def uids(found: tuple[list[Dataset], int]) -> set[str]:
    return {str(match.StudyInstanceUID) for match in found[0]}


def test_the_answer_says_which_abilities_there_are(archive: Department) -> None:
    with agreed(archive, STUDY_ROOT, b"\1\1\1\1\1") as association:
        assert association.acceptor.sop_class_extended == {STUDY_ROOT: b"\1\1\1\1\0"}
    with agreed(archive, STUDY_ROOT, b"\1\0\1") as association:
        assert association.acceptor.sop_class_extended == {STUDY_ROOT: b"\1\0\1"}
    with agreed(archive, STUDY_ROOT) as association:
        assert association.acceptor.sop_class_extended == {}


def test_series_are_found_without_their_study_only_where_relational_queries_were_agreed_on(archive: Department) -> None:
    keys = asked("SERIES", SeriesInstanceUID="1.2.2.1", StudyInstanceUID="", PatientID="")
    matches, status = find(archive, b"\1", keys)
    assert (status, [(match.StudyInstanceUID, match.PatientID) for match in matches]) == (0, [("1.2.2", "P2")])
    assert find(archive, b"\0", keys) == ([], 0xA900)
    assert uids(find(archive, b"\1", asked("IMAGE", SOPInstanceUID="1.2.3.1.1", StudyInstanceUID=""))) == {"1.2.3"}


def test_date_and_time_are_one_span_where_agreed_on(archive: Department) -> None:
    keys = asked(StudyInstanceUID="", StudyDate="20260101-20260102", StudyTime="2200-0100", PatientID="")
    assert uids(find(archive, b"\0\1", keys)) == {"1.2.1", "1.2.2"}
    # Apart, no time of day is after 22:00 and before 01:00.
    assert uids(find(archive, b"", keys)) == set()


def test_names_are_found_by_the_beginnings_of_their_words_where_agreed_on(archive: Department) -> None:
    keys = asked(StudyInstanceUID="", PatientName="maria schmi")
    assert uids(find(archive, b"\0\0\1", keys)) == {"1.2.1", "1.2.2", "1.2.3"}
    assert uids(find(archive, b"", keys)) == set()
    assert uids(find(archive, b"\0\0\1", asked(StudyInstanceUID="", PatientName="maria schulz"))) == set()


def test_times_are_asked_for_and_answered_in_the_zone_of_the_query_where_agreed_on(archive: Department) -> None:
    keys = asked(StudyInstanceUID="", StudyDate="20260101", StudyTime="", TimezoneOffsetFromUTC="+0000")
    matches, _ = find(archive, b"\0\0\0\1", keys)
    # 00:30 in Berlin is 23:30 of the day before in UTC, 18:00 in New York is 23:00.
    told = {str(match.StudyInstanceUID): (match.StudyDate, match.StudyTime) for match in matches}
    assert told == {
        "1.2.1": ("20260101", "223000"), "1.2.2": ("20260101", "233000.120"), "1.2.3": ("20260101", "230000")
    }  # fmt: skip
    assert {match.TimezoneOffsetFromUTC for match in matches} == {"+0000"}
    assert uids(find(archive, b"", keys)) == {"1.2.1", "1.2.3"}
    malformed = asked(StudyInstanceUID="", TimezoneOffsetFromUTC="GMT")
    assert find(archive, b"\0\0\0\1", malformed)[1] == 0xA900


def test_a_worklist_is_asked_for_and_answered_in_the_zone_of_the_query_where_agreed_on(tmp_path: Path) -> None:
    with department(tmp_path) as opened:
        step = StepRequest(start_at=at(2026, 1, 2, 23, 30), station_ae_title="CT01")  # 00:30 of the 3rd in Berlin
        order(opened.store, "1", steps=(step,))
        keys, item = Dataset(), Dataset()
        item.ScheduledProcedureStepStartDate, item.ScheduledProcedureStepStartTime = "20260102", ""
        keys.ScheduledProcedureStepSequence, keys.TimezoneOffsetFromUTC = [item], "+0000"
        found = {}
        for information in (b"\0\1\0\1", b""):
            with agreed(opened, WORKLIST, information) as association:
                matches = [match for _, match in association.send_c_find(keys, WORKLIST)][:-1]
            found[information] = [
                (each.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartTime[:4], each.TimezoneOffsetFromUTC)
                for each in matches
            ]
    assert found == {b"\0\1\0\1": [("2330", "+0000")], b"": []}


def test_a_relational_retrieve_takes_a_series_by_its_own_number(archive: Department) -> None:
    received: list[str] = []

    def on_store(event: evt.Event) -> int:
        received.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    keys = asked("SERIES", SeriesInstanceUID=["1.2.1.1", "1.2.3.1"])
    statuses = []
    for information in (b"\1", b""):
        more = {
            "contexts": [CT],
            "wishes": [build_role(CT, scp_role=True)],
            "evt_handlers": [(evt.EVT_C_STORE, on_store)],
        }
        with agreed(archive, STUDY_GET, information, **more) as association:
            statuses.append([status.Status for status, _ in association.send_c_get(keys, STUDY_GET)][-1])
    assert statuses == [0, 0xA900]
    assert sorted(received) == ["1.2.1.1.1", "1.2.3.1.1"]
    with agreed(archive, STUDY_GET, b"\1", contexts=[CT], wishes=[build_role(CT, scp_role=True)]) as association:
        nothing = list(association.send_c_get(asked("SERIES", SeriesInstanceUID="1.2.404"), STUDY_GET))[-1][0]
    assert (nothing.Status, nothing.NumberOfCompletedSuboperations) == (0, 0)
