"""Sends images to `dicom` destinations: C-STORE as SCU, then storage commitment where the destination is asked for it.

An image goes out as stored where the receiver takes its transfer syntax, else uncompressed, as in a C-MOVE. Each that
was taken (success or warning) is noted, so that another try sends only what is missing.
Source: PS3.4 B.2, J.3.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from hilum.archive.blobs import BlobStore
from hilum.archive.render_pool import RenderPool
from hilum.core.errors import HilumError, Unavailable
from hilum.delivery.conditions import ConditionFailed, RouteError
from hilum.delivery.images import AVAILABILITY, ImageJob
from hilum.delivery.ports import SendOutcome, Sent
from hilum.dicom.availability import Availability
from hilum.dicom.called import called_destination, titles_of
from hilum.dicom.commitment_request import CommitmentRequests
from hilum.dicom.dimse.move import batches
from hilum.dicom.dimse.retrieve import STORE_WARNINGS, Origin, Outgoing, store_one
from hilum.dicom.dimse.status import SUCCESS
from hilum.dicom.forwarding import Forwarding, Missing, Progress
from hilum.dicom.image_rules import RuledCoercing
from hilum.dicom.requestor import Called, NothingAccepted, associate
from hilum.settings import Configuration, Destination
from hilum.storage.deliveries import Delivery
from hilum.storage.forwarding import Candidate
from hilum.storage.store import Store

log = logging.getLogger(__name__)

_MEDIUM = Origin(priority=0)
# PS3.4 B.2.3: out of resources; the same image may be taken later.
_OUT_OF_RESOURCES = range(0xA700, 0xA800)
# No transfer syntax in common, or nothing that could be sent in one.
NOT_SENDABLE = "not-sendable"


class ImageSender:
    """Sends what is due to destinations; safe to call from many threads."""

    def __init__(self, store: Store, configuration: Configuration, blobs: BlobStore) -> None:
        """Takes the index, the live configuration and the archive."""
        self._configuration = configuration
        self._pool = RenderPool()
        self._store, self._blobs = store, blobs
        self._outgoing: dict[str, Outgoing] = {}
        self._forwarding = Forwarding(store)
        self._commitments = CommitmentRequests(store)
        self._availability = Availability(store, configuration)

    def send(self, delivery: Delivery, destination: Destination) -> Sent:
        """Send what the destination lacks, for a while; PARTIAL where more is left."""
        settings = self._configuration.refresh()
        try:
            called = called_destination(destination, settings.dicom, self._configuration.home)
            job = ImageJob.of(delivery.body)
            if delivery.kind == AVAILABILITY:
                return self._availability.tell(delivery, job, called)
            missing = self._forwarding.missing(job, destination, titles_of(called, settings.dicom))
        except ConditionFailed:
            return Sent(SendOutcome.REJECTED, "condition-failed")
        except RouteError as error:
            return Sent(SendOutcome.REJECTED, error.code)
        except HilumError as error:
            return Sent(SendOutcome.TRANSIENT, error.code)
        if missing is None:
            return Sent(SendOutcome.REJECTED, "not-shown")
        progress = self._forwarding.progress(job, destination)
        sent = self._send_all(missing, called, destination, progress)
        if sent.outcome is not SendOutcome.ACCEPTED or not destination.commitment:
            return sent
        return self._commitments.ensure(
            delivery, called, job.ledger(destination), self._forwarding.taken(job, destination)
        )

    def close(self) -> None:
        """End tries at their next image, and the processes that decode."""
        self._forwarding.stopping.set()
        self._pool.close()

    def _send_all(
        self, missing: Sequence[Missing], called: Called, destination: Destination, progress: Progress
    ) -> Sent:
        failures: list[str] = []
        try:
            for each in missing:
                self._forwarding.audit(each.study, destination)
                sent = self._send_study(each.images, called, destination, progress, failures)
                if sent is not None:
                    return sent
        except NothingAccepted as error:
            return Sent(SendOutcome.ERROR, error.code)
        except Unavailable as error:
            # Broken off in between: perhaps by what was sent, so the other lanes of this destination go on.
            return Sent(SendOutcome.AMBIGUOUS if progress.sent else SendOutcome.TRANSIENT, error.code)
        finally:
            progress.note()
        return Sent(SendOutcome.ERROR, failures[0]) if failures else Sent(SendOutcome.ACCEPTED)

    def _send_study(
        self,
        images: Sequence[Candidate],
        called: Called,
        destination: Destination,
        progress: Progress,
        failures: list[str],
    ) -> Sent | None:
        """Send images, adding to `failures` why some were refused; what is returned ends the try."""
        by_id = {image.stored.id: image for image in images}
        outgoing = self._outgoing_to(destination)
        for rows, wishes in batches([image.stored for image in images]):
            with associate(called, wishes) as requestor:
                for row in rows:
                    status = store_one(row, outgoing, requestor.contexts, requestor.invoke, _MEDIUM)
                    if status in STORE_WARNINGS or status == SUCCESS:
                        progress.took(by_id[row.id], status)
                    elif status in _OUT_OF_RESOURCES:
                        return Sent(SendOutcome.TRANSIENT, f"status-{status:04X}")
                    else:
                        failures.append(NOT_SENDABLE if status is None else f"status-{status:04X}")
                    if progress.is_over:
                        return Sent(SendOutcome.PARTIAL, "more")
        return None

    def _outgoing_to(self, destination: Destination) -> Outgoing:
        """What gets images ready for a destination, under its rules."""
        known = self._outgoing.get(destination.name)
        if known is None:
            coercing = RuledCoercing(self._store, self._blobs, self._configuration, destination.name)
            known = self._outgoing.setdefault(destination.name, Outgoing(coercing, self._pool))
        return known
