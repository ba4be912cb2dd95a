"""What lies in a folder of samples, as pydicom reads it: the oracle that Hilum is measured by."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

HL7_NAMES = (".hl7", ".er7")
REQUIRED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
DIRECTORY = "1.2.840.10008.1.3.10"
LONGEST = 2 << 30


@dataclass(eq=False)
class Sample:
    """A DICOM file: its data set's own bytes, how they are encoded, and what pydicom makes of them."""

    path: Path
    body: bytes
    transfer_syntax: str
    dataset: Dataset
    # Why the standard's rules let no archive take it; empty for what has to be taken.
    invalid: str = ""

    @property
    def uids(self) -> tuple[str, str, str]:
        """Study, series and instance."""
        return (
            str(self.dataset.StudyInstanceUID),
            str(self.dataset.SeriesInstanceUID),
            str(self.dataset.SOPInstanceUID),
        )

    @property
    def part10(self) -> bytes:
        """The file as it is sent: a full preamble and group 0002 before the data set's own bytes."""
        meta = pydicom.dataset.FileMetaDataset()
        meta.MediaStorageSOPClassUID = self.dataset.get("SOPClassUID", "") or "1.2.3"
        meta.MediaStorageSOPInstanceUID = self.dataset.get("SOPInstanceUID", "") or "1.2.3"
        meta.TransferSyntaxUID = pydicom.uid.UID(self.transfer_syntax)
        out = io.BytesIO()
        out.write(bytes(128) + b"DICM")
        write_file_meta_info(out, meta, enforce_standard=True)
        return out.getvalue() + self.body


@dataclass
class Folder:
    """What was found."""

    samples: list[Sample] = field(default_factory=list)
    messages: list[Path] = field(default_factory=list)
    # Neither DICOM nor HL7: passed over.
    others: list[Path] = field(default_factory=list)


def read_folder(places: Iterable[Path]) -> Folder:
    """Read files, and folders with all below them, in the order of their names."""
    found = Folder()
    for place in places:
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file() and not path.is_symlink():
                _sort_in(path, found)
    return found


def _sort_in(path: Path, found: Folder) -> None:
    with path.open("rb") as file:
        head = file.read(132)
    if path.suffix.lower() in HL7_NAMES or (path.suffix.lower() == ".txt" and head[:3] == b"MSH"):
        found.messages.append(path)
    elif head[128:132] == b"DICM" or path.suffix.lower() == ".dcm":
        found.samples.append(read_sample(path))
    else:
        found.others.append(path)


def read_sample(path: Path) -> Sample:
    """Read a file; what pydicom can't read or lacks a UID is noted as invalid."""
    if path.stat().st_size > LONGEST:
        return Sample(path, b"", "", Dataset(), "larger than this check reads")
    content = path.read_bytes()
    body, syntax = _split(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(content), force=True)
            syntax = syntax or _syntax_of(dataset)
            for element in dataset.iterall():  # deferred reading fails here and not later
                _ = element.value
    except Exception as error:  # noqa: BLE001 whatever pydicom raises, its file is not readable
        return Sample(path, body, syntax, Dataset(), f"pydicom: {type(error).__name__}")
    lacking = [keyword for keyword in REQUIRED if not str(dataset.get(keyword, "") or "")]
    return Sample(path, body, syntax, dataset, f"without {', '.join(lacking)}" if lacking else "")


def _split(content: bytes) -> tuple[bytes, str]:
    """The data set's bytes and the transfer syntax that group 0002 states."""
    file = io.BytesIO(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if read_preamble(file, force=True) is None:
                file.seek(0)
            meta = _read_file_meta_info(file)
    except Exception:  # noqa: BLE001 no group 0002 that can be read: all of it is data set
        return content, ""
    return content[file.tell() :], str(meta.get("TransferSyntaxUID", ""))


def _syntax_of(dataset: Dataset) -> str:
    is_implicit, is_little = dataset.original_encoding
    if is_implicit:
        return str(ImplicitVRLittleEndian)
    return str(ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian)


def rounds_of(samples: Iterable[Sample]) -> list[list[Sample]]:
    """Share samples out so that in one archive each instance has a UID of its own, and each study one patient.

    Archives keep what contradicts that beside or apart, on purpose; here every file is to be seen by itself.
    """
    rounds: list[tuple[dict[str, Any], list[Sample]]] = []
    for sample in samples:
        said = _identity(sample)
        for known, members in rounds:
            if all(known.get(key, value) == value for key, value in said.items()):
                known.update(said)
                members.append(sample)
                break
        else:
            rounds.append((said, [sample]))
    return [members for _, members in rounds]


def _identity(sample: Sample) -> dict[str, Any]:
    if sample.invalid:
        return {}
    study, series, instance = sample.uids
    get = sample.dataset.get
    person = (str(get("PatientID", "")), str(get("PatientName", "")), str(get("IssuerOfPatientID", "")))
    words = (*person, str(get("StudyDescription", "")), str(get("AccessionNumber", "")))
    return {f"instance {instance}": sample.body, f"series {series}": study, f"study {study}": words}
