"""What can be searched, included and sorted: tables that the search reads and the CapabilityStatement says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hilum.core.order import OrderStatus
from hilum.core.report import ReportStatus
from hilum.fhir import audit_event, diagnostic_report, imaging_study, patient, service_request
from hilum.security.audit_codes import MEANINGS, crude_of, interaction_of
from hilum.security.policy import Action
from hilum.storage.fhir_criteria import SORT_KEYS, Acts, Kind

Type = Literal["token", "string", "date", "reference", "row"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A search parameter.

    `criterion` names the condition in `storage.fhir_criteria`. A token has one of: `codes`, which says which stored
    words each FHIR code stands for; `constants`, the only codings that resources here have; or neither, where the value
    itself is stored. `target` is the type a reference leads to.
    """

    name: str
    type: Type
    says: str
    criterion: str = ""
    codes: dict[str, tuple[str, ...]] | None = None
    constants: tuple[tuple[str, str], ...] = ()
    target: str = ""
    identifier: bool = False
    # Which words of the audit trail each code stands for.
    acts: dict[str, tuple[Acts, ...]] | None = None

    @property
    def condition(self) -> str:
        """The name of its condition."""
        return self.criterion or self.name


@dataclass(frozen=True, slots=True)
class Searchable:
    """A resource: what its reading needs, its parameters, and what may come along."""

    kind: Kind
    action: Action
    parameters: tuple[Parameter, ...]
    # parameter → the type it leads to
    includes: dict[str, str]
    # "Type:parameter" → the field of `storage.fhir_queries.referring`
    revincludes: dict[str, str]
    # What a list is sorted by, the latest first, where nothing is said; empty is the order in which rows were made.
    sorted_by: str = ""

    @property
    def by_name(self) -> dict[str, Parameter]:
        """The parameters by their names."""
        return {parameter.name: parameter for parameter in self.parameters}

    @property
    def sort_keys(self) -> tuple[str, ...]:
        """What a list may be sorted by."""
        return ("_id", *SORT_KEYS[self.kind])


def _reversed(codes: dict[OrderStatus, str] | dict[ReportStatus, str]) -> dict[str, tuple[str, ...]]:
    return {code: tuple(stored.value for stored, other in codes.items() if other == code) for code in codes.values()}


def _acts(codes_of: Callable[..., str]) -> dict[str, tuple[Acts, ...]]:
    """Return which words have which code, with a subject and without one."""
    found: dict[str, tuple[Acts, ...]] = {}
    for somebody in (True, False):
        words: dict[str, list[str]] = {}
        for action in MEANINGS:
            words.setdefault(codes_of(action, about_somebody=somebody), []).append(str(action))
        for code, members in words.items():
            found[code] = (*found.get(code, ()), Acts(tuple(members), somebody))
    return found


_ACTIONS = _acts(crude_of)
# A subtype is a word of ours, or a RESTful interaction.
_SUBTYPES = _acts(interaction_of) | {str(action): (Acts((str(action),)),) for action in MEANINGS}
_COMMON = (
    Parameter("_id", "row", "The id of the resource."),
    Parameter("_lastUpdated", "date", "When the resource last changed."),
)
_OF_A_PATIENT = (
    Parameter("patient", "reference", "Whose it is; also those merged into the patient.", target="Patient"),
    Parameter("subject", "reference", "The same as patient.", "patient", target="Patient"),
    Parameter("patient.identifier", "token", "An identifier of whose it is.", identifier=True),
    Parameter("subject.identifier", "token", "The same as patient.identifier.", "patient.identifier", identifier=True),
)
_ORDER_IDENTIFIER = "An identifier of the order that it is based on."
_IMAGING = (service_request.CATEGORY["system"], service_request.CATEGORY["code"])

PATIENT = Searchable(
    Kind.PATIENT,
    Action.READ_PATIENT,
    (
        *_COMMON,
        Parameter("identifier", "token", "An identifier; also of those merged into the patient.", identifier=True),
        Parameter("name", "string", "The beginning of any part of the name."),
        Parameter("family", "string", "The beginning of the family name."),
        Parameter("given", "string", "The beginning of a given name."),
        Parameter("birthdate", "date", "The day of birth."),
        Parameter(
            "gender",
            "token",
            "The administrative gender.",
            codes={gender: (sex,) for sex, gender in patient.GENDER.items()},
        ),
        Parameter("active", "token", "Whether it stands; searches without it or _id find what stands."),
    ),
    {},
    {
        f"{kind}:{field}": "patient"
        for kind in ("ServiceRequest", "ImagingStudy", "DiagnosticReport")
        for field in ("patient", "subject")
    },
)
SERVICE_REQUEST = Searchable(
    Kind.ORDER,
    Action.READ_ORDER,
    (
        *_COMMON,
        Parameter("identifier", "token", "Placer, filler or accession number, or the study UID.", identifier=True),
        *_OF_A_PATIENT,
        Parameter("status", "token", "Where the order stands.", codes=_reversed(service_request.STATUS)),
        Parameter("intent", "token", "Always order.", constants=(("", service_request.INTENT),)),
        Parameter("category", "token", "Always imaging.", constants=(_IMAGING,)),
        Parameter(
            "priority",
            "token",
            "How urgent it is.",
            codes={code: (stored.value,) for stored, code in service_request.PRIORITY.items()},
        ),
        Parameter("code", "token", "The procedure."),
        Parameter("authored", "date", "When it was placed."),
        Parameter("occurrence", "date", "When it is scheduled."),
    ),
    {"patient": "Patient", "subject": "Patient"},
    {"ImagingStudy:basedon": "based-on", "DiagnosticReport:based-on": "based-on"},
)
IMAGING_STUDY = Searchable(
    Kind.STUDY,
    Action.READ_IMAGES,
    (
        *_COMMON,
        Parameter("identifier", "token", "The study UID or the accession number.", identifier=True),
        *_OF_A_PATIENT,
        Parameter("basedon", "reference", "The order behind it.", target="ServiceRequest"),
        Parameter("basedon.identifier", "token", _ORDER_IDENTIFIER, identifier=True),
        Parameter("status", "token", "Always available.", constants=(("", imaging_study.STATUS),)),
        Parameter("started", "date", "When it began, as its images say."),
        Parameter("modality", "token", "A modality among its series."),
        Parameter("series", "token", "A Series Instance UID."),
        Parameter("instance", "token", "A SOP Instance UID."),
    ),
    {"patient": "Patient", "subject": "Patient", "basedon": "ServiceRequest", "endpoint": "Endpoint"},
    {},
)
DIAGNOSTIC_REPORT = Searchable(
    Kind.REPORT,
    Action.READ_REPORT,
    (
        *_COMMON,
        Parameter("identifier", "token", "The accession or filler number.", identifier=True),
        *_OF_A_PATIENT,
        Parameter("based-on", "reference", "The order behind it.", target="ServiceRequest"),
        Parameter("based-on.identifier", "token", _ORDER_IDENTIFIER, identifier=True),
        Parameter("status", "token", "Where the report stands.", codes=_reversed(diagnostic_report.STATUS)),
        Parameter(
            "category",
            "token",
            "Always radiology.",
            constants=tuple((category["system"], category["code"]) for category in diagnostic_report.CATEGORIES),
        ),
        Parameter("code", "token", "The procedure."),
        Parameter("date", "date", "When the reported study began."),
        Parameter("issued", "date", "When the current version was signed."),
    ),
    {"patient": "Patient", "subject": "Patient", "based-on": "ServiceRequest"},
    {},
)
AUDIT_EVENT = Searchable(
    Kind.AUDIT,
    Action.READ_AUDIT,
    (
        Parameter("_id", "row", "The id of the resource."),
        Parameter("date", "date", "When it was done."),
        Parameter("agent", "token", "The account, program or peer that did it, exactly."),
        Parameter("agent-name", "string", "The beginning of the name of who did it."),
        Parameter("agent-role", "token", "The role of who did it."),
        Parameter("address", "string", "The beginning of the network address it came from."),
        Parameter(
            "patient", "reference", "Whose data it was; also of those merged into the patient.", target="Patient"
        ),
        Parameter("patient.identifier", "token", "An identifier of whose data it was.", identifier=True),
        Parameter("entity", "reference", "The patient, order or study it was done to."),
        Parameter("action", "token", "C, R, U, D or E.", "acts", acts=_ACTIONS),
        Parameter("subtype", "token", "A RESTful interaction, or Hilum's own word.", "acts", acts=_SUBTYPES),
        Parameter("outcome", "token", "0, 4 or 8.", codes=audit_event.OUTCOMES),
    ),
    {},
    {},
    sorted_by="date",
)
SEARCHABLE = {
    each.kind.value: each for each in (PATIENT, SERVICE_REQUEST, IMAGING_STUDY, DIAGNOSTIC_REPORT, AUDIT_EVENT)
}

# Endpoints are not rows: there are as many as `endpoint.ENDPOINTS` names.
ENDPOINT_PARAMETERS = (
    Parameter("_id", "token", "The id of the resource."),
    Parameter("connection-type", "token", "How it is spoken to."),
    Parameter("status", "token", "Always active."),
)
