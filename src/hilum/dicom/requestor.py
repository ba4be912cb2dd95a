"""The other role: Hilum asks a peer for an association and sends it requests (PS3.8 7.1, PS3.7 D.1).

For C-STORE to the destination of a C-MOVE and for the reports of storage commitment. One thread owns an association,
one request is under way at a time, and data sets go out as the memory they are given in. A peer that can't be reached,
refuses or breaks off is `Unavailable`.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType

from hilum.core.errors import HilumError, Unavailable
from hilum.dicom.dimse.data_set import DataSetBuffer, MemoryBudget
from hilum.dicom.dimse.dispatch import Response, response_command
from hilum.dicom.dimse.messages import RESPONSE, CommandSet, encode_command
from hilum.dicom.dimse.reader import Message, MessageReader
from hilum.dicom.upper_layer.association import Association
from hilum.dicom.upper_layer.limits import KIB, MIB, Limits
from hilum.dicom.upper_layer.negotiation import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    MAXIMUM_CONTEXTS,
    AcceptedContext,
)
from hilum.dicom.upper_layer.pdu import (
    AAssociateAC,
    AAssociateRQ,
    AReleaseRP,
    ContextResult,
    ProposedContext,
)
from hilum.dicom.upper_layer.state import Event, State
from hilum.dicom.upper_layer.transport import TlsTransport, Transport
from hilum.dicom.upper_layer.user_information import ScpScuRoleSelection, UserInformation

CONNECT_SECONDS = 10.0
RELEASE_SECONDS = 5.0
_ANSWER = 1 * MIB  # what a response may bring at most
_REQUEST = 32 * MIB  # what a request of the peer may bring, as a report of storage commitment


class NothingAccepted(Unavailable):
    """The peer accepts nothing of what is to be sent."""

    code = "no-context"


class TlsRefused(Unavailable):
    """No secure connection to the peer comes about."""

    code = "tls-refused"


@dataclass(frozen=True, slots=True)
class Called:
    """The application entity to be called, our own title, how long it may be silent, and the context of TLS if any."""

    host: str
    port: int
    ae_title: str
    calling_ae_title: str
    seconds: float = 60.0
    tls: ssl.SSLContext | None = None


class RequestorAssociation(Association):
    """The requestor's end of one association: Sta4 and Sta5, then as the acceptor's."""

    def request(self, request: AAssociateRQ) -> None:
        """Ask for the association; afterwards it is established or closed, and `outcome` says why."""
        self._fire(Event.A_ASSOCIATE_REQUEST)
        self._fire(Event.TRANSPORT_CONFIRMED)
        self._send_pdu(request)
        if self.closed:
            self._finish()
            return
        event, payload = self._next_event(self._scratch_window)
        self._fire(event, payload)
        if event is Event.A_ASSOCIATE_AC_RECEIVED and isinstance(payload, AAssociateAC):
            self.contexts = _accepted(request, payload)
            self._limit_sending(payload.user_information.maximum_length_received)
            return
        if event is Event.A_ASSOCIATE_RJ_RECEIVED:
            self._note("rejected by the peer")
        self._finish()

    def _fire(self, event: Event, payload: object = None) -> None:
        super()._fire(event, payload)
        if self.state is State.STA10:
            # AR-8 on the requestor's side: Sta9, answered at once, then Sta11, which awaits the same as Sta7.
            self._send_pdu(AReleaseRP())
            self.state = State.STA1 if self.closed else State.STA7


def _accepted(request: AAssociateRQ, answer: AAssociateAC) -> dict[int, AcceptedContext]:
    proposed = {context.presentation_context_id: context for context in request.presentation_contexts}
    contexts = {}
    for reply in answer.presentation_contexts:
        asked = proposed.get(reply.presentation_context_id)
        if asked is None or reply.result != ContextResult.ACCEPTANCE:
            continue
        if reply.transfer_syntax in asked.transfer_syntaxes:
            number = reply.presentation_context_id
            contexts[number] = AcceptedContext(number, asked.abstract_syntax, reply.transfer_syntax, offer=0)
    return contexts


# Of a request of the peer: presentation context, command and data set; returns the status.
Handle = Callable[[int, CommandSet, bytes], int]


class Requestor:
    """An established association on which requests of ours are sent, one after the other."""

    def __init__(self, association: RequestorAssociation, limits: Limits) -> None:
        self._association = association
        self._reader = MessageReader(association, limits)
        self._buffer = DataSetBuffer(limits, MemoryBudget(0))
        self._next_message_id = 1
        self._awaiting = False
        self._handle: Handle | None = None
        self._served = False

    def __enter__(self) -> Requestor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the association, or abort it where a request is still under way."""
        try:
            if self._awaiting:
                self._association.abort("a request on it failed")
            else:
                self._association.release(time.monotonic() + RELEASE_SECONDS)
        finally:
            self._buffer.end()
            self._buffer.shrink()

    @property
    def contexts(self) -> dict[tuple[str, str], int]:
        """The context of each (abstract syntax, transfer syntax) that the peer accepted."""
        found: dict[tuple[str, str], int] = {}
        for number, context in self._association.contexts.items():
            found.setdefault((context.abstract_syntax, context.transfer_syntax), number)
        return found

    @property
    def closed(self) -> bool:
        """Whether the association is over."""
        return self._association.closed

    def invoke(self, context_id: int, command: CommandSet, data_set: bytes | memoryview | None) -> CommandSet:
        """Send a request and return its response. Raises Unavailable when the association does not survive it."""
        number, self._next_message_id = self._next_message_id, self._next_message_id % 65535 + 1
        raw = encode_command(replace(command, message_id=number), with_data_set=bool(data_set))
        self._awaiting = True
        if not self._association.send(context_id, raw, data_set):
            raise Unavailable("The peer does not take what is sent.")
        answer = self._response()
        if answer.message_id_being_responded_to != number:
            self._association.abort("the response is to another request")
            raise Unavailable("The peer answers another request.")
        self._awaiting = False
        return answer

    def answer_with(self, handle: Handle) -> None:
        """From now on answer requests that the peer sends on our association with the status of `handle`."""
        self._handle = handle

    def serve(self, seconds: float) -> bool:
        """Wait until a request of the peer is answered, now or before; False where none came in time.

        Raises Unavailable when what comes can't be read.
        """
        end = time.monotonic() + seconds
        while not self._served and time.monotonic() < end:
            message = self._read(lambda: time.monotonic() >= end)
            if message is None:
                return False
            self._serve(message)
        return self._served

    def _response(self) -> CommandSet:
        while True:
            message = self._read()
            if message is None:
                raise Unavailable("The peer ended the association without a response.")
            if (message.command.command_field or 0) & RESPONSE:
                return message.command
            # Each side may invoke: a report of the peer can cross the response to our request.
            self._serve(message)

    def _read(self, on_tick: Callable[[], bool] | None = None) -> Message | None:
        largest = _ANSWER if self._handle is None else _REQUEST
        try:
            return self._reader.read(self._buffer, lambda context_id: largest, on_tick)
        except HilumError as error:
            self._association.abort(error.message)
            raise Unavailable("What the peer sends can't be read.") from error

    def _serve(self, message: Message) -> None:
        command = message.command
        if self._handle is None or (command.command_field or 0) & RESPONSE:
            self._association.abort("a request comes where a response should")
            raise Unavailable("The peer sends a request instead of a response.")
        try:
            content = self._buffer.finish().tobytes() if command.has_data_set else b""
            status = self._handle(message.presentation_context_id, command, content)
            answer = encode_command(response_command(command, Response(status)), with_data_set=False)
        except HilumError as error:
            self._association.abort(error.message)
            raise Unavailable("The peer's request can't be answered.") from error
        finally:
            self._buffer.end()
        self._served = self._association.send(message.presentation_context_id, answer)


def associate(
    called: Called, wishes: Sequence[tuple[str, str]], roles: Sequence[ScpScuRoleSelection] = ()
) -> Requestor:
    """Open an association that proposes a context for each (abstract syntax, transfer syntax), 128 at most.

    Raises Unavailable when the peer is not there, refuses, or accepts no context.
    """
    contexts = tuple(
        ProposedContext(2 * index + 1, abstract, (transfer,))
        for index, (abstract, transfer) in enumerate(wishes[:MAXIMUM_CONTEXTS])
    )
    limits = Limits(
        maximum_length_received=64 * KIB, network_timeout=called.seconds, idle_timeout=called.seconds, artim_timeout=5.0
    )
    association = RequestorAssociation(_connect(called, limits.tick), limits)
    information = UserInformation(
        maximum_length_received=limits.maximum_length_received,
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version_name=IMPLEMENTATION_VERSION_NAME,
        role_selections=tuple(roles),
    )
    association.request(AAssociateRQ(called.ae_title, called.calling_ae_title, contexts, information))
    if association.closed:
        raise Unavailable("The peer does not grant an association.")
    if not association.contexts:
        association.release(time.monotonic() + RELEASE_SECONDS)
        raise NothingAccepted
    return Requestor(association, limits)


def _connect(called: Called, tick: float) -> Transport:
    seconds = min(CONNECT_SECONDS, called.seconds)
    try:
        connection = socket.create_connection((called.host, called.port), seconds)
    except OSError as error:
        raise Unavailable("The peer can't be reached.") from error
    if called.tls is None:
        return Transport(connection, tick)
    try:
        # The time-out of the connection bounds the handshake.
        return TlsTransport(called.tls.wrap_socket(connection, server_hostname=called.host), tick)
    except (OSError, ValueError) as error:
        connection.close()
        raise TlsRefused from error
