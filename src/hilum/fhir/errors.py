"""Refusals as FHIR says them: one table from the code of an error to HTTP status and issue type."""

from __future__ import annotations

from typing import Any

from hilum.core.errors import HilumError, InvalidInput

Resource = dict[str, Any]


class UnknownParameter(InvalidInput):
    """The search knows no such parameter; `Prefer: handling=lenient` has it left out."""

    code = "unknown-parameter"


class MethodNotAllowed(HilumError):
    """This method is not offered here."""

    code = "method-not-allowed"

    def __init__(self, allowed: str) -> None:
        super().__init__(f"Only {allowed} is offered here.")
        self.allowed = allowed


class NotAcceptable(HilumError):
    """Resources are written as application/fhir+json only."""

    code = "not-acceptable"


class UnsupportedMediaType(HilumError):
    """The body is of a media type that is not read here."""

    code = "unsupported-media-type"


# HilumError.code → (HTTP status, http://hl7.org/fhir/R4/valueset-issue-type.html)
STATUS: dict[str, tuple[int, str]] = {
    "error": (500, "exception"),
    "invalid": (400, "invalid"),
    "missing": (400, "required"),
    "too-large": (413, "too-long"),
    "unsupported": (400, "not-supported"),
    "unknown-parameter": (400, "not-supported"),
    "not-found": (404, "not-found"),
    "conflict": (409, "conflict"),
    "duplicate": (409, "duplicate"),
    "illegal-transition": (409, "business-rule"),
    "identity-mismatch": (409, "conflict"),
    "stale": (409, "conflict"),
    "rejected": (409, "conflict"),
    "on-hold": (409, "conflict"),
    "unauthenticated": (401, "login"),
    "forbidden": (403, "forbidden"),
    "deadline": (503, "timeout"),
    "unavailable": (503, "transient"),
    "out-of-space": (507, "no-store"),
    "defect": (500, "exception"),
    "method-not-allowed": (405, "not-supported"),
    "not-acceptable": (406, "not-supported"),
    "unsupported-media-type": (415, "not-supported"),
}


def status_of(error: HilumError) -> int:
    """Return the HTTP status of a refusal."""
    return STATUS[error.code][0]


def issue_of(error: HilumError, severity: str = "error") -> Resource:
    """Return one issue of an OperationOutcome."""
    issue: Resource = {"severity": severity, "code": STATUS[error.code][1], "diagnostics": error.message}
    if error.field:
        issue["expression"] = [error.field]
    return issue


def operation_outcome(*issues: Resource) -> Resource:
    """Return an OperationOutcome."""
    return {"resourceType": "OperationOutcome", "issue": list(issues)}
