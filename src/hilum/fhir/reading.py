"""Reading resources for one asker: within the asker's scope, and audited before the first byte leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from hilum.core.actor import Actor
from hilum.core.errors import NotFound, TooLarge
from hilum.fhir.audit_event import audit_event_from_record
from hilum.fhir.bundle import searchset
from hilum.fhir.diagnostic_report import diagnostic_report_from_report
from hilum.fhir.elements import Resource
from hilum.fhir.endpoint import ENDPOINTS, endpoint
from hilum.fhir.imaging_study import imaging_study_from_study
from hilum.fhir.patient import patient_from_record
from hilum.fhir.search import Search, find_endpoints
from hilum.fhir.search_parameters import SEARCHABLE, Searchable
from hilum.fhir.service_request import service_request_from_order
from hilum.security.audit import Read, ReadLog
from hilum.security.policy import Action, decide, scope_for
from hilum.storage.audit_records import audit_records
from hilum.storage.fhir_criteria import Criterion, Kind, OneOf, Row
from hilum.storage.fhir_queries import (
    After,
    Connection,
    count_matches,
    find_page,
    referring,
    subject_of,
    survivor_of,
)
from hilum.storage.fhir_records import order_records, patient_records, report_records, study_records
from hilum.storage.store import Store

# How many instances one answer lists; studies beyond it say how many they have, and are tagged as subsetted.
INSTANCES_OF_ONE, INSTANCES_OF_A_LIST = 10_000, 2_000
MAX_INCLUDED = 1_000


@dataclass(frozen=True, slots=True)
class Found:
    """A resource and what its reading has to be recorded as."""

    resource: Resource
    read: Read


@dataclass(frozen=True, slots=True)
class Reading:
    """One asker at the door."""

    store: Store
    read_log: ReadLog
    actor: Actor
    base_url: str
    zone: ZoneInfo
    site: str = ""

    def read(self, kind: str, row_id: str) -> Resource:
        """Return one resource; NotFound where there is none or the asker may not know of it."""
        if kind == "Endpoint":
            return self._endpoint(row_id)
        searchable = SEARCHABLE[kind]
        with self.store.read() as connection:
            subject = subject_of(connection, searchable.kind, row_id)
        read = Read(searchable.action)
        if subject is not None:
            read = Read(searchable.action, subject.patient_id, subject.order_id, subject.study_id)
        # Refusals too: a role without the right, and a patient out of the asker's scope.
        self.read_log.record(self.actor, read)
        with self.store.read() as connection:
            scope = scope_for(self.actor, searchable.action)
            only = (Criterion("_id", (Row(row_id),)),)
            ids = find_page(connection, searchable.kind, only, scope, limit=1).ids
            found = self._found(connection, searchable, ids, INSTANCES_OF_ONE)
        if not found:
            raise NotFound
        return found[0].resource

    def admit(self, searchable: Searchable) -> None:
        """Refuse, and record it, where the asker may not search this at all."""
        if not decide(self.actor, searchable.action).allowed:
            self.read_log.record(self.actor, Read(searchable.action))

    def search(self, searchable: Searchable, search: Search) -> Resource:
        """Return the Bundle of one page."""
        self.read_log.record(self.actor, self._reads(searchable, search))
        scope = scope_for(self.actor, searchable.action)
        total: int | None = None
        more: After | None = None
        matches: list[Found] = []
        included: list[Found] = []
        with self.store.read() as connection:
            if not search.count_only:
                page = find_page(
                    connection,
                    searchable.kind,
                    search.criteria,
                    scope,
                    sorting=search.sorting,
                    after=search.after,
                    limit=search.count,
                )
                more = page.more
                matches = self._found(connection, searchable, page.ids, INSTANCES_OF_A_LIST)
                included = self._included(connection, searchable, search, matches)
                # A list that fits on one page has been counted already.
                total = len(matches) if search.after is None and more is None else None
            if search.count_only or (search.total and total is None):
                total = count_matches(connection, searchable.kind, search.criteria, scope)
        self.read_log.record_all(self.actor, (found.read for found in (*matches, *included)))
        return searchset(
            f"{self.base_url}/fhir",
            searchable.kind.value,
            search,
            matches=[found.resource for found in matches],
            included=[found.resource for found in included],
            total=total,
            more=more,
        )

    def _reads(self, searchable: Searchable, search: Search) -> Read:
        """What a search is recorded as: one of the trail of one patient names the patient."""
        rows = [value.id for criterion in search.criteria for value in criterion.values if isinstance(value, Row)]
        if searchable.kind is not Kind.AUDIT or len(rows) != 1:
            return Read(searchable.action)
        with self.store.read() as connection:
            return Read(searchable.action, patient_id=survivor_of(connection, rows[0]))

    def endpoints(self, parameters: Sequence[tuple[str, str]], *, lenient: bool) -> Resource:
        """Return the Bundle of the endpoints that match."""
        self.read_log.record(self.actor, Read(Action.ECHO))
        search, ids = find_endpoints(parameters, lenient=lenient)
        matches = [endpoint(row_id, self.base_url) for row_id in ids]
        root = f"{self.base_url}/fhir"
        return searchset(root, "Endpoint", search, matches=matches, included=[], total=len(matches), more=None)

    def _endpoint(self, row_id: str) -> Resource:
        self.read_log.record(self.actor, Read(Action.ECHO))
        if row_id not in ENDPOINTS:
            raise NotFound
        return endpoint(row_id, self.base_url)

    def _included(
        self, connection: Connection, searchable: Searchable, search: Search, matches: list[Found]
    ) -> list[Found]:
        """Return what was asked to come along and the asker may see, each once."""
        wanted: dict[str, list[str]] = {}
        for name in search.includes:
            kind = searchable.includes[name]
            for found in matches:
                wanted.setdefault(kind, []).extend(_references(found.resource, kind))
        ids = [found.resource["id"] for found in matches]
        for name in sorted(search.revincludes):
            kind = name.partition(":")[0]
            other = SEARCHABLE[kind]
            scope = scope_for(self.actor, other.action)
            field = searchable.revincludes[name]
            rows = referring(connection, other.kind, field, ids, scope, MAX_INCLUDED + 1)
            wanted.setdefault(kind, []).extend(rows)
        included: list[Found] = []
        for kind, row_ids in wanted.items():
            unique = list(dict.fromkeys(row_ids))
            if len(unique) + len(included) > MAX_INCLUDED:
                raise TooLarge(f"More than {MAX_INCLUDED} resources were to come along.", field="_revinclude")
            included += self._of_kind(connection, kind, unique)
        return included

    def _of_kind(self, connection: Connection, kind: str, ids: Sequence[str]) -> list[Found]:
        if kind == "Endpoint":
            return [Found(endpoint(row_id, self.base_url), Read(Action.ECHO)) for row_id in ids]
        searchable = SEARCHABLE[kind]
        scope = scope_for(self.actor, searchable.action)
        if not ids:
            return []
        only = (Criterion("_id", (OneOf(tuple(ids)),)),)
        shown = find_page(connection, searchable.kind, only, scope, limit=len(ids)).ids
        return self._found(connection, searchable, shown, INSTANCES_OF_A_LIST)

    def _found(
        self, connection: Connection, searchable: Searchable, ids: Sequence[str], instance_budget: int
    ) -> list[Found]:
        action = searchable.action
        if not ids:
            return []
        if searchable.kind is Kind.AUDIT:
            # A list of the trail is one reading of the trail, not one of each patient in it.
            return [
                Found(audit_event_from_record(record, self.base_url, self.site), Read(action))
                for record in audit_records(connection, ids)
            ]
        if searchable.kind is Kind.PATIENT:
            return [
                Found(patient_from_record(record), Read(action, record.survivor_id))
                for record in patient_records(connection, ids)
            ]
        if searchable.kind is Kind.ORDER:
            return [
                Found(service_request_from_order(record), Read(action, record.subject.id, record.order.id))
                for record in order_records(connection, ids)
            ]
        if searchable.kind is Kind.STUDY:
            return [
                Found(
                    imaging_study_from_study(record, self.base_url, self.zone),
                    Read(action, record.study.patient_id, record.study.order_id, record.study.id),
                )
                for record in study_records(connection, ids, instance_budget=instance_budget)
            ]
        return [
            Found(
                diagnostic_report_from_report(record, self.base_url, self.zone),
                Read(action, record.subject.id, record.order.id),
            )
            for record in report_records(connection, ids)
        ]


def _references(resource: Resource, kind: str) -> list[str]:
    """Return the ids of all resources of a type that a resource refers to."""
    found = []
    for element in resource.values():
        for each in element if isinstance(element, list) else [element]:
            if isinstance(each, dict):
                target, _, row_id = str(each.get("reference", "")).partition("/")
                if target == kind and row_id:
                    found.append(row_id)
    return found
