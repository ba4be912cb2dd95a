"""One association's thread once it is established: read a message, answer it, until the peer or a drain ends it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hilum.core.errors import HilumError, Unavailable
from hilum.dicom.dimse.data_set import DataSet, DataSetBuffer, MemoryBudget
from hilum.dicom.dimse.dispatch import (
    AssociationContext,
    OperationCancelled,
    Request,
    Response,
    Service,
    answers,
    refusal,
    response_command,
)
from hilum.dicom.dimse.messages import (
    CommandField,
    CommandSet,
    MalformedCommand,
    check_request,
    encode_command,
)
from hilum.dicom.dimse.reader import BrokenMessage, Message, MessageReader
from hilum.dicom.dimse.status import UNRECOGNIZED_OPERATION
from hilum.dicom.upper_layer.association import Association
from hilum.dicom.upper_layer.limits import Limits

log = logging.getLogger("hilum.dicom.dimse")

_MEANWHILE = 64 << 20  # of a request that crosses a report of ours, bytes


@dataclass
class Drain:
    """Shared by all conversations: once begun they end when quiet, after `soft` between messages, by `hard` anyhow."""

    begun: bool = False
    soft: float = 0.0
    hard: float = 0.0


class Conversation:
    """The acceptor's DIMSE side of one association."""

    def __init__(
        self,
        association: Association,
        services: Sequence[Service],
        limits: Limits,
        budget: MemoryBudget,
        drain: Drain,
        count: Callable[[str], None],
    ) -> None:
        self._association = association
        self._limits = limits
        self._budget = budget
        self._drain = drain
        self._reader = MessageReader(association, limits)
        self._buffer = DataSetBuffer(limits, budget)
        self._reply_buffer: DataSetBuffer | None = None
        self._services = {number: services[accepted.offer] for number, accepted in association.contexts.items()}
        self._contexts = self._association_contexts()
        self._next_message_id = 1
        self._cancelled = False
        self._answered = False
        self._deferred: tuple[Message, DataSet | None] | None = None
        self._count = count

    def run(self) -> None:
        """Serve messages until the association is over; it is closed afterwards."""
        try:
            while self._serve_one():
                pass
            if not self._association.closed:
                self._association.release(self._drain.hard)
        except HilumError as error:
            self._association.abort(error.message)
        finally:
            self._buffer.end()
            self._buffer.shrink()

    def _serve_one(self) -> bool:
        if self._drain.begun and time.monotonic() >= self._drain.soft:
            return False
        if self._deferred is not None:
            deferred, self._deferred = self._deferred, None
            return self._serve(*deferred)
        message = self._reader.read(self._buffer, self._maximum, self._on_tick)
        if message is None:
            return False
        if message.command.command_field == CommandField.C_CANCEL_RQ:
            return True  # it came after the last response, which PS3.7 9.3.2.3 allows
        try:
            return self._serve(message)
        finally:
            self._buffer.end()

    def _serve(self, message: Message, data_set: DataSet | None = None) -> bool:
        command, service = message.command, self._services[message.presentation_context_id]
        self._count(command.name)
        try:
            check_request(command)
            if command.command_field not in service.handlers:
                answer = Response(UNRECOGNIZED_OPERATION, error_comment=f"{command.name} is not served here.")
                return self._respond(message, answer)
            if data_set is None and command.has_data_set:
                data_set = self._buffer.finish()
        except HilumError as error:
            if command.message_id is None or (command.command_field or 0) & 0x8000:
                raise  # nothing that could be answered
            return self._respond(message, refusal(error, service.service_class))
        return self._answer(message, service, data_set)

    def _answer(self, message: Message, service: Service, data_set: DataSet | None) -> bool:
        self._cancelled = self._answered = False
        context = self._contexts[message.presentation_context_id]
        request = Request(message.command, data_set, self._invoker(message.command))
        responses = answers(service, context, request, lambda: self._peer_cancelled(message.command))
        return all(self._respond(message, response) for response in responses)

    def _respond(self, message: Message, response: Response) -> bool:
        self._answered = not response.is_pending
        command = response_command(message.command, response)
        raw = encode_command(command, with_data_set=bool(response.data_set))
        return self._association.send(message.presentation_context_id, raw, response.data_set)

    # What arrives while a handler is at work -------------------------------------------------------------------------

    def _peer_cancelled(self, command: CommandSet) -> bool:
        """Take in what has arrived between two responses: a C-CANCEL-RQ, or the end of the association."""
        while not self._cancelled and (self._reader.has_pending or self._association.readable()):
            self._take_in(command)
        return self._cancelled or self._association.closed

    def _take_in(self, command: CommandSet) -> Message | None:
        """Read one message while a request is being answered; a response is returned, a cancel is noted."""
        if self._reply_buffer is None:
            self._reply_buffer = DataSetBuffer(self._limits, self._budget)
        try:
            message = self._reader.read(self._reply_buffer, self._maximum_meanwhile)
            if message is None:
                raise Unavailable("The association ended while a request was being answered.")
            number = message.command.message_id_being_responded_to
            if message.command.command_field == CommandField.C_CANCEL_RQ:
                self._cancelled |= number == command.message_id
                return None
            if number is None and self._answered and self._deferred is None:
                # Our report crossed the peer's next request, which is served once the report is answered.
                brought = message.command.has_data_set
                copied = DataSet.of(self._reply_buffer.finish().tobytes()) if brought else None
                self._deferred = message, copied
                return None
            if number is None:
                raise BrokenMessage("A request comes before the last was answered, which was not negotiated.")
        except HilumError as error:
            self._association.abort(error.message)  # not the handler's to answer with a status
            raise
        return message

    def _invoker(self, command: CommandSet) -> Callable[[int, CommandSet, bytes | memoryview | None], CommandSet]:
        def invoke(context_id: int, ours: CommandSet, data_set: bytes | memoryview | None) -> CommandSet:
            if self._cancelled:
                raise OperationCancelled
            number, self._next_message_id = self._next_message_id, self._next_message_id % 65535 + 1
            raw = encode_command(replace(ours, message_id=number), with_data_set=bool(data_set))
            if not self._association.send(context_id, raw, data_set):
                raise Unavailable("The association ended before the request could be sent.")
            while True:
                message = self._take_in(command)
                if message is not None and message.command.message_id_being_responded_to == number:
                    return message.command

        return invoke

    # -----------------------------------------------------------------------------------------------------------------

    def _on_tick(self) -> bool:
        """Between messages, twice a second: an idle association gives its memory back, and ends when we drain."""
        self._buffer.shrink()
        return self._drain.begun

    def _maximum(self, context_id: int) -> int:
        return self._services[context_id].maximum_data_set

    def _maximum_meanwhile(self, context_id: int) -> int:
        """What may come while a handler is at work: a response, or the next request behind the final one."""
        return min(self._maximum(context_id), _MEANWHILE if self._answered else 1 << 20)

    def _association_contexts(self) -> dict[int, AssociationContext]:
        peer = self._association.peer
        if peer is None:
            raise MalformedCommand("There is no association.")
        accepted = tuple(
            (number, context.abstract_syntax, context.transfer_syntax, context.requestor_is_scp)
            for number, context in self._association.contexts.items()
        )
        return {
            number: AssociationContext(
                self._association.association_id,
                peer,
                number,
                abstract_syntax,
                transfer_syntax,
                accepted,
                self._association.extended,
            )
            for number, abstract_syntax, transfer_syntax, _ in accepted
        }
