"""Hands each DIMSE message to the service that took its presentation context, and sends what it answers.

This is the interface services are written against:

    def find(context: AssociationContext, request: Request) -> Iterator[Response]:
        for match in ...:
            yield Response(PENDING, data_set=match)          # bytes in context.transfer_syntax
        # the final success follows by itself

    Service("worklist", ServiceClass.QUERY, Offer(only(MODALITY_WORKLIST)), {CommandField.C_FIND_RQ: find})

A handler returns one `Response` or yields several. It runs in the association's own thread and may block, for a
C-STORE until the bytes are durable; the response leaves when it returns. `request.data_set.view` is the data set as
received, valid until then and not copied (data_set.py says how to write it with a header and a trailer in one call).

What a handler yields with a pending status (FF00H, FF01H) is sent at once; the first other status is the last, and
what stands behind that `yield` is done once the response has left (a report on the same association). One that ends
without a final status gets success. When the peer cancels, `OperationCancelled` is thrown into the generator at its
`yield`: it may catch it and yield a final response with its counts, else FE00H is sent.

A `HilumError` becomes the status of its code (status.py), its message the Error Comment; any other exception becomes
0110H and is logged by type and place only. In both cases the association lives on.

Within a handler `request.invoke` sends a request of our own on the same association and waits for its response:
C-STORE sub-operations of a C-GET, N-EVENT-REPORT of a storage commitment.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hilum.core.errors import HilumError
from hilum.dicom.dimse.data_set import DataSet
from hilum.dicom.dimse.messages import COMMANDS, RESPONSE, CommandField, CommandSet
from hilum.dicom.dimse.status import (
    CANCEL,
    PENDING,
    PENDING_WARNING,
    PROCESSING_FAILURE,
    SUCCESS,
    ServiceClass,
    error_comment_of,
    error_id_of,
    offending_element_of,
    status_of,
)
from hilum.dicom.upper_layer.negotiation import Offer, Peer

log = logging.getLogger("hilum.dicom.dimse")


class OperationCancelled(HilumError):
    """The peer cancelled the operation."""

    code = "cancelled"


@dataclass(frozen=True, slots=True)
class AssociationContext:
    """Who asks, and on which presentation context.

    `peer` has the titles, address, certificate and user identity. `accepted` lists all contexts of the association as
    (context ID, abstract syntax, transfer syntax, requestor is SCP), `extended` what was agreed on beyond that, by SOP
    class (PS3.7 D.3.3.5).
    """

    association_id: str
    peer: Peer
    presentation_context_id: int
    abstract_syntax: str
    transfer_syntax: str
    accepted: tuple[tuple[int, str, str, bool], ...] = ()
    extended: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def calling_ae_title(self) -> str:
        return self.peer.calling_ae_title

    @property
    def called_ae_title(self) -> str:
        return self.peer.called_ae_title


Invoke = Callable[[int, CommandSet, "bytes | memoryview | None"], CommandSet]


@dataclass(frozen=True, slots=True)
class Request:
    """One request: its command set and, where it brought one, its data set.

    `invoke(context ID, command set, data set)` sends a request of ours and returns the response's command set; message
    ID and data set type are filled in. It raises OperationCancelled when the peer cancels this request meanwhile.
    """

    command: CommandSet
    data_set: DataSet | None
    invoke: Invoke = field(repr=False)

    @property
    def message_id(self) -> int:
        return self.command.message_id or 0


@dataclass(frozen=True, slots=True)
class Response:
    """What a handler answers. UIDs and type IDs of the request are repeated by themselves (PS3.7 9.3, 10.3).

    `fields` overrides or adds fields of the response's `CommandSet`, e.g. `affected_sop_instance_uid` of an N-CREATE
    that named none, or `number_of_completed_suboperations`.
    """

    status: int = SUCCESS
    data_set: bytes | memoryview | None = None
    error_comment: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_pending(self) -> bool:
        return self.status in (PENDING, PENDING_WARNING)


Handler = Callable[[AssociationContext, Request], "Response | Iterable[Response]"]


@dataclass(frozen=True, slots=True)
class Service:
    """A service: what it can be negotiated for, and a handler for each command it takes.

    `maximum_data_set` bounds what a request may bring; the limits of the server bound it too.
    """

    name: str
    service_class: ServiceClass
    offer: Offer
    handlers: Mapping[CommandField, Handler]
    maximum_data_set: int = 1 << 20


def response_command(command: CommandSet, response: Response) -> CommandSet:
    """The command set that answers a request (PS3.7 9.3 and 10.3)."""
    rule = COMMANDS.get(command.command_field or 0)
    repeated = {name: getattr(command, source) for name, source in rule.response_fields} if rule else {}
    return CommandSet(
        command_field=(command.command_field or 0) | RESPONSE,
        message_id_being_responded_to=command.message_id,
        status=response.status,
        error_comment=response.error_comment[:64] or None,
        **(repeated | dict(response.fields)),
    )


def refusal(error: HilumError, service_class: ServiceClass) -> Response:
    """The response to a request that Hilum refused."""
    extra = {"offending_element": offending_element_of(error), "error_id": error_id_of(error, service_class)}
    return Response(status_of(error, service_class), error_comment=error_comment_of(error), fields=extra)


def failure(error: Exception, where: str) -> Response:
    """0110H for an exception nobody foresaw; telemetry logs its type and places, as its text may name a patient."""
    log.error("operation failed", exc_info=error, extra={"door": "dicom", "operation": where})
    return Response(PROCESSING_FAILURE, error_comment="Processing failure.")


def answers(
    service: Service, context: AssociationContext, request: Request, cancelled: Callable[[], bool]
) -> Iterator[Response]:
    """All responses to a request, the final one last and exactly once; never raises.

    `cancelled` is asked after each pending response.
    """
    handler = service.handlers[CommandField(request.command.command_field or 0)]
    try:
        result = handler(context, request)
        if isinstance(result, Response):
            yield result if not result.is_pending else replace(result, status=SUCCESS)
            return
        yield from _stream(iter(result), cancelled)
    except OperationCancelled:
        yield Response(CANCEL)
    except HilumError as error:
        operation = f"{service.name} {request.command.name}"
        log.info("operation refused", extra={"door": "dicom", "operation": operation, "code": error.code})
        yield refusal(error, service.service_class)
    except Exception as error:  # noqa: BLE001  # the edge: the association must outlive one failed message
        yield failure(error, f"{service.name} {request.command.name}")


def _stream(responses: Iterator[Response], cancelled: Callable[[], bool]) -> Iterator[Response]:
    for response in responses:
        yield response
        if not response.is_pending:
            _afterwards(responses)
            return
        if cancelled():
            yield _cancel(responses)
            return
    yield Response(SUCCESS)


def _afterwards(responses: Iterator[Response]) -> None:
    """Let the handler go on once its final response has left; what goes wrong then is its own affair."""
    try:
        next(responses, None)
    except HilumError as error:
        log.info("the work after a response failed", extra={"door": "dicom", "code": error.code})
    except Exception as error:  # the edge: the association must outlive it
        log.error("the work after a response failed", exc_info=error, extra={"door": "dicom"})


def _cancel(responses: Iterator[Response]) -> Response:
    """Tell the handler; its own final response counts, FE00H stands in for it."""
    throw = getattr(responses, "throw", None)
    if throw is None:
        return Response(CANCEL)
    try:
        final = throw(OperationCancelled())
    except (OperationCancelled, StopIteration):
        return Response(CANCEL)
    return final if isinstance(final, Response) and not final.is_pending else Response(CANCEL)
