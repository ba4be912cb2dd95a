"""From the header of an instance to the columns of the index: one table per level says which attributes are kept.

`attributes` of study and series are parts of the DICOM JSON model as received; truth about patient and order is laid
over them on the way out.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from hilum.archive.metadata import Header, Metadata
from hilum.archive.walk import Attributes, PixelData
from hilum.core.text import fold
from hilum.workflow.matching import PatientOnImages

# Study and patient level of PS3.18 table 10.6.1-5 and what else lists show of them.
STUDY_ATTRIBUTES = (
    "00080020", "00080030", "00080050", "00080051", "00080080", "00080090", "00080201", "00081030", "00081032",
    "00081040", "00081048", "00081060", "00081080", "00100010", "00100020", "00100021", "00100024", "00100030",
    "00100032", "00100040", "00101002", "00101010", "00101020", "00101030", "00102160", "00102180", "00104000",
    "0020000D", "00200010", "00321060", "00321064",
)  # fmt: skip
# Series level of the same table.
SERIES_ATTRIBUTES = (
    "00080021", "00080031", "00080060", "00080068", "00080070", "00081010", "0008103E", "0008103F", "00081050",
    "00081070", "00081090", "00081111", "00180015", "00181000", "00181030", "00185100", "0020000E", "00200011",
    "00200052", "00200060", "00400244", "00400245", "00400253", "00400254", "00400275", "00080201",
)  # fmt: skip
_LARGEST = (1 << 31) - 1
_OF_PIXELS = tuple(field.name for field in fields(PixelData))


def patient_on_images(header: Header, issuer: str) -> PatientOnImages:
    """Return the patient as the images name them; `issuer` stands in where they name none."""
    return PatientOnImages(
        header.patient_id,
        header.issuer_of_patient_id or (issuer if header.patient_id else ""),
        header.patient_name,
        header.patient_birth_date,
        header.patient_sex,
    )


def accession_of(header: Header) -> str:
    """Return the accession number, from the Request Attributes Sequence where (0008,0050) is empty.

    Several requests of different accessions are a group case, for which no one number stands.
    """
    named = {item.accession_number for item in header.request_attributes if item.accession_number}
    return header.accession_number or (named.pop() if len(named) == 1 else "")


def step_id_of(header: Header) -> str:
    """Return the scheduled step that the image names; "" for none or several."""
    named = {item.scheduled_procedure_step_id for item in header.request_attributes} - {""}
    return named.pop() if len(named) == 1 else ""


def study_columns(header: Header, attributes: Attributes) -> dict[str, Any]:
    """Return the columns of the study that the verb does not fill in."""
    return {
        "study_identifier": header.study_id,
        "study_date": header.study_date,
        "study_time": header.study_time,
        "description": header.study_description,
        "description_folded": fold(header.study_description),
        "referring_physician": header.referring_physician_name,
        "referring_physician_folded": fold(header.referring_physician_name),
        "attributes": _kept(attributes, STUDY_ATTRIBUTES),
    }


def series_columns(header: Header, attributes: Attributes) -> dict[str, Any]:
    """Return the columns of the series."""
    return {
        "series_instance_uid": header.series_instance_uid,
        "modality": header.modality,
        "number": _storable(header.series_number),
        "description": header.series_description,
        "description_folded": fold(header.series_description),
        "body_part": header.body_part_examined,
        "station_name": header.station_name,
        "series_date": header.series_date,
        "series_time": header.series_time,
        "attributes": _kept(attributes, SERIES_ATTRIBUTES),
    }


def instance_columns(metadata: Metadata, digest: str, peer: str) -> dict[str, Any]:
    """Return the columns of the instance, without those of its location."""
    header = metadata.header
    return {
        "sop_instance_uid": header.sop_instance_uid,
        "sop_class_uid": header.sop_class_uid,
        "transfer_syntax_uid": metadata.transfer_syntax_uid,
        "number": _storable(header.instance_number),
        "rows": _storable(header.rows),
        "columns": _storable(header.columns),
        "frames": max(1, _storable(header.number_of_frames) or 1),
        "digest": digest,
        "pixels": None if (pixels := metadata.pixels) is None else {key: getattr(pixels, key) for key in _OF_PIXELS},
        "header": metadata.json(),
        "peer": peer,
    }


def _kept(attributes: Attributes, keys: tuple[str, ...]) -> Attributes:
    return {key: attributes[key] for key in sorted(keys) if key in attributes and "BulkDataURI" not in attributes[key]}


def _storable(number: int | None) -> int | None:
    """A number that the database's integer holds, else none: an absurd number is no reason to refuse an image."""
    return number if number is not None and abs(number) <= _LARGEST else None
