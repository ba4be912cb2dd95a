"""The DICOMDIR of a File-set (PS3.3 F, PS3.10 8): records of patients, studies, series and files, linked by offsets.

What a record must have and the images leave out is filled in as DCMTK's dcmmkdir does: the first day of 1900, numbers
counted on. Written in Explicit VR Little Endian, text in UTF-8 where it is not plain.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID

from hilum.archive.metadata import text
from hilum.archive.part10 import EXPLICIT_LITTLE, file_prefix
from hilum.archive.walk import Attributes

MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
DAY, TIME = "19000101", "000000"
COUNTED = "1"  # stands for the next number
OPTIONAL = None

# Record type -> keys besides those of every record, each with what stands for a missing value (PS3.3 F.5); "" may be
# empty, OPTIONAL is left out.
KEYS: dict[str, dict[str, str | None]] = {
    "PATIENT": {"PatientName": "", "PatientID": "UNKNOWN"},
    "STUDY": {
        "StudyDate": DAY, "StudyTime": TIME, "AccessionNumber": "", "StudyDescription": "", "StudyInstanceUID": "",
        "StudyID": COUNTED,
    },
    "SERIES": {"Modality": "OT", "SeriesInstanceUID": "", "SeriesNumber": COUNTED, "SeriesDescription": OPTIONAL},
    "IMAGE": {"InstanceNumber": COUNTED},
    "RT DOSE": {"InstanceNumber": COUNTED, "DoseSummationType": "PLAN"},
    "RT STRUCTURE SET": {"InstanceNumber": COUNTED, "StructureSetLabel": "UNKNOWN", "StructureSetDate": "",
                         "StructureSetTime": ""},
    "RT PLAN": {"InstanceNumber": COUNTED, "RTPlanLabel": "UNKNOWN", "RTPlanDate": "", "RTPlanTime": ""},
    "RT TREAT RECORD": {"InstanceNumber": COUNTED, "TreatmentDate": "", "TreatmentTime": ""},
    "PRESENTATION": {"PresentationCreationDate": DAY, "PresentationCreationTime": TIME, "InstanceNumber": COUNTED,
                     "ContentLabel": "UNKNOWN", "ContentDescription": "", "ContentCreatorName": "",
                     "ReferencedSeriesSequence": OPTIONAL, "BlendingSequence": OPTIONAL},
    "WAVEFORM": {"InstanceNumber": COUNTED, "ContentDate": DAY, "ContentTime": TIME},
    "SR DOCUMENT": {"InstanceNumber": COUNTED, "CompletionFlag": "PARTIAL", "VerificationFlag": "UNVERIFIED",
                    "ContentDate": DAY, "ContentTime": TIME, "VerificationDateTime": OPTIONAL,
                    "ConceptNameCodeSequence": OPTIONAL, "ContentSequence": OPTIONAL},
    "KEY OBJECT DOC": {"InstanceNumber": COUNTED, "ContentDate": DAY, "ContentTime": TIME,
                       "ConceptNameCodeSequence": OPTIONAL, "ContentSequence": OPTIONAL},
    "SPECTROSCOPY": {"ImageType": "ORIGINAL", "ContentDate": DAY, "ContentTime": TIME, "InstanceNumber": COUNTED,
                     "NumberOfFrames": "1", "Rows": OPTIONAL, "Columns": OPTIONAL, "DataPointRows": OPTIONAL,
                     "DataPointColumns": OPTIONAL},
    "RAW DATA": {"ContentDate": DAY, "ContentTime": TIME, "InstanceNumber": COUNTED},
    "REGISTRATION": {"ContentDate": DAY, "ContentTime": TIME, "InstanceNumber": COUNTED, "ContentLabel": "UNKNOWN",
                     "ContentDescription": "", "ContentCreatorName": ""},
    "ENCAP DOC": {"ContentDate": "", "ContentTime": "", "InstanceNumber": COUNTED, "DocumentTitle": "",
                  "HL7InstanceIdentifier": OPTIONAL, "ConceptNameCodeSequence": "",
                  "MIMETypeOfEncapsulatedDocument": "application/octet-stream"},
    "PRIVATE": {},
}  # fmt: skip
for _kind in ("FIDUCIAL", "VALUE MAP", "MEASUREMENT", "SURFACE", "TRACT"):
    KEYS[_kind] = KEYS["REGISTRATION"]
for _kind in ("STEREOMETRIC", "PLAN"):
    KEYS[_kind] = {}
KEYS["SURFACE SCAN"] = {"ContentDate": DAY, "ContentTime": TIME}
KEYS["ASSESSMENT"] = {"InstanceNumber": COUNTED, "InstanceCreationDate": DAY, "InstanceCreationTime": ""}
KEYS["RADIOTHERAPY"] = {"InstanceNumber": COUNTED, "UserContentLabel": OPTIONAL, "UserContentLongLabel": OPTIONAL,
                        "ContentDescription": OPTIONAL, "ContentCreatorName": OPTIONAL}  # fmt: skip

# Words in the keyword of a storage class -> record type; the first that fits (PS3.3 table F.4-1).
_BY_WORD: tuple[tuple[str, str], ...] = (
    ("KeyObjectSelection", "KEY OBJECT DOC"),
    ("Encapsulated", "ENCAP DOC"),
    ("PresentationState", "PRESENTATION"),
    ("BasicStructuredDisplay", "PRESENTATION"),
    ("Waveform", "WAVEFORM"),
    ("RealWorldValueMapping", "VALUE MAP"),
    ("StereometricRelationship", "STEREOMETRIC"),
    ("SpatialFiducials", "FIDUCIAL"),
    ("SpatialRegistration", "REGISTRATION"),
    ("MRSpectroscopy", "SPECTROSCOPY"),
    ("RawData", "RAW DATA"),
    ("SurfaceSegmentation", "SURFACE"),
    ("SurfaceScan", "SURFACE SCAN"),
    ("TractographyResults", "TRACT"),
    ("ContentAssessment", "ASSESSMENT"),
    ("RTDose", "RT DOSE"),
    ("RTStructureSet", "RT STRUCTURE SET"),
    ("RTPlan", "RT PLAN"),
    ("RTIonPlan", "RT PLAN"),
    ("RTImage", "IMAGE"),
    ("TreatmentRecord", "RT TREAT RECORD"),
    ("TreatmentSummaryRecord", "RT TREAT RECORD"),
    ("RTBeamsDeliveryInstruction", "PLAN"),
    ("RT", "RADIOTHERAPY"),
    ("MeasurementsStorage", "MEASUREMENT"),
    ("SRStorage", "SR DOCUMENT"),
    ("ProcedureLog", "SR DOCUMENT"),
    ("ReportStorage", "SR DOCUMENT"),
)


def record_type(sop_class_uid: str) -> str:
    """Return the type of the record for a storage class; a class that is not of the standard has a private one."""
    keyword = UID(sop_class_uid).keyword
    if not keyword:
        return "PRIVATE"
    return next((kind for word, kind in _BY_WORD if word in keyword), "IMAGE")


@dataclass(slots=True)
class _Node:
    """A record as an encoded item without its offsets, and those one level below it."""

    body: bytes
    children: dict[str, _Node] = field(default_factory=dict)
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Listed:
    """A file of the File-set: where it lies, what it holds, and its header as it goes out (DICOM JSON model)."""

    file_id: tuple[str, ...]
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    attributes: Attributes


# Three offsets stand at fixed places of each item: next record, in use, lower level.
_LINKS = struct.Struct("<HH2sHI HH2sHH HH2sHI".replace(" ", ""))
_ITEM = struct.Struct("<HHI")


class Directory:
    """Collects the files of a File-set, then writes its DICOMDIR."""

    def __init__(self) -> None:
        self._patients: dict[str, _Node] = {}

    def add(self, listed: Listed) -> None:
        """Add a file; its patient, study and series are those of its header."""
        said = listed.attributes
        patient = _child(self._patients, text(said, "00100020") + "\n" + text(said, "00100021"), "PATIENT", said)
        study = _child(patient.children, text(said, "0020000D"), "STUDY", said)
        series = _child(study.children, text(said, "0020000E"), "SERIES", said)
        kind = record_type(listed.sop_class_uid)
        record = _record(kind, said, len(series.children) + 1)
        record.ReferencedFileID = list(listed.file_id)
        record.ReferencedSOPClassUIDInFile = listed.sop_class_uid
        record.ReferencedSOPInstanceUIDInFile = listed.sop_instance_uid
        record.ReferencedTransferSyntaxUIDInFile = listed.transfer_syntax_uid
        if kind == "PRIVATE":
            record.PrivateRecordUID = listed.sop_class_uid
        series.children[listed.sop_instance_uid] = _Node(_encoded(record))

    def written(self, sop_instance_uid: str, file_set_id: str = "HILUM") -> bytes:
        """Return the DICOMDIR as a Part 10 file."""
        prefix = file_prefix(MEDIA_STORAGE_DIRECTORY, sop_instance_uid, EXPLICIT_LITTLE)
        first = self._head(file_set_id, 0, 0, 0)
        end = _place(self._patients, len(prefix) + len(first))
        size = end - len(prefix) - len(first)
        top = list(self._patients.values())
        head = self._head(file_set_id, top[0].offset if top else 0, top[-1].offset if top else 0, size)
        pieces = [prefix, head]
        _write(self._patients, pieces)
        return b"".join(pieces)

    @staticmethod
    def _head(file_set_id: str, first: int, last: int, size: int) -> bytes:
        head = Dataset()
        head.FileSetID = file_set_id
        head.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = first
        head.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity = last
        head.FileSetConsistencyFlag = 0
        return _encoded(head) + struct.pack("<HH2sHI", 0x0004, 0x1220, b"SQ", 0, size)


def _child(siblings: dict[str, _Node], key: str, kind: str, attributes: Attributes) -> _Node:
    node = siblings.get(key)
    if node is None:
        node = siblings[key] = _Node(_encoded(_record(kind, attributes, len(siblings) + 1)))
    return node


def _record(kind: str, attributes: Attributes, number: int) -> Dataset:
    record = Dataset()
    record.DirectoryRecordType = kind
    for keyword, missing in KEYS[kind].items():
        _copy(keyword, missing, attributes, record, number)
    if not all(str(element.value).isascii() for element in record.iterall()):
        record.SpecificCharacterSet = "ISO_IR 192"
    return record


def _copy(keyword: str, missing: str | None, attributes: Attributes, record: Dataset, number: int) -> None:
    element = Dataset()
    setattr(element, keyword, None)
    key = next(f"{int(each.tag):08X}" for each in element)
    entry = attributes.get(key, {})
    values = [value for value in entry.get("Value", []) if value not in (None, "")]
    if keyword == "ContentSequence":
        # Of the content only what modifies the title belongs here.
        values = [item for item in values if text(item, "0040A010") == "HAS CONCEPT MOD"]
    if values:
        record.update(Dataset.from_json({key: {**entry, "Value": values}}))
    elif missing is not None:
        is_sequence = element[keyword].VR == "SQ"
        setattr(record, keyword, [] if is_sequence else str(number) if missing == COUNTED else missing)


def _encoded(dataset: Dataset) -> bytes:
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, False
    write_dataset(out, dataset)
    return bytes(out.getvalue())


def _place(siblings: dict[str, _Node], offset: int) -> int:
    """Give each record of a level, and of those below, its offset; return where the last one ends."""
    for node in siblings.values():
        node.offset = offset
        offset = _place(node.children, offset + _ITEM.size + _LINKS.size + len(node.body))
    return offset


def _write(siblings: dict[str, _Node], pieces: list[bytes]) -> None:
    nodes = list(siblings.values())
    for node, following in zip_longest(nodes, nodes[1:]):
        below: Any = next(iter(node.children.values()), None)
        links = _LINKS.pack(
            0x0004, 0x1400, b"UL", 4, following.offset if following else 0,
            0x0004, 0x1410, b"US", 2, 0xFFFF,
            0x0004, 0x1420, b"UL", 4, below.offset if below else 0,
        )  # fmt: skip
        pieces += [_ITEM.pack(0xFFFE, 0xE000, len(links) + len(node.body)), links, node.body]
        _write(node.children, pieces)
