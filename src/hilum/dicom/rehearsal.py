"""An image that is only talked about: what the rules say of it, and the verbs that take it in, for a rehearsal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from hilum.archive.index_queue import Entry, Sender
from hilum.archive.ingest import Ingest
from hilum.archive.metadata import walk_dataset
from hilum.archive.part10 import split
from hilum.archive.records import Location
from hilum.core.actor import Actor, ActorKind, Door, Role, system_actor
from hilum.core.errors import HilumError
from hilum.delivery.conditions import ConditionFailed, is_true
from hilum.delivery.image_rules import compile_only
from hilum.delivery.images import IMAGE_KINDS
from hilum.dicom.image_rules import changes_of, values_of_header
from hilum.settings import Destination, Settings
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.images import CompleteStudy, RecordInstance, complete_study, known_place, record_instance
from hilum.workflow.source import Source


@dataclass(frozen=True, slots=True)
class ImageRehearsal:
    """An image, who is taken to send it, and the command that would put it into the index."""

    peer: str
    command: RecordInstance
    values: dict[str, dict[str, Any]]
    dropped_by: int | None

    @property
    def steps(self) -> Sequence[tuple[Any, Any]]:
        """The verbs that take it in and find its study complete, each with its command."""
        return ((record_instance, self.command), (_complete, self.command))


def rehearsal_of(ingest: Ingest, content: bytes, settings: Settings, sender: str, now: datetime) -> ImageRehearsal:
    """Read a Part 10 file as if it came from `sender`, else from whom it names itself. Raises as storing it would."""
    part10 = split(content)
    peer = sender or part10.source_ae_title or "UNKNOWN"
    dataset, syntax = content[part10.dataset_offset :], part10.transfer_syntax_uid
    walk = walk_dataset(dataset, syntax)
    configured = settings.dicom.peer_named(peer)
    issuer = (configured.issuer if configured else "") or settings.facility.default_authority
    actor = Actor(peer, Role.SERVICE, ActorKind.PEER, Door.DIMSE)
    entry = Entry(
        Sender(Source("DICOM C-STORE", peer), actor, issuer),
        orjson.dumps(walk.attributes),
        walk.character_set,
        syntax,
        walk.pixels,
        Location("rehearsal", 0, len(content), part10.dataset_offset),
        hashlib.sha256(dataset).hexdigest(),
        now,
    )
    values = values_of_header(walk.attributes, syntax, peer)
    return ImageRehearsal(peer, ingest.command_of(entry), values, _dropped_by(settings, values))


def departing_values(image: ImageRehearsal, settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield which routes keep the image back by their `only`, and what rules write into it for whom."""
    for number, route in enumerate(settings.route):
        if route.only and not _meets(route.only, image.values):
            yield {"note": f"route[{number}] does not send this image: its `only` is not met."}
    for number, rule in enumerate(settings.rule):
        if rule.on != "send" or not _meets(rule.condition, image.values):
            continue
        to = ", ".join(rule.to or [each.name for each in settings.destination if takes_images(each)])
        try:
            changes_of(rule, image.values["header"])
        except HilumError as error:
            yield {"note": f"rule[{number}]: {error.message}"}
            continue
        yield {"note": f"rule[{number}] changes {', '.join([*rule.set, *rule.remove])} on the way to {to}."}


def takes_images(destination: Destination) -> bool:
    """Whether images can be sent to a destination."""
    return destination.kind in IMAGE_KINDS


def _dropped_by(settings: Settings, values: dict[str, dict[str, Any]]) -> int | None:
    for number, rule in enumerate(settings.rule):
        if rule.on == "receive" and rule.drop and _meets(rule.condition, values):
            return number
    return None


def _meets(condition: str, values: dict[str, dict[str, Any]]) -> bool:
    try:
        return is_true(compile_only(condition), values)
    except ConditionFailed:
        return False


def _complete(uow: UnitOfWork, command: RecordInstance, actor: Actor) -> bool:
    place = known_place(uow, command)
    if place is None:
        return False
    return complete_study(uow, CompleteStudy(place.study.id, timedelta()), system_actor("study-complete"))
