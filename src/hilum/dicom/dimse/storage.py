"""Link 7, Images: C-STORE of any storage SOP class in any transfer syntax that is a data set (PS3.4 B).

Nothing is decoded or changed: the bytes go to the archive as received, and success leaves when they and their index
row are durable. The same instance again is a success; other bytes under a known UID are kept beside and flagged.
"""

from __future__ import annotations

import time

from hilum.archive.ingest import Ingest
from hilum.archive.part10 import checked_transfer_syntax
from hilum.core.errors import HilumError, MissingField, Unsupported
from hilum.dicom.callers import Caller, caller_of
from hilum.dicom.dimse.dispatch import AssociationContext, Request, Response, Service
from hilum.dicom.dimse.messages import CommandField
from hilum.dicom.dimse.status import ServiceClass
from hilum.dicom.upper_layer.negotiation import Offer, Peer
from hilum.dicom.upper_layer.syntaxes import TRANSFER_SYNTAXES, first_of, storage_sop_class
from hilum.settings import Configuration, Settings
from hilum.telemetry import count_instance, time_store
from hilum.workflow.images import Recorded
from hilum.workflow.receiving import DroppedByRule
from hilum.workflow.source import Source

DOOR = "dimse"
MAXIMUM_CALLERS = 512
OUTCOMES = {Recorded.STORED: "stored", Recorded.KNOWN: "duplicate", Recorded.BESIDE: "beside"}


def _is_stored(transfer_syntax_uid: str) -> bool:
    try:
        checked_transfer_syntax(transfer_syntax_uid)
    except Unsupported:
        return False
    return True


STORED_TRANSFER_SYNTAXES = frozenset(filter(_is_stored, TRANSFER_SYNTAXES))


class Storage:
    """Takes instances from modalities."""

    def __init__(self, ingest: Ingest, configuration: Configuration) -> None:
        self._ingest = ingest
        self._configuration = configuration
        self._callers: tuple[Settings | None, dict[Peer, Caller]] = (None, {})

    def service(self, maximum: int) -> Service:
        """Return the service to be offered; `maximum` is the largest instance in bytes."""
        # A requestor in the SCP role takes images itself: the sub-operations of its C-GET.
        offer = Offer(storage_sop_class(), first_of(STORED_TRANSFER_SYNTAXES), requestor_may_be_scp=True)
        return Service("storage", ServiceClass.STORAGE, offer, {CommandField.C_STORE_RQ: self.store}, maximum)

    def store(self, context: AssociationContext, request: Request) -> Response:
        """Make an instance durable, then say so."""
        began = time.perf_counter()
        caller = self._caller(context)
        if request.data_set is None:
            raise MissingField("The request comes without a data set.")
        command = request.command
        try:
            ingested = self._ingest.store_dataset(
                request.data_set.view,
                context.transfer_syntax,
                source=Source("DICOM C-STORE", caller.ae_title),
                actor=caller.actor,
                issuer=caller.issuer,
                digest=request.data_set.digest,
                announced_sop=(command.affected_sop_class_uid or "", command.affected_sop_instance_uid or ""),
            )
        except HilumError as error:
            count_instance(DOOR, error.code)
            if isinstance(error, DroppedByRule) and not error.is_told:
                return Response()
            raise
        count_instance(DOOR, OUTCOMES[ingested.recorded])
        time_store(time.perf_counter() - began)
        return Response()

    def _caller(self, context: AssociationContext) -> Caller:
        """Who calls; asked for every instance, found out once for each peer and version of the settings."""
        settings = self._configuration.refresh()
        if self._callers[0] is not settings or len(self._callers[1]) >= MAXIMUM_CALLERS:
            self._callers = settings, {}
        known = self._callers[1]
        caller = known.get(context.peer)
        if caller is None:
            caller = known[context.peer] = caller_of(context, settings)
        return caller
