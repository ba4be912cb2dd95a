"""The header of an image as conditions see it: every attribute by its keyword, as plain values."""

from __future__ import annotations

from typing import Any

from pydicom.datadict import dictionary_VM, keyword_for_tag

from hilum.archive.walk import Attributes
from hilum.dicom.encode import tag_and_vr, values_of


def header_values(attributes: Attributes) -> dict[str, Any]:
    """Return a header by keyword for conditions: an attribute of multiplicity 1 by itself, others as a list.

    An empty attribute is "", or a list without values; a sequence is a list of headers.
    """
    keywords = [keyword for key in attributes if (keyword := keyword_for_tag(int(key, 16)))]
    return {keyword: _of(keyword, values) for keyword, values in values_of(attributes, keywords).items()}


def _of(keyword: str, values: list[Any]) -> Any:
    tag, vr = tag_and_vr(keyword)
    if vr == "SQ":
        return [{name: _of(name, inner) for name, inner in item.items()} for item in values]
    return (values[0] if values else "") if dictionary_VM(tag) == "1" else values
