"""Runs any folder of DICOM and HL7 files through the doors of a Hilum on a temporary home, and tells of each file.

`python scripts/corpus.py FOLDER… [--json FILE]` (`make corpus DIR=…`) exits 1 if a check failed. Every valid file goes
in by C-STORE and by STOW-RS, comes back byte for byte by WADO-RS and C-GET in its own transfer syntax, decodes to the
same pixels in every other syntax that is offered, is rendered as DCMTK renders it, and is found by QIDO-RS and C-FIND
with its patient in Unicode. An invalid one is refused with a reason. An HL7 message keeps every byte.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from corpus_doors import Doors, Refused, body_of, running
from corpus_files import DIRECTORY, Sample, read_folder, rounds_of
from corpus_pixels import LOSSY, decoded, difference, frames_of, has_pixels, is_close, is_whole, shown

# What WADO-RS is asked for besides the instance's own syntax; what is not offered is passed over.
OTHERS = {
    "explicit": "1.2.840.10008.1.2.1",
    "implicit": "1.2.840.10008.1.2",
    "rle": "1.2.840.10008.1.2.5",
    "jpeg-lossless": "1.2.840.10008.1.2.4.70",
    "jpeg-ls": "1.2.840.10008.1.2.4.80",
    "jpeg-2000": "1.2.840.10008.1.2.4.90",
    "htj2k": "1.2.840.10008.1.2.4.201",
    "htj2k-rpcl": "1.2.840.10008.1.2.4.202",
}
CHECKS = ("store", "stow", "wado", "get", "pixels", "rendered", "qido", "find")


@dataclass
class Checked:
    """A file and what became of it: of each check "ok", "ok: …", "-" (does not apply) or "FAILED: …"."""

    file: str
    kind: str
    outcome: str = ""
    checks: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether anything is not as it should be."""
        return self.outcome.startswith("FAILED") or any(said.startswith("FAILED") for said in self.checks.values())

    def run(self, name: str, check: Callable[[], str]) -> bool:
        """Note what a check says; tell whether it is well."""
        try:
            self.checks[name] = check() or "ok"
        except (Refused, AssertionError) as error:
            self.checks[name] = f"FAILED: {error}"
        except Exception as error:  # noqa: BLE001 one file's surprise is told, and the others are still looked at
            self.checks[name] = f"FAILED: {type(error).__name__}: {error}"
        return not self.checks[name].startswith("FAILED")


def check_sample(sample: Sample, doors: Doors, *, stow_first: bool) -> Checked:
    """Take one file through all doors."""
    checked = Checked(str(sample.path), f"{sample.dataset.get('Modality', '')} {sample.transfer_syntax}".strip())
    ways = {"stow": doors.stow, "store": doors.store} if stow_first else {"store": doors.store, "stow": doors.stow}
    if sample.invalid:
        return _refused(checked, sample, ways)
    taken = [checked.run(name, lambda way=way: way(sample)) for name, way in ways.items()]
    if not any(taken) and not is_whole(sample.part10):
        checked.outcome = "refused (DCMTK can't read it to its end)"
        checked.checks = {name: said.replace("FAILED", "refused") for name, said in checked.checks.items()}
        return checked
    checked.outcome = "taken" if all(taken) else "FAILED: not taken"
    if not any(taken):
        return checked
    checked.run("wado", lambda: _same_bytes(sample, doors.instance(sample, "*")))
    checked.run("get", lambda: _same_bytes(sample, doors.get(sample), bare=True))
    if has_pixels(sample.dataset):
        checked.run("pixels", lambda: _same_pixels(sample, doors))
        checked.run("rendered", lambda: _same_picture(sample, doors))
    checked.run("qido", lambda: _same_words_in_json(sample, doors.qido(sample)))
    checked.run("find", lambda: _same_words(sample, doors.find(sample)))
    return checked


def _refused(checked: Checked, sample: Sample, ways: Mapping[str, Callable[[Sample], None]]) -> Checked:
    """What pydicom finds invalid is refused with a reason at both doors, or taken at both."""
    reasons = []
    for name, way in ways.items():
        try:
            way(sample)
            checked.checks[name] = "taken"
        except Refused as error:
            checked.checks[name] = f"refused: {error}"
            reasons.append(str(error))
    if len(reasons) == len(ways):
        checked.outcome = f"refused ({sample.invalid})"
    elif reasons:
        checked.outcome = f"FAILED: the doors disagree on an invalid file ({sample.invalid})"
    else:
        checked.outcome = f"taken, though {sample.invalid}"
    return checked


def _same_bytes(sample: Sample, found: bytes | None, *, bare: bool = False) -> str:
    assert found is not None, "not offered in its own transfer syntax"
    body = found if bare else body_of(found)
    assert body == sample.body, f"{len(body)} bytes that differ from the {len(sample.body)} sent"
    return ""


def _same_pixels(sample: Sample, doors: Doors) -> str:
    original = decoded(sample.part10)
    said, wrong = [], []
    for name, syntax in OTHERS.items():
        if syntax == sample.transfer_syntax:
            continue
        try:
            answer = doors.instance(sample, syntax)
        except Refused as error:
            # What no program here decodes, Hilum need not decode either.
            if original is not None:
                wrong.append(f"{name}: {error}")
            continue
        if answer is None:
            continue
        again = decoded(answer)
        if original is None or again is None:
            said.append(f"{name}: not decoded {'here' if original is None else 'again'}")
            if original is not None:
                wrong.append(f"{name}: what was sent is not decoded by pydicom or DCMTK")
            continue
        apart = difference(original, again)
        loose = sample.transfer_syntax in LOSSY or sample.dataset.get("PhotometricInterpretation", "").startswith("YBR")
        if not apart:
            said.append(name)
        elif loose and is_close(original, again, 12, 1.5):
            said.append(f"{name} within rounding")
        else:
            wrong.append(f"{name}: {apart}")
    assert not wrong, "; ".join(wrong)
    return f"ok: {', '.join(said)}" if said else "ok: only as stored"


def _same_picture(sample: Sample, doors: Doors) -> str:
    frames = frames_of(sample.dataset)
    judges = set()
    for frame in sorted({1, (frames + 1) // 2, frames}):
        expected = shown(sample.part10, frame)
        if expected is None:
            return "-"
        judge, picture = expected
        answer = np.asarray(Image.open(io.BytesIO(doors.rendered(sample, frame))))
        if answer.shape != picture.shape and picture.ndim == 3 and answer.ndim == 2:
            answer = np.stack([answer] * 3, axis=-1)
        loose = sample.transfer_syntax in LOSSY or sample.dataset.get("PhotometricInterpretation", "").startswith("YBR")
        most, mean = (12, 1.5) if loose else (2, 0.6)
        close = is_close(picture, answer, most, mean)
        assert close, f"frame {frame} unlike {judge}: {difference(picture, answer)}"
        judges.add(judge)
    return f"ok: as {' and '.join(sorted(judges))}"


def _same_words(sample: Sample, found: Any) -> str:
    for keyword in ("PatientName", "PatientID", "StudyDescription"):
        _agree(keyword, _text(sample.dataset.get(keyword)), _text(found.get(keyword)))
    return ""


def _same_words_in_json(sample: Sample, found: dict[str, Any]) -> str:
    said = (found.get("00100010", {}).get("Value") or [{}])[0]
    name = "=".join(said.get(group, "") for group in ("Alphabetic", "Ideographic", "Phonetic"))
    _agree("PatientName", _text(sample.dataset.get("PatientName")), name.rstrip("="))
    for keyword, tag in (("PatientID", "00100020"), ("StudyDescription", "00081030")):
        _agree(keyword, _text(sample.dataset.get(keyword)), _text((found.get(tag, {}).get("Value") or [""])[0]))
    return ""


def _text(value: Any) -> str:
    """A value as text: the first of several, without padding and trailing delimiters."""
    if value is None:
        return ""
    text = str(value[0] if isinstance(value, list) or type(value).__name__ == "MultiValue" else value)
    return "=".join(group.rstrip("^ ") for group in text.strip(" \0").split("=")).rstrip("=")


def _agree(keyword: str, expected: str, found: str) -> None:
    assert _text(found) == expected, f"{keyword} is {found!r} instead of {expected!r}"


def check_message(path: Path, doors: Doors) -> Checked:
    """Parse and serialise an HL7 message, send it by MLLP, and compare what the journal keeps."""
    from hilum.core.errors import HilumError
    from hilum.hl7.er7 import Message

    raw = path.read_bytes()
    checked = Checked(str(path), "HL7")
    try:
        message = Message(raw)
    except HilumError as error:
        checked.outcome = f"refused ({error.message})"
        return checked
    checked.kind = f"HL7 {message.type}^{message.trigger}"
    checked.run("er7", lambda: "" if bytes(message) == raw else "FAILED: other bytes")

    def send() -> str:
        if message.header.get(15) == message.header.get(16) == "NE":
            assert not doors.message(raw, answered=False), "answered, though no answer was asked for"
            return "ok: no answer asked for"
        answer = doors.message(raw).decode("utf-8", "replace").split("\r")
        code = next((line.split("|")[1] for line in answer if line.startswith("MSA")), "")
        reason = next((line for line in answer if line.startswith("ERR")), "")
        assert code in ("AA", "CA") or (code and reason), f"answered {code or 'nothing'} without a reason"
        words = reason.split("|")
        return f"ok: {code} {words[8] if len(words) > 8 else ''}".strip()

    checked.run("mllp", send)
    checked.run("journal", lambda: _same_message(raw, doors.journaled(message.control_id)))
    checked.outcome = "taken"
    return checked


def _same_message(raw: bytes, kept: bytes) -> str:
    # Of a control ID that was used for several messages all are shown, one behind the other.
    assert raw in kept, "the journal has other bytes"
    return ""


def run(places: list[Path], tell: Callable[[str], None] = lambda line: None) -> list[Checked]:
    """Check everything that lies at the places."""
    found = read_folder(places)
    results: list[Checked] = []
    samples = [sample for sample in found.samples if sample.dataset.get("MediaStorageSOPClassUID") != DIRECTORY]
    for number, members in enumerate(rounds_of(samples) or [[]], 1):
        with running() as doors:
            for index, sample in enumerate(members):
                tell(f"round {number}: {sample.path.name}")
                results.append(check_sample(sample, doors, stow_first=index % 2 == 1))
            if number == 1:
                for path in found.messages:
                    tell(path.name)
                    results.append(check_message(path, doors))
    results += [Checked(str(path), "", "neither DICOM nor HL7") for path in found.others]
    return results


def table_of(results: list[Checked]) -> Table:
    """A line for each file."""
    table = Table("file", "kind", "outcome", *CHECKS, highlight=False)
    for result in results:
        cells = [_cell(result.checks.get(name, "")) for name in CHECKS]
        table.add_row(Path(result.file).name, result.kind, result.outcome, *cells)
    return table


def _cell(said: str) -> str:
    return "[red]FAILED[/]" if said.startswith("FAILED") else said.partition(":")[0]


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("places", nargs="+", type=Path)
    parser.add_argument("--json", type=Path, help="write the whole report here")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 220)
    results = run(options.places, lambda line: console.print(line, style="dim", highlight=False))
    failed = [result for result in results if result.failed]
    console.print(table_of(results))
    for result in failed:
        for name, said in {"outcome": result.outcome, **result.checks}.items():
            if said.startswith("FAILED"):
                console.print(f"{result.file}: {name}: {said}", highlight=False, markup=False)
    console.print(f"{len(results)} files, {len(failed)} failed", highlight=False)
    if options.json:
        report = {"files": [{**asdict(result), "failed": result.failed} for result in results], "failed": len(failed)}
        options.json.write_text(json.dumps(report, indent=1), encoding="utf-8")
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
