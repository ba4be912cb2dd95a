"""The Identifier of a C-MOVE or C-GET, and the instances it selects (PS3.4 C.4.2.1.4, C.4.2.2.1, C.6.1, C.6.2).

The unique keys of the levels above hold one value each, the key of the level itself one or a list of UIDs; there are no
wildcards. Every study is permitted and audited before its first byte leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hilum.core.actor import Actor
from hilum.core.errors import InvalidInput, MissingField, NotFound, TooLarge
from hilum.core.scope import EVERYTHING
from hilum.dicom.identifier import Keys
from hilum.security.audit import Read, ReadLog
from hilum.security.policy import Action, decide, scope_for
from hilum.storage import qido
from hilum.storage.retrieval import StoredInstance, find_instances, find_study
from hilum.storage.shown import ShownStudy
from hilum.storage.store import Store
from hilum.workflow.reading import OpenImages, open_images
from hilum.workflow.source import Source

PATIENT_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.1.2"
PATIENT_ROOT_GET = "1.2.840.10008.5.1.4.1.2.1.3"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
PATIENT_ROOTS = frozenset({PATIENT_ROOT_MOVE, PATIENT_ROOT_GET})
MAXIMUM_INSTANCES = 100_000
_PAGE = 200

# PS3.4 C.6.1.1, C.6.2.1: the unique keys from the patient down.
_UNIQUE = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_LEVELS = ("PATIENT", "STUDY", "SERIES", "IMAGE")

Opened = Callable[[ShownStudy], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The unique keys of an Identifier; empty ones do not limit what is selected."""

    patient_id: str = ""
    issuer: str = ""
    studies: tuple[str, ...] = ()
    series: frozenset[str] = frozenset()
    instances: frozenset[str] = frozenset()


def wanted_of(keys: Keys, abstract_syntax: str, *, relational: bool = False) -> Wanted:
    """Read an Identifier. Raises MissingField and InvalidInput with the keyword of what does not fit the model.

    A relational retrieve need not name what is above its level (PS3.4 C.4.2.2.2.1).
    """
    name = keys.text("QueryRetrieveLevel").upper()
    if not name:
        raise MissingField("Query/Retrieve Level is missing.", field="QueryRetrieveLevel")
    patient_root = abstract_syntax in PATIENT_ROOTS
    if name not in _LEVELS or (name == "PATIENT" and not patient_root):
        raise InvalidInput("This model has no such Query/Retrieve Level.", field="QueryRetrieveLevel")
    level = _LEVELS.index(name)
    found = {}
    for number, keyword in enumerate(_UNIQUE[: level + 1]):
        # The patient is required in Patient Root, but left out by many.
        optional = number < level and (relational or keyword == "PatientID")
        found[keyword] = _values(keys, keyword, many=number == level and level > 0, optional=optional)
    return Wanted(
        next(iter(found["PatientID"]), ""),
        keys.text("IssuerOfPatientID"),
        found.get("StudyInstanceUID", ()),
        frozenset(found.get("SeriesInstanceUID", ())),
        frozenset(found.get("SOPInstanceUID", ())),
    )


def _values(keys: Keys, keyword: str, *, many: bool, optional: bool) -> tuple[str, ...]:
    values = keys.texts(keyword)
    if not values and not optional:
        raise MissingField(f"A retrieve at this level names {keyword}.", field=keyword)
    if len(values) > 1 and not many:
        raise InvalidInput(f"A retrieve at this level names one {keyword}.", field=keyword)
    if any(set("*?") & set(value) for value in values):
        raise InvalidInput("A retrieve takes no wildcards.", field=keyword)
    return values


class Selection:
    """Finds what may be retrieved and notes who does."""

    def __init__(self, store: Store, reads: ReadLog) -> None:
        self._store = store
        self._reads = reads

    def instances(self, wanted: Wanted, actor: Actor, opened: Opened) -> list[StoredInstance]:
        """Return the instances in the order of studies, series and numbers.

        `opened` is told of each study, permits and audits it. Raises Forbidden, and TooLarge for more than is sent in
        one operation; what is out of scope is left out.
        """
        if not decide(actor, Action.READ_IMAGES).allowed:
            self._reads.record(actor, Read(Action.READ_IMAGES))
        rows: list[StoredInstance] = []
        seen: set[str] = set()
        for study in self._studies(wanted, actor):
            seen.add(study.study_instance_uid)
            selected = self._of_study(study, wanted)
            if selected:
                opened(study)
                rows += selected
            if len(rows) > MAXIMUM_INSTANCES:
                raise TooLarge("More instances are asked for than are sent in one operation.")
        self._trace([uid for uid in wanted.studies if uid not in seen], actor)
        return rows

    def _studies(self, wanted: Wanted, actor: Actor) -> Iterator[ShownStudy]:
        keys = []
        if wanted.patient_id:
            keys.append(qido.Key("PatientID", (wanted.patient_id,)))
            if wanted.issuer:
                keys.append(qido.Key("IssuerOfPatientID", (wanted.issuer,)))
        studies = wanted.studies or self._studies_below(wanted, actor)
        if studies is None:
            return
        if studies:
            keys.append(qido.Key("StudyInstanceUID", studies))
        scope = scope_for(actor, Action.READ_IMAGES)
        seen: set[str] = set()
        offset, more = 0, 1
        while more:
            with self._store.read() as connection:
                page, more = qido.find_studies(connection, keys, scope, qido.Page(_PAGE, offset))
            offset += _PAGE
            for found in page:
                if found.study.id not in seen:  # what arrives meanwhile moves the pages along
                    seen.add(found.study.id)
                    yield found.study

    def _studies_below(self, wanted: Wanted, actor: Actor) -> tuple[str, ...] | None:
        """The studies of series or instances that are named alone; empty where none is, None where there are none."""
        named = wanted.series or wanted.instances
        if not named or wanted.patient_id:
            return ()
        scope, page = scope_for(actor, Action.READ_IMAGES), qido.Page(MAXIMUM_INSTANCES)
        with self._store.read() as connection:
            if wanted.series:
                key = qido.Key("SeriesInstanceUID", tuple(sorted(wanted.series)))
                found = [each.study for each in qido.find_series(connection, [key], scope, page)[0]]
            else:
                key = qido.Key("SOPInstanceUID", tuple(sorted(wanted.instances)))
                found = [each.series.study for each in qido.find_instances(connection, [key], scope, page)[0]]
        return tuple(dict.fromkeys(each.study.study_instance_uid for each in found)) or None

    def _of_study(self, study: ShownStudy, wanted: Wanted) -> list[StoredInstance]:
        one = next(iter(wanted.series)) if len(wanted.series) == 1 else None
        with self._store.read() as connection:
            found = find_instances(connection, study.id, one)
        return [
            row
            for row in found
            if (not wanted.series or row.series_instance_uid in wanted.series)
            and (not wanted.instances or row.sop_instance_uid in wanted.instances)
        ]

    def _trace(self, study_instance_uids: Sequence[str], actor: Actor) -> None:
        """Leave a trace of an attempt at what the actor may not see; the answer is as if it were not there."""
        if scope_for(actor, Action.READ_IMAGES).everything:
            return
        for uid in study_instance_uids:
            with self._store.read() as connection:
                beyond = find_study(connection, uid, EVERYTHING)
            if beyond is not None and beyond.patient_id is not None:
                try:
                    self._reads.record(actor, _read(beyond))
                except NotFound:
                    continue


def _read(study: ShownStudy) -> Read:
    return Read(Action.READ_IMAGES, study.patient_id, study.order_id, study.id)


def opening(reads: ReadLog, actor: Actor, source: Source) -> Opened:
    """Return what permits and audits that someone opens a study, once per five minutes."""

    def opened(study: ShownStudy) -> None:
        command = OpenImages(study.id, study.order_id, study.patient_id, source)
        reads.record(actor, _read(study), open_images, command)

    return opened
