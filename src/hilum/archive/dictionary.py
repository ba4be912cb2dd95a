"""What the DICOM dictionaries know of a tag, as plain look-ups that cost nothing on the way in."""

from __future__ import annotations

from functools import lru_cache

from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import dictionary_VR, keyword_for_tag, private_dictionary_VR
from pydicom.tag import BaseTag

# Where the dictionary leaves a choice; the walk decides "US or SS" by Pixel Representation (PS3.3 C.7.6.3.1.5).
SIGNED_OR_NOT = "??"
_CHOICE = {"OB or OW": "OW", "US or OW": "OW", "US or SS": SIGNED_OR_NOT, "US or SS or OW": "OW", "NONE": "UN"}

VR_OF_TAG: dict[int, str] = {int(tag): _CHOICE.get(entry[0], entry[0]) for tag, entry in DicomDictionary.items()}
KEY_OF_TAG: dict[int, str] = {tag: f"{tag:08X}" for tag in VR_OF_TAG}


def vr_of(tag: int, creator: str | None) -> str:
    """The value representation of a tag, "UN" when nobody knows; `creator` is of its private block."""
    known = VR_OF_TAG.get(tag)
    if known is not None:
        return known
    group, element = tag >> 16, tag & 0xFFFF
    if element == 0:
        return "UL"
    if group & 1:
        if 0x10 <= element <= 0xFF:
            return "LO"
        return _private_vr(group, element & 0xFF, creator) if creator else "UN"
    return _repeating_vr(tag) if 0x5000 <= group <= 0x7FFF else "UN"


@lru_cache(maxsize=8192)
def _private_vr(group: int, element: int, creator: str) -> str:
    try:
        vr = private_dictionary_VR(BaseTag(group << 16 | 0x1000 | element), creator)
    except KeyError:
        return "UN"
    return _CHOICE.get(vr, vr)


@lru_cache(maxsize=1024)
def _repeating_vr(tag: int) -> str:
    try:
        vr = dictionary_VR(BaseTag(tag))
    except KeyError:
        return "UN"
    return _CHOICE.get(vr, vr)


def name_of(tag: int) -> str:
    """The keyword of a tag, or (gggg,eeee) where it has none; for errors."""
    return keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
