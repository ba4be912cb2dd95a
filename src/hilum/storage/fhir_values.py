"""The values of a FHIR search, typed: what the door reads them into and `fhir_criteria` compiles to SQL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Kind(StrEnum):
    """The resources that are rows."""

    PATIENT = "Patient"
    ORDER = "ServiceRequest"
    STUDY = "ImagingStudy"
    REPORT = "DiagnosticReport"
    AUDIT = "AuditEvent"


class Number(StrEnum):
    """What kind of number an identifier is; its `authority` counts within its kind."""

    PATIENT = "patient"
    PLACER = "placer"
    FILLER = "filler"
    ACCESSION = "accession"
    STUDY_UID = "study-uid"


# Reasons of a refusal for which the policy or a password stands.
SERIOUS_REASONS = ("forbidden", "not-found", "unauthenticated", "password")


@dataclass(frozen=True, slots=True)
class Token:
    """A value, of these kinds of number; None is any value, or any authority."""

    value: str | None
    authority: str | None = None
    numbers: frozenset[Number] = frozenset(Number)


@dataclass(frozen=True, slots=True)
class Span:
    """The moments from `low` up to but not including `high`, or all others; both in the facility's zone."""

    low: datetime | None
    high: datetime | None
    outside: bool = False


@dataclass(frozen=True, slots=True)
class Words:
    """Text that a value begins with, without case and accents; or is exactly, or contains."""

    text: str
    exact: bool = False
    anywhere: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """The id of a row that is referred to."""

    id: str


@dataclass(frozen=True, slots=True)
class OneOf:
    """Stored words, one of which has to be there; none at all is never true."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Constant:
    """What is the same for all rows of the resource, so that the door itself knows whether it matches."""

    holds: bool


@dataclass(frozen=True, slots=True)
class Acts:
    """Words of the audit trail, of somebody (True), of nobody in particular (False) or either (None)."""

    words: tuple[str, ...]
    about_somebody: bool | None = None


Value = Token | Span | Words | Row | OneOf | Constant | Acts


@dataclass(frozen=True, slots=True)
class Criterion:
    """One parameter of a search: any of the values has to match."""

    name: str
    values: tuple[Value, ...]
