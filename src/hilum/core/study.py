"""A study of images and what is known of whose it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum


class MatchState(StrEnum):
    """Whether a study's patient and order are proven.

    `VERIFIED`: an order of that patient is behind it. `UNVERIFIED`: readable at once under a banner and on the
    reconciliation list. `CONFLICT`: what the images say contradicts the order they name. `WITHHELD`: positive
    evidence of error (discontinued as wrong worklist entry, rejection notes); not shown until a person decides.
    """

    VERIFIED = "verified"
    UNVERIFIED = "unverified"
    CONFLICT = "conflict"
    WITHHELD = "withheld"


@dataclass(frozen=True, slots=True)
class Study:
    """A study at one revision. `patient_id` and `order_id` are empty until known; times are UTC."""

    id: str
    study_instance_uid: str
    patient_id: str | None
    order_id: str | None
    match_state: MatchState
    accession_number: str
    description: str
    study_date: str
    study_time: str
    modalities: tuple[str, ...]
    series_count: int
    instance_count: int
    first_received_at: datetime
    last_received_at: datetime
    completed_at: datetime | None
    revision: int

    @property
    def performed_at(self) -> datetime | None:
        """When the images say that the study began, read as UTC; None where they do not say it rightly."""
        try:
            moment = datetime.strptime(
                self.study_date[:8] + (self.study_time[:6] or "000000").ljust(6, "0"), "%Y%m%d%H%M%S"
            )
        except ValueError:
            return None
        return moment.replace(tzinfo=UTC)


class ExceptionKind(StrEnum):
    """Why something is on the list that a person sees."""

    IMAGES_WITHOUT_ORDER = "images-without-order"
    IMAGES_OF_ANOTHER_PATIENT = "images-of-another-patient"
    IMAGES_OF_UNKNOWN_PATIENT = "images-of-unknown-patient"
    IMAGES_WITH_OTHER_NUMBERS = "images-with-other-numbers"
    IMAGES_AFTER_CANCELLATION = "images-after-cancellation"
    INSTANCE_WITH_OTHER_BYTES = "instance-with-other-bytes"
    INSTANCE_DAMAGED = "instance-damaged"
    WRONG_WORKLIST_ENTRY = "wrong-worklist-entry"
    HELD_BY_RULE = "held-by-rule"
    EXAM_WITHOUT_ORDER = "exam-without-order"
    DEMOGRAPHICS_DIFFER = "demographics-differ"
    REPORT_WITHOUT_ORDER = "report-without-order"
    REPORT_BEFORE_IMAGES = "report-before-images"
    CONTROL_ID_REUSED = "control-id-reused"
    BYTES_UNUSABLE = "bytes-unusable"
    SENT_WHILE_MARKED = "sent-while-marked"
    REJECTION_WAITS = "rejection-waits"
    REJECTED_AFTER_REPORT = "rejected-after-report"
    IMAGES_AFTER_MOVE = "images-after-move"
    IMAGES_MOVED_AWAY = "images-moved-away"
    ORDER_WHILE_MERGED = "order-while-merged"
    IMAGES_AFTER_REPORT = "images-after-report"
    MESSAGE_REFUSED = "message-refused"


@dataclass(frozen=True, slots=True)
class ExceptionItem:
    """An entry of the reconciliation list; `resolved_at` is empty while a person still has to look."""

    id: str
    kind: ExceptionKind
    at: datetime
    patient_id: str | None = None
    order_id: str | None = None
    study_id: str | None = None
    message_id: str | None = None
    note: str = ""
    resolved_at: datetime | None = None
    resolved_by: str = ""
    resolution: str = ""
