"""When no more images are expected of a study: its exams say so, or it has been quiet for long enough.

A performed step that is COMPLETED and lists what it made completes the study as soon as all of that is here; one that
is IN PROGRESS keeps it open, for as long as someone who waits has patience.
Source: PS3.4 F.7.2.2 (Performed Series Sequence), IHE RAD TF-2 4.6, 4.7.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hilum.core.actor import Actor
from hilum.core.event import EventName
from hilum.core.order import STEP_ENDED, PerformedStatus
from hilum.core.study import Study
from hilum.storage.completion import exams_of_study, holds_all_listed, take_unannounced
from hilum.storage.unit_of_work import UnitOfWork


class ExamsSay(Enum):
    """What the exams of a study say of its completion."""

    NOTHING = "nothing"
    UNDER_WAY = "under-way"
    ALL_HERE = "all-here"


@dataclass(frozen=True, slots=True)
class AnnounceInstances:
    """A study that holds images of which nobody was told."""

    study_id: str


def announce_instances(uow: UnitOfWork, command: AnnounceInstances, actor: Actor) -> int:
    """Say that a study has received images, before it is complete; return how many are new."""
    return announce(uow, uow.studies.get(command.study_id, lock=True), actor.name)


def announce(uow: UnitOfWork, study: Study, part: str) -> int:
    """Say what a study, which is locked, has received since it was last said; `part` of Hilum says so."""
    fresh = take_unannounced(uow, study.id)
    if fresh:
        uow.emit(
            EventName.INSTANCES_STORED,
            patient_id=study.patient_id,
            order_id=study.order_id,
            study_id=study.id,
            standard="Hilum",
            peer=part,
            details={"new": fresh, "instances": study.instance_count},
        )
    return fresh


def exams_say(uow: UnitOfWork, study: Study) -> ExamsSay:
    """Return what the performed steps behind a study say; steps that are still to come say that more is expected."""
    exams = [exam for exam in exams_of_study(uow, study.id, study.order_id) if not exam.was_wrong_entry]
    if any(exam.status is PerformedStatus.IN_PROGRESS for exam in exams):
        return ExamsSay.UNDER_WAY
    if not any(exam.status is PerformedStatus.COMPLETED for exam in exams) or _more_to_come(uow, study):
        return ExamsSay.NOTHING
    return ExamsSay.ALL_HERE if holds_all_listed(uow.connection, study.id, study.order_id) else ExamsSay.NOTHING


def _more_to_come(uow: UnitOfWork, study: Study) -> bool:
    if study.order_id is None:
        return False
    return any(step.status not in STEP_ENDED for step in uow.orders.steps(study.order_id))
