"""An imaging order (requested procedure), its scheduled steps and performed steps, with their state tables.

Sources: HL7 v2.5.1 ch. 4 (ORC-1 table 0119, ORC-5 table 0038), IHE RAD TF-2 4.2/4.3/4.6/4.7, PS3.3 C.4.10, C.4.14.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from hilum.core.actor import Identifier
from hilum.core.text import fold


class OrderStatus(StrEnum):
    """Where an order stands; the report has a status of its own."""

    SCHEDULED = "scheduled"
    IN_PROGRESS = "in-progress"
    PARTIAL = "partial"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    DISCONTINUED = "discontinued"


class StepStatus(StrEnum):
    """Scheduled Procedure Step Status (0040,0020), PS3.3 C.4.10."""

    SCHEDULED = "SCHEDULED"
    ARRIVED = "ARRIVED"
    READY = "READY"
    STARTED = "STARTED"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"
    CANCELLED = "CANCELLED"


class PerformedStatus(StrEnum):
    """Performed Procedure Step Status (0040,0252), PS3.3 C.4.14; values as on the wire."""

    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"


# Which statuses an order may move to; staying is always allowed. A wrong worklist entry takes a step back to
# SCHEDULED, hence the ways back. Images that arrive after a cancellation reopen nothing: they are listed.
ORDER_TRANSITIONS: dict[OrderStatus, frozenset[OrderStatus]] = {
    OrderStatus.SCHEDULED: frozenset(OrderStatus) - {OrderStatus.SCHEDULED},
    OrderStatus.IN_PROGRESS: frozenset(
        {OrderStatus.SCHEDULED, OrderStatus.PARTIAL, OrderStatus.COMPLETED, OrderStatus.DISCONTINUED}
    ),
    OrderStatus.PARTIAL: frozenset(
        {OrderStatus.SCHEDULED, OrderStatus.IN_PROGRESS, OrderStatus.COMPLETED, OrderStatus.DISCONTINUED}
    ),
    # An extra acquisition after completion starts the exam again; it ends as it ended before.
    OrderStatus.COMPLETED: frozenset({OrderStatus.SCHEDULED, OrderStatus.IN_PROGRESS, OrderStatus.PARTIAL}),
    OrderStatus.CANCELLED: frozenset(),
    # Broken off at the modality and done again; an order that was withdrawn stays as it is.
    OrderStatus.DISCONTINUED: frozenset(
        {OrderStatus.SCHEDULED, OrderStatus.IN_PROGRESS, OrderStatus.PARTIAL, OrderStatus.COMPLETED}
    ),
}

# ORC-5, HL7 table 0038 (IHE RAD-3). "A": some, but not all, results available.
ORC5_STATUS = {
    OrderStatus.SCHEDULED: "SC",
    OrderStatus.IN_PROGRESS: "IP",
    OrderStatus.PARTIAL: "A",
    OrderStatus.COMPLETED: "CM",
    OrderStatus.CANCELLED: "CA",
    OrderStatus.DISCONTINUED: "DC",
}

# Steps that a modality may still perform (design: SCHEDULED, ARRIVED, READY; STARTED by setting).
WORKLIST_STATUSES = frozenset({StepStatus.SCHEDULED, StepStatus.ARRIVED, StepStatus.READY})
STEP_ENDED = frozenset({StepStatus.COMPLETED, StepStatus.DISCONTINUED, StepStatus.CANCELLED})

# DCM context group 9300 (PS3.16 CID 9300): the technologist chose the wrong worklist entry.
WRONG_WORKLIST_ENTRY = ("110514", "DCM")


class Priority(StrEnum):
    """Urgency, HL7 TQ1-9 / OBR-27.6 (table 0485) folded to the words of DICOM and FHIR."""

    STAT = "stat"
    URGENT = "urgent"
    ROUTINE = "routine"


class Filler(StrEnum):
    """Who gives the order its accession and study UID."""

    HILUM = "hilum"
    EXTERNAL = "external"


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept: code, scheme as in HL7 CE.3 / DICOM Coding Scheme Designator, and its meaning."""

    value: str
    scheme: str = ""
    meaning: str = ""


def same_procedure(one: Code, other: Code) -> bool:
    """Tell whether two codes name one procedure: by their values, or by their words where one of them has no value."""
    if one.value and other.value:
        return one.value == other.value
    return fold(one.meaning) == fold(other.meaning)


@dataclass(frozen=True, slots=True)
class Physician:
    """A physician named in a message (HL7 XCN)."""

    identifier: str = ""
    family: str = ""
    given: str = ""
    authority: str = ""

    @property
    def dicom(self) -> str:
        """The name as a DICOM PN."""
        return f"{self.family}^{self.given}".rstrip("^")

    @property
    def display(self) -> str:
        """The name for people."""
        return ", ".join(part for part in (self.family, self.given) if part) or self.identifier

    @property
    def key(self) -> Identifier:
        """Identifier and authority alone."""
        return Identifier(self.identifier, self.authority)


@dataclass(frozen=True, slots=True)
class ScheduledStep:
    """A scheduled procedure step (PS3.3 C.4.10); without a station it suits any of its modality. `start_at` is UTC."""

    id: str
    order_id: str
    step_id: str
    modality: str
    station_ae_title: str = ""
    station_name: str = ""
    location: str = ""
    start_at: datetime | None = None
    description: str = ""
    protocol: tuple[Code, ...] = ()
    performing_physician: Physician = field(default_factory=Physician)
    status: StepStatus = StepStatus.SCHEDULED


@dataclass(frozen=True, slots=True)
class Order:
    """An imaging order at one revision, keyed to the outside by accession, placer and filler numbers.

    `withdrawn` once it was cancelled or discontinued by whoever may do so: exams then no longer change its status.
    """

    id: str
    patient_id: str
    accession_number: str
    placer_order_number: str
    placer_authority: str
    filler_order_number: str
    filler_authority: str
    filler: Filler
    study_instance_uid: str
    requested_procedure_id: str
    procedure: Code
    modality: str
    priority: Priority
    status: OrderStatus
    placed_at: datetime
    sender: str = ""
    body_region: str = ""
    reason: str = ""
    clinical_information: str = ""
    ordering_physician: Physician = field(default_factory=Physician)
    copies_to: tuple[Physician, ...] = ()
    visit_number: str = ""
    patient_class: str = ""
    scheduled_at: datetime | None = None
    withdrawn: bool = False
    revision: int = 1


@dataclass(frozen=True, slots=True)
class PerformedStep:
    """A performed procedure step (MPPS); n:m with scheduled steps. Times are UTC."""

    id: str
    sop_instance_uid: str
    status: PerformedStatus
    patient_id: str | None
    order_ids: tuple[str, ...]
    step_ids: tuple[str, ...]
    station_ae_title: str
    modality: str
    started_at: datetime
    ended_at: datetime | None = None
    discontinuation: Code | None = None
    series_instance_uids: tuple[str, ...] = ()
    study_instance_uids: tuple[str, ...] = ()

    @property
    def was_wrong_entry(self) -> bool:
        """Tell whether it was discontinued as "incorrect worklist entry selected" (110514, DCM)."""
        code = self.discontinuation
        return (
            self.status is PerformedStatus.DISCONTINUED
            and code is not None
            and (code.value, code.scheme) == WRONG_WORKLIST_ENTRY
        )
