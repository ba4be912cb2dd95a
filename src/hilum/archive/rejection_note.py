"""Rejection notes read: Key Object Selection documents whose title says that what they name is not to be used.

Source: PS3.3 A.35.4, C.17.6; PS3.16 TID 2010, CID 7011.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hilum.archive.metadata import Metadata
from hilum.workflow.rejection import RejectionCode, RejectionNote

KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"
KEY_OBJECT_DESCRIPTION = "113012"
MAXIMUM_REASON = 1024


def rejection_note_of(metadata: Metadata, *, entitled: bool, quality_hides: Callable[[], bool]) -> RejectionNote | None:
    """Return what an instance rejects; None for what is no rejection note.

    `entitled` tells whether its sender may reject; `quality_hides` whether what is rejected for quality is hidden.
    """
    header = metadata.header
    title = header.concept_name
    if header.sop_class_uid != KEY_OBJECT_SELECTION or title is None or title.scheme != "DCM":
        return None
    if title.value not in set(RejectionCode):
        return None
    code = RejectionCode(title.value)
    attributes = metadata.attributes
    hides = code is not RejectionCode.QUALITY or quality_hides()
    return RejectionNote(code, tuple(_references(attributes)), _reason(attributes), entitled, hides)


def _references(attributes: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(Study, SOP Instance) UIDs of the Current Requested Procedure Evidence Sequence (0040,A375)."""
    for study in _items(attributes, "0040A375"):
        for series in _items(study, "00081115"):
            for instance in _items(series, "00081199"):
                pair = _text(study, "0020000D"), _text(instance, "00081155")
                if all(pair):
                    yield pair


def _reason(attributes: dict[str, Any]) -> str:
    """The Key Object Description of the document, if it has one."""
    for item in _items(attributes, "0040A730"):
        names = [_text(name, "00080100") for name in _items(item, "0040A043")]
        if KEY_OBJECT_DESCRIPTION in names:
            return _text(item, "0040A160")[:MAXIMUM_REASON]
    return ""


def _items(attributes: dict[str, Any], tag: str) -> list[dict[str, Any]]:
    values = attributes.get(tag, {}).get("Value", [])
    return [value for value in values if isinstance(value, dict)]


def _text(attributes: dict[str, Any], tag: str) -> str:
    values = attributes.get(tag, {}).get("Value", [])
    return values[0].strip() if values and isinstance(values[0], str) else ""
