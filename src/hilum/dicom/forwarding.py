"""What both senders of images share: which images are still missing, who gets none back, and what is noted of them.

An image never goes back to the application entity it came from. It goes to a destination once, by its bytes; what is
known already raises no event at the receiver, so that archives that forward to each other come to rest.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from hilum.core.actor import system_actor
from hilum.delivery.image_rules import Only
from hilum.delivery.images import ImageJob
from hilum.dicom.image_values import header_values
from hilum.settings import Destination
from hilum.storage.forwarding import Candidate, images_of, shown_study
from hilum.storage.retrieval import headers_of
from hilum.storage.shown import ShownStudy
from hilum.storage.store import Store
from hilum.workflow.forwarding import NoteSent, note_sent
from hilum.workflow.reading import MoveImages, OpenImages, move_images
from hilum.workflow.source import Source

log = logging.getLogger(__name__)

ACTOR = system_actor("forwarding")
# A try is over after a while, so that no study keeps the others waiting.
SLICE_SECONDS = 15.0
_NOTE_EACH, _NOTE_SECONDS = 50, 1.0


@dataclass(frozen=True, slots=True)
class Missing:
    """The images that a destination lacks of a study."""

    study: ShownStudy
    images: tuple[Candidate, ...]


class Forwarding:
    """Looks up and notes what goes to destinations."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.stopping = threading.Event()

    def missing(self, job: ImageJob, destination: Destination, not_to: Iterable[str]) -> list[Missing] | None:
        """Return what a destination lacks; None where a study may not be shown. Raises RouteError, ConditionFailed.

        `not_to` are the titles under which the destination sends: what came from there does not go back.
        """
        only, came_from = Only.of(job.only), frozenset(not_to)
        found = []
        for study_id in job.studies:
            with self._store.read() as connection:
                study = shown_study(connection, study_id)
                images = images_of(connection, study_id, job.ledger(destination), sent=False) if study else []
            if study is None and not job.order:
                return None
            if study is None:
                continue  # a prior that may not be shown any more
            chosen = tuple(each for each in images if each.peer not in came_from and self._goes(study, each, only))
            if chosen:
                found.append(Missing(study, chosen))
        return found

    def taken(self, job: ImageJob, destination: Destination) -> list[Candidate]:
        """Return what a destination has taken of the studies of a job."""
        with self._store.read() as connection:
            return [
                each
                for study_id in job.studies
                for each in images_of(connection, study_id, job.ledger(destination), sent=True)
            ]

    def audit(self, study: ShownStudy, destination: Destination) -> None:
        """Record that images of a study leave, before the first byte does."""
        images = OpenImages(study.id, study.order_id, study.patient_id, Source("DICOM", destination.name))
        self._store.run(move_images, MoveImages(images, destination.name), ACTOR)

    def progress(self, job: ImageJob, destination: Destination) -> Progress:
        """Begin a try."""
        return Progress(self._store, job.ledger(destination), self.stopping)

    def _goes(self, study: ShownStudy, image: Candidate, only: Only) -> bool:
        return only.everything or only.holds(values_of_image(study, image), lambda: self._header(image))

    def _header(self, image: Candidate) -> dict[str, Any]:
        with self._store.read() as connection:
            header = headers_of(connection, [image.stored.id]).get(image.stored.id, b"{}")
        return header_values(orjson.loads(header))


@dataclass
class Progress:
    """What a try has sent; noted now and then, so that a crash sends few images twice."""

    _store: Store
    _destination: str
    _stopping: threading.Event
    _unnoted: dict[str, int] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)
    _noted: float = field(default_factory=time.monotonic)
    sent: int = 0

    def took(self, image: Candidate, status: int) -> None:
        """Count an image as sent."""
        self._unnoted[image.stored.id] = status
        self.sent += 1
        if len(self._unnoted) >= _NOTE_EACH or time.monotonic() - self._noted > _NOTE_SECONDS:
            self.note()

    def note(self) -> None:
        """Store what was sent until now."""
        if self._unnoted:
            self._store.run(note_sent, NoteSent(self._destination, dict(self._unnoted)), ACTOR)
        self._unnoted.clear()
        self._noted = time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether others should have their turn now."""
        return self._stopping.is_set() or time.monotonic() - self._began > SLICE_SECONDS


def values_of_image(study: ShownStudy, image: Candidate) -> dict[str, dict[str, Any]]:
    """Return what a condition sees of an image; None is an empty text or no number."""
    truth, stored = study.truth, image.stored
    demographics = truth.demographics
    born = demographics.birth_date if demographics else None
    return {
        "study": {
            "study_instance_uid": study.study_instance_uid,
            "match_state": study.match_state.value,
            "accession_number": truth.accession_number or "",
        },
        "series": _known(
            series_instance_uid=stored.series_instance_uid, modality=image.modality, number=image.series_number,
            description=image.series_description, body_part=image.body_part, station_name=image.station_name,
        ),
        "instance": _known(
            sop_instance_uid=stored.sop_instance_uid, sop_class_uid=stored.sop_class_uid,
            transfer_syntax_uid=stored.transfer_syntax_uid, number=image.number, rows=image.rows,
            columns=image.columns, frames=image.frames, bytes=stored.object_length,
        ),
        "source": {"peer": image.peer},
        "patient": {
            "identifier": truth.identifier.value if truth.identifier else "",
            "authority": truth.identifier.authority if truth.identifier else "",
            "sex": demographics.sex if demographics else "",
            "birth_date": born.isoformat() if born else "",
        },
    }  # fmt: skip


def _known(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
