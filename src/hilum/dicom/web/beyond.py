"""Matching of attributes that the index has no column for, on the headers themselves (PS3.4 C.2.2.2).

Only within one study, where the instances to look at are few; elsewhere such an attribute can't be matched and is
named in a Warning. A path through sequences matches where any item does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import dictionary_VR, keyword_for_tag

from hilum.core.text import fold
from hilum.dicom.overlay import Attributes

_RANGES = frozenset({"DA", "TM", "DT"})
_TEXTS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})


@dataclass(frozen=True, slots=True)
class Beyond:
    """An attribute by its path of tags, and the values of which one is to match; they may hold `*` and `?`."""

    tags: tuple[str, ...]
    values: tuple[str, ...]

    @property
    def name(self) -> str:
        """The path in keywords."""
        return ".".join(keyword_for_tag(tag) for tag in self.tags)

    def matches(self, attributes: Attributes) -> bool:
        """Whether any value at the path is one that is asked for."""
        vr = dictionary_VR(int(self.tags[-1], 16))
        found = list(_values_at(attributes, self.tags))
        return any(_matches(vr, value, wanted) for wanted in self.values for value in found)


def matching_all(attributes: Attributes, keys: Sequence[Beyond]) -> bool:
    """Whether attributes match each of the keys."""
    return all(key.matches(attributes) for key in keys)


def _values_at(attributes: Attributes, tags: Sequence[str]) -> Iterator[Any]:
    values = attributes.get(tags[0], {}).get("Value", [])
    if len(tags) == 1:
        yield from values
        return
    for item in values:
        if isinstance(item, dict):
            yield from _values_at(item, tags[1:])


def _matches(vr: str, value: Any, wanted: str) -> bool:
    if isinstance(value, dict):  # a person's name by its component groups
        return any(_matches(vr, group, wanted) for group in value.values() if isinstance(group, str))
    if isinstance(value, int | float):
        return _same_number(value, wanted)
    if vr in _RANGES and "-" in wanted:
        low, _, high = wanted.partition("-")
        return (not low or str(value) >= low) and (not high or str(value)[: len(high)] <= high)
    if vr in _TEXTS:
        return _like(fold(str(value)), fold(wanted))
    return str(value) == wanted


def _same_number(value: float, wanted: str) -> bool:
    try:
        return float(wanted) == value
    except ValueError:
        return False


def _like(text: str, pattern: str) -> bool:
    """Whether a text is like a pattern with `*` and `?`, in time that no pattern can blow up."""
    at, place, star, retry = 0, 0, -1, 0
    while at < len(text):
        if place < len(pattern) and pattern[place] == "*":
            star, retry, place = place, at, place + 1
        elif place < len(pattern) and pattern[place] in ("?", text[at]):
            at, place = at + 1, place + 1
        elif star >= 0:
            retry += 1
            at, place = retry, star + 1
        else:
            return False
    return not pattern[place:].strip("*")
