"""The demo's phantoms look like anatomy in numbers too, are valid DICOM, and its HL7 codec tells the truth."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

from hilum.demo import cast, conductor, mllp
from hilum.demo.bearer import Answer, first_part
from hilum.demo.headers import Exam, ct_series, radiograph
from hilum.demo.phantoms import CT_SLICES, NODULE_CENTRE, chest_ct, chest_radiograph
from hilum.demo.play import Player, Refused
from hilum.demo.programme import BrokenLink, Programme

SEED = 11


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    return chest_ct(SEED, nodule_mm=13.0)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return chest_radiograph(SEED, nodule_mm=13.0)


@pytest.fixture
def exam() -> Exam:
    step = Dataset()
    step.Modality = "CT"
    step.ScheduledProcedureStepID = "SPS1"
    step.ScheduledProcedureStepDescription = "CT Chest"
    item = Dataset()
    item.PatientName, item.PatientID, item.IssuerOfPatientID = "Müller^Zoë", "MR1", "DEMOHOSP"
    item.PatientBirthDate, item.PatientSex = "19610228", "F"
    item.AccessionNumber, item.StudyInstanceUID = "A0001", generate_uid(prefix=None)
    item.RequestedProcedureID, item.RequestedProcedureDescription = "RP1", "CT Chest W contrast IV"
    item.ReferringPhysicianName = "Ito^Ken"
    item.ScheduledProcedureStepSequence = Sequence([step])
    return Exam(item, "P1", datetime(2026, 3, 1, 9, 40), "DEMOCT")


def complaints(image: FileDataset, folder: Path) -> list[str]:
    """What dciodvfy calls an error."""
    path = folder / "image.dcm"
    image.save_as(path, enforce_file_format=True)
    said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False).stderr
    assert said
    return [line for line in said.splitlines() if line.startswith("Error")]


def test_a_chest_ct_has_many_full_slices_within_the_range_of_a_scanner(volume: np.ndarray) -> None:
    assert volume.shape == (CT_SLICES, 512, 512)
    assert CT_SLICES >= 60
    assert volume.min() >= -1024
    assert volume.max() > 600


def test_a_chest_ct_holds_lung_fat_muscle_blood_and_bone_in_the_share_a_chest_has(volume: np.ndarray) -> None:
    body = volume[15:45]
    share = {name: np.mean((body > low) & (body < high)) for name, low, high in (
        ("lung", -930, -750), ("fat", -140, -60), ("soft tissue", 20, 100), ("blood", 130, 200), ("bone", 350, 1500),
    )}  # fmt: skip
    assert 0.08 < share["lung"] < 0.35
    assert 0.03 < share["fat"] < 0.25
    assert 0.04 < share["soft tissue"] < 0.25
    assert 0.01 < share["blood"] < 0.10
    assert 0.004 < share["bone"] < 0.05


def test_neighbouring_slices_of_a_ct_are_alike_and_never_the_same(volume: np.ndarray) -> None:
    for one, two in pairwise(volume):
        assert not np.array_equal(one, two)
        assert np.mean(np.abs(one.astype(np.int32) - two) > 150) < 0.17


def test_the_noise_of_a_ct_is_that_of_a_scanner(volume: np.ndarray) -> None:
    again = chest_ct(SEED, nodule_mm=13.0, noise_seed=1, slices=8)
    middle = np.s_[:8, 200:330, 150:360]
    deviation = float(np.std(volume[middle].astype(np.int32) - again[middle]) / np.sqrt(2))
    assert 6 < deviation < 25


def test_the_same_seeds_give_the_same_ct_and_another_patient_another(volume: np.ndarray) -> None:
    assert np.array_equal(volume[:4], chest_ct(SEED, nodule_mm=13.0, slices=4))
    assert not np.array_equal(volume[3], chest_ct(SEED + 1, nodule_mm=13.0, slices=4)[3])


def test_the_nodule_grows_between_prior_and_current(volume: np.ndarray) -> None:
    prior = chest_ct(SEED, nodule_mm=8.0, slices=27)
    spacing = 380 / 512
    column, row = int(NODULE_CENTRE[0] / spacing + 256), int(NODULE_CENTRE[1] / spacing + 256)
    near = np.s_[18:27, row - 14 : row + 14, column - 14 : column + 14]
    now, then = int((volume[near] > -200).sum()), int((prior[near] > -200).sum())
    assert then > 0
    assert now > then + 200


def test_a_chest_radiograph_shows_dark_lungs_between_a_bright_heart_and_ribs(picture: np.ndarray) -> None:
    assert picture.shape == (1536, 1536)
    assert picture.min() >= 0
    assert picture.max() <= 4095
    right_lung, heart, outside = picture[560:760, 380:560], picture[880:1000, 900:1000], picture[900:1100, 20:60]
    assert heart.mean() > right_lung.mean() + 400
    assert right_lung.mean() > outside.mean() + 100
    assert right_lung.std() > 60, "ribs and vessels cross the lung"


def test_a_ct_image_is_valid_and_carries_the_worklist_item(exam: Exam, volume: np.ndarray, tmp_path: Path) -> None:
    images = list(ct_series(exam, volume[:3], "Chest"))
    image = images[1]
    assert len(image) > 60
    assert image.StudyInstanceUID == exam.item.StudyInstanceUID
    assert (image.AccessionNumber, image.PatientID, str(image.PatientName)) == ("A0001", "MR1", "Müller^Zoë")
    assert image.RequestAttributesSequence[0].ScheduledProcedureStepID == "SPS1"
    assert len({i.SOPInstanceUID for i in images}) == 3
    assert len({i.SeriesInstanceUID for i in images}) == 1
    stored = np.frombuffer(image.PixelData, "<u2").reshape(512, 512)
    assert np.array_equal(stored.astype(int) * image.RescaleSlope + image.RescaleIntercept, volume[1])
    if shutil.which("dciodvfy"):
        assert complaints(image, tmp_path) == []


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_radiograph_is_valid_in_either_polarity(
    exam: Exam, picture: np.ndarray, tmp_path: Path, photometric: str
) -> None:
    image = radiograph(exam, picture, "Chest PA", photometric)
    stored = np.frombuffer(image.PixelData, "<u2").reshape(picture.shape)
    assert image.PhotometricInterpretation == photometric
    assert np.array_equal(4095 - stored if photometric == "MONOCHROME1" else stored, picture)
    if shutil.which("dciodvfy"):
        assert complaints(image, tmp_path) == []


def test_a_message_of_the_demo_brings_back_what_was_put_in_it() -> None:
    person = "O'Leary & Söhne|^~\\"
    text = mllp.message(
        "ADT^A04", "EHR|HOSP", mllp.segment("PID", {3: mllp.composed("1", "", "", "H"), 5: mllp.escape(person)})
    )
    got = mllp.Message(text)
    assert got.get("PID", 5) == person
    assert got.get("PID", 3, 4) == "H"
    assert got.get("MSH", 9, 2) == "A04"
    assert got.get("MSH", 18) == "UNICODE UTF-8"


def test_the_listener_keeps_what_it_acknowledges() -> None:
    listener = mllp.Listener(0)
    try:
        for name in ("Ångström", "Núñez"):
            sent = mllp.message("ORU^R01", "HILUM|RAD", mllp.segment("PID", {5: name}))
            assert mllp.send("127.0.0.1", listener.port, sent, within=5).get("MSA", 1) == "AA"
        assert [got.get("PID", 5) for _, got in listener.messages()] == ["Ångström", "Núñez"]
    finally:
        listener.close()


def test_a_refusal_names_the_code_and_the_reason() -> None:
    server = socket.create_server(("127.0.0.1", 0))

    def refuse(control_id: str) -> None:
        link, _ = server.accept()
        with link:
            link.recv(65536)
            link.sendall(f"\x0bMSH|^~\\&|||||||ACK|1|P|2.5.1\rMSA|AE|{control_id}|no such patient\r\x1c\r".encode())

    sent = mllp.message("ORM^O01", "EHR|HOSP", mllp.segment("PID", {1: "1"}))
    threading.Thread(target=refuse, args=(mllp.Message(sent).get("MSH", 10),), daemon=True).start()
    with pytest.raises(Refused, match="AE: no such patient"):
        mllp.send("127.0.0.1", server.getsockname()[1], sent, within=5)
    server.close()


@pytest.mark.parametrize("name", ["Curie^Marie", "Marie Curie"])
def test_a_radiologist_is_named_either_way(name: str) -> None:
    assert cast.person({"identifier": "R1", "name": name}) == {"identifier": "R1", "family": "Curie", "given": "Marie"}


def test_a_refusal_in_a_link_names_the_broken_link() -> None:
    with pytest.raises(BrokenLink, match=r"^broken link: 4 Schedule: nobody came$"), Programme().link("a", 4, "", ""):
        raise Refused("nobody came")


def test_a_player_answers_from_its_own_process_and_says_why_it_cannot() -> None:
    physician = Player("physician", http="http://127.0.0.1:9", token="t")
    try:
        with pytest.raises(Refused, match=r"^physician: .*leads to another server"):
            physician.ask("see_images", report={"imagingStudy": [{"reference": "http://elsewhere.example/1"}]})
    finally:
        physician.leave()


def test_an_incomplete_cast_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HILUM_DEMO", '{"http": "http://127.0.0.1:9"}')
    assert conductor.main([]) == 2


def test_a_frame_is_taken_whole_out_of_a_multipart_answer() -> None:
    pixels = b"\x00\r\n\r\n--\x01" * 9
    body = b"--B\r\nContent-Type: application/octet-stream\r\n\r\n" + pixels + b"\r\n--B--\r\n"
    assert first_part(Answer(200, 'multipart/related; boundary="B"', body, "")) == pixels


def test_the_demo_imports_nothing_of_the_rest() -> None:
    import hilum.demo

    for path in Path(hilum.demo.__file__).parent.glob("*.py"):
        for line in path.read_text().splitlines():
            if line.startswith(("from hilum", "import hilum")):
                assert line.startswith("from hilum.demo"), f"{path.name}: {line}"
