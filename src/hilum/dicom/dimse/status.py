"""From a refusal of Hilum to a DIMSE status, in one table (PS3.7 Annex C; PS3.4 B.2.3, C.4, F.7.2, J.3, K.4.1.1.4)."""

from __future__ import annotations

from enum import Enum

from pydicom.datadict import tag_for_keyword

from hilum.core.errors import HilumError

SUCCESS = 0x0000
PENDING = 0xFF00
PENDING_WARNING = 0xFF01  # optional keys were not matched
CANCEL = 0xFE00
INVALID_ATTRIBUTE_VALUE = 0x0106
PROCESSING_FAILURE = 0x0110
DUPLICATE_SOP_INSTANCE = 0x0111
NO_SUCH_SOP_INSTANCE = 0x0112
INVALID_SOP_INSTANCE = 0x0117
MISSING_ATTRIBUTE = 0x0120
MISSING_ATTRIBUTE_VALUE = 0x0121
SOP_CLASS_NOT_SUPPORTED = 0x0122
NO_SUCH_ACTION = 0x0123
NOT_AUTHORIZED = 0x0124
UNRECOGNIZED_OPERATION = 0x0211
MISTYPED_ARGUMENT = 0x0212
RESOURCE_LIMITATION = 0x0213
OUT_OF_RESOURCES = 0xA700
# As dcm4chee answers what a rejection note named before; PS3.4 B.2.3 leaves A7xx to reasons like this.
SUBSEQUENT_OCCURRENCE_OF_REJECTED_OBJECT = 0xA771
UNABLE_TO_PERFORM_SUB_OPERATIONS = 0xA702
MOVE_DESTINATION_UNKNOWN = 0xA801
DOES_NOT_MATCH_SOP_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000  # storage: cannot understand; query and retrieve: unable to process

NO_LONGER_BE_UPDATED = 0xA506  # Error ID (0000,0903) of a performed procedure step in a final state, PS3.4 F.7.2.2.2


class ServiceClass(Enum):
    """The families in which a refusal has statuses of its own."""

    VERIFICATION = "verification"
    STORAGE = "storage"
    QUERY = "query"  # C-FIND of query/retrieve, modality worklist and the like
    RETRIEVE = "retrieve"
    PROCEDURE_STEP = "procedure step"
    STORAGE_COMMITMENT = "storage commitment"


# What PS3.7 Annex C says for everyone
_GENERAL: dict[str, int] = {
    "error": PROCESSING_FAILURE,
    "invalid": INVALID_ATTRIBUTE_VALUE,
    "missing": MISSING_ATTRIBUTE,
    "too-large": RESOURCE_LIMITATION,
    "unsupported": UNRECOGNIZED_OPERATION,
    "not-found": NO_SUCH_SOP_INSTANCE,
    "conflict": PROCESSING_FAILURE,
    "duplicate": DUPLICATE_SOP_INSTANCE,
    "illegal-transition": PROCESSING_FAILURE,
    "identity-mismatch": PROCESSING_FAILURE,
    "stale": PROCESSING_FAILURE,
    "rejected": PROCESSING_FAILURE,
    "on-hold": PROCESSING_FAILURE,
    "unauthenticated": NOT_AUTHORIZED,
    "forbidden": NOT_AUTHORIZED,
    "deadline": RESOURCE_LIMITATION,
    "unavailable": RESOURCE_LIMITATION,
    "out-of-space": RESOURCE_LIMITATION,
    "defect": PROCESSING_FAILURE,
    "malformed-command": MISTYPED_ARGUMENT,
}

_REFUSED_FOR_NOW = dict.fromkeys(("too-large", "deadline", "unavailable", "out-of-space"), OUT_OF_RESOURCES)
_IDENTIFIER = {
    "invalid": DOES_NOT_MATCH_SOP_CLASS,
    "missing": DOES_NOT_MATCH_SOP_CLASS,
    "not-found": CANNOT_UNDERSTAND,
    "conflict": CANNOT_UNDERSTAND,
    "unsupported": SOP_CLASS_NOT_SUPPORTED,
}

DIMSE_STATUS: dict[ServiceClass, dict[str, int]] = {
    ServiceClass.VERIFICATION: _GENERAL,
    # PS3.4 B.2.3
    ServiceClass.STORAGE: _GENERAL
    | _REFUSED_FOR_NOW
    | {
        "invalid": CANNOT_UNDERSTAND,
        "missing": CANNOT_UNDERSTAND,
        "not-found": CANNOT_UNDERSTAND,
        "unsupported": SOP_CLASS_NOT_SUPPORTED,
        "conflict": DOES_NOT_MATCH_SOP_CLASS,
        "rejected": SUBSEQUENT_OCCURRENCE_OF_REJECTED_OBJECT,
    },
    # PS3.4 C.4.1.1.4, K.4.1.1.4
    ServiceClass.QUERY: _GENERAL | _REFUSED_FOR_NOW | _IDENTIFIER,
    # PS3.4 C.4.2.1.5, C.4.3.1.4
    ServiceClass.RETRIEVE: _GENERAL
    | _IDENTIFIER
    | dict.fromkeys(_REFUSED_FOR_NOW, UNABLE_TO_PERFORM_SUB_OPERATIONS)
    | {"not-found": MOVE_DESTINATION_UNKNOWN},
    # PS3.4 F.7.2
    ServiceClass.PROCEDURE_STEP: _GENERAL,
    # PS3.4 J.3
    ServiceClass.STORAGE_COMMITMENT: _GENERAL,
}

_ERROR_ID: dict[tuple[ServiceClass, str], int] = {
    (ServiceClass.PROCEDURE_STEP, "illegal-transition"): NO_LONGER_BE_UPDATED,
}


def status_of(error: HilumError, service_class: ServiceClass) -> int:
    """The status of a refusal; the nearest ancestor of the error that the table names decides."""
    table = DIMSE_STATUS[service_class]
    for kind in type(error).__mro__:
        code = kind.__dict__.get("code")
        if code in table:
            return table[code]
    return PROCESSING_FAILURE


def error_id_of(error: HilumError, service_class: ServiceClass) -> int | None:
    """The Error ID (0000,0903) that the service class defines for this refusal, if any."""
    return _ERROR_ID.get((service_class, error.code))


def error_comment_of(error: HilumError) -> str:
    """Error Comment (0000,0902): LO, so 64 characters without backslash or control characters."""
    text = error.message.replace("\\", "/")
    return "".join(character if " " <= character <= "~" else "?" for character in text)[:64].strip()


def offending_element_of(error: HilumError) -> tuple[int, ...] | None:
    """Offending Element (0000,0901) where the error names a DICOM keyword."""
    tag = tag_for_keyword(error.field) if error.field else None
    return None if tag is None else (int(tag),)
