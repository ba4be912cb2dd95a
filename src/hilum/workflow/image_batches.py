"""Link 7, Images: many instances put into the index in one go, as `record_instance` would one after the other.

Of a thousand images of a study all but a few change nothing except counts. These few go through `record_instance`; the
others of their series follow in one statement each for what a statement costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from hilum.core.actor import Actor
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.arrivals import Place
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.images import Recorded, RecordInstance, known_place, record_instance
from hilum.workflow.matching import contradict, patient_of_study

Numbered: TypeAlias = tuple[int, RecordInstance]


@dataclass(frozen=True, slots=True)
class RecordInstances:
    """Instances of one sender that the archive has made durable, in the order they came."""

    instances: Sequence[RecordInstance]


def record_instances(uow: UnitOfWork, command: RecordInstances, actor: Actor) -> list[Recorded]:
    """Put instances into the index and tell of each what became of it; raises as `record_instance`, for all of them."""
    outcomes: list[Recorded] = [Recorded.STORED] * len(command.instances)
    for series in _by_series(command.instances):
        rest = series
        while rest:
            place = _place_of_more(uow, rest[0][1])
            if place is None:
                singly, rest = rest[:1], rest[1:]
            else:
                more, singly = _divide(uow, place, rest)
                _record_more(uow, place, more, actor)
                rest = []
            for number, instance in singly:
                outcomes[number] = record_instance(uow, instance, actor)
    return outcomes


def _by_series(instances: Sequence[RecordInstance]) -> Iterable[list[Numbered]]:
    series: dict[tuple[str, ...], list[Numbered]] = {}
    for number, each in enumerate(instances):
        uids = (each.study_instance_uid, each.series["series_instance_uid"], each.performed_uid)
        series.setdefault((*uids, each.patient.identifier), []).append((number, each))
    return series.values()


def _place_of_more(uow: UnitOfWork, instance: RecordInstance) -> Place | None:
    """The place of an instance where it is merely one more of a known series."""
    place = known_place(uow, instance)
    return place if place is not None and place.is_one_more else None


def _divide(uow: UnitOfWork, place: Place, numbered: list[Numbered]) -> tuple[list[Numbered], list[Numbered]]:
    """Divide the instances of a series into those that are merely further ones, and those that need a closer look."""
    assert place.row is not None
    patient = patient_of_study(place.row)
    seen = uow.studies.held_of([instance.instance["sop_instance_uid"] for _, instance in numbered])
    more, others = [], []
    for number, instance in numbered:
        uid = instance.instance["sop_instance_uid"]
        if uid in seen or instance.note is not None or instance.held or contradict(patient, instance.patient):
            others.append((number, instance))
        else:
            seen.add(uid)
            more.append((number, instance))
    return more, others


def _record_more(uow: UnitOfWork, place: Place, more: list[Numbered], actor: Actor) -> None:
    if not more:
        return
    assert place.series_id is not None
    study, modality = place.study, str(more[0][1].series["modality"])
    # One row of the audit trail for all of them: PS3.15 A.5.3.7 speaks of the instances of a study, too.
    permit(uow, actor, Action.STORE_IMAGES, patient_id=study.patient_id, study_id=study.id, order_id=study.order_id)
    uow.studies.add_more(study, place.series_id, modality, [instance.instance for _, instance in more])
