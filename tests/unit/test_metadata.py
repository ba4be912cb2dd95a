"""The header walk agrees with pydicom on every file pydicom ships, and refuses precisely what breaks the encoding."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from base64 import b64decode
from pathlib import Path
from typing import Any

import orjson
import pydicom
import pydicom.data
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from hilum.archive.charset import decode, encodings_of
from hilum.archive.metadata import Metadata, read_metadata, walk_dataset
from hilum.archive.part10 import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    file_prefix,
    inflated,
    split,
)
from hilum.archive.values import inline_binary
from hilum.core.errors import InvalidInput, MissingField, TooLarge, Unsupported

FOLDER = Path(pydicom.data.__file__).parent
FILES = sorted(
    path
    for folder in ("test_files", "charset_files")
    for path in (FOLDER / folder).rglob("*")
    if path.is_file() and path.suffix in (".dcm", "") and path.name not in ("DICOMDIR", "README", "LICENSE")
)
# Cut within an element, or garbage at the start: pydicom reads what it can, an archive must not say it is whole.
BROKEN = {
    "MR_truncated.dcm", "rtplan_truncated.dcm", "DICOMDIR-nooffset", "no_meta.dcm", "meta_missing_tsyntax.dcm",
}  # fmt: skip
UNREADABLE_FOR_PYDICOM = {"badVR.dcm"}
UIDS = {
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
    "SOPInstanceUID": "1.2.3.4",
    "StudyInstanceUID": "1.2.3",
    "SeriesInstanceUID": "1.2.3.1",
}


def load(path: Path) -> tuple[bytes, str]:
    data = path.read_bytes()
    part = split(data)
    return data[part.dataset_offset :], part.transfer_syntax_uid


def normal(entry: dict[str, Any], dataset: bytes, order: str) -> Any:
    """One form for what JSON writers may write differently: bulk data, padding, empty values, 12 and 12.0."""
    if "BulkDataURI" in entry:
        _, offset, length = entry["BulkDataURI"].split("/")
        raw = dataset[int(offset) : int(offset) + int(length)]
        return inline_binary(entry["vr"], raw, order)
    if "InlineBinary" in entry:
        return entry["InlineBinary"]
    return [
        {key: normal(value, dataset, order) for key, value in each.items() if key != "00080005"}
        if entry["vr"] == "SQ"
        else {key: part.rstrip(" \0") for key, part in each.items() if part} or None
        if isinstance(each, dict)
        else (each.rstrip(" \0") or None)
        if isinstance(each, str)
        else each
        for each in entry.get("Value", [])
    ]


def written(dataset: Dataset, syntax: str = EXPLICIT_LITTLE) -> bytes:
    out = io.BytesIO()
    implicit, little = syntax == IMPLICIT_LITTLE, syntax != EXPLICIT_BIG
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmwrite(out, dataset, implicit_vr=implicit, little_endian=little, enforce_file_format=False)
    return out.getvalue()


def instance(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in {**UIDS, **attributes}.items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


def read(dataset: Dataset, syntax: str = EXPLICIT_LITTLE) -> Metadata:
    return read_metadata(written(dataset, syntax), syntax)


def explicit(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    length = len(value) if length is None else length
    long = vr in (b"SQ", b"UN", b"OB", b"OW", b"UT")
    return head + (struct.pack("<HI", 0, length) if long else struct.pack("<H", length)) + value


@pytest.mark.parametrize("path", [p for p in FILES if p.name not in BROKEN], ids=lambda path: path.name)
def test_every_header_of_pydicoms_files_is_read_as_pydicom_reads_it(path: Path) -> None:
    dataset, syntax = load(path)
    walk = walk_dataset(dataset, syntax)
    orjson.dumps(walk.attributes)
    if path.name in UNREADABLE_FOR_PYDICOM:
        return
    if syntax == DEFLATED_LITTLE:
        dataset = inflated(dataset)
    order = ">" if syntax == EXPLICIT_BIG else "<"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pydicom.dcmread(path, force=True)
        theirs.decode()
        ours = walk.attributes.keys()
        compared = {
            f"{int(e.tag):08X}": e.to_json_dict(None, bulk_data_threshold=1 << 40)
            for e in theirs
            if e.tag < 0x7FE00008 and e.tag.element and e.tag != 0x00080005
        }
    assert {key for key in ours if key < "7FE00008"} - {"00080005"} == compared.keys()
    for key, entry in compared.items():
        assert normal(walk.attributes[key], dataset, order) == normal(entry, b"", order), key


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_files_that_are_cut_or_garbage_are_refused(name: str) -> None:
    [path] = [path for path in FILES if path.name == name]
    with pytest.raises(InvalidInput):
        walk_dataset(*load(path))


@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED_LITTLE])
def test_the_index_fields_are_the_same_in_every_encoding(syntax: str) -> None:
    request = Dataset()
    request.AccessionNumber = "A1"
    request.RequestedProcedureID = "RP1"
    request.ScheduledProcedureStepID = "SPS1"
    issuer = Dataset()
    issuer.LocalNamespaceEntityID = "HOSP"
    request.IssuerOfAccessionNumberSequence = [issuer]
    step = Dataset()
    step.ReferencedSOPInstanceUID = "1.9.9"
    dataset = instance(
        SpecificCharacterSet="ISO_IR 192",
        PatientName="Müller^Jörg=山田",
        PatientID=" P1 ",
        IssuerOfPatientID="HOSP",
        Modality="CT",
        InstanceNumber="7",
        Rows=512,
        WindowCenter=[40, 300],
        RequestAttributesSequence=[request, Dataset()],
        ReferencedPerformedProcedureStepSequence=[step],
        StudyDate="not a date",
    )
    data = written(dataset, EXPLICIT_LITTLE if syntax == DEFLATED_LITTLE else syntax)
    if syntax == DEFLATED_LITTLE:
        deflate = zlib.compressobj(wbits=-15)
        data = deflate.compress(data) + deflate.flush()
    header = read_metadata(data, syntax).header
    assert (header.patient_name, header.patient_id, header.issuer_of_patient_id) == ("Müller^Jörg=山田", "P1", "HOSP")
    assert (header.modality, header.instance_number, header.rows, header.window_center) == ("CT", 7, 512, 40.0)
    assert header.study_date == "not a date"
    assert header.performed_procedure_steps == ("1.9.9",)
    first, second = header.request_attributes
    assert (first.accession_number, first.accession_number_issuer) == ("A1", "HOSP")
    assert (first.requested_procedure_id, first.scheduled_procedure_step_id) == ("RP1", "SPS1")
    assert second.accession_number == ""


@pytest.mark.parametrize("keyword", sorted(UIDS))
def test_an_instance_without_one_of_its_uids_is_refused_by_name(keyword: str) -> None:
    for empty in (None, ""):
        with pytest.raises(MissingField) as refusal:
            read(instance(**{keyword: empty}))
        assert refusal.value.field == keyword


@pytest.mark.parametrize("uid", ["..", ".", "../../etc/passwd", "1.2/3", "1.2.3a", "1." * 40 + "1", "1.2.", "é"])
def test_a_uid_that_could_be_a_path_or_is_none_is_refused_by_name(uid: str) -> None:
    data = explicit(0x00080016, b"UI", b"1.2") + explicit(0x00080018, b"UI", uid.encode("latin-1"))
    data += explicit(0x0020000D, b"UI", b"1.3") + explicit(0x0020000E, b"UI", b"1.4")
    with pytest.raises(InvalidInput) as refusal:
        read_metadata(data, EXPLICIT_LITTLE)
    assert refusal.value.field == "SOPInstanceUID"
    assert refusal.value.message == "SOPInstanceUID is not a UID."


def test_leading_zeros_in_a_uid_are_taken() -> None:
    assert read(instance(SOPInstanceUID="1.02.003")).header.sop_instance_uid == "1.02.003"


def test_odd_values_are_kept_and_refuse_nothing() -> None:
    data = b"".join(
        (
            explicit(0x00080016, b"UI", b"1.2\0"),
            explicit(0x00080018, b"UI", b"1.3\0"),
            explicit(0x00080020, b"DA", b"yesterday "),
            explicit(0x00080050, b"SH", b"an accession number that is too long"),
            explicit(0x00080060, b"US", b"\x01\x00"),
            explicit(0x00100010, b"LO", b"Not^A^PN"),
            explicit(0x0020000D, b"UI", b"1.4\0"),
            explicit(0x0020000E, b"UI", b"1.5\0"),
            explicit(0x00200013, b"IS", b"seven"),
            explicit(0x00280010, b"US", b"\x01"),
            explicit(0x00281050, b"DS", b"1_0\\nan\\1e400\\ 2.5 "),
        )
    )
    meta = read_metadata(data + b"\x28\x00\x55\x10ZZ\0\0\x04\0\0\0zzzz", EXPLICIT_LITTLE)
    assert meta.header.accession_number == "an accession number that is too long"
    assert (meta.header.modality, meta.header.patient_name) == ("1", "Not^A^PN")
    assert (meta.header.instance_number, meta.header.rows, meta.header.window_center) == (None, None, None)
    assert meta.attributes["00281050"]["Value"] == ["1_0", "nan", "1e400", 2.5]
    assert meta.attributes["00281055"] == {"vr": "LO", "Value": ["zzzz"]}
    assert orjson.loads(meta.json()) == meta.attributes


def test_bulk_data_is_named_by_where_it_lies() -> None:
    dataset = instance(Rows=2, Columns=2, BitsAllocated=16, PixelRepresentation=0)
    dataset.add_new(0x00091010, "OB", b"x" * 5000)
    dataset.add_new(0x00091011, "OB", b"small!")
    dataset.add_new(0x00420011, "OB", b"%PDF" * 1000)
    dataset.PixelData = b"12345678"
    dataset["PixelData"].VR = "OW"
    data = written(dataset)
    meta = read_metadata(data, EXPLICIT_LITTLE)
    for key, value in (("00091010", b"x" * 5000), ("00420011", b"%PDF" * 1000)):
        _, offset, length = meta.attributes[key]["BulkDataURI"].split("/")
        assert data[int(offset) : int(offset) + int(length)] == value
    assert b64decode(meta.attributes["00091011"]["InlineBinary"]) == b"small!"
    assert meta.attributes["7FE00010"] == {"vr": "OW", "BulkDataURI": "bulkdata/pixeldata"}
    assert meta.pixels is not None
    assert data[meta.pixels.offset : meta.pixels.offset + meta.pixels.length] == b"12345678"
    assert len(meta.json()) < 3000


def test_an_element_of_3_gigabytes_in_a_small_file_is_refused_by_name() -> None:
    data = written(instance()) + explicit(0x00420011, b"OB", b"x" * 100_000, length=3_000_000_000)
    with pytest.raises(InvalidInput) as refusal:
        read_metadata(data, EXPLICIT_LITTLE)
    assert refusal.value.field == "EncapsulatedDocument"
    with pytest.raises(InvalidInput) as refusal:
        read_metadata(written(instance()) + explicit(0x7FE00010, b"OW", b"", length=3_000_000_000), EXPLICIT_LITTLE)
    assert refusal.value.field == "PixelData"


def test_sequences_are_nested_to_64_and_no_deeper() -> None:
    def nested(depth: int) -> bytes:
        data = b""
        for _ in range(depth):
            item = struct.pack("<HHI", 0xFFFE, 0xE000, len(data)) + data
            data = explicit(0x00400275, b"SQ", item)
        return data

    walk_dataset(nested(64), EXPLICIT_LITTLE)
    with pytest.raises(InvalidInput, match="deeply"):
        walk_dataset(nested(65), EXPLICIT_LITTLE)


def test_too_many_elements_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hilum.archive.walk.MAX_ELEMENTS", 1000)
    with pytest.raises(TooLarge):
        walk_dataset(explicit(0x00080060, b"CS", b"") * 1001, EXPLICIT_LITTLE)
    items = struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 1001
    with pytest.raises(TooLarge):
        walk_dataset(explicit(0x00400275, b"SQ", items) + explicit(0x00420010, b"LO", b""), EXPLICIT_LITTLE)


def test_a_deflated_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    deflate = zlib.compressobj(9, wbits=-15)
    bomb = deflate.compress(bytes(50 << 20)) + deflate.flush()
    with pytest.raises(TooLarge):
        inflated(bomb, limit=10 << 20)
    with pytest.raises(InvalidInput, match="cut"):
        inflated(bomb[: len(bomb) // 2])
    with pytest.raises(InvalidInput, match="damaged"):
        inflated(b"\xff" * 100)


def test_what_was_unfolded_is_not_kept_with_what_was_read() -> None:
    deflate = zlib.compressobj(wbits=-15)
    packed = deflate.compress(written(instance(PatientComments="x" * 10_000))) + deflate.flush()
    walk = walk_dataset(packed, DEFLATED_LITTLE)
    assert walk.attributes["00104000"]["Value"] == ["x" * 10_000]
    assert walk.data == b""


def test_transfer_syntaxes_that_are_no_data_sets_are_unsupported() -> None:
    for syntax in ("", "1.2.840.10008.1.2.6.2", "1.3.46.670589.33.1.4.1"):
        with pytest.raises(Unsupported):
            read_metadata(b"", syntax)


SMALL = written(instance(RequestAttributesSequence=[instance()], PatientName="A^B", WindowCenter=[1, 2.5]))


@settings(max_examples=400, deadline=None)
@given(
    st.integers(0, len(SMALL) - 1),
    st.binary(min_size=1, max_size=8),
    st.sampled_from([EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG]),
)
def test_damaged_headers_are_read_or_refused_and_nothing_else(position: int, damage: bytes, syntax: str) -> None:
    data = written(instance(RequestAttributesSequence=[instance()], PatientName="A^B", Rows=3), syntax)
    position %= len(data)
    for candidate in (data[:position] + damage + data[position + len(damage) :], data[:position]):
        try:
            read_metadata(candidate, syntax).json()
        except InvalidInput:
            continue


@pytest.mark.parametrize(
    ("term", "raw", "text"),
    [
        ("", b"plain", "plain"),
        ("ISO_IR 100", b"M\xfcller", "Müller"),
        ("ISO-IR_100", b"M\xfcller", "Müller"),
        ("ISO_IR 192", "日本\\語".encode(), "日本\\語"),
        ("UTF-8", "é".encode(), "é"),
        ("ISO_IR 203", b"\xa4", "€"),
        ("ISO_IR 144", b"\xbb\xee\xda", "Люк"),
        ("ISO_IR 13", b"\xd4\xcf\xc0\xde", "ﾔﾏﾀﾞ"),
        ("GB18030", "\u8a31\u529f".encode("gb18030"), "許功"),
        ("GBK", "王^小东".encode("gbk"), "王^小东"),
        ("\\ISO 2022 IR 58", b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=", "Zhang^XiaoDong=张^小东="),
        ("\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "Yamada^Tarou=山田^太郎"),
        ("\\ISO 2022 IR 149", b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7", "Hong^Gildong=洪^吉洞"),
        ("ISO_IR 192", b"\xff\xfe", "\ufffd\ufffd"),
        ("no such set", b"\xe9", "é"),
        ("\\ISO 2022 IR 87", b"\x1b$X??", "\x1b$X??"),
    ],
)
def test_text_of_every_kind_of_character_set_is_read(term: str, raw: bytes, text: str) -> None:
    assert decode(raw, encodings_of(term)) == text


def test_a_backslash_byte_inside_a_chinese_character_separates_nothing() -> None:
    raw = next(c for c in map(chr, range(0x4E00, 0x9FFF)) if c.encode("gb18030")[1:] == b"\\")
    data = explicit(0x00080005, b"CS", b"GB18030 ") + explicit(0x00081030, b"LO", raw.encode("gb18030") + b"\\b")
    assert walk_dataset(data, EXPLICIT_LITTLE).attributes["00081030"]["Value"] == [raw, "b"]


def test_a_file_prefix_is_what_pydicom_expects() -> None:
    prefix = file_prefix(UIDS["SOPClassUID"], "1.2.3.4", ExplicitVRLittleEndian, "CT01")
    theirs = pydicom.dcmread(io.BytesIO(prefix + written(instance(PatientID="P"))))
    meta = theirs.file_meta
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (UIDS["SOPClassUID"], "1.2.3.4")
    assert (meta.TransferSyntaxUID, meta.SourceApplicationEntityTitle) == (ExplicitVRLittleEndian, "CT01")
    assert meta.FileMetaInformationGroupLength == len(prefix) - 144
    assert theirs.PatientID == "P"
    part = split(prefix)
    assert (part.dataset_offset, part.transfer_syntax_uid, part.source_ae_title) == (
        len(prefix), ExplicitVRLittleEndian, "CT01",
    )  # fmt: skip


@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG])
def test_a_bare_data_set_tells_its_encoding(syntax: str) -> None:
    data = written(instance(), syntax)
    for before in (b"", bytes(128), b"DICM", bytes(128) + b"DICM"):
        if before == bytes(128) and syntax == EXPLICIT_BIG:
            continue
        part = split(before + data)
        assert (part.dataset_offset, part.transfer_syntax_uid) == (len(before), syntax)


@pytest.mark.parametrize(
    "data", [b"", b"short", b"<html><body>no</body>", bytes(200), b"\xff" * 300, b"%PDF-1.4 and more"]
)
def test_what_is_not_dicom_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        split(data)
