"""Link 7: C-STORE keeps the bytes as received, says success only then, and refuses with a reason (PS3.4 B.2.3)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from dicom_door import SETTINGS, Completed, Department, dcmtk, department, order
from dicom_wire import BarePeer, request_for
from pydicom.uid import generate_uid
from pynetdicom import AE

from fixtures.dicom_files import CT_IMAGE_STORAGE, PACKAGED, ct_image, dataset_bytes, packaged, part10_bytes
from hilum.archive import part10
from hilum.archive.retrieve import read_instance
from hilum.core.errors import OutOfSpace, Unavailable
from hilum.dicom.dimse.messages import CommandField, CommandSet
from hilum.storage import tables

EXPLICIT = "1.2.840.10008.1.2.1"
MR = "1.2.840.10008.5.1.4.1.1.4"


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Department]:
    with department(tmp_path) as opened:
        yield opened


def send(
    archive: Department, dataset: bytes, sop_class: str, uid: str, syntax: str = EXPLICIT, ae: str = "CT01"
) -> CommandSet:
    """Send a data set exactly as it is."""
    with BarePeer(archive.door.server) as peer:
        peer.associate(request_for((1, sop_class, (syntax,))))
        command = CommandSet(
            affected_sop_class_uid=sop_class,
            command_field=CommandField.C_STORE_RQ,
            message_id=1,
            priority=0,
            affected_sop_instance_uid=uid,
        )
        peer.send(1, command, dataset)
        return peer.answer()[0]


def send_image(archive: Department, image: Any, **announced: str) -> CommandSet:
    sop_class = announced.get("sop_class", CT_IMAGE_STORAGE)
    return send(archive, dataset_bytes(image), sop_class, announced.get("uid", image.get("SOPInstanceUID", "1.2.3")))


def _storable() -> list[str]:
    names = []
    for path in sorted(PACKAGED.glob("*.dcm")):
        if "truncated" in path.name:
            continue
        file = pydicom.dcmread(path, force=True, stop_before_pixels=True)
        syntax = str(getattr(file, "file_meta", {}).get("TransferSyntaxUID", ""))
        uids = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
        if syntax and all(file.get(uid) for uid in uids):
            names.append(path.name)
    return names


STORABLE = _storable()


def test_the_packaged_files_cover_the_transfer_syntaxes() -> None:
    syntaxes = {
        str(pydicom.dcmread(packaged(name), stop_before_pixels=True).file_meta.TransferSyntaxUID) for name in STORABLE
    }
    assert len(STORABLE) > 50
    assert syntaxes >= {
        "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2",
        "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80",
        "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.5",
    }  # fmt: skip


def test_every_packaged_file_is_kept_byte_for_byte(archive: Department) -> None:
    for name in STORABLE:
        content = packaged(name).read_bytes()
        file = part10.split(content)
        header = pydicom.dcmread(packaged(name), stop_before_pixels=True)
        dataset = content[file.dataset_offset :]
        uid = str(header.SOPInstanceUID)
        answer = send(archive, dataset, str(header.SOPClassUID), uid, file.transfer_syntax_uid)
        assert answer.status == 0x0000, (name, answer.error_comment)
        digest = hashlib.sha256(dataset).hexdigest()
        (row,) = archive.rows(tables.instance, tables.instance.c.digest == digest)
        stored = read_instance(archive.blobs, row)
        assert stored.endswith(dataset), name
        assert len(stored) - len(dataset) == part10.split(stored).dataset_offset
        assert (row.sop_instance_uid, row.transfer_syntax_uid) == (uid, file.transfer_syntax_uid)
        assert row.peer == "TESTER"


def test_storescu_of_dcmtk_stores_a_folder(archive: Department, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    study, series = generate_uid(), generate_uid()
    images = [ct_image(StudyInstanceUID=study, SeriesInstanceUID=series, InstanceNumber=n) for n in range(1, 6)]
    for number, image in enumerate(images):
        (folder / f"{number}.dcm").write_bytes(part10_bytes(image))
    done = dcmtk("storescu", archive.port, "+sd", "-R", str(folder))
    assert done.returncode == 0, done.stderr
    rows = archive.rows(tables.instance)
    assert {row.sop_instance_uid for row in rows} == {image.SOPInstanceUID for image in images}
    (found,) = archive.rows(tables.study)
    assert (found.study_instance_uid, found.series_count, found.instance_count) == (study, 1, 5)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("MR_small_RLE.dcm", "-xr"), ("JPEG2000.dcm", "-xw"), ("MR_small_jp2klossless.dcm", "-xv"),
        ("MR_small_jpeg_ls_lossless.dcm", "-xt"), ("SC_rgb_jpeg_gdcm.dcm", "-xs"), ("MR_small_bigendian.dcm", "-xb"),
        ("image_dfl.dcm", "-xd"),
    ],
)  # fmt: skip
def test_storescu_sends_compressed_images_as_they_are(archive: Department, name: str, option: str) -> None:
    done = dcmtk("storescu", archive.port, option, str(packaged(name)))
    assert done.returncode == 0, done.stderr
    (row,) = archive.rows(tables.instance)
    assert row.transfer_syntax_uid == str(pydicom.dcmread(packaged(name)).file_meta.TransferSyntaxUID)
    stored = pydicom.dcmread(pydicom.filebase.DicomBytesIO(read_instance(archive.blobs, row)))
    assert stored.PixelData == pydicom.dcmread(packaged(name)).PixelData


def test_stored_images_are_matched_to_their_order(archive: Department) -> None:
    placed = order(archive.store, "1")
    image = ct_image(AccessionNumber=placed.accession_number, StudyInstanceUID=placed.study_instance_uid)
    assert send_image(archive, image).status == 0
    (study,) = archive.rows(tables.study)
    assert (study.order_id, study.match_state) == (placed.id, "verified")
    (moved,) = archive.rows(tables.imaging_order)
    assert moved.status == "in-progress"


def test_the_same_instance_again_is_a_success_and_stored_once(archive: Department) -> None:
    image = ct_image()
    assert [send_image(archive, image).status for _ in range(3)] == [0, 0, 0]
    assert len(archive.rows(tables.instance)) == 1


@pytest.mark.parametrize(
    ("keyword", "tag"),
    [
        ("SOPClassUID", 0x00080016),
        ("SOPInstanceUID", 0x00080018),
        ("StudyInstanceUID", 0x0020000D),
        ("SeriesInstanceUID", 0x0020000E),
    ],
)
def test_an_instance_without_one_of_its_uids_cannot_be_understood(archive: Department, keyword: str, tag: int) -> None:
    answer = send_image(archive, ct_image(**{keyword: None}))
    assert (answer.status, answer.offending_element) == (0xC000, (tag,))
    assert answer.error_comment == f"{keyword} is missing."
    assert archive.rows(tables.instance) == []


def test_a_data_set_that_is_cut_cannot_be_understood(archive: Department) -> None:
    dataset = dataset_bytes(ct_image())
    for cut in (dataset[:-7], dataset[:300], b"\x08"):
        answer = send(archive, cut, CT_IMAGE_STORAGE, "1.2.3")
        assert answer.status == 0xC000
        assert answer.error_comment


def test_an_element_that_claims_three_gigabytes_cannot_be_understood(archive: Department) -> None:
    head = bytes.fromhex("0800 0500 4c4f 0000").replace(b"LO", b"UT") + (3 << 30).to_bytes(4, "little")
    answer = send(archive, head + bytes(100_000), CT_IMAGE_STORAGE, "1.2.3")
    assert (answer.status, answer.offending_element) == (0xC000, (0x00080005,))


def test_an_instance_that_is_not_what_the_command_says_is_a_mismatch(archive: Department) -> None:
    image = ct_image()
    answer = send_image(archive, image, sop_class=MR)
    assert (answer.status, answer.offending_element) == (0xA900, (0x00080016,))
    answer = send_image(archive, image, uid="1.2.3.4.5")
    assert (answer.status, answer.offending_element) == (0xA900, (0x00080018,))
    assert archive.rows(tables.instance) == []


@pytest.mark.parametrize("refusal", [OutOfSpace(), Unavailable()])
def test_without_room_or_database_the_sender_is_told_to_come_back(
    archive: Department, monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    def refuse(*_: object) -> None:
        raise refusal

    image = ct_image()
    with monkeypatch.context() as broken:
        broken.setattr(archive.door._ingest._landing, "append", refuse)
        assert send_image(archive, image).status == 0xA700
    assert archive.rows(tables.instance) == []
    assert send_image(archive, image).status == 0


def test_an_instance_larger_than_the_setting_is_refused_and_the_association_lives(tmp_path: Path) -> None:
    with department(tmp_path, SETTINGS.replace("[facility]", "max_instance_bytes = 1048576\n[facility]")) as opened:
        large = ct_image(Rows=1024, Columns=1024, PixelData=bytes(2 << 20))
        requestor = AE(ae_title="CT01")
        requestor.add_requested_context(CT_IMAGE_STORAGE, EXPLICIT)
        association = requestor.associate("127.0.0.1", opened.port, ae_title="HILUM")
        assert association.send_c_store(large).Status == 0xA700
        assert association.send_c_store(ct_image()).Status == 0x0000
        association.release()


def test_a_large_instance_is_kept_byte_for_byte_by_way_of_the_disk(
    archive: Department, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    server = archive.door.server
    monkeypatch.setattr(server, "_limits", replace(server._limits, spill_above=1 << 20))
    image = ct_image(Rows=2048, Columns=1024, PixelData=bytes(range(256)) * (16 << 10))
    dataset = dataset_bytes(image)
    assert send(archive, dataset, CT_IMAGE_STORAGE, image.SOPInstanceUID).status == 0
    (row,) = archive.rows(tables.instance)
    assert read_instance(archive.blobs, row).endswith(dataset)


# Who may come in ----------------------------------------------------------------------------------------------------


def echo(port: int, **titles: str) -> Completed:
    return dcmtk("echoscu", port, "-v", **titles)


def test_an_unknown_caller_is_rejected_where_the_setting_says_none(tmp_path: Path) -> None:
    with department(tmp_path, SETTINGS.replace('"loopback"', '"none"')) as opened:
        refused = echo(opened.port, ae="STRANGER")
        assert refused.returncode != 0
        assert "Calling AE Title Not Recognized" in refused.stderr
        done = dcmtk("storescu", opened.port, str(packaged("CT_small.dcm")), ae="STRANGER")
        assert done.returncode != 0
        assert opened.rows(tables.instance) == []


def test_a_peer_is_accepted_from_its_own_host_only(tmp_path: Path) -> None:
    peers = """
[[dicom.peer]]
ae_title = "CT01"
address = "127.0.0.1:104"
[[dicom.peer]]
ae_title = "CT02"
address = "127.9.9.9:104"
"""
    with department(tmp_path, SETTINGS + peers) as opened:
        assert echo(opened.port, ae="CT01").returncode == 0
        assert "Calling AE Title Not Recognized" in echo(opened.port, ae="CT02").stderr


def test_another_called_title_is_rejected_unless_the_setting_lets_it_in(tmp_path: Path) -> None:
    with department(tmp_path) as opened:
        assert "Called AE Title Not Recognized" in echo(opened.port, called="OTHER").stderr
        changed = SETTINGS.replace("[facility]", "check_called_ae = false\n[facility]")
        (tmp_path / "hilum.toml").write_text(changed, encoding="utf-8")
        from dicom_wire import eventually

        assert eventually(lambda: echo(opened.port, called="OTHER").returncode == 0)


def test_the_issuer_of_the_peer_is_that_of_patient_ids_without_one(tmp_path: Path) -> None:
    peer = "[[dicom.peer]]\nae_title = 'CT05'\nissuer = 'CLINIC'\n"
    with department(tmp_path, SETTINGS + peer) as opened:
        image = tmp_path / "image.dcm"
        for title in ("CT05", "CT06"):
            image.write_bytes(part10_bytes(ct_image()))
            assert dcmtk("storescu", opened.port, str(image), ae=title).returncode == 0
        assert [row.patient_authority for row in opened.rows(tables.study)] == ["CLINIC", "GENHOSP"]


def test_what_was_stored_is_audited_with_its_sender(archive: Department) -> None:
    send_image(archive, ct_image())
    (row,) = archive.rows(tables.audit_event, tables.audit_event.c.action == "store-images")
    assert (row.actor, row.door, row.address, row.outcome) == ("TESTER", "dimse", "127.0.0.1", "allowed")
    assert row.study_id == archive.rows(tables.study)[0].id


def test_requests_and_associations_are_counted_by_outcome(archive: Department) -> None:
    from prometheus_client import generate_latest

    from hilum.telemetry import metrics

    send_image(archive, ct_image())
    send_image(archive, ct_image(SOPInstanceUID=None))
    # Of this process alone: other tests may have turned on the files that processes share.
    page = generate_latest(metrics._own_registry()).decode()
    assert 'hilum_messages_total{door="dimse",outcome="success",type="storage/C-STORE"}' in page
    assert 'hilum_messages_total{door="dimse",outcome="missing",type="storage/C-STORE"}' in page
    assert 'hilum_instances_total{door="dimse",outcome="stored"}' in page
    assert "\nhilum_associations " in page
