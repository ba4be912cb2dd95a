"""Services that look into the index wait until it holds what was received before: a sender reads its own writes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hilum.archive.barrier import IndexBarrier
from hilum.dicom.dimse.dispatch import AssociationContext, Handler, Request, Response, Service


def after_index(service: Service, barrier: IndexBarrier) -> Service:
    """Return the service with its requests held until the index has caught up; Unavailable where it does not."""

    def held(handler: Handler) -> Handler:
        def run(context: AssociationContext, request: Request) -> Response | Iterable[Response]:
            barrier.wait()
            return handler(context, request)

        return run

    return replace(service, handlers={command: held(handler) for command, handler in service.handlers.items()})
