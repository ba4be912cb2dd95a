"""Reading a CDS Hooks request: whose chart it is, and which imaging orders are being drafted.

Source: https://cds-hooks.hl7.org/2.0/ (HTTP request) and the hooks order-select, order-sign and patient-view. What
concerns no imaging order is left out; what breaks the form is refused by the name of its field.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import orjson

from hilum.core.errors import InvalidInput, MissingField, TooLarge
from hilum.core.order import Code
from hilum.fhir import systems
from hilum.fhir.search_parameters import DIAGNOSTIC_REPORT
from hilum.fhir.service_request import CATEGORY

MAX_ENTRIES, MAX_IDENTIFIERS, MAX_DRAFTS, MAX_TEXT = 200, 20, 20, 250
MAX_FEEDBACK, MAX_FEEDBACK_BYTES = 50, 16 * 1024
PLACER_TYPE = "PLAC"
_DRAFTING = frozenset({"order-select", "order-sign"})
# Categories that say "imaging"; a draft of another category (laboratory, say) is none of Hilum's business.
_IMAGING = frozenset(
    {CATEGORY["code"], "394914008", "RAD", "CT", "MR", "NMR", "US", "RUS", "NM", "NMS", "XA", "imaging"}
    | {code for _, code in DIAGNOSTIC_REPORT.by_name["category"].constants}
)


@dataclass(frozen=True, slots=True)
class NamedIdentifier:
    """An identifier as the request gives it; `system` is empty where there is none."""

    system: str
    value: str


@dataclass(frozen=True, slots=True)
class Draft:
    """An imaging order that is being drafted."""

    procedure: Code
    section: str
    placer_order_number: str


@dataclass(frozen=True, slots=True)
class HookRequest:
    """A request as far as priors depend on it."""

    hook: str
    patient_id: str
    identifiers: tuple[NamedIdentifier, ...]
    family: str
    birth_date: date | None
    drafts: tuple[Draft, ...]


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a clinician did with one card."""

    card: str
    outcome: str
    body: dict[str, Any]


Node = dict[str, Any]


def read_request(body: bytes, hook: str) -> HookRequest:
    """Read the body of a call of a service for `hook`. Raises InvalidInput."""
    request = _decoded(body)
    if _required(request, "hook") != hook:
        raise InvalidInput("This service answers another hook.", field="hook")
    _required(request, "hookInstance")
    context = _object(request.get("context"), "context")
    patient_id = _required(context, "patientId", "context.patientId")
    person = _object(_object(request.get("prefetch") or {}, "prefetch").get("patient") or {}, "prefetch.patient")
    resources = _drafts(context, hook) if hook in _DRAFTING else []
    subjects = [_object(resource.get("subject") or {}, "draftOrders.subject") for resource in resources]
    named = [
        *_items(person, "identifier"),
        *(s["identifier"] for s in subjects if isinstance(s.get("identifier"), dict)),
    ]
    if len(named) > MAX_IDENTIFIERS + len(resources):
        raise TooLarge("The request names too many identifiers.", field="prefetch.patient.identifier")
    names = _items(person, "name")
    return HookRequest(
        hook,
        patient_id.rpartition("/")[2],
        tuple(NamedIdentifier(_text(i, "system"), _text(i, "value")) for i in named if _text(i, "value")),
        next((family for name in names if (family := _text(name, "family"))), ""),
        _date(_text(person, "birthDate")),
        tuple(draft for resource in resources if (draft := _draft(resource)) is not None),
    )


def read_feedback(body: bytes) -> tuple[Feedback, ...]:
    """Read the body of a call of a feedback endpoint. Raises InvalidInput."""
    items = _decoded(body).get("feedback")
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        raise InvalidInput("There is no list of feedback.", field="feedback")
    if len(items) > MAX_FEEDBACK or any(len(orjson.dumps(item)) > MAX_FEEDBACK_BYTES for item in items):
        raise TooLarge("There is too much feedback in one call.", field="feedback")
    found = []
    for item in items:
        outcome = _required(item, "outcome", "feedback.outcome")
        if outcome not in ("accepted", "overridden"):
            raise InvalidInput("The outcome is accepted or overridden.", field="feedback.outcome")
        found.append(Feedback(_required(item, "card", "feedback.card"), outcome, item))
    return tuple(found)


def _decoded(body: bytes) -> Node:
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidInput("The body is no JSON.") from None
    return _object(decoded, "the body")


def _drafts(context: Node, hook: str) -> list[Node]:
    bundle = _object(context.get("draftOrders"), "context.draftOrders")
    entries = _items(bundle, "entry")
    if len(entries) > MAX_ENTRIES:
        raise TooLarge("There are too many draft orders.", field="context.draftOrders")
    resources = [entry["resource"] for entry in entries if isinstance(entry.get("resource"), dict)]
    if hook == "order-select":
        selections = context.get("selections")
        if not isinstance(selections, list) or not all(isinstance(each, str) for each in selections):
            raise InvalidInput("There is no list of selections.", field="context.selections")
        selected = {tuple(each.split("/")[-2:]) for each in selections}
        resources = [r for r in resources if (str(r.get("resourceType")), str(r.get("id"))) in selected]
    requests = [resource for resource in resources if resource.get("resourceType") == "ServiceRequest"]
    if len(requests) > MAX_DRAFTS:
        raise TooLarge("There are too many draft orders.", field="context.draftOrders")
    return requests


def _draft(resource: Node) -> Draft | None:
    """Return what is drafted, or None for what is no imaging procedure or names none."""
    categories = [code for code, _ in _codes(_items(resource, "category"))]
    if categories and not _IMAGING.intersection(categories):
        return None
    code = resource.get("code")
    concept = code if isinstance(code, dict) else {}
    text = _text(concept, "text")
    codings = [coding for coding in _items(concept, "coding") if _text(coding, "code")]
    if not codings and not text:
        return None
    coding = codings[0] if codings else {}
    scheme = systems.schemes_of(system)[0] if (system := _text(coding, "system")) else ""
    procedure = Code(_text(coding, "code"), scheme, _text(coding, "display") or text)
    details = [c for c, system in _codes(_items(resource, "orderDetail")) if system == systems.DCM]
    sections = [c for c, system in _codes(_items(resource, "category")) if system == systems.DIAGNOSTIC_SECTION]
    return Draft(procedure, next(iter([*details, *sections]), ""), _placer_number(resource))


def _placer_number(resource: Node) -> str:
    """Return the identifier that is typed as the placer's, or the only one where none is typed."""
    identifiers = [identifier for identifier in _items(resource, "identifier") if _text(identifier, "value")]
    for identifier in identifiers:
        kind = identifier.get("type")
        if isinstance(kind, dict) and PLACER_TYPE in [code for code, _ in _codes([kind])]:
            return _text(identifier, "value")
    untyped = [identifier for identifier in identifiers if not identifier.get("type")]
    return _text(untyped[0], "value") if len(untyped) == 1 else ""


def _codes(concepts: list[Node]) -> list[tuple[str, str]]:
    return [(_text(c, "code"), _text(c, "system")) for concept in concepts for c in _items(concept, "coding")]


def _object(node: Any, field: str) -> Node:
    if not isinstance(node, dict):
        raise InvalidInput("An object is missing or of another type.", field=field)
    return node


def _items(node: Node, name: str) -> list[Node]:
    items = node.get(name) or []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InvalidInput("This is a list of objects.", field=name)
    return items


def _text(node: Node, name: str) -> str:
    value = node.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidInput("This is a text.", field=name)
    return value.replace("\x00", "").strip()[:MAX_TEXT]


def _required(node: Node, name: str, field: str = "") -> str:
    value = _text(node, name)
    if not value:
        raise MissingField("A required field is empty.", field=field or name)
    return value


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
