"""A destination hears what can be retrieved: every image of a complete study, its exams and our title, once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from dicom_wire import eventually
from forwarding_house import forwarding, to
from image_peers import destination, every_syntax, keep
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from fixtures.ports import free_ports

IAN = "1.2.840.10008.5.1.4.33"
STUDY = "1.2.78"
IMAGES = every_syntax(STUDY)


@dataclass
class Told:
    notices: list[Dataset] = field(default_factory=list)
    uids: list[str] = field(default_factory=list)


@contextmanager
def listener(port: int, *statuses: int) -> Iterator[Told]:
    """A RIS that takes notifications; `statuses` are its first answers, then success."""
    told, left = Told(), list(statuses)

    def on_create(event: evt.Event) -> tuple[int, Dataset | None]:
        told.notices.append(event.attribute_list)
        told.uids.append(str(event.request.AffectedSOPInstanceUID))
        status = left.pop(0) if left else 0
        return status, event.attribute_list if status == 0 else None

    acceptor = AE(ae_title="RIS")
    acceptor.add_supported_context(IAN)
    server = acceptor.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_CREATE, on_create)])
    try:
        yield told
    finally:
        server.shutdown()


def test_a_complete_study_is_told_with_all_its_images_and_where_they_are(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    settings = to("ris", "dicom", f"dicom://RIS@127.0.0.1:{port}", route='send = "availability"')
    with forwarding(tmp_path, settings) as opened, listener(port) as told:
        keep(opened.hilum, *IMAGES.values())
        opened.complete(STUDY)
        assert eventually(lambda: opened.states() == [("delivered", "")])
    (notice,) = told.notices
    assert notice.StudyInstanceUID == STUDY
    assert list(notice.ReferencedPerformedProcedureStepSequence) == []
    references = [each for series in notice.ReferencedSeriesSequence for each in series.ReferencedSOPSequence]
    assert {(each.ReferencedSOPClassUID, each.ReferencedSOPInstanceUID) for each in references} == {
        (image.SOPClassUID, image.SOPInstanceUID) for image in IMAGES.values()
    }
    assert {(each.InstanceAvailability, each.RetrieveAETitle) for each in references} == {("ONLINE", "HILUM")}


@pytest.mark.parametrize(
    ("answers", "state"), [((0xC000, 0x0111), ("delivered", "")), ((0x0110, 0x0110), ("dead", "status-0110"))]
)
def test_a_repetition_is_the_same_notification_and_a_refusal_is_given_up(
    answers: tuple[int, ...], state: tuple[str, str], tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    more = "[destination.give_up]\nAE = 2"
    settings = to("ris", "dicom", f"dicom://RIS@127.0.0.1:{port}", route='send = "availability"', more=more)
    with forwarding(tmp_path, settings) as opened, listener(port, *answers) as told:
        keep(opened.hilum, next(iter(IMAGES.values())))
        opened.complete(STUDY)
        assert eventually(lambda: opened.states() == [state])
    assert len(told.uids) == 2
    assert len(set(told.uids)) == 1


def test_a_receiver_that_knows_no_notifications_gets_none_and_images_go_there_besides(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    settings = to("pacs", "dicom", f"dicom://WS1@127.0.0.1:{port}", more="[destination.give_up]\nAE = 1")
    settings += '[[route]]\non = "StudyCompleted"\nsend = "availability"\nto = ["pacs"]\n'
    image = IMAGES["explicit"]
    with forwarding(tmp_path, settings) as opened, destination([str(image.SOPClassUID)], port=port) as received:
        keep(opened.hilum, image)
        opened.complete(STUDY)
        assert eventually(lambda: sorted(opened.states()) == [("dead", "no-context"), ("delivered", "")])
    assert len(received.instances) == 1
