"""C-GET brings images on the association that asks: as stored where they are taken, else uncompressed, else counted."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_door import Department, department, order
from image_peers import (
    LITTLE,
    MODALITY,
    PATIENT_GET,
    STUDY_GET,
    SYNTAXES,
    asked,
    counts,
    every_syntax,
    keep,
    read_dataset,
    stored_bytes,
    unreadable,
)
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import AE, build_role, evt

from fixtures.dicom_files import CT_IMAGE_STORAGE, ct_image, part10_bytes
from hilum.core.actor import Actor, ActorKind, Door, Role
from hilum.core.errors import Forbidden
from hilum.dicom.dimse.retrieve_keys import Selection, Wanted, opening
from hilum.security.audit import ReadLog
from hilum.storage import tables
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.source import Source

STUDY = "1.2.70"
WITHHELD, BESIDE = "1.2.71", "1.2.72"


@pytest.fixture(scope="module")
def images() -> dict[str, Any]:
    return every_syntax(STUDY)


def withhold(uow: UnitOfWork, study_instance_uid: str, actor: Actor) -> None:
    these = tables.study.c.study_instance_uid == study_instance_uid
    uow.connection.execute(tables.study.update().where(these).values(match_state="withheld"))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, images: dict[str, Any]) -> Iterator[Department]:
    with department(tmp_path_factory.mktemp("archive")) as opened:
        keep(opened, *images.values(), unreadable(STUDY))
        keep(opened, ct_image(StudyInstanceUID=WITHHELD, SOPInstanceUID=f"{WITHHELD}.1", PatientID="P7"))
        first = ct_image(StudyInstanceUID=BESIDE, SeriesInstanceUID=f"{BESIDE}.1", SOPInstanceUID=f"{BESIDE}.1.1")
        keep(opened, first)
        first.PixelData = bytes(len(first.PixelData))
        keep(opened, first)
        opened.store.run(withhold, WITHHELD, MODALITY)
        yield opened


Got = list[tuple[str, str, bytes]]


def get(
    port: int,
    keys: Dataset,
    *,
    model: str = STUDY_GET,
    wishes: Sequence[tuple[str, Sequence[str]]] = (),
    statuses: Sequence[int] = (),
    cancel_after: int = 0,
    role: bool = True,
) -> tuple[Got, list[Dataset], Dataset, Dataset | None]:
    """Get with pynetdicom: what came, the pending responses, the final one and its Identifier."""
    got: Got = []
    requestor = AE(ae_title="CT01")
    requestor.add_requested_context(model)
    sop_classes = {sop_class for sop_class, _ in wishes}
    for sop_class, syntaxes in wishes:
        for syntax in syntaxes:
            requestor.add_requested_context(sop_class, syntax)
    roles = [build_role(sop_class, scp_role=True) for sop_class in sop_classes] if role else []

    def on_store(event: evt.Event) -> int:
        request = event.request
        got.append(
            (str(request.AffectedSOPInstanceUID), str(event.context.transfer_syntax), request.DataSet.getvalue())
        )
        if cancel_after == len(got):
            event.assoc.send_c_cancel(1, None, model)
        return statuses[len(got) - 1] if len(got) <= len(statuses) else 0

    association = requestor.associate(
        "127.0.0.1", port, ae_title="HILUM", ext_neg=roles, evt_handlers=[(evt.EVT_C_STORE, on_store)]
    )
    assert association.is_established
    pending: list[Dataset] = []
    final, identifier = Dataset(), None
    for status, answer in association.send_c_get(keys, model):
        if status.Status == 0xFF00:
            pending.append(status)
        else:
            final, identifier = status, answer
    association.release()
    return got, pending, final, identifier


def classes_of(images: dict[str, Any]) -> set[str]:
    return {str(image.SOPClassUID) for image in images.values()}


def test_images_come_byte_for_byte_in_the_syntax_they_were_stored_in(
    archive: Department, images: dict[str, Any]
) -> None:
    wishes = [(str(image.SOPClassUID), [str(image.file_meta.TransferSyntaxUID)]) for image in images.values()]
    got, pending, final, _ = get(archive.port, asked(StudyInstanceUID=STUDY, SeriesInstanceUID=f"{STUDY}.1",
                                                     level="SERIES"), wishes=wishes)  # fmt: skip
    assert final.Status == 0
    assert counts(final) == (len(images), 0, 0, None)
    assert [counts(each) for each in pending] == [
        (done, 0, 0, len(images) - done) for done in range(1, len(images) + 1)
    ]
    expected = {
        str(image.SOPInstanceUID): (str(image.file_meta.TransferSyntaxUID), stored_bytes(part10_bytes(image)))
        for image in images.values()
    }
    assert {uid: (syntax, content) for uid, syntax, content in got} == expected


@pytest.mark.parametrize("syntax", LITTLE)
def test_a_peer_that_reads_one_uncompressed_syntax_gets_the_same_pixels_in_it(
    archive: Department, images: dict[str, Any], syntax: str
) -> None:
    wishes = [(sop_class, [syntax]) for sop_class in classes_of(images)]
    got, _, final, _ = get(
        archive.port, asked("SERIES", StudyInstanceUID=STUDY, SeriesInstanceUID=f"{STUDY}.1"), wishes=wishes
    )
    assert (final.Status, counts(final)) == (0, (len(SYNTAXES), 0, 0, None))
    by_uid = {uid: (content, used) for uid, used, content in got}
    for name, image in images.items():
        content, used = by_uid[str(image.SOPInstanceUID)]
        assert used == syntax
        read = read_dataset(content, syntax)
        assert np.array_equal(read.pixel_array, image.pixel_array), name
        assert (read.PatientID, read.PatientName) == ("P1", "Doe^Jane")


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless, RLELossless, HTJ2KLossless])
def test_a_peer_that_reads_one_compressed_syntax_gets_the_same_pixels_in_it(
    archive: Department, images: dict[str, Any], syntax: str
) -> None:
    wishes = [(sop_class, [syntax]) for sop_class in classes_of(images)]
    got, _, final, _ = get(
        archive.port, asked("SERIES", StudyInstanceUID=STUDY, SeriesInstanceUID=f"{STUDY}.1"), wishes=wishes
    )
    assert (final.Status, counts(final)) == (0, (len(SYNTAXES), 0, 0, None))
    by_uid = {uid: (content, used) for uid, used, content in got}
    for name, image in images.items():
        content, used = by_uid[str(image.SOPInstanceUID)]
        assert used == syntax
        assert np.array_equal(read_dataset(content, syntax).pixel_array, image.pixel_array), name


def test_what_can_be_sent_in_no_accepted_syntax_counts_as_failed_and_is_listed(
    archive: Department, images: dict[str, Any]
) -> None:
    wishes = [(sop_class, [ImplicitVRLittleEndian]) for sop_class in classes_of(images)]
    got, pending, final, identifier = get(archive.port, asked(StudyInstanceUID=STUDY), wishes=wishes)
    assert final.Status == 0xB000
    assert counts(final) == (len(images), 1, 0, None)
    assert identifier is not None
    assert identifier.FailedSOPInstanceUIDList == f"{STUDY}.9.1"
    assert len(got) == len(images)
    assert len(pending) == len(images) + 1


def test_when_every_image_fails_the_operation_fails(archive: Department) -> None:
    keys = asked("IMAGE", StudyInstanceUID=STUDY, SeriesInstanceUID=f"{STUDY}.9", SOPInstanceUID=f"{STUDY}.9.1")
    got, _, final, identifier = get(archive.port, keys, wishes=[(CT_IMAGE_STORAGE, [ExplicitVRLittleEndian])])
    assert (got, final.Status, counts(final)) == ([], 0xA702, (0, 1, 0, None))
    assert identifier is not None
    assert identifier.FailedSOPInstanceUIDList == f"{STUDY}.9.1"


def test_without_the_role_of_an_scp_nothing_is_sent(archive: Department) -> None:
    keys = asked("IMAGE", StudyInstanceUID=BESIDE, SeriesInstanceUID=f"{BESIDE}.1", SOPInstanceUID=f"{BESIDE}.1.1")
    got, _, final, _ = get(archive.port, keys, wishes=[(CT_IMAGE_STORAGE, LITTLE)], role=False)
    assert (got, final.Status) == ([], 0xA702)


def test_what_the_peer_warns_of_or_refuses_is_counted_as_such(archive: Department, images: dict[str, Any]) -> None:
    wishes = [(sop_class, LITTLE) for sop_class in classes_of(images)]
    keys = asked("SERIES", StudyInstanceUID=STUDY, SeriesInstanceUID=f"{STUDY}.1")
    got, _, final, identifier = get(archive.port, keys, wishes=wishes, statuses=[0xB000, 0xA700, 0x0000])
    assert final.Status == 0xB000
    assert counts(final) == (len(images) - 2, 1, 1, None)
    assert identifier is not None
    assert identifier.FailedSOPInstanceUIDList == got[1][0]


def test_a_cancelled_get_ends_at_once_and_says_what_remains(archive: Department, images: dict[str, Any]) -> None:
    wishes = [(sop_class, LITTLE) for sop_class in classes_of(images)]
    keys = asked("SERIES", StudyInstanceUID=STUDY, SeriesInstanceUID=f"{STUDY}.1")
    got, _, final, _ = get(archive.port, keys, wishes=wishes, cancel_after=2)
    assert final.Status == 0xFE00
    completed, failed, _, remaining = counts(final)
    assert completed == len(got)
    assert 2 <= len(got) < len(images)
    assert (failed, remaining) == (0, len(images) - len(got))


@pytest.mark.parametrize(
    ("model", "keys", "expected"),
    [
        (PATIENT_GET, asked("PATIENT", PatientID="P1"), len(SYNTAXES) + 2),
        (PATIENT_GET, asked("STUDY", PatientID="P1", StudyInstanceUID=STUDY), len(SYNTAXES) + 1),
        (PATIENT_GET, asked("STUDY", PatientID="SOMEONE", StudyInstanceUID=STUDY), 0),
        (STUDY_GET, asked("STUDY", StudyInstanceUID=[STUDY, "1.2.3.4.5"]), len(SYNTAXES) + 1),
        (STUDY_GET, asked("SERIES", StudyInstanceUID=STUDY, SeriesInstanceUID=[f"{STUDY}.1", f"{STUDY}.9"]),
         len(SYNTAXES) + 1),
        (STUDY_GET, asked("IMAGE", StudyInstanceUID=STUDY, SeriesInstanceUID=f"{STUDY}.1",
                          SOPInstanceUID=[f"{STUDY}.1.1", f"{STUDY}.1.3", "1.9"]), 2),
        (STUDY_GET, asked("STUDY", StudyInstanceUID="9.9.9"), 0),
        (STUDY_GET, asked("STUDY", StudyInstanceUID=WITHHELD), 0),
        (PATIENT_GET, asked("PATIENT", PatientID="P7"), 0),
        (STUDY_GET, asked("STUDY", StudyInstanceUID=BESIDE), 1),
    ],
)  # fmt: skip
def test_each_level_of_both_models_selects_what_it_names(
    archive: Department, images: dict[str, Any], model: str, keys: Dataset, expected: int
) -> None:
    wishes = [(sop_class, [*LITTLE, "1.2.840.10008.1.2.4.100"]) for sop_class in classes_of(images)]
    got, _, final, _ = get(archive.port, keys, model=model, wishes=wishes)
    assert (final.Status, len(got)) == (0, expected)


def test_what_is_kept_beside_is_never_sent_as_the_image(archive: Department) -> None:
    got, _, _, _ = get(archive.port, asked(StudyInstanceUID=BESIDE), wishes=[(CT_IMAGE_STORAGE, LITTLE)])
    ((_, syntax, content),) = got
    assert any(read_dataset(content, syntax).PixelData)


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        (STUDY_GET, asked("PATIENT", PatientID="P1")),
        (PATIENT_GET, asked("PATIENT")),
        (PATIENT_GET, asked("PATIENT", PatientID="P*")),
        (STUDY_GET, asked("STUDY")),
        (STUDY_GET, asked("SERIES", SeriesInstanceUID="1.2")),
        (STUDY_GET, asked("FRAME", StudyInstanceUID=STUDY)),
        (STUDY_GET, asked("SERIES", StudyInstanceUID=[STUDY, WITHHELD], SeriesInstanceUID="1.2")),
    ],
)
def test_an_identifier_that_does_not_fit_the_model_is_refused(archive: Department, model: str, keys: Dataset) -> None:
    got, _, final, _ = get(archive.port, keys, model=model, wishes=[(CT_IMAGE_STORAGE, LITTLE)])
    assert (got, final.Status) == ([], 0xA900)


def test_a_get_is_audited_before_its_images_leave(archive: Department) -> None:
    get(archive.port, asked(StudyInstanceUID=BESIDE), wishes=[(CT_IMAGE_STORAGE, LITTLE)])
    (study,) = archive.rows(tables.study, tables.study.c.study_instance_uid == BESIDE)
    audited = archive.rows(tables.audit_event, tables.audit_event.c.study_id == study.id)
    assert [(row.action, row.actor, row.door) for row in audited if row.action == "read-images"] == [
        ("read-images", "CT01", "dimse")
    ]


def test_dcmtk_getscu_writes_the_study_to_its_folder(
    archive: Department, images: dict[str, Any], tmp_path: Path
) -> None:
    command = ["/usr/bin/getscu", "-S", "-aet", "CT01", "-aec", "HILUM", "-od", str(tmp_path)]
    keys = ["-k", "QueryRetrieveLevel=SERIES", "-k", f"StudyInstanceUID={STUDY}", "-k", f"SeriesInstanceUID={STUDY}.1"]
    done = subprocess.run([*command, "127.0.0.1", str(archive.port), *keys], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    written = {str(read.SOPInstanceUID): read for read in map(pydicom.dcmread, tmp_path.iterdir())}
    assert set(written) == {str(image.SOPInstanceUID) for image in images.values()}
    for image in images.values():
        assert np.array_equal(written[str(image.SOPInstanceUID)].pixel_array, image.pixel_array)


def test_a_study_out_of_sight_is_as_if_it_were_not_there_but_the_attempt_is_kept(tmp_path: Path) -> None:
    with department(tmp_path) as opened:
        placed = order(opened.store, "1", patient="P1")
        uid = placed.study_instance_uid
        keep(opened, ct_image(StudyInstanceUID=uid, PatientID="P1", AccessionNumber=placed.accession_number))
        reads = ReadLog(opened.store)
        selection = Selection(opened.store, reads)
        stranger = Actor("dr.stranger", Role.REFERRING_PHYSICIAN, ActorKind.PERSON, Door.DIMSE)
        auditor = Actor("auditor", Role.AUDITOR, ActorKind.PERSON, Door.DIMSE)

        def selected(actor: Actor, wanted: Wanted) -> int:
            return len(selection.instances(wanted, actor, opening(reads, actor, Source("DICOM C-GET", "WS1"))))

        for wanted in (Wanted(studies=(uid,)), Wanted(patient_id="P1")):
            assert selected(MODALITY, wanted) == 1
            assert selected(stranger, wanted) == 0
            with pytest.raises(Forbidden):
                selected(auditor, wanted)
        assert selected(stranger, Wanted(studies=("1.2.3",))) == 0
        audited = opened.rows(tables.audit_event, tables.audit_event.c.actor == "dr.stranger")
        (study,) = opened.rows(tables.study)
        assert [(row.outcome, row.study_id) for row in audited] == [("refused", study.id)]
        audited = opened.rows(tables.audit_event, tables.audit_event.c.actor == "auditor")
        assert [row.outcome for row in audited] == ["refused", "refused"]
