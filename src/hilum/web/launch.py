"""`/viewer/launch`: how others open images here (IHE RAD TF-2 4.106, Invoke Image Display), by redirect.

To the page of the order with its small viewer, or to OHIF where the link (`viewer=ohif`) or the setting says so.
What is unknown and what the asker may not see are answered alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hilum.core.actor import Actor
from hilum.core.errors import InvalidInput, MissingField, NotFound
from hilum.core.scope import Scope
from hilum.security.policy import Action, require, scope_for
from hilum.settings import ViewerName
from hilum.storage.chain import order_by_accession
from hilum.storage.pages import order_of_study_uid, person_by_identifier, studies_of_order, study_shown
from hilum.web import urls
from hilum.web.ohif_files import installed
from hilum.web.order_pages import NOT_HERE
from hilum.web.pages import Pages, may, see_other

MAXIMUM_LENGTH = 256


@dataclass(frozen=True, slots=True)
class Launch:
    """The handler of launch links."""

    pages: Pages

    def routes(self) -> list[Route]:
        """The paths of this subject."""
        return [Route(urls.LAUNCH, self.launch, methods=["GET"])]

    def launch(self, request: Request) -> Response:
        """Send the asker to the page of the study, or to the list of the patient's studies."""
        actor: Actor = request.state.actor
        require(actor, Action.READ_ORDER)
        scope = scope_for(actor, Action.READ_ORDER)
        query = {name: value.strip()[:MAXIMUM_LENGTH] for name, value in request.query_params.items()}
        with self.pages.store.read() as connection:
            match query.get("requestType", ""):
                case "STUDY":
                    return see_other(_study(connection, query, scope, in_ohif=self._in_ohif(actor, query)))
                case "PATIENT":
                    return see_other(_patient(connection, query, scope))
        raise InvalidInput("requestType is STUDY or PATIENT.", field="requestType")

    def _in_ohif(self, actor: Actor, query: dict[str, str]) -> bool:
        """Whether OHIF opens what is asked for: by the link, else by the setting; where it is there, for who may."""
        settings = self.pages.configuration.current.viewer
        wanted = query.get("viewer", "") or settings.default
        if wanted not in get_args(ViewerName):
            raise InvalidInput("viewer is small or ohif.", field="viewer")
        return wanted == "ohif" and may(actor, Action.READ_IMAGES) and installed(settings) is not None


def _study(connection: Any, query: dict[str, str], scope: Scope, *, in_ohif: bool) -> str:
    """A study by its UID (the first, where several are named) or its accession number: its page, or in OHIF.

    What has no images yet, or is not verified, has only its page.
    """
    uid = query.get("studyUID", "").split(",")[0].split("\\")[0]
    accession = query.get("accessionNumber", "").split("^")[0]
    if not uid and not accession:
        raise MissingField("Name the study by studyUID or accessionNumber.", field="studyUID")
    order = order_of_study_uid(connection, uid, scope) if uid else order_by_accession(connection, accession, scope)
    if order is not None:
        shown = studies_of_order(connection, order.id) if in_ohif else []
        return urls.ohif(*(each.study.study_instance_uid for each in shown)) if shown else urls.order(order.id)
    if uid and study_shown(connection, uid, scope) is not None:
        # Whose images these are is not proven: our own page says so, OHIF has no way to.
        return urls.study(uid)
    raise NotFound(NOT_HERE)


def _patient(connection: Any, query: dict[str, str], scope: Scope) -> str:
    """The studies of a patient named as HL7 CX (`ID^^^AUTHORITY`) or by the identifier alone."""
    value, *rest = query.get("patientID", "").split("^")
    if not value:
        raise MissingField("Name the patient by patientID.", field="patientID")
    authority = rest[2].split("&")[0] if len(rest) > 2 else ""
    person = person_by_identifier(connection, value, authority, scope)
    if person is None:
        raise NotFound(NOT_HERE)
    return urls.patient_studies(person.patient.id)
