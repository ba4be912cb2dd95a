"""MSH, PID, PV1, ORC and OBR of outgoing messages: nouns of the core to HL7 v2.3-2.5.1 fields.

Times are local times of the facility with their offset. What a destination's character set lacks is written as near as
it can be: accents are left out, typographic signs become plain ones, and only what has no likeness becomes `?`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from hilum.core.order import ORC5_STATUS, Order, OrderStatus, Physician, Priority
from hilum.core.patient import Patient
from hilum.core.study import Study
from hilum.hl7.charset import codec_for_writing
from hilum.hl7.compose import Builder
from hilum.hl7.er7 import Value
from hilum.hl7.timestamps import hl7_timestamp
from hilum.settings import Destination, Settings

# OBR-27.6, HL7 table 0485.
PRIORITY_OUT = {Priority.STAT: "S", Priority.URGENT: "A", Priority.ROUTINE: "R"}
SENDING_APPLICATION = "HILUM"

_PLAIN_SIGNS = {
    "‘": "'", "’": "'", "‚": "'", "“": '"', "”": '"', "„": '"', "–": "-", "—": "-", "−": "-", "…": "...", "•": "-",
    "≥": ">=", "≤": "<=", "±": "+/-", "×": "x", "µ": "u", "μ": "u", "°": " deg", "→": "->", "½": "1/2", "¼": "1/4",
    "€": "EUR", "ß": "ss", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ł": "l", "Ł": "L",
    "đ": "d", "Đ": "D", "ı": "i", "\u00a0": " ", "\u2009": " ", "\u202f": " ",
}  # fmt: skip


class Outgoing:
    """A message under construction for one destination."""

    def __init__(self, destination: Destination, settings: Settings) -> None:
        self.destination = destination
        self.settings = settings
        self.zone = ZoneInfo(settings.facility.zone)
        self._codec = codec_for_writing(destination.charset)
        self._builder = Builder(destination.charset, substitute="?")

    def __bytes__(self) -> bytes:
        return bytes(self._builder)

    def add(self, name: str, fields: Mapping[int, Value]) -> None:
        """Add a segment, its text fitted to the destination's character set."""
        self._builder.add(name, {number: self._fitted(value) for number, value in fields.items()})

    def time(self, moment: datetime | None) -> str:
        """A time as local time of the facility; empty for None."""
        return hl7_timestamp(moment, self.zone) if moment is not None else ""

    def header(self, kind: tuple[str, str, str], control_id: str, at: datetime) -> None:
        """MSH; an application and facility of the receiver come from the destination's setting."""
        application, _, facility = self.destination.receiving.partition("|")
        version = self.destination.version
        self.add(
            "MSH",
            {
                3: SENDING_APPLICATION,
                4: self.settings.facility.name,
                5: application,
                6: facility,
                7: self.time(at),
                # The message structure came with v2.3.1.
                9: kind[:2] if version == "2.3" else kind,
                10: control_id,
                11: "P",
                12: version,
            },
        )

    def _fitted(self, value: Value) -> Value:
        if isinstance(value, str):
            return fitted(value, self._codec) if type(value) is str else value
        if isinstance(value, tuple):
            return tuple(self._fitted(part) for part in value)
        if isinstance(value, list):
            return [self._fitted(part) for part in value]
        return value


def fitted(text: str, codec: str) -> str:
    """Text in the characters of a codec, as near as can be; what has no likeness is left for the writer."""
    try:
        text.encode(codec)
    except UnicodeEncodeError:
        return "".join(_nearest(char, codec) for char in unicodedata.normalize("NFC", text))
    return text


def _nearest(char: str, codec: str) -> str:
    for candidate in (char, _PLAIN_SIGNS.get(char), _without_accents(char)):
        if candidate:
            try:
                candidate.encode(codec)
            except UnicodeEncodeError:
                continue
            return candidate
    return char


def _without_accents(char: str) -> str:
    return "".join(part for part in unicodedata.normalize("NFKD", char) if not unicodedata.combining(part))


def pid(patient: Patient) -> dict[int, Value]:
    """PID: all identifiers, the primary one first."""
    first = patient.primary_identifier
    identifiers = [first, *(identifier for identifier in patient.identifiers if identifier is not first)]
    name, born = patient.demographics.name, patient.demographics.birth_date
    return {
        1: "1",
        3: [(i.value, "", "", i.authority, i.type_code) for i in identifiers],
        5: (name.family, name.given, name.middle, name.suffix, name.prefix, "", "L"),
        7: f"{born:%Y%m%d}" if born else "",
        # Table 0001 has a word for not knowing; DICOM leaves it empty.
        8: patient.demographics.sex or "U",
    }


def pv1(order: Order) -> dict[int, Value]:
    """PV1 with class and visit number; PV1-2 is required, and U is unknown (table 0004)."""
    return {1: "1", 2: order.patient_class or "U", 19: order.visit_number}


def orc(order: Order, control: str, status: OrderStatus, at: str) -> dict[int, Value]:
    """ORC with both numbers and the order's status (table 0038)."""
    return {
        1: control,
        2: (order.placer_order_number, order.placer_authority),
        3: (order.filler_order_number, order.filler_authority),
        5: ORC5_STATUS[status],
        9: at,
        12: xcn(order.ordering_physician),
    }


def obr(order: Order) -> dict[int, Value]:
    """The fields of OBR that say which order and procedure it is."""
    code = order.procedure
    return {
        1: "1",
        2: (order.placer_order_number, order.placer_authority),
        3: (order.filler_order_number, order.filler_authority),
        4: (code.value, code.meaning, code.scheme),
        13: order.clinical_information,
        16: xcn(order.ordering_physician),
        18: order.accession_number,
        19: order.requested_procedure_id,
        24: order.modality,
        27: ("", "", "", "", "", PRIORITY_OUT[order.priority]),
        28: [xcn(physician) for physician in order.copies_to],
        31: ("", order.reason) if order.reason else "",
    }


def zds(order: Order) -> dict[int, Value]:
    """ZDS-1: the Study Instance UID (IHE RAD TF-2 4.4.4.1.2.5)."""
    return {1: (order.study_instance_uid, SENDING_APPLICATION, "Application", "DICOM")}


def xcn(physician: Physician) -> Value:
    """A physician as XCN."""
    return (physician.identifier, physician.family, physician.given, "", "", "", "", "", physician.authority)


def ndl(physician: Physician) -> Value:
    """A physician as NDL, whose first component is a CNN (OBR-32)."""
    cnn = (physician.identifier, physician.family, physician.given, "", "", "", "", "", physician.authority)
    return (cnn, "")


def study_time(study: Study) -> str:
    """When the study began, as its images say in local time of the modality: without offset."""
    time = study.study_time.split(".")[0].replace(":", "")
    whole = time if time.isdigit() and len(time) in (4, 6) else ""
    return f"{study.study_date}{whole}" if len(study.study_date) == 8 and study.study_date.isdigit() else ""
