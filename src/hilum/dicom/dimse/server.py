"""The DICOM listener: a thread per association on blocking sockets, bounded, drained without losing a message.

    server = DicomServer(("127.0.0.1", 11112), [ECHO_SERVICE, ...], AcceptancePolicy(...), Limits(), tls=context)
    server.start(); server.port; server.reconfigure(policy=..., services=...); server.drain(timeout=30)

Policy and services are one snapshot per association: what `reconfigure` sets, or a policy given as a function says,
holds from the next one on. Above `maximum_connections` the oldest connection that has not asked for an association yet
makes room for a new one, so that idle connections cannot keep a modality out; above the association limits the peer is
told to come back later.
"""

from __future__ import annotations

import errno
import logging
import socket
import ssl
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hilum.dicom.dimse.conversation import Conversation, Drain
from hilum.dicom.dimse.data_set import MemoryBudget
from hilum.dicom.dimse.dispatch import Service
from hilum.dicom.upper_layer.association import Association
from hilum.dicom.upper_layer.limits import Limits
from hilum.dicom.upper_layer.negotiation import (
    LOCAL_LIMIT_EXCEEDED,
    TEMPORARY_CONGESTION,
    AcceptancePolicy,
    Agreement,
    Peer,
    agree,
)
from hilum.dicom.upper_layer.pdu import AAssociateRJ, AAssociateRQ
from hilum.dicom.upper_layer.transport import TlsTransport, Transport
from hilum.security.certificates import PeerCertificate, peer_certificate
from hilum.telemetry import move_associations

log = logging.getLogger("hilum.dicom.server")

_COUNTS = (
    "connections",
    "connections-refused",
    "connections-evicted",
    "associations",
    "associations-refused",
    "associations-failed",
)


@dataclass(eq=False)
class _Connection:
    """One accepted socket and who holds it."""

    socket: socket.socket
    address: tuple[str, int]
    thread: threading.Thread | None = None
    peer_key: tuple[str, str] | None = None  # calling AE title and host, once an association is granted


class DicomServer:
    """Listens, accepts and serves associations until drained."""

    def __init__(
        self,
        bind: tuple[str, int],
        services: Sequence[Service],
        policy: AcceptancePolicy | Callable[[], AcceptancePolicy],
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        handshake_failed: Callable[[str, Exception], None] = lambda address, error: None,
    ) -> None:
        self._bind = bind
        self._configuration: tuple[tuple[Service, ...], AcceptancePolicy | Callable[[], AcceptancePolicy]]
        self._configuration = (tuple(services), policy)
        self._limits = limits or Limits()
        self._tls = tls
        self._handshake_failed = handshake_failed
        self._budget = MemoryBudget(self._limits.memory_budget)
        self._drain = Drain()
        self._lock = threading.Lock()
        self._connections: dict[_Connection, None] = {}  # in the order they came
        self._counts: Counter[str] = Counter(dict.fromkeys(_COUNTS, 0))
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None

    def start(self) -> None:
        """Bind and begin to accept; raises OSError when the address cannot be had."""
        family = socket.AF_INET6 if ":" in self._bind[0] else socket.AF_INET
        listener = socket.create_server(self._bind, family=family, backlog=256, reuse_port=False)
        self._listener = listener
        self._acceptor = threading.Thread(target=self._accept, args=(listener,), name="dicom-accept", daemon=True)
        self._acceptor.start()

    @property
    def port(self) -> int:
        """The port it listens on, also when 0 was asked for."""
        if self._listener is None:
            raise RuntimeError("The DICOM server has not been started.")
        return int(self._listener.getsockname()[1])

    def reconfigure(self, *, services: Sequence[Service] | None = None, policy: AcceptancePolicy | None = None) -> None:
        """Swap services or policy for the associations to come."""
        old_services, old_policy = self._configuration
        self._configuration = (old_services if services is None else tuple(services), policy or old_policy)

    def counts(self) -> dict[str, int]:
        """Since the start: connections, associations, and how many of each command were read; and `open` now."""
        with self._lock:
            standing = sum(connection.peer_key is not None for connection in self._connections)
            return {**self._counts, "open": standing, "open-connections": len(self._connections)}

    def drain(self, timeout: float) -> bool:
        """Stop accepting, let every association finish its message and end; False if some had to be cut off."""
        now = time.monotonic()
        self._drain.soft, self._drain.hard = now + timeout - min(2.0, timeout / 2), now + timeout
        self._drain.begun = True
        if self._listener is not None:
            _shut(self._listener)
            self._listener.close()
        with self._lock:
            waiting = list(self._connections)
            for connection in waiting:
                if connection.peer_key is None:
                    _shut(connection.socket)
        for connection in waiting:
            if connection.thread is not None:
                connection.thread.join(max(0.0, self._drain.hard + self._limits.tick - time.monotonic()))
        with self._lock:
            cut_off = list(self._connections)
        for connection in cut_off:
            _shut(connection.socket)
        return not cut_off

    # Accepting -------------------------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        while not self._drain.begun:
            try:
                accepted, address = listener.accept()
            except OSError as error:
                if self._drain.begun or error.errno in (errno.EINVAL, errno.EBADF):
                    return
                code = errno.errorcode.get(error.errno or 0, "unknown")
                log.warning("cannot accept a connection", extra={"door": "dicom", "code": code})
                time.sleep(0.1)  # out of descriptors or memory: what ends frees some
                continue
            self._admit(_Connection(accepted, (str(address[0]), int(address[1]))))

    def _admit(self, connection: _Connection) -> None:
        with self._lock:
            self._counts["connections"] += 1
            if len(self._connections) >= self._limits.maximum_connections and not self._evict():
                self._counts["connections-refused"] += 1
                connection.socket.close()
                return
            self._connections[connection] = None
        thread = threading.Thread(target=self._serve, args=(connection,), name="dicom-association", daemon=True)
        connection.thread = thread
        try:
            thread.start()
        except RuntimeError:  # the system has no more threads
            self._forget(connection)

    def _evict(self) -> bool:
        """Cut off the oldest connection that has no association; the caller holds the lock."""
        for connection in self._connections:
            if connection.peer_key is None:
                del self._connections[connection]
                self._counts["connections-evicted"] += 1
                _shut(connection.socket)
                return True
        return False

    def _forget(self, connection: _Connection) -> None:
        with self._lock:
            self._connections.pop(connection, None)
        connection.socket.close()

    # One association -------------------------------------------------------------------------------------------------

    def _serve(self, connection: _Connection) -> None:
        association_id = uuid.uuid4().hex
        try:
            transport, certificate = self._transport(connection)
        except (OSError, ValueError) as error:
            code = type(error).__name__
            log.info("no connection", extra={"door": "dicom", "association": association_id, "code": code})
            self._handshake_failed(connection.address[0], error)
            self._forget(connection)
            return
        try:
            self._converse(connection, Association(transport, self._limits, association_id), certificate)
        except Exception as error:  # the edge: one association must not take the server along
            self._count("associations-failed")
            log.error("association failed", exc_info=error, extra={"door": "dicom", "association": association_id})
        finally:
            transport.close()
            self._forget(connection)

    def _transport(self, connection: _Connection) -> tuple[Transport, PeerCertificate | None]:
        if self._tls is None:
            return Transport(connection.socket, self._limits.tick), None
        connection.socket.settimeout(self._limits.artim_timeout)
        secured = self._tls.wrap_socket(connection.socket, server_side=True, do_handshake_on_connect=False)
        # Known before the handshake, so that a connection that never ends one can be cut off.
        connection.socket = secured
        secured.do_handshake()  # the time-out bounds all of it
        return TlsTransport(secured, self._limits.tick), peer_certificate(secured)

    def _converse(self, connection: _Connection, association: Association, certificate: PeerCertificate | None) -> None:
        services, configured = self._configuration
        policy = configured() if callable(configured) else configured

        def negotiate(request: AAssociateRQ) -> Agreement | AAssociateRJ:
            information = request.user_information
            peer = Peer(
                request.calling_ae_title,
                request.called_ae_title,
                connection.address,
                certificate,
                information.user_identity,
                information.implementation_class_uid,
                information.implementation_version_name,
            )
            offers = [service.offer for service in services]
            answer = agree(request, peer, offers, policy, self._limits.maximum_length_received)
            return self._granted(connection, answer, policy) if isinstance(answer, Agreement) else answer

        if not association.establish(negotiate):
            self._count("associations-refused")
            return
        peer = association.peer
        log.info(
            "association accepted",
            extra={
                "door": "dicom",
                "association": association.association_id,
                "ae_title": peer.calling_ae_title if peer else "-",
                "host": connection.address[0],
                "contexts": len(association.contexts),
            },
        )
        self._count("associations")
        limits = self._limits.of(policy.limits_of(peer)) if peer else self._limits
        association.limit(limits)
        conversation = Conversation(association, services, limits, self._budget, self._drain, self._count)
        move_associations(+1)
        try:
            conversation.run()
        finally:
            move_associations(-1)
            extra = {"door": "dicom", "association": association.association_id, "outcome": association.outcome}
            log.info("association ended", extra=extra)

    def _granted(
        self, connection: _Connection, agreement: Agreement, policy: AcceptancePolicy
    ) -> Agreement | AAssociateRJ:
        """The agreement, if the limits leave room for one more association."""
        of_peer = self._limits.of(policy.limits_of(agreement.peer)).maximum_associations_per_peer
        key = (agreement.peer.calling_ae_title, connection.address[0])
        with self._lock:
            if self._drain.begun:
                return TEMPORARY_CONGESTION
            standing = [other.peer_key for other in self._connections if other.peer_key is not None]
            if len(standing) >= self._limits.maximum_associations:
                return TEMPORARY_CONGESTION
            if standing.count(key) >= of_peer:
                return LOCAL_LIMIT_EXCEEDED
            if connection in self._connections:
                connection.peer_key = key
        return agreement

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1


def _shut(connection: socket.socket) -> None:
    """Wake whoever reads the socket; closing alone would not."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
