"""Cards for priors and possible duplicates: age in the summary, date and numbers in the detail, a link to the images.

Source: https://cds-hooks.hl7.org/2.0/#cds-service-response. The detail is Markdown, so texts from outside are escaped.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from typing import Any

from hilum.core.order import Order
from hilum.core.report import ReportStatus
from hilum.core.study import MatchState
from hilum.fhir.elements import launch_url
from hilum.workflow.priors import Prior, PriorFindings

Card = dict[str, Any]

MAX_SUMMARY = 140
MAX_PRIORS = 5
_IMPRESSION_LINES, _IMPRESSION_LENGTH = 4, 500
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|<>~])")


@dataclass(frozen=True, slots=True)
class Viewpoint:
    """From where cards are written: the server's address, the moment, the facility's zone, and what may be told."""

    base_url: str
    now: datetime
    zone: tzinfo
    reports: bool
    images: bool


def cards_for_drafts(findings: Sequence[PriorFindings], view: Viewpoint) -> list[Card]:
    """Return cards for draft orders: possible duplicates first, then priors in reading order, each exam once."""
    priors = _once(prior for found in findings for prior in found.priors)
    duplicates = {order.id: order for found in findings for order in found.duplicates}
    by_order = {prior.order.id: prior for prior in priors if prior.order is not None}
    cards = [_duplicate_card(order, by_order.get(order.id), view) for order in duplicates.values()]
    further = [prior for prior in priors if prior.order is None or prior.order.id not in duplicates]
    return cards + _prior_cards(further, view)


def cards_for_chart(found: PriorFindings, view: Viewpoint) -> list[Card]:
    """Return cards for someone who opens a chart: the latest exams."""
    return _prior_cards(list(found.priors), view)


def relative_age(day: date, today: date) -> str:
    """Return how long ago a day was, as people say it."""
    days = (today - day).days
    if days <= 0:
        return "today"
    if days == 1:
        return "yesterday"
    for limit, length, unit in ((14, 1, "day"), (61, 7, "week"), (731, 30.44, "month")):
        if days < limit:
            return _ago(int(days / length), unit)
    return _ago(int(days / 365.25), "year")


def _ago(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'} ago"


def _once(priors: Iterable[Prior]) -> list[Prior]:
    return list({prior.study.study_instance_uid: prior for prior in priors}.values())


def _prior_cards(priors: list[Prior], view: Viewpoint) -> list[Card]:
    cards = [_prior_card(prior, view) for prior in priors[:MAX_PRIORS]]
    if len(priors) > MAX_PRIORS:
        further = priors[MAX_PRIORS:]
        oldest = min(_day(prior, view) for prior in further).isoformat()
        number = len(further)
        summary = f"{number} more earlier exam{'' if number == 1 else 's'}"
        cards.append(_card(summary, f"Back to {oldest}.", "info"))
    return cards


def _prior_card(prior: Prior, view: Viewpoint) -> Card:
    day = _day(prior, view)
    unverified = prior.study.match_state is not MatchState.VERIFIED
    age = relative_age(day, view.now.astimezone(view.zone).date()) + (" (unverified)" if unverified else "")
    return _card(_summary("", _title(prior), age), _detail(prior, view), "info", _links(prior, view))


def _duplicate_card(order: Order, prior: Prior | None, view: Viewpoint) -> Card:
    placed = order.placed_at.astimezone(view.zone).date()
    age = f"ordered {relative_age(placed, view.now.astimezone(view.zone).date())}, {order.status.value}"
    title = _with_modality(order.procedure.meaning or order.procedure.value, order.modality)
    detail = f"Ordered {placed.isoformat()} · accession {_escaped(order.accession_number)} · {order.status.value}"
    if prior is not None:
        detail += f"\n\n{_detail(prior, view)}"
    links = _links(prior, view) if prior is not None else []
    return _card(_summary("Possible duplicate: ", title, age), detail, "warning", links)


def _detail(prior: Prior, view: Viewpoint) -> str:
    numbers = [f"**{_day(prior, view).isoformat()}**", _escaped(_title(prior))]
    accession = prior.order.accession_number if prior.order else prior.study.accession_number
    if accession:
        numbers.append(f"accession {_escaped(accession)}")
    paragraphs = [" · ".join(numbers)]
    if prior.study.match_state is not MatchState.VERIFIED:
        paragraphs.append("Unverified: the patient is as the images name them, and no order is proven.")
    if view.reports:
        paragraphs.append(_report_words(prior))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _report_words(prior: Prior) -> str:
    version = prior.report.current if prior.report else None
    if version is None:
        return "No report yet."
    if version.status is ReportStatus.RETRACTED:
        return "Its report was retracted."
    words = version.impression.strip() or version.findings.strip()
    lines = [line.strip() for line in words.splitlines() if line.strip()][:_IMPRESSION_LINES]
    text = _shortened(" ".join(lines), _IMPRESSION_LENGTH)
    label = "Impression" if version.impression.strip() else "Report"
    return f"{label} ({version.status.value}): {_escaped(text)}"


def _links(prior: Prior, view: Viewpoint) -> list[Card]:
    if not view.images:
        return []
    return [{"label": "Open the images", "url": launch_url(view.base_url, prior.study), "type": "absolute"}]


def _day(prior: Prior, view: Viewpoint) -> date:
    """The day that the images give is the facility's own; when they came is a moment in UTC."""
    if prior.study.performed_at is not None:
        return prior.study.performed_at.date()
    return prior.at.astimezone(view.zone).date()


def _title(prior: Prior) -> str:
    return _with_modality(prior.description, prior.modality)


def _with_modality(description: str, modality: str) -> str:
    """Name the modality where the description does not."""
    words = " ".join(description.split())
    if modality and modality.lower() not in words.lower().split():
        words = f"{modality} {words}".strip()
    return words or "Imaging"


def _summary(before: str, title: str, after: str) -> str:
    return f"{before}{_shortened(title, MAX_SUMMARY - len(before) - len(after) - 1)} {after}"


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def _escaped(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def _card(summary: str, detail: str, indicator: str, links: Sequence[Card] = ()) -> Card:
    card: Card = {
        "uuid": str(uuid.uuid4()),
        "summary": summary,
        "detail": detail,
        "indicator": indicator,
        "source": {"label": "Hilum"},
    }
    if links:
        card["links"] = list(links)
    return card
