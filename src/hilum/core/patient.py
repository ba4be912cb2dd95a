"""A patient: one person per (identifier, issuer); merges are links, never deletions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from hilum.core.actor import Identifier
from hilum.core.text import fold


@dataclass(frozen=True, slots=True)
class PersonName:
    """A person's name by components (HL7 XPN, DICOM PN, FHIR HumanName)."""

    family: str = ""
    given: str = ""
    middle: str = ""
    prefix: str = ""
    suffix: str = ""

    @property
    def dicom(self) -> str:
        """The name as a DICOM PN component group (PS3.5 6.2.1.1), trailing delimiters left out."""
        parts = (self.family, self.given, self.middle, self.prefix, self.suffix)
        return "^".join(p.replace("^", " ").replace("=", " ").replace("\\", " ") for p in parts).rstrip("^")

    @property
    def display(self) -> str:
        """The name as people write it in a list: family name first."""
        rest = " ".join(part for part in (self.given, self.middle) if part)
        return f"{self.family}, {rest}" if self.family and rest else self.family or rest

    @property
    def folded(self) -> str:
        """The DICOM form without case and accents, for searches."""
        return fold(self.dicom)

    @classmethod
    def from_dicom(cls, text: str) -> PersonName:
        """Read the alphabetic group of a PN value; further groups stay in the instance as received."""
        parts = [part.strip() for part in text.split("=")[0].split("^")][:5]
        return cls(*parts)


@dataclass(frozen=True, slots=True)
class Demographics:
    """What identifies a person besides identifiers. `sex` is the DICOM code: M, F, O or empty."""

    name: PersonName
    birth_date: date | None = None
    sex: str = ""


@dataclass(frozen=True, slots=True)
class PatientIdentifier:
    """An identifier with its type code (HL7 table 0203, usually MR)."""

    value: str
    authority: str
    type_code: str = "MR"

    @property
    def key(self) -> Identifier:
        """Value and authority alone."""
        return Identifier(self.value, self.authority)


@dataclass(frozen=True, slots=True)
class Patient:
    """A patient as known at one revision.

    `merged_into` names the surviving patient of the last merge that still holds; `demographics_at` is the time of
    the event (EVN-6, EVN-2) that the demographics come from, so that a stale message changes nothing.
    """

    id: str
    demographics: Demographics
    identifiers: tuple[PatientIdentifier, ...]
    merged_into: str | None = None
    demographics_at: datetime | None = None
    revision: int = 1
    created_at: datetime | None = None

    @property
    def primary_identifier(self) -> PatientIdentifier:
        """The identifier that is shown and sent first: the medical record number, else the first known."""
        for identifier in self.identifiers:
            if identifier.type_code == "MR":
                return identifier
        return self.identifiers[0]


def is_another_person(known: Demographics, claimed: Demographics) -> bool:
    """Tell whether family name and birth date are both given on both sides and both differ.

    One of them alone may differ by a typing error or a marriage; both together are another person's.
    """
    if not (known.birth_date and claimed.birth_date and known.name.family and claimed.name.family):
        return False
    return known.birth_date != claimed.birth_date and fold(known.name.family) != fold(claimed.name.family)
