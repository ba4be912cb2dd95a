"""Real files go through all doors and come back as they were (scripts/corpus.py); a check that should fail does fail.

A dense choice of pydicom's packaged files in CI, all of them with HILUM_SOAK=full (`make soak`).
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))
import corpus  # noqa: E402
from corpus_doors import Refused  # noqa: E402
from corpus_files import Sample, read_sample, rounds_of  # noqa: E402
from corpus_pixels import shown  # noqa: E402

DATA = Path(pydicom.__file__).parent / "data"
IMAGES, WORDS = DATA / "test_files", DATA / "charset_files"
# Each way of encoding, of colour, of depth, and of writing names; what is no image; what is none at all.
CHOSEN = [
    *(IMAGES / name for name in (
        "CT_small.dcm", "MR_small_jpeg_ls_lossless.dcm", "JPGExtended.dcm", "SC_rgb_rle_16bit_2frame.dcm",
        "image_dfl.dcm", "examples_palette.dcm", "SC_rgb_small_odd.dcm", "GDCMJ2K_TextGBR.dcm",
        "liver_expb_1frame.dcm", "waveform_ecg.dcm", "test-SR.dcm",
    )),
    *(WORDS / name for name in ("chrH31.dcm", "chrKoreanMulti.dcm", "chrX1.dcm")),
]  # fmt: skip
INVALID = [IMAGES / "no_meta.dcm", IMAGES / "priv_SQ.dcm", IMAGES / "rtplan_truncated.dcm"]
MESSAGE = (
    "MSH|^~\\&|EPIC|GENHOSP|HILUM|RAD|20260101120000||ADT^A04|C{}|P|2.5.1||||||UNICODE UTF-8\r"
    "EVN|A04|20260101120000\rPID|1||N1^^^GENHOSP^MR||Żółć^Ąę\\T\\||19800102|F\rPV1|1|O\r"
)


def report(places: list[Path], folder: Path) -> dict[str, dict[str, Any]]:
    command = [sys.executable, "-W", "ignore", str(SCRIPTS / "corpus.py"), *map(str, places)]
    done = subprocess.run(
        [*command, "--json", str(folder / "report.json")], capture_output=True, text=True, check=False, timeout=3600
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return {Path(file["file"]).name: file for file in json.loads((folder / "report.json").read_text())["files"]}


def test_real_files_come_back_as_they_were_through_every_door(tmp_path: Path) -> None:
    message = tmp_path / "a04.hl7"
    message.write_bytes(MESSAGE.format(1).encode())
    found = report([*CHOSEN, *INVALID, message], tmp_path)
    for path in CHOSEN:
        assert found[path.name]["outcome"] == "taken"
        assert {"store", "stow", "wado", "get", "qido", "find"} <= found[path.name]["checks"].keys()
    assert all(found[path.name]["outcome"].startswith("refused") for path in INVALID)
    assert found["image_dfl.dcm"]["checks"]["rendered"].startswith("ok: as")
    assert found["a04.hl7"]["checks"] == {"er7": "ok", "mllp": "ok: AA", "journal": "ok"}


@pytest.mark.soak
@pytest.mark.full
@pytest.mark.timeout(0)
def test_all_packaged_files_come_back_as_they_were(tmp_path: Path) -> None:
    assert len(report([IMAGES, WORDS], tmp_path)) > 100


class Liar:
    """Doors that answer rightly but for one thing."""

    def __init__(self, sample: Sample, lie: str) -> None:
        self.sample, self.lie = sample, lie

    def store(self, sample: Sample) -> None:
        if self.lie == "store":
            raise Refused("C-STORE: A700H")

    def stow(self, sample: Sample) -> None:
        if self.lie == "stow":
            raise Refused("STOW-RS: 409 A700H")

    def instance(self, sample: Sample, syntax: str) -> bytes | None:
        content = sample.part10
        if syntax == "*":
            return content[:-1] + b"\x01" if self.lie == "wado" else content
        other = bytearray(content)
        other[-3000 if self.lie == "pixels" else 0] ^= 1
        return bytes(other) if syntax == corpus.OTHERS["implicit"] else None

    def get(self, sample: Sample) -> bytes:
        return sample.body[2:] if self.lie == "get" else sample.body

    def rendered(self, sample: Sample, frame: int) -> bytes:

        expected = shown(sample.part10, frame)
        assert expected is not None
        out = io.BytesIO()
        Image.fromarray(expected[1] // 2 if self.lie == "rendered" else expected[1]).save(out, "PNG")
        return out.getvalue()

    def qido(self, sample: Sample) -> dict[str, Any]:
        name = {"Alphabetic": "Doe^J" if self.lie == "qido" else str(sample.dataset.PatientName)}
        return {"00100010": {"vr": "PN", "Value": [name]}, "00100020": {"Value": [sample.dataset.PatientID]},
                "00081030": {"Value": [sample.dataset.get("StudyDescription", "")]}}  # fmt: skip

    def find(self, sample: Sample) -> Dataset:
        if self.lie == "find":
            raise Refused("C-FIND finds 0 at level IMAGE")
        return sample.dataset


@pytest.mark.parametrize("lie", ["", *corpus.CHECKS])
def test_each_check_fails_alone_when_its_door_lies(lie: str) -> None:
    sample = read_sample(IMAGES / "CT_small.dcm")
    checked = corpus.check_sample(sample, Liar(sample, lie), stow_first=False)  # type: ignore[arg-type]
    assert [name for name, said in checked.checks.items() if said.startswith("FAILED")] == ([lie] if lie else [])
    assert checked.failed is bool(lie)


def test_a_file_that_lacks_a_uid_must_be_refused_at_both_doors_alike() -> None:
    sample = read_sample(INVALID[0])
    assert sample.invalid.startswith("without")
    checked = corpus.check_sample(sample, Liar(sample, "store"), stow_first=False)  # type: ignore[arg-type]
    assert checked.failed


def test_files_that_contradict_one_another_are_looked_at_in_archives_of_their_own() -> None:
    names = ("MR_small.dcm", "MR_small_RLE.dcm", "CT_small.dcm")
    samples = [read_sample(IMAGES / name) for name in names]
    assert [[s.path.name for s in members] for members in rounds_of(samples)] == [[names[0], names[2]], [names[1]]]
