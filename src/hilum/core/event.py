"""What happened, in the past tense: the closed list of events and the shape of one.

Everything that leaves Hilum (results, status messages, subscriptions, the chain in `hilum trace`) is derived from
events that were committed together with the state they speak of. The list is documented in docs/configuration.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class EventName(StrEnum):
    """Names that a `[[route]]` can listen to."""

    PATIENT_REGISTERED = "PatientRegistered"
    PATIENT_UPDATED = "PatientUpdated"
    PATIENTS_MERGED = "PatientsMerged"
    PATIENTS_UNMERGED = "PatientsUnmerged"
    PRIORS_CHECKED = "PriorsChecked"
    ORDER_PLACED = "OrderPlaced"
    ORDER_CHANGED = "OrderChanged"
    ORDER_CANCELLED = "OrderCancelled"
    ORDER_DISCONTINUED = "OrderDiscontinued"
    ORDER_STATUS_CHANGED = "OrderStatusChanged"
    STEP_SCHEDULED = "StepScheduled"
    WORKLIST_SERVED = "WorklistServed"
    EXAM_STARTED = "ExamStarted"
    EXAM_ENDED = "ExamEnded"
    IMAGES_ARRIVED = "ImagesArrived"
    STUDY_MATCHED = "StudyMatched"
    STUDY_UNMATCHED = "StudyUnmatched"
    STUDY_REASSIGNED = "StudyReassigned"
    INSTANCES_STORED = "InstancesStored"
    STUDY_COMPLETED = "StudyCompleted"
    INSTANCES_REJECTED = "InstancesRejected"
    INSTANCES_RESTORED = "InstancesRestored"
    INSTANCES_DELETED = "InstancesDeleted"
    READING_STARTED = "ReadingStarted"
    REPORT_DRAFTED = "ReportDrafted"
    REPORT_SIGNED = "ReportSigned"
    RESULT_DELIVERED = "ResultDelivered"
    MESSAGE_RECEIVED = "MessageReceived"
    GLASS_BROKEN = "GlassBroken"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, tied to the patient, order, study and report it concerns.

    `at` is UTC. `standard` and `peer` say over which protocol and from whom it came (for the chain); `details`
    holds only what routing and tracing need, never free text of a report.
    """

    id: str
    name: EventName
    at: datetime
    patient_id: str | None = None
    order_id: str | None = None
    study_id: str | None = None
    report_id: str | None = None
    report_version: int | None = None
    message_id: str | None = None
    standard: str = ""
    peer: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
