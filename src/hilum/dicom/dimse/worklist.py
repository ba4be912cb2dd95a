"""Link 5, Worklist: the Modality Worklist C-FIND (PS3.4 K, IHE RAD TF-2 4.5 RAD-5).

A step without station suits every station that asks, a step without time is due today. Start date and time asked for
together are one span of time (PS3.4 table K.6-1); local times are those of the peer's zone, else the facility's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from hilum.core.errors import HilumError, TooLarge
from hilum.core.order import WORKLIST_STATUSES, StepStatus
from hilum.dicom.callers import Caller, caller_of
from hilum.dicom.dimse.dispatch import AssociationContext, Request, Response, Service
from hilum.dicom.dimse.extended import agreed, asked_zone, worklist_abilities
from hilum.dicom.dimse.messages import CommandField
from hilum.dicom.dimse.status import ServiceClass
from hilum.dicom.identifier import MAXIMUM_IDENTIFIER, Answering, Keys, read_keys
from hilum.dicom.matching import matches, moments, name_patterns, patterns, span_of
from hilum.dicom.upper_layer.negotiation import Offer
from hilum.dicom.upper_layer.syntaxes import only
from hilum.dicom.worklist_entry import worklist_values
from hilum.security.audit import Read, ReadLog
from hilum.security.policy import Action, scope_for
from hilum.settings import Configuration
from hilum.storage.store import Store
from hilum.storage.worklist import WorklistKeys, unserved_steps, worklist_page
from hilum.workflow.reading import WorklistServed, worklist_served
from hilum.workflow.source import Source

log = logging.getLogger(__name__)

MODALITY_WORKLIST_FIND = "1.2.840.10008.5.1.4.31"
PAGE = 100
MAXIMUM_MATCHES = 2000
_DATE, _TIME = "ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime"
# Matched by SQL, over every identifier of the patient and with the rules for what a step leaves open.
_BY_SQL = ("PatientID", "IssuerOfPatientID", "PatientName")
_STEP_BY_SQL = ("ScheduledStationAETitle", _DATE)


class Worklist:
    """Answers modalities with the steps that they may perform."""

    def __init__(self, store: Store, configuration: Configuration, reads: ReadLog) -> None:
        self._store = store
        self._configuration = configuration
        self._reads = reads

    def service(self) -> Service:
        """Return the service to be offered."""
        handlers = {CommandField.C_FIND_RQ: self.find}
        offer = Offer(only(MODALITY_WORKLIST_FIND), extended_negotiation=worklist_abilities)
        return Service("worklist", ServiceClass.QUERY, offer, handlers, MAXIMUM_IDENTIFIER)

    def find(self, context: AssociationContext, request: Request) -> Iterator[Response]:
        """Yield a pending response for each step that matches."""
        settings = self._configuration.refresh()
        caller = caller_of(context, settings)
        keys, charset = read_keys(context, request)
        zone = asked_zone(keys, agreed(context))
        caller = caller if zone is None else replace(caller, zone=zone)
        self._reads.record(caller.actor, Read(Action.READ_WORKLIST))
        statuses = WORKLIST_STATUSES | ({StepStatus.STARTED} if settings.worklist.show_started else frozenset())
        answering = Answering(context, keys, charset, caller.charset)
        shown: list[str] = []
        try:
            for step_id, answer in self._matches(answering, caller, statuses, settings.facility.name):
                if len(shown) == MAXIMUM_MATCHES:
                    raise TooLarge(f"More than {MAXIMUM_MATCHES} steps match.")
                shown.append(step_id)
                yield answer
        finally:
            self._note_served(shown, caller)

    def _matches(
        self, answering: Answering, caller: Caller, statuses: frozenset[StepStatus], institution: str
    ) -> Iterator[tuple[str, Response]]:
        keys, now, after = answering.keys, self._store.clock(), ""
        step_keys = keys.item("ScheduledProcedureStepSequence")
        wanted = sql_keys(keys, step_keys, caller, now, statuses)
        asked = step_keys.text("ScheduledStationAETitle")
        station = asked if asked and not set("*?") & set(asked) else caller.ae_title
        scope = scope_for(caller.actor, Action.READ_WORKLIST)
        while True:
            with self._store.read() as connection:
                page = worklist_page(connection, wanted, scope, after=after, limit=PAGE)
            for entry in page:
                values = worklist_values(entry, caller, now, station, institution)
                if self._matches_rest(keys, step_keys, values, timed=entry.step.start_at is not None):
                    yield entry.step.id, answering.pending({**values, **_zone(answering)}, {})
            if len(page) < PAGE:
                return
            after = page[-1].step.id

    @staticmethod
    def _matches_rest(keys: Keys, step_keys: Keys, values: dict[str, Any], *, timed: bool) -> bool:
        """Match what SQL did not; a time asked for without a date is a time of day."""
        step = values["ScheduledProcedureStepSequence"][0]
        by_sql = _STEP_BY_SQL if timed and not step_keys.text(_DATE) else (*_STEP_BY_SQL, _TIME)
        without = (*_BY_SQL, "ScheduledProcedureStepSequence")
        return matches(step_keys, step, without=by_sql) and matches(keys, values, without=without)

    def _note_served(self, step_ids: list[str], caller: Caller) -> None:
        """Record which steps the modality saw for the first time; it has its answer whatever comes of that."""
        try:
            with self._store.read() as connection:
                fresh = unserved_steps(connection, step_ids, caller.ae_title) if step_ids else ()
            if fresh:
                source = Source("DICOM MWL C-FIND", caller.ae_title)
                self._store.run(worklist_served, WorklistServed(fresh, source), caller.actor)
        except HilumError as error:
            log.error("served steps were not recorded", extra={"ae_title": caller.ae_title, "code": error.code})


def _zone(answering: Answering) -> dict[str, str]:
    """The zone of an answer, where it is that of the query."""
    if not agreed(answering.context).timezone:
        return {}
    return {"TimezoneOffsetFromUTC": answering.keys.text("TimezoneOffsetFromUTC")}


def sql_keys(
    keys: Keys, step_keys: Keys, caller: Caller, now: datetime, statuses: frozenset[StepStatus]
) -> WorklistKeys:
    """Return the keys of an Identifier that SQL matches. Raises InvalidInput for malformed dates and times."""
    date, time = step_keys.text(_DATE), step_keys.text(_TIME)
    first = last = None
    if date:
        first, last = moments(span_of(date), span_of(time) if time else None, _DATE, _TIME)
    today = caller.local(now).date()
    return WorklistKeys(
        statuses=statuses,
        due_now=not ((first and first.date() > today) or (last and last.date() < today)),
        start_first=caller.utc(first) if first else None,
        start_last=caller.utc(last) if last else None,
        stations=patterns(step_keys, "ScheduledStationAETitle"),
        modalities=patterns(step_keys, "Modality"),
        patient_names=name_patterns(keys, "PatientName"),
        patient_ids=patterns(keys, "PatientID"),
        issuers=patterns(keys, "IssuerOfPatientID"),
        accession_numbers=patterns(keys, "AccessionNumber"),
        study_instance_uids=keys.texts("StudyInstanceUID"),
    )
