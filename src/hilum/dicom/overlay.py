"""What is known to be true, laid over what the images say, on the way out: in answers to queries, metadata and bytes.

The bytes in the archive stay as received. Unknown is not laid over known: a patient registered without a birth date
keeps that of the images. Nor is an instance written anew only because it leaves out what is known (an issuer, a birth
date, a sex) or writes a name in capitals: then it goes out as it came.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from hilum.archive.coercion import Provenance, moment_of, plain_text
from hilum.core.patient import Demographics
from hilum.core.text import fold
from hilum.storage.shown import Truth

Attributes = dict[str, dict[str, Any]]

ACCESSION_NUMBER = "00080050"
PATIENT_NAME = "00100010"
PATIENT_ID = "00100020"
ISSUER_OF_PATIENT_ID = "00100021"
ISSUER_QUALIFIERS = "00100024"
PATIENT_BIRTH_DATE = "00100030"
PATIENT_SEX = "00100040"
STUDY_INSTANCE_UID = "0020000D"
SERIES_INSTANCE_UID = "0020000E"
REQUEST_ATTRIBUTES = "00400275"
MODIFIED_ATTRIBUTES = "04000550"
ORIGINAL_ATTRIBUTES = "04000561"
# PS3.3 C.7.1.1: what else a sender may have said is no value of the attribute.
SEXES = frozenset({"M", "F", "O"})
# What can differ between the two, in the order of tags.
LAID = (
    ACCESSION_NUMBER, PATIENT_NAME, PATIENT_ID, ISSUER_OF_PATIENT_ID, ISSUER_QUALIFIERS, PATIENT_BIRTH_DATE,
    PATIENT_SEX, STUDY_INSTANCE_UID, SERIES_INSTANCE_UID, REQUEST_ATTRIBUTES,
)  # fmt: skip
_UNSAID = frozenset({ISSUER_OF_PATIENT_ID, PATIENT_BIRTH_DATE, PATIENT_SEX})


def overlaid(attributes: Attributes, truth: Truth) -> Attributes:
    """Return the attributes of a study, series or instance (DICOM JSON model) with the truth laid over them."""
    laid = dict(attributes)
    if truth.identifier is not None:
        laid[PATIENT_ID] = _element("LO", truth.identifier.value)
        laid[ISSUER_OF_PATIENT_ID] = _element("LO", truth.identifier.authority)
        # It qualifies the identifier as received, which need not be the one that is shown now.
        laid.pop(ISSUER_QUALIFIERS, None)
    if truth.demographics is not None:
        laid |= _demographics(attributes, truth.demographics)
    if truth.accession_number is not None:
        laid[ACCESSION_NUMBER] = _element("SH", truth.accession_number)
        named = _requested(attributes)
        if truth.accession_number not in named and (named or truth.reassigned):
            laid.pop(REQUEST_ATTRIBUTES, None)  # it speaks of an order that this is not
    return dict(sorted(laid.items()))


def overlaid_instance(
    attributes: Attributes, truth: Truth, study_instance_uid: str, series_instance_uid: str
) -> Attributes:
    """Return all attributes of an instance with the truth laid over them, and the study and series it is in now."""
    laid = overlaid(attributes, truth)
    laid[STUDY_INSTANCE_UID] = _element("UI", study_instance_uid)
    laid[SERIES_INSTANCE_UID] = _element("UI", series_instance_uid)
    return laid


def changes(attributes: Attributes, laid: Attributes) -> dict[str, tuple[str, str] | None]:
    """Return the attributes to be written anew, by key: VR and text, None for one that is to go.

    Nothing is returned where the instance contradicts nothing of what is laid over it.
    """
    differing = [key for key in LAID if _values(attributes, key) != _values(laid, key)]
    if not any(_contradicts(key, attributes, laid) for key in differing):
        return {}
    return {key: (str(laid[key]["vr"]), _text(laid[key])) if key in laid else None for key in differing}


def with_originals(
    laid: Attributes, received: Attributes, differing: Mapping[str, tuple[str, str] | None], said: Provenance
) -> Attributes:
    """Return the attributes with an item of the Original Attributes Sequence that keeps what differs as received."""
    before = {
        key: received.get(key, {"vr": new[0]} if new else {})
        for key, new in differing.items()
        if new or key in received
    }
    item = {
        MODIFIED_ATTRIBUTES: {"vr": "SQ", "Value": [before]},
        "04000562": _element("DT", moment_of(said)),
        "04000563": _element("LO", plain_text(said.system)),
        "04000564": _element("LO", plain_text(said.source)),
        "04000565": _element("CS", said.reason),
    }
    earlier = laid.get(ORIGINAL_ATTRIBUTES, {}).get("Value", [])
    return dict(sorted({**laid, ORIGINAL_ATTRIBUTES: {"vr": "SQ", "Value": [*earlier, item]}}.items()))


def _contradicts(key: str, attributes: Attributes, laid: Attributes) -> bool:
    said = _values(attributes, key)
    if key in _UNSAID and not said:
        return False
    if key == PATIENT_NAME and said:
        return _spelled(_text(attributes[key])) != _spelled(_text(laid[key]))
    if key == ACCESSION_NUMBER and not said:
        return _text(laid[key]) not in _requested(attributes)
    return key != ISSUER_QUALIFIERS


def _values(attributes: Attributes, key: str) -> list[Any]:
    values = attributes.get(key, {}).get("Value", [])
    return [value for value in values if value not in (None, "")]


def _text(entry: dict[str, Any]) -> str:
    """The value as it stands in an element."""
    value = next(iter(entry.get("Value", [])), "") or ""
    if isinstance(value, dict):
        groups = [str(value.get(group, "")) for group in ("Alphabetic", "Ideographic", "Phonetic")]
        return "=".join(groups).rstrip("=")
    return str(value)


def _spelled(name: str) -> str:
    """A name without regard to capitals, spaces at the ends of its parts, and parts that are empty at the end."""
    groups = unicodedata.normalize("NFC", name).casefold().split("=")
    return "=".join("^".join(part.strip() for part in group.split("^")).rstrip("^") for group in groups)


def _demographics(received: Attributes, known: Demographics) -> Attributes:
    laid: Attributes = {}
    if known.name.dicom:
        laid[PATIENT_NAME] = {"vr": "PN", "Value": [_name(received, known.name.dicom)]}
    if known.birth_date is not None:
        laid[PATIENT_BIRTH_DATE] = _element("DA", known.birth_date.strftime("%Y%m%d"))
    if known.sex in SEXES:
        laid[PATIENT_SEX] = _element("CS", known.sex)
    return laid


def _name(received: Attributes, alphabetic: str) -> dict[str, str]:
    """The registered name; other scripts of the images stay where they write the same name."""
    values = received.get(PATIENT_NAME, {}).get("Value") or [None]
    first = values[0]
    if isinstance(first, dict) and fold(str(first.get("Alphabetic", ""))) == fold(alphabetic):
        return {**first, "Alphabetic": alphabetic}
    return {"Alphabetic": alphabetic}


def _requested(attributes: Attributes) -> set[str]:
    """The accession numbers that the Request Attributes Sequence names."""
    items = attributes.get(REQUEST_ATTRIBUTES, {}).get("Value", [])
    return {_text(item[ACCESSION_NUMBER]) for item in items if isinstance(item, dict) and ACCESSION_NUMBER in item} - {
        ""
    }


def _element(vr: str, value: str) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]} if value else {"vr": vr}
