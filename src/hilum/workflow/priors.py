"""Link 2, Prior check at ordering: which earlier exams bear on a draft order, and whether it repeats one.

An exam bears on the draft when it shows the same body region, or is of the same modality family where a region is
not known; exams of the same family come first, then the newest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from hilum.core.actor import Actor
from hilum.core.codes import modality_of, region_of, same_family
from hilum.core.event import EventName
from hilum.core.order import Code, Order, OrderStatus
from hilum.core.patient import Patient
from hilum.core.report import Report
from hilum.core.study import MatchState, Study
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.source import Source

# An open order, or a done exam of the same procedure, this young is probably a duplicate.
DUPLICATE_WINDOW = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class CheckPriors:
    """A draft order whose priors are asked for; a procedure without code and meaning asks for every earlier exam."""

    patient_id: str
    procedure: Code
    section: str
    placer_order_number: str
    look_back: timedelta
    source: Source
    record: bool = True


@dataclass(frozen=True, slots=True)
class CardFeedback:
    """What a clinician did with a card: "accepted" or "overridden", with the reason as it was sent."""

    card: str
    outcome: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class KeepFeedback:
    """Feedback on the cards of one CDS service."""

    service: str
    cards: tuple[CardFeedback, ...]


@dataclass(frozen=True, slots=True)
class Prior:
    """An earlier exam. `at` is when it was performed (UTC)."""

    order: Order | None
    study: Study
    report: Report | None
    at: datetime
    description: str
    modality: str
    same_region: bool
    same_family: bool


@dataclass(frozen=True, slots=True)
class PriorFindings:
    """What bears on a draft order: priors in reading order, and orders that it may repeat."""

    patient: Patient
    priors: tuple[Prior, ...]
    duplicates: tuple[Order, ...]


def check_priors(uow: UnitOfWork, command: CheckPriors, actor: Actor) -> PriorFindings:
    """Find relevant priors and possible duplicates; that it was done is tied to the order that follows."""
    patient = uow.patients.survivor(command.patient_id)
    permit(uow, actor, Action.CHECK_PRIORS, patient_id=patient.id)
    family = uow.patients.family(patient.id)
    modality = modality_of(command.section, command.procedure)
    region = region_of(command.procedure)
    any_exam = not (command.procedure.value or command.procedure.meaning)
    orders = {order.id: order for order in uow.orders.of_patients(family)}
    priors = _relevant(uow, family, orders, modality, region, uow.now - command.look_back, any_exam)
    priors = [
        replace(prior, report=uow.reports.seen_of_order(prior.order.id)) if prior.order else prior for prior in priors
    ]
    duplicates = tuple(order for order in orders.values() if _repeats(uow, order, command))
    if command.record:
        check_id = uow.orders.record_prior_check(
            patient.id, command.placer_order_number, command.procedure.value, len(priors) + len(duplicates)
        )
        uow.emit(
            EventName.PRIORS_CHECKED,
            patient_id=patient.id,
            standard=command.source.standard,
            peer=command.source.peer,
            details={"check": check_id, "priors": len(priors)},
        )
    return PriorFindings(patient, tuple(priors), duplicates)


def priors_of_order(uow: UnitOfWork, order: Order, look_back: timedelta) -> list[Prior]:
    """Return the earlier exams that bear on an order, the best first; its own images are none of them."""
    family = uow.patients.family(uow.patients.survivor(order.patient_id).id)
    orders = {each.id: each for each in uow.orders.of_patients(family)}
    since = uow.now - look_back
    found = _relevant(uow, family, orders, order.modality, order.body_region, since, any_exam=False)
    own = order.study_instance_uid
    return [prior for prior in found if prior.study.order_id != order.id and prior.study.study_instance_uid != own]


def keep_feedback(uow: UnitOfWork, command: KeepFeedback, actor: Actor) -> None:
    """Keep what became of cards."""
    permit(uow, actor, Action.CHECK_PRIORS)
    for card in command.cards:
        uow.orders.keep_card_feedback(command.service, card.card, card.outcome, card.body, actor.name)


def _relevant(
    uow: UnitOfWork,
    family: list[str],
    orders: dict[str, Order],
    modality: str,
    region: str,
    since: datetime,
    any_exam: bool,
) -> list[Prior]:
    """Return what bears on an exam of a modality and region: of the same family first, then the newest."""
    priors = [
        prior
        for study in _shown(uow, family)
        if (prior := _prior(study, orders, modality, region)).at >= since
        and (any_exam or prior.same_region or (prior.same_family and not region))
    ]
    priors.sort(key=lambda prior: (not any_exam and not prior.same_family, -prior.at.timestamp()))
    return priors


def _shown(uow: UnitOfWork, family: list[str]) -> list[Study]:
    """Return the studies that may be shown: images that are withheld, or contradict their order, are no prior."""
    states = (MatchState.VERIFIED, MatchState.UNVERIFIED)
    studies = [s for s in uow.studies.of_patients(family) if s.match_state in states and s.instance_count]
    shown = {row.study_id for row in uow.studies.series_of([study.id for study in studies]) if not row.withheld}
    return [study for study in studies if study.id in shown]


def _prior(study: Study, orders: dict[str, Order], modality: str, region: str) -> Prior:
    order = orders.get(study.order_id or "")
    description = order.procedure.meaning if order and order.procedure.meaning else study.description
    shown = order.modality if order else next(iter(study.modalities), "")
    its_region = order.body_region if order else region_of(Code("", "", study.description))
    return Prior(
        order=order,
        study=study,
        report=None,
        at=study.performed_at or study.first_received_at,
        description=description,
        modality=shown,
        same_region=bool(region) and region == its_region,
        same_family=same_family(modality, shown),
    )


def _repeats(uow: UnitOfWork, order: Order, command: CheckPriors) -> bool:
    if not command.procedure.value or order.procedure.value != command.procedure.value:
        return False
    if order.placed_at < uow.now - DUPLICATE_WINDOW:
        return False
    if command.placer_order_number and order.placer_order_number == command.placer_order_number:
        return False
    return order.status not in (OrderStatus.CANCELLED, OrderStatus.DISCONTINUED)
