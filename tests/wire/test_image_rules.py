"""Rules over images: what is dropped is told and audited, what is held waits for a person, what leaves is rewritten."""

from __future__ import annotations

from pathlib import Path

import pytest
from dicom_door import SETTINGS, Department, department, find
from dicom_wire import eventually
from forwarding_house import forwarding, to
from image_peers import asked, destination, keep, read_dataset
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE

from fixtures.dicom_files import ct_image
from fixtures.ports import free_ports
from hilum.core.actor import Actor, ActorKind, Door, Role
from hilum.core.study import ExceptionKind
from hilum.dicom.dimse.query import STUDY_ROOT_FIND
from hilum.dicom.image_rules import check_rules
from hilum.settings import Configuration, SettingsError
from hilum.storage import tables
from hilum.workflow.rejection import ReleaseImages, release_images
from hilum.workflow.source import Source

CT = "1.2.840.10008.5.1.4.1.1.2"
PERSON = Actor("anna", Role.RADIOLOGIST, ActorKind.PERSON, Door.PAGE)


def store(opened: Department, image: Dataset, ae: str = "CT01") -> int:
    """Send an image by C-STORE and return the status."""
    requestor = AE(ae_title=ae)
    requestor.add_requested_context(CT, ExplicitVRLittleEndian)
    association = requestor.associate("127.0.0.1", opened.port, ae_title="HILUM")
    status = association.send_c_store(image)
    association.release()
    return int(status.Status)


def rule(text: str) -> str:
    return f"{SETTINGS}\n[[rule]]\n{text}\n"


@pytest.mark.parametrize(("answer", "status"), [("refuse", 0x0124), ("success", 0x0000)])
def test_a_dropped_image_is_told_or_not_as_set_and_always_audited(tmp_path: Path, answer: str, status: int) -> None:
    condition = "series.description == 'Dose Info' && source.peer == 'CT01'"
    settings = rule(f'on = "receive"\nif = "{condition}"\ndrop = true\nanswer = "{answer}"')
    with department(tmp_path, settings) as opened:
        dropped = ct_image(SeriesDescription="Dose Info")
        assert store(opened, dropped) == status
        assert opened.rows(tables.instance) == []
        assert store(opened, ct_image(SeriesDescription="Lung")) == 0
        assert store(opened, dropped, ae="CT02") == 0
        assert len(opened.rows(tables.instance)) == 2
        (row,) = opened.rows(tables.audit_event, tables.audit_event.c.action == "drop-instance")
    assert (row.actor, row.outcome) == ("CT01", "refused")
    assert row.reason == f"rule[0] {dropped.SOPInstanceUID}"


def test_a_held_image_is_kept_unseen_until_a_person_releases_it(tmp_path: Path) -> None:
    condition = "'BURNED' in header.ImageType || header.BurnedInAnnotation == 'YES'"
    settings = rule(f'on = "receive"\nif = "{condition}"\nhold = true')
    with department(tmp_path, settings) as opened:
        shown = ct_image(StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.1", ImageType=["ORIGINAL", "PRIMARY"])
        held = ct_image(
            StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.2", ImageType=["DERIVED", "BURNED"], InstanceNumber=2
        )
        assert store(opened, shown) == 0
        assert store(opened, held) == 0

        def found() -> set[str]:
            keys = asked("SERIES", StudyInstanceUID="1.2.3", SeriesInstanceUID="")
            return {each.SeriesInstanceUID for each in find(opened.port, STUDY_ROOT_FIND, keys)[0]}

        assert eventually(lambda: found() == {"1.2.3.1"})
        kind = tables.exception_item.c.kind == ExceptionKind.HELD_BY_RULE.value
        (item,) = opened.rows(tables.exception_item, kind)
        assert item.note == held.SOPInstanceUID
        release = ReleaseImages(item.id, "only a scale bar", Source("page", "anna"))
        opened.store.run(release_images, release, PERSON)
        assert found() == {"1.2.3.1", "1.2.3.2"}


def test_what_is_sent_is_rewritten_for_its_destination_and_says_what_it_was(tmp_path: Path) -> None:
    one, other = free_ports(2)
    settings = to("research", "dicom", f"dicom://WS1@127.0.0.1:{one}")
    settings += to("pacs", "dicom", f"dicom://WS1@127.0.0.1:{other}")
    settings += (
        '[[rule]]\non = "send"\nto = ["research"]\nif = "series.modality == \'CT\'"\n'
        'set = {PatientID = "GH-{PatientID}", InstitutionName = "", StudyDescription = "Trial 7"}\n'
        'remove = ["ReferringPhysicianName"]\n'
    )
    with (
        forwarding(tmp_path, settings) as opened,
        destination([CT], port=one) as research,
        destination([CT], port=other) as pacs,
    ):
        keep(opened.hilum, ct_image(StudyInstanceUID="1.2.81", InstitutionName="General", PatientID="77"))
        opened.complete("1.2.81")
        assert eventually(lambda: [state for state, _ in opened.states()] == ["delivered"] * 2)
    (sent,), (untouched,) = ([read_dataset(c, s) for _, s, c in each.instances] for each in (research, pacs))
    assert (sent.PatientID, sent.InstitutionName, sent.StudyDescription) == ("GH-77", "", "Trial 7")
    assert "ReferringPhysicianName" not in sent
    assert sent.OriginalAttributesSequence[0].ModifiedAttributesSequence[0].PatientID == "77"
    assert (untouched.PatientID, untouched.StudyDescription) == ("77", "CT Thorax")
    assert sent.pixel_array.tolist() == untouched.pixel_array.tolist()


def test_an_image_for_which_a_rule_comes_to_no_answer_does_not_leave(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    settings = to("research", "dicom", f"dicom://WS1@127.0.0.1:{port}", more="[destination.give_up]\nAE = 1")
    settings += '[[rule]]\non = "send"\nif = "header.PatientID + 1 > 3"\nremove = ["PatientName"]\n'
    with forwarding(tmp_path, settings) as opened, destination([CT], port=port) as received:
        keep(opened.hilum, ct_image(StudyInstanceUID="1.2.82"))
        opened.complete("1.2.82")
        assert eventually(lambda: opened.states() == [("dead", "not-sendable")])
    assert received.instances == []


@pytest.mark.parametrize(
    "text",
    [
        'on = "receive"\nset = {PatientID = "1"}',
        'on = "receive"\ndrop = true\nhold = true',
        'on = "send"\ndrop = true',
        'on = "send"\nset = {SOPInstanceUID = "1.2"}',
    ],
)
def test_rules_that_make_no_sense_are_refused_when_the_file_is_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "hilum.toml").write_text(rule(text))
    with pytest.raises(SettingsError):
        Configuration(tmp_path)


def test_check_names_rules_that_cannot_work(tmp_path: Path) -> None:
    bad = (
        'on = "send"\nto = ["nowhere"]\nif = "series.modlity == \'CT\'"\nremove = ["PatientName"]\n'
        '[[rule]]\non = "send"\nset = {PatientsName = "x"}'
    )
    (tmp_path / "hilum.toml").write_text(rule(bad))
    found = " ".join(check_rules(Configuration(tmp_path).current))
    assert "perhaps `series.modality`" in found
    assert "nowhere" in found
    assert "PatientsName" in found
