"""Names of namespaces: assigning authorities and coding schemes of HL7 v2 and DICOM as FHIR system URIs, and back.

What has a URI of its own keeps it (an OID, a known code system, an authority that is a URI already). The rest get
`urn:hilum:…` names, one namespace for each kind of number, since an authority may number patients and orders alike.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from hilum.storage.fhir_criteria import Number, Token

DICOM_UID = "urn:dicom:uid"
ACCESSION_NUMBER = "urn:hilum:accession-number"
PRACTITIONER = "urn:hilum:practitioner:"
MATCH_STATE = "urn:hilum:match-state"
_CODING_SCHEME = "urn:hilum:coding-scheme:"
_NAMESPACES = {
    Number.PATIENT: "urn:hilum:authority:",
    Number.PLACER: "urn:hilum:placer-order-number:",
    Number.FILLER: "urn:hilum:filler-order-number:",
}
_OID = re.compile(r"[0-2](\.(0|[1-9]\d*)){2,}")
_URI = re.compile(r"(https?|urn):\S+")

# HL7 table 0396 and DICOM coding scheme designators (PS3.16 table 8-1) with their URIs in FHIR R4.
CODE_SYSTEMS = {
    "LN": "http://loinc.org",
    "LOINC": "http://loinc.org",
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "RADLEX": "http://radlex.org",
    "RPID": "http://radlex.org",
    "C4": "http://www.ama-assn.org/go/cpt",
    "CPT": "http://www.ama-assn.org/go/cpt",
    "HCPCS": "http://terminology.hl7.org/CodeSystem/HCPCS",
    "I10": "http://hl7.org/fhir/sid/icd-10",
    "I10C": "http://hl7.org/fhir/sid/icd-10-cm",
}
DCM = CODE_SYSTEMS["DCM"]
SNOMED = CODE_SYSTEMS["SCT"]
LOINC = CODE_SYSTEMS["LN"]
DIAGNOSTIC_SECTION = "http://terminology.hl7.org/CodeSystem/v2-0074"
IDENTIFIER_TYPE = "http://terminology.hl7.org/CodeSystem/v2-0203"


def _uri_of(authority: str, namespace: str) -> str | None:
    if not authority:
        return None
    if _OID.fullmatch(authority):
        return f"urn:oid:{authority}"
    return authority if _URI.fullmatch(authority) else namespace + quote(authority, safe="")


def _authority_of(system: str, namespace: str) -> str:
    if system.startswith("urn:oid:"):
        return system.removeprefix("urn:oid:")
    return unquote(system.removeprefix(namespace)) if system.startswith(namespace) else system


def system_of(authority: str, number: Number) -> str | None:
    """Return the system of an authority's numbers, or None where no authority is known."""
    return _uri_of(authority, _NAMESPACES[number])


def practitioner_system(authority: str) -> str | None:
    """Return the system of an authority's numbers of physicians."""
    return _uri_of(authority, PRACTITIONER)


def patient_authority(system: str) -> str:
    """Return the authority that a patient identifier's system stands for."""
    return _authority_of(system, _NAMESPACES[Number.PATIENT])


def code_system_of(scheme: str) -> str | None:
    """Return the system of a coding scheme, or None for a code without one."""
    return CODE_SYSTEMS.get(scheme.upper()) or _uri_of(scheme, _CODING_SCHEME)


def schemes_of(system: str) -> list[str]:
    """Return the coding schemes that a code system stands for, the usual one first."""
    known = [scheme for scheme, uri in CODE_SYSTEMS.items() if uri == system]
    return known or [_authority_of(system, _CODING_SCHEME)]


def identifier_token(system: str | None, value: str | None) -> list[Token]:
    """Return what `identifier=system|value` may mean: the system says which kinds of number are meant.

    `system` is None where none was given, and empty for `|value`, which asks for numbers without an authority.
    """
    uid = value.removeprefix("urn:oid:") if value is not None else None
    study = Token(uid, None, frozenset({Number.STUDY_UID}))
    if system is None:
        return [Token(value), study] if uid != value else [Token(value)]
    if system == DICOM_UID:
        return [study]
    if system == ACCESSION_NUMBER:
        return [Token(value, None, frozenset({Number.ACCESSION}))]
    if system == "":
        return [Token(value, "", frozenset(_NAMESPACES))]
    for number, namespace in _NAMESPACES.items():
        if system.startswith(namespace):
            return [Token(value, _authority_of(system, namespace), frozenset({number}))]
    return [Token(value, _authority_of(system, _NAMESPACES[Number.PATIENT]), frozenset(_NAMESPACES))]
