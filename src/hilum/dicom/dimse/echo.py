"""The Verification service: C-ECHO is answered with success (PS3.4 Annex A, PS3.7 9.1.5)."""

from __future__ import annotations

from hilum.dicom.dimse.dispatch import AssociationContext, Request, Response, Service
from hilum.dicom.dimse.messages import CommandField
from hilum.dicom.dimse.status import SUCCESS, ServiceClass
from hilum.dicom.upper_layer.negotiation import Offer
from hilum.dicom.upper_layer.syntaxes import only

VERIFICATION_SOP_CLASS = "1.2.840.10008.1.1"


def echo(context: AssociationContext, request: Request) -> Response:
    """Success: the association, the policy and the dispatch work."""
    return Response(SUCCESS)


ECHO_SERVICE = Service(
    "echo", ServiceClass.VERIFICATION, Offer(only(VERIFICATION_SOP_CLASS)), {CommandField.C_ECHO_RQ: echo}
)
