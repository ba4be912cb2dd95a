"""Loads what an event concerns, as it stands in the transaction that routes it."""

from __future__ import annotations

from hilum.core.event import Event
from hilum.core.report import Report, ReportVersion
from hilum.core.study import MatchState, Study
from hilum.delivery.ports import EventContext
from hilum.storage.unit_of_work import UnitOfWork


def load_context(uow: UnitOfWork, event: Event) -> EventContext:
    """Return an event with its patient (the survivor of merges), order, steps, studies, report version and message.

    The report version is the event's own, whatever was signed since. The study that an event names comes first.
    """
    order = uow.orders.get(event.order_id) if event.order_id else None
    patient_id = event.patient_id or (order.patient_id if order else None)
    report = uow.reports.get(event.report_id) if event.report_id else None
    return EventContext(
        event=event,
        patient=uow.patients.survivor(patient_id) if patient_id else None,
        order=order,
        steps=tuple(uow.orders.steps(order.id)) if order else (),
        studies=_studies(uow, event),
        report=report,
        version=_version(report, event),
        message=uow.messages.get(event.message_id) if event.message_id else None,
    )


def _studies(uow: UnitOfWork, event: Event) -> tuple[Study, ...]:
    """Return the study of the event unless it was deleted since, then the verified ones of its order."""
    found = uow.studies.find(event.study_id) if event.study_id else None
    named = [found] if found is not None else []
    of_order = uow.studies.of_order(event.order_id) if event.order_id else []
    beside = [study for study in of_order if study.match_state is MatchState.VERIFIED and study.id != event.study_id]
    return (*named, *beside)


def _version(report: Report | None, event: Event) -> ReportVersion | None:
    if report is None:
        return None
    if event.report_version is None:
        return report.current
    return next((version for version in report.versions if version.version == event.report_version), None)
