"""Completes studies: those whose exams say that all is here at once, the others after a quiet time by modality.

Where a route listens to `InstancesStored`, studies that go on receiving images are announced now and then, too.
"""

from __future__ import annotations

from datetime import timedelta

from hilum.core.actor import system_actor
from hilum.core.event import EventName
from hilum.jobs.runner import Job
from hilum.settings import Configuration
from hilum.storage.completion import quiet_studies, studies_told_complete, unannounced_studies
from hilum.storage.store import Store
from hilum.workflow.completion import AnnounceInstances, announce_instances
from hilum.workflow.images import CompleteStudy, complete_study

ACTOR = system_actor("study-complete")
LOOK_SECONDS = 2.0


def study_complete(store: Store, configuration: Configuration) -> Job:
    """Make the job that completes studies; the settings of `[study]` are read anew at each run."""

    def due() -> list[CompleteStudy]:
        settings, now = configuration.refresh().study, store.clock()
        patience = timedelta(seconds=settings.exam_patience)
        with store.read() as connection:
            quiet = quiet_studies(connection, now - timedelta(seconds=settings.least_quiet), now - patience)
            told = studies_told_complete(connection)
        enough = {each.id: timedelta(seconds=settings.quiet_of(each.modalities)) for each in (*quiet, *told)}
        waited = [each for each in quiet if each.last_received_at < now - enough[each.id]]
        ids = dict.fromkeys(each.id for each in (*told, *waited))
        return [CompleteStudy(study_id, enough[study_id], patience) for study_id in ids]

    def run() -> None:
        for future in [store.submit(complete_study, command, ACTOR) for command in due()]:
            future.result()

    # A short quiet time (a demo, a test) is looked at more often.
    seconds = min(LOOK_SECONDS, configuration.current.study.least_quiet / 2)
    return Job("study-complete", seconds, run, due=lambda: bool(due()), lease="study-complete")


def instances_stored(store: Store, configuration: Configuration) -> Job:
    """Make the job that announces images as they come, for routes that do not wait for the whole study."""

    def fresh() -> list[str]:
        if not any(route.on == EventName.INSTANCES_STORED for route in configuration.refresh().route):
            return []
        with store.read() as connection:
            return unannounced_studies(connection)

    def run() -> None:
        for future in [store.submit(announce_instances, AnnounceInstances(each), ACTOR) for each in fresh()]:
            future.result()

    seconds = configuration.current.study.stored_seconds
    return Job("instances-stored", seconds, run, due=lambda: bool(fresh()), lease="instances-stored")
