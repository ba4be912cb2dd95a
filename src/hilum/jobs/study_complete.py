"""A study that has been quiet for a while is complete: the exam's order moves on, and whoever waits for it hears."""

from __future__ import annotations

from datetime import timedelta

from hilum.core.actor import system_actor
from hilum.jobs.runner import Job
from hilum.settings import Configuration
from hilum.storage.completion import quiet_study_ids
from hilum.storage.store import Store
from hilum.workflow.images import CompleteStudy, complete_study

ACTOR = system_actor("study-complete")
LOOK_SECONDS = 2.0


def study_complete(store: Store, configuration: Configuration) -> Job:
    """Make the job that completes quiet studies; `study.quiet_seconds` is read anew at each run."""

    def quiet() -> list[CompleteStudy]:
        enough = timedelta(seconds=configuration.refresh().study.quiet_seconds)
        with store.read() as connection:
            return [CompleteStudy(study_id, enough) for study_id in quiet_study_ids(connection, store.clock() - enough)]

    def run() -> None:
        for future in [store.submit(complete_study, command, ACTOR) for command in quiet()]:
            future.result()

    # A short quiet time (a demo, a test) is looked at more often.
    seconds = min(LOOK_SECONDS, configuration.current.study.quiet_seconds / 2)
    return Job("study-complete", seconds, run, due=lambda: bool(quiet()), lease="study-complete")
