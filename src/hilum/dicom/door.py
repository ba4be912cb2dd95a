"""The DICOM door: the services of the chain behind one listener, under the settings in force.

What a crash left between bytes and index is mended before the door opens.
"""

from __future__ import annotations

from ssl import SSLContext

from hilum.archive.barrier import IndexBarrier
from hilum.archive.ingest import Ingest
from hilum.archive.recovery import recover_orphans
from hilum.archive.render_pool import RenderPool
from hilum.core.actor import Door
from hilum.dicom.acceptance import Acceptance
from hilum.dicom.after_index import after_index
from hilum.dicom.callers import caller_of
from hilum.dicom.coercing import Coercing
from hilum.dicom.commitment_report import Commitments
from hilum.dicom.counted import counted
from hilum.dicom.dimse.commitment import StorageCommitment
from hilum.dicom.dimse.dispatch import AssociationContext, Request, Response, Service
from hilum.dicom.dimse.echo import VERIFICATION_SOP_CLASS, echo
from hilum.dicom.dimse.get import ImageGet
from hilum.dicom.dimse.messages import CommandField
from hilum.dicom.dimse.move import ImageMove
from hilum.dicom.dimse.mpps import PerformedSteps
from hilum.dicom.dimse.query import ImageQuery
from hilum.dicom.dimse.retrieve import Outgoing
from hilum.dicom.dimse.server import DicomServer
from hilum.dicom.dimse.status import ServiceClass
from hilum.dicom.dimse.storage import Storage
from hilum.dicom.dimse.worklist import Worklist
from hilum.dicom.upper_layer.limits import Limits
from hilum.dicom.upper_layer.negotiation import Offer
from hilum.dicom.upper_layer.syntaxes import only
from hilum.dicom.user_identity import UserIdentities
from hilum.jobs.runner import Runner
from hilum.security.audit import ReadLog
from hilum.security.connections import ConnectionLog
from hilum.security.live_keys import Keys, LiveKeyring
from hilum.security.policy import Action, require
from hilum.settings import Configuration, DicomSettings
from hilum.storage.store import Store

DRAIN_SECONDS = 20.0


class DicomDoor:
    """Listens for DICOM associations."""

    def __init__(
        self,
        store: Store,
        configuration: Configuration,
        ingest: Ingest,
        *,
        ssl: SSLContext | None = None,
        reads: ReadLog | None = None,
        keys: Keys | None = None,
        barrier: IndexBarrier | None = None,
    ) -> None:
        """Takes the store, the live configuration, the way into the archive and, for TLS, the listening context.

        `barrier` is where readers wait for the index; needed where it follows behind the answers.
        """
        self._configuration = configuration
        self._ingest = ingest
        self._barrier = barrier or IndexBarrier(configuration.current.paths.positions)
        settings = configuration.current.dicom
        reads = reads or ReadLog(store)
        self._pool = RenderPool()
        outgoing = Outgoing(Coercing(store, ingest.blobs, configuration), self._pool)
        commitments = Commitments(store, configuration, ingest.blobs)
        self._jobs = Runner(store, [commitments.job()])
        receiving = (
            Service("echo", ServiceClass.VERIFICATION, _VERIFICATION, {CommandField.C_ECHO_RQ: self._echo}),
            PerformedSteps(store, configuration).service(),
            Storage(ingest, configuration).service(settings.max_instance_bytes),
        )
        reading = (
            Worklist(store, configuration, reads).service(),
            ImageQuery(store, configuration, reads).service(),
            ImageGet(store, configuration, reads, outgoing).service(),
            ImageMove(store, configuration, reads, outgoing).service(),
            StorageCommitment(store, configuration, commitments).service(),
        )
        # What is offered, as the conformance statement lists it.
        self.services = (*receiving, *(after_index(service, self._barrier) for service in reading))
        refusals = ConnectionLog(store)
        policy = Acceptance(
            configuration, refusals, UserIdentities(store, keys or LiveKeyring(configuration.home))
        ).policy
        bind = (settings.listen.host, settings.listen.port)
        self.server = DicomServer(
            bind,
            [counted(service) for service in self.services],
            policy,
            limits_of(settings),
            tls=ssl,
            handshake_failed=lambda address, error: refusals.handshake_failed(Door.DIMSE, address, error),
        )

    def start(self) -> None:
        """Index what a crash left unindexed, then listen. Raises OSError when the address is not to be had."""
        recover_orphans(self._ingest, self._barrier)
        self.server.start()
        self._jobs.start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self.server.port

    @property
    def address(self) -> str:
        """`HOST:PORT` it listens on."""
        host = self._configuration.current.dicom.bind.rpartition(":")[0]
        return f"{host}:{self.port}"

    def drain(self, timeout: float = DRAIN_SECONDS) -> None:
        """Take no more associations, let those there are finish their message."""
        self.server.drain(timeout)
        self._jobs.stop(timeout)
        self._pool.close()

    def _echo(self, context: AssociationContext, request: Request) -> Response:
        require(caller_of(context, self._configuration.refresh()).actor, Action.ECHO)
        return echo(context, request)


_VERIFICATION = Offer(only(VERIFICATION_SOP_CLASS))


def limits_of(settings: DicomSettings) -> Limits:
    """Return the bounds of the door as the settings have them."""
    return Limits(
        maximum_length_received=settings.max_pdu,
        maximum_object=settings.max_instance_bytes,
        artim_timeout=settings.acse_timeout,
        network_timeout=settings.dimse_timeout,
        idle_timeout=settings.idle_timeout,
        maximum_associations=settings.max_associations,
        maximum_associations_per_peer=settings.max_associations_per_peer,
    )
