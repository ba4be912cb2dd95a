"""Which abstract and transfer syntaxes may be agreed on: rules that services build their `Offer` from.

A rule for abstract syntaxes is a function of a UID; a rule for transfer syntaxes picks one of those proposed or none.
"""

from __future__ import annotations

from collections.abc import Callable

from pydicom._uid_dict import UID_dictionary

AbstractSyntaxRule = Callable[[str], bool]
TransferSyntaxRule = Callable[[tuple[str, ...]], str | None]

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"

DICOM_ROOT = "1.2.840.10008."
STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."

# Retired encodings that are not a data set of PS3.5 (MIME, XML) or not one that anything still reads (Papyrus).
_NOT_A_DATA_SET = frozenset({"1.2.840.10008.1.2.6.1", "1.2.840.10008.1.2.6.2", "1.2.840.10008.1.20"})

# Transfer syntaxes of PS3.6 that pydicom's dictionary has only where pynetdicom was imported before, which adds them.
NEWER = {
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
    "1.2.840.10008.1.2.8.1": "Deflated Image Frame Compression",
}

TRANSFER_SYNTAXES = frozenset(NEWER) | frozenset(
    uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax" and uid not in _NOT_A_DATA_SET
)

# Named "Storage" but not a Storage SOP Class of PS3.4 B.5: commitment, and the directory of a medium.
_NOT_STORAGE = frozenset({"1.2.840.10008.1.3.10", "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.2"})

STORAGE_SOP_CLASSES = frozenset(
    uid
    for uid, entry in UID_dictionary.items()
    if entry[1] == "SOP Class" and "Storage" in entry[0] and uid not in _NOT_STORAGE
)


def only(*uids: str) -> AbstractSyntaxRule:
    """Exactly these SOP classes."""
    return frozenset(uids).__contains__


def storage_sop_class(*, private: bool = True, unknown: bool = True) -> AbstractSyntaxRule:
    """Every Storage SOP Class pydicom knows; `private` adds those outside DICOM's root, `unknown` newer ones in it."""

    def accepts(uid: str) -> bool:
        if uid in STORAGE_SOP_CLASSES:
            return True
        if not uid.startswith(DICOM_ROOT):
            return private
        return unknown and uid.startswith(STORAGE_ROOT) and uid not in UID_dictionary

    return accepts


def first_of(accepted: frozenset[str] = TRANSFER_SYNTAXES) -> TransferSyntaxRule:
    """The requestor's first that is accepted: nothing need be transcoded, so the sender's preference counts."""

    def choose(proposed: tuple[str, ...]) -> str | None:
        return next((uid for uid in proposed if uid in accepted), None)

    return choose


def prefer(*order: str) -> TransferSyntaxRule:
    """Our own order of preference among those proposed."""

    def choose(proposed: tuple[str, ...]) -> str | None:
        return next((uid for uid in order if uid in proposed), None)

    return choose


explicit_then_implicit = prefer(EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
