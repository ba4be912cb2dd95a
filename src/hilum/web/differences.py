"""What changed between two versions of a report, word by word, for showing and not for computing on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from hilum.web.models import ReportVersion, Section

WORDS = re.compile(r"\s+|[^\s]+")
MAXIMUM_WORDS = 6_000
"""Beyond this the comparison goes line by line, since matching costs time that grows with the square."""


@dataclass(frozen=True, slots=True)
class Change:
    kind: Literal["same", "removed", "added"]
    text: str


@dataclass(frozen=True, slots=True)
class SectionChange:
    title: str
    changes: tuple[Change, ...]

    @property
    def changed(self) -> bool:
        return any(change.kind != "same" for change in self.changes)


def text_changes(before: str, after: str) -> tuple[Change, ...]:
    """The pieces that, without the added ones, give `before` and, without the removed ones, `after`."""
    old, new = WORDS.findall(before), WORDS.findall(after)
    if len(old) + len(new) > MAXIMUM_WORDS:
        old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    changes: list[Change] = []
    for operation, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if operation == "equal":
            changes.append(Change("same", "".join(old[a:b])))
            continue
        if a < b:
            changes.append(Change("removed", "".join(old[a:b])))
        if c < d:
            changes.append(Change("added", "".join(new[c:d])))
    return tuple(changes)


def section_changes(before: Sequence[Section], after: Sequence[Section]) -> tuple[SectionChange, ...]:
    """Section by section in the order of `after`, then those that are gone."""
    old = {section.key: section for section in before}
    result = [
        SectionChange(section.title, text_changes(old[section.key].text if section.key in old else "", section.text))
        for section in after
    ]
    kept = {section.key for section in after}
    result += [
        SectionChange(section.title, text_changes(section.text, "")) for section in before if section.key not in kept
    ]
    return tuple(result)


def previous_version(versions: Sequence[ReportVersion], version: ReportVersion) -> ReportVersion | None:
    """The version that `version` replaced, if it replaced one."""
    earlier = [other for other in versions if other.number < version.number]
    return max(earlier, key=lambda other: other.number, default=None)
