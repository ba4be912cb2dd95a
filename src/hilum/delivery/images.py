"""What an event means for a destination of images: which studies it gets, and which images of them.

The body names studies and conditions, not images: what the destination lacks is found at each try, so that a retry
sends only what is missing and images that come meanwhile go along.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from hilum.core.study import MatchState, Study
from hilum.delivery.ports import EventContext
from hilum.settings import Destination, Route, Settings
from hilum.storage.deliveries import NewDelivery
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.priors import priors_of_order

IMAGE_KINDS = frozenset({"dicom", "stow"})
# What routes send of images besides the images themselves.
KIND, AVAILABILITY, PRIORS = "images", "availability", "priors"
OF_IMAGES = frozenset({AVAILABILITY, PRIORS})
# Images that contradict the order they name, or are withheld, leave only by a person's hand.
SENDABLE = frozenset({MatchState.VERIFIED, MatchState.UNVERIFIED})


@dataclass(frozen=True, slots=True)
class ImageJob:
    """What is to be sent: studies by row id, and the conditions of which an image meets one (none: all).

    `order` is the order whose priors these are: a destination gets an image once for itself, and once for each order.
    """

    studies: tuple[str, ...]
    only: tuple[str, ...] = ()
    order: str = ""

    def to_bytes(self) -> bytes:
        """The job as the body of a delivery."""
        return orjson.dumps({"studies": self.studies, "only": self.only, "order": self.order})

    @classmethod
    def of(cls, body: bytes) -> ImageJob:
        """Read the body of a delivery."""
        said = orjson.loads(body)
        return cls(tuple(said["studies"]), tuple(said["only"]), said["order"])

    def ledger(self, destination: Destination) -> str:
        """The name under which is kept what a destination has taken."""
        return f"{destination.name} {self.order}" if self.order else destination.name


def image_delivery(context: EventContext, destination: Destination, routes: Sequence[Route]) -> NewDelivery | None:
    """Make the delivery of an event to a destination of images; None where it concerns no study.

    It is set aside, on the operator's list, where none of its studies may leave as they stand.
    """
    concerned = _studies(context)
    if not concerned:
        return None
    conditions = _conditions(routes)
    free = [study for study in concerned if study.match_state in SENDABLE]
    job = ImageJob(tuple(study.id for study in free or concerned), conditions)
    kind = AVAILABILITY if routes[0].send == AVAILABILITY else KIND
    key = f"{kind}:{','.join(job.studies)}:{hash_of(conditions)}"
    state, reason = ("waiting", "") if free else ("parked", "study-in-conflict")
    return NewDelivery(kind, context.event.id, job.to_bytes(), key, state, reason)


def prior_delivery(
    uow: UnitOfWork, context: EventContext, settings: Settings, routes: Sequence[Route]
) -> NewDelivery | None:
    """Make the delivery of an order's relevant priors, the best of them; None where there are none."""
    if context.order is None:
        return None
    priors = priors_of_order(uow, context.order, settings.priors.look_back)[: settings.priors.prefetch_most]
    studies = tuple(prior.study.id for prior in priors)
    if not studies:
        return None
    job = ImageJob(studies, _conditions(routes), context.order.id)
    # An order that is scheduled anew has the same priors, and perhaps newer ones.
    return NewDelivery(KIND, context.event.id, job.to_bytes(), f"priors:{context.order.id}:{hash_of(job.only)}")


def _conditions(routes: Sequence[Route]) -> tuple[str, ...]:
    only = sorted({route.only for route in routes})
    return tuple(only) if all(only) else ()


def _studies(context: EventContext) -> tuple[Study, ...]:
    """The study that an event names, else those of its order."""
    if context.event.study_id:
        return tuple(study for study in context.studies if study.id == context.event.study_id)
    return context.studies


def hash_of(conditions: Sequence[str]) -> str:
    """A short name of conditions: what a newer delivery supersedes asked for the same images."""
    return hashlib.sha256("\0".join(conditions).encode()).hexdigest()[:12] if conditions else ""
