"""What the index and the viewers need of an instance, from one pass over its header.

`read_metadata` refuses what breaks the encoding and what lacks one of its four UIDs; nothing else is refused for its
content. Bulk data is not in the result but named by a URI relative to the instance: `bulkdata/OFFSET/LENGTH` counts
bytes of the (inflated) data set, `bulkdata/pixeldata` is what the frames of the instance are taken from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple

import orjson

from hilum.archive.part10 import DEFLATED_LITTLE, checked_transfer_syntax, inflated, is_big_endian, is_implicit
from hilum.archive.precedent import Precedent
from hilum.archive.walk import Attributes, PixelData, Walk
from hilum.core.errors import InvalidInput, MissingField

# Starts and ends with a digit, so that no UID can be "." or ".."; leading zeros of a component occur and are taken.
_UID = re.compile(r"[0-9](?:[0-9.]{0,62}[0-9])?\Z")


@dataclass(frozen=True, slots=True)
class CodedEntry:
    """An item of a code sequence (PS3.3 8.1)."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class RequestAttributes:
    """An item of the Request Attributes Sequence (0040,0275)."""

    accession_number: str
    accession_number_issuer: str
    requested_procedure_id: str
    scheduled_procedure_step_id: str
    study_instance_uid: str
    placer_order_number: str
    placer_order_number_issuer: str
    filler_order_number: str
    filler_order_number_issuer: str


@dataclass(frozen=True, slots=True)
class Header:
    """The attributes of patient, study, series and instance that an index needs; text is stripped, "" when absent."""

    specific_character_set: str
    timezone_offset_from_utc: str
    patient_id: str
    issuer_of_patient_id: str
    patient_name: str
    patient_birth_date: str
    patient_sex: str
    other_patient_ids: tuple[tuple[str, str], ...]
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    accession_number: str
    accession_number_issuer: str
    study_id: str
    study_date: str
    study_time: str
    study_description: str
    referring_physician_name: str
    procedure_codes: tuple[CodedEntry, ...]
    modality: str
    series_number: int | None
    series_date: str
    series_time: str
    series_description: str
    body_part_examined: str
    laterality: str
    protocol_name: str
    station_name: str
    institution_name: str
    manufacturer: str
    performed_procedure_step_start_date: str
    performed_procedure_step_start_time: str
    request_attributes: tuple[RequestAttributes, ...]
    performed_procedure_steps: tuple[str, ...]
    instance_number: int | None
    acquisition_date: str
    acquisition_time: str
    content_date: str
    content_time: str
    image_type: tuple[str, ...]
    rows: int | None
    columns: int | None
    number_of_frames: int | None
    samples_per_pixel: int | None
    bits_allocated: int | None
    bits_stored: int | None
    photometric_interpretation: str
    window_center: float | None
    window_width: float | None
    concept_name: CodedEntry | None
    document_title: str
    referenced_sop_instance_uids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metadata:
    """The header's fields, the whole header as DICOM JSON, and where the pixel data lies."""

    header: Header
    attributes: Attributes
    pixels: PixelData | None
    transfer_syntax_uid: str
    written: bytes = b""

    def json(self) -> bytes:
        """The DICOM JSON model of the header (PS3.18 F), bulk data URIs relative."""
        return self.written or orjson.dumps(self.attributes)


class Identity(NamedTuple):
    """The four UIDs without which no instance is taken."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str


# A few kilobytes of a deflated data set can be all of MAX_INFLATED: one at a time, however many doors hand them in.
_UNFOLDING = Lock()


def read_metadata(dataset: Any, transfer_syntax_uid: str) -> Metadata:
    """Header, JSON model and pixel data position of a data set (bytes, bytearray, memoryview or mmap).

    Raises InvalidInput with the keyword of what breaks the encoding, MissingField with that of a missing UID,
    Unsupported for transfer syntaxes that are no data sets.
    """
    walk = walk_dataset(dataset, transfer_syntax_uid)
    header = header_of(walk.attributes, walk.character_set)
    return Metadata(header, walk.attributes, walk.pixels, transfer_syntax_uid)


def walk_dataset(dataset: Any, transfer_syntax_uid: str, precedent: Precedent | None = None) -> Walk:
    """The pass alone, for data sets that need not be instances; `precedent` is of those of the same sender before."""
    checked_transfer_syntax(transfer_syntax_uid)
    if transfer_syntax_uid == DEFLATED_LITTLE:
        with _UNFOLDING:
            walk = Walk(inflated(dataset), implicit=False, big_endian=False)
            walk.data = b""  # or the instances of one batch would all be held unfolded
            return walk
    implicit, big_endian = is_implicit(transfer_syntax_uid), is_big_endian(transfer_syntax_uid)
    return Walk(dataset, implicit=implicit, big_endian=big_endian, precedent=precedent)


def identity_of(attributes: Attributes) -> Identity:
    """The UIDs of a header given as DICOM JSON. Raises MissingField and InvalidInput for what is wrong with them."""
    return Identity(
        _required_uid(attributes, "0020000D", "StudyInstanceUID"),
        _required_uid(attributes, "0020000E", "SeriesInstanceUID"),
        _required_uid(attributes, "00080018", "SOPInstanceUID"),
        _required_uid(attributes, "00080016", "SOPClassUID"),
    )


def metadata_of(attributes: bytes, character_set: str, pixels: PixelData | None, transfer_syntax_uid: str) -> Metadata:
    """The metadata of an instance whose header was written as DICOM JSON before; nothing is checked again."""
    read: Attributes = orjson.loads(attributes)
    return Metadata(header_of(read, character_set), read, pixels, transfer_syntax_uid, attributes)


def header_of(attributes: Attributes, character_set: str = "") -> Header:
    """The fields of a header given as DICOM JSON. Raises MissingField and InvalidInput for its four UIDs."""
    a = attributes
    return Header(
        specific_character_set=character_set,
        timezone_offset_from_utc=text(a, "00080201"),
        patient_id=text(a, "00100020"),
        issuer_of_patient_id=_patient_issuer(a),
        patient_name=person_name(a, "00100010"),
        patient_birth_date=text(a, "00100030"),
        patient_sex=text(a, "00100040"),
        other_patient_ids=_other_patient_ids(a),
        **identity_of(a)._asdict(),
        accession_number=text(a, "00080050"),
        accession_number_issuer=_issuer(a, "00080051"),
        study_id=text(a, "00200010"),
        study_date=text(a, "00080020"),
        study_time=text(a, "00080030"),
        study_description=text(a, "00081030"),
        referring_physician_name=person_name(a, "00080090"),
        procedure_codes=tuple(_code(item) for item in items(a, "00081032")),
        modality=text(a, "00080060"),
        series_number=integer(a, "00200011"),
        series_date=text(a, "00080021"),
        series_time=text(a, "00080031"),
        series_description=text(a, "0008103E"),
        body_part_examined=text(a, "00180015"),
        laterality=text(a, "00200060") or text(a, "00200062"),
        protocol_name=text(a, "00181030"),
        station_name=text(a, "00081010"),
        institution_name=text(a, "00080080"),
        manufacturer=text(a, "00080070"),
        performed_procedure_step_start_date=text(a, "00400244"),
        performed_procedure_step_start_time=text(a, "00400245"),
        request_attributes=tuple(_request(item) for item in items(a, "00400275")),
        performed_procedure_steps=_uids(a, "00081111"),
        instance_number=integer(a, "00200013"),
        acquisition_date=text(a, "00080022") or text(a, "0008002A")[:8],
        acquisition_time=text(a, "00080032") or text(a, "0008002A")[8:],
        content_date=text(a, "00080023"),
        content_time=text(a, "00080033"),
        image_type=tuple(_words(a, "00080008")),
        rows=integer(a, "00280010"),
        columns=integer(a, "00280011"),
        number_of_frames=integer(a, "00280008"),
        samples_per_pixel=integer(a, "00280002"),
        bits_allocated=integer(a, "00280100"),
        bits_stored=integer(a, "00280101"),
        photometric_interpretation=text(a, "00280004"),
        window_center=number(a, "00281050"),
        window_width=number(a, "00281051"),
        concept_name=next((_code(item) for item in items(a, "0040A043")), None),
        document_title=text(a, "00420010"),
        referenced_sop_instance_uids=_uids(a, "00081140"),
    )


def _values(attributes: Attributes, key: str) -> list[Any]:
    entry = attributes.get(key)
    return entry.get("Value", []) if entry else []


def _words(attributes: Attributes, key: str) -> Iterator[str]:
    for value in _values(attributes, key):
        if value is not None and not isinstance(value, dict):
            yield str(value).strip()


def text(attributes: Attributes, key: str) -> str:
    """The first value as stripped text, "" when there is none."""
    return next(_words(attributes, key), "")


def person_name(attributes: Attributes, key: str) -> str:
    """The first value of a PN as DICOM writes it: alphabetic=ideographic=phonetic."""
    for value in _values(attributes, key):
        if isinstance(value, dict):
            groups = [value.get(group) for group in ("Alphabetic", "Ideographic", "Phonetic")]
            return "=".join(g.strip() if isinstance(g, str) else "" for g in groups).rstrip("=")
    return text(attributes, key)


def number(attributes: Attributes, key: str) -> float | None:
    """The first value as a number, None when there is none or it is not one."""
    value = next(iter(_values(attributes, key)), None)
    return float(value) if isinstance(value, int | float) else None


def integer(attributes: Attributes, key: str) -> int | None:
    """The first value as a whole number, None when there is none or it is not one."""
    value = number(attributes, key)
    return int(value) if value is not None and value.is_integer() and abs(value) < 1 << 63 else None


def items(attributes: Attributes, key: str) -> Iterator[Attributes]:
    """The items of a sequence."""
    return (value for value in _values(attributes, key) if isinstance(value, dict))


def checked_uid(uid: str, keyword: str) -> str:
    """The UID itself, or InvalidInput when it is not digits and dots within 64 characters."""
    if not _UID.match(uid):
        raise InvalidInput(f"{keyword} is not a UID.", field=keyword)
    return uid


def _required_uid(attributes: Attributes, key: str, keyword: str) -> str:
    uid = text(attributes, key)
    if not uid:
        raise MissingField(f"{keyword} is missing.", field=keyword)
    return checked_uid(uid, keyword)


def _uids(attributes: Attributes, key: str) -> tuple[str, ...]:
    """The Referenced SOP Instance UIDs of a sequence's items."""
    return tuple(uid for item in items(attributes, key) if (uid := text(item, "00081155")))


def _issuer(attributes: Attributes, key: str) -> str:
    """An issuer sequence (PS3.3 10.14): its local namespace, else its universal entity ID."""
    item = next(items(attributes, key), {})
    return text(item, "00400031") or text(item, "00400032")


def _patient_issuer(attributes: Attributes) -> str:
    return text(attributes, "00100021") or text(next(items(attributes, "00100024"), {}), "00400032")


def _other_patient_ids(attributes: Attributes) -> tuple[tuple[str, str], ...]:
    """(identifier, issuer) of (0010,1002), and of the retired (0010,1000) without issuer."""
    named = [(text(item, "00100020"), _patient_issuer(item)) for item in items(attributes, "00101002")]
    return (*(pair for pair in named if pair[0]), *((each, "") for each in _words(attributes, "00101000") if each))


def _code(item: Attributes) -> CodedEntry:
    value = text(item, "00080100") or text(item, "00080119") or text(item, "00080120")
    return CodedEntry(value, text(item, "00080102"), text(item, "00080104"))


def _request(item: Attributes) -> RequestAttributes:
    return RequestAttributes(
        accession_number=text(item, "00080050"),
        accession_number_issuer=_issuer(item, "00080051"),
        requested_procedure_id=text(item, "00401001"),
        scheduled_procedure_step_id=text(item, "00400009"),
        study_instance_uid=text(item, "0020000D"),
        placer_order_number=text(item, "00402016"),
        placer_order_number_issuer=_issuer(item, "00400026"),
        filler_order_number=text(item, "00402017"),
        filler_order_number_issuer=_issuer(item, "00400027"),
    )
