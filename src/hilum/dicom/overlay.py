"""What is known to be true, laid over what the images say, on the way out: QIDO-RS, metadata and C-FIND alike.

The bytes stay as received. Unknown is not laid over known: a patient registered without a birth date keeps that of the
images.
"""

from __future__ import annotations

from typing import Any

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
REQUEST_ATTRIBUTES = "00400275"


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
        if not truth.accession_number and REQUEST_ATTRIBUTES in laid:
            laid[REQUEST_ATTRIBUTES] = _without_accession(laid[REQUEST_ATTRIBUTES])
    return dict(sorted(laid.items()))


def _demographics(received: Attributes, known: Demographics) -> Attributes:
    laid: Attributes = {}
    if known.name.dicom:
        laid[PATIENT_NAME] = {"vr": "PN", "Value": [_name(received, known.name.dicom)]}
    if known.birth_date is not None:
        laid[PATIENT_BIRTH_DATE] = _element("DA", known.birth_date.strftime("%Y%m%d"))
    if known.sex:
        laid[PATIENT_SEX] = _element("CS", known.sex)
    return laid


def _name(received: Attributes, alphabetic: str) -> dict[str, str]:
    """The registered name; other scripts of the images stay where they write the same name."""
    values = received.get(PATIENT_NAME, {}).get("Value") or [None]
    first = values[0]
    if isinstance(first, dict) and fold(str(first.get("Alphabetic", ""))) == fold(alphabetic):
        return {**first, "Alphabetic": alphabetic}
    return {"Alphabetic": alphabetic}


def _without_accession(requests: dict[str, Any]) -> dict[str, Any]:
    """Request attributes that name no order: the one they named is another patient's."""
    items = [
        {key: entry for key, entry in item.items() if key != ACCESSION_NUMBER} if isinstance(item, dict) else item
        for item in requests.get("Value", [])
    ]
    return {**requests, "Value": items}


def _element(vr: str, value: str) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]} if value else {"vr": vr}
