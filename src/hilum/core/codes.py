"""Code maps that more than one door needs, each with its source.

Modality and body region of an order come from its coded fields where the sender gives them; else from words of the
procedure's code and meaning, by these tables alone.
"""

from __future__ import annotations

import re

from hilum.core.order import Code
from hilum.core.text import fold

# Defined terms of Modality (0008,0060), PS3.3 C.7.3.1.1.1, that are scheduled as imaging.
MODALITIES = frozenset(
    "AR BI BMD CR CT DG DX ECG EEG EMG EPS ES GM IO IVOCT IVUS KER LEN LS MG MR NM OAM OCT OP OPM OPT OPTBSV OPTENF "
    "OPV OT PT PX RF RG RTIMAGE SM SMR SRF TG US VA XA XC".split()
)

# Diagnostic service section (OBR-24, HL7 table 0074) where it is not already a modality.
SECTION_MODALITY = {"NMR": "MR", "NMS": "NM", "CUS": "US", "OUS": "US", "RUS": "US", "VUS": "US", "EC": "ECG"}

# Words of a procedure's code or meaning; the first that is found decides.
MODALITY_WORDS = {
    "ct": "CT", "cat": "CT", "computed": "CT", "tomography": "CT",
    "mr": "MR", "mri": "MR", "mra": "MR", "magnetic": "MR",
    "us": "US", "ultrasound": "US", "sonography": "US", "sonogram": "US", "doppler": "US",
    "mammography": "MG", "mammogram": "MG", "mammo": "MG", "mg": "MG",
    "pet": "PT", "pt": "PT", "nm": "NM", "scintigraphy": "NM", "spect": "NM",
    "xr": "DX", "dx": "DX", "cr": "CR", "radiograph": "DX", "radiography": "DX", "xray": "DX",
    "fluoroscopy": "RF", "fl": "RF", "rf": "RF", "angiography": "XA", "angiogram": "XA", "xa": "XA",
    "dexa": "BMD", "densitometry": "BMD",
}  # fmt: skip

REGION_WORDS = {
    "chest": "chest", "thorax": "chest", "lung": "chest", "lungs": "chest", "pulmonary": "chest", "rib": "chest",
    "ribs": "chest", "head": "head", "brain": "head", "skull": "head", "cranial": "head", "neck": "neck",
    "carotid": "neck", "thyroid": "neck", "abdomen": "abdomen", "abdominal": "abdomen", "liver": "abdomen",
    "kidney": "abdomen", "renal": "abdomen", "pelvis": "pelvis", "pelvic": "pelvis", "spine": "spine",
    "lumbar": "spine", "cervical": "spine", "thoracic": "spine", "heart": "heart", "cardiac": "heart",
    "coronary": "heart", "breast": "breast", "mammography": "breast", "mammogram": "breast", "mammo": "breast",
    "shoulder": "upper-limb", "arm": "upper-limb", "elbow": "upper-limb", "wrist": "upper-limb", "hand": "upper-limb",
    "hip": "lower-limb", "femur": "lower-limb", "knee": "lower-limb", "ankle": "lower-limb", "foot": "lower-limb",
}  # fmt: skip

# Modalities whose images are read side by side.
MODALITY_FAMILIES = (
    frozenset({"CR", "DX", "RG", "RF"}),
    frozenset({"CT"}),
    frozenset({"MR"}),
    frozenset({"US", "IVUS"}),
    frozenset({"NM", "PT"}),
    frozenset({"MG"}),
    frozenset({"XA"}),
)

# A word that code systems run together with the region: CTCHEST, XRHAND, MRBRAIN.
_JOINED = re.compile(r"^(ct|mr|us|xr|cr|dx|nm|pt)(.+)$")


def _words(code: Code) -> list[str]:
    words: list[str] = []
    for word in re.findall(r"[a-z]+", fold(f"{code.value} {code.meaning}").replace("x-ray", "xray")):
        joined = _JOINED.match(word)
        words += [joined[1], joined[2]] if joined and joined[2] in REGION_WORDS else [word]
    return words


def modality_of(section: str, procedure: Code) -> str:
    """Return the modality of an order, or "OT" where neither its section nor its procedure tells."""
    section = section.strip().upper()
    if section in MODALITIES:
        return section
    if section in SECTION_MODALITY:
        return SECTION_MODALITY[section]
    for word in _words(procedure):
        if word in MODALITY_WORDS:
            return MODALITY_WORDS[word]
    return "OT"


def region_of(procedure: Code) -> str:
    """Return the body region that a procedure's words name, or an empty text."""
    for word in _words(procedure):
        if word in REGION_WORDS:
            return REGION_WORDS[word]
    return ""


def same_family(one: str, other: str) -> bool:
    """Tell whether images of two modalities are usually read side by side."""
    return one == other or any(one in family and other in family for family in MODALITY_FAMILIES)
