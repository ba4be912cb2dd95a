"""CapabilityStatement: what this door does, generated from the tables that it does it by."""

from __future__ import annotations

from importlib.metadata import version

from hilum.fhir.elements import Resource
from hilum.fhir.endpoint import ENDPOINTS
from hilum.fhir.search_parameters import ENDPOINT_PARAMETERS, SEARCHABLE, Parameter, Searchable

FHIR_VERSION = "4.0.1"
RELEASED = "2025-01-01"
_NOTES = (
    "Unknown search parameters are refused by their name; with Prefer: handling=lenient they are left out with a "
    "warning. Lists are paged by their next links. Versions say what changed; earlier versions are not read here."
)


def capability_statement(base_url: str) -> Resource:
    """Return what `GET metadata` answers."""
    return {
        "resourceType": "CapabilityStatement",
        "id": "hilum",
        "status": "active",
        "date": RELEASED,
        "kind": "instance",
        "software": {"name": "Hilum", "version": version("hilum")},
        "implementation": {"description": "Hilum: image archive and radiology workflow", "url": f"{base_url}/fhir"},
        "fhirVersion": FHIR_VERSION,
        "format": ["application/fhir+json", "json"],
        "rest": [
            {
                "mode": "server",
                "documentation": _NOTES,
                "security": {"description": "A bearer token; what is shown is what its holder may see."},
                "resource": [*(_resource(each) for each in SEARCHABLE.values()), _endpoint()],
            }
        ],
    }


def _resource(searchable: Searchable) -> Resource:
    kind = searchable.kind.value
    described = _described(kind, searchable.parameters)
    if searchable.includes:
        described["searchInclude"] = [f"{kind}:{name}" for name in searchable.includes]
    if searchable.revincludes:
        described["searchRevInclude"] = list(searchable.revincludes)
    return described


def _endpoint() -> Resource:
    return {**_described("Endpoint", ENDPOINT_PARAMETERS), "documentation": f"Ids: {', '.join(ENDPOINTS)}."}


def _described(kind: str, parameters: tuple[Parameter, ...]) -> Resource:
    return {
        "type": kind,
        "profile": f"http://hl7.org/fhir/StructureDefinition/{kind}",
        "interaction": [{"code": "read"}, {"code": "search-type"}],
        "versioning": "versioned",
        "readHistory": False,
        "updateCreate": False,
        "conditionalCreate": False,
        "conditionalRead": "not-match",
        "conditionalUpdate": False,
        "conditionalDelete": "not-supported",
        "referencePolicy": ["literal", "logical", "local"],
        # A chained name (patient.identifier) is not a parameter of its own; its target's `identifier` is.
        "searchParam": [
            {
                "name": parameter.name,
                "type": "token" if parameter.type == "row" else parameter.type,
                "documentation": parameter.says,
            }
            for parameter in parameters
            if "." not in parameter.name
        ],
    }
