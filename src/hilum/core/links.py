"""The ten links of the connected chain and the events that prove each (docs/architecture.md)."""

from __future__ import annotations

from enum import IntEnum

from hilum.core.event import EventName


class Link(IntEnum):
    """A link of the chain from registration to the result in the EHR."""

    REGISTRATION = 1
    PRIOR_CHECK = 2
    ORDER = 3
    SCHEDULE = 4
    WORKLIST = 5
    EXAM = 6
    IMAGES = 7
    READING = 8
    REPORT = 9
    RESULT = 10

    @property
    def title(self) -> str:
        """The link's name as `hilum trace` and the pages print it."""
        return LINK_TITLES[self]


LINK_TITLES = {
    Link.REGISTRATION: "Registration",
    Link.PRIOR_CHECK: "Prior check at ordering",
    Link.ORDER: "Order",
    Link.SCHEDULE: "Schedule",
    Link.WORKLIST: "Worklist",
    Link.EXAM: "Exam",
    Link.IMAGES: "Images",
    Link.READING: "Reading",
    Link.REPORT: "Report",
    Link.RESULT: "Result to the EHR",
}

LINK_OF_EVENT = {
    EventName.PATIENT_REGISTERED: Link.REGISTRATION,
    EventName.PATIENT_UPDATED: Link.REGISTRATION,
    EventName.PATIENTS_MERGED: Link.REGISTRATION,
    EventName.PATIENTS_UNMERGED: Link.REGISTRATION,
    EventName.PRIORS_CHECKED: Link.PRIOR_CHECK,
    EventName.ORDER_PLACED: Link.ORDER,
    EventName.ORDER_CHANGED: Link.ORDER,
    EventName.ORDER_CANCELLED: Link.ORDER,
    EventName.ORDER_DISCONTINUED: Link.ORDER,
    EventName.STEP_SCHEDULED: Link.SCHEDULE,
    EventName.WORKLIST_SERVED: Link.WORKLIST,
    EventName.EXAM_STARTED: Link.EXAM,
    EventName.EXAM_ENDED: Link.EXAM,
    EventName.IMAGES_ARRIVED: Link.IMAGES,
    EventName.STUDY_MATCHED: Link.IMAGES,
    EventName.STUDY_REASSIGNED: Link.IMAGES,
    EventName.STUDY_COMPLETED: Link.IMAGES,
    EventName.READING_STARTED: Link.READING,
    EventName.REPORT_SIGNED: Link.REPORT,
    EventName.RESULT_DELIVERED: Link.RESULT,
}
