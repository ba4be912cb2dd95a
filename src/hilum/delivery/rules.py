"""The conditions of routes: CEL over what an event concerns, compiled once per revision of the configuration.

An expression that needs a thing which is absent (`order.filler` of an event without order) is false. A name that is
not in `FIELDS` is refused when the configuration is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hilum.core.event import EventName
from hilum.delivery.conditions import ConditionFailed as ConditionFailed
from hilum.delivery.conditions import RouteError as RouteError
from hilum.delivery.conditions import compile_over, is_true
from hilum.delivery.image_rules import compile_only
from hilum.delivery.ports import EventContext
from hilum.settings import Route, Settings

# What a condition may name. Texts are empty where nothing is known; times are ISO 8601 in UTC.
FIELDS: dict[str, tuple[str, ...]] = {
    "event": ("name", "at", "standard", "peer", "details"),
    "order": (
        "accession_number", "placer_order_number", "placer_authority", "filler_order_number", "filler_authority",
        "filler", "status", "priority", "modality", "body_region", "procedure_code", "procedure_scheme",
        "study_instance_uid", "sender", "patient_class", "ordering_physician",
    ),
    "report": ("status", "version", "interpreter", "source"),
    "study": ("study_instance_uid", "modalities", "match_state", "accession_number", "series", "instances"),
    "patient": ("identifier", "authority", "sex", "birth_date"),
    "message": ("type", "trigger", "kind", "sender", "control_id", "outcome"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rule:
    """A route with its compiled condition; None is always true."""

    route: Route
    expression: Any | None

    def holds(self, values: Mapping[str, Mapping[str, Any]]) -> bool:
        """Tell whether an event goes this way. Raises ConditionFailed where the condition comes to no answer."""
        return is_true(self.expression, values)


@dataclass(frozen=True, slots=True)
class Rules:
    """The routes of one configuration, by event."""

    by_event: Mapping[EventName, tuple[Rule, ...]]

    @classmethod
    def of(cls, settings: Settings) -> Rules:
        """Compile the conditions of all routes. RouteError names the first that cannot be."""
        found: dict[EventName, list[Rule]] = {}
        for number, route in enumerate(settings.route):
            compile_only(route.only, f"`only` of route[{number}]")
            rule = Rule(route, compile_condition(route.condition, number) if route.condition else None)
            found.setdefault(EventName(route.on), []).append(rule)
        return cls({name: tuple(rules) for name, rules in found.items()})

    def on(self, name: EventName) -> Sequence[Rule]:
        """The routes that listen to an event."""
        return self.by_event.get(name, ())


def check_routes(settings: Settings) -> list[str]:
    """Return a sentence for each route whose condition cannot be used (for `hilum check`)."""
    found = []
    for number, route in enumerate(settings.route):
        try:
            compile_condition(route.condition, number)
            compile_only(route.only, f"`only` of route[{number}]")
        except RouteError as error:
            found.append(error.message)
    return found


def compile_condition(condition: str, number: int) -> Any | None:
    """Compile one condition; None for an empty one. RouteError names the route by its number in the file."""
    return compile_over(FIELDS, condition, f"condition of route[{number}]")


def values_of(context: EventContext) -> dict[str, dict[str, Any]]:
    """Return what a condition sees of an event; an absent thing has no fields."""
    event = context.event
    return {
        "event": {
            "name": event.name.value,
            "at": event.at.isoformat(),
            "standard": event.standard,
            "peer": event.peer,
            "details": dict(event.details),
        },
        "order": _order(context),
        "report": _report(context),
        "study": _study(context),
        "patient": _patient(context),
        "message": _message(context),
    }


def _order(context: EventContext) -> dict[str, Any]:
    order = context.order
    if order is None:
        return {}
    return {
        "accession_number": order.accession_number,
        "placer_order_number": order.placer_order_number,
        "placer_authority": order.placer_authority,
        "filler_order_number": order.filler_order_number,
        "filler_authority": order.filler_authority,
        "filler": order.filler.value,
        "status": order.status.value,
        "priority": order.priority.value,
        "modality": order.modality,
        "body_region": order.body_region,
        "procedure_code": order.procedure.value,
        "procedure_scheme": order.procedure.scheme,
        "study_instance_uid": order.study_instance_uid,
        "sender": order.sender,
        "patient_class": order.patient_class,
        "ordering_physician": order.ordering_physician.identifier,
    }


def _report(context: EventContext) -> dict[str, Any]:
    report, version = context.report, context.version
    if report is None:
        return {}
    return {
        "status": (version.status if version else report.status).value,
        "version": version.version if version else report.version,
        "interpreter": version.interpreter.identifier if version else "",
        "source": version.source if version else "",
    }


def _study(context: EventContext) -> dict[str, Any]:
    if not context.studies:
        return {}
    study = context.studies[0]
    return {
        "study_instance_uid": study.study_instance_uid,
        "modalities": list(study.modalities),
        "match_state": study.match_state.value,
        "accession_number": study.accession_number,
        "series": study.series_count,
        "instances": study.instance_count,
    }


def _patient(context: EventContext) -> dict[str, Any]:
    patient = context.patient
    if patient is None:
        return {}
    identifier = patient.primary_identifier if patient.identifiers else None
    born = patient.demographics.birth_date
    return {
        "identifier": identifier.value if identifier else "",
        "authority": identifier.authority if identifier else "",
        "sex": patient.demographics.sex,
        "birth_date": born.isoformat() if born else "",
    }


def _message(context: EventContext) -> dict[str, Any]:
    message = context.message
    if message is None:
        return {}
    kind = message.kind.split("^")
    return {
        "type": kind[0],
        "trigger": kind[1] if len(kind) > 1 else "",
        "kind": message.kind,
        "sender": message.sender,
        "control_id": message.control_id,
        "outcome": message.outcome,
    }
