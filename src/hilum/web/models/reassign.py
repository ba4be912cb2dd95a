"""A person decides whose images these are: what moves, to whom, and both patients side by side before it does."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from hilum.web.models.exceptions import Candidate
from hilum.web.models.frame import Frame, Patient


@dataclass(frozen=True, slots=True)
class MovedStudy:
    """The study that is to move; `registered` is whose it is now, if anybody's."""

    study_id: str
    study_instance_uid: str
    title: str
    sent: Patient
    registered: Patient | None
    accession_number: str
    is_reported: bool


@dataclass(frozen=True, slots=True)
class MovableSeries:
    series_instance_uid: str
    label: str
    images: int
    withheld: bool


@dataclass(frozen=True, slots=True)
class PersonFound:
    patient_id: str
    patient: Patient


@dataclass(frozen=True, slots=True)
class OtherStudy:
    """Another study of the same person, with which this one may be joined."""

    study_id: str
    label: str


@dataclass(frozen=True, slots=True)
class PastMove:
    """What was moved before; it is taken back here where `may_undo`."""

    reassignment_id: str
    words: str
    reason: str
    by: str
    at: datetime
    undone: str
    may_undo: bool


@dataclass(frozen=True, slots=True)
class ReassignPage:
    """The first step: which images, and where to."""

    frame: Frame
    study: MovedStudy
    series: tuple[MovableSeries, ...]
    chosen: tuple[str, ...]
    text: str
    orders: tuple[Candidate, ...]
    people: tuple[PersonFound, ...]
    others: tuple[OtherStudy, ...]
    past: tuple[PastMove, ...]


@dataclass(frozen=True, slots=True)
class Compared:
    """One attribute: as the images say it, as it is shown now, and as it will be."""

    name: str
    sent: str
    now: str
    then: str

    @property
    def differs(self) -> bool:
        """Whether what will be shown contradicts what the images say."""
        return bool(self.sent) and self.sent.casefold() != self.then.casefold()


@dataclass(frozen=True, slots=True)
class ConfirmPage:
    """The second step: both patients side by side. `seen` is whose the study was when the person looked."""

    frame: Frame
    study: MovedStudy
    heading: str
    target: str
    target_name: str
    series: tuple[MovableSeries, ...]
    is_whole: bool
    compared: tuple[Compared, ...]
    seen: str


@dataclass(frozen=True, slots=True)
class RecordRow:
    """One record of a person; the record that it was merged into and since when, where it was."""

    patient_id: str
    patient: Patient
    into: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class PastMerge:
    words: str
    reason: str
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class RecordsPage:
    """The records that are one person, each of which can be taken out again."""

    frame: Frame
    patient: Patient
    patient_id: str
    rows: tuple[RecordRow, ...]
    past: tuple[PastMerge, ...]
    may_unmerge: bool
