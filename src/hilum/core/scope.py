"""What of a list someone may see, and what the policy has to know of one patient to decide.

The SQL compiles a `Scope` in, so pages and counts reveal nothing beyond it; a `Resource` is the same question asked of
one patient. Both must always agree (a test compares them).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hilum.core.actor import Identifier


class Confidentiality(StrEnum):
    """The label of a patient, from the least to the most strictly kept one. Of merged patients the strictest holds."""

    NORMAL = "normal"
    VIP = "vip"
    EMPLOYEE = "employee"
    SENSITIVE = "sensitive"

    @property
    def strictness(self) -> int:
        """Where the label stands: 0 is normal."""
        return _ORDER[self]


_ORDER = {label: rank for rank, label in enumerate(Confidentiality)}
EVERY_LABEL = frozenset(Confidentiality)


class GrantKind(StrEnum):
    """How a time-limited grant came about: an admin gave it, or a person broke the glass."""

    GIVEN = "given"
    BREAK_GLASS = "break-glass"


@dataclass(frozen=True, slots=True)
class Scope:
    """A limit on patients. Nothing is visible by default: what is left out here is not seen.

    - `everything`: no limit at all; the other fields then say nothing.
    - `physicians`: where `related_only`, only patients whom one of these ordered for, is copied on or attends now.
    - `labels`: the confidentiality labels that are seen.
    - `facilities`: the facilities whose patients are seen; empty for all.
    - `unmatched`: whether what belongs to no registered patient yet is seen.
    - `account`: whose grants count; empty for none.
    """

    everything: bool
    physicians: tuple[Identifier, ...]
    related_only: bool = True
    labels: frozenset[Confidentiality] = frozenset({Confidentiality.NORMAL})
    facilities: tuple[str, ...] = ()
    unmatched: bool = False
    account: str = ""


EVERYTHING = Scope(True, (), related_only=False, labels=EVERY_LABEL, unmatched=True)
NOTHING = Scope(False, ())


@dataclass(frozen=True, slots=True)
class Resource:
    """What the policy has to know of the patient that something is about.

    `related` and `in_facility` are of the one who asks; `granted` is a grant of theirs for this patient that is still
    good for the label, `label_granted` one for all patients of the label. `known` is false for what belongs to no
    registered patient.
    """

    known: bool = True
    label: Confidentiality = Confidentiality.NORMAL
    related: bool = False
    in_facility: bool = False
    granted: GrantKind | None = None
    label_granted: bool = False


UNMATCHED = Resource(known=False)
