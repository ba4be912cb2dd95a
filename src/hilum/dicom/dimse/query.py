"""Study Root and Patient Root C-FIND (PS3.4 C.4.1, C.6.1, C.6.2) at the levels patient, study, series and image.

Matched and answered is what is known to be true of patient and order, laid over what the images say; what is withheld
is not found. Below the study level a query names the study (hierarchical search, PS3.4 C.4.1.3.1.1), unless relational
queries were agreed on (`extended`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from pydicom.datadict import keyword_for_tag

from hilum.archive.index_columns import SERIES_ATTRIBUTES, STUDY_ATTRIBUTES
from hilum.core.errors import InvalidInput, MissingField, TooLarge
from hilum.core.scope import Scope
from hilum.dicom.callers import caller_of
from hilum.dicom.dimse.dispatch import AssociationContext, Request, Response, Service
from hilum.dicom.dimse.extended import StudyMoments, agreed, find_abilities, fuzzily, study_moments
from hilum.dicom.dimse.messages import CommandField
from hilum.dicom.dimse.status import ServiceClass
from hilum.dicom.encode import tag_and_vr, values_of
from hilum.dicom.identifier import MAXIMUM_IDENTIFIER, Answering, Keys, read_keys
from hilum.dicom.matching import date_of, matches, patterns, span_of, time_of
from hilum.dicom.overlay import overlaid
from hilum.dicom.upper_layer.negotiation import Offer
from hilum.dicom.upper_layer.syntaxes import only
from hilum.security.audit import Read, ReadLog
from hilum.security.policy import Action, scope_for
from hilum.settings import Configuration
from hilum.storage import qido
from hilum.storage.store import Store

PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
PAGE = 500
_DEMOGRAPHICS = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")
_STUDY = (*(keyword_for_tag(int(tag, 16)) for tag in STUDY_ATTRIBUTES), *_DEMOGRAPHICS, "AccessionNumber")
_SERIES = tuple(keyword_for_tag(int(tag, 16)) for tag in SERIES_ATTRIBUTES)
_NOT_ANSWERED = frozenset({"SpecificCharacterSet", "QueryRetrieveLevel", "TimezoneOffsetFromUTC", "QueryRetrieveView"})

Found = tuple[str, dict[str, Any]]  # unique key, values by keyword
Finder = Callable[[Any, Sequence[qido.Key], Scope, qido.Page, Keys], tuple[list[Found], int]]


@dataclass(frozen=True, slots=True)
class Level:
    """A level of the information models: what SQL matches there, which unique keys a query must bring, who finds."""

    matched: frozenset[str]
    required: tuple[str, ...]
    find: Finder


class ImageQuery:
    """Answers who asks what images there are."""

    def __init__(self, store: Store, configuration: Configuration, reads: ReadLog) -> None:
        self._store = store
        self._configuration = configuration
        self._reads = reads

    def service(self) -> Service:
        """Return the service to be offered."""
        offer = Offer(only(PATIENT_ROOT_FIND, STUDY_ROOT_FIND), extended_negotiation=find_abilities)
        return Service("query", ServiceClass.QUERY, offer, {CommandField.C_FIND_RQ: self.find}, MAXIMUM_IDENTIFIER)

    def find(self, context: AssociationContext, request: Request) -> Iterator[Response]:
        """Yield a pending response for each patient, study, series or image that matches."""
        settings = self._configuration.refresh()
        caller = caller_of(context, settings)
        keys, charset = read_keys(context, request)
        abilities = agreed(context)
        name, level = level_of(keys, context.abstract_syntax, relational=abilities.relational)
        wanted = sql_keys(keys, level)
        when = study_moments(keys, abilities, ZoneInfo(settings.facility.zone))
        if when is not None:
            wanted = when.keys(wanted)
        if abilities.fuzzy:
            wanted = fuzzily(wanted)
        self._reads.record(caller.actor, Read(Action.READ_IMAGES))
        answering = Answering(context, keys, charset, caller.charset)
        always = {"QueryRetrieveLevel": name, "RetrieveAETitle": settings.dicom.ae_title}
        scope = scope_for(caller.actor, Action.READ_IMAGES)
        most = settings.dicom.max_matches
        for count, (_, values) in enumerate(self._found(level, wanted, scope, keys, when)):
            if count == most:
                raise TooLarge(f"More than {most} match.")
            yield answering.pending({**values, "InstanceAvailability": "ONLINE"}, always)

    def _found(
        self, level: Level, wanted: Sequence[qido.Key], scope: Scope, keys: Keys, when: StudyMoments | None
    ) -> Iterator[Found]:
        seen: set[str] = set()
        offset, more = 0, 1
        while more:
            with self._store.read() as connection:
                page, more = level.find(connection, wanted, scope, qido.Page(PAGE, offset), keys)
            offset += PAGE
            for unique, values in page:
                # What arrives meanwhile moves the pages along, so that a match could come twice.
                if unique in seen or not matches(keys, values, without=level.matched | _NOT_ANSWERED):
                    continue
                seen.add(unique)
                placed = values if when is None else when.placed(values)
                if placed is not None:
                    yield unique, placed


def level_of(keys: Keys, abstract_syntax: str, *, relational: bool = False) -> tuple[str, Level]:
    """Return the level that a query asks at. Raises InvalidInput where the information model has no such level.

    A relational query need not name what is above its level (PS3.4 C.4.1.2.2.1).
    """
    name = keys.text("QueryRetrieveLevel").upper()
    if not name:
        raise MissingField("Query/Retrieve Level is missing.", field="QueryRetrieveLevel")
    if name not in LEVELS or (name == "PATIENT" and abstract_syntax == STUDY_ROOT_FIND):
        raise InvalidInput("This model has no such Query/Retrieve Level.", field="QueryRetrieveLevel")
    level = LEVELS[name]
    for keyword in () if relational else level.required:
        if len(keys.texts(keyword)) != 1:
            raise MissingField(f"A query at this level names one {keyword}.", field=keyword)
    return name, level


def sql_keys(keys: Keys, level: Level) -> list[qido.Key]:
    """Return the keys that SQL matches. Raises InvalidInput for malformed dates and times."""
    found = []
    for keyword in keys.keywords:
        if keyword in level.matched and (texts := patterns(keys, keyword)):
            vr = tag_and_vr(keyword)[1]
            if vr in ("DA", "TM"):
                found.append(_range(keyword, vr, texts[0]))
            else:
                found.append(qido.Key(keyword, texts))
    return found


def _range(keyword: str, vr: str, text: str) -> qido.Key:
    span = span_of(text)
    ends = []
    for end in (span.first, span.last):
        if vr == "DA":
            ends.append(date_of(end, keyword).strftime("%Y%m%d") if end else "")
        else:
            if end:
                time_of(end, keyword)
            ends.append((end or "").replace(":", ""))
    return qido.Key(keyword, low=ends[0], high=ends[1])


def _asked(keys: Keys, known: Sequence[str]) -> list[str]:
    return [keyword for keyword in keys.keywords if keyword in known]


def _study_values(found: qido.FoundStudy, keys: Keys) -> dict[str, Any]:
    attributes = overlaid(found.attributes, found.study.truth)
    return {**values_of(attributes, _asked(keys, _STUDY)), **_study_facts(found)}


def _study_facts(found: qido.FoundStudy) -> dict[str, Any]:
    return {
        "StudyInstanceUID": found.study.study_instance_uid,
        "ModalitiesInStudy": list(found.modalities),
        "NumberOfStudyRelatedSeries": found.series_count,
        "NumberOfStudyRelatedInstances": found.instance_count,
    }


def _series_facts(found: qido.FoundSeries) -> dict[str, Any]:
    counted = {"NumberOfSeriesRelatedInstances": found.instance_count}
    return {**_study_facts(found.study), "SeriesInstanceUID": found.series_instance_uid, **counted}


def _find_patients(
    connection: Any, wanted: Sequence[qido.Key], scope: Scope, page: qido.Page, keys: Keys
) -> tuple[list[Found], int]:
    """The patients of the studies of a page; who has several comes once, by the unique key."""
    studies, more = qido.find_studies(connection, wanted, scope, page)
    patients = []
    for found in studies:
        attributes = overlaid(found.attributes, found.study.truth)
        values = values_of(attributes, {*_asked(keys, _STUDY), *_DEMOGRAPHICS})
        patients.append((repr([values[keyword] for keyword in ("PatientID", "IssuerOfPatientID")]), values))
    return patients, more


def _find_studies(
    connection: Any, wanted: Sequence[qido.Key], scope: Scope, page: qido.Page, keys: Keys
) -> tuple[list[Found], int]:
    studies, more = qido.find_studies(connection, wanted, scope, page)
    return [(found.study.study_instance_uid, _study_values(found, keys)) for found in studies], more


def _find_series(
    connection: Any, wanted: Sequence[qido.Key], scope: Scope, page: qido.Page, keys: Keys
) -> tuple[list[Found], int]:
    series, more = qido.find_series(connection, wanted, scope, page)
    answered = []
    for found in series:
        attributes = overlaid({**found.study.attributes, **found.attributes}, found.study.study.truth)
        values = values_of(attributes, _asked(keys, (*_STUDY, *_SERIES)))
        answered.append((found.series_instance_uid, {**values, **_series_facts(found)}))
    return answered, more


def _find_images(
    connection: Any, wanted: Sequence[qido.Key], scope: Scope, page: qido.Page, keys: Keys
) -> tuple[list[Found], int]:
    """Images by their whole header: whatever stands in it can be asked for."""
    images, more = qido.find_instances(connection, wanted, scope, page)
    answered = []
    for found in images:
        header = overlaid(orjson.loads(found.header), found.series.study.study.truth)
        asked = [keyword for keyword in keys.keywords if keyword not in _NOT_ANSWERED]
        answered.append((found.sop_instance_uid, {**values_of(header, asked), **_series_facts(found.series)}))
    return answered, more


LEVELS = {
    "PATIENT": Level(frozenset({*_DEMOGRAPHICS}), (), _find_patients),
    "STUDY": Level(qido.STUDY_KEYS, (), _find_studies),
    "SERIES": Level(qido.SERIES_KEYS, ("StudyInstanceUID",), _find_series),
    "IMAGE": Level(qido.INSTANCE_KEYS, ("StudyInstanceUID", "SeriesInstanceUID"), _find_images),
}
