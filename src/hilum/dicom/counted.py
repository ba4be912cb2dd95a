"""Every request of a service counted by its outcome, for the metrics page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from hilum.core.errors import HilumError
from hilum.dicom.dimse.dispatch import AssociationContext, Handler, Request, Response, Service
from hilum.telemetry import count_message

DOOR = "dimse"


def counted(service: Service) -> Service:
    """Return the service with its requests counted: `success`, a status in hexadecimal, or the code of an error."""
    return replace(
        service,
        handlers={command: _counted(service.name, handler) for command, handler in service.handlers.items()},
    )


def _counted(name: str, handler: Handler) -> Handler:
    def run(context: AssociationContext, request: Request) -> Response | Iterable[Response]:
        kind = f"{name}/{request.command.name.removesuffix('-RQ')}"
        try:
            result = handler(context, request)
        except HilumError as error:
            count_message(DOOR, kind, error.code)
            raise
        if isinstance(result, Response):
            count_message(DOOR, kind, _outcome(result))
            return result
        return _stream(kind, result)

    return run


def _stream(kind: str, responses: Iterable[Response]) -> Iterator[Response]:
    """Pass responses on, and to their generator what is thrown in here (a cancel); then count how it ended."""
    outcome = "aborted"
    try:
        yield from responses
        outcome = "success"
    except HilumError as error:
        outcome = error.code
        raise
    finally:
        count_message(DOOR, kind, outcome)


def _outcome(response: Response) -> str:
    return "success" if response.status == 0 else f"{response.status:04X}"
