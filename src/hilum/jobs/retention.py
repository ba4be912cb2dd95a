"""What is past its retention: found by the rules, and where the settings say so rejected (113039) and marked.

Nothing is deleted here: what is marked has its time of grace like any other deletion (`jobs.deletion`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from hilum.archive.ingest import Ingest
from hilum.archive.rejecting import reject
from hilum.core.actor import system_actor
from hilum.core.errors import NotFound
from hilum.jobs.runner import Job
from hilum.settings import Configuration, Settings
from hilum.storage.retention import AgedStudy, aged_studies, unmarked_notes
from hilum.storage.store import Store
from hilum.workflow.rejection import RejectInstances, RejectionCode
from hilum.workflow.retention import Dates, MarkExpired, Rule, expires_on, mark_expired
from hilum.workflow.source import Source

log = logging.getLogger(__name__)

ACTOR = system_actor("retention")
LOOK_SECONDS = 3600.0
SOURCE = Source("Hilum retention", ACTOR.name)
# So many studies are rejected at one turn, so that a new rule does not stop everything else.
AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Expired:
    """A study that is past its retention since a day."""

    study: AgedStudy
    since: date


def expired(store: Store, settings: Settings, today: date) -> Iterator[Expired]:
    """Find the studies whose retention is over, oldest entry first; changes nothing."""
    rules = [
        Rule(rule.modalities, rule.keep_years, rule.since == "last-exam", rule.minors_until)
        for rule in settings.archive.retention
    ]
    if not rules:
        return
    years = min(rule.keep_years for rule in rules)
    before = (today - timedelta(days=365 * years)).strftime("%Y%m%d")
    after = ""
    while True:
        with store.read() as connection:
            page = aged_studies(connection, before, after)
        for study in page:
            since = expires_on(rules, study.modalities, _dates(study))
            if since is not None and since <= today:
                yield Expired(study, since)
        if not page:
            return
        after = page[-1].id


def retention(ingest: Ingest, configuration: Configuration, *, seconds: float = LOOK_SECONDS) -> Job:
    """Make the job; it does nothing unless `archive.retention_marks` is set."""
    store = ingest.store

    def due() -> bool:
        return configuration.refresh().archive.retention_marks

    def run() -> None:
        settings = configuration.current
        zone = ZoneInfo(settings.facility.zone)
        today = store.clock().astimezone(zone).date()
        rejected = 0
        for found in expired(store, settings, today):
            reason = f"past its retention since {found.since:%Y-%m-%d}"
            command = RejectInstances(found.study.id, RejectionCode.RETENTION_EXPIRED, reason)
            try:
                reject(ingest, command, ACTOR, SOURCE, zone)
            except NotFound:
                continue  # withheld, so nothing of it is shown
            rejected += 1
            if rejected >= AT_ONCE:
                break
        grace = timedelta(days=settings.archive.deletion_grace_days)
        with store.read() as connection:
            notes = unmarked_notes(connection, RejectionCode.RETENTION_EXPIRED.value, AT_ONCE)
        for note_uid in notes:
            store.run(mark_expired, MarkExpired(note_uid, grace), ACTOR)
        if rejected:
            log.info("studies past their retention marked for deletion", extra={"count": rejected})

    return Job("retention", seconds, run, due=due, lease="retention")


def _dates(study: AgedStudy) -> Dates:
    return Dates(
        _date(study.study_date), _date(study.last_exam_date), study.birth_date or _date(study.birth_date_on_images)
    )


def _date(text: str) -> date | None:
    try:
        return datetime.strptime(text[:8], "%Y%m%d").date()  # a DICOM DA has no zone
    except ValueError:
        return None
